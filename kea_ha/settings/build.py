"""From what the inventory says to a Pair that can be rolled out, or to all that is wrong with it.

Runs before any host is contacted and touches nothing but the reservations file. Every problem of
both hosts is reported at once; a setting that nothing reads is a problem too, since its author
believes that it works.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from kea_ha.foreign import is_host_name
from kea_ha.settings import address_rules, rules
from kea_ha.settings.model import (
    Node,
    NodeDraft,
    OwnCertificates,
    Pair,
    Reservation,
    Settings,
    Subnet,
)
from kea_ha.settings.problems import HIDDEN, Problem, Refused, SettingsError, nearest, shown
from kea_ha.settings.reservations_file import read_entries
from kea_ha.settings.rules import Draft, Entry

NODE_SETTINGS: Final = frozenset(NodeDraft.model_fields) - {"name"}
PAIR_SETTINGS: Final = frozenset(Settings.model_fields)
PYINFRA_PREFIXES: Final = ("_", "ssh_", "docker_", "fake_")
"""Beginnings of the names that are pyinfra's own: global arguments and its connectors' data."""

#: Of pyinfra's own: a password for each command.
_PASSWORDS: Final = frozenset({"_sudo_password", "_su_password"})

_NESTED: Final[dict[str, type[BaseModel]]] = {
    "subnets": Subnet,
    "own_certificates": OwnCertificates,
}
_Model = TypeVar("_Model", bound=BaseModel)


def build_pair(
    name: str,
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    arguments: Collection[str] = (),
    directory: Path = Path(),
) -> Pair:
    """The pair that these hosts are to be.

    `hosts` maps each host's name to its data as pyinfra merged it; `arguments` are the names that
    the running script takes for itself; a relative `reservations_file` is sought in `directory`.
    Raises SettingsError with every problem that was found.
    """
    problems = [
        *_group(name, hosts),
        *_host_names(hosts),
        *_unknown_settings(hosts, arguments),
    ]
    broken: set[str] = set()
    nodes = []
    for host, data in hosts.items():
        given = {key: data[key] for key in NODE_SETTINGS if data.get(key) is not None}
        node, found = _read(NodeDraft, {"name": host, **given})
        nodes.append(node)
        problems += [_at(problem, host) for problem in found]
        broken |= {_root(problem.setting) for problem in found}

    shared, found = _shared_settings(hosts)
    problems += found
    broken |= {problem.setting for problem in found}
    settings, found = _read(Settings, shared)
    problems += found
    broken |= {_root(problem.setting) for problem in found}

    entries, found = _reservations(settings.reservations_file, directory)
    problems += found
    draft = Draft(tuple(nodes), settings, entries, frozenset(broken))
    problems += [*rules.RULES.problems(draft), *address_rules.RULES.problems(draft)]
    if problems:
        raise SettingsError(_at(problem, name) for problem in problems)

    by_role = {
        str(node.role): Node.model_validate(node.model_dump(exclude_unset=True)) for node in nodes
    }
    return Pair(
        name,
        primary=by_role["primary"],
        standby=by_role["standby"],
        settings=settings,
        reservations=tuple(entry.reservation for entry in entries),
    )


def check_pairs(pairs: Iterable[Pair]) -> tuple[Problem, ...]:
    """What several pairs of one inventory may not share: a host, or a host's address."""
    problems = []
    hosts: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for pair in pairs:
        for node in pair.nodes:
            other = hosts.setdefault(node.name, pair.name)
            if other != pair.name:
                problems.append(
                    Problem(
                        "inventory",
                        f"{node.name} in the groups {other} and {pair.name}",
                        "each host in one pair",
                        "Remove it from one of the two groups.",
                        pair.name,
                    )
                )
                continue
            other = addresses.setdefault(node.address, pair.name)
            if other != pair.name:
                problems.append(
                    Problem(
                        "address",
                        f"{shown(node.address)} on {node.name}, and in the pair {other} too",
                        "each address in one pair",
                        "Correct one of them; sites that reuse addresses need an inventory each.",
                        pair.name,
                    )
                )
    return tuple(problems)


def pair_warnings(pair: Pair) -> tuple[str, ...]:
    """What can be rolled out but is probably not what was meant."""
    settings = pair.settings
    warnings = []
    if settings.admin_networks and settings.firewall == "off":
        warnings.append(
            f"{pair.name}: admin_networks has no effect while firewall is off: port "
            f"{settings.ca_port} is open to every network. Set firewall to nftables."
        )
    return tuple(warnings)


def _group(name: str, hosts: Mapping[str, Any]) -> Iterator[Problem]:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name) is None:
        yield Problem(
            "inventory",
            f"a group with the name {shown(name)}",
            "1 to 64 letters, digits, dots, dashes and underscores: a folder is named after it",
            "Rename the group.",
        )
    if len(hosts) != 2:
        listing = ", ".join(hosts) or "none"
        yield Problem(
            "inventory",
            f"{len(hosts)} hosts in the group {name} ({listing})",
            "exactly two hosts in a pair: one primary and one standby",
            "Correct the group, or give it to no pair.",
        )


def _host_names(hosts: Iterable[str]) -> Iterator[Problem]:
    for host in hosts:
        if not is_host_name(host):
            yield Problem(
                "inventory",
                f"a host with the name {shown(host)}",
                "a host name or an IP address: its certificate names it, and a folder of a backup",
                "Give it another name, and ssh_hostname, ssh_user or ssh_port beside it for how "
                "it is reached.",
            )


def _unknown_settings(
    hosts: Mapping[str, Mapping[str, Any]], arguments: Collection[str]
) -> Iterator[Problem]:
    known = NODE_SETTINGS | PAIR_SETTINGS | set(arguments)
    names = {key: value for data in hosts.values() for key, value in data.items()}
    for name in sorted(_PASSWORDS & names.keys()):
        if names[name]:
            yield Problem(
                name,
                HIDDEN,
                "nothing: pyinfra would put it into the arguments of every command on the host",
                "Let that user become root without a password (NOPASSWD in sudoers), or log in "
                "as root with a key.",
            )
    for name, value in names.items():
        if name not in known and not name.startswith(PYINFRA_PREFIXES):
            yield Problem(
                name,
                f"{shown(value, name)}, and nothing reads it",
                "the settings of docs/settings.md, and what the script itself takes",
                f"{nearest(name, known)}Correct the name or remove it.",
            )


def _shared_settings(
    hosts: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], list[Problem]]:
    shared, problems = {}, []
    for name in sorted(PAIR_SETTINGS):
        given = {host: data.get(name) for host, data in hosts.items()}
        values = list(given.values())
        if any(value != values[0] for value in values):
            listing = ", ".join(f"{shown(value)} on {host}" for host, value in given.items())
            problems.append(
                Problem(
                    name,
                    listing,
                    "the same on both hosts: their documents must agree",
                    f"Set {name} for the pair's group or for all, not for one host.",
                )
            )
        elif values and values[0] is not None:
            shared[name] = values[0]
    return shared, problems


def _reservations(given: str | None, directory: Path) -> tuple[tuple[Entry, ...], list[Problem]]:
    if given is None:
        return (), []
    raw, problems = read_entries(directory / given)
    entries = []
    for line, fields in raw:
        where = f"{given} line {line}"
        try:
            entries.append(Entry(where, Reservation.model_validate(fields)))
        except ValidationError as error:
            problems += _problems(Reservation, error, f"{where}: ")
    return tuple(entries), problems


def _read(model: type[_Model], given: Mapping[str, Any]) -> tuple[_Model, list[Problem]]:
    """The model of all that is valid, and a problem for all that is not.

    A broken setting gives way to its default; of a list, only the broken items are left out.
    """
    try:
        return model.model_validate(dict(given)), []
    except ValidationError as error:
        healthy: dict[str, Any] = dict(given)
        for location in {detail["loc"][:2] for detail in error.errors()}:
            healthy.pop(str(location[0]), None)
        for name, items in _broken_items(error).items():
            if isinstance(given[name], list | tuple):
                healthy[name] = [one for i, one in enumerate(given[name]) if i not in items]
        return model.model_validate(healthy), _problems(model, error)


def _broken_items(error: ValidationError) -> dict[str, set[int]]:
    items: dict[str, set[int]] = {}
    for detail in error.errors():
        location = detail["loc"]
        if len(location) > 1 and isinstance(location[1], int):
            items.setdefault(str(location[0]), set()).add(location[1])
    return items


def _problems(model: type[BaseModel], error: ValidationError, prefix: str = "") -> list[Problem]:
    found = []
    for detail in error.errors():
        path = _path(detail["loc"])
        setting = f"{prefix}{path}" if path else prefix.removesuffix(": ")
        reason = detail.get("ctx", {}).get("error")
        known = _NESTED.get(str((detail["loc"] or ("",))[0]), model).model_fields
        # What was meant as a map but is none cannot be searched for secrets.
        given = "not a map" if path.endswith("extra") else shown(detail["input"], path)
        if isinstance(reason, Refused):
            said = Problem(setting, given, reason.allowed, reason.remedy)
        elif detail["type"] == "missing":
            wanted = known[str(detail["loc"][-1])].description or "a value"
            said = Problem(setting, "not given", wanted, f"Add {detail['loc'][-1]}.")
        elif detail["type"] == "extra_forbidden":
            hint = nearest(str(detail["loc"][-1]), known)
            said = Problem(
                setting, "unknown", ", ".join(known), f"{hint}Correct the name or remove it."
            )
        else:
            said = Problem(setting, given, detail["msg"], "See docs/settings.md.")
        found.append(said)
    return found


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _root(setting: str) -> str:
    return setting.split(".")[0].split("[")[0]


def _at(problem: Problem, where: str) -> Problem:
    """The problem with its place; a host named already gets the pair put before it."""
    place = f"{where}, {problem.where}" if problem.where else where
    return Problem(problem.setting, problem.given, problem.allowed, problem.remedy, place)
