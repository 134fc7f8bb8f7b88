"""The package source of the machines: an apt archive in a directory, made from a mirror once.

It holds every package that a tree was made of and those that its machines may be asked to
install, with all their dependencies and recommendations, under the releases that they come from.
Releases keep the names and the priorities that Debian gives them, so that apt decides on a
machine of the lab as it does on any other.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.programs import run

SOURCE = "/srv/packages"
"""Where a machine finds its package source."""

# What the hosts can install. A name that a release does not have is left out there.
OFFER = (
    *("kea-dhcp4-server", "kea-ctrl-agent", "kea-admin", "kea-common", "curl", "openssl"),
    *("nftables", "udhcpc", "busybox", "dhcpcd-base", "dnsmasq-base", "isc-dhcp-server", "socat"),
)
OFFER_BACKPORTS = ("kea-dhcp4-server", "kea-ctrl-agent", "kea-admin", "kea-common")

# What apt's preferences depend on.
RELEASE_FIELDS = (
    *("Origin", "Label", "Suite", "Codename", "Version"),
    *("NotAutomatic", "ButAutomaticUpgrades"),
)


def sources_list(suites: Iterable[str]) -> str:
    """The `sources.list` of a machine that installs from the archive alone."""
    return "".join(f"deb [trusted=yes] file:{SOURCE} {suite} main\n" for suite in suites)


def fetch_hook(packages: Path, offer: Sequence[str], backports: str | None) -> str:
    """Shell for mmdebstrap to run while apt can reach the mirror; fills `packages`.

    `offer` are the names of the packages to add to those of the tree; `backports` is the suite
    to take OFFER_BACKPORTS from as well.
    """
    fetch = "apt-get -y --download-only -o APT::Install-Recommends=true"
    lines = ["set -e", 'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"']
    if offer:
        lines += [
            "have=",
            f"for name in {' '.join(offer)}; do",
            '  if apt-cache policy "$name" | grep -q "Candidate: [0-9]"; then have="$have $name"',
            '  else echo "not in this release: $name"; fi',
            "done",
            f"{fetch} install $have",
        ]
    if backports:
        lines.append(f"{fetch} -t {backports} install {' '.join(OFFER_BACKPORTS)}")
    place = shlex.quote(str(packages))
    lines.append(f'cp "$1"/var/lib/apt/lists/*Release {place}/')
    lines.append(f'mv "$1"/var/cache/apt/archives/*.deb {place}/')
    return "\n".join(lines)


def index(packages: Path, suites: Sequence[str]) -> None:
    """Make an apt archive of what the hook left in `packages`; the first suite is the release.

    Raises LabError when the mirror had no such release.
    """
    for suite in suites:
        pool = packages / "pool" / suite
        pool.mkdir(parents=True)
        is_backports = suite != suites[0]
        for deb in packages.glob("*.deb"):
            if is_backports == ("~bpo" in deb.name):
                # Without the epoch, as in Debian's own pool: apt would decode its `%3a`.
                deb.rename(pool / re.sub(r"_\d+%3a", "_", deb.name))
        _index_suite(packages, suite)
    for source in packages.glob("*Release"):
        source.unlink()


def _index_suite(packages: Path, suite: str) -> None:
    """Write the lists of one suite, whose .debs are in its pool."""
    architecture = run(["dpkg", "--print-architecture"]).strip()
    binary = packages / "dists" / suite / "main" / f"binary-{architecture}"
    binary.mkdir(parents=True)
    found = run(["apt-ftparchive", "packages", f"pool/{suite}"], cwd=packages)
    (binary / "Packages").write_text(found)
    fields = _release_fields(packages, suite)
    fields |= {"Components": "main", "Architectures": architecture}
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    release = run(["apt-ftparchive", *options, "release", f"dists/{suite}"], cwd=packages)
    (packages / "dists" / suite / "Release").write_text(release)


def _release_fields(packages: Path, suite: str) -> dict[str, str]:
    """How the mirror describes `suite`."""
    for source in packages.glob("*Release"):
        fields = dict(re.findall(r"^([A-Za-z]+): (.*)$", source.read_text(), re.MULTILINE))
        if fields.get("Codename") == suite:
            return {name: fields[name] for name in RELEASE_FIELDS if name in fields}
    raise LabError(f"the mirror has no release {suite}")
