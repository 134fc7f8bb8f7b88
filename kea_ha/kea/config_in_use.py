"""What the document on a host says that its server was to be started with.

The settings at hand say what a server is to become; until it has been changed it is judged by what
it was given: its own heartbeats, threads, subnets and peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kea_ha.kea.config_diff import parse_document, remembered
from kea_ha.kea.status import Threads


@dataclass(frozen=True)
class Running:
    """Those parts of a server's document that it is judged by."""

    heartbeat: timedelta
    sync_timeout: timedelta
    threads: Threads
    #: By id: the subnet's prefix. Leases are kept, and sent to the partner, under the id.
    subnets: Mapping[int, str]
    #: By server name: the url at which its partner reaches it, and its role.
    peers: Mapping[str, tuple[str, str]]


def patience_s(heartbeat_ms: float, sync_timeout_ms: float) -> float:
    """How long a healthy server may take from its start to hot-standby, in seconds.

    A heartbeat for each of waiting, syncing, ready and hot-standby, two of margin, the
    synchronisation itself, and Kea's own request timeout (10 s, not configurable).
    """
    return (6 * heartbeat_ms + sync_timeout_ms) / 1000 + 10


@remembered(8 << 20)
def read(text: str) -> Running | None:
    """What a document says; None when it is none of ours."""
    try:
        return parse(parse_document(text))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return None  # somebody wrote another one there


def parse(document: Mapping[str, Any]) -> Running:
    """Read a document of kea-dhcp4 as this project writes it.

    :raises LookupError, TypeError, ValueError, AttributeError, OverflowError: for any other.
    """
    dhcp4 = document["Dhcp4"]
    (relationship,) = (
        one
        for hook in dhcp4["hooks-libraries"]
        for one in hook.get("parameters", {}).get("high-availability", ())
    )
    threads = dhcp4["multi-threading"]
    return Running(
        heartbeat=_delay(relationship["heartbeat-delay"]),
        sync_timeout=_delay(relationship["sync-timeout"]),
        threads=Threads(int(threads["thread-pool-size"]), int(threads["packet-queue-size"])),
        subnets={int(one["id"]): str(one["subnet"]) for one in dhcp4["subnet4"]},
        peers={
            str(one["name"]): (str(one["url"]), str(one["role"])) for one in relationship["peers"]
        },
    )


def _delay(value: Any) -> timedelta:
    """A delay, of what the settings allow: by it is waited."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LONGEST_MS:
        raise ValueError(f"{value!r} is no delay")
    return timedelta(milliseconds=value)


#: The longest that a setting may be. ms.
_LONGEST_MS = 3_600_000
