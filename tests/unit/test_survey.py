"""A host is read as it is, in full or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.model import OwnCertificates
from kea_ha.survey import Survey, SurveyError, build_script, parse_survey
from tests.unit.identities import key_pem, new_key, public_pem
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


def test_each_unit_has_what_systemd_says_of_it() -> None:
    """One answer for all units names none of them: what counts is the order of the question."""
    survey = survey_of("host-1")

    assert survey.unit(layout.DEBIAN.agent_unit).active == "active"
    assert survey.unit(layout.EXPIRY_TIMER).active == "active"
    assert not survey.unit(layout.ISC.dhcp4_unit).exists
    assert not survey.unit(layout.FIREWALL_UNIT).exists


def test_a_unit_that_is_not_shown_is_not_taken_for_another() -> None:
    """systemctl that gave up half-way would shift every unit behind the gap."""
    output = output_of("host-1")
    gap = output.index("|", output.index(f"@@ units {' '.join(survey_of('host-1').units)}"))

    with pytest.raises(SurveyError):
        parse_survey(output[:gap] + output[gap + 1 :])


def test_without_systemd_no_unit_exists() -> None:
    """Each is reported as missing; which tools a host lacks is said elsewhere."""
    output = output_of("host-1")
    begin = output.index(f"@@ units {' '.join(survey_of('host-1').units)}")
    end = next(n for n, line in enumerate(output) if line.startswith("@@ executable"))

    survey = parse_survey([*output[: begin + 1], "|", *output[end:]])

    assert not any(unit.exists or unit.is_active for unit in survey.units.values())


def test_a_file_that_goes_away_meanwhile_is_not_there() -> None:
    """It is told of, and then neither stat nor sha256sum finds it."""
    path = layout.AGENT_CONF
    for gone in (f"640 root:_kea {path}", f"{survey_of('host-1').files[path].sha256}  {path}"):
        output = [line for line in output_of("host-1") if line != f"|{gone}"]

        survey = parse_survey(output)

        assert path not in survey.files
        assert survey == replace(survey_of("host-1"), files=survey.files)


def test_the_script_says_all_it_has_to_on_a_host_without_anything() -> None:
    """Where no Kea, no systemd and no certificate is, they are reported missing: no failure."""
    survey = survey_here(build_script())

    assert survey.cpus >= 1
    assert survey.interface_with("127.0.0.1") is not None
    assert layout.KEA_CONF not in survey.files
    assert survey.status is None
    assert "not there" in survey.status_error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"one\ntwo\n",
        b"a last line without an end",
        b"\n\nblank lines around\n\n",
        b"@@ end\n@@ certificate /etc/passwd\n|x\n y\n/etc/os-release\n",
        b"\x00binary\x00\n",
    ],
    ids=["empty", "blank", "lines", "no end", "blanks", "headings", "binary"],
)
def test_what_stands_in_a_file_is_read_as_it_stands(tmp_path: Path, content: bytes) -> None:
    """Between two other files, whatever it holds and however it is called."""
    own = own_certificates(tmp_path)
    Path(own.certificate).write_bytes(content)
    Path(own.anchor).write_text("after it, without an end")

    survey = survey_here(build_script(own))

    ended = content if content.endswith(b"\n") else content + b"\n"
    assert survey.certificates == {
        own.certificate: ended.decode(),
        own.anchor: "after it, without an end\n",
    }
    found = survey.files[own.certificate]
    assert (found.mode, found.sha256) == ("640", sha256(content).hexdigest())
    assert survey.files[own.anchor].sha256 == sha256(b"after it, without an end").hexdigest()


def test_of_a_key_only_its_public_half_is_read(tmp_path: Path) -> None:
    """Also of the host's own one; and of what is no key there is nothing at all."""
    own = own_certificates(tmp_path)
    Path(own.key).write_text(key_pem(key := new_key()))

    survey = survey_here(build_script(own))

    assert survey.public_keys == {own.key: public_pem(key)}
    assert (survey.files[own.key].sha256, survey.files[own.key].content) == ("-", None)
    Path(own.key).write_text("a password\n")
    said = printed(build_script(own))
    assert "password" not in said.replace(layout.API_PASSWORD_FILE, "")
    assert sha256(b"a password\n").hexdigest() not in said


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would keep the script waiting, a directory has no content."""
    own = own_certificates(tmp_path)
    for path in (own.key, own.certificate):
        Path(path).unlink()
        os.mkfifo(path)
    Path(own.anchor).unlink()
    Path(own.anchor).mkdir()

    survey = survey_here(build_script(own))

    assert (survey.certificates, survey.public_keys) == ({}, {})
    assert not {own.key, own.certificate, own.anchor} & set(survey.files)


@pytest.mark.parametrize(
    "reply",
    [
        b"{}\n@@ interfaces\n1: lo: <UP,LOWER_UP>\n    inet 192.168.1.2/24\n@@ end\n",
        b"@@ end",
        b"x" * 1_000_000,
        b"",
    ],
    ids=["headings", "end", "long", "nothing"],
)
def test_what_answers_for_kea_tells_no_other_fact(reply: bytes) -> None:
    """Kea's user may answer anything on Kea's socket, and root reads it."""
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listener:
        path = f"{place}/s"
        listener.bind(path)
        listener.listen()
        answering = threading.Thread(target=answer_once, args=(listener, reply))
        answering.start()
        survey = survey_here(build_script().replace(layout.CONTROL_SOCKET, path))
        answering.join()

    assert survey.status is None
    assert "gave no answer" in survey.status_error
    assert survey.interface_with("127.0.0.1") is not None
    assert survey.interface_with("192.168.1.2") is None


def answer_once(listener: socket.socket, reply: bytes) -> None:
    """Take one connection, and answer it."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):  # it may hang up before all of it is sent
        connection.recv(1000)
        connection.sendall(reply)


@pytest.mark.parametrize(
    ("told", "forged"),
    [("|kea-common ii ", "|kea-common ii $(id)"), ("|  Candidate: ", "|  Candidate: 1;")],
    ids=["installed", "candidate"],
)
def test_what_a_shell_could_take_for_more_than_a_word_is_not_read(told: str, forged: str) -> None:
    """Versions stand in scripts that root runs, and so do names of interfaces."""
    output = output_of("host-1")
    assert [line for line in output if line.startswith(told)]

    with pytest.raises(SurveyError, match="no version"):
        parse_survey(
            forged + line[len(told) :] if line.startswith(told) else line for line in output
        )
    names = [line.replace("lo:", "`id`:", 1) for line in output if line.startswith("|1: lo:")]
    told_so = parse_survey([names[0] if line.startswith("|1: lo:") else line for line in output])
    assert {one.name for one in told_so.interfaces} == {
        one.name for one in survey_of("host-1").interfaces if one.name != "lo"
    }


def own_certificates(directory: Path) -> OwnCertificates:
    """Three files of a host, under names that a careless script or parser would break up."""
    names = ("a key: 'mine'", "crt  $HOME", "back\\slash@@ é")
    for name in names:
        (directory / name).touch()
        (directory / name).chmod(0o640)
    key, certificate, anchor = (str(directory / name) for name in names)
    return OwnCertificates(key=key, certificate=certificate, anchor=anchor)


def printed(script: str) -> str:
    """What the script prints on this machine, with something to read on standard input."""
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, input="x\n", timeout=60, check=True
    ).stdout


def survey_here(script: str) -> Survey:
    """This machine, read by the script."""
    return parse_survey(printed(script).splitlines())
