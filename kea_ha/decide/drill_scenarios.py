"""The failover drill: what each scenario does to a pair, and what its settings say must come of it.

Pure. A scenario is a fault on one host (or on both), the way back, and the time that Kea's settings
imply (Kea ARM, "High Availability State Machine"; the rule is ``shouldPartnerDown`` in its source).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kea_ha import foreign, layout
from kea_ha.host import put_back_timer
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


# Held down: systemd would start it again within two seconds. In /run, so that no reboot keeps it;
# last by its name, since the rollout's own drop-in says otherwise.
_KILL = """mkdir -p /run/systemd/system/{unit}.d &&
printf '[Service]\\nRestart=no\\n' > /run/systemd/system/{unit}.d/zz-kea-ha-drill.conf &&
systemctl daemon-reload && systemctl kill -s KILL {unit}"""
_REVIVE = """rm -f /run/systemd/system/{unit}.d/zz-kea-ha-drill.conf; systemctl daemon-reload
systemctl reset-failed {unit} 2>/dev/null; systemctl start {unit}"""
_CUT = """nft -f - <<'END'
table inet kea_ha_drill {{
  chain in {{ type filter hook input priority -10; tcp dport {port} drop; tcp sport {port} drop; }}
  chain to {{ type filter hook output priority -10; tcp dport {port} drop; tcp sport {port} drop; }}
}}
END"""
_MEND = "nft delete table inet kea_ha_drill 2>/dev/null; true"
# It ends by itself, whatever becomes of the drill.
_CUT_S, _WHOLE_S, _CUTS = 1.5, 3, 5
_FLAP = f"""command -v nft >/dev/null || {{{{ echo "nft is not there" >&2; exit 1; }}}}
cat > /run/kea-ha-drill-flap <<'SCRIPT'
for cut in $(seq {_CUTS}); do {_CUT}
sleep {_CUT_S}; {_MEND}; sleep {_WHOLE_S}; done; rm -f /run/kea-ha-drill-flap
SCRIPT
setsid sh /run/kea-ha-drill-flap >/dev/null 2>&1 </dev/null &"""
# Both what Kea sends through the kernel and what it sends past it, as DHCP's raw packets are. ssh
# and what it needs to find its way are let through, or the host could not be told to come back.
_ISOLATE = """ports=$(sshd -T 2>/dev/null | sed -n 's/^port //p' | paste -sd,)
nft -f - <<END
table netdev kea_ha_drill {{
  chain in {{ type filter hook ingress device {interface} priority -10;
    ether type arp accept; meta l4proto ipv6-icmp accept;
    tcp dport {{ ${{ports:-22}} }} accept; drop; }}
  chain to {{ type filter hook egress device {interface} priority -10;
    ether type arp accept; meta l4proto ipv6-icmp accept;
    tcp sport {{ ${{ports:-22}} }} accept; drop; }}
}}
END"""
_REJOIN = "nft delete table netdev kea_ha_drill 2>/dev/null; true"
# By a handle of its own, so that only that is taken away.
_SLOW = "tc qdisc add dev {interface} root handle 4ea: tbf rate 32kbit burst 4kb latency 400ms"
_UNSLOW = (
    "! tc qdisc show dev {interface} | grep -q 'tbf 4ea: root' || tc qdisc del dev {interface} root"
)
# Both servers have to start anew to get out of it, so it is a fault of both, in one clock.
_DRIFT = """[ {role} = standby ] || exit 0
mkdir -p /run/systemd/system/{unit}.d &&
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null &&
printf '[Service]\nEnvironment=FAKETIME=+70s FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=%s\n' \
  /usr/lib/*/faketime/libfaketime.so.1 > /run/systemd/system/{unit}.d/zz-kea-ha-drill.conf &&
systemctl daemon-reload && systemctl restart {unit}"""
_UNDRIFT = """rm -f /run/systemd/system/{unit}.d/zz-kea-ha-drill.conf; systemctl daemon-reload
systemctl restart {unit}"""

# Kea keeps a connection that is good, so that it does not notice before it has to make a new one.
# Put back is only what is still there of the drill: somebody may have made a new one meanwhile.
_SAVED, _EXPIRED = (f"{layout.STATE_DIR}/drill-{name}.crt" for name in ("saved", "expired"))
_EXPIRE = f"""cp -p {layout.HA_CERTIFICATE} {_SAVED} && cp -p {_SAVED} {_EXPIRED} &&
cat > {_EXPIRED} && cp -p {_EXPIRED} {layout.HA_CERTIFICATE}.new &&
mv -f {layout.HA_CERTIFICATE}.new {layout.HA_CERTIFICATE} && systemctl restart {{unit}}"""
_UNEXPIRE = f"""[ -f {_SAVED} ] || exit 0
if cmp -s {_EXPIRED} {layout.HA_CERTIFICATE}; then
  cp -p {_SAVED} {layout.HA_CERTIFICATE}.new || exit 1
  mv -f {layout.HA_CERTIFICATE}.new {layout.HA_CERTIFICATE} || exit 1
fi
! cmp -s {_SAVED} {layout.HA_CERTIFICATE} || systemctl restart {{unit}} || exit 1
rm -f {_SAVED} {_EXPIRED}"""

_PRIMARY, _STANDBY = status.PRIMARY, status.STANDBY
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "primary-killed",
            "kea-dhcp4 on the primary is killed and held down",
            *(_PRIMARY, _STANDBY, _KILL, _REVIVE),
            down=True,
        ),
        Kind(
            "standby-killed",
            "kea-dhcp4 on the standby is killed and held down",
            *(_STANDBY, _PRIMARY, _KILL, _REVIVE),
            down=True,
        ),
        Kind(
            "primary-back",
            "the primary comes back after its standby has taken over",
            *(_PRIMARY, _STANDBY, _KILL, _REVIVE),
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
            *(_PRIMARY, _STANDBY, _ISOLATE, _REJOIN),
            apart=True,
            silent=True,
        ),
        Kind(
            "link-cut",
            "the servers do not reach each other, and both are alive",
            *(_STANDBY, _PRIMARY, _CUT, _MEND),
            apart=True,
            silent=True,
        ),
        Kind(
            "flapping",
            "the link between the servers is cut five times, for a second and a half each",
            *(_STANDBY, "", _FLAP, _MEND),
            lasts_s=_CUTS * (_CUT_S + _WHOLE_S) + 1,
        ),
        Kind(
            "slow-link",
            "the standby's card is limited to 32 kbit/s",
            *(_STANDBY, "", _SLOW, _UNSLOW),
            lasts_s=20,
        ),
        Kind(
            "both-down-together",
            "kea-dhcp4 on both hosts is killed, and started again together",
            *("", "", _KILL, _REVIVE),
            down=True,
        ),
        Kind(
            CERTIFICATE_EXPIRED,
            "the standby's certificate has expired, and the servers turn each other away",
            *(_STANDBY, _PRIMARY, _EXPIRE, _UNEXPIRE),
            apart=True,
        ),
        Kind(
            "clock-drift",
            "the standby's clock is 70 s ahead, which ends high availability",
            *("", "", _DRIFT, _UNDRIFT),
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


def fault_script(kind: Kind, **names: object) -> str:
    """Make the fault, once it is sure that the host is put back by itself in any case.

    ``names`` are the host's ``role``, ``unit``, ``port`` and ``interface``. The script reads the
    expired certificate (PEM), where one is wanted.
    """
    names = _words(names)
    timer = put_back_timer.arm(put_back_timer.DRILL, PUT_BACK_S, kind.way_back.format(**names))
    first = put_back_timer.run_now(put_back_timer.DRILL)
    return f"{first}\n{timer} || exit 1\n{kind.fault.format(**names)}"


def way_back_script(kind: Kind, **names: object) -> str:
    """Put the host back, and its timer away if that worked."""
    names = _words(names)
    return (
        f"(\n{kind.way_back.format(**names)}\n)\n"
        f"code=$?; [ $code -ne 0 ] || {put_back_timer.call_off(put_back_timer.DRILL)}; exit $code"
    )


def _words(names: Mapping[str, object]) -> dict[str, object]:
    return {name: foreign.quoted(str(value)) for name, value in names.items()}


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
