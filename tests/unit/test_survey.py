"""A host is read as it is, in full or not at all."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.survey import SurveyError, build_script, parse_survey
from tests.unit.surveys import output_of, survey_of


def test_a_real_host_is_read_in_full() -> None:
    """What pre-flight and acceptance judge by is what the host printed."""
    survey = survey_of("host-1")

    assert ("debian", "trixie", "amd64") == (
        survey.distribution,
        survey.codename,
        survey.architecture,
    )
    assert survey.packages["kea-dhcp4-server"] == "2.6.3-1+deb13u1"
    assert ("2.6.3-1+deb13u1", "candidate") == survey.candidates["kea-dhcp4-server"][0]
    assert any(
        version.startswith("3.0.3") and "trixie-backports/" in source
        for version, source in survey.candidates["kea-dhcp4-server"]
    )
    found = survey.interface_with("192.168.1.2")
    assert found is not None
    assert (found.name, found.up) == ("enp0s8", True)
    assert survey.interface_with("192.168.1.99") is None
    unit = survey.unit(layout.DEBIAN.dhcp4_unit)
    assert (unit.active, unit.enabled) == ("active", "enabled")
    holders = survey.holders("tcp", 8000)
    assert [("kea-dhcp4", unit.main_pid)] == [p for one in holders for p in one.processes]
    assert survey.executable == "/usr/sbin/kea-dhcp4"
    document = survey.files[layout.KEA_CONF]
    assert (document.mode, document.owner) == ("640", "root:_kea")
    assert document.content is not None
    assert '"this-server-name": "server1"' in document.content
    assert survey.state["pair"] == "lab server1"
    assert survey.status["result"] == 0
    assert survey.certificates[layout.HA_CERTIFICATE].startswith("-----BEGIN CERTIFICATE-----")


def test_a_secret_is_known_to_be_there_and_not_read() -> None:
    """Of a key there is its mode and its public half, and nothing else."""
    survey = survey_of("host-1")

    assert survey.files[layout.HA_KEY].content is None
    assert survey.files[layout.HA_KEY].sha256 == "-"
    assert survey.public_keys[layout.HA_KEY].startswith("-----BEGIN PUBLIC KEY-----")
    assert survey.files[layout.API_PASSWORD_FILE].content is None
    assert "PRIVATE KEY" not in "\n".join(output_of("host-1"))


@given(st.integers(min_value=0, max_value=len(output_of("host-1")) - 1))
def test_an_answer_that_is_cut_short_is_no_answer(length: int) -> None:
    """Half a survey would be taken for a host on which things are missing."""
    with pytest.raises(SurveyError):
        parse_survey(output_of("host-1")[:length])


def test_words_of_tools_between_the_lines_are_no_facts() -> None:
    """Standard error arrives among the output, in any place."""
    noisy = [line for pair in zip(output_of("host-1"), ["sh: x: not found"] * 9999, strict=False)
             for line in pair]  # fmt: skip

    assert parse_survey(noisy) == survey_of("host-1")


def test_the_script_says_all_it_has_to_on_a_host_without_anything(tmp_path: object) -> None:
    """Where no Kea, no systemd and no certificate is, they are reported missing: no failure."""
    script = build_script()

    ran = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    survey = parse_survey(ran.stdout.splitlines())
    assert survey.cpus >= 1
    assert layout.KEA_CONF not in survey.files
    assert survey.status is None
    assert "not there" in survey.status_error
