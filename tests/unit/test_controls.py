"""A control tells answered from refused from undecided, on the wire and in what curl says."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kea_ha import controls
from kea_ha.controls import Control, parse_controls, try_command
from kea_ha.pki import Store
from tests.unit.identities import csr, key_pem, new_key
from tests.unit.surveys import lab_pair

PAIR = lab_pair()
NODE = PAIR.primary.model_copy(update={"address": "127.0.0.1"})


def block(who: str, must: str, code: str, *rest: str) -> list[str]:
    return [f"@@ {who} {must} host-1 8000 {code}", *rest]


def only(lines: list[str]) -> Control:
    (control,) = parse_controls([*lines, "@@ end"])
    return control


def test_an_answer_of_kea_is_answered_with_the_version_of_tls() -> None:
    """HTTP 200 with a result of 0 in it, and nothing less."""
    control = only(block("ha", "yes", "200 0", "tls SSL connection using TLSv1.3", "result ok"))

    assert ("answered", "TLSv1.3", True) == (control.outcome, control.tls, control.holds)


@pytest.mark.parametrize("exit_code", ["35", "52", "55", "56"])
def test_a_connection_that_the_server_ended_is_refused(exit_code: str) -> None:
    """What a negative control hopes for, and what is wrong with a positive one."""
    assert only(block("none", "no", f"000 {exit_code}")).holds
    assert not only(block("ha", "yes", f"000 {exit_code}")).holds


@pytest.mark.parametrize("code", ["000 7", "000 28", "401 0", "404 0", "200 0", "000 60"])
def test_whatever_else_happens_is_undecided_and_holds_for_nobody(code: str) -> None:
    """Nothing listens, no answer in time, another program answers: that proves no denial."""
    for must in ("yes", "no"):
        control = only(block("stranger", must, code))
        assert "undecided" == control.outcome
        assert not control.holds


def test_a_stranger_who_is_answered_does_not_hold() -> None:
    """The finding that all this is for."""
    control = only(block("stranger", "no", "200 0", "result ok"))

    assert not control.holds
    assert "was answered" in str(control)
    assert "must be refused" in str(control)


@pytest.mark.parametrize("lines", [[], block("ha", "yes", "200 0", "result ok")])
def test_a_script_that_was_cut_short_never_holds(lines: list[str]) -> None:
    """Controls that were not made prove nothing."""
    assert not all(control.holds for control in parse_controls(lines))


def test_each_port_has_a_positive_control_beside_its_negative_ones() -> None:
    """On 8000 by the same script; on 8001 the positive one is the API client's own."""
    script = controls.build_script(PAIR, PAIR.primary)

    assert "try ha yes host-2 8000 https://192.168.1.3:8000/" in script
    assert "try ha yes host-1 8000 https://192.168.1.2:8000/" in script
    for who in ("none", "stranger"):
        assert f"try {who} no host-1 8000 https://192.168.1.2:8000/" in script
        assert f"try {who} no host-1 8001 https://192.168.1.2:8001/" in script
    assert "try ha no host-1 8001" in script
    assert "8001" not in controls.build_script(lab_pair(control_channel="none"), PAIR.primary)


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
def server(context: ssl.SSLContext, answer: bytes) -> Iterator[int]:
    """A server on loopback that gives one answer to one request; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
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
    context = controls.client_context(str(mine.certificate), str(mine.key), anchor)
    return try_command(
        lambda: socket.create_connection(("127.0.0.1", port), timeout=10),
        context,
        NODE,
        port,
        must_be_answered=True,
    )


def test_the_api_client_is_answered_where_its_ca_is_trusted(store: Store, tmp_path: Path) -> None:
    """And says over which TLS."""
    context = serving_context(store, tmp_path, trusts=store.api_anchor_pem)
    with server(context, http([{"result": 0}])) as port:
        control = ask(store, port, store.api_anchor_pem)

    assert ("answered", "TLSv1.3") == (control.outcome, control.tls)


def test_the_api_client_is_refused_where_only_the_peers_ca_is_trusted(
    store: Store, tmp_path: Path
) -> None:
    """The HA listener's view of an API certificate."""
    context = serving_context(store, tmp_path, trusts=store.peers_anchor_pem)
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
    context = serving_context(store, tmp_path, trusts=store.api_anchor_pem)
    with server(context, answer) as port:
        assert "undecided" == ask(store, port, store.api_anchor_pem).outcome


def test_a_server_of_another_ca_is_undecided(store: Store, tmp_path: Path) -> None:
    """It is not the server that was to be asked."""
    context = serving_context(store, tmp_path, trusts=store.api_anchor_pem)
    with server(context, http([{"result": 0}])) as port:
        control = ask(store, port, store.peers_anchor_pem)

    assert "undecided" == control.outcome


def test_no_connection_is_undecided(store: Store) -> None:
    """Nothing listens there: neither answered nor refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert "undecided" == ask(store, port, store.api_anchor_pem).outcome
