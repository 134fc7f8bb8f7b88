"""Which hosts are upgraded to which Kea, in which order, and what stands against it."""

from __future__ import annotations

from dataclasses import replace

from kea_ha.decide import upgrade_plan
from kea_ha.decide.client_impact import Anchors
from kea_ha.host.mark import UnderWay, Work
from kea_ha.host.survey import Survey
from kea_ha.settings.problems import Problem
from tests.unit.surveys import (
    ANCHORS,
    PAIR,
    accepted,
    both,
    down,
    in_state,
    lab_pair,
    marked,
    with_mark,
)

OLD, NEW = "2.6.3-1+deb13u1", "2.6.5-1"


def offered(survey: Survey, *, has: str = OLD, gets: str | None = NEW) -> Survey:
    """A host that has one version of Kea and would get another."""
    rows = ((gets, "candidate"),) if gets else ()
    packages = {**survey.packages, "kea-dhcp4-server": has}
    return replace(survey, packages=packages, candidates={"kea-dhcp4-server": rows})


def pair_of(**given: str | None) -> dict[str, Survey]:
    return both(*(offered(accepted(host), **given) for host in ("host-1", "host-2")))


def against(surveys: dict[str, Survey], *, force: bool = False) -> list[Problem]:
    return list(upgrade_plan.objections(PAIR, surveys, ANCHORS, force=force))


def names(surveys: dict[str, Survey]) -> list[str]:
    return [one.node.name for one in upgrade_plan.plan_upgrade(PAIR, surveys)]


def test_the_standby_is_first_and_nothing_stands_against_a_healthy_pair() -> None:
    assert ["host-2", "host-1"] == names(pair_of())
    assert [] == against(pair_of())


def test_who_serves_is_last_also_after_a_failover() -> None:
    surveys = pair_of()
    surveys["host-2"] = in_state(surveys["host-2"], "partner-down", ["server1"])
    surveys["host-1"] = in_state(surveys["host-1"], "waiting", [])
    assert ["host-1", "host-2"] == names(surveys)


def test_of_the_newest_kea_nothing_is_upgraded() -> None:
    assert [] == names(pair_of(has=NEW))


def test_a_host_that_was_upgraded_already_is_left_alone() -> None:
    surveys = pair_of()
    surveys["host-2"] = offered(accepted("host-2"), has=NEW)
    assert ["host-1"] == names(surveys)


def test_a_program_that_is_no_longer_the_installed_one_is_restarted() -> None:
    """apt has upgraded the package, and the old program runs on: no damage, but the reason."""
    surveys = pair_of(has=NEW)
    surveys["host-1"] = replace(surveys["host-1"], executable="/usr/sbin/kea-dhcp4 (deleted)")
    assert ["host-1"] == names(surveys)
    assert [] == against(surveys)


def test_an_upgrade_that_was_cut_off_goes_on() -> None:
    """Also on a host that has the new package, and a server that is down."""
    surveys = pair_of()
    survey = down(offered(accepted("host-2"), has=NEW))
    surveys["host-2"] = with_mark(survey, under_way=UnderWay(Work.UPGRADING, "today"))
    assert ["host-2", "host-1"] == names(surveys)
    assert [] == against(surveys)


def test_a_change_that_was_cut_off_is_ended_first() -> None:
    surveys = pair_of()
    surveys["host-2"] = marked(surveys["host-2"])
    assert any("undo.py" in one.remedy for one in against(surveys))


def test_without_the_cas_at_hand_nothing_is_upgraded() -> None:
    """Certificates would be made of others, and the two would turn each other away."""
    found = list(upgrade_plan.objections(PAIR, pair_of(), Anchors(), force=False))
    assert any("no pki/lab/ here" in one.given for one in found)


def test_a_damaged_pair_is_not_upgraded_unless_forced() -> None:
    surveys = pair_of()
    surveys["host-2"] = down(surveys["host-2"])
    assert any("recover.py" in one.remedy for one in against(surveys))
    assert [] == against(surveys, force=True)


def test_an_older_kea_is_not_installed_over_a_newer_one() -> None:
    found = against(pair_of(has="3.0.3-1~bpo13+1", gets=OLD))
    assert {"host-1", "host-2"} == {one.where for one in found if "newer" in one.allowed}


def test_both_hosts_are_to_get_the_same_version() -> None:
    surveys = pair_of()
    surveys["host-2"] = offered(accepted("host-2"), gets="3.0.3-1~bpo13+1")
    assert any("same version" in one.allowed for one in against(surveys))


def test_without_a_candidate_it_is_said_where_to_look() -> None:
    assert all("apt-cache policy" in one.remedy for one in against(pair_of(gets=None)))


def test_what_waits_for_a_rollout_is_rolled_out_first() -> None:
    changed = lab_pair(valid_lifetime=50000)
    found = list(upgrade_plan.objections(changed, pair_of(), ANCHORS, force=False))
    assert {"host-1", "host-2"} == {one.where for one in found}
    assert all("deploy.py" in one.remedy for one in found)


def test_a_host_out_for_maintenance_comes_back_first() -> None:
    surveys = pair_of()
    out = surveys["host-2"]
    surveys["host-2"] = with_mark(out, out_since="today")
    assert any("--data done=true" in one.remedy for one in against(surveys))
