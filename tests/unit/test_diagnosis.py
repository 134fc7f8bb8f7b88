"""What is wrong with a pair, by what its hosts look like, and the one cure that fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from kea_ha import layout
from kea_ha.decide import diagnosis
from kea_ha.decide.client_impact import Anchors
from kea_ha.decide.diagnosis import Diagnosis
from kea_ha.decide.preflight import Path, Seen
from kea_ha.host.mark import Mark, UnderWay, Work
from kea_ha.host.survey import Survey
from kea_ha.kea import lease_file
from kea_ha.settings.problems import Problem
from tests.unit.surveys import (
    ANCHORS,
    PAIR,
    UNIT,
    accepted,
    both,
    down,
    in_state,
    marked,
    with_mark,
)

HEADER = ",".join(lease_file.COLUMNS)


def seen(surveys: Mapping[str, Survey]) -> dict[str, Seen]:
    return {name: Seen(survey) for name, survey in surveys.items()}


def of(surveys: Mapping[str, Survey], anchors: Anchors = ANCHORS) -> Diagnosis:
    return diagnosis.diagnose(PAIR, seen(surveys), anchors)


def against(surveys: Mapping[str, Survey], anchors: Anchors = ANCHORS) -> list[Problem]:
    return list(diagnosis.problems(PAIR, seen(surveys), anchors, of(surveys, anchors)))


def expired(survey: Survey) -> Survey:
    """Two years on: what was made for a year has expired, what was made for ten has not."""
    return replace(survey, epoch=survey.epoch + timedelta(days=730).total_seconds())


def silent_for(survey: Survey, seconds: int) -> Survey:
    reported = survey.status
    assert reported is not None and reported.ha is not None
    remote = replace(reported.ha.remote, age_s=seconds, communication_interrupted=seconds > 60)
    return replace(survey, status=replace(reported, ha=replace(reported.ha, remote=remote)))


def test_a_healthy_pair_is_left_alone() -> None:
    assert ("nothing", ()) == (of(both()).cure, of(both()).found)


def test_a_server_that_is_down_rejoins_its_partner() -> None:
    found = of(both(of_second=down(accepted("host-2"))))
    assert ("rejoin", "host-2", ()) == (found.cure, found.host, found.aside)


@pytest.mark.parametrize(
    ("header", "aside"),
    [
        ("addr3ss,hwaddr", ("host-2",)),
        (HEADER[:40], ("host-2",)),
        (HEADER.replace(",pool_id", ",pool"), ("host-2",)),
        (HEADER, ()),
        (HEADER.removesuffix(",user_context,pool_id"), ()),  # an older Kea's
        ("", ()),
    ],
)
def test_a_lease_file_is_set_aside_only_if_kea_cannot_open_it(
    header: str, aside: tuple[str, ...]
) -> None:
    """What holds leases is not put away on a guess."""
    one = replace(down(accepted("host-2")), lease_headers={layout.LEASES: header})
    assert aside == of(both(of_second=one)).aside


def test_leases_that_only_closed_files_have_are_not_given_up() -> None:
    """Neither file is set aside: the way back is a backup."""
    surveys = both(
        *(
            replace(down(accepted(host)), lease_headers={layout.LEASES: "?"})
            for host in ("host-1", "host-2")
        )
    )
    (problem,) = against(surveys)
    assert "restore.py" in problem.remedy


def test_of_two_that_are_down_the_one_with_its_leases_starts_first() -> None:
    """And what is set aside is said."""
    closed = replace(down(accepted("host-1")), lease_headers={layout.LEASES: "?"})
    found = of(both(closed, down(accepted("host-2"))))
    assert ("rejoin", "host-1", ("host-1",)) == (found.cure, found.host, found.aside)
    assert "host-2 is started first" in found.words
    assert "set aside" in found.words


def test_both_down_are_started_together() -> None:
    surveys = both(down(accepted("host-1")), down(accepted("host-2")))
    assert ("restart both", "") == (of(surveys).cure, of(surveys).host)


def test_terminated_on_one_takes_both() -> None:
    """The other one ends in it, too, when it hears of it."""
    surveys = both(in_state(accepted("host-1"), "terminated", ["server1"]))
    assert "restart both" == of(surveys).cure


@pytest.mark.parametrize(
    ("hosts", "cure", "renew"),
    [
        (("host-1", "host-2"), "restart both", ("host-1", "host-2")),
        (("host-2",), "rejoin", ("host-2",)),
    ],
)
def test_a_certificate_that_has_expired_is_made_anew(
    hosts: tuple[str, ...], cure: str, renew: tuple[str, ...]
) -> None:
    surveys = both()
    surveys |= {host: expired(surveys[host]) for host in hosts}
    found = of(surveys)
    assert (cure, renew) == (found.cure, found.renew)
    assert [] == [one for one in against(surveys) if "pki" in one.given]


def test_another_ca_at_hand_is_no_reason_to_restart_anybody() -> None:
    """A second operator with a stale pki/: a healthy pair is healthy by its own anchors."""
    foreign = Anchors(ANCHORS.api, ANCHORS.peers)
    assert "nothing" == of(both(), foreign).cure
    late = both(of_second=expired(accepted("host-2")))
    assert any("of another CA" in one.given for one in against(late, foreign))


def test_certificates_that_were_renewed_and_not_used_yet_are_taken_into_use() -> None:
    """By a run that was cut off between the two: nothing is made anew once more."""
    surveys = {
        name: replace(
            in_state(survey, "partner-down", ["server1"]),
            started_from={UNIT: {layout.HA_CERTIFICATE: "0" * 64}},
        )
        for name, survey in both().items()
    }
    found = of(surveys)
    assert ("restart both", ()) == (found.cure, found.renew)


def test_without_the_ca_no_certificate_can_be_made() -> None:
    """No other CA is made in its place: the partner would not know it."""
    surveys = both(of_second=expired(accepted("host-2")))
    given = [one.given for one in against(surveys, Anchors())]
    assert any("no pki/lab/ here" in one for one in given)


def test_left_in_maintenance_is_started_anew() -> None:
    surveys = both(
        in_state(accepted("host-1"), "partner-in-maintenance", ["server1"]),
        in_state(accepted("host-2"), "in-maintenance", []),
    )
    assert ("rejoin", "host-2") == (of(surveys).cure, of(surveys).host)


def test_both_serving_are_waited_for_unless_their_path_is_blocked() -> None:
    surveys = both(
        in_state(accepted("host-1"), "partner-down", ["server1"]),
        in_state(accepted("host-2"), "partner-down", ["server1"]),
    )
    assert "wait" == of(surveys).cure
    assert [] == against(surveys)
    blocked = seen(surveys)
    cut = replace(blocked["host-1"], paths=(Path("192.168.1.3", 8000, "dropped"),))
    blocked |= {"host-1": cut}
    (problem,) = diagnosis.problems(PAIR, blocked, ANCHORS, of(surveys))
    assert "path to host-2" in problem.setting


def test_a_fresh_machine_is_set_up_beside_a_survivor_that_needs_no_change() -> None:
    fresh = replace(
        accepted("host-2"),
        mark=Mark(),
        packages={},
        units={},
        files={},
        certificates={},
        listeners=(),
    )
    found = of(both(of_second=fresh))
    assert ("rebuild", "host-2") == (found.cure, found.host)
    # Cut off before it was accepted, it is gone on with.
    begun = replace(fresh, mark=Mark("lab server2", under_way=UnderWay(Work.ROLLING_OUT, "today")))
    assert "rebuild" == of(both(of_second=begun)).cure
    # Whoever has no leases to give is brought to serve first.
    alone = of(both(down(accepted("host-1")), fresh))
    assert ("take over", "host-1") == (alone.cure, alone.host)
    assert "Run the same command again" in alone.words


def test_a_machine_is_set_up_although_the_survivors_certificate_is_due() -> None:
    """It is made anew afterwards, with the CAs."""
    late = accepted("host-1")
    late = replace(late, epoch=late.epoch + timedelta(days=300).total_seconds())
    fresh = replace(accepted("host-2"), mark=Mark(), epoch=late.epoch)
    assert [] == [one for one in against(both(late, fresh)) if one.setting == "the survivor"]
    changed = replace(late, files={})
    assert any(one.setting == "the survivor" for one in against(both(changed, fresh)))


def test_a_survivor_whose_partner_answers_joins_it() -> None:
    """It does not run, and its partner has no ssh: nobody is told to step down."""
    one = Seen(down(accepted("host-2")), paths=(Path("192.168.1.2", 8000, "open"),))
    found = diagnosis.diagnose(PAIR, {"host-2": one}, ANCHORS)
    assert ("rejoin", "host-2") == (found.cure, found.host)


def test_a_survivor_that_is_out_for_maintenance_is_brought_back() -> None:
    """Nobody else could serve."""
    survey = down(accepted("host-2"))
    out = with_mark(survey, out_since="today")
    assert "take over" == of({"host-2": out}).cure
    assert [] == against({"host-2": out})


def test_a_survivor_that_waits_for_a_lost_partner_takes_over() -> None:
    """Also a primary in hot-standby: it holds back each answer until its partner counts as down."""
    for host in ("host-1", "host-2"):
        found = of({host: silent_for(accepted(host), 70)})
        assert ("take over", host) == (found.cure, found.host)


def test_a_survivor_that_serves_alone_is_left_alone() -> None:
    survivor = in_state(silent_for(accepted("host-2"), 70), "partner-down", ["server1"])
    assert "nothing" == of({"host-2": survivor}).cure


def test_a_partner_that_answers_its_partner_is_not_declared_down() -> None:
    """Else both would serve, since only we cannot reach it."""
    assert "nothing" == of({"host-2": silent_for(accepted("host-2"), 3)}).cure


def test_a_host_out_for_maintenance_is_not_brought_back_by_this() -> None:
    survey = down(accepted("host-2"))
    out = with_mark(survey, out_since="2026-11-25")
    assert any("--data done=true" in one.remedy for one in against(both(of_second=out)))


def test_a_pair_that_was_never_rolled_out_is_told_so() -> None:
    none = both(*(replace(accepted(host), mark=Mark()) for host in ("host-1", "host-2")))
    (problem,) = against(none)
    assert "deploy.py" in problem.remedy


def test_a_document_that_was_edited_is_not_started_again_and_again() -> None:
    survey = down(accepted("host-2"))
    edited = replace(survey.files[layout.KEA_CONF], sha256="0" * 64, content="{}")
    surveys = both(of_second=replace(survey, files={**survey.files, layout.KEA_CONF: edited}))
    assert any("force=true" in one.remedy for one in against(surveys))


def test_a_change_that_was_cut_off_is_no_obstacle() -> None:
    surveys = both(of_second=down(marked(accepted("host-2"))))
    assert "rejoin" == of(surveys).cure
