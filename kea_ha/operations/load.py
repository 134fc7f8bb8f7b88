"""The load of a drill: DHCP clients that ask a pair, from the host of the group ``probes``.

They are ``files/drill-clients.py``, which is put there, and ends by itself whatever becomes of us.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import gevent
from pyinfra import inventory
from pyinfra.api.host import Host

from kea_ha import foreign
from kea_ha.decide import client_load
from kea_ha.decide.client_load import Told
from kea_ha.foreign import ForeignError
from kea_ha.host.survey import parse_interfaces
from kea_ha.kea import lease_file
from kea_ha.kea.lease_file import LeaseFileError
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.remote import AGAIN, ask, value_of, wait_until
from kea_ha.session.surveys import files_of
from kea_ha.settings.model import Pair, Subnet

_PROGRAM = Path("files/drill-clients.py")
_PLACE = "/run/kea-ha-drill"
#: How many clients ask in a second, and how much of what is free of the pools they may take.
_RATE, _SHARE = 20, 0.7
#: Fewer clients than that would ask too seldom.
_FEWEST = 10
#: What the clients tell at the very most: 60 bytes of each ACK, for an hour. Bytes.
_TOLD = 8 << 20
#: How long after their time the clients are listened to, in s: they wait, and release their leases.
_AFTERWARDS_S = 400


def probe() -> Host:
    """The host to probe from.

    :raises Refusal: when the inventory has none.
    """
    hosts = inventory.get_group("probes", [])
    if not hosts:
        raise Refusal(
            "the inventory has no host to probe from",
            "give it a group `probes` with one host on the clients' network, with Python",
            outcome="refused; nothing was changed",
        )
    return hosts[0]


@dataclass(frozen=True)
class Load:
    """Clients at work. Whoever starts them releases them, whatever happens in between."""

    probe: Host
    _asking: gevent.Greenlet

    @classmethod
    def start(cls, pair: Pair, *, spread_s: float, at_most_s: int) -> Load:
        """Have clients ask this pair, new ones for ``spread_s`` seconds; all end at ``at_most_s``.

        :raises Refusal: when they cannot be started, or may not take enough addresses.
        """
        on = probe()
        what = f"{on.name} cannot be probed from"
        remedy = "it has to have Python, and an address in a subnet that the pair serves"
        script = (
            f"rm -rf {_PLACE}; mkdir -p -m 700 {_PLACE}; "
            "command -v python3 >/dev/null || { echo 'no python3 there' >&2; exit 1; }\n"
            "ip -j -4 addr show | put interfaces"
        )
        try:
            told = value_of(on, script, "interfaces")
            network = client_load.network_of(pair, parse_interfaces(told))
        except ForeignError as error:
            raise Refusal(f"{what}: {error}", remedy) from error
        if network is None:
            raise Refusal(f"{what}: it has no address in a subnet of the pair", remedy)
        card, subnet = network
        answer = ask(on, f"cat > {_PLACE}/clients.py", stdin=_PROGRAM.read_text())
        if not answer.ok:
            raise Refusal(f"{what}: {answer.words}", AGAIN)
        settings = {
            "card": card,
            "rate": _RATE,
            "new": _may_take(pair, subnet),
            "seconds": spread_s,
            "seconds_at_most": at_most_s,
            "directory": _PLACE,
        }
        given = foreign.quoted(json.dumps(settings))
        command = f"exec python3 {_PLACE}/clients.py {given} </dev/null 2>&1"
        return cls(on, gevent.spawn(ask, on, command, timeout_s=at_most_s + _AFTERWARDS_S))

    def acks(self) -> int:
        """How many ACKs the clients have had so far; 0 also when that is not told."""
        said = self._printed(f"head -c 20 {_PLACE}/acks").strip()
        return int(said) if foreign.is_number(foreign.text(said)) else 0

    def await_acks(self, count: int, what: str) -> None:
        """Wait until they have had so many more; that is ``what`` is waited for.

        :raises Refusal: when they do not get them, or have ended.
        """
        first = self.acks()

        def missing() -> str:
            if self._asking.ready():
                raise Refusal(
                    f"the clients on {self.probe.name} ended: {self._asking.value.words}", AGAIN
                )
            seen = self.acks() - first
            return "" if seen >= count else f"{seen} of {count} ACKs"

        wait_until(missing, timeout_s=120, what=f"waited in vain until {what}", remedy=AGAIN)

    def stop(self) -> Told:
        """Have nobody ask any more, and give what became of all, by the clock of their host.

        Their leases they keep, until they are released.

        :raises Refusal: when they do not tell.
        """
        ask(self.probe, f"touch {_PLACE}/stop")
        told: list[bytes] = []

        def missing() -> str:
            told.append(self._printed(f"cat {_PLACE}/told"))
            return "" if told[-1].strip() else "the last clients are waited for"

        wait_until(missing, timeout_s=90, what="the clients do not come to an end", remedy=AGAIN)
        try:
            return Told.read(told[-1])
        except ForeignError as error:
            raise Refusal(f"what the clients told cannot be read: {error}", AGAIN) from error

    def release(self) -> None:
        """Have them stop, if they have not, and release their leases; not waited for."""
        ask(self.probe, f"touch {_PLACE}/stop {_PLACE}/release")

    def join(self) -> None:
        """Wait until they have released them, for half a minute at most."""
        self._asking.join(timeout=30)

    def ahead_s(self) -> float:
        """How far the clock of their host is ahead of this machine's, in seconds.

        :raises Refusal: when it does not tell its time.
        """
        before = time.time()
        said = foreign.text(self._printed("date +%s.%N")).strip()
        after = time.time()
        if not re.fullmatch(r"[0-9]{9,11}\.[0-9]{9}", said):
            raise Refusal(f"{self.probe.name} does not tell its time", AGAIN)
        return float(said) - (before + after) / 2

    def _printed(self, command: str) -> bytes:
        """What a command prints on their host; nothing when it does not tell."""
        try:
            return value_of(self.probe, f"{command} 2>/dev/null | put value", "value", most=_TOLD)
        except ForeignError:
            return b""


def _may_take(pair: Pair, subnet: Subnet) -> int:
    """How many addresses clients may take, by the leases of the server that serves.

    Not by Kea's statistics: in a pair they drift, as far as below nothing (seen on 2.6.3).
    """
    serving = pair.primary
    try:
        held = lease_file.load(files_of(serving, ()))
    except LeaseFileError as error:
        raise Refusal(f"{serving.name}: {error}", AGAIN) from error
    now = time.time() + RUN.skews.get(serving.name, 0.0)
    counted = client_load.free_addresses(subnet, held, now)
    may_take = int(counted * _SHARE)
    if may_take < _FEWEST:
        raise Refusal(
            f"{counted} addresses are free in {subnet.subnet}, and the clients of a drill take "
            f"{_SHARE:.0%} of them at most: {may_take} are too few to measure anything",
            f"have {ceil(_FEWEST / _SHARE)} free, with a larger pool; or probe from a host in "
            "another subnet of the pair",
        )
    return may_take
