"""What a drill has found: the figures of each scenario, and what is wrong with them.

Pure values, and judgements about them. Times of a scenario are seconds on its time line, which
begins at 0.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from kea_ha.decide.client_load import Told
from kea_ha.decide.drill_scenarios import MARGIN_S, Implied, Kind, implied, survivor, victims
from kea_ha.foreign import shown
from kea_ha.host.survey import Survey
from kea_ha.kea import log_file, status
from kea_ha.settings.model import Node, Pair


@dataclass(frozen=True)
class Figures:
    """What was measured in one scenario. Floats are finite."""

    clients: int
    """How many asked."""
    longest_gap_s: float
    """Longest time without an ACK of the pair, as `longest_gap` has it."""
    longest_wait_s: float
    """Longest time that one client waited for its ACK."""
    unserved: int
    """Clients that never got one."""
    until_partner_down_s: float | None
    """From the fault until the survivor was in partner-down; None when it never was."""
    until_accepted_s: float | None
    """From the repair until the pair was accepted again; None when it never was."""
    leases_lost: int
    given_twice: int
    """Addresses that two clients held at the same time."""


@dataclass(frozen=True)
class Scenario:
    """One failure, and what came of it."""

    name: str
    what: str
    """A sentence."""
    findings: tuple[str, ...]
    """Why it did not pass; empty when it did."""
    seconds: float
    """The length of its time line: until the last client began to ask."""
    fault_s: float
    repair_s: float | None
    accepted_s: float | None
    acks: Mapping[str, tuple[float, ...]]
    """By host, when it sent each ACK."""
    states: Mapping[str, tuple[tuple[float, str], ...]]
    """By host, from when it was in which HA state, or gave "no answer"."""
    figures: Figures
    implied: Implied
    log_ids: Mapping[str, Mapping[str, int]]
    """By host, how often its log has each of Kea's message ids."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found against it."""
        return not self.findings


@dataclass(frozen=True)
class Report:
    """One drill of one pair."""

    made: datetime
    """Aware."""
    pair: str
    profile: str
    """The name that its settings go by."""
    settings: Mapping[str, int]
    """By Kea's name of them; those that end in ``_delay`` in ms."""
    versions: Mapping[str, str]
    """By host, Kea's version."""
    roles: Mapping[str, str]
    """By host, primary or standby."""
    scenarios: tuple[Scenario, ...]

    @property
    def passed(self) -> bool:
        """Whether every scenario did. A drill of none has shown nothing, and did not."""
        return bool(self.scenarios) and all(one.passed for one in self.scenarios)


def longest_gap(acks: Mapping[str, Iterable[float]], until: float) -> tuple[float, float]:
    """Begin and end (s) of the longest time without an ACK of the pair, whoever sent them.

    From the begin of the time line until the last client began to ask: when nobody was answered
    until then, that counts, too. The figure is its length, and the pictures mark it.
    """
    moments = sorted(one for of_host in acks.values() for one in of_host if 0.0 < one < until)
    return max(pairwise((0.0, *moments, max(until, 0.0))), key=lambda gap: gap[1] - gap[0])


@dataclass(frozen=True)
class Measured:
    """What was measured of a scenario. Moments are epoch seconds by this machine's clock."""

    begun: float
    """A moment before the fault, from which on it is looked at."""
    fault: float
    repaired: float
    accepted: float | None
    told: Told
    told_ahead_s: float
    """How far the clock of the clients' host is ahead of this machine's."""
    missing: int
    """How many of the leases that were given a server does not have, on either."""
    missed: tuple[str, ...]
    """What the fault was to bring about, and did not."""
    surveys: Mapping[str, Survey]
    """By host, made when all was over."""
    ahead_s: Mapping[str, float]
    """By host, how far its clock is ahead of this machine's."""


def result(pair: Pair, kind: Kind, measured: Measured) -> Scenario:
    """What came of a scenario, on its time line, and what of that is against it."""
    told, begun, fault = measured.told, measured.begun, measured.fault
    if kind.back:
        begun = fault = measured.repaired
    accepted, seconds = measured.accepted, told.last_arrival - measured.told_ahead_s - begun
    sent = [(at - measured.told_ahead_s - begun, server) for at, server in told.acks]
    acks, states, ids = {}, {}, {}
    for node in pair.nodes:
        acks[node.name] = tuple(
            round(at, 3) for at, server in sent if server == node.address and at >= 0
        )
        survey, since = measured.surveys[node.name], begun + measured.ahead_s[node.name]
        seen = [(0.0, state_at(survey, since) or status.HOT_STANDBY)]
        if kind.down and node in victims(pair, kind):
            seen.append((fault - begun, "no answer"))
        seen += [(at - since, state) for at, state in transitions(survey, since)]
        states[node.name] = tuple(seen)
        ids[node.name] = log_ids(survey, since)
    taker = survivor(pair, kind)
    down = [at for at, state in states[taker.name] if state == status.PARTNER_DOWN] if taker else []
    gap_begin, gap_end = longest_gap(acks, seconds)
    expected = implied(pair, kind)
    figures = Figures(
        clients=told.clients,
        longest_gap_s=round(gap_end - gap_begin, 3),
        longest_wait_s=max(told.waits, default=0.0),
        unserved=len(told.unserved),
        until_partner_down_s=down[0] + begun - fault if down else None,
        until_accepted_s=accepted - measured.repaired if accepted else None,
        leases_lost=measured.missing + len(told.refused),
        given_twice=len(told.given_twice),
    )
    against = findings(pair, kind, figures, expected, missing=measured.missing)
    return Scenario(
        name=kind.name,
        what=f"{kind.what[:1].upper()}{kind.what[1:]}.",
        findings=tuple(map(shown, (*measured.missed, *against))),
        seconds=seconds,
        fault_s=fault - begun,
        repair_s=measured.repaired - begun,
        accepted_s=accepted - begun if accepted else None,
        acks=acks,
        states=states,
        figures=figures,
        implied=expected,
        log_ids=ids,
    )


def transitions(survey: Survey, since: float) -> tuple[tuple[float, str], ...]:
    """The host's changes of HA state after a moment, by its own log and clock: epoch s, state."""
    logged = ((at, log_file.entered(line)) for at, line in _logged(survey))
    return tuple((at, state) for at, state in logged if state and at >= since)


def state_at(survey: Survey, moment: float) -> str:
    """The HA state that the host was in at a moment, by its own log and clock; empty if unknown."""
    before = [state for at, state in transitions(survey, 0.0) if at <= moment]
    return before[-1] if before else ""


def log_ids(survey: Survey, since: float) -> Mapping[str, int]:
    """How often each message of high availability was logged since a moment."""
    found = (line.id for at, line in _logged(survey) if at >= since)
    # A dict: of its subclasses dataclasses.asdict, by which reports are written, makes nonsense.
    return dict(Counter(name for name in found if name.startswith("HA_")))


def _logged(survey: Survey) -> list[tuple[float, log_file.LogLine]]:
    """The lines of the host's log with their moments by its own clock, epoch s.

    None is later than what follows it: of a server whose clock was ahead it is not known better.
    """
    # The log has local time; the survey was made at one moment of both.
    offset = survey.epoch - survey.local.timestamp()
    lines = survey.log
    moments, latest = [], survey.epoch
    for line in reversed(lines):
        latest = min(latest, line.time.timestamp() + offset)
        moments.append(latest)
    return list(zip(reversed(moments), lines, strict=True))


def findings(
    pair: Pair, kind: Kind, figures: Figures, expected: Implied, *, missing: int = 0
) -> Iterator[str]:
    """What of the figures is worse than the settings imply, and what probably causes it.

    ``missing``: how many of the leases that are lost a server lacks in the end.
    """
    if expected.longest_gap_s is not None and (
        figures.longest_gap_s > expected.longest_gap_s + MARGIN_S
    ):
        yield (
            f"{figures.longest_gap_s:.1f} s without an ACK of the pair; the settings imply at most "
            f"{expected.longest_gap_s:.1f} s ({expected.words})"
        )
    taker = survivor(pair, kind)
    if taker and expected.until_partner_down_s is not None and figures.until_partner_down_s is None:
        yield f"{taker.name} did not take over{_why_not(pair, taker)}"
    if missing:
        yield f"{missing} leases that were given are missing on a server afterwards"
    refused = figures.leases_lost - missing
    if refused and not kind.apart:
        yield f"{refused} leases were refused to the client that had them"
    if figures.given_twice and not kind.apart:
        yield f"{figures.given_twice} addresses were given to two clients each"
    if figures.unserved:
        yield f"{figures.unserved} clients got nothing"
    if figures.until_accepted_s is None:
        yield "the pair was not healthy again in time"


def _why_not(pair: Pair, taker: Node) -> str:
    waits = pair.settings.max_unacked_clients
    if taker.role != status.STANDBY or not waits:
        return ""
    return (
        f": max_unacked_clients is {waits}, so {waits + 1} clients would have to ask in vain for "
        "longer than max_ack_delay; at this load they do not. Lower it (0: none is waited for)"
    )
