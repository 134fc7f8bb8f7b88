"""Kea's version, and the rules that depend on it.

The settings alone cannot tell what the Kea on a host can take; these rules are asked once its
version is known. Sources: Kea's change log and release notes, and the CVE records named below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kea_ha.settings.problems import Problem

if TYPE_CHECKING:
    from kea_ha.settings.model import Pair

SUPPORTED = "Kea 2.2.0 (Debian 12), 2.6 (Debian 13) and 3.0 (Debian 13 backports, Debian testing)"


@dataclass(frozen=True, order=True)
class Version:
    """Kea's version; compares by its three numbers, `package` keeps the packager's own text."""

    major: int
    minor: int
    patch: int = 0
    package: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `2.2.0-6`, `2.6.3-1+deb13u1`, `3.0.4`; ValueError when there are no such numbers."""
        match = re.match(r"\s*(?:[0-9]+:)?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", text)
        if match is None:
            raise ValueError(f"{text!r} is not a version of Kea such as 2.6.3-1+deb13u1")
        major, minor, patch = (int(part or 0) for part in match.groups())
        return cls(major, minor, patch, text.strip())

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


LONG_DELAYS = Version(3, 3, 0)
DIRECT_SOCKET = Version(2, 7, 2)
AGENT_REMOVED = Version(3, 1, 8)
NEW_NAMES = Version(3, 0, 0)

LONGEST_SHORT_DELAY = 65535


class _Flaw(NamedTuple):
    ids: str
    what: str
    introduced: Version
    fixed: tuple[Version, ...]
    """First fixed release of each branch, oldest branch first."""
    package: tuple[str, int] | None = None
    """How the version of a package of an older release begins that carries the fix, and from which
    update on: the mark of an update alone does not say what it mends."""
    crash: bool = False
    """Whether a client on the network can end Kea by it."""


_FLAWS = (
    _Flaw(
        "CVE-2026-3608",
        "deeply nested JSON on any API socket or on the HA listener crashes Kea; mutual TLS keeps "
        "strangers from sending it",
        Version(2, 2, 0),
        (Version(2, 6, 5), Version(3, 0, 3), Version(3, 1, 5)),
        package=("2.6.3-1+deb13u", 1),
    ),
    _Flaw(
        "CVE-2025-32801, CVE-2025-32802 and CVE-2025-32803",
        "hooks loaded and files overwritten through the API, and files readable by others; this "
        "rollout closes the file modes and admits API clients by certificate alone",
        Version(2, 2, 0),
        (Version(2, 4, 2), Version(2, 6, 3), Version(2, 7, 9)),
    ),
    _Flaw(
        "CVE-2025-40779",
        "a unicast request without a matching subnet stops Kea",
        Version(2, 7, 1),
        (Version(3, 0, 1), Version(3, 1, 1)),
        crash=True,
    ),
    _Flaw(
        "CVE-2025-11232",
        "a host name of a client that is emptied by sanitising stops Kea",
        Version(3, 0, 1),
        (Version(3, 0, 2), Version(3, 1, 3)),
        crash=True,
    ),
)


def _is_fixed(flaw: _Flaw, version: Version) -> bool:
    for fix in flaw.fixed:
        if (version.major, version.minor) == (fix.major, fix.minor):
            return version >= fix
    return version > flaw.fixed[-1]


def version_problems(pair: Pair, version: Version) -> tuple[Problem, ...]:
    """What of the pair's settings this Kea cannot take, and whether it is supported at all."""
    return tuple(_version_problems(pair, version))


def _version_problems(pair: Pair, version: Version) -> Iterator[Problem]:
    settings = pair.settings
    if not (version == Version(2, 2, 0) or (version.major, version.minor) in {(2, 6), (3, 0)}):
        yield Problem(
            "Kea's version",
            str(version),
            SUPPORTED,
            "Install a supported Kea, or choose another package_source.",
            pair.name,
        )
    if version < LONG_DELAYS:
        for name in ("heartbeat_delay", "max_response_delay", "max_ack_delay"):
            value = getattr(settings, name)
            if value > LONGEST_SHORT_DELAY:
                yield Problem(
                    name,
                    f"{value} ms",
                    f"at most {LONGEST_SHORT_DELAY} ms with Kea {version} "
                    f"(longer ones from {LONG_DELAYS})",
                    f"Set {name} to {LONGEST_SHORT_DELAY} or less.",
                    pair.name,
                )
    if settings.control_channel == "direct" and version < DIRECT_SOCKET:
        yield Problem(
            "control_channel",
            '"direct"',
            f'"agent" or "none" with Kea {version} (kea-dhcp4 has its own HTTPS socket from '
            f"{DIRECT_SOCKET})",
            "Set control_channel to agent, or install Kea 3.0 (package_source).",
            pair.name,
        )
    if settings.control_channel == "agent" and version >= AGENT_REMOVED:
        yield Problem(
            "control_channel",
            '"agent"',
            f'"direct" or "none" with Kea {version} (the Control Agent is gone from '
            f"{AGENT_REMOVED})",
            "Set control_channel to direct.",
            pair.name,
        )


def version_warnings(pair: Pair, version: Version) -> tuple[str, ...]:
    """Known flaws of this Kea that the operator should know of; they do not stop the rollout."""
    return tuple(f"{pair.name}: {_words(flaw, version)}" for flaw in _flaws_of(version))


def crash_warnings(version: Version) -> tuple[str, ...]:
    """The flaws by which a client can end this Kea: for every verdict, as long as it runs."""
    return tuple(_words(flaw, version) for flaw in _flaws_of(version) if flaw.crash)


def _flaws_of(version: Version) -> Iterator[_Flaw]:
    for flaw in _FLAWS:
        if version < flaw.introduced or _is_fixed(flaw, version):
            continue
        if flaw.package is None or not _is_update(version.package, *flaw.package):
            yield flaw


def _is_update(package: str, begin: str, least: int) -> bool:
    """Whether a package is that update of a release, or a later one: each has what was before."""
    number = package.removeprefix(begin)
    return number != package and number.isdecimal() and int(number) >= least


def _words(flaw: _Flaw, version: Version) -> str:
    cure = (
        "Debian 12 will not fix it: plan to move to Debian 13."
        if version < Version(2, 4)
        else "Upgrade Kea within its branch."
    )
    return f"Kea {version.package or version} has {flaw.ids}: {flaw.what}. {cure}"
