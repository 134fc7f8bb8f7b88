"""From where the clients of a drill ask, how many addresses they find, and what they tell."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kea_ha import layout
from kea_ha.decide import client_load
from kea_ha.decide.client_load import Told
from kea_ha.foreign import ForeignError
from kea_ha.host.survey import Interface
from kea_ha.kea import lease_file
from tests.unit.surveys import PAIR


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
    (subnet,) = PAIR.settings.subnets
    assert 97 == client_load.free_addresses(
        subnet, lease_file.load({layout.LEASES: file.encode()}), now
    )


def test_clients_ask_on_the_card_that_is_in_a_subnet_of_the_pair() -> None:
    others = [Interface("lo", True, ("127.0.0.1",)), Interface("mgmt", True, ("192.168.77.4",))]
    card = Interface("lan0.5", True, ("10.9.8.7", "192.168.1.10"))
    assert ("lan0.5", PAIR.settings.subnets[0]) == client_load.network_of(PAIR, [*others, card])
    elsewhere = replace(card, addresses=("10.9.8.7", "192.168.2.10"))
    assert client_load.network_of(PAIR, [*others, elsewhere]) is None
    assert client_load.network_of(PAIR, []) is None


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
    # A server can hold one lease of it, so that neither client's is looked for there.
    assert {"192.168.1.101": "02:00:00:00:00:01"} == read.held_by_one
    with pytest.raises(ForeignError):
        Told.read(b"{}")
