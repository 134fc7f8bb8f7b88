"""An operator's machine: a clone of the project with an inventory of stand-in hosts.

`Operator.run` is what a person types; it gives back what the person sees and what the exit status
says, and the record of what was done on which host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rollout.world import HERE, StandIn, World

PROJECT = HERE.parent.parent
_SHARED = ("deploy.py", "runbook", "kea_ha", "templates", "files", "lab")
# Quick, and with a margin: ages are whole seconds, and a busy machine is late.
SETTINGS: Mapping[str, Any] = {
    "_sudo": False,  # they are entered as root
    "subnets": [
        {
            "subnet": "192.0.2.0/24",
            "id": 1,
            "pools": ["192.0.2.100-192.0.2.199"],
            "options": {"routers": "192.0.2.1"},
            "relays": [],
        }
    ],
    "heartbeat_delay": 500,
    "max_response_delay": 5000,
    "max_ack_delay": 1000,
    "max_unacked_clients": 0,
}


@dataclass(frozen=True)
class Entry:
    """Something that happened: `what` is connect, operation (begins), ended or command."""

    time: float
    host: str
    what: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """A command of the operator's, when it has ended."""

    status: int
    output: str = field(repr=False)
    record: tuple[Entry, ...] = field(repr=False)
    seconds: float

    @property
    def last_block(self) -> str:
        """The last of them."""
        return self.blocks[-1] if self.blocks else ""

    @property
    def blocks(self) -> list[str]:
        """The last blocks, one for each pair."""
        return re.findall(r"^-{70,}\n(.*?)\n-{70,}$", self.output, flags=re.M | re.S)

    def must_say(self, *words: str) -> None:
        """Fail, showing all of it, unless each of these words is in the last block."""
        for one in words:
            if one not in self.last_block:
                raise AssertionError(f"{one!r} is not in the last block:\n{self.last_block}")

    def block_of(self, pair: str) -> str:
        """The last block of one pair."""
        return next(block for block in self.blocks if block.startswith(f"{pair}:"))

    @property
    def operations(self) -> list[tuple[str, str]]:
        """Host and name of each operation, in the order in which they began."""
        return [(entry.host, entry.text) for entry in self.record if entry.what == "operation"]

    def totals(self) -> tuple[int, int, int]:
        """Success (changed), Error and No Change of pyinfra's own grand total."""
        found = re.search(r"Grand total +(\d+) +(\S+) +(\S+) +(\S+)", self.output)
        assert found, self.output
        changed, errors, unchanged = (0 if n == "-" else int(n) for n in found.groups()[1:])
        return changed, errors, unchanged

    def commands_on(self, host: str) -> list[str]:
        """The commands that were run on a host."""
        return [e.text for e in self.record if e.host == host and e.what == "command"]

    @property
    def contacted(self) -> set[str]:
        """The hosts that were reached for at all."""
        return {entry.host for entry in self.record if entry.what == "connect"}

    @property
    def ended(self) -> int:
        """How many operations ended on all hosts."""
        return sum(entry.what == "ended" for entry in self.record)


@dataclass
class Operator:
    """One clone of the project, with `pairs` in its inventory: pair name -> hosts."""

    directory: Path
    world: World
    pairs: Mapping[str, Sequence[StandIn]]
    settings: dict[str, Any] = field(default_factory=dict)
    #: Of one pair, by its name: these win over `settings`.
    own_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    #: More of the inventory: pairs that are reached over ssh.
    over_ssh: str = ""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in _SHARED:
            (self.directory / name).symlink_to(PROJECT / name)
        (self.directory / "group_data").mkdir()
        (self.directory / "group_data/all.py").symlink_to(PROJECT / "group_data/all.py")

    def clone(self, name: str, *, pki: bool) -> Operator:
        """Another operator with the same inventory, on a machine of his own."""
        other = Operator(
            self.directory.with_name(name), self.world, self.pairs, dict(self.settings)
        )
        if pki:
            shutil.copytree(self.directory / "pki", other.directory / "pki")
        return other

    def run(self, *arguments: str) -> Outcome:
        """`pyinfra -y inventory.py deploy.py`, or with the arguments given, until it ends."""
        return self._start(arguments, {}).wait()

    def run_killed(self, *, after: int | None = None, before: str | None = None) -> Outcome:
        """The rollout, with SIGKILL `after` that many operations or `before` a command."""
        stop = {"operation": after} if after else {"before": before}
        return self._start((), stop).wait()

    def start_killed(self, *arguments: str, before: str) -> Outcome:
        """Another command, with SIGKILL `before` one on a host."""
        return self._start(arguments, {"before": before}).wait()

    def start(self, *arguments: str) -> Command:
        """The same, without waiting for its end."""
        return self._start(arguments, {})

    def start_and_hold(self, *arguments: str, after: str, on: str) -> Command:
        """The same, held when the operation with `after` in its name has ended on a host."""
        flag = self.directory / "held"
        command = self._start(arguments, {"after": after, "on": on, "flag": str(flag)})
        command.flag = flag
        while not flag.exists():
            if command.process.poll() is not None:
                raise AssertionError(f"it ended before {after!r}: {command.wait().output}")
            time.sleep(0.02)
        return command

    def _start(self, arguments: Sequence[str], stop: Mapping[str, Any]) -> Command:
        self._write_inventory()
        record = self.directory / f"record-{time.monotonic_ns()}"
        record.touch()
        hosts = [host for pair in self.pairs.values() for host in pair if host.name not in self.off]
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE / "connector"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYINFRA_PROGRESS": "off",
            "USER": self.directory.name,
            "STANDIN_HOSTS": json.dumps(
                {h.name: {"holder": h.holder, "enter": h.enter()} for h in hosts}
            ),
            "STANDIN_RECORD": str(record),
            "STANDIN_STOP": json.dumps(stop),
        }
        given = arguments or ("-y", "inventory.py", "deploy.py")
        return Command(
            subprocess.Popen(
                [
                    *(*self.world.enter(), "env", f"--chdir={self.directory}"),
                    *(str(Path(sys.executable).with_name("pyinfra")), *given),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ),
            record,
        )

    def _write_inventory(self) -> None:
        lines = ["from kea_ha.run import before_connecting", ""]
        for name, hosts in self.pairs.items():
            members = [
                (
                    f"@standin/{host.name}",
                    {"role": role, "server_name": server, "address": host.address},
                )
                for host, (role, server) in zip(
                    hosts, (("primary", "server1"), ("standby", "server2")), strict=True
                )
            ]
            data = {**SETTINGS, **self.settings, **self.own_settings.get(name, {})}
            lines.append(f"{name} = ({members!r}, {data!r})")
        lines += [self.over_ssh, "", "before_connecting()", ""]
        (self.directory / "inventory.py").write_text("\n".join(lines))


@dataclass
class Command:
    """A command of the operator's that runs."""

    process: subprocess.Popen[str]
    record: Path
    flag: Path | None = None
    _started: float = field(default_factory=time.monotonic)

    def wait(self) -> Outcome:
        """Wait until it has ended."""
        output, _ = self.process.communicate()
        entries = [Entry(**json.loads(line)) for line in self.record.read_text().splitlines()]
        return Outcome(
            self.process.returncode, output, tuple(entries), time.monotonic() - self._started
        )

    def let_go(self) -> None:
        """Let a held command go on."""
        assert self.flag is not None
        self.flag.unlink()

    def send(self, number: signal.Signals) -> None:
        """Send pyinfra a signal; its parent here only entered the world for it."""
        parent = self.process.pid
        child = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0]
        os.kill(int(child), number)
