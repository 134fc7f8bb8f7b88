"""A drill's report says the same in each form, is the operator's alone, and asks for nothing."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kea_ha.commands import drill_page
from kea_ha.commands.drill_page import to_html, to_json
from kea_ha.decide.drill_results import Figures, Report, Scenario
from kea_ha.decide.drill_scenarios import Implied
from tests.unit.drills import LINK_CUT, PRIMARY_KILLED, REPORT, STANDBY_KILLED, acks, measured

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&amp;</style>]]>"


class Page(HTMLParser):
    """A page as it is read: its tags with their attributes, the text, and the cells of rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def only(scenario: Scenario) -> Report:
    return replace(REPORT, scenarios=(scenario,))


# --- to JSON --------------------------------------------------------------------------------

seconds = st.floats(min_value=0, max_value=1e5)
maybe = st.none() | seconds
hosts = st.sampled_from(["host-1", "host-2", "", HOSTILE, "ü\0\n"])
figures = st.builds(
    Figures,
    **{name: st.integers(0, 10**6) for name in ("clients", "unserved", "leases_lost")},
    given_twice=st.integers(0, 10**6),
    **dict.fromkeys(("longest_gap_s", "longest_wait_s"), seconds),
    **dict.fromkeys(("until_partner_down_s", "until_accepted_s"), maybe),
)
states = st.lists(st.tuples(seconds, st.sampled_from(["hot-standby", "no answer", "", HOSTILE])))
scenarios = st.builds(
    Scenario,
    **{name: st.text(max_size=9) for name in ("name", "what")},
    findings=st.lists(st.text(max_size=9), max_size=2).map(tuple),
    **dict.fromkeys(("seconds", "fault_s"), seconds),
    **dict.fromkeys(("repair_s", "accepted_s"), maybe),
    acks=st.dictionaries(hosts, st.lists(seconds).map(tuple), max_size=2),
    states=st.dictionaries(hosts, states.map(sorted).map(tuple), max_size=2),
    figures=figures,
    implied=st.builds(Implied, maybe, maybe, st.text(max_size=9)),
    log_ids=st.dictionaries(hosts, st.dictionaries(st.text(max_size=9), st.integers()), max_size=2),
)
reports = st.builds(
    Report,
    made=st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)),
    **{name: st.text(max_size=9) for name in ("pair", "profile")},
    settings=st.dictionaries(st.text(max_size=9), st.integers(), max_size=2),
    **{name: st.dictionaries(hosts, st.text(max_size=9), max_size=2) for name in ("versions",)},
    roles=st.dictionaries(hosts, st.sampled_from(["primary", "standby"]), max_size=2),
    scenarios=st.lists(scenarios, max_size=2).map(tuple),
)


def as_read(value: Any) -> Any:
    """What a reader of JSON has of a value, field by field."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [as_read(one) for one in value]
    if isinstance(value, dict):
        return {name: as_read(one) for name, one in value.items()}
    if is_dataclass(value):
        passed = {"passed": value.passed} if isinstance(value, Report | Scenario) else {}
        return {one.name: as_read(getattr(value, one.name)) for one in fields(value)} | passed
    return value


@settings(deadline=None)
@given(reports)
def test_any_report_is_in_its_json_as_it_was_and_becomes_a_page(report: Report) -> None:
    """To the last digit; and there is a picture of each scenario, whatever is in it."""
    assert as_read(report) == json.loads(to_json(report))

    page = Page(to_html(report))
    assert len(report.scenarios) == sum(svg.get("role") == "img" for svg in page.all("svg"))


def test_json_says_whether_it_passed() -> None:
    """For whoever reads it with jq; each scenario, and the whole drill."""
    told = json.loads(to_json(REPORT))

    assert [True, True, False] == [scenario["passed"] for scenario in told["scenarios"]]
    assert (False, "2026-11-25T08:30:05.123456+00:00") == (told["passed"], told["made"])


def test_a_drill_of_nothing_has_not_passed() -> None:
    """What was not tried was not shown."""
    assert not replace(REPORT, scenarios=()).passed
    assert only(PRIMARY_KILLED).passed
    assert not REPORT.passed


def test_a_figure_without_end_is_refused() -> None:
    """JSON has no infinity."""
    endless = replace(PRIMARY_KILLED.figures, longest_wait_s=float("inf"))

    with pytest.raises(ValueError, match="JSON"):
        to_json(only(replace(PRIMARY_KILLED, figures=endless)))


# --- the same figures everywhere ------------------------------------------------------------


def test_table_page_and_json_say_the_same() -> None:
    """Measured and implied, of each scenario; read from each of the three."""
    lines = [line for line in drill_page.table(REPORT)[2:] if not line.startswith("    - ")]
    table = [re.split(r" {2,}", line) for line in lines]
    page = Page(to_html(REPORT))
    told = json.loads(to_json(REPORT))["scenarios"]

    for cells, scenario in zip(table, told, strict=True):
        of, to_be = scenario["figures"], scenario["implied"]
        gap, down = of["longest_gap_s"], of["until_partner_down_s"]
        wanted = [
            "ok" if scenario["passed"] else "NO",
            scenario["name"],
            *(written(gap), written(to_be["longest_gap_s"]), written(of["longest_wait_s"])),
            *(written(down), written(to_be["until_partner_down_s"])),
            *(written(of["until_accepted_s"]), f"{of['unserved']} of {of['clients']}"),
            *(str(of["leases_lost"]), str(of["given_twice"])),
        ]
        assert wanted == cells
        overview = next(row for row in page.rows if row and row[0] == scenario["name"])
        passed, name, gap, gap_implied, _, down, down_implied, *rest = cells
        assert overview == [
            name,
            "Passed" if passed == "ok" else "Not passed",
            f"{gap} implied {gap_implied}",
            f"{down} implied {down_implied}",
            *rest,
        ]
    beside = [row[1:] for row in page.rows if len(row) == 3 and row[0].startswith("Longest time")]
    assert [[cells[2], cells[3]] for cells in table] == beside
    waits = [row[1] for row in page.rows if row[0] == "Longest wait of one client"]
    assert [cells[4] for cells in table] == waits


def written(value: float | None) -> str:
    return drill_page.NO_FIGURE if value is None else f"{value:.1f} s"


@pytest.mark.parametrize(
    "answered",
    [
        *(scenario.acks for scenario in REPORT.scenarios),
        {"host-1": acks({(0, 30): 20}), "host-2": ()},
        {"host-1": acks({(0, 30): 20}), "host-2": (300.0,)},
        {"host-1": acks({(200, 240): 20})},
        {"host-1": (), "host-2": ()},
    ],
)
def test_picture_and_table_have_the_same_gap(answered: dict[str, tuple[float, ...]]) -> None:
    """Also of a pair that fell silent for good, or did not answer at first."""
    scenario = measured(replace(PRIMARY_KILLED, acks=answered))
    gap = written(scenario.figures.longest_gap_s)
    row = drill_page.table(only(scenario))[2]
    text = Page(to_html(only(scenario))).text

    assert gap == re.split(r" {2,}", row)[2]
    assert f"no ACK for {gap}" in text
    assert f"No ACK for {gap}, from " in text


def test_a_gap_is_empty_in_the_picture_and_thousands_of_acks_are_few_bars() -> None:
    """Drawn in steps of one bar, none between the last ACK before the gap and the first after."""
    moments = acks({(0, 40): 100, (60, 200): 100})
    scenario = replace(PRIMARY_KILLED, seconds=200, acks={"host-1": moments, "host-2": ()})
    text = to_html(only(scenario))

    paths = re.findall(r'class="outline" d="([^"]*)"', text)
    assert 2 == len(paths)
    assert "" == paths[1]
    hulls = [path for path in paths[0].split("z") if path]
    assert ["M0 ", "M60"] == [hull[:3] for hull in hulls]
    assert "H40" in hulls[0]
    assert len(paths[0]) < 3000


def test_labels_of_moments_that_are_close_stand_in_rows_of_their_own() -> None:
    """However close they are."""
    close = replace(PRIMARY_KILLED, fault_s=30.0, repair_s=30.1, accepted_s=30.2)
    found = re.findall(r'class="label (\w+)" x="[^"]*" dx="[^"]*" y="(\d+)"', to_html(only(close)))

    assert ["fault", "repair", "accepted"] == [kind for kind, _ in found]
    assert all(int(below) - int(above) >= 14 for (_, above), (_, below) in pairwise(found))


def test_the_table_fits_a_terminal() -> None:
    """103 columns, with long names and findings; what a terminal would obey is not in it."""
    long = replace(
        LINK_CUT,
        name="x" * 90,
        findings=("why " * 60, "\x1b[31mred\r\n"),
        figures=Figures(99999, 999.9, 1234.5, 9999, 999.9, 999.9, 9999, 9999),
        implied=Implied(999.9, 999.9, ""),
    )
    lines = drill_page.table(replace(REPORT, scenarios=(long, STANDBY_KILLED)))

    assert 103 >= max(map(len, lines))
    assert "".join(lines).isprintable()
    assert ["NO", "ok"] == [line[:2] for line in lines if line[:2].strip()]
    # Those of the drill are whole.
    assert "ok  primary-killed  " in "\n".join(drill_page.table(REPORT))


# --- data stays data ------------------------------------------------------------------------


def hostile() -> Report:
    """A report, every text of which tries to be more than text."""
    scenario = replace(
        PRIMARY_KILLED,
        name=HOSTILE,
        what=HOSTILE,
        findings=(HOSTILE, HOSTILE),
        acks={HOSTILE: (1.0, 2.0)},
        states={HOSTILE: ((0.0, HOSTILE), (30.0, "no answer"))},
        implied=Implied(None, None, HOSTILE),
        log_ids={HOSTILE: {HOSTILE: 1}},
    )
    return Report(
        REPORT.made,
        HOSTILE,
        HOSTILE,
        {HOSTILE: 1},
        {HOSTILE: HOSTILE},
        {HOSTILE: HOSTILE},
        (scenario,),
    )


def test_hostile_names_are_text() -> None:
    """No tag and no attribute comes of them, and they are read as they were given."""
    page, usual = Page(to_html(hostile())), Page(to_html(REPORT))

    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in usual.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert page.text.count(HOSTILE) > 10


def test_it_refers_to_nothing_outside_itself() -> None:
    """No address, no script, no font, no picture; and a policy that would forbid them."""
    text = to_html(REPORT)
    page = Page(text)

    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"@import|@font-face|javascript:|url\((?!#)", text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {t for t, _ in page.tags}
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("href", "src", "srcset", "action", "xlink:href", "data")
    ]
    assert ["#scenario-1", "#scenario-2", "#scenario-3"] == links
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert [
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ] == policy


def test_it_can_be_read_without_seeing_it() -> None:
    """A language, a title, a name for each picture, a scope for each header, ids that are one."""
    page = Page(to_html(REPORT))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]

    assert [{"lang": "en"}] == page.all("html")
    assert "Failover drill of office, 2026-11-25 08:30:05 UTC: not passed" in page.text
    assert len(ids) == len(set(ids))
    for picture in pictures:
        assert set(str(picture["aria-labelledby"]).split()) <= set(ids)
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))


def test_twenty_scenarios_of_5000_acks_stay_small() -> None:
    """Both files; the moments are in ms, as clients measure them."""
    moments = {"host-1": acks({(0, 125): 20, (150, 275): 20}), "host-2": acks({(0, 500): 10})}
    scenario = replace(PRIMARY_KILLED, seconds=500.0, acks=moments)
    report = replace(REPORT, scenarios=(scenario,) * 20)

    assert 10000 == sum(map(len, moments.values()))
    assert 500_000 > len(to_html(report).encode())
    assert 2_000_000 > len(to_json(report).encode())


# --- on the disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_it_is_the_operators_alone(tmp_path: Path, mask: int) -> None:
    """The directory 0700, files 0600, whatever the umask; named by the time in UTC."""
    there = replace(REPORT, made=REPORT.made.astimezone(timezone(timedelta(hours=-5))))
    before = os.umask(mask)
    try:
        page, data = drill_page.write(tmp_path / "reports", there)
    finally:
        os.umask(before)

    assert tmp_path / "reports/drill-2026-11-25T08-30-05.html" == page
    assert page.with_suffix(".json") == data
    assert {page, data} == set(page.parent.iterdir())
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (page.parent, page, data)]
    assert [0o700, 0o600, 0o600] == modes
    assert (to_html(REPORT), to_json(REPORT)) == (page.read_text(), data.read_text())


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    """Taken by either file, or by one that another run is writing; neither is touched."""
    (tmp_path / "drill-2026-11-25T08-30-05.json").write_text("theirs")
    (tmp_path / "drill-2026-11-25T08-30-05-2.json.new").write_text("being written")
    before = {path: path.read_text() for path in tmp_path.iterdir()}

    names = [path.name for _ in range(2) for path in drill_page.write(tmp_path, REPORT)]

    assert names == [
        f"drill-2026-11-25T08-30-05-{n}.{kind}" for n in (3, 4) for kind in ("html", "json")
    ]
    assert before == {path: path.read_text() for path in before}
    assert len(before) + len(names) == len(list(tmp_path.iterdir()))


def test_two_runs_in_one_second_get_two_names(tmp_path: Path) -> None:
    """Whoever comes first: every pair of files is one report's."""
    drills = [replace(REPORT, pair=f"pair-{n}", scenarios=()) for n in range(8)]
    found: dict[str, Any] = {}

    def run(report: Report) -> None:
        found[report.pair] = drill_page.write(tmp_path, report)

    threads = [threading.Thread(target=run, args=(report,)) for report in drills]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16 == len({path for paths in found.values() for path in paths})
    for report in drills:
        page, data = found[report.pair]
        assert page.stem == data.stem
        assert (to_html(report), to_json(report)) == (page.read_text(), data.read_text())


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A file where the directory has to be; a figure that has no end."""
    (tmp_path / "file").touch()
    endless = replace(PRIMARY_KILLED.figures, longest_wait_s=float("inf"))

    with pytest.raises(OSError, match="file"):
        drill_page.write(tmp_path / "file", REPORT)
    with pytest.raises(ValueError, match="JSON"):
        drill_page.write(tmp_path / "new", only(replace(PRIMARY_KILLED, figures=endless)))

    assert [tmp_path / "file"] == list(tmp_path.iterdir())
