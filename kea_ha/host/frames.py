"""How values travel from a host: each as one line of base64 behind its name, so that no byte of a
value is taken for structure.

A script passes each value to ``put NAME`` on its standard input; ``framed`` gives it ``put``, and
``put end`` as its last line. Lines that do not begin with the run's own token are what a login or
a tool printed beside it, and are left out. ``read`` gives the values of the names that were asked
for. Lines are split at the line feed alone.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from collections.abc import Collection, Mapping
from mmap import mmap
from types import MappingProxyType
from typing import Final

from kea_ha.foreign import ForeignError

#: What each line of ours begins with in this run.
TOKEN: Final = secrets.token_hex(8)
#: The name of the last value: without it an answer was cut short.
END: Final = "end"

_NAME = re.compile(rb"[a-z][a-z_]{0,30}(?:\.[0-9]{1,10})?")
_LONGEST_NAME = 50
#: What most values have at the very most, in bytes: tables of a host's packages, sockets, cards.
USUAL_SIZE: Final = 256 << 10
#: What a script sends is some dozens, with what a login prints beside it.
_MOST_LINES = 10_000


def framed(script: str) -> str:
    """A script that sends values, with what it needs for that around it."""
    return (
        "export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"""put() {{ printf '{TOKEN} %s ' "$1"; base64 -w0; echo; }}\n"""
        "echo\n"  # a login may have printed something without an end of its line
        f"{script}put {END} </dev/null\n"
    )


def read(
    said: bytes,
    known: Collection[str],
    largest: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, bytes]:
    """The values that a script of ours sent, by their names.

    ``known``: the names that were asked for; one that ends in ``.*`` stands for all its numbers.
    ``largest``: how many bytes a value of a kind may have, if not as few as most.

    :raises ForeignError: when it was cut short, tells something else, tells something twice, or
        tells too much of something.
    """
    found = {}
    for name, where in find(said, known).items():
        most = largest.get(name.partition(".")[0], USUAL_SIZE)
        found[name] = value_at(said, name, where, most)
    return found


def value_at(said: bytes | mmap, name: str, where: slice, most: int = USUAL_SIZE) -> bytes:
    """The value of this name, whose base64 is there, of at most so many bytes.

    :raises ForeignError: when it came damaged, or is larger.
    """
    if where.stop - where.start > most * 4 // 3 + 4:
        raise ForeignError(f"what the answer has for {name} is more than {most} bytes")
    try:
        return b64decode(said[where], validate=True)
    except ValueError as error:
        raise ForeignError(f"what the answer has for {name} came damaged") from error


def find(said: bytes | mmap, known: Collection[str]) -> dict[str, slice]:
    """Where in an answer the base64 of each value is.

    :raises ForeignError: as ``read`` does, but for a value that is damaged.
    """
    found: dict[str, slice] = {}
    begin = TOKEN.encode() + b" "
    at, ended, lines = 0, False, 0
    while at < len(said):
        lines += 1
        if lines > _MOST_LINES:
            raise ForeignError("the answer has lines without end")
        end = said.find(b"\n", at)
        end = len(said) if end < 0 else end
        head = said[at : min(end, at + len(begin) + _LONGEST_NAME)]
        if head.startswith(begin):
            name_, separator, _ = head[len(begin) :].partition(b" ")
            if ended or not separator or not _NAME.fullmatch(name_):
                raise ForeignError("the answer goes on after its end, or has a value without name")
            name = name_.decode()
            ended = name == END
            if not ended:
                _is_new(name, known, found)
                found[name] = slice(at + len(begin) + len(name_) + 1, end)
        at = end + 1
    if not ended:
        raise ForeignError("the answer was cut short")
    return found


def _is_new(name: str, known: Collection[str], found: Collection[str]) -> None:
    kind, dot, _ = name.partition(".")
    if name not in known and not (dot and f"{kind}.*" in known):
        raise ForeignError(f"the answer tells of {name}, which was not asked for")
    if name in found:
        raise ForeignError(f"the answer tells of {name} twice")


def plain(said: bytes) -> bytes:
    """The same for a person to read: each value as it is, below its name."""
    found = []
    begin = TOKEN.encode() + b" "
    for line in said.split(b"\n"):
        name, separator, value = line.removeprefix(begin).partition(b" ")
        if line.startswith(begin) and separator:
            try:
                line = name + b":\n" + b64decode(value)
            except ValueError:
                line = name + b": came damaged"
        found.append(line)
    return b"\n".join(found)
