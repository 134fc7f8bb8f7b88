"""The report of a drill in a real browser: on a desk, on a phone, in the dark and on paper.

One browser for all of it. What it looks like was looked at; what is here is what can break unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kea_ha.commands import drill_page
from kea_ha.commands.drill_page import to_html
from kea_ha.decide.drill_results import Report
from tests.browser.chromium import Chromium, running
from tests.unit.drills import PRIMARY_KILLED, REPORT

#: Widths in px.
PHONE, PAPER, DESK = 360, 680, 1200
PICTURES = "[...document.querySelectorAll('svg[role=img]')]"
#: Which texts of the same picture lie over each other, of those that are seen.
OVERLAPS = """
[...document.querySelectorAll('svg[role=img]')].flatMap(picture => {
  const texts = [...picture.querySelectorAll('text')]
    .map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0);
  return texts.flatMap(([a, one], place) => texts.slice(place + 1)
    .filter(([, other]) => one.left < other.right && other.left < one.right
                        && one.top + 1 < other.bottom && other.top + 1 < one.bottom)
    .map(([b]) => a + ' over ' + b));
})
"""
#: Which texts of a picture reach beyond the page.
BEYOND = """
[...document.querySelectorAll('svg[role=img] text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.width > 0 && (box.left < 0 || box.right > document.documentElement.clientWidth);
}).map(text => text.textContent)
"""
#: Which states' names do not fit into their part of the band.
CUT = """
[...document.querySelectorAll('.band svg text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.width > 0 && text.getBBox().width + 5 > text.parentNode.width.baseVal.value;
}).map(text => text.textContent)
"""
#: What has to be scrolled sideways within its own box.
SCROLLED = """
[...document.querySelectorAll('.picture, .overview')]
  .filter(box => box.scrollWidth > box.clientWidth).map(box => box.className)
"""
#: Of the page and of a host's name in a picture: ink, paper, and what letters are filled with.
COLOURS = """
[document.body, document.querySelector('.host')].map(element => {
  const style = getComputedStyle(element);
  return [style.color, style.backgroundColor, style.fill];
})
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with running() as chromium:
        yield chromium


@pytest.fixture
def at(browser: Chromium, tmp_path: Path) -> Iterator[Chromium]:
    """The browser with the written report open, as wide as a desk's."""
    page, _ = drill_page.write(tmp_path / "reports", REPORT)
    browser.resize(DESK)
    browser.prefer("light")
    browser.open(page)
    yield browser
    assert [] == browser.complaints()


def opened(browser: Chromium, directory: Path, report: Report) -> None:
    path = directory / "other.html"
    path.write_text(to_html(report))
    browser.open(path)


def test_it_opens_without_a_complaint_and_asks_for_nothing(at: Chromium) -> None:
    """Its title is there, each picture has a size, and nothing but the file was loaded."""
    assert "Failover drill of office" in at.ask("document.title")
    sizes = at.ask(
        f"{PICTURES}.map(one => one.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert 3 == len(sizes)
    assert all(width > 800 and height > 200 for width, height in sizes)
    drawn = at.ask("[...document.querySelectorAll('.outline')].map(p => p.getBBox().width)")
    assert [True] * 3 + [False] + [True] * 2 == [width > 0 for width in drawn]
    assert 0 == at.ask("performance.getEntriesByType('resource').length")


@pytest.mark.parametrize("width", [320, PHONE, 700, 840, 940, DESK])
def test_nothing_is_wider_than_the_page(at: Chromium, width: int) -> None:
    """No scrolling sideways, no label outside, over another one, or cut off."""
    at.resize(width)

    assert width >= at.ask("document.documentElement.scrollWidth")
    assert width >= at.ask("document.documentElement.clientWidth")
    assert [] == at.ask(BEYOND) == at.ask(OVERLAPS) == at.ask(CUT) == at.ask(SCROLLED)


def test_long_names_do_not_widen_a_phones_page(at: Chromium, tmp_path: Path) -> None:
    """As long as a host's name may be, and words without a space."""
    host, long = "h" * 63, "x" * 120
    scenario = replace(
        PRIMARY_KILLED,
        name=long,
        what=long,
        findings=(long,),
        acks={host: PRIMARY_KILLED.acks["host-1"]},
        states={host: ((0.0, long), (30.0, "hot-standby"))},
        log_ids={host: {long: 123456}, "host-2": {long: 123456}},
    )
    at.resize(PHONE)
    opened(at, tmp_path, replace(REPORT, pair=long, profile=long, scenarios=(scenario,)))

    assert PHONE == at.ask("document.documentElement.scrollWidth")


def test_hostile_names_run_nothing(at: Chromium, tmp_path: Path) -> None:
    """They are shown as they are."""
    name = "</title></style></svg><script>document.title='run'</script><img src=x>"
    scenario = replace(PRIMARY_KILLED, name=name, acks={name: (1.0, 2.0)}, findings=(name,))
    opened(at, tmp_path, replace(REPORT, pair=name, roles={name: "primary"}, scenarios=(scenario,)))

    assert "Failover drill of </title>" in at.ask("document.title")
    assert 0 == at.ask("document.querySelectorAll('script, img').length")
    assert name in at.ask("document.querySelector('h2').textContent")


def test_its_policy_keeps_others_from_running_anything(browser: Chromium, tmp_path: Path) -> None:
    """A script that got into the file after all is refused by the browser."""
    path = tmp_path / "meddled.html"
    path.write_text(
        to_html(REPORT).replace("</main>", "<script>document.title = 'run'</script></main>")
    )
    browser.complaints()
    browser.open(path)

    assert "run" != browser.ask("document.title")
    assert "Content Security Policy" in "".join(browser.complaints())


def test_text_can_be_read_in_both_schemes(at: Chromium) -> None:
    """Dark on light, light on dark; the picture's letters follow."""
    light = at.ask(COLOURS)
    at.prefer("dark")
    dark = at.ask(COLOURS)

    assert (28, 20) == (brightness(light[0][0]), brightness(dark[0][1]))
    assert brightness(light[0][1]) > 240 > 200 < brightness(dark[0][0])
    assert brightness(light[1][2]) < 60 < 200 < brightness(dark[1][2])


def brightness(colour: str) -> int:
    """The red of `rgb(…)`: the page's ink and paper are greys."""
    found = re.search(r"\d+", colour)
    assert found
    return int(found[0])


def test_paper_is_light_whatever_the_screen_is(at: Chromium) -> None:
    """Dark ink on white, in the pictures too."""
    at.prefer("dark", media="print")

    (ink, paper, _), (_, _, letters) = at.ask(COLOURS)

    assert (28, 255, 28) == (brightness(ink), brightness(paper), brightness(letters))


def test_nothing_is_cut_off_on_paper(at: Chromium) -> None:
    """A4 less its margins is 180 mm wide."""
    at.resize(PAPER)
    at.prefer("light", media="print")

    assert PAPER >= at.ask("document.documentElement.scrollWidth")
    assert [] == at.ask(BEYOND) == at.ask(OVERLAPS) == at.ask(CUT)


def test_it_prints_each_scenario_on_a_page_of_its_own(at: Chromium) -> None:
    """A4; the summary, three scenarios, what was set."""
    printed = at.pdf()
    pages = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)

    assert printed.startswith(b"%PDF-")
    assert 5 == len(pages)
    # 210 by 297 mm, in points.
    assert {(595, 842)} == {(round(float(w)), round(float(h))) for w, h in pages}
