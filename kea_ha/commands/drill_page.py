"""How it is shown what a drill has found: the HTML, the table and the JSON that is written.

The HTML is one file that asks for nothing else: no script, no font, no address. What is drawn in
it is computed here in percent of a scenario's length, so that pictures fit any width while their
text keeps its size. Times are seconds on a scenario's time line, which begins at 0.0.
Pure but for `write`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC
from itertools import count, pairwise
from math import ceil
from pathlib import Path
from typing import Final

from kea_ha import private_files
from kea_ha.decide.drill_results import Report, Scenario, longest_gap
from kea_ha.foreign import cut, shown
from kea_ha.kea.templates import render

#: Where the reports of all drills are.
REPORTS_DIR: Final = Path("reports")

#: Where there is no figure: it did not happen, or the settings do not say.
NO_FIGURE: Final = "–"  # noqa: RUF001


# --- to files --------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """The whole report, to the last digit, with ``passed`` added.

    :raises ValueError: when a figure is not finite.
    """
    told = asdict(report)
    told["made"] = report.made.astimezone(UTC).isoformat()
    told["passed"] = report.passed
    for scenario, written in zip(report.scenarios, told["scenarios"], strict=True):
        written["passed"] = scenario.passed
    # Closely set: there may be thousands of ACKs.
    return json.dumps(told, allow_nan=False, separators=(",", ":")) + "\n"


def write(directory: Path, report: Report) -> tuple[Path, Path]:
    """Write the HTML and the JSON below `directory`; where they are, in this order.

    They are named after the moment of the report, in UTC, and closed to others from their first
    byte. Each takes its name by a rename. A name that is taken gets a number.

    :raises OSError: when they cannot be written.
    :raises ValueError: when a figure is not finite.
    """
    contents = {".html": to_html(report).encode(), ".json": to_json(report).encode()}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = f"drill-{report.made.astimezone(UTC):%Y-%m-%dT%H-%M-%S}"
    for number in count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        paths = [directory / f"{name}{suffix}" for suffix in contents]
        candidates = [path.with_name(path.name + private_files.UNFINISHED) for path in paths]
        made: list[Path] = []
        try:
            for candidate, content in zip(candidates, contents.values(), strict=True):
                private_files.create(candidate, [content])
                made.append(candidate)
            # Only now: whoever finished in between has left the candidates' names free.
            if any(path.exists() for path in paths):
                continue
            for candidate, path in zip(candidates, paths, strict=True):
                candidate.rename(path)
            private_files.sync(directory)
            return paths[0], paths[1]
        except FileExistsError:
            continue  # what is there is another run's
        finally:
            for candidate in made:
                with suppress(FileNotFoundError):
                    candidate.unlink()
    raise AssertionError("numbers do not end")


# --- in words --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A figure as it is written everywhere: what it is, measured, implied."""

    title: str
    measured: str
    implied: str = NO_FIGURE


def _rows(scenario: Scenario) -> dict[str, _Row]:
    is_, to_be = scenario.figures, scenario.implied
    return {
        "gap": _Row(
            "Longest time without an ACK of the pair",
            _s(is_.longest_gap_s),
            _s(to_be.longest_gap_s),
        ),
        "wait": _Row("Longest wait of one client", _s(is_.longest_wait_s)),
        "unserved": _Row("Clients that were not served", f"{is_.unserved} of {is_.clients}"),
        "partner_down": _Row(
            "From the fault until partner-down",
            _s(is_.until_partner_down_s),
            _s(to_be.until_partner_down_s),
        ),
        "accepted": _Row("From the repair until accepted again", _s(is_.until_accepted_s)),
        "lost": _Row("Leases lost", f"{is_.leases_lost}"),
        "twice": _Row("Addresses given twice", f"{is_.given_twice}"),
    }


def table(report: Report) -> list[str]:
    """The figures of all scenarios for a terminal, in lines of at most 103 columns.

    Two lines of headings, then a line for each scenario, with its findings beneath it. Names are
    cut to make it fit.
    """
    figures = [_cells(one) for one in report.scenarios]
    widths = [max(map(len, column)) for column in zip(*_HEADINGS, *figures, strict=True)]
    room = _COLUMNS - len(_MARKS[True]) - sum(2 + width for width in widths) - 2
    names = [cut(one.name, max(room - 1, 0)) for one in report.scenarios]
    name_width = max(map(len, ("scenario", *names)))

    def line(mark: str, name: str, cells: Sequence[str]) -> str:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join((mark, name.ljust(name_width), *aligned)).rstrip()

    above, beneath = _HEADINGS
    lines = [line("  ", "", above), line("  ", "scenario", beneath)]
    for scenario, name, cells in zip(report.scenarios, names, figures, strict=True):
        lines.append(line(_MARKS[scenario.passed], name, cells))
        for finding in scenario.findings:
            lines += textwrap.wrap(
                f"    - {shown(finding)}", _COLUMNS, subsequent_indent=" " * 6, expand_tabs=False
            )
    return lines


#: A hundred and twenty, less what pyinfra puts in front of each line.
_COLUMNS: Final = 103
_MARKS: Final = {True: "ok", False: "NO"}
#: Beside what is measured stands what is implied of it. Two lines, so that columns are narrow.
_HEADINGS: Final = (
    ("longest", "", "longest", "partner", "", "again", "not", "leases", "given"),
    ("gap", "implied", "wait", "down", "implied", "accepted", "served", "lost", "twice"),
)


def _cells(scenario: Scenario) -> tuple[str, ...]:
    rows = _rows(scenario)
    gap, wait, down = rows["gap"], rows["wait"], rows["partner_down"]
    others = (rows[name].measured for name in ("accepted", "unserved", "lost", "twice"))
    return gap.measured, gap.implied, wait.measured, down.measured, down.implied, *others


def _s(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:.1f} s"


def to_html(report: Report) -> str:
    """The report as one HTML file, for a browser and for paper."""
    failed = sum(not one.passed for one in report.scenarios)
    return render(
        "drill.html.j2",
        report=report,
        made=f"{report.made.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        failed=failed,
        hosts=_hosts(report),
        views=[_view(report, scenario) for scenario in report.scenarios],
        settings={
            name: f"{value} ms" if name.endswith("_delay") else str(value)
            for name, value in report.settings.items()
        },
        patterns=_PATTERNS,
        no_figure=NO_FIGURE,
    )


# --- in pictures -----------------------------------------------------------------------------

#: The HA states that have a look of their own, and the strokes of it on a tile of 8 by 8, so that
#: they can be told apart without colour.
_PATTERNS: Final = {
    "hot-standby": "",
    "partner-down": "M-2 2 2-2M0 8 8 0M6 10 10 6",
    "no-answer": "M-2 6 2 10M0 0 8 8M6-2 10 2",
    "waiting": "M1 2h2M5 6h2",
    "syncing": "M0 2h8M0 6h8",
    "ready": "M2 0v8M6 0v8",
    "terminated": "M0 0 8 8M0 8 8 0",
    "in-maintenance": "M0 4h4V0M4 8V4h4",
    "partner-in-maintenance": "M0 4h4V0M4 8V4h4",
    "other": "M0 4h8M4 0v8",
}

#: At most so many bars in a lane, and ticks on the axis.
_BARS, _TICKS = 250, 8
#: Heights in px, from the top: a row of labels, a host's name, its ACKs, its states, what follows.
_LABEL, _NAME, _LANE, _BAND, _SPACE = 18, 22, 56, 22, 14
#: A letter in a band of states takes about so many px, and the ends of the band.
_LETTER, _ENDS = 6.7, 10
#: From which width of the picture in px the text in a band is to be shown, and its CSS class then.
_FROM_WIDTH: Final = ((290, "always"), (620, "wide"), (900, "widest"))


@dataclass(frozen=True)
class _Mark:
    """A vertical line with its label, or a tick: where in percent, and how its text is set."""

    kind: str
    at: str
    anchor: str
    text: str
    y: int


@dataclass(frozen=True)
class _State:
    """A part of a band: where in percent, and from which width on its name fits into it."""

    since: str
    state: str
    look: str
    at: str
    width: str
    fits: str


@dataclass(frozen=True)
class _Lane:
    """What is drawn of one host, from `y` on."""

    host: str
    role: str
    acks: int
    y: int
    outline: str
    states: tuple[_State, ...]


@dataclass(frozen=True)
class _Gap:
    at: str
    width: str
    end: str
    label: _Mark
    words: str


@dataclass(frozen=True)
class _Picture:
    """Everything that the template draws of one scenario."""

    height: int
    lanes: tuple[_Lane, ...]
    marks: tuple[_Mark, ...]
    ticks: tuple[_Mark, ...]
    gap: _Gap
    span: str
    """How many bars make up its width."""
    bar_s: str
    most: int
    lane_height: int = _LANE
    band_height: int = _BAND
    name_height: int = _NAME


@dataclass(frozen=True)
class _View:
    scenario: Scenario
    rows: Mapping[str, _Row]
    picture: _Picture
    log_ids: tuple[str, ...]


def _view(report: Report, scenario: Scenario) -> _View:
    ids = {name for of_host in scenario.log_ids.values() for name in of_host}
    return _View(scenario, _rows(scenario), _picture(report, scenario), tuple(sorted(ids)))


def _hosts(report: Report) -> list[str]:
    """Every host that the report speaks of, the primary first."""
    named = dict.fromkeys([*report.roles, *report.versions])
    for scenario in report.scenarios:
        named |= dict.fromkeys([*scenario.acks, *scenario.states, *scenario.log_ids])
    return sorted(named, key=lambda host: report.roles.get(host) != "primary")


def _picture(report: Report, scenario: Scenario) -> _Picture:
    moments = [m for of_host in scenario.acks.values() for m in of_host]
    moments += [since for states in scenario.states.values() for since, _ in states]
    events = [
        (kind, text, moment)
        for kind, text, moment in (
            ("fault", "fault", scenario.fault_s),
            ("repair", "repair", scenario.repair_s),
            ("accepted", "accepted again", scenario.accepted_s),
        )
        if moment is not None
    ]
    # Whatever it holds is to be seen, also when it came later than its end.
    end = max(scenario.seconds, *moments, *(moment for *_, moment in events), 0.001)

    top = 2 * _LABEL
    marks = tuple(
        # A row for each: however close they are, their labels do not overlap.
        _Mark(kind, _share(at, end), _side(at / end), f"{text} {_s(at)}", top + row * _LABEL)
        for row, (kind, text, at) in enumerate(events)
    )
    top += len(marks) * _LABEL

    bar_s = _step(end, _BARS)
    bars = ceil(end / bar_s)
    counted = {host: _counted(scenario.acks.get(host, ()), bar_s, bars) for host in _hosts(report)}
    most = max((n for of_host in counted.values() for n in of_host), default=0)
    lanes = []
    for host, heights in counted.items():
        lanes.append(
            _Lane(
                host,
                report.roles.get(host, ""),
                sum(heights),
                top,
                _outline(heights, most),
                tuple(_band(scenario.states.get(host, ()), end)),
            )
        )
        top += _NAME + _LANE + _BAND + _SPACE

    tick_s = _step(end, _TICKS)
    ticks = tuple(
        _Mark("tick", _share(at, end), _tick_anchor(at / end), f"{at:g}", top)
        for at in (round(n * tick_s, 6) for n in range(int(end / tick_s) + 1))
    )
    return _Picture(
        height=top + 2 * _LABEL,
        lanes=tuple(lanes),
        marks=marks,
        ticks=ticks,
        gap=_gap(scenario, end),
        # The last bar may reach beyond the end, and is cut there.
        span=f"{end / bar_s:.4f}",
        bar_s=f"{bar_s:g} s",
        most=most,
    )


def _gap(scenario: Scenario, end: float) -> _Gap:
    begin, until = longest_gap(scenario.acks, scenario.seconds)
    middle = (begin + until) / 2 / end
    if middle < 0.25:
        anchor, at = "start", begin
    elif middle > 0.75:
        anchor, at = "end", until
    else:
        anchor, at = "middle", middle * end
    length = until - begin
    return _Gap(
        at=_share(begin, end),
        # Never too narrow to be seen.
        width=_share(max(length, end / 400), end),
        end=_share(until, end),
        label=_Mark("gap", _share(at, end), anchor, f"no ACK for {_s(length)}", 0),
        words=f"No ACK for {_s(length)}, from {_s(begin)} to {_s(until)}.",
    )


def _counted(moments: Sequence[float], bar_s: float, bars: int) -> list[int]:
    heights = [0] * bars
    for moment in moments:
        heights[min(max(int(moment / bar_s), 0), bars - 1)] += 1
    return heights


def _outline(heights: Sequence[int], most: int) -> str:
    """The bars as one path, 1 wide each and 100 high: side by side without seams."""
    path, before = [], 0
    for place, height in enumerate((*heights, 0)):
        if height != before:
            # One ACK beside a hundred is seen too.
            y = 100 - (round(8 + 92 * height / most) if height else 0)
            path.append(f"M{place} 100V{y}" if not before else f"H{place}V{y}")
            if not height:
                path.append("z")
        before = height
    return "".join(path)


def _band(states: Sequence[tuple[float, str]], end: float) -> Iterator[_State]:
    for (since, state), (until, _) in pairwise((*states, (end, ""))):
        share = (until - since) / end
        needed = (len(state) * _LETTER + _ENDS) / share if share > 0 else float("inf")
        look = state.replace(" ", "-")
        yield _State(
            since=_s(since),
            state=state,
            look=look if look in _PATTERNS else "other",
            at=_share(since, end),
            width=_share(max(until - since, 0), end),
            fits=next((name for width, name in _FROM_WIDTH if needed <= width), ""),
        )


def _step(end: float, most: int) -> float:
    """The smallest of 0.1, 0.2, 0.5, 1, 2, 5, 10... s of which at most so many make up `end`."""
    for power in count(-1):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            if end <= most * step:
                return step
    raise AssertionError("powers do not end")


def _share(moment: float, end: float) -> str:
    return f"{100 * moment / end:.2f}".rstrip("0").rstrip(".") + "%"


def _side(share: float) -> str:
    return "start" if share <= 0.5 else "end"


def _tick_anchor(share: float) -> str:
    if share < 0.02:
        return "start"
    return "end" if share > 0.98 else "middle"
