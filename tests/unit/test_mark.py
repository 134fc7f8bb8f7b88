"""The mark on a host: what is written is read again, and what becomes of work that was cut off."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.host.mark import GOES_ON, Mark, UnderWay, Work, back_to

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


@pytest.mark.parametrize(("found", "begun"), list(product(Work, Work)))
def test_work_that_goes_on_keeps_the_mark_and_other_work_puts_its_own(
    found: Work, begun: Work
) -> None:
    """Also the state to go back to is that of whoever began."""
    there = UnderWay(found, "before", "1" if found.is_change else "")

    now = Mark("lab server1", True, there).begin(begun, SINCE, "2")

    assert now == (there if begun in GOES_ON[found] else UnderWay(begun, SINCE, "2"))


def test_no_rollout_makes_a_change_forgotten() -> None:
    """Else its host would count as never accepted, and as free to be changed."""
    for found in Work:
        for begun in (Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING):
            now = Mark("lab server1", True, UnderWay(found, "before", "")).begin(begun, SINCE)
            assert now.work.is_change or not found.is_change


def test_an_adoption_is_never_taken_for_a_rollout() -> None:
    """Else the server that is taken over would be neither kept nor stopped."""
    for found in (Work.ROLLING_OUT, Work.ADOPTING):
        assert (
            Work.ADOPTING is Mark(under_way=UnderWay(found, "before")).begin(Work.ADOPTING, "").work
        )


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
