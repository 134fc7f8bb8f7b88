"""How to reach the machines by ssh: a key, an ssh_config and a known_hosts, in `.lab/`.

The connection enters a machine's network namespace from outside and speaks to its sshd over
loopback, so it does not depend on the LAN that the tests disturb. Host keys are checked strictly.
"""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.machine import make_key
from lab.network import namespace
from lab.pair import Node

ENTRY = """\
Host {name}
    HostName {address}
    User root
    IdentityFile "{directory}/id_ed25519"
    IdentitiesOnly yes
    UserKnownHostsFile "{directory}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    PasswordAuthentication no
    ProxyCommand nsenter --net=/run/netns/{namespace} nc 127.0.0.1 %p
"""


def _known_host(node: Node, key: str) -> str:
    return f"{node.name},{node.address} {key}\n"


@dataclass(frozen=True)
class Access:
    """The files in `directory`; ssh_config is there exactly while the lab is up."""

    directory: Path

    @property
    def ssh_config(self) -> Path:
        """The file for `ssh -F` and pyinfra's `ssh_config_file`."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The file for pyinfra's `ssh_known_hosts_file`."""
        return self.directory / "known_hosts"

    def make_key(self) -> str:
        """Make the key that opens the machines; returns its public half."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        return make_key(self.directory / "id_ed25519", "kea-ha-lab")

    @property
    def public_key(self) -> str:
        """The public half of the key that opens the machines."""
        return (self.directory / "id_ed25519.pub").read_text().strip()

    def trust(self, node: Node, host_key: str) -> None:
        """Take `host_key` for that of the machine, and forget the one before it."""
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        others = [line for line in lines if not line.startswith(f"{node.name},")]
        self.known_hosts.write_text("".join([*others, _known_host(node, host_key)]))

    def write(self, host_keys: Mapping[Node, str]) -> None:
        """Write both files, given each machine's public host key."""
        keys = [_known_host(node, key) for node, key in host_keys.items()]
        self.known_hosts.write_text("".join(keys))
        entries = [
            ENTRY.format(
                name=node.name,
                address=node.address,
                directory=self.directory,
                namespace=namespace(node),
            )
            for node in host_keys
        ]
        new = self.directory / "ssh_config.new"
        new.write_text("\n".join(entries))
        new.rename(self.ssh_config)

    def remove(self) -> None:
        """Remove what the other methods wrote."""
        for name in ("ssh_config", "ssh_config.new", "known_hosts", "id_ed25519", "id_ed25519.pub"):
            (self.directory / name).unlink(missing_ok=True)

    def wait_for_ssh(self, node: Node, patience: float = 60.0) -> None:
        """Return when `node` lets us in; raises LabError after `patience` seconds."""
        deadline = time.monotonic() + patience
        command = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", node.name, "true"]
        while True:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise LabError(f"{node.name} does not let us in by ssh: {done.stderr.strip()}")
            time.sleep(0.1)
