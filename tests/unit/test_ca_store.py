"""The pair's CAs: what they sign, what they refuse, and what survives an interruption."""

from __future__ import annotations

import itertools
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kea_ha.pki.ca_store import Store
from kea_ha.pki.certificates import CLIENT_AUTH, SERVER_AUTH, PkiError, check_identity, inspect
from tests.unit.identities import HostKey, csr, key_of, key_pem, load, new_key, public_pem

ROOT = Path(__file__).parents[2]
PASSPHRASE = "correct horse battery staple"  # noqa: S105
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
host_names = (
    st.lists(labels, min_size=1, max_size=3)
    .map(".".join)
    .filter(lambda name: not name.replace(".", "").isdigit())
)
addresses = st.ip_addresses(v=4).map(str)
times = st.datetimes(datetime(2020, 1, 1), datetime(2049, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that tests only sign with."""
    return Store.open(tmp_path_factory.mktemp("pki") / "lab", "lab")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "pki" / "lab"


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


# --- what the CAs are -----------------------------------------------------------------------


def test_the_two_cas_can_sign_leaves_and_nothing_more(store: Store) -> None:
    """Each CA may sign certificates and CRLs, but make no other CA; their keys differ."""
    anchors = [load(store.peers.trusted), load(store.api.trusted)]
    for anchor in anchors:
        basic = anchor.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
        usage = anchor.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        allowed = {
            name
            for name in ("key_cert_sign", "crl_sign", "digital_signature")
            if getattr(usage.value, name)
        }
        assert allowed == {"key_cert_sign", "crl_sign"}
        key = anchor.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        life = anchor.not_valid_after_utc - anchor.not_valid_before_utc
        assert timedelta(days=3650) <= life <= timedelta(days=3653)
        anchor.verify_directly_issued_by(anchor)
    assert key_of(store.peers.trusted) != key_of(store.api.trusted)
    assert len({anchor.subject for anchor in anchors}) == 2


@given(name=host_names, address=addresses, now=times)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_peers_certificate_holds_what_was_asked_of_us(
    tmp_path_factory: pytest.TempPathFactory, name: str, address: str, now: datetime
) -> None:
    """Name, address, purposes and times are the arguments'; of the request, only the key."""
    store = Store.open(tmp_path_factory.mktemp("pki") / "lab", "lab", now=now)
    key = new_key()
    request = csr(
        key,
        "evil.example",
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("evil.example")]),
    )
    pem = store.sign_peer(request, name=name, address=address)
    leaf, facts = load(pem), inspect(pem)
    assert facts.subject == name[:64]
    assert facts.names == (name,)
    assert facts.addresses == (address,)
    assert facts.not_before == now - timedelta(hours=1)
    assert facts.not_after == now + timedelta(days=365)
    assert not facts.is_ca
    extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject = load(store.peers.trusted).extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    )
    assert authority.key_identifier == subject.value.digest
    assert (
        check_identity(
            pem,
            store.peers.trusted,
            public_key_pem=public_pem(key),
            name=name,
            address=address,
            now=now,
        )
        == ()
    )


def test_two_certificates_for_one_key_have_unrelated_serials(store: Store) -> None:
    request = csr(new_key())
    serials = {
        load(store.sign_peer(request, name="host-1", address="192.168.1.2")).serial_number
        for _ in range(4)
    }
    assert len(serials) == 4
    assert min(serials).bit_length() > 64


def test_an_api_server_may_serve_and_not_act_as_a_client(store: Store) -> None:
    pem = store.sign_api_server(csr(new_key()), name="host-1", address="192.168.1.2")
    assert inspect(pem).purposes == {SERVER_AUTH}
    assert check_identity(pem, store.api.trusted, purposes={SERVER_AUTH}) == ()
    assert any(
        "chain" in f for f in check_identity(pem, store.peers.trusted, purposes={SERVER_AUTH})
    )


@pytest.mark.parametrize("name", ["192.168.1.2", "h" * 63 + ".example"])
def test_names_that_are_addresses_or_long_are_signed_all_the_same(store: Store, name: str) -> None:
    """An inventory may name its hosts by address; a common name is cut at 64 characters."""
    pem = store.sign_peer(csr(new_key()), name=name, address="192.168.1.2")
    assert inspect(pem).subject == name[:64]
    assert inspect(pem).addresses == ("192.168.1.2",)
    assert check_identity(pem, store.peers.trusted, name=name, address="192.168.1.2") == ()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("host 1", "192.168.1.2"),
        ("*", "192.168.1.2"),
        ("höst", "192.168.1.2"),
        ("", "192.168.1.2"),
        ("a..b", "192.168.1.2"),
        ("-a", "192.168.1.2"),
        ("host-1", "host-1.example"),
        ("host-1", "192.168.1.0/24"),
        ("host-1", ""),
    ],
)
def test_a_name_or_address_that_cannot_be_certified_is_refused(
    store: Store, name: str, address: str
) -> None:
    with pytest.raises(PkiError):
        store.sign_peer(csr(new_key()), name=name, address=address)


def test_a_leaf_does_not_outlive_its_ca(directory: Path) -> None:
    Store.open(directory, "lab", now=NOW)
    late = NOW + timedelta(days=3500)
    store = Store.open(directory, "lab", now=late)
    leaf = inspect(store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2"))
    assert leaf.not_after == inspect(store.peers.trusted).not_after


def test_an_expired_ca_signs_nothing(directory: Path) -> None:
    Store.open(directory, "lab", now=NOW)
    with pytest.raises(PkiError, match="expired"):
        Store.open(directory, "lab", now=NOW + timedelta(days=3700))


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        new_key(),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA 2048"],
)
def test_a_strong_key_is_signed(store: Store, key: HostKey) -> None:
    pem = store.sign_peer(csr(key), name="host-1", address="192.168.1.2")
    assert check_identity(pem, store.peers.trusted, public_key_pem=public_pem(key)) == ()


@pytest.mark.parametrize(
    "key",
    [WEAK_RSA, ec.generate_private_key(ec.SECP256K1())],
    ids=["RSA 1024", "secp256k1"],
)
def test_a_weak_key_is_not_signed(store: Store, key: HostKey) -> None:
    with pytest.raises(PkiError, match="too weak"):
        store.sign_peer(csr(key), name="host-1", address="192.168.1.2")


def test_a_request_that_its_key_did_not_sign_is_refused(store: Store) -> None:
    """Else somebody could have a key certified that they do not hold."""
    mine, theirs = new_key(), new_key()
    request = x509.load_pem_x509_csr(csr(mine).encode())
    old, new = (
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key in (mine, theirs)
    )
    forged = request.public_bytes(Encoding.DER).replace(old, new)
    pem = x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(PkiError, match="not signed by the key"):
        store.sign_peer(pem, name="host-1", address="192.168.1.2")


@given(noise=st.text(max_size=200))
@settings(max_examples=50)
def test_a_request_that_is_none_is_refused(store: Store, noise: str) -> None:
    with pytest.raises(PkiError, match="host-1"):
        store.sign_peer(noise, name="host-1", address="192.168.1.2")


# --- the store on disk ----------------------------------------------------------------------


def test_nobody_else_can_read_the_store_whatever_the_umask(directory: Path) -> None:
    with umask(0):
        Store.open(directory, "lab")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert {name: mode for name, mode in modes(directory).items() if name.endswith(".key")} == {
        "peers-ca.key": 0o600,
        "api-ca.key": 0o600,
        "api-client.key": 0o600,
    }


def test_opening_a_store_again_changes_nothing(directory: Path) -> None:
    Store.open(directory, "lab")
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in directory.iterdir()}
    Store.open(directory, "lab").client_certificate()
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in directory.iterdir()} == before


@pytest.mark.parametrize("victim", [".", "peers-ca.key", "api-client.key"])
def test_a_store_that_others_can_read_is_refused(directory: Path, victim: str) -> None:
    """Its keys may be known by now; the operator decides, not we."""
    Store.open(directory, "lab")
    (directory / victim).chmod(0o755)
    with pytest.raises(PkiError, match="open to other users") as caught:
        Store.open(directory, "lab")
    assert "chmod" in caught.value.remedy


def test_a_store_exists_when_both_cas_do(directory: Path) -> None:
    assert not Store.exists(directory)
    Store.open(directory, "lab")
    assert Store.exists(directory)
    (directory / "api-ca.crt").unlink()
    assert not Store.exists(directory)


def test_without_its_keys_a_store_shows_its_anchors_and_signs_nothing(directory: Path) -> None:
    """Enough for a machine that only verifies."""
    anchor = Store.open(directory, "lab").peers.trusted
    for ca in ("peers-ca", "api-ca"):
        (directory / f"{ca}.key").unlink()
    store = Store.open(directory, "lab")
    assert store.peers.trusted == anchor
    assert store.client_certificate().certificate.exists()
    with pytest.raises(PkiError, match="nothing can be signed"):
        store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")
    with pytest.raises(PkiError, match="nothing can be signed"):
        store.require_keys()
    assert not (directory / "peers-ca.key").exists()


def test_a_key_of_another_ca_is_refused(directory: Path) -> None:
    store = Store.open(directory, "lab")
    (directory / "peers-ca.key").write_bytes((directory / "api-ca.key").read_bytes())
    with pytest.raises(PkiError, match="is not the key of"):
        store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")


@pytest.mark.parametrize("victim", ["peers-ca.crt", "api-ca.crt"])
def test_a_damaged_ca_is_refused_by_name(directory: Path, victim: str) -> None:
    Store.open(directory, "lab")
    (directory / victim).write_text("nonsense")
    with pytest.raises(PkiError, match=victim):
        Store.open(directory, "lab")


def test_a_directory_that_cannot_be_made_is_reported_in_words(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file")
    with pytest.raises(PkiError, match="cannot be used"):
        Store.open(tmp_path / "pki" / "lab", "lab")


# --- interruptions --------------------------------------------------------------------------

# Kills itself before its Nth change to the file system, counted by the interpreter.
KILLED = """
import os, signal, sys
from pathlib import Path
from kea_ha.pki.ca_store import Store
directory, left = Path(sys.argv[1]), int(sys.argv[2])
def count(event, arguments):
    global left
    if event not in ("open", "os.rename", "os.mkdir", "os.remove") or str(directory) not in str(
        arguments[0]
    ):
        return
    if event == "open" and not arguments[2] & os.O_CREAT:
        return
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
os.umask(0)
Store.open(directory, "lab", sys.argv[3] if len(sys.argv) > 3 else None)
"""


# Is killed by its quota when it writes more into one file than allowed.
CUT_OFF = """
import resource, signal, sys
from pathlib import Path
from kea_ha.pki.ca_store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
Store.open(Path(sys.argv[1]), "lab")
"""


def run(script: str, *arguments: str) -> int:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode


def test_a_store_killed_at_any_moment_is_completed_by_the_next_call(tmp_path: Path) -> None:
    """Before each change in turn: what was there stays, what is missing is made, nothing is
    readable by others at any of these moments."""
    for moment in itertools.count(1):
        directory = tmp_path / str(moment) / "pki" / "lab"
        directory.parent.parent.mkdir()
        status = run(KILLED, str(directory), str(moment))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        before = {}
        if directory.exists():
            assert directory.stat().st_mode & 0o077 == 0
            assert all(
                mode & 0o077 == 0 for name, mode in modes(directory).items() if ".key" in name
            )
            before = {
                path.name: path.read_bytes()
                for path in directory.iterdir()
                if path.suffix != ".new"
            }
        store = Store.open(directory, "lab")
        assert {name: (directory / name).read_bytes() for name in before} == before
        assert not list(directory.glob("*.new"))
        identity = store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")
        assert check_identity(identity, store.peers.trusted) == ()
    assert moment > 12, "the moments were not found"


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_file_cut_off_while_it_was_written_is_made_anew(directory: Path, size: int) -> None:
    """The live name is never given to a part of a file."""
    assert run(CUT_OFF, str(directory), str(size)) == -signal.SIGXFSZ
    assert [path.suffix for path in directory.iterdir() if path.name != ".lock"] == [".new"]
    Store.open(directory, "lab")
    assert Store.exists(directory)
    assert not list(directory.glob("*.new"))


def test_processes_that_start_together_make_one_pair_of_cas(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kea_ha.pki.ca_store import Store\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store = Store.open(Path(sys.argv[1]), 'lab')\n"
        "print(store.peers.trusted + store.api.trusted\n"
        "      + store.client_certificate().certificate.read_text())\n"
    )
    for attempt in range(3):
        directory = tmp_path / str(attempt) / "lab"
        directory.parent.mkdir()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(directory)],
                cwd=ROOT,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
        assert len(set(answers)) == 1


# --- passphrase -----------------------------------------------------------------------------


def test_with_a_passphrase_the_cas_keys_are_encrypted(directory: Path) -> None:
    store = Store.open(directory, "lab", PASSPHRASE)
    for ca in ("peers-ca", "api-ca"):
        content = (directory / f"{ca}.key").read_bytes()
        assert load_ssh_private_key(content, PASSPHRASE.encode())
        for other in (None, b"another"):
            with pytest.raises((TypeError, ValueError)):
                load_ssh_private_key(content, other)
    pem = store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")
    assert check_identity(pem, store.peers.trusted) == ()


@pytest.mark.parametrize("wrong", ["no", PASSPHRASE + "!"])
def test_a_wrong_passphrase_is_refused_and_not_repeated(directory: Path, wrong: str) -> None:
    Store.open(directory, "lab", PASSPHRASE)
    with pytest.raises(PkiError, match="does not open") as caught:
        Store.open(directory, "lab", wrong)
    assert "KEA_HA_CA_PASSPHRASE" in caught.value.remedy
    assert PASSPHRASE not in str(caught.value)


def test_without_the_passphrase_all_but_signing_works(directory: Path) -> None:
    """A check from cron needs no passphrase."""
    anchor = Store.open(directory, "lab", PASSPHRASE).peers.trusted
    store = Store.open(directory, "lab")
    assert store.peers.trusted == anchor
    files = store.client_certificate()
    ssl.create_default_context().load_cert_chain(files.certificate, files.key)
    for refused in (
        store.require_keys,
        lambda: store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2"),
    ):
        with pytest.raises(PkiError, match="no passphrase was given") as caught:
            refused()
        assert "KEA_HA_CA_PASSPHRASE" in caught.value.remedy


def test_an_empty_passphrase_is_not_taken_for_none(directory: Path) -> None:
    with pytest.raises(PkiError, match="empty"):
        Store.open(directory, "lab", "")
    assert not directory.exists()


def test_a_passphrase_given_later_encrypts_the_same_keys(directory: Path) -> None:
    before = Store.open(directory, "lab").peers.trusted
    store = Store.open(directory, "lab", PASSPHRASE)
    assert "BEGIN PRIVATE KEY" not in (directory / "peers-ca.key").read_text()
    assert "BEGIN PRIVATE KEY" not in (directory / "api-ca.key").read_text()
    assert modes(directory)["peers-ca.key"] == 0o600
    assert store.peers.trusted == before
    pem = store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")
    assert check_identity(pem, before) == ()


@pytest.mark.parametrize("moment", range(6, 11))
def test_an_unfinished_store_does_not_end_under_two_passphrases(
    directory: Path, moment: int
) -> None:
    """It is completed with the passphrase that it was begun with, or not at all: here it was
    killed between the two CAs' keys."""
    assert run(KILLED, str(directory), str(moment), PASSPHRASE) == -signal.SIGKILL
    assert (directory / "peers-ca.key").exists()
    assert not (directory / "api-ca.key").exists()
    for other in ("another", None):
        with pytest.raises(PkiError):
            Store.open(directory, "lab", other)
        assert not (directory / "api-ca.key").exists()
    Store.open(directory, "lab", PASSPHRASE)
    assert Store.exists(directory)


# --- the operator's client certificate ------------------------------------------------------


def test_the_operators_certificate_is_for_a_client_alone(store: Store) -> None:
    files = store.client_certificate()
    facts = inspect(files.certificate.read_text())
    assert facts.purposes == {CLIENT_AUTH}
    assert facts.not_after - facts.not_before == timedelta(days=365, hours=1)


@given(days=st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_the_operators_certificate_is_renewed_when_a_third_is_left(
    tmp_path_factory: pytest.TempPathFactory, days: int
) -> None:
    """Not before, so that a re-run changes nothing; and it keeps its key."""
    directory = tmp_path_factory.mktemp("pki") / "lab"
    files = Store.open(directory, "lab", now=NOW).client_certificate()
    first = files.certificate.read_text()
    before = inspect(first)
    later = NOW + timedelta(days=days)
    Store.open(directory, "lab", now=later).client_certificate()
    after = inspect(files.certificate.read_text())
    assert (after != before) == (before.life_left(later) < 1 / 3)
    assert key_of(files.certificate.read_text()) == key_of(first)
    assert not after.is_due(later)


@pytest.mark.parametrize("fault", ["other CA", "other key", "garbage", "no certificate", "no key"])
def test_an_unusable_client_certificate_is_replaced(directory: Path, fault: str) -> None:
    store = Store.open(directory, "lab")
    files = store.client_certificate()
    match fault:
        case "other CA":
            other = Store.open(directory.parent / "other", "other").client_certificate()
            files.certificate.write_bytes(other.certificate.read_bytes())
            files.key.write_bytes(other.key.read_bytes())
        case "other key":
            files.key.write_text(key_pem(new_key()))
        case "garbage":
            files.certificate.write_text("nonsense")
        case "no certificate":
            files.certificate.unlink()
        case "no key":
            files.key.unlink()
    store.client_certificate()
    pem = files.certificate.read_text()
    assert (
        check_identity(
            pem,
            store.api.trusted,
            purposes={CLIENT_AUTH},
            public_key_pem=public_pem(load_key(files.key)),
        )
        == ()
    )


def test_a_due_client_certificate_serves_on_when_the_ca_is_locked(directory: Path) -> None:
    """It is renewed by whoever has the passphrase; once expired, that is asked for."""
    Store.open(directory, "lab", PASSPHRASE, NOW)
    due = Store.open(directory, "lab", None, NOW + timedelta(days=300))
    before = due.client_certificate().certificate.read_text()
    assert inspect(before).is_due(NOW + timedelta(days=300))
    with pytest.raises(PkiError, match="no passphrase"):
        Store.open(directory, "lab", None, NOW + timedelta(days=400))
    unlocked = Store.open(directory, "lab", PASSPHRASE, NOW + timedelta(days=300))
    assert unlocked.client_certificate().certificate.read_text() != before
