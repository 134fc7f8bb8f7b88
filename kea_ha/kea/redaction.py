"""Documents without the secrets that somebody wrote into them by hand. Pure.

What this project writes has none. A live document may be edited, and a backup of it is not where a
password belongs.
"""

from __future__ import annotations

import json
import re

from kea_ha.kea.config_diff import parse_document
from kea_ha.settings.problems import is_secret, masked

_MEMBER = re.compile(r'"(?P<name>[^"\\\n]+)"\s*:\s*["\d]')
_HEADING = "// Without its comments, and without what looked like secrets.\n"


def without_secrets(text: str) -> str | None:
    """The document as it stands; or, if there is a secret in it or in a comment, without.

    None when it is no document, so that it cannot be told what in it is one.
    """
    try:
        document = parse_document(text)
    except ValueError:
        return None
    hidden = masked(document)
    # Of what is commented out nothing but its name is known.
    named = any(is_secret(found["name"]) for found in _MEMBER.finditer(text))
    if hidden == document and not (named and not _has_name(document)):
        return text
    return _HEADING + json.dumps(hidden, indent=2) + "\n"


def _has_name(value: object) -> bool:
    """Whether a member is called as a secret is, such as one in a user-context, which is none."""
    if isinstance(value, dict):
        return any(is_secret(str(key)) or _has_name(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_has_name, value))
