"""The power supply of one machine: boots it, and boots it again when it reboots.

`python -m lab.keeper NODE TREE` runs for as long as the machine is on, in the machine's own
control group, so that a power cut ends it with everything else. It ends when the machine powers
itself off. The machine's disk is mounted in a mount namespace of its own: no mount can outlive it.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from lab import cgroups, network, places
from lab.archive import SOURCE
from lab.pair import Node, read_pair

REBOOT = 133
"""systemd-nspawn's exit status when the machine asks for a reboot and nspawn may not do it."""

BOOT = """
mount -t overlay -o "$OVERLAY" overlay "$ROOT"
mount --bind "$PACKAGES" "$ROOT$SOURCE"
mount -o remount,bind,ro "$ROOT$SOURCE"
exec systemd-nspawn "$@"
"""


def disk(node: Node) -> Path:
    """The directory that holds what `node` wrote, and what its console said."""
    return places.DISKS / node.name


def group(node: Node) -> str:
    """The control group of everything that belongs to `node`."""
    return node.name


def power_on(node: Node, tree: Path) -> None:
    """Start the keeper of `node`, detached from us; the machine boots while this returns."""
    with (disk(node) / "console.log").open("ab") as console:
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-m", "lab.keeper", node.name, str(tree)],
            cwd=places.PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            # In its group before it runs, so that no moment exists in which it could be lost.
            preexec_fn=partial(cgroups.join, f"{group(node)}/keeper"),
            check=True,
        )


def power_off(node: Node) -> None:
    """Cut the power of `node`: nothing of it runs or answers afterwards. Its disk stays."""
    network.unplug(node)
    cgroups.destroy(group(node))
    network.unplug(node)  # the keeper may have been plugging it in


def main(name: str, tree: str) -> None:
    """Keep the machine `name`, whose read-only layer is in `tree`, on until it powers off."""
    node = read_pair().node(name)
    while True:
        network.plug(node)
        status = _boot(node, Path(tree))
        cgroups.destroy(f"{group(node)}/machine")
        if status != REBOOT:
            break
    print(f"{name}: off, systemd-nspawn ended with status {status}", flush=True)
    network.unplug(node)


def _boot(node: Node, tree: Path) -> int:
    """Run the machine once; gives nspawn's exit status."""
    own = disk(node)
    layers = {"lowerdir": tree / "root", "upperdir": own / "upper", "workdir": own / "work"}
    overlay = ",".join(f"{name}={_escape(path)}" for name, path in layers.items())
    environment = os.environ | {
        "OVERLAY": overlay,
        "ROOT": str(own / "root"),
        "PACKAGES": str(tree / "packages"),
        "SOURCE": SOURCE,
        # systemd 258 and newer boot with nothing else, older ones do not mind.
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        # The machine's network settings are its own, as on real hardware.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }
    nspawn = (
        *("--quiet", "--register=no", "--keep-unit", "--boot", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off", "--capability=CAP_NET_ADMIN"),
        f"--machine={node.name}",
        f"--directory={own / 'root'}",
        f"--network-namespace-path=/run/netns/{network.namespace(node)}",
    )
    return subprocess.call(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", BOOT, "sh", *nspawn],
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=partial(cgroups.join, f"{group(node)}/machine"),
    )


def _escape(path: Path) -> str:
    """`path` as a value among overlay's options, where colons and commas separate."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


if __name__ == "__main__":
    main(*sys.argv[1:])
