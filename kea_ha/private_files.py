"""Files of the operator's alone, on the operator's machine: keys, backups, reports.

Nobody else can open one, from its first byte on, and each is there whole or not at all. What takes
a name keeps it also when the power fails: the disk has the file first, and its directory then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

#: How the name of what is not finished ends.
UNFINISHED = ".new"


def create(path: Path, pieces: Iterable[bytes], mode: int = 0o600) -> None:
    """Write a file that is not there yet; the caller has its directory kept (``sync``).

    Another ``mode`` is for what is no secret, in a directory that is closed.

    :raises FileExistsError: when there is something of this name: then it is somebody else's.
    :raises OSError: when it cannot be written whole; then nothing is left of it.
    """
    # O_EXCL with the mode: never a moment with wider rights, never somebody else's file.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in place by a rename, for whoever is the only one to do so at this moment.

    A kill leaves the file of before or the new one, and perhaps what was not finished beside it,
    which the next time clears away.

    :raises OSError: when it cannot be written; then the file of before is there.
    """
    candidate = path.with_name(f"{path.name}{UNFINISHED}")
    candidate.unlink(missing_ok=True)
    create(candidate, [content], mode)
    candidate.replace(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Have the disk keep which names are in a directory."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
