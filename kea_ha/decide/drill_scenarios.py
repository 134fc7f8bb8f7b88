"""The failover drill: what each scenario does to a pair, and what its settings say must come of it.

Pure. A scenario is a fault on one host (or on both), the way back, and the time that Kea's settings
imply (Kea ARM, "High Availability State Machine"; the rule is ``shouldPartnerDown`` in its source).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kea_ha.host import put_back_timer
from kea_ha.host.script import script
from kea_ha.kea import status
from kea_ha.settings.model import Node, Pair

#: How long a host is given to be put back by its own timer, whatever becomes of the drill, in s.
PUT_BACK_S = 900
#: Beyond what the settings imply: for starting, measuring, and a busy machine, in seconds.
MARGIN_S = 1.0
#: Kea's own limit on a request to a host that says nothing, in seconds; not configurable.
REQUEST_S = 10
#: How long a server may take from the order to start until it asks its partner, in seconds.
START_S = 2
#: A client that is not answered asks again after 4 s (RFC 2131, 4.1). In a longer outage those that
#: may take an address are soon all waiting.
ASKED_AGAIN_S = 4
#: A client's third message comes 12 s after its first (RFC 2131, 4.1), its fourth 28 s after it.
RETRANSMISSION_S = 16

#: The scenario for which an expired certificate has to be made.
CERTIFICATE_EXPIRED = "certificate-expired"


@dataclass(frozen=True)
class Kind:
    """A scenario: ``victim`` is a role, or empty for both hosts; ``takes_over`` names the role that
    is to serve alone meanwhile, or is empty when nobody has to.

    ``apart``: both are alive and serve for a while, each taking itself to be alone: then, by Kea's
    design, a client may be refused its lease by the other one, and two be given one address.
    ``silent``: a request to the victim is not refused, but goes unanswered. ``down``: its server
    does not run meanwhile. ``in_lab``: for the labs alone; one without scripts is a power cut.
    ``fault`` and ``way_back``: shell functions of ``files/host/drill_*.sh``.
    ``back``: what is measured is the way back. ``lasts_s``: for how long it is left as it is, in
    seconds; ``ends_in``: which HA state of both servers is awaited first.
    """

    name: str
    what: str
    victim: str
    takes_over: str
    fault: str = ""
    way_back: str = ""
    apart: bool = False
    silent: bool = False
    down: bool = False
    in_lab: bool = False
    back: bool = False
    lasts_s: float = 0
    ends_in: str = ""


#: A flapping link: so long cut and so long whole, in seconds, so many times.
_CUT_S, _WHOLE_S, _CUTS = 1.5, 3, 5

_PRIMARY, _STANDBY = status.PRIMARY, status.STANDBY
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "primary-killed",
            "kea-dhcp4 on the primary is killed and held down",
            *(_PRIMARY, _STANDBY, "hold_down", "revive"),
            down=True,
        ),
        Kind(
            "standby-killed",
            "kea-dhcp4 on the standby is killed and held down",
            *(_STANDBY, _PRIMARY, "hold_down", "revive"),
            down=True,
        ),
        Kind(
            "primary-back",
            "the primary comes back after its standby has taken over",
            *(_PRIMARY, _STANDBY, "hold_down", "revive"),
            down=True,
            back=True,
        ),
        Kind(
            "primary-powered-off",
            "the primary's host loses its power",
            *(_PRIMARY, _STANDBY),
            silent=True,
            down=True,
            in_lab=True,
        ),
        Kind(
            "host-isolated",
            "the primary's host is cut off from clients and from its partner",
            *(_PRIMARY, _STANDBY, "isolate", "rejoin"),
            apart=True,
            silent=True,
        ),
        Kind(
            "link-cut",
            "the servers do not reach each other, and both are alive",
            *(_STANDBY, _PRIMARY, "cut_link", "mend_link"),
            apart=True,
            silent=True,
        ),
        Kind(
            "flapping",
            "the link between the servers is cut five times, for a second and a half each",
            *(_STANDBY, "", "flap", "mend_link"),
            lasts_s=_CUTS * (_CUT_S + _WHOLE_S) + 1,
        ),
        Kind(
            "slow-link",
            "the standby's card is limited to 32 kbit/s",
            *(_STANDBY, "", "slow_down", "speed_up"),
            lasts_s=20,
        ),
        Kind(
            "both-down-together",
            "kea-dhcp4 on both hosts is killed, and started again together",
            *("", "", "hold_down", "revive"),
            down=True,
        ),
        Kind(
            CERTIFICATE_EXPIRED,
            "the standby's certificate has expired, and the servers turn each other away",
            *(_STANDBY, _PRIMARY, "expire", "unexpire"),
            apart=True,
        ),
        Kind(
            "clock-drift",
            "the standby's clock is 70 s ahead, which ends high availability",
            *("", "", "drift", "undrift"),
            in_lab=True,
            ends_in=status.TERMINATED,
        ),
    )
}


def victims(pair: Pair, kind: Kind) -> tuple[Node, ...]:
    """The hosts on which the fault is made."""
    return tuple(node for node in pair.nodes if kind.victim in ("", node.role))


def survivor(pair: Pair, kind: Kind) -> Node | None:
    """The host that is to serve alone meanwhile."""
    return next((node for node in pair.nodes if node.role == kind.takes_over), None)


def fault_script(kind: Kind, **names: str | int) -> str:
    """Make the fault, once it is sure that the host is put back by itself in any case.

    ``names`` are the host's ``role``, ``unit``, ``port`` and ``interface``. The script reads the
    expired certificate (PEM), where one is wanted.
    """
    flapping = script(
        *("drill_ways_back", "drill_faults", "drill_flapping"),
        **names,
        cuts=_CUTS,
        cut_s=f"{_CUT_S:g}",
        whole_s=_WHOLE_S,
    )
    first = put_back_timer.run_now(put_back_timer.DRILL)
    timer = put_back_timer.arm(put_back_timer.DRILL, PUT_BACK_S, _way_back(kind, names))
    fault = script("drill_faults", **names, flapping=flapping)
    return f"{first}\n{timer} || exit 1\n{fault}{kind.fault}\n"


def way_back_script(kind: Kind, **names: str | int) -> str:
    """Put the host back, and its timer away if that worked."""
    return (
        f"{_way_back(kind, names)}code=$?; "
        f"[ $code -ne 0 ] || {put_back_timer.call_off(put_back_timer.DRILL)}; exit $code"
    )


def _way_back(kind: Kind, names: Mapping[str, str | int]) -> str:
    return script("drill_ways_back", **names) + f"{kind.way_back}\n"


@dataclass(frozen=True)
class Implied:
    """What Kea's settings make of it; None where they do not say."""

    longest_gap_s: float | None
    until_partner_down_s: float | None
    words: str
    """Which delay adds what."""


def implied(pair: Pair, kind: Kind) -> Implied:
    """How long the settings say that clients wait, and why."""
    settings = pair.settings
    heartbeat_s, response_s = settings.heartbeat_delay / 1000, settings.max_response_delay / 1000
    if kind.back:
        words = f"two heartbeats of {heartbeat_s:g} s at most: one of each server"
        return Implied(2 * heartbeat_s, None, words)
    if kind.victim == "":
        words = f"three heartbeats of {heartbeat_s:g} s, and {START_S} s until both run again"
        return Implied(3 * heartbeat_s + START_S, None, words)
    if kind.name == "flapping" and response_s > _CUT_S:
        words = f"a cut of {_CUT_S:g} s, and as long again until TCP tries anew after it"
        return Implied(2 * _CUT_S, None, words)
    down_s = response_s + heartbeat_s
    if not kind.takes_over:
        words = "not more than if the partner were silent: max_response_delay, a heartbeat, and"
        words += f" {REQUEST_S} s until Kea gives up a request"
        return Implied(down_s + REQUEST_S, None, words)
    words = f"max_response_delay {response_s:g} s and one heartbeat of {heartbeat_s:g} s"
    asked_s = 0
    if kind.silent:
        # The first request that is given up already tells, if so much time has passed by then.
        over = response_s <= REQUEST_S
        down_s = heartbeat_s + REQUEST_S + (0 if over else response_s)
        words = f"one heartbeat of {heartbeat_s:g} s" if over else words
        words += f", {REQUEST_S} s until Kea gives up a request that nobody answers"
        asked_s = ASKED_AGAIN_S
        words += f"; and up to {asked_s} s until clients ask again"
    if kind.takes_over == _STANDBY and settings.max_unacked_clients:
        down_s += settings.max_ack_delay / 1000 + RETRANSMISSION_S
        words += (
            f", until {settings.max_unacked_clients + 1} clients ask again after more than "
            f"max_ack_delay {settings.max_ack_delay / 1000:g} s: up to {RETRANSMISSION_S} s more"
        )
    if kind.apart:
        words += (
            ". Both serve until they have found each other again: meanwhile a client may be "
            "refused its lease, and an address be given twice"
        )
    return Implied(max(down_s, 2 * heartbeat_s) + asked_s, down_s, words)
