"""What is wrong with the settings, said so that an operator can act on it.

Every refusal has the same four parts: the setting, what was given, what is allowed, what to do.
A value whose name says that it is a secret is never repeated.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HIDDEN = "(not shown: it may be a secret)"
LONGEST_SHOWN = 80

_SECRET = re.compile(
    r"(pass|password|passphrase|passwd|pwd|psk|secret|token|credentials?|(api|secret|access|private|"
    r"shared|encryption|signing)[-_]?keys?)$",
    re.IGNORECASE,
)
#: The one member whose names are the operator's own, and mean nothing to Kea.
_OWN_NAMES = "user-context"
#: What is a secret by where it stands: what an HTTP header says.
_HEADERS, _OF_A_HEADER = "http-headers", "value"


@dataclass(frozen=True)
class Problem:
    """One setting that cannot be rolled out; `where` names the pair or the host, if known."""

    setting: str
    given: str
    allowed: str
    remedy: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"{self.remedy[:1].upper()}{self.remedy[1:].rstrip('.')}."
        end = "\n   " if "\n" in self.given else "."
        return f"{place}{self.setting} is {self.given}{end} Allowed: {self.allowed}. {remedy}"


def below(items: Iterable[object]) -> str:
    """Items as part of what is given in a problem, each on a line of its own."""
    return "".join(f"\n      {item}" for item in items)


def counted(number: int, noun: str) -> str:
    """So many of them, in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class SettingsError(Exception):
    """Raised when settings cannot be rolled out; `problems` holds all of them, not the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        heading = counted(len(self.problems), "problem")
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{heading} in the settings; nothing was contacted or changed.{lines}")


class Refused(ValueError):
    """Raised when a single value breaks a rule; becomes a Problem where its setting is known."""

    def __init__(self, allowed: str, remedy: str) -> None:
        super().__init__(f"{allowed}. {remedy}")
        self.allowed = allowed
        self.remedy = remedy


def is_secret(path: str) -> bool:
    """Whether what stands at this path holds a secret in clear (`password`, not `password-file`).

    A path is the names from the outside in, with dots between them, and places in lists in
    brackets.
    """
    *around, name = re.sub(r"\[[^][]*\]", "", path).split(".")
    if _OWN_NAMES in around:
        return False
    return _SECRET.search(name) is not None or (name == _OF_A_HEADER and _HEADERS in around)


def masked(value: Any, path: str = "") -> Any:
    """The same value with every secret in it, at any depth, replaced; `path` is where it stands."""
    if isinstance(value, dict):
        found = {}
        for key, inner in value.items():
            below = f"{path}.{key}" if path else str(key)
            found[key] = HIDDEN if is_secret(below) else masked(inner, below)
        return found
    if isinstance(value, list | tuple):
        return [masked(inner, path) for inner in value]
    return value


def shown(value: Any, name: str = "") -> str:
    """The value as an operator would write it, short, on one line, without secrets."""
    if is_secret(name):
        return HIDDEN
    text = json.dumps(masked(value, name), ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """`Did you mean X? `, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}? " if close else ""
