"""The lab as a whole: up, down, and what is true of it now.

One lab runs on a machine at a time. A lock keeps commands that change it apart; a record says
which project brought it up. What there is to clean is found in the system's own state, so it
does not matter where an earlier command was killed.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from lab import access, cgroups, keeper, machine, network, places, trees
from lab.base import AnyLab
from lab.errors import LabError
from lab.lock import changing
from lab.record import Record, boot_id
from lab.virtual import VirtualLab

TOOLS = ("systemd-nspawn", "mmdebstrap", "ip", "ssh", "nc", "apt-ftparchive", "setpriv")


class Lab(AnyLab):
    """The quick lab: systemd-nspawn machines in network namespaces."""

    ENVIRONMENT = machine.ENVIRONMENT

    def __init__(self, project: Path = places.PROJECT) -> None:
        super().__init__(project)
        self.access = access.Access(project / ".lab")

    def up(self, debian: str = "13", report: Callable[[str], None] = print) -> None:
        """Bring up fresh machines, with hosts on Debian `debian`; replaces those of a running lab.

        Returns when every machine has booted and lets us in by ssh. Raises LabError when another
        project's lab is up, a tool is missing, or a machine does not come up.
        """
        recipes = trees.recipes(debian)
        _require_tools()
        with changing("up"), _usual_umask():
            self._refuse_virtual()
            self._refuse_another()
            _sweep(self.access)
            record = Record(
                project=str(self.project),
                debian=debian,
                trees={kind: str(recipe.path) for kind, recipe in recipes.items()},
                ready=False,
                boot=boot_id(),
            )
            record.write()
            trees.ensure(list(recipes.values()), report)
            started = time.monotonic()
            names = ", ".join(node.name for node in self.pair.nodes)
            report(f"booting {names} (hosts: Debian {debian})")
            key = self.access.make_key()
            host_keys = {
                node: machine.make_disk(node, recipes[node.kind].path, key)
                for node in self.pair.nodes
            }
            network.build_lan(self.pair)
            for node in self.pair.nodes:
                keeper.power_on(node, recipes[node.kind].path)
            for node in self.pair.nodes:
                failed = machine.wait_until_booted(node)
                if failed:
                    report(f"{node.name}: these units failed at boot: {', '.join(failed)}")
            self.access.write(host_keys)
            for node in self.pair.nodes:
                self.access.wait_for_ssh(node)
            replace(record, ready=True).write()
            report(f"up in {time.monotonic() - started:.1f} s")

    def down(self) -> None:
        """Remove the machines and everything else of the lab; nothing to do is fine.

        Raises LabError when the lab belongs to another project.
        """
        with changing("down"):
            self._refuse_another()
            _sweep(self.access)

    def kill(self, name: str) -> None:
        """Cut the power of a machine: no goodbye to anyone. What it wrote stays on its disk."""
        node = self.node(name)
        with changing(f"kill {name}"):
            self._require_up()
            keeper.power_off(node)

    def start(self, name: str) -> None:
        """Power a machine on, and wait until it has booted; fine if it is on."""
        node = self.node(name)
        with changing(f"start {name}"):
            record = self._require_up()
            if machine.init_pid(node) is None:
                keeper.power_off(node)
                keeper.power_on(node, Path(record.trees[node.kind]))
            machine.wait_until_booted(node)
            self.access.wait_for_ssh(node)

    def replace(self, name: str) -> None:
        """Put a fresh machine in the place of one that was lost: same name, nothing else."""
        node = self.node(name)
        with changing(f"replace {name}"), _usual_umask():
            record = self._require_up()
            keeper.power_off(node)
            tree = Path(record.trees[node.kind])
            self.access.trust(node, machine.make_disk(node, tree, self.access.public_key))
            keeper.power_on(node, tree)
            machine.wait_until_booted(node)
            self.access.wait_for_ssh(node)

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on the machine `name`; raises LabError if that is off."""
        return machine.command(self.node(name), argv)

    def is_up(self) -> bool:
        """Whether this project's lab is up. Single machines may be off all the same."""
        record = Record.read()
        return (
            record is not None
            and record.ready
            and record.project == str(self.project)
            and network.LAN in network.namespaces()
        )

    def is_on(self, name: str) -> bool:
        """Whether the machine `name` has power."""
        return machine.init_pid(self.node(name)) is not None

    def describe(self) -> list[str]:
        """What there is, in words, a line each."""
        record = Record.read()
        if record is None:
            return ["down"]
        if record.project != str(self.project):
            return [f"down; the quick lab of {record.project} is on this machine"]
        if not self.is_up():
            return ["down (an `up` did not finish)"]
        return [f"the quick lab is up, hosts on Debian {record.debian}, of {record.project}"] + [
            f"{node.name:8} {node.address!s:15} {'on' if self.is_on(node.name) else 'off'}"
            for node in self.pair.nodes
        ]

    def _require_up(self) -> Record:
        record = Record.read()
        if record is None or not self.is_up():
            raise LabError(f"the lab is {'; '.join(self.describe())}: `lab up` brings it up")
        return record

    def _refuse_another(self) -> None:
        """Raise LabError when another project's quick lab is on this machine."""
        record = Record.read()
        if record is None or not Path(record.project).is_dir():
            return
        alive = cgroups.processes() or network.namespaces()
        if alive and record.project != str(self.project):
            raise LabError(
                f"the quick lab of {record.project} is on this machine, and only one can be: bring "
                "that one down from there first"
            )

    def _refuse_virtual(self) -> None:
        """Raise LabError when this project's Vagrant lab is up: both lead pyinfra by one file."""
        if VirtualLab(self.project).is_up():
            raise LabError(
                "the Vagrant lab of this clone is up: end it first with `vagrant destroy -f`"
            )


def _sweep(own_access: access.Access) -> None:
    """Remove all of a quick lab that this machine has, however much or little that is."""
    own_access.remove()
    cgroups.destroy()
    for name in network.namespaces():
        for pid in network.occupants(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        network.remove(name)
    for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
        target = line.split()[1]
        if Path(target).is_relative_to(places.DISKS):
            subprocess.run(["umount", "--lazy", target], check=True)
    shutil.rmtree(places.DISKS, ignore_errors=True)
    (places.RUN / "lab.json").unlink(missing_ok=True)


def _require_tools() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root, to make namespaces and mounts: run it as root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"missing here: {', '.join(missing)}; `make setup` installs what is needed")


@contextmanager
def _usual_umask() -> Iterator[None]:
    """What is made within is readable by all, as on a Debian, whatever the caller's umask."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
