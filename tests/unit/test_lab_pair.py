"""`lab/pair.yaml` is where the lab's names and addresses are written, and it is consistent."""

from pathlib import Path

import pytest
import yaml

from lab.pair import PAIR_FILE, read_pair


def test_the_pair_is_one_primary_and_one_standby() -> None:
    """The rollout's inventory can be made from the file."""
    hosts = yaml.safe_load(PAIR_FILE.read_text())["hosts"]

    assert ["primary", "standby"] == sorted(host["role"] for host in hosts.values())


def test_every_address_is_on_the_routers_network() -> None:
    """All machines are on one LAN."""
    pair = read_pair()

    assert {node.name for node in pair.nodes} == {
        node.name for node in pair.nodes if node.address in pair.router.network
    }


def test_no_two_cards_share_an_address() -> None:
    """Neither an IP address nor a hardware address occurs twice."""
    pair = read_pair()
    cards = [card for node in pair.nodes for card in node.cards]
    addresses = [card.address for card in cards if card.address] + [pair.router]

    assert len(cards) == len({card.mac for card in cards})
    assert len(addresses) == len(set(addresses))


def test_only_the_spare_card_is_without_an_address() -> None:
    """It is there for stock DHCP clients, which bring their own."""
    spare = [
        (node.kind, card.name)
        for node in read_pair().nodes
        for card in node.cards
        if card.address is None
    ]

    assert [("client", "enp0s9")] == spare


def test_names_in_the_file_are_the_machines_names(tmp_path: Path) -> None:
    """Renaming a host needs no change anywhere else."""
    renamed = tmp_path / "pair.yaml"
    renamed.write_text(PAIR_FILE.read_text().replace("host-1:", "north:"))

    assert ["north", "host-2", "client"] == [node.name for node in read_pair(renamed).nodes]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """The error lists what is allowed."""
    with pytest.raises(KeyError, match=r"'host-3'.*host-1, host-2, client"):
        read_pair().node("host-3")
