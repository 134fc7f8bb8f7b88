"""Backups of a pair on the operator's machine: written, found, and read only when they are whole.

A backup is a directory: ``HOST/`` with the host's files below it at their own paths, ``about.json``
with whose they are, and ``SHA256SUMS`` in the format of sha256sum(1). It is written beside its name
and takes that by a rename, so whatever has the name is complete. It is the operator's alone from
the first byte on. Pure but for the file system.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath

#: Where the backups of all pairs are.
BACKUPS_DIR = Path("backups")

_SUMS, _ABOUT = "SHA256SUMS", "about.json"
_UNFINISHED = ".new"
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_AGAIN = "use another backup: this one cannot be trusted"


class BackupError(Exception):
    """Raised when a backup cannot be written or used: ``what`` is wrong, and the ``remedy``."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Backup:
    """A backup that was found whole. ``hosts``: by host, its files' content by path on the host."""

    directory: Path
    pair: str
    hosts: Mapping[str, Mapping[str, bytes]] = field(repr=False)


def write(
    root: Path, pair: str, moment: datetime, hosts: Mapping[str, Mapping[str, bytes]]
) -> Path:
    """Write a backup of these files (by host, by path on the host) below ``root``; where it is.

    It is named after the pair and the ``moment``, in UTC. Killed half-way, this leaves a directory
    that ends in ``.new`` and is not taken for a backup.

    :raises BackupError: when it cannot be written whole; then nothing is left.
    """
    at = moment.astimezone(UTC)
    # Two may be made in one second.
    directory = root / f"{pair}-{at:%Y-%m-%dT%H-%M-%S}.{at.microsecond // 1000:03}"
    unfinished = directory.with_name(directory.name + _UNFINISHED)
    about = {
        "pair": pair,
        "made": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "hosts": {host: list(files) for host, files in hosts.items()},
    }
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not made by whoever finds it there: then it is another run's.
        unfinished.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritten(directory, error) from error
    try:
        sums = []
        for name, content in _named(about, hosts):
            _write_file(unfinished, name, content)
            sums.append(f"{sha256(content).hexdigest()}  {name}\n")
        _write_file(unfinished, _SUMS, "".join(sums).encode())
        for folder in (*(p for p in unfinished.rglob("*") if p.is_dir()), unfinished):
            _sync(folder)
        # Onto a directory that is not empty this fails.
        unfinished.rename(directory)
        _sync(root)
    except OSError as error:
        with suppress(OSError):
            shutil.rmtree(unfinished)
        raise _unwritten(directory, error) from error
    return directory


def read(directory: Path) -> Backup:
    """A backup, each file of which is as it was written.

    :raises BackupError: when it is none, not complete, or a file is missing or differs.
    """
    if not directory.is_dir():
        raise BackupError("not a directory", f"name one of those in {BACKUPS_DIR}/")
    if directory.resolve().name.endswith(_UNFINISHED):
        raise BackupError("not finished: the run that wrote it was ended", _AGAIN)
    files = dict(_verified(directory))
    try:
        about = json.loads(files[_ABOUT])
        pair, named = str(about["pair"]), dict(about["hosts"])
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{_ABOUT} does not say whose backup it is", _AGAIN) from error
    for name in (f"{host}{path}" for host, paths in named.items() for path in paths):
        if name not in files:
            raise BackupError(f"{name} is not in {_SUMS}", _AGAIN)
    hosts = {
        host: {path: files[f"{host}{path}"] for path in paths} for host, paths in named.items()
    }
    return Backup(directory, pair, hosts)


def newest(root: Path, limit: int = 3) -> tuple[str, ...]:
    """The finished backups below ``root`` that were made last, newest first, at most ``limit``."""
    found = [path.parent for path in root.glob(f"*-????-??-??T??-??-??.???/{_SUMS}")]
    # By the time at the end of their names; those of several pairs are mixed.
    return tuple(map(str, sorted(found, key=lambda p: p.name[-23:], reverse=True)[:limit]))


def _named(
    about: Mapping[str, object], hosts: Mapping[str, Mapping[str, bytes]]
) -> Iterator[tuple[str, bytes]]:
    yield _ABOUT, (json.dumps(about, indent=2) + "\n").encode()
    for host, files in hosts.items():
        for path, content in files.items():
            yield f"{host}{path}", content


def _verified(directory: Path) -> Iterator[tuple[str, bytes]]:
    try:
        lines = (directory / _SUMS).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise BackupError(f"{_SUMS} cannot be read ({_reason(error)})", _AGAIN) from error
    for number, line in enumerate(lines, 1):
        found = _SUM_LINE.fullmatch(line)
        if found is None or not _is_inside(found[2]):
            raise BackupError(f"{_SUMS} is damaged: line {number}", _AGAIN)
        digest, name = found.groups()
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise BackupError(f"{name} cannot be read ({_reason(error)})", _AGAIN) from error
        if sha256(content).hexdigest() != digest:
            raise BackupError(f"{name} is damaged: it is not what {_SUMS} says", _AGAIN)
        yield name, content


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _write_file(directory: Path, name: str, content: bytes) -> None:
    path = directory
    *folders, _ = PurePosixPath(name).parts
    for folder in folders:
        path /= folder
        path.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritten(directory: Path, error: OSError) -> BackupError:
    return BackupError(
        f"{directory} cannot be written here ({_reason(error)})",
        "mend that on this machine, then run the same command again",
    )


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
