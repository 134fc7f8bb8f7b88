"""The rules about addresses: subnets, pools and reservations against each other and the hosts.

An address that two have is an outage that shows long after the rollout; none is accepted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from kea_ha.settings.model import Subnet
from kea_ha.settings.problems import Problem, shown
from kea_ha.settings.rules import Draft, Rulebook

RULES = Rulebook()


@RULES.reads("subnets")
def _subnets_apart(draft: Draft) -> Iterator[Problem]:
    subnets = draft.settings.subnets
    if not subnets:
        yield Problem("subnets", "empty", "at least one subnet", "Say what the pair is to serve.")
    for number, count in Counter(subnet.id for subnet in subnets).items():
        if count > 1:
            yield Problem(
                "subnets[].id",
                f"{number}, {count} times",
                "another id for each subnet: leases are kept by it",
                "Number the subnets, and never give a number to another subnet later.",
            )
    for one, other in combinations(subnets, 2):
        if one.network.overlaps(other.network):
            yield Problem(
                "subnets",
                f"{one.subnet} and {other.subnet}",
                "subnets without a common address",
                "Correct a prefix, or make it one subnet with several pools.",
            )
    for relay, count in Counter(relay for subnet in subnets for relay in subnet.relays).items():
        if count > 1:
            yield Problem(
                "subnets[].relays",
                f"{shown(relay)}, {count} times",
                "each relay address once: Kea would serve only the first subnet from it",
                "Name it in the subnet that it stands in.",
            )


@RULES.reads("address", "subnets")
def _subnets_are_reached(draft: Draft) -> Iterator[Problem]:
    for index, subnet in enumerate(draft.settings.subnets):
        outside = {
            str(address): name
            for address, name in draft.servers.items()
            if address not in subnet.network
        }
        within = len(draft.servers) - len(outside)
        if outside and (within or not subnet.relays):
            listing = ", ".join(f"{name} has {address}" for address, name in outside.items())
            yield Problem(
                f"subnets[{index}]",
                f"{subnet.subnet}{'' if subnet.relays else ' without relays'}, while {listing}",
                "a subnet that holds both servers' addresses, or one that is reached by relays",
                "Correct the subnet or the address, or list the relays' addresses.",
            )


@RULES.reads()
def _pools(draft: Draft) -> Iterator[Problem]:
    for index, subnet in enumerate(draft.settings.subnets):
        where = f"subnets[{index}].pools"
        for text, (first, last) in zip(subnet.pools, subnet.ranges, strict=True):
            if first not in subnet.network or last not in subnet.network:
                yield Problem(
                    where,
                    shown(text),
                    f"addresses inside {subnet.subnet}",
                    "Shorten the pool, or widen the subnet if its prefix is wrong.",
                )
            for address, what in _taken(draft, subnet).items():
                if first <= address <= last:
                    yield Problem(
                        where,
                        f"{shown(text)}, which holds {address}, {what}",
                        "addresses that nothing else has",
                        "Shorten or split the pool so that it leaves that address out.",
                    )
        for (one, one_range), (other, other_range) in combinations(
            zip(subnet.pools, subnet.ranges, strict=True), 2
        ):
            if one_range[0] <= other_range[1] and other_range[0] <= one_range[1]:
                yield Problem(
                    where,
                    f"{shown(one)} and {shown(other)}",
                    "pools without a common address",
                    "Join them or shorten one.",
                )


def _taken(draft: Draft, subnet: Subnet) -> dict[IPv4Address, str]:
    """Addresses that no client may have, each with what it is."""
    taken = dict.fromkeys(subnet.routers, "the router")
    taken |= {address: f"the address of {name}" for address, name in draft.servers.items()}
    return taken | _edges(subnet.network)


def _edges(network: IPv4Network) -> dict[IPv4Address, str]:
    if network.prefixlen > 30:
        return {}
    return {
        network.network_address: "the network's own address",
        network.broadcast_address: "the broadcast address",
    }


@RULES.reads("subnets")
def _reservations_in_subnets(draft: Draft) -> Iterator[Problem]:
    subnets = draft.settings.subnets
    for where, reservation in draft.entries:
        address = IPv4Address(reservation.address)
        home = draft.settings.subnet_of(reservation.address)
        if home is None:
            yield Problem(
                f"{where}: address",
                shown(reservation.address),
                f"an address in {', '.join(subnet.subnet for subnet in subnets)}",
                "Correct the address, or add its subnet to subnets.",
            )
        elif address in _taken(draft, home):
            yield Problem(
                f"{where}: address",
                f"{shown(reservation.address)}, {_taken(draft, home)[address]}",
                "an address that nothing else has",
                "Reserve another address.",
            )


@RULES.reads("subnets")
def _reservations_once(draft: Draft) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], str] = {}
    for where, reservation in draft.entries:
        # A client that moves may have one reservation in each subnet (Kea ARM, 8.3).
        subnet = draft.settings.subnet_of(reservation.address)
        home = subnet.subnet if subnet else ""
        for setting, value, scope in (
            ("address", reservation.address, ""),
            ("mac", reservation.mac, home),
            ("client_id", reservation.client_id, home),
        ):
            if value is None:
                continue
            first = seen.setdefault((setting, value, scope), where)
            if first != where:
                yield Problem(
                    f"{where}: {setting}",
                    f"{shown(value)}, as in {first}",
                    f"each {setting} once" + (f" in {scope}" if scope else ""),
                    "Remove one of the two entries.",
                )
