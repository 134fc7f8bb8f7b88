"""Shell that runs on hosts: each script is a file of ``files/host/``, sent with what it is given.

It runs under plain ``sh`` with what any Debian has, as one remote command, and nothing is left of
it on a host. ``: "${name?}"`` in its first lines tells what it has to be given; what is in a value
never becomes shell. Paths of a host stand in it as they are in ``layout``, as in all of ``files/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kea_ha.foreign import quoted

_SCRIPTS = Path(__file__).resolve().parents[2] / "files/host"
#: With lists a script splits at line feeds alone, and expands no pattern before its `set +f`.
_LISTS = "IFS='\n'; set -f\n"
#: Read at once: what undoes a change must be there when it is needed, and of one version.
_TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_SCRIPTS.glob("*.sh"))}


def script(*names: str, **given: str | int | Iterable[str]) -> str:
    """These scripts, one after the other, with what they are given as variables in front.

    Of several words each is a line: ``for file in $files`` gets every one as it is.

    :raises ValueError: for an empty word among several, or one of two lines.
    """
    lists, variables = "", ""
    for name, value in given.items():
        if not isinstance(value, str | int):
            lists, words = _LISTS, [*value]
            if any(not word or "\n" in word for word in words):
                raise ValueError(f"{name} has a word that is no line: {words}")
            value = "\n".join(words)
        variables += f"{name}={quoted(str(value))}\n"
    return lists + variables + "".join(_TEXTS[name] for name in names)
