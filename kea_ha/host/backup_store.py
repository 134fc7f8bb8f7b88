"""Backups of a pair on the operator's machine: written, found, and read only when they are whole.

What is written comes from hosts, and what is read may come from elsewhere: no name leads outside
the backup, and no link is followed.

A backup is a directory: ``HOST/`` with the host's files below it at their own paths, ``about.json``
with whose they are, and ``SHA256SUMS`` in the format of sha256sum(1). It is written beside its name
and takes that by a rename, so whatever has the name is complete. It is the operator's alone from
the first byte on. Pure but for the file system.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from kea_ha import foreign, private_files
from kea_ha.foreign import ForeignError
from kea_ha.private_files import UNFINISHED
from kea_ha.refusal import Refusal

#: Where the backups of all pairs are.
BACKUPS_DIR = Path("backups")

_SUMS, _ABOUT = "SHA256SUMS", "about.json"
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
#: What all files of a backup may have together, and its list of them. Bytes.
_LARGEST = 2 << 30
_LARGEST_SUMS = 1 << 20
#: How large a file is that is kept in memory: any document.
_IN_MEMORY = 4 << 20
_AGAIN = "use another backup: this one cannot be trusted"


class BackupError(Refusal):
    """Raised when a backup cannot be written or used."""


@dataclass(frozen=True)
class Backup:
    """A backup that was found whole. ``hosts``: by host, its files' content by path on the host.

    Of a file that is large there is in its place where it is.
    """

    directory: Path
    pair: str
    hosts: Mapping[str, Mapping[str, bytes | Path]] = field(repr=False)

    def documents(self, host: str) -> dict[str, bytes]:
        """The files of a host but for large ones, which no document is."""
        files = self.hosts.get(host, {})
        return {path: content for path, content in files.items() if isinstance(content, bytes)}


def write(
    root: Path, pair: str, moment: datetime, hosts: Mapping[str, Mapping[str, bytes | Path]]
) -> Path:
    """Write a backup of these files (by host, by path on the host) below ``root``; where it is.

    A file is given by its content, or by where it is here.

    It is named after the pair and the ``moment``, in UTC. Killed half-way, this leaves a directory
    that ends in ``.new`` and is not taken for a backup.

    :raises BackupError: when it cannot be written whole; then nothing is left.
    """
    at = moment.astimezone(UTC)
    # Two may be made in one second.
    directory = root / f"{pair}-{at:%Y-%m-%dT%H-%M-%S}.{at.microsecond // 1000:03}"
    unfinished = directory.with_name(directory.name + UNFINISHED)
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
            sums.append(f"{_write_file(unfinished, name, content)}  {name}\n")
        _write_file(unfinished, _SUMS, "".join(sums).encode())
        for folder in (*(p for p in unfinished.rglob("*") if p.is_dir()), unfinished):
            private_files.sync(folder)
        # Onto a directory that is not empty this fails.
        unfinished.rename(directory)
        private_files.sync(root)
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
    if directory.resolve().name.endswith(UNFINISHED):
        raise BackupError("not finished: the run that wrote it was ended", _AGAIN)
    files = dict(_verified(directory))
    try:
        told = files.get(_ABOUT, b"")
        about = foreign.json_value(told if isinstance(told, bytes) else b"", _ABOUT)
    except ForeignError as error:
        raise BackupError(str(error), _AGAIN) from error
    hosts: dict[str, dict[str, bytes | Path]] = {}
    match about:
        case {"pair": str(pair), "hosts": dict(named)}:
            for host, paths in named.items():
                hosts[host] = _files_of(host, paths, files)
            return Backup(directory, foreign.cut(pair, 100), hosts)
    raise BackupError(f"{_ABOUT} does not say whose backup it is", _AGAIN)


def _files_of(
    host: str, paths: object, files: Mapping[str, bytes | Path]
) -> dict[str, bytes | Path]:
    found: dict[str, bytes | Path] = {}
    for path in paths if isinstance(paths, list) else [None]:
        if not isinstance(path, str):
            raise BackupError(f"{_ABOUT} does not say what it has of {foreign.cut(host)}", _AGAIN)
        if f"{host}{path}" not in files:
            raise BackupError(f"{foreign.cut(host + path)} is not in {_SUMS}", _AGAIN)
        found[path] = files[f"{host}{path}"]
    return found


def newest(root: Path) -> tuple[str, ...]:
    """The finished backups below ``root`` that were made last, newest first, at most three."""
    found = [path.parent for path in root.glob(f"*-????-??-??T??-??-??.???/{_SUMS}")]
    # By the time at the end of their names; those of several pairs are mixed.
    return tuple(map(str, sorted(found, key=lambda p: p.name[-23:], reverse=True)[:3]))


def _named(
    about: Mapping[str, object], hosts: Mapping[str, Mapping[str, bytes | Path]]
) -> Iterator[tuple[str, bytes | Path]]:
    yield _ABOUT, (json.dumps(about, indent=2) + "\n").encode()
    for host, files in hosts.items():
        for path, content in files.items():
            yield f"{host}{path}", content


def _verified(directory: Path) -> Iterator[tuple[str, bytes | Path]]:
    try:
        listed, _ = _content_of(directory, _SUMS, _LARGEST_SUMS)
    except OSError as error:
        raise BackupError(f"{_SUMS} cannot be read ({_reason(error)})", _AGAIN) from error
    left = _LARGEST
    for number, line in enumerate(foreign.lines(listed if isinstance(listed, bytes) else b""), 1):
        found = _SUM_LINE.fullmatch(line)
        if found is None or not _is_inside(found[2]):
            raise BackupError(f"{_SUMS} is damaged: line {number}", _AGAIN)
        digest, name = found.groups()
        try:
            content, digest_here = _content_of(directory, name, left)
        except OSError as error:
            raise BackupError(
                f"{foreign.cut(name)} cannot be read ({_reason(error)})", _AGAIN
            ) from error
        left -= _size_of(content)
        if digest_here != digest:
            raise BackupError(
                f"{foreign.cut(name)} is damaged: it is not what {_SUMS} says", _AGAIN
            )
        yield name, content


def _size_of(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _content_of(directory: Path, name: str, most: int) -> tuple[bytes | Path, str]:
    """A file of the backup itself, and its SHA-256: no link on the way to it, no pipe, no more
    bytes than that. A large one stays where it is.

    :raises OSError: when it is something else, or not there.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, last = PurePosixPath(name).parts
        for flags, part in (*((os.O_DIRECTORY, f) for f in folders), (os.O_NONBLOCK, last)):
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=handle)
            os.close(handle)
            handle = inner
        about = os.fstat(handle)
        if not S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        if about.st_size > most:
            raise OSError(errno.EFBIG, "it is too large")
        digest, kept = sha256(), []
        with os.fdopen(os.dup(handle), "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                if about.st_size <= _IN_MEMORY:
                    kept.append(piece)
        content = b"".join(kept) if about.st_size <= _IN_MEMORY else directory / name
        return content, digest.hexdigest()
    finally:
        os.close(handle)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = not path.is_absolute() and ".." not in path.parts and bool(path.parts)
    return is_plain and "\0" not in name and "\n" not in name


def _write_file(directory: Path, name: str, content: bytes | Path) -> str:
    """Write a file of the backup, whole; its SHA-256."""
    if not _is_inside(name):
        raise OSError(errno.EINVAL, f"{foreign.cut(name)} would not be in it")
    path = directory
    *folders, _ = PurePosixPath(name).parts
    for folder in folders:
        path /= folder
        path.mkdir(mode=0o700, exist_ok=True)
    digest = sha256()

    def pieces() -> Iterator[bytes]:
        with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                yield piece

    private_files.create(directory / name, pieces())
    return digest.hexdigest()


def _unwritten(directory: Path, error: OSError) -> BackupError:
    return BackupError(
        f"{directory} cannot be written here ({_reason(error)})",
        "mend that on this machine, then run the same command again",
    )


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
