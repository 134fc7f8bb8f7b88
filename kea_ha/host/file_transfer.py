"""Files of a host on their way here, and a lease file back: the shell scripts, and what they print.

Pure, but for being shell and for the files that it writes here. Kea may rotate its lease files
(Lease File Cleanup) while they are read. Then the names stand for other files afterwards than
before, and all is read again: what is taken is a set that Kea could have loaded at one moment.
Nothing is left on the host by reading.

Lease files may be large, and are Kea's user's: they are read as that user, travel compressed, and
go to disk as they come. Paths and sizes are those that were asked for, whatever the host says.
"""

from __future__ import annotations

import gzip
import mmap
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from kea_ha import foreign, layout
from kea_ha.foreign import ForeignError
from kea_ha.host import frames
from kea_ha.host.script import script

#: The largest lease file that is read, in bytes: 500 000 leases take some 75 MB, and between two
#: cleanups Kea adds a row for each renewal. Also what all files of a host may unpack to is bounded.
LARGEST_LEASES: Final = 256 << 20
#: The same of a document, and of all on their way: lease files travel compressed, to a tenth.
LARGEST_DOCUMENT: Final = 4 << 20
MOST: Final = 256 << 20
#: How often a set of lease files is read that Kea rotates meanwhile.
_TRIES: Final = 5


def read_script(plain: Sequence[str], set_: Sequence[str]) -> str:
    """Send those of these files that exist; those of ``set_`` as they were at one moment."""
    return frames.framed(
        script(
            *("as_kea", "read_files"),
            plain=plain,
            document_size=LARGEST_DOCUMENT,
            leases=set_,
            largest=LARGEST_LEASES,
            tries=map(str, range(_TRIES)),
        )
    )


def unpack(
    answer: Path, directory: Path, plain: Sequence[str], set_: Sequence[str]
) -> dict[str, bytes | Path]:
    """What ``read_script`` printed into ``answer``: the files by their paths on the host.

    Of a document there is its content, and of a lease file where it is in ``directory`` (the
    operator's alone), without a last line that was only partly written.

    :raises ForeignError: when they did not come whole, or not as of one moment.
    """
    with answer.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ForeignError("the answer was cut short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as said:
            return _unpacked(said, directory, plain, set_)


def _unpacked(
    said: mmap.mmap, directory: Path, plain: Sequence[str], set_: Sequence[str]
) -> dict[str, bytes | Path]:
    asked = [f"document.{number}" for number in range(len(plain))]
    for one in range(_TRIES):
        asked += [f"whole.{one}", f"sizes.{one}"]
        asked += [f"lease.{one * 10 + number}" for number in range(len(set_))]
    where = frames.find(said, asked)
    found: dict[str, bytes | Path] = {}
    for number, path in enumerate(plain):
        if (name := f"document.{number}") in where:
            content = frames.value_at(said, path, where[name], LARGEST_DOCUMENT)
            if len(content) >= LARGEST_DOCUMENT:
                raise ForeignError(f"{path} is larger than {LARGEST_DOCUMENT} bytes")
            found[path] = content
    whole = next((one for one in range(_TRIES) if f"whole.{one}" in where), None)
    if whole is None:
        raise ForeignError("Kea rotated its lease files each time that they were read")
    name = f"sizes.{whole}"
    sizes = frames.value_at(said, name, where[name]) if name in where else b""
    for line in foreign.lines(sizes):
        number_, _, size = line.partition(" ")
        number = foreign.number(number_, len(set_) - 1)
        if set_[number] in found:
            raise ForeignError(f"the answer tells of {set_[number]} twice")
        if foreign.number(size) > LARGEST_LEASES:
            raise ForeignError(f"{set_[number]} has {size} bytes, and no more than "
                               f"{LARGEST_LEASES} are read")  # fmt: skip
        here, name = directory / f"lease-file-{number}", f"lease.{whole * 10 + number}"
        if name not in where or _unzip(said, where[name], here) < foreign.number(size):
            raise ForeignError(f"{set_[number]} could not be read whole as {layout.KEA_USER}")
        if set_[number] == layout.LEASES:
            _drop_partial_line(here)
        found[set_[number]] = here
    return found


#: How much is decoded at a time: a multiple of four.
_PIECE: Final = 1 << 20


def _unzip(said: mmap.mmap, where: slice, here: Path) -> int:
    """Unpack a value to a new file here; its size."""
    unpack, size = zlib.decompressobj(wbits=31), 0  # with gzip's header and checksum
    handle = os.open(here, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            for begin in range(where.start, where.stop, _PIECE):
                packed = b64decode(said[begin : min(begin + _PIECE, where.stop)], validate=True)
                while packed and not unpack.eof:
                    content = unpack.decompress(packed, _PIECE)
                    size += len(content)
                    if size > LARGEST_LEASES:
                        raise ForeignError(f"a lease file has more than {LARGEST_LEASES} bytes")
                    file.write(content)
                    packed = unpack.unconsumed_tail
    except (ValueError, zlib.error) as error:
        raise ForeignError("a lease file came damaged") from error
    if not unpack.eof:
        raise ForeignError("a lease file came damaged")
    return size


def _drop_partial_line(here: Path) -> None:
    """Kea writes to the live file while it is read."""
    with here.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - 65536)
            file.seek(begin)
            at = file.read(end - begin).rfind(b"\n")
            if at >= 0:
                end = begin + at + 1
                break
            end = begin
        file.truncate(end)


def write_script(
    content: bytes,
    *,
    path: str,
    others: Collection[str],
    aside: str,
) -> str:
    """Put ``write_input`` of this content at ``path`` as Kea's user; move the ``others`` aside.

    What was there, if anything, is kept in ``aside``, a directory that is root's alone. The file
    appears whole or not at all; until it does nothing that Kea reads is touched. It has to hold
    what all of the others hold: then it supersedes them, and they may stay for a while or not.
    """
    return f'kea() {{ runuser -u {layout.KEA_USER} -- "$@"; }}\n' + script(
        "write_leases",
        path=path,
        others=others,
        aside=aside,
        digest=sha256(content).hexdigest(),
    )


def write_input(content: bytes) -> str:
    """What ``write_script`` reads on its standard input."""
    return b64encode(gzip.compress(content, mtime=0)).decode()
