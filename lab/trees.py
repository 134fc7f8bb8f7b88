"""Debian trees for the machines, each with the package source that its machines install from.

A tree is built once with mmdebstrap and cached under a name that is keyed by its recipe. It is
built in a `.partial` directory and renamed when it is complete, so a tree that is there is whole.
Beside its root lies the apt archive that its machines install from: they have no route out.
Remove the cache directory to have the trees built anew from the mirror's present state.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab import archive, mirror
from lab.errors import LabError
from lab.places import cache
from lab.programs import run

RECIPE_VERSION = 4
"""To be raised when the way a tree is made changes, so that cached ones are not used."""

CODENAMES = {"12": "bookworm", "13": "trixie", "testing": "forky"}

# What any machine of the lab needs to be a Debian server with ssh. A production host needs no
# Python and no tcpdump; here the tests use them.
MACHINE = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "kmod", "procps", "less"),
    *("iproute2", "iputils-ping", "nftables", "tcpdump", "curl", "openssl", "ca-certificates"),
    *("python3", "libfaketime", "faketime"),
)
# What a virtual machine needs besides: to boot from its own disk, to configure its cards, and to
# confine its services as a Debian does.
VIRTUAL = (
    *("linux-image-cloud-amd64", "grub-pc-bin", "ifupdown", "isc-dhcp-client"),
    *("apparmor", "libcap2-bin"),
)
# To probe with: perfdhcp (in kea-admin), stock DHCP clients, a stranger's DHCP server.
PROBES = ("kea-admin", "udhcpc", "isc-dhcp-client", "dnsmasq-base", "socat")


@dataclass(frozen=True)
class Recipe:
    """What decides how a tree is made; two equal recipes share one tree."""

    name: str
    suite: str
    include: tuple[str, ...]
    offer: tuple[str, ...] = ()
    backports: bool = False
    user: str = "operator"

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with anything in the recipe."""
        return hashlib.sha256(f"{RECIPE_VERSION} {self}".encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where the built tree is, or will be."""
        return cache() / f"{self.name}-{self.key}"

    @property
    def suites(self) -> tuple[str, ...]:
        """The release, and its backports where the machines may install from them."""
        return (self.suite, f"{self.suite}-backports") if self.backports else (self.suite,)


def recipes(debian: str) -> dict[str, Recipe]:
    """The recipes for hosts on `debian` ("12", "13" or "testing") and for the client, by kind.

    The client is a Debian 13 whatever the hosts are: it is the ruler, not what is measured.
    Raises LabError for another release.
    """
    if debian not in CODENAMES:
        raise LabError(f"no Debian {debian!r} in the lab: allowed are {', '.join(CODENAMES)}")
    suite = CODENAMES[debian]
    return {
        "hosts": Recipe(
            f"hosts-{suite}", suite, MACHINE, archive.OFFER, backports=suite == "trixie"
        ),
        "client": Recipe("client-trixie", "trixie", MACHINE + PROBES),
    }


def box_recipe(debian: str) -> Recipe:
    """The recipe for a virtual machine on `debian` ("12" or "13"): a host that has its own kernel.

    Raises LabError for another release.
    """
    if debian not in ("12", "13"):
        raise LabError(f"no box of Debian {debian!r}: allowed are 12 and 13")
    hosts = recipes(debian)["hosts"]
    return replace(hosts, name=f"box-{hosts.suite}", include=MACHINE + VIRTUAL, user="vagrant")


def ensure(wanted: Sequence[Recipe], report: Callable[[str], None]) -> None:
    """Build those of `wanted` that are not in the cache, side by side, reporting progress.

    Of processes that start together one builds, and the others wait for it. Raises LabError, with
    the end of the builder's log, when one cannot be built.
    """
    if all(recipe.path.exists() for recipe in wanted):
        return
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another command that builds trees")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _build([recipe for recipe in wanted if not recipe.path.exists()], report)


def _build(missing: Sequence[Recipe], report: Callable[[str], None]) -> None:
    for leftover in cache().glob("*.partial"):
        shutil.rmtree(leftover)
    mirrors = mirror.read_mirrors()
    builds = [_Build(recipe, mirrors, report) for recipe in missing]
    running = builds
    try:
        while running := [build for build in running if build.is_running()]:
            time.sleep(0.2)
    finally:
        for build in builds:
            build.stop()


class _Build:
    """One mmdebstrap at work on a tree."""

    def __init__(
        self, recipe: Recipe, mirrors: mirror.Mirrors, report: Callable[[str], None]
    ) -> None:
        self._recipe, self._report = recipe, report
        self._partial = recipe.path.with_name(f"{recipe.path.name}.partial")
        self._log = cache() / f"{recipe.name}.log"
        self._started = self._reported = time.monotonic()
        (self._partial / "packages").mkdir(parents=True)
        command = _builder(recipe, mirrors, self._partial)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        report(f"{recipe.name}: building its tree, once; log in {self._log}")

    def is_running(self) -> bool:
        """Whether there is more to do; puts the finished tree in place, raises if it failed."""
        if self._recipe.path.exists():
            return False
        code = self._process.poll()
        if code is None:
            now = time.monotonic()
            if now - self._reported >= (2 if sys.stdout.isatty() else 10):
                self._reported = now
                self._report(f"{self._recipe.name}: {now - self._started:.0f} s, {self._stage()}")
            return True
        if code != 0:
            end = "\n".join(f"    {line}" for line in self._lines()[-15:])
            raise LabError(
                f"the tree {self._recipe.name} could not be built; its log {self._log} ends:\n"
                f"{end}\nIf the mirror could not be reached, check this machine's apt sources "
                "(`apt-get update`), then try again"
            )
        _finish(self._recipe, self._partial)
        self._partial.rename(self._recipe.path)
        for old in cache().glob(f"{self._recipe.name}-????????????"):
            if old != self._recipe.path:
                shutil.rmtree(old)
        self._report(f"{self._recipe.name}: built in {time.monotonic() - self._started:.0f} s")
        return False

    def stop(self) -> None:
        """End the builder if it still runs, such as when the other one failed."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def _stage(self) -> str:
        """What the builder said last that is meant for people."""
        stages = [line[3:] for line in self._lines() if line.startswith("I: ")]
        if not stages:
            return "starting"
        return "downloading what the machines can install" if "hook" in stages[-1] else stages[-1]


def _builder(recipe: Recipe, mirrors: mirror.Mirrors, partial: Path) -> list[str]:
    """The command that fills `partial`. It dies with us: nothing is left behind by a SIGKILL."""
    lines = [f"deb {mirrors.main} {suite} main" for suite in recipe.suites]
    if recipe.suite != CODENAMES["testing"]:
        # Testing's other suites may be past their date on a mirror, and it can do without.
        lines.append(f"deb {mirrors.main} {recipe.suite}-updates main")
        if mirrors.security:
            lines.append(f"deb {mirrors.security} {recipe.suite}-security main")
    options = ['APT::Install-Recommends "false"', *mirror.read_transport_options()]
    if recipe.suite == CODENAMES["testing"]:
        options.append('Acquire::Check-Valid-Until "false"')
    backports = recipe.suites[1] if recipe.backports else None
    hook = archive.fetch_hook(partial / "packages", recipe.offer, backports)
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        # --skip: also what the tree is made of first is kept, for the archive.
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--skip=essential/unlink"),
        f"--include={','.join(recipe.include)}",
        *(f"--aptopt={option}" for option in options),
        f"--customize-hook={hook}",
        *(recipe.suite, str(partial / "root"), *lines),
    ]


def _finish(recipe: Recipe, partial: Path) -> None:
    """Index the packages, and make the root a Debian like any other, waiting for its identity."""
    archive.index(partial / "packages", recipe.suites)
    root = partial / "root"
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink()
    write(root / "etc/apt/sources.list", archive.sources_list(recipe.suites))
    (root / archive.SOURCE.lstrip("/")).mkdir()
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    write(root / "etc/resolv.conf", "")
    # As on a Debian with its own kernel, where nothing in /run can be executed.
    write(root / "etc/fstab", "tmpfs /run tmpfs nosuid,nodev,noexec,mode=755 0 0\n")
    write(root / "etc/default/locale", "LANG=C.UTF-8\n")
    sudoers = root / "etc/sudoers.d" / recipe.user
    write(sudoers, f"{recipe.user} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    # Debian has a group called operator already, hence the explicit one.
    add = f"useradd --create-home --shell /bin/bash --gid users {recipe.user}"
    run(["chroot", str(root), *add.split()])
    # They would take apt's lock at a time of their own choosing, in the middle of a test.
    run(["systemctl", f"--root={root}", "mask", "apt-daily.timer", "apt-daily-upgrade.timer"])


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Put a new file with this `text` and `mode` at `path`, whatever was there."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
