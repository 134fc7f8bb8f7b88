"""What one run of ``pyinfra`` has learned so far, for all its hosts together.

pyinfra runs the deploy script once for every host, in one process: what a host's operations find
out (surveys, failures, warnings, verdicts) is kept here for those of its partner, and for the last
block on the screen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pyinfra.api.host import Host
from pyinfra.context import ctx_state

from kea_ha.host import backup_store
from kea_ha.host.backup_store import Backup
from kea_ha.host.survey import Survey
from kea_ha.private_files import UNFINISHED
from kea_ha.settings.model import Pair

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why hosts were given up: the step, what happened, and what the operator should do."""

    hosts: tuple[str, ...]
    step: str
    why: str
    remedy: str
    #: What it means for the pair, in a word or two: ``stopped``, ``refused``, ``not accepted``.
    outcome: str = "stopped"


class Slot(dict[str, T]):
    """What a run learns of one kind, by the name of a host or of a pair.

    Declared in the module that is the first to use it; it lives as long as the process, as RUN.
    """


@dataclass
class Run:
    """What this process knows. Keys are host names, or pair names where it says so."""

    #: What the first state of a pair is called that is accepted in this run.
    name: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}")
    scripts: tuple[str, ...] = ()
    dry: bool = False
    pairs: dict[str, Pair] = field(default_factory=dict)
    limited_to: frozenset[str] | None = None
    surveys: dict[str, Survey] = field(default_factory=dict)
    #: Each host's clock less this machine's, in seconds.
    skews: dict[str, float] = field(default_factory=dict)
    #: Hosts' certificates that were issued before this moment are made anew.
    renew_before: datetime | None = None
    #: What `--data from=` names, verified.
    backup: Backup | None = None
    failures: list[Failure] = field(default_factory=list)
    #: By pair: what to say when all went well.
    verdicts: dict[str, str] = field(default_factory=dict)
    #: By pair: what the operator should know although nothing is wrong.
    warnings: dict[str, list[str]] = field(default_factory=dict)
    #: Hosts that were held back because their partner failed: not a failure of their own.
    stopped: set[str] = field(default_factory=set)
    #: Hosts that did not answer in time when they were asked last.
    silent: set[str] = field(default_factory=set)
    interrupted: str = ""
    _room: TemporaryDirectory[str] | None = None

    def room(self) -> Path:
        """A directory of the operator's alone for what is too large for memory; gone at the end.

        :raises OSError: when it cannot be made.
        """
        if self._room is None:
            backup_store.BACKUPS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._room = TemporaryDirectory(dir=backup_store.BACKUPS_DIR, suffix=UNFINISHED)
        return Path(self._room.name)

    def pair_of(self, host_name: str) -> Pair | None:
        """The pair that ``host_name`` belongs to; None for a host that is in none (a probe)."""
        for pair in self.pairs.values():
            if host_name in (node.name for node in pair.nodes):
                return pair
        return None

    def in_scope(self, host_name: str) -> bool:
        """Whether ``--limit`` and ``--exclude`` leave this host in the run."""
        return self.limited_to is None or host_name in self.limited_to

    def warn(self, pair: Pair, text: str) -> None:
        """Keep a warning for the last block, once."""
        known = self.warnings.setdefault(pair.name, [])
        if text not in known:
            known.append(text)

    def take_back(self, pair: Pair, text: str) -> None:
        """Have the last block not say this warning after all, unless the run is interrupted."""
        if not self.interrupted:
            with suppress(ValueError):
                self.warnings.get(pair.name, []).remove(text)

    def has_failed(self, host_name: str) -> bool:
        """Whether pyinfra, or one of our checks, has given up on this host."""
        if any(host_name in failure.hosts for failure in self.failures):
            return True
        return any(host.name == host_name for host in failed_hosts())


RUN = Run()


def failed_hosts() -> set[Host]:
    """The hosts that pyinfra has given up; none before it has connected."""
    if ctx_state.isset() and ctx_state.get().initialised:
        return set(ctx_state.get().failed_hosts)
    return set()
