"""What a change of a live pair is made of, in which order, and what stands against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kea_ha import layout
from kea_ha.decide import change_plan
from kea_ha.host import accepted_state, daemons
from kea_ha.host.daemons import DHCP4
from kea_ha.host.mark import Mark, UnderWay, Work
from kea_ha.host.survey import Survey
from kea_ha.pki.certificates import inspect
from kea_ha.settings.model import Pair
from kea_ha.settings.problems import Problem
from tests.unit.surveys import (
    ANCHORS,
    PAIR,
    SUBNETS,
    accepted,
    as_planned,
    both,
    down,
    in_state,
    lab_pair,
    marked,
    survey_of,
)

CHANGED = lab_pair(valid_lifetime=50000)
UNIT = DHCP4.debian.unit


def order(change: change_plan.Change | None) -> list[str]:
    return [one.node.name for one in change.hosts] if change else []


def against(surveys: dict[str, Survey], pair: Pair = CHANGED, **agreed: bool) -> list[Problem]:
    given = {"force": False, "accept_outage": False, **agreed}
    return list(change_plan.objections(pair, surveys, **given))


def test_a_pair_as_described_has_nothing_to_change() -> None:
    """The second run does nothing."""
    assert change_plan.plan_change(PAIR, both(), ANCHORS) is None


def test_the_standby_goes_first_and_each_setting_is_named_with_both_values() -> None:
    """A forgotten --data is seen before anything is restarted."""
    change = change_plan.plan_change(CHANGED, both(), ANCHORS)

    assert change is not None
    assert ["host-2", "host-1"] == order(change)
    assert ("valid_lifetime: 43200 -> 50000",) == change.settings
    assert all(one.restarts for one in change.hosts)
    assert all("Dhcp4.valid-lifetime: 43200 -> 50000" in one.lines[0] for one in change.hosts)
    assert [] == against(both())


def test_who_serves_nobody_goes_first() -> None:
    """After a failover the standby serves: then the primary is the one to restart."""
    surveys = both(
        in_state(accepted("host-1"), "waiting", []),
        in_state(accepted("host-2"), "partner-down", ["server1", "server2"]),
    )

    assert ["host-1", "host-2"] == order(change_plan.plan_change(CHANGED, surveys, ANCHORS))


def test_a_pair_that_lost_a_host_is_no_pair_to_roll() -> None:
    """Its other server is rolled out anew instead."""
    fresh = replace(accepted("host-2"), mark=Mark())

    assert change_plan.plan_change(CHANGED, both(of_second=fresh), ANCHORS) is None


def test_a_firewall_alone_restarts_nothing() -> None:
    """Clients are not touched by what Kea does not read."""
    pair = lab_pair(firewall="nftables", admin_networks=["192.168.1.0/24"])
    packages = {**survey_of("host-1").packages, "nftables": "1.1"}
    surveys = both(accepted("host-1", packages=packages), accepted("host-2", packages=packages))

    change = change_plan.plan_change(pair, surveys, ANCHORS)

    assert change is not None
    assert not any(one.restarts for one in change.hosts)
    assert "clients notice nothing" in change_plan.cost(pair, change, surveys)


@pytest.mark.parametrize("missing", [layout.HA_CERTIFICATE, layout.HA_ANCHOR])
def test_a_certificate_that_is_gone_is_made_anew_by_a_change(missing: str) -> None:
    """Kea reads certificates when it starts, so it restarts."""
    held = {p: pem for p, pem in survey_of("host-1").certificates.items() if p != missing}
    surveys = both(accepted("host-1", certificates=held))

    change = change_plan.plan_change(PAIR, surveys, ANCHORS)

    assert change is not None
    assert ["host-1"] == order(change)
    assert change.hosts[0].restarts
    assert "make a certificate" in change.hosts[0].lines[0]


@pytest.mark.parametrize(("seconds", "refused"), [(100, True), (-100, True), (10000, False)])
def test_a_certificate_that_expires_during_the_change_takes_both_at_once(
    seconds: int, refused: bool
) -> None:
    """Changed one by one, the two would turn each other away when it is half done.

    With one that has expired there is a way that asks for no outage of a change.
    """
    ends = inspect(survey_of("host-2").certificates[layout.HA_CERTIFICATE]).not_after
    late = accepted("host-2", epoch=ends.timestamp() - seconds)
    surveys = both(of_second=late)
    found = [one for one in against(surveys) if "the certificate of" in one.given]
    assert refused == bool(found)
    assert (seconds < 0) == any("runbook/recover.py" in one.given for one in found)
    change = change_plan.plan_change(CHANGED, surveys, ANCHORS)
    assert change is not None
    assert refused == change.together
    assert [] == [
        one for one in against(surveys, accept_outage=True) if "the certificate of" in one.given
    ]


def test_another_anchor_of_the_operators_own_takes_both_at_once() -> None:
    """A server that trusts the new one alone and a server of the old one turn each other away."""
    own = {"key": "/root/k", "certificate": "/root/c", "anchor": "/root/a"}
    pair = lab_pair(own_certificates=own)
    survey = accepted("host-2")
    other = replace(survey.files[layout.HA_ANCHOR], sha256="0" * 64)
    theirs = {"/root/a": other, "/root/c": other, "/root/k": other}
    surveys = both(of_second=replace(survey, files={**survey.files, **theirs}))
    assert any("anchor of the peers" in one.given for one in against(surveys, pair))
    assert [] == against(surveys, pair, accept_outage=True, force=True)


def test_a_certificate_is_due_when_less_than_a_third_is_left() -> None:
    """300 days after it was made for a year; not yet after 200."""
    epoch = survey_of("host-1").epoch
    early, late = (
        change_plan.plan_change(PAIR, both(accepted("host-1", epoch=epoch + days * 86400)), ANCHORS)
        for days in (200, 300)
    )

    assert early is None
    assert late is not None
    assert any("less than a third of its life" in line for line in late.hosts[0].lines)


def test_a_hands_edit_stands_against_it_with_its_values() -> None:
    """Shown against what was written last, not against what would be written."""
    survey = accepted("host-1")
    text = (survey.text(layout.KEA_CONF) or "").replace('"renew-timer": 21600', '"renew-timer": 5')
    edited = replace(survey.files[layout.KEA_CONF], sha256="0" * 64, content=text)
    surveys = both(replace(survey, files={**survey.files, layout.KEA_CONF: edited}))

    (problem,) = against(surveys)

    assert ("host-1", layout.KEA_CONF) == (problem.where, problem.setting)
    assert "Dhcp4.renew-timer: 21600 -> 5" in problem.given
    assert [] == against(surveys, force=True)


def test_a_damaged_pair_is_not_changed_unless_forced() -> None:
    """It says who serves, and what is wrong."""
    surveys = both(of_second=down(accepted("host-2")))

    (problem,) = against(surveys)

    assert "clients are served by host-1" in problem.given
    assert f"host-2: {UNIT} is inactive" in problem.given
    assert [] == against(surveys, force=True)


def test_a_change_of_ours_that_was_cut_off_goes_on() -> None:
    """With the server that a run left down first, and its partner next."""
    left = both(
        in_state(accepted("host-1"), "partner-down", ["server1", "server2"]),
        down(marked(accepted("host-2"))),
    )

    assert [] == against(left)
    assert ["host-2", "host-1"] == order(change_plan.plan_change(CHANGED, left, ANCHORS))
    # Also when all that it lacks is its start.
    assert ["host-2"] == order(change_plan.plan_change(PAIR, left, ANCHORS))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"subnets": [{**SUBNETS[0], "id": 2}]}, "subnet 1 is removed and 2 added"),
        (
            {"subnets": [{**SUBNETS[0], "subnet": "192.168.0.0/16"}]},
            "subnet 1 (192.168.1.0/24) becomes 192.168.0.0/16",
        ),
        ({"ha_port": 8005}, "ha_port changes"),
    ],
)
def test_what_two_servers_cannot_live_with_half_done_wants_an_outage(
    settings: dict[str, Any], said: str
) -> None:
    """Refused with the reason and the price; accepted, both are restarted together."""
    pair = lab_pair(**settings)

    (problem,) = against(both(), pair)

    assert said in problem.given
    assert "accept_outage=true" in problem.remedy
    assert [] == against(both(), pair, accept_outage=True)
    change = change_plan.plan_change(pair, both(), ANCHORS)
    assert change is not None
    assert change.together


def test_a_new_subnet_and_another_pool_need_no_outage() -> None:
    """The partner's leases are of subnets that the changed server still has."""
    more = [{**SUBNETS[0], "pools": ["192.168.1.50-192.168.1.60"]},
            {"subnet": "10.0.0.0/24", "id": 2, "pools": ["10.0.0.10-10.0.0.20"],
             "relays": ["10.0.0.1"]}]  # fmt: skip
    pair = lab_pair(subnets=more)
    change = change_plan.plan_change(pair, both(), ANCHORS)

    assert [] == against(both(), pair)
    assert change is not None
    assert not change.together


MORE = {"subnet": "10.0.0.0/24", "id": 2, "pools": ["10.0.0.10-10.0.0.20"], "relays": ["10.0.0.1"]}


def with_more(host: str) -> Survey:
    """A host of a pair that has one more subnet."""
    pair = lab_pair(subnets=[*SUBNETS, MORE])
    survey = as_planned(pair, host)
    kept = {path: file for path, file in survey.files.items() if path in daemons.KEPT}
    return replace(survey, kept=kept, kept_settings=accepted_state.settings_text(pair))


def test_a_subnet_goes_from_the_primary_first_and_needs_no_outage() -> None:
    """It gives leases of the subnet to the end, and must not tell of them to one that lacks it."""
    surveys = both(with_more("host-1"), with_more("host-2"))

    change = change_plan.plan_change(PAIR, surveys, ANCHORS)

    assert [] == against(surveys)
    assert ["host-1", "host-2"] == order(change)
    assert change is not None
    assert not change.together


def test_a_standby_that_is_down_is_brought_back_before_the_primary_loses_a_subnet() -> None:
    """The primary alone serves, and may not be restarted."""
    surveys = both(with_more("host-1"), down(with_more("host-2")))

    assert ["host-2", "host-1"] == order(change_plan.plan_change(PAIR, surveys, ANCHORS))


def test_a_subnet_of_a_change_that_was_cut_off_and_given_up_goes_from_the_primary_first() -> None:
    """What runs is not known: what was accepted last, or what was to be."""
    kept = accepted("host-1").kept
    surveys = {host: marked(replace(with_more(host), kept=kept)) for host in ("host-1", "host-2")}

    assert ["host-1", "host-2"] == order(change_plan.plan_change(PAIR, surveys, ANCHORS))


def test_a_subnet_that_was_added_is_undone_from_the_primary_first() -> None:
    """An undo of an addition removes."""
    kept = accepted("host-1").kept
    surveys = {host: replace(with_more(host), kept=kept) for host in ("host-1", "host-2")}

    assert ["host-1", "host-2"] == order(change_plan.plan_undo(PAIR, surveys))


def test_a_slow_heartbeat_is_told_with_the_setting_that_shrinks_it() -> None:
    """The documented 10 s; with 1 s there is nothing to advise."""
    change = change_plan.plan_change(CHANGED, both(), ANCHORS)
    assert change is not None
    running = change_plan.heartbeat_ms(PAIR, both())

    said = change_plan.cost(CHANGED, change, both())

    assert f"{running / 1000:g} s" in said
    assert ("heartbeat_delay=1000" in said) == (running >= 2000)


def test_what_is_kept_is_kept_until_a_file_changes() -> None:
    """Else a second run would keep the same once more, and lose what was accepted before."""
    survey = accepted("host-1")
    assert accepted_state.is_kept(survey)
    assert accepted_state.is_of(PAIR, survey)
    assert not accepted_state.is_of(CHANGED, survey)
    for path in daemons.KEPT:
        if path in survey.files:
            changed = replace(survey.files[path], sha256="0" * 64)
            files = {**survey.files, path: changed}
            assert not accepted_state.is_kept(replace(survey, files=files)), path
    assert not accepted_state.is_kept(replace(survey, kept={}))


def test_an_undo_that_was_cut_off_is_not_over_while_its_mark_is_there() -> None:
    """Files put back, and the server left down by the restart that failed."""
    surveys = both(of_second=down(marked(accepted("host-2"))))
    assert ["host-2"] == order(change_plan.plan_undo(PAIR, surveys))
    assert change_plan.plan_undo(PAIR, both()) is None


def test_an_undo_says_what_it_puts_back_and_wants_an_earlier_state() -> None:
    survey = accepted("host-2")
    text = (survey.text(layout.KEA_CONF) or "").replace('"renew-timer": 21600', '"renew-timer": 5')
    earlier = replace(survey.files[layout.KEA_CONF], sha256="0" * 64, content=text)
    surveys = both(of_second=replace(survey, kept={**survey.kept, layout.KEA_CONF: earlier}))
    change = change_plan.plan_undo(PAIR, surveys)
    assert change is not None
    assert ("Dhcp4.renew-timer: 21600 -> 5" in change.hosts[0].lines[0], False) == (
        True,
        change.together,
    )
    found = change_plan.undo_objections(
        PAIR, both(replace(accepted("host-1"), kept={})), force=False, accept_outage=False
    )
    assert ["not kept on this host"] == [one.given for one in found]


LAST, BEFORE = layout.KEPT_DIR, layout.KEPT_BEFORE_DIR


def keeps(last: str, before: str, work: Work | None = None, goal: str = "") -> Survey:
    """A host that keeps the states of these names, and is marked in this way."""
    under_way = UnderWay(work, "today", goal) if work else None
    names = {LAST: last, BEFORE: before}
    return accepted("host-1", kept_names=names, mark=Mark("lab server1", True, under_way))


@pytest.mark.parametrize(
    ("first", "second", "back_to"),
    [
        # Nothing is under way: to what was accepted before the last change.
        (keeps("2", "1"), keeps("2", "1"), (BEFORE, BEFORE)),
        # A change that was cut off, also when one of the two had kept it already.
        (keeps("2", "1", Work.CHANGING, "2"), keeps("2", "1"), (LAST, LAST)),
        (keeps("3", "2"), keeps("2", "1", Work.CHANGING, "2"), (BEFORE, LAST)),
        # An undo that was cut off: before, in, or after the other host's turn.
        (keeps("2", "1", Work.UNDOING, "1"), keeps("2", "1"), (BEFORE, BEFORE)),
        (keeps("1", "2", Work.UNDOING, "1"), keeps("2", "1", Work.UNDOING, "1"), (LAST, BEFORE)),
        (keeps("1", "2"), keeps("2", "1", Work.UNDOING, "1"), (LAST, BEFORE)),
        # A restore that was cut off goes back to what was accepted before it.
        (keeps("backup", "2"), keeps("2", "1", Work.RESTORING, "2"), (BEFORE, LAST)),
        (keeps("2", "1"), keeps("2", "1", Work.RESTORING, "2"), (LAST, LAST)),
        # What one of them no longer keeps, or never had, is no state of the pair to go back to.
        (keeps("2", "1"), keeps("2", "0"), ("", "")),
        (keeps("4", "3"), keeps("2", "1", Work.CHANGING, "2"), ("", LAST)),
        (keeps("2", ""), keeps("2", ""), ("", "")),
    ],
)
def test_an_undo_goes_back_to_one_state_of_the_pair(
    first: Survey, second: Survey, back_to: tuple[str, str]
) -> None:
    """Wherever each host keeps it by now."""
    found = change_plan.goals({"host-1": first, "host-2": second})

    assert back_to == tuple(found.values())


def test_a_state_that_one_host_has_kept_is_kept_by_the_other_under_its_name() -> None:
    """The run that accepted it was cut off in between."""
    done = accepted("host-1", kept_names={LAST: "3", BEFORE: "2"})
    not_yet = replace(
        accepted("host-2", kept_names={LAST: "2", BEFORE: "1"}), kept_settings="others"
    )

    assert "3" == accepted_state.name_of(PAIR, [done, not_yet])
    assert "" == accepted_state.name_of(PAIR, [done, replace(not_yet, kept_names=done.kept_names)])
    assert "" == accepted_state.name_of(PAIR, [not_yet, not_yet])


def test_each_state_that_is_accepted_in_one_run_has_a_name_of_its_own() -> None:
    """A change of CAs accepts three, and none of them may pass for another."""
    name, names = "2026-11-26", []
    host = accepted("host-1")
    for _ in range(3):
        names.append(accepted_state.next_name(name, [host, host]))
        host = replace(host, kept_names={LAST: names[-1], BEFORE: "any"})

    assert [name, f"{name}+1", f"{name}+2"] == names
