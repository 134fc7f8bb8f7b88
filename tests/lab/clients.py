"""DHCP clients that ask steadily and behave as real ones do, and what became of each.

`steady` runs them on the lab's client machine, on the card without an address: a new client twenty
times a second, each with a MAC of its own. They are those of the failover drill.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab import AnyLab, places
from tests.lab import bench

CLIENTS = places.PROJECT / "files/drill-clients.py"
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
    place = "/run/steady"
    settings = {
        "card": bench.card_name(lab),
        "rate": rate,
        "new": 1_000_000,  # at once: each one that asks is a new client
        "seconds": 0.001,
        "seconds_at_most": 1800,
        "directory": place,
    }
    bench.sh(lab, "client", f"rm -rf {place}; mkdir -p {place}")
    argv = ["python3", "-c", CLIENTS.read_text(), json.dumps(settings)]
    served = Served()
    process = subprocess.Popen(lab.command("client", argv), stdin=subprocess.DEVNULL)
    try:
        bench.wait_for(
            "a client to be served",
            lambda: (
                bench.sh(lab, "client", f"cat {place}/acks", check=False).strip() not in ("", "0")
            ),
        )
        yield served
        bench.sh(lab, "client", f"touch {place}/stop")
        told = bench.wait_for(
            "the last clients",
            lambda: bench.sh(lab, "client", f"cat {place}/told", check=False),
            patience=60,
        )
        found = json.loads(told)
        served.acks = [at for at, _ in found["acks"]]
        for name in ("waits", "leases", "unserved", "last_arrival"):
            setattr(served, name, found[name])
    finally:
        process.kill()
        process.wait()


#: A subnet for the clients of `relayed`, which come by way of the client machine's own address.
BEHIND_A_RELAY = {
    "subnet": "10.9.0.0/16",
    "id": 2,
    "pools": ["10.9.1.0-10.9.250.255"],
    "relays": ["192.168.1.10"],
}

# What a relay agent sends: to both servers, from its port 67, with its own address in giaddr.
_RELAYED = """
import itertools, socket, struct, sys, time
relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
relay.bind(("192.168.1.10", 67))
relay.settimeout(0.3)
def ask(number, options):
    mac = bytes([2, 9]) + struct.pack("!I", number)
    head = struct.pack("!BBBBIHH", 1, 1, 6, 1, number, 0, 0) + bytes(12)
    message = head + socket.inet_aton("192.168.1.10")
    message += mac + bytes(202) + bytes.fromhex("63825363") + options + b"\\xff"
    for server in sys.argv[1:]:
        relay.sendto(message, (server, 67))
    try:
        return relay.recv(2000)
    except TimeoutError:
        return b""
served = 0
for number in itertools.count(1):
    offer = ask(number, bytes([53, 1, 1]))
    if offer:
        at = offer.index(bytes([54, 4]), 240)
        held = offer[16:20]
        ack = ask(number, bytes([53, 1, 3, 50, 4]) + held + offer[at:at + 6])
        served += bytes([53, 1, 5]) in ack[240:]
    with open("/run/relayed", "w") as file:
        file.write(str(served))
    time.sleep(0.05)
"""


@contextmanager
def relayed(lab: AnyLab) -> Iterator[None]:
    """New clients in a subnet of their own (`BEHIND_A_RELAY`), as long as the block goes on."""
    argv = ["python3", "-c", _RELAYED, *bench.HOSTS.values()]
    bench.sh(lab, "client", "rm -f /run/relayed")
    process = subprocess.Popen(lab.command("client", argv), stdin=subprocess.DEVNULL)
    try:
        bench.wait_for(
            "clients behind a relay to be served",
            lambda: bench.sh(lab, "client", "cat /run/relayed", check=False).strip() > "0",
        )
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
