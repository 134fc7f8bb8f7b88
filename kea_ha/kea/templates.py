"""How values become text: Jinja templates, and a document's sections laid out one by one.

A template can neither lose a member of a document nor write one wrongly: whatever it does not
name is laid out too, and every value goes through JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2

TEMPLATES: Final = Path(__file__).resolve().parents[2] / "templates"


class Sections:
    """The members of one document, for a template that lays them out one by one.

    Each call takes a member and gives its line of JSON; `rest` gives those that no one took, so
    that no value can be lost. The last member of a document goes without a comma.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = dict(members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __call__(self, name: str, comma: str = ",") -> str:
        value = json.dumps(self._members.pop(name), ensure_ascii=False, indent=2)
        return f"{_text(name)}: {value}{comma}".replace("\n", "\n    ")

    def rest(self, last: str) -> Iterator[str]:
        """The names of the members that are left, but for the one that comes last."""
        return iter([name for name in self._members if name != last])


def _text(value: Any) -> str:
    # Not Jinja's own tojson: it escapes for HTML, and Kea takes \u escapes only below \u0100.
    return json.dumps(value, ensure_ascii=False)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # In configuration files escapes would be wrong; in HTML a name must stay a name.
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default=False),
    )
    environment.filters["tojson"] = _text
    return environment


def render(template: str, **values: Any) -> str:
    """A template of `templates/` with these values; an unknown name in it is an error."""
    return _templates().get_template(template).render(**values)
