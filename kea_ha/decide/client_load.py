"""The clients of a drill: from where they ask, how many addresses they find, and what they tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from kea_ha import foreign
from kea_ha.foreign import ForeignError
from kea_ha.host.survey import Interface
from kea_ha.kea.lease_file import LeaseSet
from kea_ha.settings.model import Pair, Subnet


@dataclass(frozen=True)
class Told:
    """What the clients told, times in seconds since the epoch by the clock of their host."""

    acks: tuple[tuple[float, str], ...]
    waits: tuple[float, ...]
    leases: Mapping[str, str]
    unserved: tuple[str, ...]
    clients: int
    last_arrival: float
    #: Addresses that were in two hands at one moment, whoever has them now.
    twice: tuple[str, ...]
    #: Leases that were refused to the client that held them.
    refused: tuple[str, ...]

    @classmethod
    def read(cls, said: bytes) -> Told:
        """What ``files/drill-clients.py`` wrote.

        :raises ForeignError: when it is something else: the host to probe from may be in other
            hands, and what it tells goes into questions to both servers, and into the report.
        """
        told = foreign.json_value(said, "what the clients told")
        match told:
            case {
                "acks": list(acks),
                "waits": list(waits),
                "leases": dict(leases),
                "unserved": list(unserved),
                "clients": int(clients),
                "last_arrival": last_arrival,
                "twice": list(twice),
                "refused": list(refused),
            }:
                return cls(
                    acks=tuple(map(_ack, acks)),
                    waits=tuple(map(_seconds, waits)),
                    leases={foreign.mac(m): foreign.ipv4(_word(a)) for m, a in leases.items()},
                    unserved=tuple(foreign.mac(_word(one)) for one in unserved),
                    clients=foreign.number(str(clients), 1_000_000),
                    last_arrival=_seconds(last_arrival),
                    twice=tuple(foreign.ipv4(_word(one)) for one in twice),
                    refused=tuple(foreign.ipv4(_word(one)) for one in refused),
                )
        raise ForeignError("what the clients told is not what they tell")

    @property
    def given_twice(self) -> tuple[str, ...]:
        """Addresses that two clients hold, or held at one moment."""
        held = sorted(self.leases.values())
        now = {one for one, other in pairwise(held) if one == other}
        return tuple(sorted(now | set(self.twice)))

    @property
    def held_by_one(self) -> Mapping[str, str]:
        """Addresses that one client holds, each with its MAC address.

        Of an address that two have the servers can hold one lease: that is given twice, not lost.
        """
        holders = Counter(self.leases.values())
        return {address: mac for mac, address in self.leases.items() if holders[address] == 1}


def _ack(told: object) -> tuple[float, str]:
    match told:
        case [at, str(server)]:
            return _seconds(at), foreign.ipv4(server)
    raise ForeignError("the clients told of an ACK without a time or a server")


def _seconds(told: object) -> float:
    if isinstance(told, int | float) and not isinstance(told, bool) and -1e11 < told < 1e11:
        return float(told)
    raise ForeignError(f"the clients told {foreign.cut(repr(told), 40)} for a time")


def _word(told: object) -> str:
    if isinstance(told, str):
        return told
    raise ForeignError(f"the clients told {foreign.cut(repr(told), 40)} for an address")


def network_of(pair: Pair, interfaces: Iterable[Interface]) -> tuple[str, Subnet] | None:
    """The card with which a host is in a subnet of the pair, and that subnet."""
    for one in interfaces:
        for address in one.addresses:
            for subnet in pair.settings.subnets:
                if subnet.holds(address):
                    return one.name, subnet
    return None


def free_addresses(subnet: Subnet, held: LeaseSet, now: float) -> int:
    """How many addresses of a subnet's pools nobody has, by these leases, at a moment (epoch s)."""
    pools = {range(int(first), int(last) + 1) for first, last in subnet.ranges}
    taken = sum(
        row.is_lease
        and (row.expire > now or row.valid_lifetime == _FOR_EVER)
        and row.state in (_HELD, _DECLINED)
        and any(int(row.address) in pool for pool in pools)
        for row in held.rows.values()
    )
    return sum(map(len, pools)) - taken


#: What a lease file has of a lease that never ends, and of what became of one.
_FOR_EVER, _HELD, _DECLINED = 0xFFFFFFFF, 0, 1
