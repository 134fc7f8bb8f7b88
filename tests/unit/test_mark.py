"""The mark on a host: what is written is read again, and what becomes of work that was cut off."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.host.mark import Mark, UnderWay, Work, back_to

SINCE = "2026-11-29 03:00:00 +0000"
PACKAGE = Path(__file__).parents[2] / "kea_ha"


def test_a_host_without_files_of_ours_is_not_ours() -> None:
    assert Mark() == Mark.parse({})
    assert not Mark().is_changing


@pytest.mark.parametrize("work", Work)
def test_what_is_written_is_what_is_read(work: Work) -> None:
    """A rollout has no state to go back to; a change names it."""
    begun = UnderWay(work, SINCE, "2026-11-28T10-00-00.5+2" if work.is_change else "")

    found = Mark.parse({layout.UNFINISHED_FILE: f"{begun.text()}\n"})

    assert begun == found.under_way
    assert work.is_change == found.is_changing


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("changing since today", Work.CHANGING),
        ("changing (undoing) since today, back to 7", Work.UNDOING),
        ("adopting since yesterday", Work.ADOPTING),
        # Of a version that is not known, or of nobody: a change of a live pair stays one.
        ("changing (tuning) since today", Work.CHANGING),
        ("changing", Work.CHANGING),
        ("changing (upgrading)", Work.UPGRADING),
        ("adopting", Work.ADOPTING),
        ("", Work.ROLLING_OUT),
        ("nonsense\x1b[2J", Work.ROLLING_OUT),
        ("not changing since today", Work.ROLLING_OUT),
    ],
)
def test_any_text_is_some_work(text: str, work: Work) -> None:
    assert work is UnderWay.parse(text).work


def test_a_name_that_no_state_can_have_is_none_to_go_back_to() -> None:
    text = "changing since today, back to ../../etc"

    assert UnderWay.parse(text).back_to == ""


def test_a_host_is_out_also_when_nobody_wrote_since_when() -> None:
    assert SINCE == Mark.parse({layout.MAINTENANCE_FILE: f"{SINCE}\n"}).out_since
    assert Mark.parse({layout.MAINTENANCE_FILE: ""}).out_since


CHANGES = [one for one in Work if one.is_change]


def goes_on(found: Work, begun: Work) -> bool:
    return Mark("lab server1", True, UnderWay(found, SINCE)).goes_on(begun)


def test_where_nothing_is_under_way_all_work_puts_its_own_mark() -> None:
    assert not any(Mark("lab server1", True).goes_on(work) for work in Work)


@pytest.mark.parametrize("found", CHANGES)
def test_a_rollout_and_a_change_go_on_with_any_change(found: Work) -> None:
    """Else it would be forgotten what to go back to, or that the pair is live at all."""
    assert all(goes_on(found, begun) for begun in (Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING))


@pytest.mark.parametrize(("found", "begun"), list(product(CHANGES, CHANGES[1:])))
def test_an_undo_a_restore_and_an_upgrade_go_on_with_their_own_alone(
    found: Work, begun: Work
) -> None:
    assert goes_on(found, begun) == (found is begun)


def test_an_adoption_is_never_taken_for_a_rollout() -> None:
    """Else the server that is taken over would be neither kept nor stopped."""
    assert not goes_on(Work.ROLLING_OUT, Work.ADOPTING)
    assert goes_on(Work.ADOPTING, Work.ADOPTING)
    assert goes_on(Work.ADOPTING, Work.ROLLING_OUT)


def test_the_two_go_back_to_one_state_or_to_none_that_is_known() -> None:
    def marked(name: str) -> Mark:
        return Mark(under_way=UnderWay(Work.CHANGING, SINCE, name))

    assert "1" == back_to([marked("1"), marked("1")])
    assert "1" == back_to([marked("1"), Mark()])
    assert "" == back_to([marked("1"), marked("2")])


def test_no_other_module_reads_the_words_of_a_mark() -> None:
    """They are this module's; everybody else has the type."""
    words = re.compile("|".join(f'"{re.escape(one.value)}"' for one in Work))
    files = re.compile("UNFINISHED_FILE|ACCEPTED_FILE|OWNER_FILE|MAINTENANCE_FILE")
    written = {"layout.py", "host/mark.py", "host/survey.py", "operations/host_marks.py"}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_text()
        assert name == "host/mark.py" or not words.search(text), name
        assert name in written or not files.search(text), name
