"""What a drill measures, what the settings imply, and what it says when the two do not fit."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from kea_ha import layout
from kea_ha.decide import drill_scenarios
from kea_ha.decide.drill_scenarios import KINDS, Told
from kea_ha.foreign import ForeignError
from kea_ha.host.survey import Interface
from kea_ha.kea import lease_file
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
    assert kind.fault.format(**names) == rest
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
