"""What a host should be like, and what of it is not so yet."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.host import desired_state
from kea_ha.host.daemons import AGENT, DHCP4
from kea_ha.host.mark import Mark
from tests.unit.surveys import as_planned, lab_pair, survey_of

PAIR = lab_pair()
PRIMARY = PAIR.primary


def test_a_host_as_planned_has_nothing_pending_and_nothing_stale() -> None:
    """The second run changes nothing."""
    survey = as_planned(PAIR, "host-1")
    wished = desired_state.make_plan(PAIR, PRIMARY, survey)

    assert () == desired_state.pending(wished, survey)
    assert () == desired_state.stale_inputs(wished, survey, DHCP4.debian.unit)


def test_a_changed_setting_is_named_with_both_values_and_wants_a_restart() -> None:
    """The operator reads what would change, by its path in Kea's document."""
    survey = as_planned(PAIR, "host-1")
    changed = lab_pair(valid_lifetime=50000)
    wished = desired_state.make_plan(changed, changed.primary, survey)

    assert (f"{layout.KEA_CONF}: Dhcp4.valid-lifetime: 43200 -> 50000",) == desired_state.pending(
        wished, survey
    )
    (why,) = desired_state.stale_inputs(wished, survey, DHCP4.debian.unit)
    assert layout.KEA_CONF in why


def test_every_file_of_the_plan_counts() -> None:
    """A file that is missing, altered by a byte, or open to others is pending."""
    survey = as_planned(PAIR, "host-1")
    wished = desired_state.make_plan(PAIR, PRIMARY, survey)

    for wanted in wished.files:
        live = survey.files[wanted.path]
        without = {path: file for path, file in survey.files.items() if path != wanted.path}
        altered = replace(live, sha256="0" * 64, content=f"{live.content} ")
        for files in (
            without,
            {**survey.files, wanted.path: altered},
            {**survey.files, wanted.path: replace(live, mode="666")},
            {**survey.files, wanted.path: replace(live, owner="_kea:_kea")},
        ):
            found = desired_state.pending(wished, replace(survey, files=files))
            assert [line for line in found if wanted.path in line], wanted.path


def test_a_host_without_kea_gets_all_of_it() -> None:
    """The plan of a fresh host is made from the version that apt would install."""
    packages = {"openssl": "3"}
    survey = replace(survey_of("host-1"), packages=packages, files={}, mark=Mark())

    wished = desired_state.make_plan(PAIR, PRIMARY, survey)

    assert "install kea-dhcp4-server" in desired_state.pending(wished, survey)
    assert "install kea-ctrl-agent" in desired_state.pending(wished, survey)
    assert str(wished.platform.version) == "2.6.3"


def test_backports_are_taken_when_asked_for_and_only_then() -> None:
    """The version that both hosts must agree on is the one that would really be installed."""
    fresh = replace(survey_of("host-1"), packages={})

    assert desired_state.candidate(PAIR, fresh) == "2.6.3-1+deb13u1"
    assert desired_state.candidate(lab_pair(package_source="backports"), fresh) == "3.0.3-1~bpo13+1"
    assert desired_state.candidate(lab_pair(package_source="isc"), fresh) is None


def test_the_interface_is_the_one_with_the_address_unless_told() -> None:
    """Told wrongly, there is none: serving on another network would be worse than not serving."""
    survey = survey_of("host-1")

    assert desired_state.interface_of(PRIMARY, survey) == "enp0s8"
    told = PRIMARY.model_copy(update={"interface": "enp0s8"})
    assert desired_state.interface_of(told, survey) == "enp0s8"
    wrong = PRIMARY.model_copy(update={"interface": "eth7"})
    assert desired_state.interface_of(wrong, survey) is None


def test_an_agent_that_is_not_wanted_is_pending_until_it_is_gone() -> None:
    """`none` means that nothing is left running from before."""
    pair = lab_pair(control_channel="none")
    survey = as_planned(PAIR, "host-1")

    found = desired_state.pending(desired_state.make_plan(pair, pair.primary, survey), survey)

    assert f"stop and disable {AGENT.debian.unit}" in found


@given(st.sampled_from([DHCP4.debian.unit, AGENT.debian.unit]))
def test_a_service_of_unknown_beginnings_is_restarted(unit: str) -> None:
    """Without a note of what it was started from, a service cannot be said to be up to date."""
    survey = replace(as_planned(PAIR, "host-1"), started_from={})
    wished = desired_state.make_plan(PAIR, PRIMARY, survey)

    assert desired_state.stale_inputs(wished, survey, unit)
