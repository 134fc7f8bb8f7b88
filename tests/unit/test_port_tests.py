"""A control tells answered from refused from undecided, on the wire and in what curl says."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.host import port_tests
from kea_ha.host.port_tests import Control, parse_controls, try_command
from kea_ha.pki.ca_store import Store
from tests.unit.identities import csr, key_pem, new_key
from tests.unit.surveys import lab_pair, output_of

PAIR = lab_pair()
NODE = PAIR.primary.model_copy(update={"address": "127.0.0.1"})


OK = b'[ { "result": 0 } ]'
POSITIVE = port_tests.Test("ha", PAIR.primary, 8000, must_be_answered=True)


def negative(who: str) -> port_tests.Test:
    return port_tests.Test(who, PAIR.primary, 8000)


def answer(*controls_: dict[str, bytes], end: bool = True) -> bytes:
    """What the script printed: of each control what curl ended with, and what else it told."""
    said = {f"{name}.{n}": value for n, one in enumerate(controls_) for name, value in one.items()}
    return output_of(said, end=end)


def only(test: port_tests.Test, **said: bytes) -> Control:
    (control,) = parse_controls(answer(said), [test])
    return control


def test_an_answer_of_kea_is_answered_with_the_version_of_tls() -> None:
    """HTTP 200 with a result of 0 in it, and nothing less."""
    control = only(POSITIVE, code=b"200 0", tls=b"TLSv1.3\n", body=OK)

    assert ("answered", "TLSv1.3", True) == (control.outcome, control.tls, control.holds)


@pytest.mark.parametrize("exit_code", [b"35", b"52", b"55", b"56"])
def test_a_connection_that_the_server_ended_is_refused(exit_code: bytes) -> None:
    """What a negative control hopes for, and what is wrong with a positive one."""
    assert only(negative("none"), code=b"000 " + exit_code).holds
    assert not only(POSITIVE, code=b"000 " + exit_code).holds


@pytest.mark.parametrize(
    "said",
    [
        {"code": b"000 7"},
        {"code": b"000 28"},
        {"code": b"401 0", "body": OK},
        {"code": b"404 0", "body": OK},
        {"code": b"200 0"},
        {"code": b"200 0", "body": b'[ { "result": 1, "text": "no" } ]'},
        {"code": b"200 0", "body": b"<html>result ok</html>"},
        {"code": b"200 63", "body": OK},
        {"code": b"000 60"},
        {"code": b""},
        {},
    ],
    ids=str,
)
def test_whatever_else_happens_is_undecided_and_holds_for_nobody(said: dict[str, bytes]) -> None:
    """Nothing listens, no answer in time, another program answers: that proves no denial."""
    for test in (POSITIVE, negative("stranger")):
        control = only(test, **said)
        assert "undecided" == control.outcome
        assert not control.holds


def test_a_stranger_who_is_answered_does_not_hold() -> None:
    """The finding that all this is for."""
    control = only(negative("stranger"), code=b"200 0", body=OK)

    assert not control.holds
    assert "was answered" in str(control)
    assert "must be refused" in str(control)


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_script_that_was_cut_short_never_holds(made: int) -> None:
    """Controls that were not made prove nothing; neither does one that never came to its end."""
    tests = [POSITIVE, negative("none")]
    good = [{"code": b"200 0", "body": OK}, {"code": b"000 56"}]

    assert all(control.holds for control in parse_controls(answer(*good), tests))
    for end in (True, False) if made < 2 else (False,):
        found = parse_controls(answer(*good[:made], end=end), tests)
        assert found
        assert not all(control.holds for control in found)


def test_each_port_has_a_positive_control_beside_its_negative_ones() -> None:
    """On 8000 by the same script; on 8001 the positive one is the API client's own."""
    made = port_tests.tests_of(PAIR, PAIR.primary)

    own, partner = PAIR.primary, PAIR.standby
    positive = [port_tests.Test("ha", partner, 8000, must_be_answered=True), POSITIVE]
    denied = [port_tests.Test(who, own, 8000) for who in ("none", "stranger", "plain")]
    denied += [port_tests.Test(who, own, 8001) for who in ("ha", "none", "stranger", "plain")]
    assert [*positive, *denied] == list(made)
    assert not [
        test
        for test in port_tests.tests_of(lab_pair(control_channel="none"), PAIR.primary)
        if test.port == 8001
    ]


def test_the_script_makes_each_control_once() -> None:
    """By its number, as it is to be judged, and plain HTTP without TLS."""
    script = port_tests.build_script(port_tests.tests_of(PAIR, PAIR.primary))

    made = [line for line in script.split("\n") if line.startswith("try ")]
    assert [
        "try 0 ha yes https://192.168.1.3:8000/",
        "try 1 ha yes https://192.168.1.2:8000/",
        "try 2 none no https://192.168.1.2:8000/",
        "try 3 stranger no https://192.168.1.2:8000/",
        "try 4 plain no http://192.168.1.2:8000/",
        "try 5 ha no https://192.168.1.2:8001/",
        "try 6 none no https://192.168.1.2:8001/",
        "try 7 stranger no https://192.168.1.2:8001/",
        "try 8 plain no http://192.168.1.2:8001/",
    ] == made


# The script, with curl --------------------------------------------------------------------------


def test_on_the_wire_it_tells_answered_from_refused_from_undecided(
    store: Store, tmp_path: Path
) -> None:
    """By the identities below the host's own paths, and leaving nothing of the stranger's there."""
    tls, run = tmp_path / "tls", tmp_path / "run"
    tls.mkdir()
    key = new_key()
    (tls / "ha.key").write_text(key_pem(key))
    (tls / "ha.crt").write_text(store.sign_peer(csr(key), name="host-1", address="127.0.0.1"))
    (tls / "ha-ca.crt").write_text(store.peers.trusted)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=store.peers.trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls / "ha.crt", tls / "ha.key")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    asked = ("ha", "none", "stranger", "plain")
    with server(context, http([{"result": 0}]), connections=len(asked)) as port:
        tests = [port_tests.Test(who, NODE, port, who == "ha") for who in asked]
        tests += [port_tests.Test(who, NODE, closed, who == "ha") for who in asked]
        script = port_tests.build_script(tests)
        script = script.replace(layout.VOLATILE_DIR, str(run)).replace(layout.TLS_DIR, str(tls))
        done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)

    found = parse_controls(done.stdout, tests)
    outcomes = ["answered", "refused", "refused", "refused"]
    assert [*outcomes, *["undecided"] * 4] == [one.outcome for one in found]
    assert [True] * 4 + [False] * 4 == [one.holds for one in found]
    assert "TLSv1.3" == found[0].tls
    assert [] == list(run.iterdir())


# The API client, over real TLS ------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("pki") / "lab", "lab")


def serving_context(store: Store, folder: Path, *, trusts: str) -> ssl.SSLContext:
    """An API server that admits clients of the CA in ``trusts``."""
    key = new_key()
    certificate, key_file = folder / "server.crt", folder / "server.key"
    certificate.write_text(store.sign_api_server(csr(key), name="host-1", address="127.0.0.1"))
    key_file.write_text(key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=trusts)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key_file)
    return context


@contextmanager
def server(context: ssl.SSLContext, answer: bytes, connections: int = 1) -> Iterator[int]:
    """A server on loopback that gives one answer to each request; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            for _ in range(connections):
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(65536)
                        tls.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(timeout=10)


def http(body: object, status: str = "200 OK") -> bytes:
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def ask(store: Store, port: int, anchor: str | None) -> Control:
    mine = store.client_certificate()
    context = port_tests.client_context(str(mine.certificate), str(mine.key), anchor)
    return try_command(
        lambda: socket.create_connection(("127.0.0.1", port), timeout=10),
        context,
        NODE,
        port,
        must_be_answered=True,
    )


def test_the_api_client_is_answered_where_its_ca_is_trusted(store: Store, tmp_path: Path) -> None:
    """And says over which TLS."""
    context = serving_context(store, tmp_path, trusts=store.api.trusted)
    with server(context, http([{"result": 0}])) as port:
        control = ask(store, port, store.api.trusted)

    assert ("answered", "TLSv1.3") == (control.outcome, control.tls)


def test_the_api_client_is_refused_where_only_the_peers_ca_is_trusted(
    store: Store, tmp_path: Path
) -> None:
    """The HA listener's view of an API certificate."""
    context = serving_context(store, tmp_path, trusts=store.peers.trusted)
    with server(context, http([{"result": 0}])) as port:
        control = ask(store, port, None)

    assert "refused" == control.outcome


@pytest.mark.parametrize(
    "answer", [http([{"result": 1, "text": "no"}]), http({}, "401 Unauthorized"), b"nonsense"]
)
def test_an_answer_that_is_no_success_is_undecided(
    store: Store, tmp_path: Path, answer: bytes
) -> None:
    """Through good TLS, but not what was asked for."""
    context = serving_context(store, tmp_path, trusts=store.api.trusted)
    with server(context, answer) as port:
        assert "undecided" == ask(store, port, store.api.trusted).outcome


def test_a_server_of_another_ca_is_undecided(store: Store, tmp_path: Path) -> None:
    """It is not the server that was to be asked."""
    context = serving_context(store, tmp_path, trusts=store.api.trusted)
    with server(context, http([{"result": 0}])) as port:
        control = ask(store, port, store.peers.trusted)

    assert "undecided" == control.outcome


def test_no_connection_is_undecided(store: Store) -> None:
    """Nothing listens there: neither answered nor refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert "undecided" == ask(store, port, store.api.trusted).outcome
