"""Reading documents of Kea, and what differs between two of them, with secrets masked.

Used to tell an operator what would change, and to show that the two hosts of a pair say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeVar

from kea_ha.foreign import ForeignError, json_value
from kea_ha.settings.problems import shown

T = TypeVar("T")

_MISSING: Final = object()
_IDENTITIES: Final = ("id", "library", "name", "pool", "hw-address", "client-id", "output")
"""Members by which one entry of a list is told from the others, whatever its place."""

HOST_OWN: Final = re.compile(
    r"Dhcp4\.(?:"
    r"hooks-libraries\[[^]]*\]\.parameters\.high-availability\[[^]]*\]\.this-server-name"
    r"|interfaces-config\.interfaces\[0\]"
    r"|subnet4\[[^]]*\]\.interface"
    r"|control-sockets\[[^]]*\]\.socket-address"
    r")|Control-agent\.http-host"
)
"""Paths of what must be each host's own."""


def remembered(most: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Remember what a function makes of texts, of so many characters together.

    A host is looked at twice a second while something is awaited, and mostly says the same; what
    it says must not fill the memory.
    """

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        known: dict[str, T] = {}

        @wraps(function)
        def remembering(text: str) -> T:
            if text in known:
                return known[text]
            made = function(text)
            if sum(map(len, known)) + len(text) > most:
                known.clear()
            if len(text) <= most:
                known[text] = made
            return made

        return remembering

    return decorate


@remembered(4 << 20)
def parse_document(text: str) -> Mapping[str, Any]:
    """Kea's JSON with `//`, `#` and `/* */` comments, as data; ValueError says what is wrong.

    Whoever asks for the same text gets the same data: nobody may change it.
    """
    try:
        document = json_value(_without_comments(text), "the document")
    except ForeignError as error:
        raise ValueError(str(error)) from error
    if not isinstance(document, dict):
        raise ValueError("a document of Kea is a map")
    return document


_OPENS: Final = re.compile(r'"|//|#|/\*')
_IN_STRING: Final = re.compile(r'["\\]')


def _without_comments(text: str) -> str:
    """The text without its comments; the lines stay, so that a parser names the right one.

    In one pass: a string or a comment that is not closed goes to the end.
    """
    parts: list[str] = []
    begin = 0
    while found := _OPENS.search(text, begin):
        at, end = found.start(), len(text)
        if found.group() == '"':
            inside = found.end()
            while stop := _IN_STRING.search(text, inside):
                inside = stop.end() + (stop.group() == "\\")
                if stop.group() == '"':
                    end = inside
                    break
            parts.append(text[begin:end])
        else:
            closing = "*/" if found.group() == "/*" else "\n"
            stop_at = text.find(closing, found.end())
            if stop_at >= 0:
                end = stop_at + (len(closing) if closing == "*/" else 0)
            parts += (text[begin:at], "\n" * text.count("\n", at, end))
        begin = end
    return "".join((*parts, text[begin:]))


@dataclass(frozen=True)
class Difference:
    """One member that differs; `old` and `new` are short texts, `nothing` where it is absent."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}: {self.old} -> {self.new}"


def differences(old: Any, new: Any) -> list[Difference]:
    """All that differs between two documents, in the order of the first one."""
    return list(_differences(old, new, ""))


def pair_differences(primary: Any, standby: Any) -> list[Difference]:
    """What differs between the documents of a pair's two hosts, and may not."""
    return [one for one in differences(primary, standby) if not HOST_OWN.fullmatch(one.path)]


def _differences(old: Any, new: Any, path: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(old.get(key, _MISSING), new.get(key, _MISSING), below)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_differences(old, new, path)
    elif type(old) is not type(new) or old != new:
        yield Difference(path, _shown(old, path), _shown(new, path))


def _list_differences(old: list[Any], new: list[Any], path: str) -> Iterator[Difference]:
    identity = _identity(old, new)
    if identity is None:
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else _MISSING
            after = new[index] if index < len(new) else _MISSING
            yield from _differences(before, after, f"{path}[{index}]")
        return
    before_by, after_by = ({one[identity]: one for one in side} for side in (old, new))
    for key in [*before_by, *(key for key in after_by if key not in before_by)]:
        below = f"{path}[{key}]"
        yield from _differences(before_by.get(key, _MISSING), after_by.get(key, _MISSING), below)
    kept_before = [key for key in before_by if key in after_by]
    kept_after = [key for key in after_by if key in before_by]
    if kept_before != kept_after:
        yield Difference(f"{path} (order)", shown(kept_before), shown(kept_after))


def _identity(old: list[Any], new: list[Any]) -> str | None:
    for member in _IDENTITIES:
        if all(_is_identified(side, member) for side in (old, new)):
            return member
    return None


def _is_identified(side: list[Any], member: str) -> bool:
    if not all(isinstance(one, dict) and isinstance(one.get(member), str | int) for one in side):
        return False
    return len({one[member] for one in side}) == len(side)


def _shown(value: Any, path: str) -> str:
    if value is _MISSING:
        return "nothing"
    return shown(value, path)
