"""Whatever bytes a host, Kea, a client or a backup sends: a typed value, or an error of our own.

The bytes are made of what hurts most: real answers with pieces of a hostile corpus put into them,
cut, repeated, or replaced. A part of it runs each time; the full matrix runs longer.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kea_ha import foreign, layout
from kea_ha.decide import (
    acceptance,
    change_plan,
    client_impact,
    client_load,
    diagnosis,
    drill_results,
    preflight,
)
from kea_ha.decide.preflight import Seen
from kea_ha.host import backup_store, file_transfer, frames, port_tests, survey
from kea_ha.kea import lease_file, log_file, redaction, status
from kea_ha.kea.config_diff import differences, parse_document
from kea_ha.pki import certificates, issue
from tests.unit.surveys import (
    ANCHORS,
    HOSTS,
    PAIR,
    QUESTIONS,
    TOKEN,
    accepted,
    output_of,
    said_by,
    survey_of,
)

#: What breaks lines for str.splitlines and for no program on a host, what a terminal obeys, what
#: JSON, shells, tar and CSV give a meaning to, and what is no UTF-8.
CORPUS = [
    *(b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\r", "\x85".encode(), "\u2028".encode()),
    *("\u2029".encode(), "\u202e".encode(), b"\x00", b"\x1b[2J", b"\x1b]0;x\x07", b"\xff\xfe"),
    *(b"\n", b"\n\n", b" ", b"\t", b"@@ end", b"@@ clock 1", b"@1\n", b"since:", b"9" * 400),
    *(b"[" * 3000, b'{"a":' * 2000, b"{}", b"null", b"NaN", b"-1", b"1e999", b'"', b"'", b"\\"),
    *(b"$(id)", b"`id`", b"; id", b"../../x", b"/etc/shadow", b",", b"&#x2c", b"%n%n"),
    *(f"{TOKEN} end \n".encode(), f"{TOKEN} host MQ==\n".encode(), b"-----BEGIN CERTIFICATE-----"),
    *(b"\xed\xa0\x80", b"x" * 5000, "٣٤".encode(), b"2026-11-23 05:55:55.936 INFO  ["),
]  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn, real: bytes = b"") -> bytes:
    """Pieces of the corpus, and of a real answer."""
    made = bytearray(draw(st.sampled_from([real, b""])))
    for _ in range(draw(st.integers(0, 4))):
        piece = draw(st.one_of(st.sampled_from(CORPUS), st.binary(max_size=30)))
        begin = draw(st.integers(0, len(made)))
        end = draw(st.sampled_from([begin, min(begin + 7, len(made)), len(made)]))
        made[begin:end] = piece
    return bytes(made)


#: In the place of any value of a JSON answer.
ODD = [
    *(None, True, -1, 2**70, 1e308, "", "x", "x" * 3000, "1\n2", "\u202e", [], {}, [[]], {"a": 1}),
    json.loads("[" * 50 + "]" * 50),
    json.loads("[" * 500 + "]" * 500),
]


@st.composite
def odd_json(draw: st.DrawFn, real: bytes) -> bytes:
    """A real JSON answer, of which one value is another one, or gone."""
    value = json.loads(real)
    holder, step = [value], 0
    inner = value
    while isinstance(inner, dict | list) and inner and draw(st.integers(0, 5)):
        holder, step = inner, draw(st.sampled_from(keys_of(inner)))
        inner = holder[step]
    if draw(st.integers(0, 4)):
        holder[step] = draw(st.sampled_from(ODD))
    else:
        del holder[step]
    return json.dumps(value if holder != [value] else holder[0] if holder else None).encode()


def keys_of(value: dict[str, object] | list[object]) -> list[object]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


LOG = (Path(__file__).with_name("data") / "kea-2.6.3/partner-stranger.log").read_bytes()
STATUS = (Path(__file__).with_name("data") / "kea-2.6.3/status-primary.json").read_bytes()
PEM = survey_of("host-1").certificates[layout.HA_CERTIFICATE].encode()
DOCUMENT = json.dumps(parse_document(survey_of("host-1").text(layout.KEA_CONF) or "")).encode()
LEASES = (",".join(lease_file.COLUMNS) + "\n").encode() + (
    b"192.0.2.7,02:00:00:00:00:01,,3600,1795413355,1,0,0,a,0,,0\n" * 3
)
TOLD = json.dumps(
    {
        "acks": [[1795413355.5, "192.0.2.2"]],
        "waits": [0.1],
        "leases": {"02:aa:00:00:00:01": "192.0.2.100"},
        "unserved": [],
        "clients": 1,
        "last_arrival": 1795413356.0,
        "twice": [],
        "refused": [],
    }
).encode()
CSR = b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"


def read_survey(name: str) -> Callable[[bytes], None]:
    """One value of a survey replaced; and then everything that judges a host judges this one."""

    def read(said: bytes) -> None:
        values = said_by("host-1") | {name: said}
        try:
            found = survey.parse_survey(output_of(values), QUESTIONS["host-1"])
        except foreign.ForeignError as error:
            assert foreign.shown(str(error)) == str(error)
            return
        # Most pieces of the corpus leave nothing that would be judged otherwise.
        if found != survey_of("host-1"):
            judge(found)

    return read


def judge(found: survey.Survey) -> None:
    """What a run does with a survey, whatever it says."""
    both = {"host-1": found, "host-2": accepted("host-2")}
    seen = {name: Seen(one, 0.0) for name, one in both.items()}
    acceptance.health_findings(PAIR, both)
    evidence = {name: acceptance.Evidence(one, ()) for name, one in both.items()}
    acceptance.pair_findings(PAIR, evidence)
    acceptance.notes(PAIR, evidence)
    client_impact.is_live(found)
    _ = (found.in_use, found.accepted_in_use)
    list(preflight.problems(PAIR, seen, ANCHORS, preflight.Agreed()))
    preflight.warnings(PAIR, seen)
    diagnosed = diagnosis.diagnose(PAIR, seen, ANCHORS)
    list(diagnosis.problems(PAIR, seen, ANCHORS, diagnosed))
    change_plan.goals(both)
    list(change_plan.undo_objections(PAIR, both, force=False, accept_outage=False))
    drill_results.transitions(found, 0.0)


def read_status(said: bytes) -> None:
    try:
        reported = status.parse_status(foreign.json_value(said, "it"))
    except foreign.ForeignError:
        return
    judge(replace(accepted("host-1"), status=reported))


def read_log(said: bytes) -> None:
    lines = log_file.parse_log(foreign.lines(said))
    found = log_file.alarms(
        lines, now=survey_of("host-1").local, window=timedelta(20), partner_address="192.0.2.3"
    )
    log_file.summary((*found.recent, *found.older))
    log_file.last_transition(lines)
    log_file.start_took(lines)
    drill_results.log_ids(replace(survey_of("host-1"), log=lines), 0.0)


def read_leases(said: bytes) -> None:
    try:
        found = lease_file.load({layout.LEASES: said})
        assert (found.in_use, found.unreadable) == lease_file.count({layout.LEASES: said})
    except lease_file.LeaseFileError as error:
        assert foreign.shown(str(error)) == str(error)
        return
    lease_file.render(lease_file.merge([found], [found]), found.header)


def read_certificate(said: bytes) -> None:
    text = foreign.text(said)
    for act in (certificates.inspect, certificates.subjects):
        try:
            act(text)
        except certificates.PkiError as error:
            assert error.remedy
    certificates.check_identity(text, text, public_key_pem=text, address="192.0.2.2", name="a")
    certificates.chains(text, PEM.decode())
    certificates.chains(PEM.decode(), text)
    certificates.are_the_same(text, PEM.decode())


def read_request(said: bytes) -> None:
    try:
        issue.requested_key(foreign.text(said), "host-1")
    except certificates.PkiError as error:
        assert error.remedy


def read_controls(said: bytes) -> None:
    tests = port_tests.tests_of(PAIR, PAIR.primary)
    for answer in (said, output_of({"code.0": said, "body.0": said, "tls.0": said})):
        for control in port_tests.parse_controls(answer, tests):
            assert str(control)
    port_tests.kea_result(said)


def read_archive(said: bytes) -> None:
    plain, set_ = [layout.KEA_CONF], [layout.LEASES]
    packed = {"document.0": said, "lease.0": said, "sizes.0": said, "whole.0": b""}
    for answer in (said, output_of(packed)):
        with TemporaryDirectory() as place:
            (Path(place) / "answer").write_bytes(answer)
            try:
                found = file_transfer.unpack(Path(place) / "answer", Path(place), plain, set_)
                assert found.keys() <= {layout.KEA_CONF, layout.LEASES}
            except foreign.ForeignError as error:
                assert str(error)


def read_told(said: bytes) -> None:
    try:
        told = client_load.Told.read(said)
        assert told.given_twice == told.given_twice
    except foreign.ForeignError as error:
        assert str(error)


def read_document(said: bytes) -> None:
    text = foreign.text(said)
    try:
        parsed = parse_document(text)
    except ValueError as error:
        assert str(error)
    else:
        list(map(str, differences(parsed, parse_document(DOCUMENT.decode()))))
    redaction.without_secrets(text)
    file = replace(survey_of("host-1").files[layout.KEA_CONF], content=text, sha256="0" * 64)
    judge(replace(accepted("host-1"), files={**survey_of("host-1").files, layout.KEA_CONF: file}))


def read_backup(said: bytes) -> None:
    with TemporaryDirectory() as place:
        sums = f"{backup_store.sha256(said).hexdigest()}  about.json\n".encode()
        for listed in (sums, said):
            (Path(place) / "about.json").write_bytes(said)
            (Path(place) / "SHA256SUMS").write_bytes(listed)
            try:
                backup_store.read(Path(place))
            except backup_store.BackupError as error:
                assert error.remedy


def read_frames(said: bytes) -> None:
    for answer in (said, f"{TOKEN} host ".encode() + said, output_of({"host": said}, end=False)):
        try:
            frames.read(answer, ["host", "conf.*"])
        except foreign.ForeignError as error:
            assert foreign.shown(str(error)) == str(error)
    frames.plain(said)


PARSERS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    **{name: (read_survey(name), value) for name, value in said_by("host-1").items()},
    "status": (read_status, STATUS),
    "log file": (read_log, LOG),
    "lease file": (read_leases, LEASES),
    "certificate": (read_certificate, PEM),
    "signing request": (read_request, CSR),
    "controls": (read_controls, b'[{"result": 0}]'),
    "archive": (read_archive, b64encode(LEASES)),
    "told": (read_told, TOLD),
    "document": (read_document, DOCUMENT),
    "backup": (read_backup, b'{"pair": "lab", "hosts": {"host-1": ["/etc/x"]}}'),
    "frames": (read_frames, output_of(said_by("host-1"))),
}


def is_json(real: bytes) -> bool:
    return real[:1] in (b"{", b"[")


def feed(name: str, examples: int) -> None:
    """Give a parser so many hostile answers."""
    read, real = PARSERS[name]
    for piece in (*CORPUS, b"[" * 500 + b"]" * 500):
        read(piece)
    for piece in CORPUS if examples > 100 else ():
        read(piece + real)
        read(real + piece)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile(real) if not is_json(real) else st.one_of(hostile(real), odd_json(real)))
    def each(said: bytes) -> None:
        read(said)

    each()


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_of_foreign_bytes_is_total(name: str) -> None:
    """It gives a value or its own error, never one of Python's."""
    feed(name, 12)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_of_foreign_bytes_is_total_for_long(name: str) -> None:
    """The same, with more of them."""
    feed(name, 2000)


def test_the_hosts_of_the_corpus_are_those_of_the_pair() -> None:
    """Else the judges above would find nothing to judge."""
    assert set(HOSTS) == {node.name for node in PAIR.nodes}
    judge(accepted("host-1"))
