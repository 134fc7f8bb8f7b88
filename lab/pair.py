"""The lab's machines, read from `pair.yaml`.

Everything that the lab knows about names and addresses comes from that one file, so that the
quick lab, the Vagrant lab and the inventory cannot disagree.
"""

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import yaml

PAIR_FILE = Path(__file__).with_name("pair.yaml")


@dataclass(frozen=True)
class Card:
    """A network card of a machine; `address` is None for a card that is up without one."""

    name: str
    address: IPv4Interface | None
    mac: str


@dataclass(frozen=True)
class Node:
    """One machine of the lab. `kind` is "hosts" for the pair's two and "client" for the third."""

    name: str
    kind: str
    cards: tuple[Card, ...]

    @property
    def address(self) -> IPv4Address:
        """The machine's address on the LAN."""
        return next(card.address.ip for card in self.cards if card.address is not None)


@dataclass(frozen=True)
class Pair:
    """The pair's two hosts and the client, on one LAN with `router`."""

    router: IPv4Interface
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node called `name`; raises KeyError with the allowed names otherwise."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no machine {name!r}: allowed are {', '.join(n.name for n in self.nodes)}")


@cache
def read_pair(path: Path = PAIR_FILE) -> Pair:
    """Read the file at `path`; raises OSError, yaml.YAMLError, KeyError or ValueError."""
    data = yaml.safe_load(path.read_text())
    prefix = data["lan"]["prefix_length"]

    def card(name: str, address: str, number: int) -> Card:
        # A card keeps its hardware address over reboots, as a real one does: DHCP knows it by it.
        octets = IPv4Address(address).packed[1:]
        mac = ":".join(f"{octet:02x}" for octet in (0x52, 0x54, number, *octets))
        return Card(
            name=name,
            address=IPv4Interface(f"{address}/{prefix}") if number == 0 else None,
            mac=mac,
        )

    nodes = [
        Node(name=name, kind="hosts", cards=(card(host["interface"], host["address"], 0),))
        for name, host in data["hosts"].items()
    ]
    client = data["client"]
    nodes.append(
        Node(
            name=client["name"],
            kind="client",
            cards=(
                card(client["interface"], client["address"], 0),
                card(client["spare_interface"], client["address"], 1),
            ),
        )
    )
    return Pair(
        router=IPv4Interface(f"{data['lan']['router']}/{prefix}"),
        nodes=tuple(nodes),
    )
