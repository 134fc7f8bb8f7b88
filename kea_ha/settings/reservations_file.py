"""The reservations file: YAML, a list of {mac or client_id, address, hostname, options}.

Read without running anything in it (only text, lists and maps exist), every scalar as the text
that was written: YAML would otherwise read an unquoted 10:20:30:40:50:55 as one number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kea_ha.settings.problems import Problem

ALLOWED = (
    "a YAML list of reservations, each with mac or client_id, address, and if wanted hostname "
    "and options"
)


def read_entries(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[Problem]]:
    """The file's entries, each with its line number, and what of the file is no entry at all."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        return [], [_problem(path, error.strerror or "not readable", "Check the path.")]
    except UnicodeDecodeError:
        return [], [_problem(path, "not UTF-8 text", "Save it as UTF-8.")]
    except yaml.YAMLError as error:
        return [], [_problem(path, f"not YAML: {_one_line(error)}", "Correct that line.")]
    if root is None:
        return [], []
    if not isinstance(root, yaml.SequenceNode):
        return [], [_problem(path, "not a list", "Begin each reservation with a dash.")]
    entries, problems = [], []
    for node in root.value:
        line = node.start_mark.line + 1
        try:
            entries.append((line, _entry(node)))
        except ValueError as error:
            problems.append(_problem(path, f"line {line}: {error}", "Correct that entry."))
    return entries, problems


def _entry(node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("not a map")
    entry: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in entry:
            raise ValueError(f"{key} is given twice")
        entry[key] = _options(value_node) if key == "options" else _scalar(key, value_node)
    return {key: value for key, value in entry.items() if value is not None}


def _options(node: yaml.Node) -> dict[str, str] | None:
    if isinstance(node, yaml.ScalarNode) and _scalar("options", node) is None:
        return None
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("options is not a map")
    found: dict[str, str] = {}
    for key, value_node in node.value:
        name, value = str(key.value), _scalar(f"the option {key.value}", value_node)
        if name in found:
            raise ValueError(f"the option {name} is given twice")
        if value is None:
            raise ValueError(f"the option {name} has no value")
        found[name] = value
    return found


def _scalar(name: str, node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{name} is not a single value")
    return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _problem(path: Path, given: str, remedy: str) -> Problem:
    return Problem("reservations_file", f"{path}: {given}", ALLOWED, remedy)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "cannot be read"
    return f"line {mark.line + 1}: {what}" if mark is not None else str(what)
