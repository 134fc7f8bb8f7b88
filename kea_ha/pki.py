"""The private CAs of one pair, kept on the operator's machine.

A store (`pki/PAIR/`) holds two CAs that sign nothing but this pair's certificates: one for
the peers, one for API clients and the API's servers. They are apart because Kea checks the
chain alone: whoever holds a certificate of the peers' CA can drive the HA listener.

Hosts make their own keys; of a signing request only the public key is used. Keys are
written with mode 0600 from their first byte, each file appears whole or not at all, and a
store that was interrupted while it was made is completed by the next call. Of processes
that start together one makes the CAs and the others use them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kea_ha.certificates import (
    BOTH,
    CLIENT_AUTH,
    SERVER_AUTH,
    Certificate,
    PkiError,
    check_identity,
    inspect,
    public_key_der,
)
from kea_ha.issuing import (
    certificate_to_pem,
    key_to_pem,
    make_ca,
    new_key,
    requested_key,
    sign,
)

__all__ = [
    "BOTH",
    "CLIENT_AUTH",
    "SERVER_AUTH",
    "Certificate",
    "ClientCertificate",
    "PkiError",
    "Store",
    "check_identity",
    "inspect",
]

PASSPHRASE_VARIABLE = "KEA_HA_CA_PASSPHRASE"  # noqa: S105 - the name of a variable

#: The CAs by the name of their files, with what their certificates call them.
_CAS = {"peers-ca": "peers CA", "api-ca": "API CA"}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Where the operator's API client finds its certificate and key."""

    certificate: Path
    key: Path


class Store:
    """The CAs of one pair; make it with `Store.open`."""

    def __init__(self, directory: Path, pair: str, passphrase: str | None, now: datetime | None):
        self.directory = directory
        self.pair = pair
        self._passphrase = passphrase.encode() if passphrase is not None else None
        self._now = now

    @classmethod
    def open(
        cls,
        directory: Path,
        pair: str,
        passphrase: str | None = None,
        now: datetime | None = None,
    ) -> Store:
        """The store in `directory`, with whatever was missing in it made.

        A `passphrase` encrypts the CAs' keys, also those that were there in clear; without
        one, a store with encrypted keys opens, and only what needs a key is refused. `now`
        (aware) stands for the current time. Raises PkiError for a wrong or empty passphrase
        and for a store that is damaged or readable by others.
        """
        if passphrase == "":
            raise PkiError(
                f"{PASSPHRASE_VARIABLE} is set, but empty.",
                "Give a passphrase, or unset it to keep the CAs' keys unencrypted.",
            )
        store = cls(directory, pair, passphrase, now)
        with _as_pki_error(directory):
            store._make_directory()
            store._check_modes()
            if not store._complete():
                with store._locked():
                    store._make()
            for ca in _CAS:
                store._anchor(ca)
            if passphrase is not None:
                store.require_keys()
                store._encrypt_keys()
        return store

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether a finished pair of CAs is in `directory`: an unfinished one signed nothing."""
        return all((directory / f"{ca}.crt").is_file() for ca in _CAS)

    @property
    def peers_anchor_pem(self) -> str:
        """The CA whose certificates the HA listeners (and they alone) accept."""
        return self._read("peers-ca.crt")

    @property
    def api_anchor_pem(self) -> str:
        """The CA of the API: of its clients, and of what serves it."""
        return self._read("api-ca.crt")

    def require_keys(self) -> None:
        """Raises PkiError unless the CAs' keys are at hand and can be used to sign."""
        with _as_pki_error(self.directory):
            for ca in _CAS:
                self._key(ca)

    def sign_peer(self, csr_pem: str, *, name: str, address: str) -> str:
        """A peer's certificate (PEM), good for both ends of the HA channel, one year.

        `address` is an IP literal. Everything but the public key comes from the arguments.
        Raises PkiError for a request that is damaged, not signed by its own key, or weak.
        """
        return self._sign("peers-ca", csr_pem, name, address, BOTH)

    def sign_api_server(self, csr_pem: str, *, name: str, address: str) -> str:
        """The certificate of what serves the API on a host: serverAuth alone, else as a peer's."""
        return self._sign("api-ca", csr_pem, name, address, {SERVER_AUTH})

    def client_certificate(self) -> ClientCertificate:
        """The operator's API client certificate, renewed when it is due or unusable.

        One that is merely due is returned as it is when the CA's key cannot be had, so that
        a check from cron needs no passphrase.
        """
        files = ClientCertificate(
            self.directory / "api-client.crt", self.directory / "api-client.key"
        )
        with _as_pki_error(self.directory):
            if self._client_state() == "good":
                return files
            with self._locked():
                if (state := self._client_state()) != "good":
                    try:
                        self._issue_client()
                    except PkiError:
                        if state != "due":
                            raise
        return files

    # What follows makes and reads the files. Order matters: a key is always there before
    # its certificate, so a certificate without a key was never an interruption of ours.

    def _complete(self) -> bool:
        return self.exists(self.directory) and self._client_state() in ("good", "due")

    def _make(self) -> None:
        for ca in _CAS:
            # Before anything is made: one store must not end up under two passphrases.
            if (self.directory / f"{ca}.key").exists():
                self._key(ca)
        for ca in _CAS:
            if not (self.directory / f"{ca}.crt").exists():
                self._make_ca(ca)
        if self._client_state() == "unusable":
            self._issue_client()

    def _make_ca(self, ca: str) -> None:
        if not (self.directory / f"{ca}.key").exists():
            self._write(f"{ca}.key", key_to_pem(new_key(), self._passphrase), 0o600)
        key = self._key(ca)
        certificate = make_ca(key, f"{self.pair} {_CAS[ca]}", self._time())
        self._write(f"{ca}.crt", certificate_to_pem(certificate), 0o644)

    def _encrypt_keys(self) -> None:
        names = [f"{ca}.key" for ca in _CAS]
        if any("BEGIN PRIVATE KEY" in self._read(name) for name in names):
            with self._locked():
                for name in names:
                    if "BEGIN PRIVATE KEY" in self._read(name):
                        key = _load_key(self.directory / name, None)
                        self._write(name, key_to_pem(key, self._passphrase), 0o600)

    def _issue_client(self) -> None:
        issuer, issuer_key = self._anchor("api-ca"), self._key("api-ca")
        path = self.directory / "api-client.key"
        # The key stays when the certificate is renewed: then one rename renews, and no
        # moment has a certificate beside a key that is not its own.
        if not path.exists():
            self._write(path.name, key_to_pem(new_key(), None), 0o600)
        certificate = sign(
            _load_key(path, None).public_key(),
            issuer,
            issuer_key,
            name=f"{self.pair} API client",
            address=None,
            purposes={CLIENT_AUTH},
            now=self._time(),
        )
        self._write("api-client.crt", certificate_to_pem(certificate), 0o644)

    def _client_state(self) -> str:
        """`good`; `due` (valid, less than a third left); or `unusable`."""
        try:
            pem, anchor = self._read("api-client.crt"), self.api_anchor_pem
            key = _load_key(self.directory / "api-client.key", None).public_key()
        except FileNotFoundError:
            return "unusable"
        try:
            facts = inspect(pem)
        except PkiError:
            return "unusable"
        now = self._time()
        if check_identity(pem, anchor, purposes={CLIENT_AUTH}, now=now):
            return "unusable"
        held = public_key_der(x509.load_pem_x509_certificate(pem.encode()).public_key())
        if held != public_key_der(key):
            return "unusable"
        return "due" if facts.is_due(now) else "good"

    def _sign(
        self, ca: str, csr_pem: str, name: str, address: str, purposes: Collection[str]
    ) -> str:
        key = requested_key(csr_pem, name)
        with _as_pki_error(self.directory):
            issuer, issuer_key = self._anchor(ca), self._key(ca)
        certificate = sign(
            key,
            issuer,
            issuer_key,
            name=name,
            address=address,
            purposes=purposes,
            now=self._time(),
        )
        return certificate_to_pem(certificate).decode()

    def _anchor(self, ca: str) -> x509.Certificate:
        path = self.directory / f"{ca}.crt"
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            raise _damaged(path, error) from error

    def _key(self, ca: str) -> ec.EllipticCurvePrivateKey:
        path = self.directory / f"{ca}.key"
        certificate = path.with_suffix(".crt")
        try:
            key = _load_key(path, self._passphrase)
        except FileNotFoundError as error:
            raise PkiError(
                f"The key of {certificate} is not here, so nothing can be signed.",
                f"Copy {path.name} from the machine that made this CA, or move {self.directory} "
                "away to make new identities for the pair.",
            ) from error
        if certificate.exists() and public_key_der(key.public_key()) != public_key_der(
            self._anchor(ca).public_key()
        ):
            raise PkiError(
                f"{path} is not the key of {certificate}.",
                f"Restore {self.directory} as a whole from the copy that was kept of it.",
            )
        return key

    def _read(self, name: str) -> str:
        return (self.directory / name).read_text(encoding="ascii", errors="replace")

    def _write(self, name: str, content: bytes, mode: int) -> None:
        """Put a file in place by rename; a kill leaves a whole file or none."""
        path = self.directory / name
        candidate = path.with_name(f"{name}.new")
        candidate.unlink(missing_ok=True)
        # O_EXCL with the mode: never a moment with wider rights, never somebody else's file.
        handle = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        candidate.replace(path)
        _sync(self.directory)

    def _make_directory(self) -> None:
        for directory in (self.directory.parent, self.directory):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)

    def _check_modes(self) -> None:
        for path in (self.directory, *self.directory.glob("*.key")):
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                raise PkiError(
                    f"{path} is open to other users of this machine (mode {mode:04o}).",
                    f"If nobody else can have read it: chmod go= {path}. If somebody can, move "
                    f"{self.directory} away and make new identities for the pair.",
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store; the kernel lets go when the process ends, however it ends."""
        handle = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _time(self) -> datetime:
        return self._now or datetime.now(UTC)


def _load_key(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """The key in `path`; `passphrase` is not needed where the key is in clear."""
    content = path.read_bytes()
    encrypted = b"ENCRYPTED" in content
    if encrypted and passphrase is None:
        raise PkiError(
            f"{path} is encrypted, and no passphrase was given.",
            f"Set {PASSPHRASE_VARIABLE} to the passphrase that it was made with.",
        )
    try:
        key = load_pem_private_key(content, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise PkiError(
                f"The passphrase does not open {path}.",
                f"Set {PASSPHRASE_VARIABLE} to the passphrase that it was made with.",
            ) from error
        raise _damaged(path, error) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, TypeError("not an elliptic curve key"))
    return key


def _damaged(path: Path, error: Exception) -> PkiError:
    return PkiError(
        f"{path} is damaged ({error}).",
        f"Restore {path.parent} as a whole from the copy that was kept of it.",
    )


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_pki_error(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PkiError(
            f"{error.filename or directory} cannot be used: {error.strerror}.",
            f"See to it that you own {directory} and can write there.",
        ) from error
