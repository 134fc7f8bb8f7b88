"""The door for foreign words: what a host, Kea, a client or a partner says is bytes until here.

Whatever comes from elsewhere may have been written by somebody who wants this project to do what
it should not: on the operator's machine, on another host, or in a verdict. Here bytes become typed
values, or ``ForeignError`` in words; nothing else leaves these functions, for any bytes. What goes
to a screen, a report or a log passes ``shown``; what becomes a word of a shell script passes
``quoted``.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

#: How deep a JSON value may be nested: Kea's own documents and answers have a dozen levels.
DEEPEST: Final = 64

# Unicode's general categories of what does not show as itself: controls (C0, DEL, C1), formats
# (bidirectional ones among them), halves of surrogate pairs, private and unassigned code points,
# line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ForeignError(Exception):
    """Raised when foreign bytes are not what they should be; the message may be shown."""


# To a screen ---------------------------------------------------------------------------------


def shown(said: str | bytes, indent: str = "") -> str:
    """Foreign text as it may stand on a screen, in a report or in a log.

    Control characters but newline and tab are written as escapes, so that nothing moves the
    cursor, clears the screen, sets a title or turns the direction of writing. Each line after the
    first begins with ``indent``: with one, no line stands where one of ours would.
    """
    text = said.decode(errors="backslashreplace") if isinstance(said, bytes) else said
    if not (text.isascii() and text.isprintable()):
        text = "".join(_seen(character) for character in text)
    return text.replace("\n", f"\n{indent}") if indent else text


def cut(said: str | bytes, most: int = 300) -> str:
    """The same on one line, of at most so many characters."""
    part = said[: 4 * most]
    text = shown(part).replace("\n", " ").replace("\t", " ").strip()
    return text if len(text) <= most and len(part) == len(said) else f"{text[:most]}…"


def _seen(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else (
        f"\\U{code:08x}"
    )  # fmt: skip


# To a shell ----------------------------------------------------------------------------------


def quoted(*words: str) -> str:
    """Words of a shell script that mean nothing but themselves, whatever is in them."""
    return shlex.join(words)


# From bytes ----------------------------------------------------------------------------------


def lines(said: bytes) -> Iterator[str]:
    """The lines of foreign text, split at the line feed alone, as every program on a host does.

    ``str.splitlines`` also splits at ten others, which would make two lines of what a host took
    for one. What is no UTF-8 is replaced.
    """
    begin, end = 0, len(said) - said.endswith(b"\n")
    while said and begin <= end:
        at = said.find(b"\n", begin, end)
        at = end if at < 0 else at
        yield text(said[begin:at])
        begin = at + 1


def text(said: bytes) -> str:
    """Foreign bytes as text; what is no UTF-8 is replaced. It is shown by ``shown`` alone."""
    return said.decode(errors="replace")


def json_value(said: bytes | str, what: str) -> Any:
    """A JSON value that is nested no deeper than any of ours.

    :raises ForeignError: for anything else, which is called ``what`` then.
    """
    try:
        value = json.loads(said)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, or a huge number
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ForeignError(f"{what} is no JSON ({cut(reason)})") from error
    if _is_deeper(value):
        raise ForeignError(f"{what} is nested too deep")
    return value


def _is_deeper(value: Any) -> bool:
    """Whether it is nested deeper than DEEPEST; without recursion."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return False
        level = below
    return True


# Typed words ---------------------------------------------------------------------------------

_NUMBER = re.compile(r"[0-9]{1,19}")
_MODE = re.compile(r"[0-7]{1,4}")
# What Debian's adduser allows, and a number or systemd's and stat's own words for what has no name.
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_CODENAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")
# Debian's policy, 5.6.12.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]{0,99}")
# Of what Linux allows in an interface's name (dev_valid_name), what a shell and nft take as it is.
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,14}")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What this project calls accepted states: a time, or a backup, or either with a number.
_STATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,127}")


def number(text: str, most: int = 2**63 - 1) -> int:
    """A whole number of plain digits, at most ``most``.

    :raises ForeignError: for anything else.
    """
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise ForeignError(f"{cut(text, 40)!r} is no number up to {most}")
    return int(text)


def is_number(text: str) -> bool:
    """Whether it is such a number."""
    return _NUMBER.fullmatch(text) is not None


def mode(text: str) -> str:
    """The mode of a file, in octal digits.

    :raises ForeignError: for anything else; so do those below.
    """
    return _matching(_MODE, text, "mode of a file")


def owner(text: str) -> str:
    """A file's ``user:group``."""
    return _matching(_OWNER, text, "owner of a file")


def codename(text: str) -> str:
    """What a release of a distribution is called."""
    return _matching(_CODENAME, text, "codename of a release")


def architecture(text: str) -> str:
    """What dpkg calls a kind of processor."""
    return _matching(_ARCHITECTURE, text, "architecture")


def version(text: str) -> str:
    """A version of a package."""
    return _matching(_VERSION, text, "version of a package")


def interface(text: str) -> str:
    """The name of a network interface."""
    return _matching(_INTERFACE, text, "name of an interface")


def is_interface(text: str) -> bool:
    """Whether a network interface can be called so, and a script be given the name."""
    return _INTERFACE.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether it is an IP address, or a host name (RFC 1123, and underscores) that DNS can have."""
    try:
        ip_address(text)
    except ValueError:
        return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))
    return "%" not in text  # a zone is anything


def mac(text: str) -> str:
    """A client's MAC address, six pairs of digits with colons between."""
    return _matching(_MAC, text, "MAC address")


def digest(text: str) -> str:
    """A SHA-256, in hexadecimal digits."""
    return _matching(_DIGEST, text, "digest")


def state_name(text: str) -> str:
    """The name of an accepted state."""
    return _matching(_STATE_NAME, text, "name of an accepted state")


def ipv4(text: str) -> str:
    """An IPv4 address."""
    try:
        return str(IPv4Address(text))
    except ValueError as error:
        raise ForeignError(f"{cut(text, 40)!r} is no IPv4 address") from error


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ForeignError(f"{cut(text, 40)!r} is no {what}")
    return text


def only(asked: Iterable[str], found: str) -> str:
    """A name that was asked for.

    :raises ForeignError: when it is another one.
    """
    if found not in asked:
        raise ForeignError(f"{cut(found, 80)!r} was not asked for")
    return found
