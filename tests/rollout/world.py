"""A small world of stand-in hosts, which really run what the rollout tells them.

Each host is a root tree of its own (a layer over the lab's cached Debian 13) and a network
namespace of its own on a common LAN, with real apt, dpkg, openssl, nft and Kea. It is never
booted: `systemctl`, `journalctl` and the DHCP probe are stand-ins (in `tree/` and below). What
only a booted machine shows is proved on the lab.

A world is a process-id namespace. When its first process ends, also because pytest was killed,
the kernel ends every process in it and drops its mounts and its networks: nothing is left behind.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import trees

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}
LAYERS = Path("/mnt")
"""Where a world has its memory-backed layers; seen in the world only."""

_INIT = """
set -e
mount -t tmpfs -o mode=755 standins {place}; mkdir -p {hosts}
ip link set lo up
ip link add lan type bridge && ip link set lan up
trap '' CHLD; echo ready; exec cat > /dev/null
"""

# A host's tree: what is shared from the cache lies below what the test changes.
_HOST = """
set -e
d={layers}/hosts/{name}; mkdir -p $d/upper $d/work $d/root
mount -t overlay overlay -o lowerdir={lower},upperdir=$d/upper,workdir=$d/work $d/root
cd $d/root
mkdir -p srv/packages
mount --bind {packages} srv/packages
mount -t proc proc proc
mount --rbind /dev dev
mkdir -p run/systemd/system run/standin run/lock
echo $$; read -r _
ip link set lo up; ip addr add {address}/24 dev eth0; ip link set eth0 up
echo ready; exec chroot . sleep infinity
"""


class World:
    """Namespaces of their own; `ground` is another world, whose layers are seen here as well."""

    def __init__(self, ground: World | None = None) -> None:
        # A world sees the layers of its ground, and has its hosts' own ones to itself.
        place = LAYERS / "hosts" if ground else LAYERS
        self._first = subprocess.Popen(
            [
                *(ground.enter() if ground else []),
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *("--mount-proc", "sh", "-c", _INIT.format(place=place, hosts=LAYERS / "hosts")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == "ready\n"
        self.init = _innermost(self._first.pid)

    def enter(self) -> list[str]:
        """The beginning of a command that is to run in this world."""
        return ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--"]

    def run(self, *argv: str, given: str | None = None) -> str:
        """Run a command in this world, which must succeed; what it printed."""
        done = subprocess.run(
            [*self.enter(), *argv], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self) -> list[Path]:
        """The directories under /proc of all that runs in this world."""
        return [p for p in self.proc.iterdir() if p.name.isdigit()]

    @property
    def proc(self) -> Path:
        """The /proc of this world, as one here."""
        return Path(f"/proc/{self.init}/root/proc")

    def end(self) -> None:
        """End everything in this world."""
        self._first.communicate()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _innermost(pid: int) -> int:
    """The last in a chain of only children: nsenter and unshare each wait for the next."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


@dataclass(frozen=True)
class Tree:
    """What the hosts' trees begin with: layers, lowest last, and the package source."""

    layers: str
    packages: Path


class StandIn:
    """One host of a world, in it from now on."""

    def __init__(self, world: World, tree: Tree, name: str, address: str, number: int) -> None:
        self.world, self.name, self.address = world, name, address
        script = _HOST.format(
            layers=LAYERS, name=name, lower=tree.layers, packages=tree.packages, address=address
        )
        self._holder = subprocess.Popen(
            [*world.enter(), "unshare", "--mount", "--net", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self.holder = int(self._holder.stdout.readline())
        world.run(
            *("ip", "-batch", "-"),
            given=f"link add port{number} type veth peer name eth0 netns {self.holder}\n"
            f"link set port{number} master lan up\n",
        )
        self._holder.stdin.write("go\n")
        self._holder.stdin.flush()
        assert self._holder.stdout.readline() == "ready\n"
        self.root = world.proc / str(self.holder) / "root"

    def enter(self) -> list[str]:
        """The beginning of a command that is to run on this host, started in its world."""
        return ["nsenter", f"--target={self.holder}", "--mount", "--net", "--root", "--wdns=/root"]

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script on this host as root; what it printed."""
        done = subprocess.run(
            [*self.world.enter(), *self.enter(), "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
        assert not check or done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def path(self, where: str) -> Path:
        """A path on this host, as one here."""
        return self.root / where.lstrip("/")

    def write(self, where: str, text: str) -> None:
        """Put a file on this host, as another administrator would."""
        self.path(where).parent.mkdir(parents=True, exist_ok=True)
        self.path(where).write_text(text)

    def snapshot(self) -> dict[str, str]:
        """Every file of this host with mode, owner, size and time, but for logs and caches."""
        listed = self.sh(
            "find / -xdev \\( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /srv"
            " -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \\) -prune"
            " -o -type f -printf '%p\\t%m %u:%g %s %T@\\n'"
        )
        return dict(line.split("\t", 1) for line in listed.splitlines())

    def main_pid(self, unit: str) -> int:
        """The process of a running service, 0 if there is none."""
        return int(self.sh(f"systemctl show -p MainPID --value {unit}"))

    def kill(self, *names: str) -> None:
        """SIGKILL to the processes of this host that have one of these names."""
        network = (self.world.proc / str(self.holder) / "ns/net").readlink()
        found = [
            process.name
            for process in self.world.processes()
            if (process / "comm").read_text().strip() in names
            and (process / "ns/net").readlink() == network
        ]
        # The first may take the others with it.
        self.world.run("sh", "-c", f"kill -9 {' '.join(found)} 2>/dev/null; true")

    def filter(self, rule: str) -> None:
        """Add a rule to what comes in, as a firewall that is not ours."""
        self.sh(
            "nft add table ip foreign && nft add chain ip foreign in"
            " '{ type filter hook input priority 0; }' && nft add rule ip foreign in " + rule
        )

    def traces_of_kea(self) -> list[str]:
        """What a host has that is no longer untouched: Kea's packages, units, ports, processes."""
        return self.sh(
            "dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' 'kea-*' 2>/dev/null"
            " | grep -v ' un' ;"
            "ls -d /etc/systemd/system/*kea-dhcp4* /etc/systemd/system/*kea-ctrl* /etc/kea/*.conf"
            " /usr/lib/systemd/system/*kea* /etc/systemd/system/kea-ha* 2>/dev/null;"
            "ss -Hlntu | grep -E ':(67|8000|8001) '; true"
        ).splitlines()


# The layer that all hosts share ------------------------------------------------------------------

# dhcpcd asks for seconds whether another DHCP server answers. This one says at once what a test
# has written, in dhcpcd's words.
_DHCPCD = """#!/bin/sh
[ ! -f /srv/standin/dhcp-servers ] || cat /srv/standin/dhcp-servers
[ ! -f /srv/standin/dhcp-broken ] || { echo "eth0: could not bind"; exit 3; }
exit 1
"""
_CONTROL = """Package: dhcpcd-base
Version: 99:1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: stand-in
"""
# Kea's own dependencies are baked in, so that a rollout spends its time on the rollout.
_BAKE = """
set -e
cd {root}
mkdir -p srv/standin srv/packages run/systemd/system
mv usr/bin/systemctl usr/bin/systemctl.real
cp -r {here}/tree/. .
cd srv/standin; dpkg-deb --root-owner-group -b /mnt/dhcpcd dhcpcd-base.deb
{{ dpkg-deb -f dhcpcd-base.deb; echo Filename: ./dhcpcd-base.deb
   echo Size: $(stat -c %s dhcpcd-base.deb)
   echo SHA256: $(sha256sum < dhcpcd-base.deb | cut -c1-64); }} > Packages; cd {root}
echo 'deb [trusted=yes] file:/srv/standin ./' > etc/apt/sources.list.d/standin.list
mkdir -p etc/dpkg/dpkg.cfg.d; echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/standin
mount --bind {packages} srv/packages; mount -t proc proc proc; mount --rbind /dev dev
export DEBIAN_FRONTEND=noninteractive PATH={path}
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d; chmod +x usr/sbin/policy-rc.d
chroot . apt-get -qq update
chroot . apt-get -qq -y --no-install-recommends install kea-common python3-kea-connector
chroot . apt-get -qq -y purge kea-common
chroot . apt-get -qq clean
rm usr/sbin/policy-rc.d; rm -rf var/lib/apt/lists/* etc/kea var/lib/kea var/log/kea
chroot . userdel _kea
sed -i '/_kea/d' var/lib/dpkg/statoverride
umount -l srv/packages proc dev
"""


def bake(ground: World) -> Tree:
    """Make the layer that all hosts of this session share, in the memory of `ground`."""
    recipe = trees.recipes("13")["hosts"]
    trees.ensure([recipe], report=print)
    packages = recipe.path / "packages"
    for name in ("upper", "work", "root", "dhcpcd/usr/sbin", "dhcpcd/DEBIAN"):
        ground.run("mkdir", "-p", f"{LAYERS}/{name}")
    ground.run("tee", f"{LAYERS}/dhcpcd/usr/sbin/dhcpcd", given=_DHCPCD)
    ground.run("chmod", "755", f"{LAYERS}/dhcpcd/usr/sbin/dhcpcd")
    ground.run("tee", f"{LAYERS}/dhcpcd/DEBIAN/control", given=_CONTROL)
    lower, upper, root = recipe.path / "root", LAYERS / "upper", LAYERS / "root"
    ground.run(
        *("mount", "-t", "overlay", "overlay", str(root)),
        *("-o", f"lowerdir={lower},upperdir={upper},workdir={LAYERS / 'work'}"),
    )
    ground.run(
        *("sh", "-c"),
        _BAKE.format(root=root, here=HERE, packages=packages, path=ENVIRONMENT["PATH"]),
    )
    ground.run("umount", "-l", str(root))
    return Tree(f"{upper}:{lower}", packages)
