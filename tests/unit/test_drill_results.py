"""What a drill makes of its measurements, and what it says when they do not fit the settings."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest import approx

from kea_ha.commands import drill_page
from kea_ha.decide import drill_results, drill_scenarios
from kea_ha.decide.client_load import Told
from kea_ha.decide.drill_results import Figures, Measured, Report, Scenario
from kea_ha.decide.drill_scenarios import KINDS
from tests.unit.drills import MADE, PRIMARY_KILLED
from tests.unit.surveys import accepted, lab_pair

FAST = lab_pair(failover_profile="fast")
GOOD = Figures(
    clients=100,
    longest_gap_s=3.0,
    longest_wait_s=8.0,
    unserved=0,
    until_partner_down_s=3.0,
    until_accepted_s=5.0,
    leases_lost=0,
    given_twice=0,
)


def test_the_longest_gap_is_between_two_acks_while_clients_asked() -> None:
    """Of any two ACKs of the pair, also when another host sent the second."""
    acks = {"a": (1.0, 4.1, 90.0), "b": (1.1, 4.2)}
    assert (1.1, 4.1) == drill_results.longest_gap(acks, 5.0)
    # When nobody was answered at first, or until the end, that counts, too.
    assert (4.2, 10.0) == drill_results.longest_gap(acks, 10.0)
    assert (0.0, 4.5) == drill_results.longest_gap({"a": (4.5, 5.0), "b": ()}, 6.0)
    assert (0.0, 3.0) == drill_results.longest_gap({"a": (), "b": ()}, 3.0)


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"longest_gap_s": 30.0}, "30.0 s without an ACK"),
        ({"until_partner_down_s": None}, "did not take over"),
        ({"leases_lost": 2}, "2 leases were refused"),
        ({"given_twice": 1}, "1 addresses were given to two"),
        ({"unserved": 7}, "7 clients got nothing"),
        ({"until_accepted_s": None}, "not healthy again"),
    ],
)
def test_what_is_worse_than_it_should_be_is_said(worse: dict[str, float], said: str) -> None:
    kind = KINDS["primary-killed"]
    expected = drill_scenarios.implied(FAST, kind)
    assert [] == list(drill_results.findings(FAST, kind, GOOD, expected))
    (found,) = drill_results.findings(FAST, kind, replace(GOOD, **worse), expected)
    assert said in found


def test_of_two_that_both_serve_each_may_give_what_the_other_one_gave() -> None:
    """By Kea's design: said beforehand, and no finding. What a server lacks afterwards is one."""
    kind = KINDS["link-cut"]
    expected = drill_scenarios.implied(FAST, kind)
    assert "an address be given twice" in expected.words
    worse = replace(GOOD, leases_lost=2, given_twice=1)
    assert [] == list(drill_results.findings(FAST, kind, worse, expected))
    (found,) = drill_results.findings(FAST, kind, worse, expected, missing=2)
    assert "2 leases that were given are missing" in found


def test_a_standby_that_waits_for_too_many_clients_is_named_as_the_cause() -> None:
    patient = lab_pair(failover_profile="fast", max_unacked_clients=1000)
    kind = KINDS["primary-killed"]
    figures = replace(GOOD, until_partner_down_s=None)
    (found,) = drill_results.findings(
        patient, kind, figures, drill_scenarios.implied(patient, kind)
    )
    assert "host-2 did not take over" in found
    assert "max_unacked_clients is 1000" in found


def test_changes_of_state_are_read_by_the_hosts_own_clock() -> None:
    """Its log has local time, and the survey tells both at one moment."""
    survey = accepted("host-1")
    seen = drill_results.transitions(survey, 0.0)
    assert "hot-standby" == seen[-1][1]
    assert seen[-1][0] < survey.epoch
    assert () == drill_results.transitions(survey, survey.epoch)


def test_what_was_logged_can_be_written_into_a_report() -> None:
    found = drill_results.log_ids(accepted("host-1"), 0.0)

    scenario = replace(PRIMARY_KILLED, log_ids={"host-1": found})
    report = Report(MADE, "lab", "fast", {}, {}, {}, (scenario,))
    (written,) = json.loads(drill_page.to_json(report))["scenarios"]
    assert found == written["log_ids"]["host-1"]
    assert found


def test_what_a_clock_that_was_ahead_has_logged_is_no_later_than_what_follows() -> None:
    """Else it would be taken for a part of the next drill, or of one that is still to come."""
    survey = accepted("host-1")
    *_, (last, state) = drill_results.transitions(survey, 0.0)
    log = list(survey.log)
    ahead = next(line for line in reversed(log) if line.id == "HA_STATE_TRANSITION")
    log.insert(log.index(ahead), replace(ahead, time=ahead.time.replace(year=2099)))

    seen = drill_results.transitions(replace(survey, log=tuple(log)), 0.0)

    assert [(last, state), (last, state)] == list(seen[-2:])


def test_the_state_at_a_moment_is_the_last_one_before_it() -> None:
    survey = accepted("host-1")
    moments = [at for at, _ in drill_results.transitions(survey, 0.0)]
    assert "hot-standby" == drill_results.state_at(survey, moments[-1] + 1)
    assert "" == drill_results.state_at(survey, moments[0] - 1)


# --- from measurements to a result ------------------------------------------------------------

#: By the logs of the surveys, epoch s: from when on host-2 served alone, after host-1 had stopped.
ALONE = datetime(2026, 11, 28, 9, 45, 56, 709000, tzinfo=UTC).timestamp()
#: When the scenario below begins, its fault is made, its hosts are put back, and the clients end.
BEGUN = ALONE - 11
FAULT, REPAIRED, END = BEGUN + 2, BEGUN + 23, BEGUN + 60
PRIMARY, STANDBY, STRANGER = "192.168.1.2", "192.168.1.3", "192.168.1.9"
#: How far the clocks of the clients' host and of host-2 are ahead of this machine's, in s.
PROBE_AHEAD, STANDBY_AHEAD = 100.0, 5.0
STEADY = [(BEGUN + n, PRIMARY if BEGUN + n < FAULT else STANDBY) for n in range(60)]


def told(*acks: tuple[float, str], **changed: Any) -> Told:
    """What clients told, of ACKs at these moments of this machine's clock."""
    usual = Told(
        acks=tuple((at + PROBE_AHEAD, server) for at, server in acks),
        waits=(0.1, 9.5, 0.2),
        leases={"02:00:00:00:00:01": "192.168.1.100"},
        unserved=(),
        clients=40,
        last_arrival=END + PROBE_AHEAD,
        twice=(),
        refused=(),
    )
    return replace(usual, **changed)


def result(name: str = "primary-killed", **changed: Any) -> Scenario:
    """What comes of a scenario that went well, but for what is changed."""
    measured = Measured(
        begun=BEGUN,
        fault=FAULT,
        repaired=REPAIRED,
        accepted=REPAIRED + 25,
        told=told(*STEADY),
        told_ahead_s=PROBE_AHEAD,
        missing=0,
        missed=(),
        surveys={"host-1": accepted("host-1"), "host-2": accepted("host-2")},
        ahead_s={"host-1": 0.0, "host-2": STANDBY_AHEAD},
    )
    return drill_results.result(FAST, KINDS[name], replace(measured, **changed))


def test_what_went_well_has_figures_and_no_findings() -> None:
    """They count from the fault, or from the repair; the longest wait is one client's."""
    found = result()

    assert found.passed
    assert "Kea-dhcp4 on the primary is killed and held down." == found.what
    assert drill_scenarios.implied(FAST, KINDS["primary-killed"]) == found.implied
    down = approx(ALONE - STANDBY_AHEAD - FAULT, abs=0.01)
    assert Figures(40, approx(1), 9.5, 0, down, approx(25), 0, 0) == found.figures


def test_a_time_line_is_by_this_machines_clock() -> None:
    """Whatever the clocks of the hosts and of the clients show."""
    found = result(told=told((BEGUN + 1, PRIMARY), (ALONE, STANDBY)))
    moments, states = zip(*found.states["host-2"], strict=True)

    assert (2, 23, 48, 60) == approx(
        (found.fault_s, found.repair_s, found.accepted_s, found.seconds)
    )
    assert {"host-1": (1.0,), "host-2": (11.0,)} == found.acks
    assert ("partner-in-maintenance", "partner-down", "hot-standby") == states
    assert (0, ALONE - STANDBY_AHEAD - BEGUN) == approx(moments[:2], abs=0.01)
    # What was logged before it is none of it.
    assert 2 == found.log_ids["host-2"]["HA_STATE_TRANSITION"]


def test_a_server_that_is_down_gives_no_answer_from_the_fault_on() -> None:
    """Not one that is cut off and runs, and not the other one."""
    down = {
        name: [host for host, line in result(name).states.items() if (2.0, "no answer") in line]
        for name in ("primary-killed", "both-down-together", "host-isolated")
    }

    assert ["host-1"] == down["primary-killed"]
    assert ["host-1", "host-2"] == down["both-down-together"]
    assert [] == down["host-isolated"]


def test_a_state_that_the_log_does_not_tell_was_the_usual_one() -> None:
    """Of a server that has changed to nothing for as long as its log goes back."""
    quiet = {name: replace(accepted(name), log=()) for name in ("host-1", "host-2")}
    found = result(surveys=quiet)

    assert ((0.0, "hot-standby"),) == found.states["host-2"]
    assert found.figures.until_partner_down_s is None
    assert ["host-2 did not take over"] == list(found.findings)


def test_of_a_way_back_nothing_before_it_counts() -> None:
    """Its time line begins when the hosts are put back."""
    late = [(at, server) for at, server in STEADY if at < FAULT or at > REPAIRED + 1.4]
    found = result("primary-back", told=told(*late))

    assert 0.0 == found.fault_s == found.repair_s
    assert END - REPAIRED == approx(found.seconds)
    assert () == found.acks["host-1"]
    assert 2.0 == approx(found.figures.longest_gap_s)
    assert found.passed


def test_an_ack_of_a_server_that_is_not_the_pairs_ends_no_gap() -> None:
    """Nor is it in the picture."""
    others = [(at, STRANGER if FAULT < at < FAULT + 6 else server) for at, server in STEADY]
    found = result(told=told(*others))

    assert 6 == approx(found.figures.longest_gap_s)
    assert {"host-1", "host-2"} == set(found.acks)
    (said,) = found.findings
    assert "6.0 s without an ACK of the pair; the settings imply at most 4.0 s" in said


def test_a_pair_that_fell_silent_is_so_in_figure_table_and_picture() -> None:
    """What is marked is what was measured."""
    silent = result(told=told(*STEADY[:20]))
    report = Report(MADE, "lab", "fast", {}, {}, {}, (silent,))

    assert 41 == approx(silent.figures.longest_gap_s)
    assert " 41.0 s " in drill_page.table(report)[2]
    assert "no ACK for 41.0 s" in drill_page.to_html(report)


def test_leases_are_lost_by_servers_and_by_refusals() -> None:
    """Both are in the figure, and each is told for itself."""
    found = result(missing=2, told=told(*STEADY, refused=("192.168.1.100",) * 3))

    assert 5 == found.figures.leases_lost
    assert (
        "2 leases that were given are missing on a server afterwards",
        "3 leases were refused to the client that had them",
    ) == found.findings


def test_what_the_fault_did_not_bring_about_is_a_finding_of_its_own() -> None:
    """The first; and what it quotes of a host is nothing that a terminal would obey."""
    found = result(missed=("the fault had no effect: \x1b[31m",), accepted=None)

    assert "the fault had no effect: \\x1b[31m" == found.findings[0]
    assert "the pair was not healthy again in time" == found.findings[1]
    assert (None, None) == (found.accepted_s, found.figures.until_accepted_s)
