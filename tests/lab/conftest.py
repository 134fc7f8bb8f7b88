"""The lab, held for as long as its tests run, and operators with clones of their own.

Each module asks for the machines that it needs with `fresh_lab`, which brings up fresh hosts. What
costs is a rollout, not the lab, so modules share a rollout, and tests that break hosts bring up
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.bench import Clone


@pytest.fixture(scope="session")
def _quick_lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.down()


@pytest.fixture(scope="session")
def fresh_lab(_quick_lab: Lab) -> Callable[..., Lab]:
    """Bring up fresh machines, with hosts on this Debian ("13" if not said)."""

    def bring_up(debian: str = "13") -> Lab:
        _quick_lab.up(debian, report=lambda line: None)
        return _quick_lab

    return bring_up


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The operator anna, with a clone of the project that has no `pki/` yet."""
    return Clone(tmp_path_factory.mktemp("operator") / "anna")


@pytest.fixture(scope="module")
def colleague(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The operator bert, with another clone, who has never rolled out this pair."""
    return Clone(tmp_path_factory.mktemp("colleague") / "bert")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A directory on the operator's side, for captures and keys."""
    return tmp_path
