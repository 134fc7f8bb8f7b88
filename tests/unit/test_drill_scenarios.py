"""What a drill measures, what the settings imply, and what it says when the two do not fit."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace

import pytest

from kea_ha import layout
from kea_ha.decide import drill_report, drill_scenarios
from kea_ha.decide.drill_report import Figures, Report
from kea_ha.decide.drill_scenarios import KINDS, Told
from kea_ha.foreign import ForeignError
from kea_ha.host.survey import Interface
from kea_ha.kea import lease_file
from kea_ha.settings.model import Pair
from tests.unit.drills import MADE, PRIMARY_KILLED
from tests.unit.surveys import accepted, lab_pair

DOCUMENTED = lab_pair()
FAST = lab_pair(failover_profile="fast")
GOOD = Figures(
    clients=100,
    longest_gap_s=3.0,
    longest_wait_s=8.0,
    unserved=0,
    until_partner_down_s=3.0,
    until_accepted_s=5.0,
    leases_lost=0,
    given_twice=0,
)


def test_the_longest_gap_is_between_two_acks_while_clients_asked() -> None:
    acks = [1.0, 1.1, 4.1, 4.2, 90.0]
    assert 3.0 == pytest.approx(drill_scenarios.longest_gap(acks, until=5.0))
    # When nobody was answered until the end, that counts, too.
    assert 5.8 == pytest.approx(drill_scenarios.longest_gap(acks, until=10.0))
    assert 0.0 == drill_scenarios.longest_gap([], until=3.0)


def test_with_the_fast_profile_a_failover_takes_five_seconds_at_most() -> None:
    """The goal, by what the settings imply; with the documented ones it is over a minute."""
    for name in ("primary-killed", "standby-killed"):
        fast, documented = (
            drill_scenarios.implied(pair, KINDS[name]) for pair in (FAST, DOCUMENTED)
        )
        assert fast.longest_gap_s is not None and documented.longest_gap_s is not None
        assert fast.longest_gap_s <= 5
        assert documented.longest_gap_s >= 60


def test_a_standby_that_counts_clients_takes_longer_and_a_primary_does_not() -> None:
    """The primary goes on alone whatever clients do (Kea's shouldPartnerDown)."""
    counting = lab_pair(failover_profile="fast", max_unacked_clients=5)
    by_kind = {
        name: drill_scenarios.implied(counting, KINDS[name]).longest_gap_s
        for name in ("primary-killed", "standby-killed")
    }
    assert by_kind["primary-killed"] > by_kind["standby-killed"]
    assert (
        by_kind["standby-killed"]
        == drill_scenarios.implied(FAST, KINDS["standby-killed"]).longest_gap_s
    )


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"longest_gap_s": 30.0}, "30.0 s without an ACK"),
        ({"until_partner_down_s": None}, "did not take over"),
        ({"leases_lost": 2}, "2 leases were refused"),
        ({"given_twice": 1}, "1 addresses were given to two"),
        ({"unserved": 7}, "7 clients got nothing"),
        ({"until_accepted_s": None}, "not healthy again"),
    ],
)
def test_what_is_worse_than_it_should_be_is_said(worse: dict[str, float], said: str) -> None:
    kind = KINDS["primary-killed"]
    expected = drill_scenarios.implied(FAST, kind)
    assert [] == list(drill_scenarios.findings(FAST, kind, GOOD, expected))
    (found,) = drill_scenarios.findings(FAST, kind, replace(GOOD, **worse), expected)
    assert said in found


def test_of_two_that_both_serve_each_may_give_what_the_other_one_gave() -> None:
    """By Kea's design: said beforehand, and no finding. What a server lacks afterwards is one."""
    kind = KINDS["link-cut"]
    expected = drill_scenarios.implied(FAST, kind)
    assert "an address be given twice" in expected.words
    worse = replace(GOOD, leases_lost=2, given_twice=1)
    assert [] == list(drill_scenarios.findings(FAST, kind, worse, expected))
    (found,) = drill_scenarios.findings(FAST, kind, worse, expected, missing=2)
    assert "2 leases that were given are missing" in found


def test_a_standby_that_waits_for_too_many_clients_is_named_as_the_cause() -> None:
    patient = lab_pair(failover_profile="fast", max_unacked_clients=1000)
    kind = KINDS["primary-killed"]
    figures = replace(GOOD, until_partner_down_s=None)
    (found,) = drill_scenarios.findings(
        patient, kind, figures, drill_scenarios.implied(patient, kind)
    )
    assert "host-2 did not take over" in found
    assert "max_unacked_clients is 1000" in found


def test_changes_of_state_are_read_by_the_hosts_own_clock() -> None:
    """Its log has local time, and the survey tells both at one moment."""
    survey = accepted("host-1")
    seen = drill_scenarios.transitions(survey, 0.0)
    assert "hot-standby" == seen[-1][1]
    assert seen[-1][0] < survey.epoch
    assert () == drill_scenarios.transitions(survey, survey.epoch)


def test_what_was_logged_can_be_written_into_a_report() -> None:
    found = drill_scenarios.log_ids(accepted("host-1"), 0.0)

    scenario = replace(PRIMARY_KILLED, log_ids={"host-1": found})
    report = Report(MADE, "lab", "fast", {}, {}, {}, (scenario,))
    written = drill_report.from_json(drill_report.to_json(report))
    assert found == written.scenarios[0].log_ids["host-1"]
    assert found


def test_what_a_clock_that_was_ahead_has_logged_is_no_later_than_what_follows() -> None:
    """Else it would be taken for a part of the next drill, or of one that is still to come."""
    survey = accepted("host-1")
    *_, (last, state) = drill_scenarios.transitions(survey, 0.0)
    log = list(survey.log)
    ahead = next(line for line in reversed(log) if line.id == "HA_STATE_TRANSITION")
    log.insert(log.index(ahead), replace(ahead, time=ahead.time.replace(year=2099)))

    seen = drill_scenarios.transitions(replace(survey, log=tuple(log)), 0.0)

    assert [(last, state), (last, state)] == list(seen[-2:])


def test_free_addresses_are_those_of_the_pools_that_nobody_has() -> None:
    """Neither what was given back, or is over, is taken, nor what is another subnet's."""
    now = 1000
    held = {
        "192.168.1.100": ("600", "1300", "0"),  # held
        "192.168.1.101": ("600", "1300", "1"),  # declined
        "192.168.1.102": ("600", "900", "0"),  # over
        "192.168.1.103": ("0", "700", "0"),  # given back
        "192.168.1.104": ("600", "1300", "2"),  # reclaimed
        "192.168.1.105": (str(2**32 - 1), str(2**32 + 99), "0"),  # for ever
        "192.168.1.10": ("600", "1300", "0"),  # of no pool
        "192.168.2.100": ("600", "1300", "0"),  # of another subnet
    }
    rows = [
        f"{address},02:00:00:00:00:01,,{lifetime},{expire},1,0,0,,{state},,0"
        for address, (lifetime, expire, state) in held.items()
    ]
    file = "\n".join((",".join(lease_file.COLUMNS), *rows, ""))
    (subnet,) = FAST.settings.subnets
    assert 97 == drill_scenarios.free_addresses(
        subnet, lease_file.load({layout.LEASES: file.encode()}), now
    )


def test_clients_ask_on_the_card_that_is_in_a_subnet_of_the_pair() -> None:
    others = [Interface("lo", True, ("127.0.0.1",)), Interface("mgmt", True, ("192.168.77.4",))]
    card = Interface("lan0.5", True, ("10.9.8.7", "192.168.1.10"))
    assert ("lan0.5", FAST.settings.subnets[0]) == drill_scenarios.network_of(FAST, [*others, card])
    elsewhere = replace(card, addresses=("10.9.8.7", "192.168.2.10"))
    assert drill_scenarios.network_of(FAST, [*others, elsewhere]) is None
    assert drill_scenarios.network_of(FAST, []) is None


def test_the_state_at_a_moment_is_the_last_one_before_it() -> None:
    survey = accepted("host-1")
    moments = [at for at, _ in drill_scenarios.transitions(survey, 0.0)]
    assert "hot-standby" == drill_scenarios.state_at(survey, moments[-1] + 1)
    assert "" == drill_scenarios.state_at(survey, moments[0] - 1)


def test_two_clients_with_one_address_are_found() -> None:
    told = {
        "acks": [[1.0, "192.168.1.2"]],
        "waits": [0.1],
        "leases": {f"02:00:00:00:00:0{n}": f"192.168.1.{a}" for n, a in enumerate((100, 101, 100))},
        "unserved": [],
        "clients": 3,
        "last_arrival": 2.0,
        "twice": ["192.168.1.120"],
        "refused": [],
    }
    read = Told.read(json.dumps(told).encode())
    assert ("192.168.1.100", "192.168.1.120") == read.given_twice
    with pytest.raises(ForeignError):
        Told.read(b"{}")


SCRIPTED = [kind for kind in KINDS.values() if kind.fault]


@pytest.mark.parametrize("kind", SCRIPTED, ids=[kind.name for kind in SCRIPTED])
def test_every_fault_has_its_way_back_first(kind: drill_scenarios.Kind) -> None:
    """The host's own timer is armed before anything is broken, and the scripts are shell."""
    names = {
        "role": "standby",
        "unit": "kea-dhcp4-server.service",
        "port": 8000,
        "interface": "eth0",
    }
    fault = drill_scenarios.fault_script(kind, **names)
    timer, _, rest = fault.rpartition("|| exit 1\n")
    assert "systemd-run" in timer
    assert rest.endswith(f"\n{kind.fault}\n")
    assert f"\n{kind.fault}\n" not in timer
    # systemd.service(5): the first it expands itself, of two of the others it makes one.
    assert not re.search(r"\$[{$]", timer)
    for script in (fault, drill_scenarios.way_back_script(kind, **names)):
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(("pair", "passed"), [(FAST, 0), (DOCUMENTED, 60)])
def test_a_host_that_says_nothing_costs_keas_own_limit_on_a_request(
    pair: Pair, passed: int
) -> None:
    """And max_response_delay, where that is the longer one."""
    heartbeat = pair.settings.heartbeat_delay / 1000
    down = drill_scenarios.implied(pair, KINDS["host-isolated"]).until_partner_down_s
    counted = 21 if pair is DOCUMENTED else 0  # the standby counts clients, too
    assert down == heartbeat + drill_scenarios.REQUEST_S + passed + counted


def test_the_way_back_takes_two_heartbeats_at_most() -> None:
    assert 2.0 == drill_scenarios.implied(FAST, KINDS["primary-back"]).longest_gap_s
