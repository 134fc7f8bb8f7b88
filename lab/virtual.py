"""The Vagrant lab, seen from Python: the virtual machines that `vagrant up` made for this clone.

Vagrant makes and destroys them, by the Vagrantfile and lab/vagrant.rb; here they are entered,
switched off and on. Which there are is what Vagrant's own directory says.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence

from lab.base import AnyLab
from lab.errors import LabError


class VirtualLab(AnyLab):
    """The Vagrant lab: virtual machines, by libvirt or VirtualBox."""

    def is_up(self) -> bool:
        """Whether there are virtual machines of this project, on or off."""
        return bool(self._machines())

    def describe(self) -> list[str]:
        """What there is, in words, a line each. Asks Vagrant, which takes seconds."""
        machines = self._machines()
        if not machines:
            return ["down"]
        done = subprocess.run(
            ["vagrant", "status", "--machine-readable", *machines],
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )
        # Lines of: when, which machine, what is told of it, and that.
        facts = [line.split(",") for line in done.stdout.splitlines()]
        states = {fact[1]: fact[3] for fact in facts if fact[2:3] == ["state"]}
        words = {"running": "on", "shutoff": "off", "poweroff": "off"}
        return [f"the Vagrant lab is up, of {self.project}"] + [
            f"{name:8} {self.node(name).address!s:15} "
            f"{words.get(states.get(name, ''), states.get(name, 'unknown'))}"
            for name in machines
        ]

    def down(self) -> None:
        """Destroy the machines, and all that Vagrant made for them."""
        self._vagrant("destroy", "--force")

    def kill(self, name: str) -> None:
        """Cut the power of a machine: no goodbye to anyone. What it wrote stays on its disk."""
        self._vagrant("halt", "--force", self._existing(name))

    def start(self, name: str) -> None:
        """Power a machine on, and wait until it lets us in; the client is made if need be."""
        self._vagrant("up", self.node(name).name)

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` as root on the machine `name`, by ssh and sudo.

        Its exit status is 255 also when the machine did not let us in. Without a terminal, `argv`
        goes on when the command is ended.
        """
        access = self.project / ".lab/ssh_config"
        self._existing(name)
        if not (access.exists() and f"Host {name}\n" in access.read_text()):
            raise LabError(f"{name} has not come up: `vagrant up {name}` brings it up")
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"]
        if sys.stdin.isatty() and sys.stdout.isatty():
            options.append("-t")  # for a person: an editor works, and Ctrl-C ends the command
        return ["ssh", "-F", str(access), *options, name, f"sudo -n -- {shlex.join(argv)}"]

    def _machines(self) -> list[str]:
        """The names of the machines that exist, on or off."""
        ids = self.project.glob(".vagrant/machines/*/*/id")
        return sorted(path.parent.parent.name for path in ids)

    def _existing(self, name: str) -> str:
        if self.node(name).name not in self._machines():
            raise LabError(f"{name} has not been made: `vagrant up {name}` makes it")
        return name

    def _vagrant(self, *arguments: str) -> None:
        """Have Vagrant do something; what it says of it goes to the terminal, all on stderr."""
        try:
            done = subprocess.run(
                ["vagrant", *arguments], cwd=self.project, stdout=sys.stderr, check=False
            )
        except FileNotFoundError:
            raise LabError("there is no `vagrant` here: `make setup-vagrant` installs it") from None
        if done.returncode != 0:
            raise LabError(f"`vagrant {' '.join(arguments)}` failed, as it says above")
