"""What a drill measures, what the settings imply, and what it says when the two do not fit."""

from __future__ import annotations

import re
import subprocess

import pytest

from kea_ha.decide import drill_scenarios
from kea_ha.decide.drill_scenarios import KINDS
from kea_ha.settings.model import Pair
from tests.unit.surveys import lab_pair

DOCUMENTED = lab_pair()
FAST = lab_pair(failover_profile="fast")


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
