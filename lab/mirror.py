"""Where this machine gets its Debian packages from, so that the lab gets them there too.

apt itself is asked, so every form of source list counts. No address of a mirror is written in
this project.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lab.errors import LabError
from lab.programs import run

RELEASES = ("bookworm", "trixie", "forky", "stable", "testing", "unstable", "sid")


@dataclass(frozen=True)
class Index:
    """One package index that apt knows: of which archive, release, component and origin."""

    uri: str
    release: str
    component: str
    origin: str


@dataclass(frozen=True)
class Mirrors:
    """The archive of the releases themselves, and the one of their security updates (or None)."""

    main: str
    security: str | None


def parse_indexes(text: str) -> list[Index]:
    """Parse what `read_indexes` asks apt to print: `uri|release|component|origin` lines."""
    return [Index(*line.split("|")) for line in text.splitlines() if line.count("|") == 3]


def choose_mirrors(indexes: Iterable[Index]) -> Mirrors:
    """Choose Debian's own archives among `indexes`.

    Others may carry a Debian release's name too; the origin tells them apart, as soon as apt has
    read the archive once. Raises LabError when there is no archive of Debian.
    """
    usable = [
        index
        for index in indexes
        if index.component == "main" and index.uri.startswith(("http://", "https://"))
    ]
    # An origin that apt has not read yet stays the placeholder that we gave.
    ours = [index for index in usable if index.origin in ("Debian", "$(ORIGIN)")]
    ours.sort(key=lambda index: index.origin != "Debian")
    main = [index.uri for index in ours if index.release in RELEASES]
    security = [
        index.uri
        for index in ours
        if index.release in [f"{release}-security" for release in RELEASES]
        or index.release.endswith("/updates")
    ]
    if not main:
        raise LabError(
            "no Debian mirror in this machine's apt sources (an http or https source of "
            f"{', '.join(RELEASES[:4])}…, component main): add one, run `apt-get update`, try again"
        )
    return Mirrors(main=main[0], security=security[0] if security else None)


def read_mirrors() -> Mirrors:
    """The mirrors of this machine; raises LabError when it has none of Debian."""
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    return choose_mirrors(
        parse_indexes(run(["apt-get", "indextargets", "--format", form, "Identifier: Packages"]))
    )


def read_transport_options() -> list[str]:
    """This machine's own apt settings for reaching a mirror: proxies, and the age of its files."""
    keys = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until")
    return [
        line.rstrip(";")
        for line in run(["apt-config", "dump", *keys]).splitlines()
        if '""' not in line
    ]
