"""One machine: its fresh disk, its identity, and running commands inside it.

Commands enter the machine's namespaces directly, so they work without its network or its sshd.
"""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lab import cgroups
from lab.errors import LabError
from lab.keeper import disk, group
from lab.pair import Node

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}

# The shell enters every namespace but that of processes, in which only its child is. So the
# SIGSTOP to all with which systemd begins a shutdown does not reach who has to wait for that child
# (nsenter's own waiter stops when its child does, the dead child stays, and the machine with it).
IN_MACHINE = 'setpriv --pdeathsig TERM -- "$@"; exit $?'


def make_disk(node: Node, tree: Path, authorized_key: str) -> str:
    """Give `node` an empty disk over its `tree`, with an identity of its own.

    Returns the public half of its new ssh host key. `authorized_key` may log in as root and as
    `operator`.
    """
    shutil.rmtree(disk(node), ignore_errors=True)
    upper = disk(node) / "upper"
    for directory in (upper, disk(node) / "work", disk(node) / "root", upper / "home"):
        directory.mkdir(parents=True)
    (upper / "etc/ssh").mkdir(parents=True)
    _write(upper / "etc/hostname", f"{node.name}\n")
    _write(upper / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {node.name}\n::1 localhost\n")
    _write(upper / "etc/machine-id", f"{uuid.uuid4().hex}\n")
    for home in ("root", "home/operator"):
        owner = (tree / "root" / home).stat()
        for directory in (upper / home, upper / home / ".ssh"):
            directory.mkdir(mode=0o700)
            os.chown(directory, owner.st_uid, owner.st_gid)
        _write(upper / home / ".ssh/authorized_keys", f"{authorized_key}\n")
    return make_key(upper / "etc/ssh/ssh_host_ed25519_key", f"root@{node.name}")


def make_key(path: Path, comment: str) -> str:
    """Write a new ed25519 key pair to `path` and `path`.pub; returns the public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True
    )
    return path.with_name(f"{path.name}.pub").read_text().strip()


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)


def init_pid(node: Node) -> int | None:
    """The id, outside, of the process that is number 1 in `node`; None when it is off."""
    for pid in sorted(cgroups.processes(f"{group(node)}/machine")):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        # Two numbers, ours and the machine's; more would be a sandbox of one of its services.
        ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid"))
        if len(ids) == 2 and ids[1] == "1":
            return pid
    return None


def command(node: Node, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` inside `node` as root; to be run in `ENVIRONMENT`.

    Ending that command ends `argv`. Raises LabError when `node` is off.
    """
    pid = init_pid(node)
    if pid is None:
        raise LabError(f"{node.name} is off: `lab start {node.name}` powers it on")
    return [
        _nsenter(),
        f"--target={pid}",
        "--all",
        "--no-fork",
        "sh",
        "-c",
        IN_MACHINE,
        "sh",
        *argv,
    ]


@cache
def _nsenter() -> str:
    # Looked up here, since the environment that it runs in is the machine's.
    return shutil.which("nsenter") or "/usr/bin/nsenter"


def wait_until_booted(node: Node, patience: float = 90.0) -> list[str]:
    """Return when systemd in `node` has tried to start everything that it starts at boot.

    Gives the names of the units that failed, which a test may well have brought about.
    Raises LabError, with the end of its console, when it ends or takes more than `patience`
    seconds.
    """
    deadline = time.monotonic() + patience
    state = ""
    while state not in ("running", "degraded"):
        if time.monotonic() > deadline or not cgroups.processes(group(node)):
            console = (disk(node) / "console.log").read_text(errors="replace").splitlines()
            end = "\n".join(f"    {line}" for line in console[-15:])
            raise LabError(
                f"{node.name} did not boot (systemd says {state or 'nothing'!r}); its console "
                f"ends:\n{end}"
            )
        time.sleep(0.05)
        state = _systemctl(node, "is-system-running").strip()
    failed = _systemctl(node, "--failed", "--no-legend", "--plain")
    return [line.split()[0] for line in failed.splitlines()]


def _systemctl(node: Node, *arguments: str) -> str:
    """What systemctl in `node` prints; nothing if it cannot be asked (yet, or any more)."""
    try:
        argv = command(node, ["systemctl", *arguments])
    except LabError:
        return ""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    return done.stdout
