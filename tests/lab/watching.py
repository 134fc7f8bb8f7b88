"""Watchers: for secrets that come out (process arguments, files that others can read), and of what
passes on the wire.

They run beside a rollout and keep what they saw; the secrets are made in its course, so they are
sought in it afterwards.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from lab import Lab
from tests.lab import bench


@dataclass(frozen=True)
class Secret:
    """Something that must be in `place` and nowhere else; any of `needles` gives it away."""

    name: str
    place: str
    needles: tuple[bytes, ...] = field(repr=False)

    def is_in(self, content: bytes) -> bool:
        """Whether the secret, or a piece of it, is there."""
        return any(needle in content for needle in self.needles)


def key_needles(pem: str, passphrase: str | None = None) -> tuple[bytes, ...]:
    """What gives an EC P-256 key away: its own lines, as stored and in clear, and its number."""
    if "OPENSSH" in pem:
        key = load_ssh_private_key(pem.encode(), passphrase.encode() if passphrase else None)
    else:
        key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    # Of the clear form the first two lines hold the number, the third what is public anyway.
    lines = [*clear.splitlines()[1:3], *pem.splitlines()[1:3]]
    texts = [*lines, number.hex(), number.hex(":"), base64.b64encode(number).decode()]
    return tuple(dict.fromkeys(text.encode() for text in texts))


class Arguments:
    """Samples the arguments of every process there is, on the operator's side and on machines.

    A process that lives for less than a round can slip through; the commands that pyinfra runs are
    on the screen at -vvv as well, where they are sought too.

    Of the machines' processes, the environment as well: what an operator's own process inherits is
    nobody else's to read.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        known: dict[str, bytes] = {}
        while not self._stop.is_set():
            now: dict[str, bytes] = {}
            for process in Path("/proc").iterdir():
                if not process.name.isdigit():
                    continue
                with suppress(OSError):
                    arguments = (process / "cmdline").read_bytes()
                    now[process.name] = arguments
                    if known.get(process.name) != arguments:
                        self.seen.add(arguments)
                        if b"kea-ha-lab" in (process / "cgroup").read_bytes():
                            self.seen.add((process / "environ").read_bytes())
            known = now
            self.rounds += 1
            self._stop.wait(0.01)

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        self._thread.join()


_READ_AS_ANYBODY = """
import json, os, stat, sys, time
seen, folders, by_mode = {}, sys.argv[2:], sys.argv[1] == "by-mode"
while True:
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    about = os.lstat(path)
                    if not stat.S_ISREG(about.st_mode) or about.st_size > 1 << 20:
                        continue
                    if by_mode and not about.st_mode & stat.S_IROTH:
                        continue
                    mark = about.st_ino, about.st_size, about.st_mtime_ns, about.st_mode
                    if seen.get(path) == mark:
                        continue
                    content = open(path, "rb").read()
                except OSError:
                    continue
                seen[path] = mark
                print(json.dumps([path, content.decode("latin-1")]), flush=True)
    time.sleep(0.02)
"""


class Readable:
    """Keeps every version of every file in `folders` that another user can read.

    On a machine it is another user who looks; on the operator's side (`lab` None) root does, and
    goes by the files' own modes.
    """

    def __init__(self, log: Path, folders: Iterable[str], lab: Lab | None, machine: str) -> None:
        self.machine = machine
        self._log = log
        python = ["python3", "-c", _READ_AS_ANYBODY]
        with log.open("wb") as out:
            if lab is None:
                self._process = subprocess.Popen([*python, "by-mode", *folders], stdout=out)
            else:
                nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
                self._process = lab.popen(
                    machine, [*nobody, *python, "by-access", *folders], stdout=out
                )

    def files(self) -> list[tuple[str, bytes]]:
        """What was readable so far: path and content."""
        found = []
        for line in self._log.read_bytes().split(b"\n")[:-1]:
            path, content = json.loads(line)
            found.append((path, content.encode("latin-1")))
        return found

    def stop(self) -> None:
        """End the watch."""
        self._process.terminate()
        self._process.wait()


def places_of(secret: Secret, trees: Mapping[str, Path]) -> set[str]:
    """Where in these trees of files a secret is: `NAME:path`, whoever may read it."""
    found = set()
    for name, top in trees.items():
        for path in top.rglob("*"):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink() and secret.is_in(path.read_bytes()):
                    found.add(f"{name}:/{path.relative_to(top)}")
    return found


@contextmanager
def capture(lab: Lab, name: str, file: Path, what: str = "tcp port 8000") -> Iterator[None]:
    """What passes of this on a machine's card during the block, in `file`: of the peers' link."""
    with file.open("wb") as out, file.with_suffix(".err").open("wb") as err:
        # As root: with another user it would forget to end with what started it.
        options = ("-Z", "root", "-i", "enp0s8", "-s0", "--immediate-mode", "-U", "-w", "-")
        process = lab.popen(name, ["tcpdump", *options, what], stdout=out, stderr=err)
        try:
            bench.wait_for(
                "tcpdump to listen",
                lambda: b"listening on" in file.with_suffix(".err").read_bytes(),
            )
            yield
        finally:
            process.terminate()
            process.wait()


def ack_times(file: Path) -> list[float]:
    """When each DHCPACK of a capture passed, in seconds since the epoch."""
    raw, at = file.read_bytes(), 24
    found = []
    while at + 16 <= len(raw):
        seconds, micros, length = struct.unpack_from("<III", raw, at)
        packet = raw[at + 16 + 14 : at + 16 + length]  # behind the Ethernet header
        at += 16 + length
        # Kea puts the message type first of all options (RFC 2132, 9.6).
        if packet[20:22] == b"\x00\x43" and packet[28 + 240 : 28 + 243] == b"\x35\x01\x05":
            found.append(seconds + micros / 1e6)
    return found
