"""A host is read as it is, in full or not at all."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.foreign import ForeignError
from kea_ha.host.daemons import AGENT, DHCP4
from kea_ha.host.survey import UNITS, Question, Survey, build_script, parse_survey
from kea_ha.kea import lease_file, log_file
from kea_ha.settings.model import OwnCertificates
from tests.unit.identities import certificate, key_pem, new_key, public_pem
from tests.unit.shell import for_this_machine, needs_root, open_directory, owner
from tests.unit.surveys import (
    DATA,
    HOSTS,
    QUESTIONS,
    TOKEN,
    UNIT,
    output_of,
    read,
    said_by,
    survey_of,
)

ANSWER = output_of(said_by("host-1"))


def parsed(answer: bytes) -> Survey:
    return parse_survey(answer, QUESTIONS["host-1"])


# What a host of the lab printed --------------------------------------------------------------


def test_a_real_host_is_read_in_full() -> None:
    """What pre-flight and acceptance judge by is what the host printed."""
    survey = survey_of("host-1")

    assert ("debian", "trixie", "13", "amd64") == (
        survey.distribution,
        survey.codename,
        survey.release,
        survey.architecture,
    )
    assert datetime(2026, 11, 28, 9, 47, 50, 130000) == survey.local
    assert (1795859270.130858251, 2, ()) == (survey.epoch, survey.cpus, survey.missing_tools)
    assert "2.6.3-1+deb13u1" == survey.packages["kea-dhcp4-server"]
    assert ("2.6.3-1+deb13u1", "candidate") == survey.candidates["kea-dhcp4-server"][0]
    assert any(
        version.startswith("3.0.3") and "trixie-backports/" in source
        for version, source in survey.candidates["kea-dhcp4-server"]
    )
    found = survey.interface_with("192.168.1.2")
    assert found is not None
    assert ("enp0s8", True) == (found.name, found.up)
    assert survey.interface_with("192.168.1.99") is None
    unit = survey.unit(UNIT)
    assert ("active", "enabled") == (unit.active, unit.enabled)
    holders = survey.holders("tcp", 8000)
    assert [("kea-dhcp4", unit.main_pid)] == [p for one in holders for p in one.processes]
    assert "/usr/sbin/kea-dhcp4" == survey.executable
    document = survey.files[layout.KEA_CONF]
    assert ("640", "root:_kea") == (document.mode, document.owner)
    assert document.content is not None
    assert '"this-server-name": "server1"' in document.content
    assert sha256(document.content.encode()).hexdigest() == document.sha256
    assert "lab server1" == survey.mark.owner
    assert survey.certificates[layout.HA_CERTIFICATE].startswith("-----BEGIN CERTIFICATE-----")
    assert (False, False) == (survey.firewall, survey.leases)
    assert {layout.LEASES: ",".join(lease_file.COLUMNS)} == survey.lease_headers


def test_a_document_that_stays_the_same_is_understood_once() -> None:
    """Thousands of reservations take a third of a second, and hosts are read twice a second."""
    assert read("host-1").in_use is read("host-1").in_use is not None


def test_what_kea_says_of_itself_is_read() -> None:
    """Its answer on its own socket, and its log, in the order in which it wrote it."""
    survey = survey_of("host-1")

    assert survey.status is not None and survey.status.ha is not None
    local = survey.status.ha.local
    assert ("server1", "hot-standby", ("server1",)) == (local.name, local.state, local.scopes)
    assert "" == survey.status_error
    last = log_file.last_transition(survey.log)
    assert last is not None and "HOT-STANDBY" == last[0]
    assert [line.time for line in survey.log] == sorted(line.time for line in survey.log)
    assert datetime(2026, 11, 28, 9, 42, 35, 514000) == survey.log_since
    assert survey.log_since <= survey.log[0].time


def test_a_secret_is_known_to_be_there_and_not_read() -> None:
    """Of a key there is its mode and its public half, and nothing else."""
    survey = survey_of("host-1")

    for path in (*layout.KEYS, layout.API_PASSWORD_FILE):
        assert ("640", "-", None) == (
            survey.files[path].mode, survey.files[path].sha256, survey.files[path].content
        )  # fmt: skip
    assert survey.public_keys[layout.HA_KEY].startswith("-----BEGIN PUBLIC KEY-----")
    assert b"PRIVATE KEY" not in b"\n".join(said_by("host-1").values())


@given(st.integers(min_value=0, max_value=len(ANSWER.rstrip())))
def test_an_answer_that_is_cut_short_is_no_answer(length: int) -> None:
    """Half a survey would be taken for a host on which things are missing."""
    with pytest.raises(ForeignError):
        parsed(ANSWER[:length])


@pytest.mark.parametrize(
    "chatter",
    [
        b"sh: x: not found\n",
        b"\n",
        b"\xff\x00\x85\n",
        b"fedcba9876543210 state c2VjcmV0\n",
        f" {TOKEN} state c2VjcmV0\n".encode(),
        f"{TOKEN}\n".encode(),
    ],
    ids=["words", "empty", "binary", "another run's", "indented", "no value"],
)
def test_words_around_the_values_are_no_facts(chatter: bytes) -> None:
    """A login or a tool may print before, between and after them."""
    lines = ANSWER.removesuffix(b"\n").split(b"\n")
    noisy = chatter + b"".join(line + b"\n" + chatter for line in lines)

    assert survey_of("host-1") == parsed(noisy)


def test_chatter_without_an_end_of_its_line_is_no_other_answer() -> None:
    """The value behind it is lost by it: no host is read without one."""
    with pytest.raises(ForeignError):
        parsed(b"Welcome! " + ANSWER)


def test_what_was_told_twice_or_was_not_asked_for_is_no_answer() -> None:
    """One of the two would be somebody else's."""
    said = said_by("host-1")
    for more in ({"firewall": b""}, {"secrets": b""}, {"conf.99999999999": b""}):
        with pytest.raises(ForeignError):
            parsed(output_of(more, end=False) + output_of(said))


def test_each_unit_has_what_systemd_says_of_it() -> None:
    """One answer for all units names none of them: what counts is the order of the question."""
    survey = survey_of("host-1")

    assert "active" == survey.unit(AGENT.debian.unit).active
    assert "active" == survey.unit(layout.EXPIRY_TIMER).active
    assert not survey.unit(DHCP4.isc.unit).exists
    assert not survey.unit(layout.FIREWALL_UNIT).exists


@pytest.mark.parametrize("gap", range(len(UNITS)))
def test_a_unit_that_is_not_shown_is_not_taken_for_another(gap: int) -> None:
    """systemctl that gave up half-way would shift every unit behind the gap."""
    blocks = said_by("host-1")["units"].split(b"\n\n")
    del blocks[gap]

    with pytest.raises(ForeignError):
        read("host-1", units=b"\n\n".join(blocks))


@pytest.mark.parametrize("shown", [b"", b"\n"])
def test_without_systemd_no_unit_exists(shown: bytes) -> None:
    """Each is reported as missing; which tools a host lacks is said elsewhere."""
    survey = read("host-1", units=shown)

    assert set(UNITS) == set(survey.units)
    assert not any(unit.exists or unit.is_active for unit in survey.units.values())


def without_agents_document(said: Mapping[str, bytes]) -> dict[str, bytes]:
    """What root read, without the document of the Control Agent."""
    lines = said["attributes"].removesuffix(b"\n").split(b"\n")
    begin = 0
    for line in lines:
        size, _, rest = line.partition(b" ")
        if rest.endswith(f" {layout.AGENT_CONF}".encode()):
            contents = said["contents"][:begin] + said["contents"][begin + int(size) :]
            kept = [one for one in lines if one != line]
            return {"attributes": b"\n".join(kept) + b"\n", "contents": contents}
        begin += int(size)
    raise AssertionError("it is not there")


def test_a_file_that_goes_away_meanwhile_is_not_there() -> None:
    """Where others may change files it is told of, and then it is not there to be read."""
    said = said_by("host-1")
    less = without_agents_document(said)
    told = said["conf_attributes"] + f"640 root:_kea {layout.AGENT_CONF}\n".encode()

    survey = read("host-1", **less, conf_attributes=told)

    assert layout.AGENT_CONF not in survey.files
    assert survey == replace(survey_of("host-1"), files=survey.files)
    there = read("host-1", **less, **{"conf_attributes": told, "conf.1": b"{}\n"})
    assert "{}\n" == there.text(layout.AGENT_CONF)


def test_files_that_change_while_root_reads_them_are_no_answer() -> None:
    """All come in one go: what one has less would be taken from the beginning of the next."""
    contents = said_by("host-1")["contents"]
    for changed in (contents + b"x", contents[:-1], b""):
        with pytest.raises(ForeignError, match="changed while it was read"):
            read("host-1", contents=changed)


@pytest.mark.parametrize(
    ("name", "told", "forged"),
    [
        ("packages", b"kea-common ii  2.6.3-1+deb13u1", b"kea-common ii  $(id)"),
        ("policy", b"  Candidate: 2.6.3-1+deb13u1", b"  Candidate: 1;"),
        ("policy", b" *** 2.6.3-1+deb13u1 500", b" *** `id` 500"),
    ],
    ids=["installed", "candidate", "version"],
)
def test_what_a_shell_could_take_for_more_than_a_word_is_not_read(
    name: str, told: bytes, forged: bytes
) -> None:
    """Versions stand in scripts that root runs."""
    said = said_by("host-1")[name]
    assert told in said

    with pytest.raises(ForeignError, match="no version"):
        read("host-1", **{name: said.replace(told, forged)})


@pytest.mark.parametrize("name", ["`id`", "a b", "-x", "", "x" * 16, "lo\n", "$x"])
def test_an_interface_that_no_script_could_be_given_is_left_out(name: str) -> None:
    """Its name would stand in one that root runs; the others are read all the same."""
    told = json.loads(said_by("host-1")["interfaces"])
    assert "lo" == told[0]["ifname"]
    told[0]["ifname"] = name

    survey = read("host-1", interfaces=json.dumps(told).encode())

    before = survey_of("host-1").interfaces
    assert [one for one in before if one.name != "lo"] == list(survey.interfaces)


@pytest.mark.parametrize("told", [b"5", b"null", b"true", b"[", b"words"])
def test_what_tells_of_no_interfaces_is_no_answer(told: bytes) -> None:
    """Nothing would be known of how the host is reached."""
    with pytest.raises(ForeignError):
        read("host-1", interfaces=told)


# What the script prints here -----------------------------------------------------------------


def printed(script: str) -> bytes:
    """What the script prints on this machine, with something to read on standard input."""
    return subprocess.run(
        ["sh", "-c", for_this_machine(script)],
        capture_output=True,
        input=b"x\n",
        timeout=60,
        check=True,
    ).stdout


def values(answer: bytes) -> dict[str, bytes]:
    """The values in an answer, by their names."""
    found = re.findall(rf"^{TOKEN} (\S+) (\S*)$".encode(), answer, re.MULTILINE)
    return {name.decode(): b64decode(value) for name, value in found if name != b"end"}


def survey_here(question: Question | None = None, **places: str) -> tuple[Survey, bytes]:
    """This machine, read by the script, and all that it sent.

    ``places``: attributes of ``layout``, with where those paths are here.
    """
    question = question or Question()
    script = build_script(question)
    for name, here in places.items():
        script = script.replace(getattr(layout, name), here)
    sent = values(printed(script))
    for name, here in places.items():
        path = getattr(layout, name).encode()
        sent = {key: value.replace(here.encode(), path) for key, value in sent.items()}
    return parse_survey(output_of(sent), question), b"\n".join(sent.values())


def test_the_script_says_all_it_has_to_on_a_host_without_anything() -> None:
    """Where no Kea, no systemd and no certificate is, they are reported missing: no failure."""
    survey = parse_survey(printed(build_script(Question())), Question())

    assert survey.cpus >= 1
    assert survey.interface_with("127.0.0.1") is not None
    assert {} == survey.files
    assert (None, "its control socket is not there") == (survey.status, survey.status_error)
    assert (False, False, (), None) == (
        survey.leases, survey.firewall, survey.log, survey.log_since
    )  # fmt: skip


def own_certificates(directory: Path) -> OwnCertificates:
    """Three files of a host, under names that a careless script or parser would break up."""
    names = ("a key: 'mine'", "crt  $HOME", "back\\slash@@ é")
    for name in names:
        (directory / name).touch()
        (directory / name).chmod(0o640)
    key, certificate_, anchor = (str(directory / name) for name in names)
    return OwnCertificates(key=key, certificate=certificate_, anchor=anchor)


def pem_of(subject: str) -> bytes:
    return certificate(subject, new_key()).public_bytes(Encoding.PEM)


FIRST, SECOND = pem_of("first"), pem_of("second")
PRIVATE = key_pem(new_key()).encode()


@pytest.mark.parametrize(
    ("content", "read_of_it"),
    [
        (FIRST, FIRST),
        (FIRST + SECOND, FIRST + SECOND),
        (FIRST.replace(b"\n", b"\r\n"), FIRST),
        (FIRST.removesuffix(b"\n"), FIRST),
        (b"Bag Attributes\n    friendlyName: x\n" + FIRST + b"\nsubject=CN = x\n", FIRST),
        (PRIVATE + FIRST, FIRST),
        (FIRST + PRIVATE + SECOND, FIRST + SECOND),
        (f"@1\n{TOKEN} end \n@0\n".encode() + FIRST + b"@1\n", FIRST),
        (b"\x00\xff\x85\n" + FIRST + b"\x00", FIRST),
        (b"a password\n", b""),
        (PRIVATE, b""),
        (b"", b""),
    ],
    ids=["alone", "two", "CRLF", "no end", "words", "key before", "key between", "headings",
         "binary", "a password", "a key", "nothing"],
)  # fmt: skip
def test_of_a_file_of_certificates_only_those_are_read(
    tmp_path: Path, content: bytes, read_of_it: bytes
) -> None:
    """Whatever else stands in it and however it is called; its digest is that of all of it."""
    own = own_certificates(tmp_path)
    Path(own.certificate).write_bytes(content)
    Path(own.anchor).write_bytes(SECOND)

    survey, sent = survey_here(Question(own))

    assert {
        own.certificate: read_of_it.decode(),
        own.anchor: SECOND.decode(),
    } == survey.certificates
    found = survey.files[own.certificate]
    assert ("640", sha256(content).hexdigest(), None) == (found.mode, found.sha256, found.content)
    assert sha256(SECOND).hexdigest() == survey.files[own.anchor].sha256
    assert ({own.certificate} if PRIVATE in content else set()) == survey.with_keys
    assert not leaked(PRIVATE, sent)
    assert b"password" not in sent


@pytest.mark.parametrize("end", [b"", b"-----END CERTIFICATE\n", b"-----END X509 CRL-----\n"])
def test_a_key_behind_a_certificate_that_does_not_end_is_not_read(
    tmp_path: Path, end: bytes
) -> None:
    """As where a file was cut short before another was appended to it."""
    own = own_certificates(tmp_path)
    cut = FIRST.removesuffix(b"-----END CERTIFICATE-----\n")
    Path(own.certificate).write_bytes(cut + end + PRIVATE)

    survey, sent = survey_here(Question(own))

    assert {own.certificate} == survey.with_keys
    assert not leaked(PRIVATE, sent)


def leaked(key: bytes, sent: bytes) -> bool:
    """Whether any line of a key's body is in what was sent."""
    return any(line in sent for line in key.split(b"\n") if line and not line.startswith(b"--"))


def test_of_a_key_only_its_public_half_is_read(tmp_path: Path) -> None:
    """Also of the host's own one; and of what is no key there is nothing at all."""
    own = own_certificates(tmp_path)
    key = new_key()
    Path(own.key).write_text(key_pem(key))

    survey, sent = survey_here(Question(own))

    assert {own.key: public_pem(key)} == survey.public_keys
    assert ("-", None) == (survey.files[own.key].sha256, survey.files[own.key].content)
    assert not leaked(key_pem(key).encode(), sent)
    Path(own.key).write_text("a password\n")
    survey, sent = survey_here(Question(own))
    assert {own.key: ""} == survey.public_keys
    assert b"password" not in sent.replace(layout.API_PASSWORD_FILE.encode(), b"")
    assert sha256(b"a password\n").hexdigest().encode() not in sent


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would keep the script waiting, a directory has no content."""
    own = own_certificates(tmp_path)
    for path in (own.key, own.certificate):
        Path(path).unlink()
        os.mkfifo(path)
    Path(own.anchor).unlink()
    Path(own.anchor).mkdir()

    survey, _ = survey_here(Question(own))

    assert ({}, {}) == (survey.certificates, survey.public_keys)
    assert not {own.key, own.certificate, own.anchor} & set(survey.files)


@contextmanager
def conf_dir(*, of_kea: bool) -> Iterator[Path]:
    """A directory for documents, with one and a certificate in it, of Kea's user or of root."""
    with open_directory() as path:
        conf = path / "conf"
        (conf / "tls").mkdir(parents=True)
        (conf / "kea-dhcp4.conf").write_text("{}\n")
        (conf / "tls/ha.crt").write_bytes(FIRST)
        (conf / "kea-api-password").write_text("a password\n")
        for one in (conf, *conf.rglob("*")):
            one.chmod(0o750 if one.is_dir() else 0o640)
            os.chown(one, *(owner() if of_kea else (0, owner()[1])))
        yield conf


@needs_root
@pytest.mark.parametrize("of_kea", [True, False], ids=["Kea's", "root's"])
def test_documents_are_read_whose_ever_their_directory_is(of_kea: bool) -> None:
    """Debian 13's package makes it Kea's user's own; the rollout makes it root's."""
    with conf_dir(of_kea=of_kea) as conf:
        survey, sent = survey_here(CONF_DIR=str(conf))

    user = "nobody" if of_kea else "root"
    document = survey.files[layout.KEA_CONF]
    assert ("640", f"{user}:nogroup", "{}\n") == (document.mode, document.owner, document.content)
    assert {layout.HA_CERTIFICATE: FIRST.decode()} == survey.certificates
    assert survey.files[layout.API_PASSWORD_FILE].content is None
    assert b"a password" not in sent
    # What Kea's user could exchange at any moment is known by no digest.
    digest = "not known" if of_kea else sha256(FIRST).hexdigest()
    assert digest == survey.files[layout.HA_CERTIFICATE].sha256


@needs_root
def test_what_keas_user_put_in_the_place_of_a_file_is_not_read() -> None:
    """A link would have root read another's file, a pipe would keep it waiting."""
    with conf_dir(of_kea=True) as conf, open_directory() as other:
        (other / "secret").write_text("a secret\n")
        (other / "secret.crt").write_bytes(SECOND)
        for name, secret in (("kea-dhcp4.conf", "secret"), ("tls/ha.crt", "secret.crt")):
            (other / secret).chmod(0o644)  # also where Kea's user could read it itself
            (conf / name).unlink()
            (conf / name).symlink_to(other / secret)
        os.mkfifo(conf / "kea-ctrl-agent.conf", 0o666)
        (conf / "tls/api.crt").mkdir()

        survey, sent = survey_here(CONF_DIR=str(conf))

    assert {layout.API_PASSWORD_FILE} == set(survey.files)
    assert "" == "".join(survey.certificates.values())
    assert b"a secret" not in sent
    assert not leaked(SECOND, sent)


@needs_root
def test_lease_files_are_known_by_their_first_rows() -> None:
    """Of Kea's user's own directory: a link in it leads nowhere, and a pipe is left alone."""
    header = ",".join(lease_file.COLUMNS)
    row = "192.168.1.100,02:00:00:00:00:01,,600,1300,1,0,0,,0,,0\n"
    names = {path.rpartition("/")[2]: path for path in lease_file.FILES}
    with open_directory() as path:
        (path / "lib").mkdir()
        (path / "secret").write_text(f"a secret\n{row}")
        (path / "lib/kea-leases4.csv.1").symlink_to(path / "secret")
        os.mkfifo(path / "lib/kea-leases4.csv.2", 0o666)
        (path / "lib/kea-leases4.csv").write_text(f"{header}\n")
        empty, sent = survey_here(LEASE_DIR=str(path / "lib"))
        (path / "lib/kea-leases4.csv.completed").write_text(f"{header}\n{row}")
        held, _ = survey_here(LEASE_DIR=str(path / "lib"))

    assert header == empty.lease_headers[layout.LEASES]
    assert not empty.leases
    assert b"a secret" not in sent
    assert "" == empty.lease_headers.get(names["kea-leases4.csv.1"], "")
    assert names["kea-leases4.csv.2"] not in empty.lease_headers
    assert held.leases


LOG_LINE = "2026-11-28 09:00:00.000 {severity} [kea-dhcp4.x/7.8] {id} {text}"


def log_line(id_: str, text: str = "text", severity: str = "INFO ") -> str:
    return LOG_LINE.format(severity=severity, id=id_, text=text)


@contextmanager
def log_dir(**files: str) -> Iterator[str]:
    """A directory with Kea's log: ``live``, and what was rotated to ``first`` and ``second``."""
    ends = {"live": "", "first": ".1", "second": ".2"}
    with open_directory() as path:
        for name, content in files.items():
            (path / f"kea-dhcp4.log{ends[name]}").write_text(content)
        yield str(path)


def test_the_log_is_read_over_its_rotations_in_its_order() -> None:
    """As far back as it reaches; with each message that tells of the pair."""
    rollout, reload = (
        (DATA / "kea-2.6.3" / f"{name}.log").read_text() for name in ("rollout-primary", "reload")
    )
    with log_dir(first=rollout, live=reload) as path:
        survey, _ = survey_here(Question(partner=HOSTS["host-2"]["address"]), LOG_DIR=path)

    lines = (rollout + reload).removesuffix("\n").split("\n")
    whole = log_file.parse_log(lines)
    telling = [one for one in whole if one.id.startswith(("HA_", "HOOKS_"))]
    assert telling
    assert telling == [one for one in survey.log if one.id.startswith(("HA_", "HOOKS_"))]
    assert [one for one in whole if one in survey.log] == list(survey.log)
    assert whole[0].time == survey.log_since


def test_a_kind_that_is_written_without_end_hides_no_other() -> None:
    """Whoever reaches a port can have Kea write one message for each knock."""
    refused = "TLS handshake with {} failed with certificate verify failed"
    knocks = "\n".join(
        log_line("HTTP_CONNECTION_HANDSHAKE_FAILED", refused.format(f"10.0.{n // 250}.{n % 250}"))
        for n in range(20_000)
    )
    partner = log_line("HTTP_CONNECTION_HANDSHAKE_FAILED", refused.format("192.168.1.3"))
    first = log_line("HA_TERMINATED", "HA has stopped", "ERROR")
    many = "\n".join(log_line("HA_HEARTBEAT_FAILED", f"number {n}", "WARN ") for n in range(5000))
    with log_dir(second=f"{first}\n{partner}\n", first=f"{many}\n", live=f"{knocks}\n") as path:
        survey, _ = survey_here(Question(partner="192.168.1.3"), LOG_DIR=path)

    assert ["HA_TERMINATED", "HTTP_CONNECTION_HANDSHAKE_FAILED"] == [
        one.id for one in survey.log[:2]
    ]
    assert refused.format("192.168.1.3") == survey.log[1].text
    assert {"HA_HEARTBEAT_FAILED"} == {one.id for one in survey.log[2:]}
    assert "number 4999" == survey.log[-1].text
    assert len(survey.log) < 1000


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A socket in the place of Kea's that gives this answer to whoever connects first."""
    with open_directory() as place, socket.socket(socket.AF_UNIX) as listener:
        path = place / "s"
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        thread = threading.Thread(target=answer_once, args=(listener, reply))
        thread.start()
        yield str(path)
        thread.join()


def answer_once(listener: socket.socket, reply: bytes) -> None:
    """Take one connection, and answer it."""
    listener.settimeout(60)
    with suppress(OSError):  # it may hang up before all of it is sent
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(reply)


def test_kea_is_asked_on_its_socket() -> None:
    """What it answers there is what is known of it."""
    with answering(said_by("host-1")["status"]) as path:
        survey, _ = survey_here(CONTROL_SOCKET=path)

    assert (survey_of("host-1").status, "") == (survey.status, survey.status_error)


@pytest.mark.parametrize(
    "reply",
    [
        f"{TOKEN} interfaces W10=\n{TOKEN} end \n".encode(),
        b"\n@@ end\n",
        b"x" * 1_000_000,
        b"\xff\x00\x1b[2J",
        b"",
    ],
    ids=["values", "headings", "long", "binary", "nothing"],
)
def test_what_answers_for_kea_tells_no_other_fact(reply: bytes) -> None:
    """Kea's user may answer anything on Kea's socket, and root has it read."""
    with answering(reply) as path:
        survey, _ = survey_here(CONTROL_SOCKET=path)

    assert survey.status is None
    assert "gave no answer" in survey.status_error
    assert survey.status_error.isprintable()
    assert survey.interface_with("127.0.0.1") is not None


@pytest.mark.parametrize("answer", [[], {}, {"result": 1, "text": "no"}, {"result": 0}, 7, None])
def test_an_answer_that_is_no_status_is_none(answer: object) -> None:
    """And why is said."""
    survey = read("host-1", status=json.dumps(answer).encode())

    assert survey.status is None
    assert survey.status_error
