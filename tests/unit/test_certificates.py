"""Certificates in real TLS handshakes, and the words for what is wrong with one."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from kea_ha.pki.ca_store import Store
from kea_ha.pki.certificates import (
    CLIENT_AUTH,
    SERVER_AUTH,
    SYSTEM_BUNDLES,
    Certificate,
    PkiError,
    check_identity,
    inspect,
)
from tests.unit.identities import certificate, csr, key_pem, new_key, pem, public_pem, stranger

ADDRESS = "127.0.0.1"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused


class Files(NamedTuple):
    """A certificate and its key where `ssl` can load them."""

    certificate: Path
    key: Path


class Held(NamedTuple):
    """One pair's identities, as they lie on its hosts and on the operator's machine."""

    store: Store
    peer: Files
    api_server: Files
    client: Files
    stranger: Files


def write(directory: Path, name: str, certificate_pem: str, private_pem: str) -> Files:
    files = Files(directory / f"{name}.crt", directory / f"{name}.key")
    files.certificate.write_text(certificate_pem)
    files.key.write_text(private_pem)
    return files


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    directory = tmp_path_factory.mktemp("held")
    store = Store.open(directory / "pki" / "lab", "lab")
    key = new_key()
    peer = store.sign_peer(csr(key), name="host-1", address=ADDRESS)
    api = store.sign_api_server(csr(key), name="host-1", address=ADDRESS)
    other = stranger(ADDRESS)
    client = store.client_certificate()
    return Held(
        store,
        write(directory, "peer", peer, key_pem(key)),
        write(directory, "api", api, key_pem(key)),
        Files(client.certificate, client.key),
        write(directory, "stranger", other.certificate, other.key),
    )


def handshake(
    server: Files, server_trusts: str, client: Files | None, client_trusts: str, name: str = ADDRESS
) -> tuple[str, str]:
    """What the server and the client say of a connection on loopback; `ok` from both is success.

    The server asks for a certificate, as Kea's listener does; the client checks the address,
    as curl does. The client reads one byte, since with TLS 1.3 it hears only then that it
    was refused.
    """
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(*server)
    listening.load_verify_locations(cadata=server_trusts)
    listening.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    calling.load_verify_locations(cadata=client_trusts)
    if client is not None:
        calling.load_cert_chain(*client)
    said = ["", ""]

    with socket.create_server((ADDRESS, 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            try:
                plain, _ = listener.accept()
                plain.settimeout(10)
                with plain, listening.wrap_socket(plain, server_side=True) as secure:
                    secure.sendall(b"!")
                said[0] = "ok"
            except OSError as error:
                said[0] = str(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                calling.wrap_socket(plain, server_hostname=name) as secure,
            ):
                said[1] = "ok" if secure.recv(1) == b"!" else "cut off"
        except OSError as error:
            said[1] = str(error)
        thread.join(timeout=10)
    return said[0], said[1]


OK = ("ok", "ok")


def test_a_peers_certificate_serves_both_ends_of_the_ha_channel(held: Held) -> None:
    """One certificate as server and as client, each side checking the other."""
    anchor = held.store.peers.trusted
    assert handshake(held.peer, anchor, held.peer, anchor) == OK


def test_the_operators_certificate_opens_the_api(held: Held) -> None:
    anchor = held.store.api.trusted
    assert handshake(held.api_server, anchor, held.client, anchor) == OK


def test_the_address_in_the_certificate_is_checked_by_those_who_check(held: Held) -> None:
    anchor = held.store.peers.trusted
    assert handshake(held.peer, anchor, held.peer, anchor, "host-1") == OK
    assert "match" in handshake(held.peer, anchor, held.peer, anchor, "127.0.0.2")[1]


def test_the_ha_listener_refuses_all_but_the_peers(held: Held) -> None:
    """No certificate, a stranger's, the API client's: beside the peer's, which passes."""
    anchor = held.store.peers.trusted
    assert handshake(held.peer, anchor, held.peer, anchor) == OK
    for intruder in (None, held.stranger, held.client, held.api_server):
        server, client = handshake(held.peer, anchor, intruder, anchor)
        assert "certificate" in server
        assert client != "ok"


def test_the_api_refuses_a_peers_certificate(held: Held) -> None:
    anchor = held.store.api.trusted
    assert "verify failed" in handshake(held.api_server, anchor, held.peer, anchor)[0]


def test_the_operators_certificate_cannot_pose_as_a_server(held: Held) -> None:
    anchor = held.store.api.trusted
    said = handshake(held.client, anchor, held.client, anchor, "127.0.0.1")[1]
    assert "unsuitable certificate purpose" in said or "unsupported certificate purpose" in said


def test_an_api_servers_certificate_cannot_pose_as_a_client(held: Held) -> None:
    anchor = held.store.api.trusted
    said = handshake(held.api_server, anchor, held.api_server, anchor)[0]
    assert "unsuitable certificate purpose" in said or "unsupported certificate purpose" in said


def test_a_stranger_is_refused_for_nothing_but_the_ca(held: Held, tmp_path: Path) -> None:
    """Else a negative control could be refused for another reason, and prove nothing."""
    other = stranger(ADDRESS)
    files = write(tmp_path, "stranger", other.certificate, other.key)
    assert check_identity(other.certificate, other.anchor, address=ADDRESS, name="stranger") == ()
    assert handshake(files, other.anchor, files, other.anchor) == OK
    findings = check_identity(
        other.certificate, held.store.peers.trusted, address=ADDRESS, name="stranger"
    )
    assert len(findings) == 1
    assert "does not chain" in findings[0]


# --- findings -------------------------------------------------------------------------------


class Own(NamedTuple):
    """A CA of the user's own, for what they bring."""

    anchor: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@pytest.fixture(scope="module")
def own() -> Own:
    key = new_key()
    return Own(certificate("My CA", key, ca=True, now=NOW, days=(-10, 3650)), key)


def findings(own: Own, leaf: x509.Certificate, **options: object) -> tuple[str, ...]:
    return check_identity(pem(leaf), pem(own.anchor), now=NOW, **options)  # type: ignore[arg-type]


def test_a_good_identity_has_no_findings(own: Own) -> None:
    key = new_key()
    leaf = certificate("host-1", key, own.anchor, own.key, address="192.168.1.2", now=NOW)
    assert (
        findings(own, leaf, public_key_pem=public_pem(key), address="192.168.1.2", name="HOST-1")
        == ()
    )


def test_no_extended_key_usage_is_good_for_both_purposes(own: Own) -> None:
    leaf = certificate("host-1", new_key(), own.anchor, own.key, purposes=None, now=NOW)
    assert inspect(pem(leaf)).purposes == {SERVER_AUTH, CLIENT_AUTH}
    assert findings(own, leaf) == ()


@pytest.mark.parametrize(
    ("purpose", "missing"),
    [
        (ExtendedKeyUsageOID.SERVER_AUTH, CLIENT_AUTH),
        (ExtendedKeyUsageOID.CLIENT_AUTH, SERVER_AUTH),
    ],
)
def test_a_missing_purpose_is_named(own: Own, purpose: x509.ObjectIdentifier, missing: str) -> None:
    leaf = certificate("host-1", new_key(), own.anchor, own.key, purposes=(purpose,), now=NOW)
    (finding,) = findings(own, leaf)
    assert f"lacks {missing}" in finding


@pytest.mark.parametrize(
    ("days", "word"), [((-30, -1), "expired at"), ((1, 30), "not valid before")]
)
def test_a_certificate_out_of_its_time_is_found(own: Own, days: tuple[int, int], word: str) -> None:
    leaf = certificate("host-1", new_key(), own.anchor, own.key, days=days, now=NOW)
    (finding,) = findings(own, leaf)
    assert word in finding
    assert "UTC" in finding


def test_a_key_that_is_not_the_hosts_is_found(own: Own) -> None:
    leaf = certificate("host-1", new_key(), own.anchor, own.key, now=NOW)
    (finding,) = findings(own, leaf, public_key_pem=public_pem(new_key()))
    assert "does not belong to the host's private key" in finding
    (finding,) = findings(own, leaf, public_key_pem="nonsense")
    assert "cannot be read" in finding


def test_a_certificate_for_elsewhere_is_found(own: Own) -> None:
    leaf = certificate("host-2", new_key(), own.anchor, own.key, address="192.168.1.3", now=NOW)
    address, name = findings(own, leaf, address="192.168.1.2", name="host-1")
    assert "192.168.1.2" in address
    assert "it names 192.168.1.3, host-2" in name


def test_another_ca_of_the_same_name_is_no_issuer(own: Own) -> None:
    """The signature decides, not what the issuer is called."""
    other = new_key()
    twin = certificate("My CA", other, ca=True, now=NOW)
    leaf = certificate("host-1", new_key(), twin, other, now=NOW)
    (finding,) = findings(own, leaf)
    assert "does not chain to the trust anchor (My CA)" in finding


@pytest.mark.parametrize("key", [WEAK_RSA, ec.generate_private_key(ec.SECP256K1())])
def test_a_weak_key_is_found(own: Own, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    leaf = certificate("host-1", key, own.anchor, own.key, now=NOW)
    (finding,) = findings(own, leaf)
    assert "weak key" in finding


def test_a_certificate_that_may_not_sign_a_handshake_is_found(own: Own) -> None:
    leaf = certificate("host-1", new_key(), own.anchor, own.key, digital_signature=False, now=NOW)
    (finding,) = findings(own, leaf)
    assert "digitalSignature" in finding


def test_a_chain_through_an_intermediate_is_followed(own: Own) -> None:
    """As long as the intermediate is sent along, is a CA, and is valid."""
    key = new_key()
    between = certificate("Between", key, own.anchor, own.key, ca=True, now=NOW)
    leaf = certificate("host-1", new_key(), between, key, now=NOW)
    anchor = pem(own.anchor)
    assert check_identity(pem(leaf, between), anchor, now=NOW) == ()
    assert "issued by Between" in check_identity(pem(leaf), anchor, now=NOW)[0]
    late = check_identity(pem(leaf, between), anchor, now=NOW + timedelta(days=400))
    assert any("intermediate CA Between expired" in finding for finding in late)

    no_ca = certificate("Between", key, own.anchor, own.key, now=NOW)
    assert "is not a CA" in check_identity(pem(leaf, no_ca), anchor, now=NOW)[0]
    assert "intermediate CA of My CA" in check_identity(pem(leaf), pem(between), now=NOW)[0]


def test_a_chain_longer_than_the_anchor_allows_is_found() -> None:
    root_key, key = new_key(), new_key()
    root = certificate("Root", root_key, ca=True, path_length=0, now=NOW)
    between = certificate("Between", key, root, root_key, ca=True, now=NOW)
    leaf = certificate("host-1", new_key(), between, key, now=NOW)
    (finding,) = check_identity(pem(leaf, between), pem(root), now=NOW)
    assert "allows 0 intermediate CAs, not 1" in finding


def test_certificates_that_issued_each_other_do_not_keep_us_forever(own: Own) -> None:
    one, two = new_key(), new_key()
    first = certificate("One", one, ca=True, now=NOW)
    second = certificate("Two", two, first, one, ca=True, now=NOW)
    first_again = certificate("One", one, second, two, ca=True, now=NOW)
    leaf = certificate("host-1", new_key(), first_again, one, now=NOW)
    (finding,) = check_identity(pem(leaf, first_again, second), pem(own.anchor), now=NOW)
    assert "does not chain" in finding


def test_an_anchor_that_is_no_ca_is_found() -> None:
    leaf = certificate("host-1", new_key(), now=NOW)
    assert any(
        "is not a CA certificate" in f for f in check_identity(pem(leaf), pem(leaf), now=NOW)
    )


def test_a_public_root_is_refused_as_an_anchor() -> None:
    """Whoever buys a certificate of it could drive the HA listener."""
    bundles = [bundle for bundle in SYSTEM_BUNDLES if bundle.is_file()]
    if not bundles:
        pytest.skip("this machine has no bundle of public roots")
    text = bundles[0].read_text()
    end = "-----END CERTIFICATE-----\n"
    for root in [part + end for part in text.split(end)[:-1]][:5]:
        assert any("drive the HA listener" in finding for finding in check_identity(root, root))


def test_a_public_root_is_known_by_name_where_there_is_no_bundle() -> None:
    key = new_key()
    root = certificate("Root X9", key, ca=True, organisation="DigiCert Inc", now=NOW)
    leaf = certificate("host-1", new_key(), root, key, now=NOW)
    (finding,) = check_identity(pem(leaf), pem(root), now=NOW)
    assert "public CA of DigiCert Inc" in finding


def test_a_private_key_in_the_wrong_file_is_found_and_not_shown(own: Own) -> None:
    key = new_key()
    leaf = certificate("host-1", key, own.anchor, own.key, now=NOW)
    (finding,) = check_identity(pem(leaf) + key_pem(key), pem(own.anchor), now=NOW)
    assert "holds a private key" in finding
    assert key_pem(key).splitlines()[1] not in finding


def test_a_sha1_signature_is_found(own: Own) -> None:
    """OpenSSL refuses it at the level that Debian sets; ours are SHA-256."""
    old = (Path(__file__).parent / "data" / "sha1.crt").read_text()
    assert any("SHA1" in finding for finding in check_identity(old, pem(own.anchor), now=NOW))
    leaf = certificate("host-1", new_key(), own.anchor, own.key, now=NOW)
    assert findings(own, leaf) == ()


@given(noise=st.text(max_size=300))
def test_what_cannot_be_read_is_a_finding_and_not_a_crash(noise: str) -> None:
    other = stranger(ADDRESS)
    assert check_identity(noise, other.anchor)
    assert check_identity(other.certificate, noise)
    assert check_identity(other.certificate, other.anchor, public_key_pem=noise)
    with pytest.raises(PkiError):
        inspect(noise)


@given(days=st.integers(-400, 800))
def test_the_life_left_is_told_in_whole_days_and_as_a_part(days: int) -> None:
    facts = Certificate(
        subject="host-1",
        issuer="CA",
        addresses=(),
        names=(),
        purposes=frozenset(),
        is_ca=False,
        not_before=NOW,
        not_after=NOW + timedelta(days=365),
    )
    now = NOW + timedelta(days=days)
    assert facts.days_left(now) == 365 - days
    assert facts.life_left(now) == pytest.approx(min(1, max(0, (365 - days) / 365)))
    assert facts.is_due(now) == (365 - days < 365 / 3)
    assert facts.days_left(now + timedelta(seconds=1)) == 364 - days


def test_inspect_tells_what_openssl_tells(held: Held) -> None:
    facts = inspect(held.peer.certificate.read_text())
    assert facts.issuer == inspect(held.store.peers.trusted).subject
    assert (facts.subject, facts.addresses, facts.names) == ("host-1", (ADDRESS,), ("host-1",))
