"""What several settings must be together.

Each rule names the settings that it reads; it is passed over while one of them is broken by
itself, so that one mistake is reported once. A rule yields every Problem that it finds.
The rules about addresses are in `address_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from kea_ha.settings import dhcp_options
from kea_ha.settings.extra import extra_problems, subnet_extra_problems
from kea_ha.settings.model import NodeDraft, Reservation, Settings
from kea_ha.settings.problems import Problem, nearest, shown


class Entry(NamedTuple):
    """One reservation and where it was read: `hosts.yaml line 4`."""

    where: str
    reservation: Reservation


@dataclass(frozen=True)
class Draft:
    """A pair as far as its single values are valid; `broken` are the settings that are not."""

    nodes: tuple[NodeDraft, ...]
    settings: Settings
    entries: tuple[Entry, ...]
    broken: frozenset[str]

    @property
    def servers(self) -> dict[IPv4Address, str]:
        """The servers' addresses, each with its host's name."""
        return {IPv4Address(node.address): node.name for node in self.nodes if node.address}


Rule = Callable[[Draft], Iterator[Problem]]


class Rulebook:
    """Rules, each with the settings that it reads."""

    def __init__(self) -> None:
        self._rules: list[tuple[frozenset[str], Rule]] = []

    def reads(self, *settings: str) -> Callable[[Rule], Rule]:
        """Decorate a rule with the settings that it reads, and take it into the book."""

        def register(rule: Rule) -> Rule:
            self._rules.append((frozenset(settings), rule))
            return rule

        return register

    def problems(self, draft: Draft) -> Iterator[Problem]:
        """Every problem that the book's rules find in the draft."""
        for settings, rule in self._rules:
            if not settings & draft.broken:
                yield from rule(draft)


RULES = Rulebook()


@RULES.reads("role")
def _roles(draft: Draft) -> Iterator[Problem]:
    given = [(node.name, node.role) for node in draft.nodes]
    if len(given) == 2 and sorted(str(role) for _, role in given) != ["primary", "standby"]:
        roles = " and ".join(f"{role or 'not given'} on {name}" for name, role in given)
        yield Problem(
            "role", roles, "exactly one primary and one standby", "Set role on each of both hosts."
        )


@RULES.reads()
def _required(draft: Draft) -> Iterator[Problem]:
    examples = {"server_name": "server1 or server2", "address": "192.168.1.2 or 192.168.1.3"}
    for node in draft.nodes:
        for setting, example in examples.items():
            if getattr(node, setting) is None and setting not in draft.broken:
                yield Problem(
                    setting,
                    "not given",
                    f"one for each host, such as {example}",
                    f"Add {setting} to {node.name} in the inventory.",
                    node.name,
                )


@RULES.reads("server_name")
def _server_names_differ(draft: Draft) -> Iterator[Problem]:
    for name, count in Counter(node.server_name for node in draft.nodes).items():
        if name is not None and count > 1:
            yield Problem(
                "server_name",
                f"{shown(name)} on {' and '.join(node.name for node in draft.nodes)}",
                "another name for each server: Kea finds itself among the peers by it",
                "Rename one of them, as server1 and server2.",
            )


@RULES.reads("address")
def _addresses_differ(draft: Draft) -> Iterator[Problem]:
    for address, count in Counter(node.address for node in draft.nodes).items():
        if address is not None and count > 1:
            yield Problem(
                "address",
                f"{shown(address)} on {' and '.join(node.name for node in draft.nodes)}",
                "another address for each host",
                "Give each host its own address.",
            )


@RULES.reads("ha_port", "ca_port", "control_channel")
def _ports(draft: Draft) -> Iterator[Problem]:
    settings = draft.settings
    if settings.control_channel == "none":
        return
    if settings.ca_port == settings.ha_port:
        yield Problem(
            "ca_port",
            f"{settings.ca_port}, as ha_port",
            "a port other than ha_port: both listen on the host's one address",
            "Use the template's 8000 for ha_port and 8001 for ca_port.",
        )
    if settings.control_channel == "agent" and settings.ca_port < 1024:
        yield Problem(
            "ca_port",
            str(settings.ca_port),
            "1024 to 65535 with the Control Agent, which runs without the right to lower ports",
            "Use the template's 8001.",
        )


@RULES.reads("heartbeat_delay", "max_response_delay", "failover_profile")
def _response_outlasts_heartbeats(draft: Draft) -> Iterator[Problem]:
    settings = draft.settings
    if settings.max_response_delay < 2 * settings.heartbeat_delay:
        yield Problem(
            "max_response_delay",
            f"{settings.max_response_delay} ms with heartbeat_delay {settings.heartbeat_delay} ms",
            f"at least twice heartbeat_delay, here {2 * settings.heartbeat_delay}: one late "
            "heartbeat would count as the partner's failure",
            "Raise max_response_delay or lower heartbeat_delay.",
        )


@RULES.reads("valid_lifetime", "renew_timer", "rebind_timer")
def _timers_rise(draft: Draft) -> Iterator[Problem]:
    settings = draft.settings
    if not settings.renew_timer < settings.rebind_timer < settings.valid_lifetime:
        yield Problem(
            "renew_timer, rebind_timer and valid_lifetime",
            f"{settings.renew_timer}, {settings.rebind_timer} and {settings.valid_lifetime} s",
            "renew_timer below rebind_timer below valid_lifetime",
            "Keep the template's ratio: half and three quarters of valid_lifetime.",
        )


@RULES.reads("own_certificates")
def _own_certificates(draft: Draft) -> Iterator[Problem]:
    own = [node.own_certificates for node in draft.nodes]
    if len(own) != 2:
        return
    if (own[0] is None) != (own[1] is None):
        yield Problem(
            "own_certificates",
            "given for one host alone",
            "none, or files on both hosts (the paths may differ)",
            "Give both hosts certificates of the same authority.",
        )


@RULES.reads("extra", "control_channel")
def _extra(draft: Draft) -> Iterator[Problem]:
    yield from extra_problems(draft.settings.extra, draft.settings.control_channel)
    for index, subnet in enumerate(draft.settings.subnets):
        yield from subnet_extra_problems(subnet.extra, f"subnets[{index}].extra")


@RULES.reads("extra")
def _option_names_and_values(draft: Draft) -> Iterator[Problem]:
    known = dhcp_options.KNOWN | _defined_in_extra(draft.settings)
    places = [
        (f"subnets[{index}].options", subnet.options)
        for index, subnet in enumerate(draft.settings.subnets)
    ]
    places += [(f"{entry.where}: options", entry.reservation.options) for entry in draft.entries]
    for place, given in places:
        for name, data in given.items():
            if name not in known:
                yield Problem(
                    place,
                    shown(name),
                    "the names that Kea gives the DHCPv4 options, such as routers or "
                    "domain-name-servers, and those of option-def in extra",
                    f"{nearest(name, known)}Correct the name.",
                )
            elif name in dhcp_options.ADDRESSES and not _are_addresses(data):
                yield Problem(
                    f"{place}.{name}",
                    shown(data),
                    "IPv4 addresses with commas between them",
                    "Write addresses: names are not resolved.",
                )


def _defined_in_extra(settings: Settings) -> frozenset[str]:
    dhcp4 = settings.extra.get("Dhcp4")
    definitions = dhcp4.get("option-def") if isinstance(dhcp4, dict) else None
    if not isinstance(definitions, list):
        return frozenset()
    return frozenset(str(one.get("name")) for one in definitions if isinstance(one, dict))


def _are_addresses(data: str) -> bool:
    try:
        return bool([IPv4Address(part.strip()) for part in data.split(",")])
    except ValueError:
        return False
