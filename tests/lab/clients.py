"""DHCP clients that ask steadily and behave as real ones do, and what became of each.

`steady` runs them on the lab's client machine, on the card without an address: a new client twenty
times a second, each with a MAC of its own, that asks, takes the first offer, and retransmits after
4, 8, 16 s, a second more or less (RFC 2131, 4.1), with its waiting in `secs`. One whose offer comes
to nothing begins again after 10 s.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import AnyLab
from tests.lab import bench

#: One subnet for more clients than any test has.
MANY = [
    {
        "subnet": "192.168.0.0/16",
        "id": 1,
        "pools": ["192.168.16.0-192.168.250.255"],
        "options": {"routers": "192.168.1.1"},
    }
]


@dataclass
class Served:
    """What the clients met with; complete when `steady` has ended."""

    #: When the pair sent an ACK, by the client's clock: seconds, in order.
    acks: list[float] = field(default_factory=list)
    #: How long each client waited from its first DISCOVER to its ACK, in seconds.
    waits: list[float] = field(default_factory=list)
    #: MAC -> the address that it was given.
    leases: dict[str, str] = field(default_factory=dict)
    #: MACs of the clients that got nothing.
    unserved: list[str] = field(default_factory=list)
    #: When the last client began, by the clock of `acks`.
    last_arrival: float = 0.0

    @property
    def longest_gap(self) -> float:
        """The longest time between two ACKs of the pair while clients arrived, in seconds."""
        times = [one for one in self.acks if one < self.last_arrival] + [self.last_arrival]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    @property
    def given_twice(self) -> list[str]:
        """Addresses that two clients hold."""
        addresses = list(self.leases.values())
        return sorted({one for one in addresses if addresses.count(one) > 1})

    def __str__(self) -> str:
        return (
            f"{len(self.leases)} clients served, {len(self.unserved)} unserved, longest time "
            f"between ACKs {self.longest_gap:.2f} s, longest wait {max(self.waits):.2f} s"
        )


@contextmanager
def steady(lab: AnyLab, *, rate: int = 20) -> Iterator[Served]:
    """Clients from the first ACK until the block ends; then those that still wait get 40 s more."""
    code = (Path(__file__).with_name("client_machine.py")).read_text()
    argv = lab.command("client", ["python3", "-c", code, bench.card_name(lab), str(rate)])
    served = Served()
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "served\n", "no client is served to begin with"
        yield served
        process.stdin.close()
        served.__dict__.update(json.loads(process.stdout.read()))
    finally:
        process.kill()
        process.wait()
