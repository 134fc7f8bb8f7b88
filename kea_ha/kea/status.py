"""What `status-get` of a Kea DHCPv4 server says, as a value and as a verdict in words.

Read from Kea 2.2.0, 2.6.3 and 3.0.x (Kea ARM, "High Availability Server States" and "The
status-get Command"). Of what is judged here, what is missing or of the wrong kind raises
ForeignError: a check that cannot decide has failed. What nobody needs may be missing. The
judgements return findings, one sentence each, and nothing where all is well.

`in-touch` alone proves nothing: Kea says true also of a partner that never answered, whose
last state is then `unavailable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from kea_ha.foreign import ForeignError, cut
from kea_ha.settings.problems import counted

PRIMARY = "primary"
STANDBY = "standby"
HOT_STANDBY = "hot-standby"
IN_MAINTENANCE = "in-maintenance"
PARTNER_DOWN = "partner-down"
TERMINATED = "terminated"
PARTNER_IN_MAINTENANCE = "partner-in-maintenance"


@dataclass(frozen=True, slots=True)
class LocalServer:
    """This server in its HA relationship."""

    name: str | None
    """`this-server-name`; None before Kea 2.6, which does not tell."""
    role: str
    state: str
    scopes: tuple[str, ...]
    """Names of the servers whose clients this one serves."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """The partner, as this server knows it."""

    name: str | None
    last_state: str
    in_touch: bool
    age_s: int
    """Whole seconds since the partner last answered."""
    communication_interrupted: bool


@dataclass(frozen=True, slots=True)
class Relationship:
    """The HA relationship of a server with its one partner."""

    mode: str
    local: LocalServer
    remote: RemoteServer


@dataclass(frozen=True, slots=True)
class DhcpState:
    """Who has switched the DHCP service off; nobody when it runs."""

    globally_disabled: bool
    by_user: bool
    by_local_command: tuple[int, ...]
    """Origins, such as 1000 for the HA state machine of this server."""
    by_remote_command: tuple[int, ...]
    by_db_connection: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One answer to `status-get`."""

    uptime_s: int
    multi_threading: bool
    thread_pool_size: int | None
    """None when multi-threading is off, as the next."""
    packet_queue_size: int | None
    sockets_ready: bool
    """Whether the sockets that hear DHCP clients are open."""
    socket_errors: tuple[str, ...]
    dhcp: DhcpState | None
    """None before Kea 2.6.2, which does not tell."""
    ha: Relationship | None
    """None when the HA hook is not loaded."""

    @property
    def serves(self) -> bool:
        """Whether it answers clients: it hears them, and the HA gives it some to serve."""
        off = self.dhcp is not None and self.dhcp.globally_disabled
        return self.sockets_ready and not off and self.ha is not None and bool(self.ha.local.scopes)


class Threads(NamedTuple):
    """How many threads work on packets, and how many packets may wait for them."""

    pool_size: int
    queue_size: int


@dataclass(frozen=True, slots=True)
class ExpectedPair:
    """What was configured, to compare an answer with; hosts are named as the operator does.

    The threads are each server's own: while a change rolls, the two differ.
    """

    primary_host: str
    primary_name: str
    standby_host: str
    standby_name: str
    primary_threads: Threads
    standby_threads: Threads


_Kind = TypeVar("_Kind")
#: What is no number of seconds or of clients any more, and no name or reason.
_LARGEST, _LONGEST = 2**40, 1000


def parse_status(reply: object) -> ServerStatus:
    """The status in a reply to `status-get`: a map (unix socket) or a list of one (HTTP).

    Raises ForeignError for a refused command and for any reply that cannot be understood.
    """
    if isinstance(reply, Sequence) and not isinstance(reply, str | bytes):
        if len(reply) != 1:
            raise _unclear(f"a list of {len(reply)} replies instead of one")
        reply = reply[0]
    answer = _of_kind(reply, dict, "the reply")
    if _get(answer, "result", int) != 0:
        reason = cut(str(answer.get("text", "no reason given")))
        raise ForeignError(f"Kea refused status-get: {reason}")
    arguments = _get(answer, "arguments", dict)
    threads = _get(arguments, "multi-threading-enabled", bool)
    sockets = _get(arguments, "sockets", dict)
    return ServerStatus(
        uptime_s=_get(arguments, "uptime", int),
        multi_threading=threads,
        thread_pool_size=_get(arguments, "thread-pool-size", int) if threads else None,
        packet_queue_size=_get(arguments, "packet-queue-size", int) if threads else None,
        sockets_ready=_get(sockets, "status", str) == "ready",
        socket_errors=_list(sockets, "errors", str) if "errors" in sockets else (),
        dhcp=_dhcp_state(arguments),
        ha=_relationship(arguments),
    )


def judge_link(local: ServerStatus, heartbeat: timedelta) -> tuple[str, ...]:
    """What is wrong with this server's link to its partner, by its own account.

    `heartbeat` is the `heartbeat-delay`: the partner must have answered within two of them.
    """
    if local.ha is None:
        return ("the HA hook is not loaded",)
    remote = local.ha.remote
    partner = remote.name or "the partner"
    findings = []
    if not remote.in_touch:
        findings.append(f"{partner} has not been heard of yet")
    elif remote.last_state == "unavailable":
        findings.append(f"{partner} does not answer")
    if remote.communication_interrupted:
        findings.append(
            f"communication with {partner} is interrupted: no answer for {remote.age_s} s, "
            "longer than max-response-delay"
        )
    elif remote.in_touch and remote.age_s > 2 * heartbeat.total_seconds():
        findings.append(
            f"{partner} last answered {remote.age_s} s ago; allowed are two heartbeats, "
            f"{2 * heartbeat.total_seconds():g} s"
        )
    return tuple(findings)


def judge_server(
    status: ServerStatus,
    *,
    role: str,
    name: str,
    partner: str,
    threads: Threads,
) -> tuple[str, ...]:
    """What keeps this server from doing its part; `name` and `partner` are server names."""
    findings = []
    if not status.sockets_ready:
        reasons = "; ".join(status.socket_errors) or "no reason given"
        findings.append(f"it does not hear DHCP clients: {reasons}")
    if not status.multi_threading:
        findings.append("multi-threading is off, so the HA listener is not open")
    elif (status.thread_pool_size, status.packet_queue_size) != threads:
        findings.append(
            f"it runs with {status.thread_pool_size} threads and a queue of "
            f"{status.packet_queue_size}; configured are {threads.pool_size} and "
            f"{threads.queue_size}"
        )
    if status.ha is None:
        return (*findings, "the HA hook is not loaded")
    if status.dhcp is not None and status.dhcp.globally_disabled:
        findings.append(f"its DHCP service is switched off {_switched_off_by(status.dhcp)}")
    local, remote = status.ha.local, status.ha.remote
    if status.ha.mode != HOT_STANDBY:
        findings.append(f"its HA mode is {status.ha.mode}, not hot-standby")
    if local.role != role:
        findings.append(f"its role is {local.role}, not {role}")
    # Kea before 2.6 names no server in its answer; the scopes name them on every version.
    if local.name not in (None, name):
        findings.append(f"its server name is {local.name}, not {name}")
    if remote.name not in (None, partner):
        findings.append(f"its partner is {remote.name}, not {partner}")
    if local.state != HOT_STANDBY:
        findings.append(f"its state is {local.state}: {explain_state(local.state, role)}")
    expected = (name,) if role == PRIMARY else ()
    if local.scopes != expected:
        findings.append(
            f"it serves {_scopes_in_words(local.scopes)}; a {role} in a healthy pair serves "
            f"{_scopes_in_words(expected)}"
        )
    return tuple(findings)


def judge_pair(
    primary: ServerStatus, standby: ServerStatus, expected: ExpectedPair
) -> tuple[str, ...]:
    """What keeps the two from being an accepted pair, each finding with its host's name.

    The links between them are `judge_link`'s.
    """
    names = (expected.primary_name, expected.standby_name)
    of_primary = judge_server(
        primary, role=PRIMARY, name=names[0], partner=names[1], threads=expected.primary_threads
    )
    of_standby = judge_server(
        standby, role=STANDBY, name=names[1], partner=names[0], threads=expected.standby_threads
    )
    return (
        *(f"{expected.primary_host}: {finding}" for finding in of_primary),
        *(f"{expected.standby_host}: {finding}" for finding in of_standby),
    )


_STATES = {
    "waiting": "it has started and waits for its partner; it serves no client. "
    "It goes on by itself when the partner answers or after max-response-delay",
    "syncing": "it fetches the partner's leases; it serves no client. This takes seconds; "
    "if it stays so, the log says why the fetch fails (HA_SYNC_FAILED)",
    "ready": "it has all leases and waits for the partner's next heartbeat; it serves no "
    "client yet. It goes on by itself",
    PARTNER_DOWN: "it has not heard of its partner for max-response-delay and serves all "
    "clients alone. Bring the partner back; the two then join by themselves",
    IN_MAINTENANCE: "it was told to hand over and serves no client. Finish the work on it "
    "and restart it, or send ha-maintenance-cancel to its partner",
    PARTNER_IN_MAINTENANCE: "it serves all clients while work is done on the partner. "
    "Restart the partner when the work is done, or send ha-maintenance-cancel here",
    "terminated": "HA has stopped: the clocks differ by more than 60 s, or leases were "
    "refused too often; no heartbeat and no lease goes to the partner. Put the cause right "
    "(the log names it), then restart kea-dhcp4 on both hosts",
    "communication-recovery": "it keeps leases back for a partner that it cannot reach. "
    "This state belongs to load-balancing: check the mode on both hosts",
    "load-balancing": "it shares the clients with its partner. This state belongs to "
    "load-balancing: check the mode on both hosts",
    "passive-backup": "it serves alone and sends leases to backups. This state belongs to "
    "another mode: check the mode on both hosts",
    "backup": "it takes leases and serves no client. This state belongs to a backup server: "
    "check the role on this host",
    "unavailable": "it does not answer. See that kea-dhcp4 runs there and that the path to "
    "it is open",
}


def explain_state(state: str, role: str) -> str:
    """An HA state in words: what the server does now, and what the operator should do."""
    if state == HOT_STANDBY:
        if role == STANDBY:
            return "it stands by with all leases, ready to take over. Nothing is to be done"
        return "it serves all clients and sends each lease to its partner. Nothing is to be done"
    return _STATES.get(
        state, f"{state!r} is not a state that we know. Look it up in the manual of this Kea"
    )


def verdict_sentence(
    *,
    primary_host: str,
    standby_host: str,
    subnets: Sequence[str],
    age_s: int,
    tls_version: str,
    certificate_days: int,
) -> str:
    """The verdict on an accepted pair, in one sentence.

    `age_s` is the older of the two heartbeats, `tls_version` the older of the two seen on
    the wire (such as `TLS 1.3`), `certificate_days` the life left of what expires first.
    """
    rest = f" and {counted(len(subnets) - 1, 'more subnet')}" if len(subnets) > 1 else ""
    return (
        f"{primary_host} serves {subnets[0] if subnets else 'no subnet'}{rest}, "
        f"{standby_host} stands by, in touch {age_s} s ago, {tls_version}, "
        f"certificates valid for {counted(certificate_days, 'day')}"
    )


def _scopes_in_words(scopes: Sequence[str]) -> str:
    return f"the clients of {' and '.join(scopes)}" if scopes else "no clients"


def _switched_off_by(dhcp: DhcpState) -> str:
    causes = {
        "by a user's dhcp-disable": dhcp.by_user,
        "by this server's own HA": dhcp.by_local_command,
        "by its partner": dhcp.by_remote_command,
        "for want of its lease database": dhcp.by_db_connection,
    }
    return " and ".join(cause for cause, holds in causes.items() if holds) or "for no given reason"


def _dhcp_state(arguments: Mapping[Any, Any]) -> DhcpState | None:
    if "dhcp-state" not in arguments:
        return None
    state = _get(arguments, "dhcp-state", dict)
    return DhcpState(
        globally_disabled=_get(state, "globally-disabled", bool),
        by_user=_get(state, "disabled-by-user", bool),
        by_local_command=_list(state, "disabled-by-local-command", int),
        by_remote_command=_list(state, "disabled-by-remote-command", int),
        by_db_connection=_list(state, "disabled-by-db-connection", int),
    )


def _relationship(arguments: Mapping[Any, Any]) -> Relationship | None:
    if "high-availability" not in arguments:
        return None
    relationships = _list(arguments, "high-availability", dict)
    if len(relationships) != 1:
        raise _unclear(f"{len(relationships)} HA relationships instead of one")
    servers = _get(relationships[0], "ha-servers", dict)
    local, remote = _get(servers, "local", dict), _get(servers, "remote", dict)
    return Relationship(
        mode=_get(relationships[0], "ha-mode", str),
        local=LocalServer(
            name=_get(local, "server-name", str) if "server-name" in local else None,
            role=_get(local, "role", str),
            state=_get(local, "state", str),
            scopes=_list(local, "scopes", str),
        ),
        remote=RemoteServer(
            name=_get(remote, "server-name", str) if "server-name" in remote else None,
            last_state=_get(remote, "last-state", str),
            in_touch=_get(remote, "in-touch", bool),
            age_s=_get(remote, "age", int),
            communication_interrupted=_get(remote, "communication-interrupted", bool),
        ),
    )


def _get(holder: Mapping[Any, Any], key: str, kind: type[_Kind]) -> _Kind:
    if key not in holder:
        raise _unclear(f"no {key}")
    return _of_kind(holder[key], kind, key)


def _list(holder: Mapping[Any, Any], key: str, kind: type[_Kind]) -> tuple[_Kind, ...]:
    return tuple(_of_kind(entry, kind, f"an entry of {key}") for entry in _get(holder, key, list))


def _of_kind(value: object, kind: type[_Kind], what: str) -> _Kind:
    # bool is an int to Python, but a count that reads `true` is not a count.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _unclear(f"{cut(repr(value), 80)} for {what}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise _unclear(f"a number beyond all measure for {what}")
    if isinstance(value, str) and len(value) > _LONGEST:
        raise _unclear(f"a text of {len(value)} characters for {what}")
    return value


def _unclear(what: str) -> ForeignError:
    return ForeignError(f"Kea's answer to status-get has {what}")
