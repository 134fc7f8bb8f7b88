"""What `extra` may add to Kea's documents, and how it is merged.

`extra` is for what the settings do not cover. It may not reach what a setting already says (two
places for one value), what the pair's safety rests on (hooks, sockets, multi-threading, TLS), or
hold a secret in clear. Before Kea 3.0 nothing but this model checks the HA parameters: `-t` does
not load hooks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kea_ha import layout
from kea_ha.settings.problems import HIDDEN, Problem, is_secret, nearest, shown
from kea_ha.settings.single_values import is_printable

DHCP4_KEYS: Final = frozenset(
    """
    valid-lifetime min-valid-lifetime max-valid-lifetime renew-timer rebind-timer
    decline-probation-period subnet4 shared-networks interfaces-config lease-database
    hosts-database hosts-databases host-reservation-identifiers client-classes option-def
    option-data hooks-libraries expired-leases-processing dhcp4o6-port control-socket
    control-sockets dhcp-queue-control dhcp-ddns echo-client-id match-client-id authoritative
    next-server server-hostname boot-file-name user-context comment sanity-checks reservations
    config-control server-tag reservations-global reservations-in-subnet reservations-out-of-pool
    calculate-tee-times t1-percent t2-percent cache-threshold cache-max-age loggers
    hostname-char-set hostname-char-replacement ddns-send-updates ddns-override-no-update
    ddns-override-client-update ddns-replace-client-name ddns-generated-prefix
    ddns-qualifying-suffix ddns-update-on-renew ddns-use-conflict-resolution
    ddns-conflict-resolution-mode ddns-ttl-percent ddns-ttl ddns-ttl-min ddns-ttl-max
    store-extended-info statistic-default-sample-count statistic-default-sample-age
    multi-threading early-global-reservations-lookup ip-reservations-unique
    reservations-lookup-first compatibility parked-packet-limit allocator offer-lifetime
    stash-agent-options
    """.split()  # noqa: SIM905
)
"""The members of Dhcp4 that Kea's grammar has, 2.2 to 3.0."""

AGENT_KEYS: Final = frozenset(
    """
    http-host http-port http-headers basic-authentication-realm authentication trust-anchor
    cert-file key-file cert-required control-sockets hooks-libraries loggers user-context comment
    """.split()  # noqa: SIM905
)

_BY_SETTING: Final = {
    "valid-lifetime": "valid_lifetime",
    "renew-timer": "renew_timer",
    "rebind-timer": "rebind_timer",
    "subnet4": "subnets, each with an extra of its own,",
    "control-socket": "control_channel",
    "control-sockets": "control_channel",
    "interfaces-config.interfaces": "interface",
    "multi-threading.thread-pool-size": "thread_pool_size",
    "multi-threading.packet-queue-size": "packet_queue_size",
    "http-host": "address",
    "http-port": "ca_port",
    "trust-anchor": "own_certificates",
    "cert-file": "own_certificates",
    "key-file": "own_certificates",
}
_SUBNET_BY_SETTING: Final = {
    "subnet": "subnet",
    "id": "id",
    "pools": "pools",
    "option-data": "options",
    "relay": "relays",
    "interface": "interface",
    "reservations": "reservations_file",
}
#: HTTP headers of an answer that everybody is meant to read; the value of others may be a secret.
_PUBLIC_HEADERS: Final = frozenset(
    """
    strict-transport-security content-security-policy x-frame-options x-content-type-options
    referrer-policy permissions-policy cache-control access-control-allow-origin
    access-control-allow-methods access-control-allow-headers access-control-max-age
    """.split()  # noqa: SIM905
)
_WATCHED_LOGGERS: Final = frozenset(
    {"kea-dhcp4", "kea-dhcp4.ha-hooks", "kea-dhcp4.http", "kea-dhcp4.commands"}
)


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it: maps are merged deeply, all else is replaced."""
    result = dict(base)
    for key, value in extra.items():
        below = result.get(key)
        both_maps = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both_maps else value  # type: ignore[arg-type]
    return result


def extra_problems(extra: Mapping[str, Any], control_channel: str) -> Iterator[Problem]:
    """All that is wrong with the pair's `extra`."""
    yield from _unsafe_values(extra, "extra")
    for key, document in extra.items():
        if key not in {"Dhcp4", "Control-agent"}:
            yield Problem(
                f"extra.{key}",
                "unknown",
                "Dhcp4 and Control-agent",
                f"{nearest(key, ['Dhcp4', 'Control-agent'])}Put it under the daemon it is for.",
            )
        elif not isinstance(document, Mapping):
            yield Problem(f"extra.{key}", "not a map", "a map of Kea's names", "Write a map.")
        elif key == "Dhcp4":
            yield from _dhcp4_problems(document)
        else:
            yield from _agent_problems(document, control_channel)


def subnet_extra_problems(extra: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """All that is wrong with one subnet's own `extra`."""
    yield from _unsafe_values(extra, path)
    for key in extra:
        if key in _SUBNET_BY_SETTING:
            yield _owned(f"{path}.{key}", f"the subnet's {_SUBNET_BY_SETTING[key]}")


def _dhcp4_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _unknown("extra.Dhcp4", document, DHCP4_KEYS)
    yield from _already_settings("extra.Dhcp4", document)
    if "hooks-libraries" in document:
        yield Problem(
            "extra.Dhcp4.hooks-libraries",
            "given",
            "nothing: the list would be replaced, and high availability with it",
            "Leave it out; the HA parameters have settings of their own.",
        )
    threading = document.get("multi-threading")
    if isinstance(threading, Mapping) and "enable-multi-threading" in threading:
        yield Problem(
            "extra.Dhcp4.multi-threading.enable-multi-threading",
            shown(threading["enable-multi-threading"]),
            "nothing: it is on, since without it Kea opens no HA listener",
            "Leave it out; thread_pool_size sets the number of threads.",
        )
    for key in ("multi-threading", "interfaces-config", "lease-database"):
        if key in document and not isinstance(document[key], Mapping):
            yield Problem(f"extra.Dhcp4.{key}", "not a map", "a map", "Write a map.")
    yield from _lease_database_problems(document.get("lease-database"))
    if "loggers" in document:
        yield from _logger_problems(document["loggers"])


def _agent_problems(document: Mapping[str, Any], control_channel: str) -> Iterator[Problem]:
    if control_channel != "agent":
        yield Problem(
            "extra.Control-agent",
            f'given while control_channel is "{control_channel}"',
            "nothing, since there is no Control Agent",
            "Remove it, or set control_channel to agent.",
        )
        return
    yield from _unknown("extra.Control-agent", document, AGENT_KEYS)
    yield from _already_settings("extra.Control-agent", document)
    if "hooks-libraries" in document:
        yield Problem(
            "extra.Control-agent.hooks-libraries",
            "given",
            "nothing: what a library does with the requests of API clients is not verified here",
            "Leave it out; clients are admitted by their certificate.",
        )
    if "cert-required" in document:
        yield Problem(
            "extra.Control-agent.cert-required",
            shown(document["cert-required"]),
            "nothing: it is true, clients are admitted by their certificate",
            "Leave it out.",
        )


def _unknown(path: str, document: Mapping[str, Any], known: frozenset[str]) -> Iterator[Problem]:
    for key in document:
        if key not in known:
            yield Problem(
                f"{path}.{key}",
                "unknown to Kea",
                "the names of Kea's own document",
                f"{nearest(key, known)}Correct the name or remove it.",
            )


def _already_settings(path: str, document: Mapping[str, Any]) -> Iterator[Problem]:
    for dotted, setting in _BY_SETTING.items():
        outer, _, inner = dotted.partition(".")
        value = document.get(outer)
        if inner and not (isinstance(value, Mapping) and inner in value):
            continue
        if outer in document:
            yield _owned(f"{path}.{dotted}", setting)


def _owned(path: str, setting: str) -> Problem:
    return Problem(
        path,
        "given",
        f"nothing here: {setting} says it",
        "Remove it from extra and use that setting.",
    )


def _lease_database_problems(database: Any) -> Iterator[Problem]:
    if not isinstance(database, Mapping):
        return
    for key, kept in (("type", "memfile"), ("name", layout.LEASES), ("persist", True)):
        if key in database and database[key] != kept:
            yield Problem(
                f"extra.Dhcp4.lease-database.{key}",
                shown(database[key]),
                f"{shown(kept)}: each server keeps its own leases, in the packaged file",
                "Remove it; the partner's copy is the second one.",
            )


def _logger_problems(loggers: Any) -> Iterator[Problem]:
    allowed = (
        f"a list that has kea-dhcp4 at INFO or DEBUG writing to {layout.LOG}, and no higher "
        "severity for its ha-hooks, http and commands loggers: the links are verified by that log"
    )
    if not isinstance(loggers, list) or not all(isinstance(one, Mapping) for one in loggers):
        yield Problem("extra.Dhcp4.loggers", "not a list of maps", allowed, "Write a list of maps.")
        return
    names = [one.get("name") for one in loggers]
    if "kea-dhcp4" not in names:
        yield Problem(
            "extra.Dhcp4.loggers", "without kea-dhcp4", allowed, "Add the logger kea-dhcp4."
        )
    for index, logger in enumerate(loggers):
        if logger.get("name") not in _WATCHED_LOGGERS:
            continue
        outputs = logger.get("output_options", logger.get("output-options", []))
        files = [one.get("output") for one in outputs if isinstance(one, Mapping)]
        quiet = str(logger.get("severity", "INFO")).upper() not in {"INFO", "DEBUG"}
        if quiet or layout.LOG not in files:
            yield Problem(
                f"extra.Dhcp4.loggers[{index}]",
                shown(logger.get("name")),
                allowed,
                "Give it severity INFO and that file, or leave it to its parent by removing it.",
            )


def _unsafe_values(value: Any, path: str) -> Iterator[Problem]:
    """Secrets in clear, and what cannot be written as Kea's JSON, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            below = f"{path}.{key}"
            if is_secret(below) and str(value.get("name", "")).lower() not in _PUBLIC_HEADERS:
                yield Problem(
                    below,
                    HIDDEN,
                    "no secret in clear: settings are shown, compared and kept in version control",
                    "Put it in a file on the hosts and name the file, as password-file does.",
                )
            else:
                yield from _unsafe_values(inner, below)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _unsafe_values(inner, f"{path}[{index}]")
    elif not _is_plain(value):
        yield Problem(
            path,
            "not a value that JSON has, or text with control characters",
            "text, whole numbers, decimals, true, false, null, lists and maps of them",
            "Write it as one of these.",
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return is_printable(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, int) or -(2**63) <= value < 2**63
