"""What kea-dhcp4 wrote in its log, and which of it is an alarm.

Lines are judged by their message id, whose text differs between Kea versions ("server1: "
stands before it from 2.6 on, "(SSL routines)" behind it). An alarm is recent when it was
logged within the window and after the server last entered HOT-STANDBY; what came before
is over, and is reported without being held against the pair.

Refused TLS handshakes are judged with care, since our own negative controls cause them.
The HA listener logs one for whoever knocks without the right certificate, with the address
it came from. It counts when that is the partner's address and no heartbeat was received
after it: a heartbeat comes in with a certificate of the peers' CA alone, so it proves that
the partner is let in. Controls that end with a good `ha-heartbeat` therefore answer for
themselves, in this run and in the next. A connection that ended before it spoke TLS
("stream truncated") is a port check, from whatever address. Nothing is missed by this: a
handshake of the partner that failed is an alarm in the partner's own log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message; what it wrote over several lines is one `text`."""

    time: datetime
    """Naive: the local time of the host that wrote it."""
    severity: str
    logger: str
    """Such as `kea-dhcp4.ha-hooks`."""
    process: int
    id: str
    text: str


class Alarms(NamedTuple):
    """Alarms that stand, and alarms that are over; oldest first."""

    recent: tuple[LogLine, ...]
    older: tuple[LogLine, ...]


_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,6}) (?P<severity>[A-Z]{1,9}) +"
    r"\[(?P<logger>[\w.-]{1,99})/(?P<process>\d{1,10})\.\w+\] (?P<id>[A-Z][A-Z0-9_]{1,99})"
    r"(?: (?P<text>.*))?",
    re.ASCII | re.DOTALL,
)

# Kea messages manual. The HA ids are the same in 2.2, 2.6 and 3.0 but where noted.
_ALARM_IDS = frozenset({
    "HA_HEARTBEAT_COMMUNICATIONS_FAILED",
    "HA_HEARTBEAT_FAILED",
    "HA_COMMUNICATION_INTERRUPTED",
    "HA_COMMUNICATION_INTERRUPTED_CLIENT4",
    "HA_COMMUNICATION_INTERRUPTED_CLIENT4_UNACKED",
    "HA_LEASE_UPDATE_COMMUNICATIONS_FAILED",
    "HA_LEASE_UPDATE_FAILED",
    "HA_LEASE_UPDATE_CONFLICT",  # from 2.3.1 on
    "HA_LEASE_UPDATE_REJECTS_CAUSED_TERMINATION",
    "HA_SYNC_FAILED",
    "HA_LEASES_SYNC_FAILED",
    "HA_LEASES_SYNC_COMMUNICATIONS_FAILED",
    "HA_DHCP_DISABLE_FAILED",
    "HA_DHCP_DISABLE_COMMUNICATIONS_FAILED",
    "HA_DHCP_ENABLE_FAILED",
    "HA_DHCP_ENABLE_COMMUNICATIONS_FAILED",
    "HA_SYNC_COMPLETE_NOTIFY_FAILED",
    "HA_SYNC_COMPLETE_NOTIFY_COMMUNICATIONS_FAILED",
    "HA_TERMINATED",
    "HA_TERMINATED_PARTNER_DID_NOT_RESTART",
    "HA_HIGH_CLOCK_SKEW",
    "HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION",  # 2.2
    "HA_HIGH_CLOCK_SKEW_CAUSED_TERMINATION",  # from 2.4 on
    "HA_CONFIGURATION_FAILED",
    "HA_MISSING_CONFIGURATION",
    "HA_DHCP4_START_SERVICE_FAILED",  # from 2.4 on
    "HA_CONFIG_DHCP_MT_DISABLED",
    "HA_CONFIG_DHCP_MT_DISABLED_AND_KEA_MT_ENABLED",
    "HA_CONFIG_SYSTEM_MT_UNSUPPORTED",
    "HA_CONFIG_AUTO_FAILOVER_DISABLED",
    "HOOKS_LOAD_ERROR",
    "HTTP_CLIENT_QUEUE_SIZE_GROWING",
    "HTTP_PREMATURE_CONNECTION_TIMEOUT_OCCURRED",
    "DHCP4_PARSER_COMMIT_FAIL",
    "DHCP4_CONFIG_LOAD_FAIL",
    "DHCP4_CONFIG_UNRECOVERABLE_ERROR",
    "DHCP4_DYNAMIC_RECONFIGURATION_FAIL",
    "DHCP4_INIT_FAIL",
})  # fmt: skip
_ALARM_PATTERN = re.compile(r"HA_INVALID_PARTNER_STATE_|HA_CONFIG_LEASE_\w*DISABLED|\w+_SECURITY_")
# 2.2 goes on without its listener and says so in a message of another kind.
_NO_LISTENER = "CmdHttpListener::run failed"

_USUAL_START_S = 0.2
#: Of one message: how many lines after its first are taken, and how many characters.
_MOST_LINES, _LONGEST = 20, 4000
#: How many kinds of alarms are told one by one.
_MOST_KINDS = 30

_HANDSHAKE_ID = "HTTP_CONNECTION_HANDSHAKE_FAILED"
_HANDSHAKE = re.compile(r"TLS handshake with (?P<address>\S+) failed with (?P<reason>.*)")
_HUNG_UP = "stream truncated"
_TRANSITION = re.compile(r"from (?P<source>[A-Z-]+)(?: state)? to (?P<target>[A-Z-]+) state")
_BAD_TARGETS = frozenset({"WAITING", "PARTNER-DOWN", "TERMINATED"})


def parse_log(raw_lines: Iterable[str]) -> tuple[LogLine, ...]:
    """The messages in these lines, in their order.

    Takes Kea's own log files and what the daemon wrote to systemd's journal (`-o cat`).
    A line that begins no message continues the one before it; before the first it is dropped.
    Never raises: whatever else there is continues a message.
    """
    lines: list[LogLine] = []
    rest: list[str] = []

    def finish() -> None:
        if rest and lines:
            last = lines[-1]
            whole = "\n".join((last.text, *rest))[:_LONGEST]
            lines[-1] = LogLine(last.time, last.severity, last.logger, last.process, last.id, whole)
        rest.clear()

    for raw in raw_lines:
        match = _LINE.fullmatch(raw)
        time = time_of(match["time"]) if match else None
        if match is None or time is None:
            if len(rest) < _MOST_LINES:
                rest.append(raw)
            continue
        finish()
        lines.append(
            LogLine(
                time=time,
                severity=match["severity"],
                logger=match["logger"],
                process=int(match["process"]),
                id=match["id"],
                text=match["text"] or "",
            )
        )
    finish()
    return tuple(lines)


def start_took(lines: Sequence[LogLine]) -> float:
    """How long the server took to be in WAITING after its last start, in seconds.

    From its first line in its log, which it writes before it loads the leases.
    """
    took, first = _USUAL_START_S, None
    for line in lines:
        if first is None or line.process != first.process:
            first, waits = line, False
        elif line.id == "HA_LOCAL_DHCP_DISABLE" and not waits:
            took, waits = (line.time - first.time).total_seconds(), True
    return took


def alarms(
    lines: Sequence[LogLine], *, now: datetime, window: timedelta, partner_address: str
) -> Alarms:
    """The alarms in a host's log, parted at the later of `now - window` and its last entry
    into HOT-STANDBY.

    `now` is that host's local time, naive, as in its log; `window` is two heartbeats.
    `partner_address` is the address that the partner's connections come from.
    """
    begin = _begin(lines, now - window)
    answered = max(_positions(lines, _is_heartbeat), default=-1)
    recent: list[LogLine] = []
    older: list[LogLine] = []
    for position, line in enumerate(lines):
        refused = _HANDSHAKE.match(line.text) if line.id == _HANDSHAKE_ID else None
        if refused is not None:
            if refused["address"] != partner_address or refused["reason"].startswith(_HUNG_UP):
                continue
            over = position < begin or position < answered
        elif _is_alarm(line):
            over = position < begin
        else:
            continue
        (older if over else recent).append(line)
    return Alarms(tuple(recent), tuple(older))


def summary(found: Sequence[LogLine]) -> tuple[str, ...]:
    """Alarms in words, one sentence for each kind: how often, when last, and what it said."""
    kinds: dict[str, list[LogLine]] = {}
    for line in found:
        kinds.setdefault(line.id, []).append(line)
    told = tuple(
        f"{name} {'once' if len(group) == 1 else f'{len(group)} times, last'} "
        f"at {group[-1].time:%Y-%m-%d %H:%M:%S}: {group[-1].text}{_meaning(group[-1])}"
        for name, group in list(kinds.items())[:_MOST_KINDS]
    )
    more = len(kinds) - len(told)
    return (*told, f"and {more} more kinds of messages") if more > 0 else told


def first_contact_attempted(lines: Sequence[LogLine], partner_url: str) -> tuple[LogLine, ...]:
    """Heartbeats that Kea sent to this url and that were not answered.

    Evidence that it tries, where nothing listens there yet. One that is answered is not
    logged: then the HA status shows the partner in touch.
    """
    target = f"({partner_url.rstrip('/')}/)"
    return tuple(
        line
        for line in lines
        if line.id in ("HA_HEARTBEAT_COMMUNICATIONS_FAILED", "HA_HEARTBEAT_FAILED")
        and target in line.text
    )


def entered(line: LogLine) -> str:
    """The HA state that the server changed to by this line, as Kea tells it; empty if it did not.

    Kea writes them in upper case in its log, and in lower case in its status.
    """
    return (_target(line) or "").lower()


def last_transition(lines: Sequence[LogLine]) -> tuple[str, LogLine] | None:
    """The state that the server last changed to (upper case, as in the log), and the line."""
    for line in reversed(lines):
        if target := _target(line):
            return target, line
    return None


# OpenSSL's and the kernel's words in the texts of failed heartbeats and handshakes.
_REASONS = {
    "Connection refused": "nothing listens there",
    "No route to host": "the host is not on the network",
    "timed out": "no answer: the host is off, or a firewall drops it",
    "certificate verify failed": "the other side's certificate is expired, or not signed by "
    "the CA that this host trusts",
    "alert unknown ca": "the other side does not trust the CA of this host's certificate",
    "alert certificate expired": "this host's certificate is expired",
    "peer did not return a certificate": "the other side showed no certificate",
    "http request": "the other side speaks HTTP without TLS",
    "wrong version number": "the other side answers without TLS",
    "Address already in use": "another program has the port of the HA listener",
    "key values mismatch": "the key does not belong to the certificate",
}


def _meaning(line: LogLine) -> str:
    return next((f" ({words})" for reason, words in _REASONS.items() if reason in line.text), "")


def time_of(text: str) -> datetime | None:
    """A time as Kea's log has it, of this century; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is None and 2000 <= found.year < 2100 else None


def _begin(lines: Sequence[LogLine], earliest: datetime) -> int:
    """Where recent lines begin. By position, so that a clock that was set back (or the end
    of summer time) does not make old lines recent."""
    aged = max(_positions(lines, lambda line: line.time < earliest), default=-1)
    joined = max(_positions(lines, lambda line: _target(line) == "HOT-STANDBY"), default=-1)
    return max(aged, joined) + 1


def _positions(lines: Sequence[LogLine], test: Callable[[LogLine], bool]) -> Iterator[int]:
    return (position for position, line in enumerate(lines) if test(line))


def _is_heartbeat(line: LogLine) -> bool:
    return line.id == "COMMAND_RECEIVED" and "'ha-heartbeat'" in line.text


def _is_alarm(line: LogLine) -> bool:
    return (
        line.id in _ALARM_IDS
        or _ALARM_PATTERN.match(line.id) is not None
        or _NO_LISTENER in line.text
        or _target(line) in _BAD_TARGETS
    )


def _target(line: LogLine) -> str | None:
    if line.id != "HA_STATE_TRANSITION":
        return None
    match = _TRANSITION.search(line.text)
    return match["target"] if match else None
