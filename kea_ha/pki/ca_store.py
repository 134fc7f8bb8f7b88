"""The private CAs of one pair, kept on the operator's machine.

A store (`pki/PAIR/`) holds two CAs that sign nothing but this pair's certificates: one for
the peers, one for API clients and the API's servers. They are apart because Kea checks the
chain alone: whoever holds a certificate of the peers' CA can drive the HA listener.

A CA is changed with an overlap, in the stages of `STAGES`: at each of them hosts that are as the
stage wants them and hosts that are as the one before it wanted accept each other.

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
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)

from kea_ha import private_files
from kea_ha.pki.certificates import (
    BOTH,
    CLIENT_AUTH,
    SERVER_AUTH,
    PkiError,
    are_the_same,
    chains,
    check_identity,
    inspect,
    public_key_der,
)
from kea_ha.pki.issue import certificate_to_pem, key_to_pem, make_ca, new_key, requested_key, sign

PASSPHRASE_VARIABLE = "KEA_HA_CA_PASSPHRASE"  # noqa: S105 - the name of a variable

#: In which a new one is given to `kea_ha.passphrase`.
NEW_PASSPHRASE_VARIABLE = "KEA_HA_NEW_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
#: In characters. Whoever has a copy of the keys may try as long as they like.
SHORTEST_PASSPHRASE = 12

#: How a key begins that is in clear, encrypted as before 2026-12, and as now (see `key_to_pem`).
_CLEAR, _OLD_ENCRYPTION, _ENCRYPTION = (
    f"-----BEGIN {kind}PRIVATE KEY-----" for kind in ("", "ENCRYPTED ", "OPENSSH ")
)

#: The CAs by the name of their files, with what their certificates call them.
_CAS = {"peers-ca": "peers CA", "api-ca": "API CA"}

#: The stages of a change of both CAs: the old and the new one are trusted; the new one signs; the
#: old one is trusted no longer. Each is for both hosts to reach before the next one begins.
TRUST_BOTH, SIGN_NEW, TRUST_NEW = STAGES = ("trust-both", "sign-new", "trust-new")
_STAGE_FILE = "ca-change"


@dataclass(frozen=True, slots=True)
class Authority:
    """What hosts are to have of one of the CAs, as PEM; all empty where there is none.

    `trusted` is their anchor: two CAs while one takes over from the other. `issuer` signs their
    certificates. `anchors` and `issuers` are those that hosts may have at this moment: of this
    stage, and of the one before it. A host with others is not of here, or has come further.
    """

    trusted: str = ""
    issuer: str = ""
    anchors: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()

    def knows(self, anchor: str) -> bool:
        """Whether a host may have this anchor now."""
        return any(are_the_same(anchor, one) for one in self.anchors)

    def is_behind(self, certificate: str) -> bool:
        """Whether this certificate is of a CA that is trusted here, and is to sign only later."""
        of_here = chains(certificate, self.trusted)
        return of_here and not any(chains(certificate, one) for one in self.issuers)

    @classmethod
    def of(cls, anchor: str) -> Authority:
        """The authority of a CA that is not being changed."""
        return cls(anchor, anchor, (anchor,), (anchor,))


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Where the operator's API client finds its certificate and key."""

    certificate: Path
    key: Path


class Store:
    """The CAs of one pair; `Store.open` makes what is missing of them."""

    def __init__(
        self,
        directory: Path,
        pair: str,
        passphrase: str | None = None,
        now: datetime | None = None,
    ) -> None:
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
        (aware) stands for the current time. Raises PkiError for a passphrase that is wrong, or
        too short for keys that are not under it yet, and for a store that is damaged or readable
        by others.
        """
        store = cls(directory, pair, passphrase, now)
        with _as_pki_error(directory):
            if passphrase is not None and not store._is_encrypted():
                require_length(passphrase, PASSPHRASE_VARIABLE)
            store._make_directory()
            store._check_modes()
            if not store._complete():
                with store._locked():
                    store._make()
            for ca in _CAS:
                store._issuer(ca)
            if passphrase is not None:
                store.require_keys()
                store._encrypt_keys()
        return store

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether a finished pair of CAs is in `directory`: an unfinished one signed nothing."""
        return all((directory / f"{ca}.crt").is_file() for ca in _CAS)

    @property
    def peers(self) -> Authority:
        """The CA whose certificates the HA listeners (and they alone) accept."""
        return self._authority("peers-ca")

    @property
    def api(self) -> Authority:
        """The CA of the API: of its clients, and of what serves it."""
        return self._authority("api-ca")

    @property
    def stage(self) -> str | None:
        """How far a change of the CAs has come, one of `STAGES`; None when none is under way."""
        try:
            found = self._read(_STAGE_FILE).strip()
        except FileNotFoundError:
            return None
        if found not in STAGES:
            raise _damaged(self.directory / _STAGE_FILE, ValueError(f"{found!r} is no stage"))
        return found

    def change_cas(self, stage: str) -> None:
        """Go on to `stage` of a change of both CAs; nothing happens if it is there or beyond.

        The stage before it must have been reached by both hosts. Raises PkiError when it would be
        skipped, and when the CAs' keys are not at hand.
        """
        with _as_pki_error(self.directory), self._locked():
            reached = -1 if self.stage is None else STAGES.index(self.stage)
            if reached >= STAGES.index(stage):
                return
            if reached < STAGES.index(stage) - 1:
                raise PkiError(
                    f"The CAs in {self.directory} are not at the stage before {stage}.",
                    "Run rotate.py with ca=true, which goes through them in their order.",
                )
            self.require_keys()
            if stage == TRUST_BOTH:
                for ca in _CAS:
                    if not self._path(f"{ca}-next.crt").exists():
                        self._make_ca(ca, f"{ca}-next")
            private_files.replace(self._path(_STAGE_FILE), f"{stage}\n".encode())

    def end_change(self) -> None:
        """Keep the new CAs alone, and their keys: no host trusts the old ones any longer.

        Raises PkiError before the last stage. When it was interrupted, it is to be called again.
        """
        with _as_pki_error(self.directory), self._locked():
            if self.stage is None:
                return
            if self.stage != TRUST_NEW:
                raise PkiError(
                    f"The change of the CAs in {self.directory} has come to {self.stage} only.",
                    "Run rotate.py with ca=true, which goes on from there.",
                )
            # The certificate last: until it is there the new key is found beside its own.
            for suffix in (".key", ".crt"):
                for ca in _CAS:
                    if self._path(f"{ca}-next{suffix}").exists():
                        self._path(f"{ca}-next{suffix}").replace(self._path(f"{ca}{suffix}"))
            self._path(_STAGE_FILE).unlink()
            private_files.sync(self.directory)

    def require_keys(self) -> None:
        """Raises PkiError unless the CAs' keys are at hand and can be used to sign."""
        with _as_pki_error(self.directory):
            for ca in _CAS:
                self._key(ca)

    def passphrase_note(self) -> str:
        """What is weak about how the CAs' keys are encrypted, and what mends it; else empty."""
        weak = []
        if self._passphrase is not None and len(self._passphrase) < SHORTEST_PASSPHRASE:
            weak.append(f"has fewer than {SHORTEST_PASSPHRASE} characters")
        if any(_OLD_ENCRYPTION in self._read(path.name) for path in self._keys()):
            weak.append("is easily tried out, by the way in which these keys are encrypted")
        if not weak:
            return ""
        return (
            f"the passphrase of {self.directory}/ {' and '.join(weak)}. To give it another one, or "
            f"encrypt it anew: set {NEW_PASSPHRASE_VARIABLE} beside {PASSPHRASE_VARIABLE}, and run "
            f".venv/bin/python -m kea_ha.passphrase {self.directory}"
        )

    def change_passphrase(self, new: str) -> None:
        """Encrypt the CAs' keys anew, under `new`.

        When it was interrupted, it is to be called again: some keys are under the new one by then.
        Raises PkiError when a key opens with neither, and when `new` is too short.
        """
        require_length(new, NEW_PASSPHRASE_VARIABLE)
        with _as_pki_error(self.directory), self._locked():
            for path in self._keys():
                try:
                    key = _load_key(path, self._passphrase)
                except PkiError:
                    key = _load_key(path, new.encode())
                private_files.replace(path, key_to_pem(key, new.encode()))
        self._passphrase = new.encode()

    def sign_peer(
        self, csr_pem: str, *, name: str, address: str, at: datetime | None = None
    ) -> str:
        """A peer's certificate (PEM), good for both ends of the HA channel, one year.

        `address` is an IP literal. Everything but the public key comes from the arguments. `at`
        (aware) is the moment that it is to be of, if not now: a year later it has expired.
        Raises PkiError for a request that is damaged, not signed by its own key, or weak.
        """
        return self._sign("peers-ca", csr_pem, name, address, BOTH, at or self._time())

    def sign_api_server(self, csr_pem: str, *, name: str, address: str) -> str:
        """The certificate of what serves the API on a host: serverAuth alone, else as a peer's."""
        return self._sign("api-ca", csr_pem, name, address, {SERVER_AUTH}, self._time())

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
            if self._path(f"{ca}.key").exists():
                self._key(ca)
        for ca in _CAS:
            if not (self.directory / f"{ca}.crt").exists():
                self._make_ca(ca, ca)
        if self._client_state() == "unusable":
            self._issue_client()

    def _make_ca(self, ca: str, name: str) -> None:
        path = self._path(f"{name}.key")
        if not path.exists():
            private_files.replace(path, key_to_pem(new_key(), self._passphrase))
        key = _load_key(path, self._passphrase)
        certificate = make_ca(key, f"{self.pair} {_CAS[ca]}", self._time())
        private_files.replace(self._path(f"{name}.crt"), certificate_to_pem(certificate), 0o644)

    def _keys(self) -> list[Path]:
        """The files of the CAs' keys."""
        return sorted(self.directory.glob("*-ca*.key"))

    def _is_encrypted(self) -> bool:
        """Whether there are keys, and none of them is in clear."""
        held = [self._read(path.name) for path in self._keys()]
        return bool(held) and not any(_CLEAR in text for text in held)

    def _encrypt_keys(self) -> None:
        paths = self._keys()
        if any(_CLEAR in self._read(path.name) for path in paths):
            with self._locked():
                for path in paths:
                    if _CLEAR in self._read(path.name):
                        key = _load_key(path, None)
                        private_files.replace(path, key_to_pem(key, self._passphrase))

    def _issue_client(self) -> None:
        issuer, issuer_key = self._issuer("api-ca"), self._key("api-ca")
        path = self.directory / "api-client.key"
        # The key stays when the certificate is renewed: then one rename renews, and no
        # moment has a certificate beside a key that is not its own. Another CA signs another key:
        # the one before may be why CAs are changed.
        signed = (self.directory / "api-client.crt").exists()
        another = signed and not chains(self._read("api-client.crt"), self.api.issuer)
        if another or not path.exists():
            private_files.replace(path, key_to_pem(new_key(), None))
        certificate = sign(
            _load_key(path, None).public_key(),
            issuer,
            issuer_key,
            name=f"{self.pair} API client",
            address=None,
            purposes={CLIENT_AUTH},
            now=self._time(),
        )
        private_files.replace(self._path("api-client.crt"), certificate_to_pem(certificate), 0o644)

    def _client_state(self) -> str:
        """`good`; `due` (valid, less than a third left); or `unusable`."""
        try:
            pem, anchor = self._read("api-client.crt"), self.api.issuer
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
        self,
        ca: str,
        csr_pem: str,
        name: str,
        address: str,
        purposes: Collection[str],
        at: datetime,
    ) -> str:
        key = requested_key(csr_pem, name)
        with _as_pki_error(self.directory):
            issuer, issuer_key = self._issuer(ca), self._key(ca)
        certificate = sign(
            key,
            issuer,
            issuer_key,
            name=name,
            address=address,
            purposes=purposes,
            now=at,
        )
        return certificate_to_pem(certificate).decode()

    def _authority(self, ca: str) -> Authority:
        stage = self.stage
        now, after = self._read(f"{ca}.crt"), ""
        if stage is not None and self._path(f"{ca}-next.crt").exists():
            after = self._read(f"{ca}-next.crt")
        if not after:
            return Authority.of(now)
        both = now + after
        return {
            TRUST_BOTH: Authority(both, now, (now, both), (now,)),
            SIGN_NEW: Authority(both, after, (both,), (now, after)),
            TRUST_NEW: Authority(after, after, (both, after), (after,)),
        }[str(stage)]

    def _issuer(self, ca: str) -> x509.Certificate:
        return self._certificate(self._signing(ca, ".crt"))

    def _certificate(self, path: Path) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            raise _damaged(path, error) from error

    def _key(self, ca: str) -> ec.EllipticCurvePrivateKey:
        path, certificate = self._signing(ca, ".key"), self._signing(ca, ".crt")
        try:
            key = _load_key(path, self._passphrase)
        except FileNotFoundError as error:
            raise PkiError(
                f"The key of {certificate} is not here, so nothing can be signed.",
                f"Copy {path.name} from the machine that made this CA, or move {self.directory} "
                "away to make new identities for the pair.",
            ) from error
        if certificate.exists() and public_key_der(key.public_key()) != public_key_der(
            self._certificate(certificate).public_key()
        ):
            raise PkiError(
                f"{path} is not the key of {certificate}.",
                f"Restore {self.directory} as a whole from the copy that was kept of it.",
            )
        return key

    def _signing(self, ca: str, suffix: str) -> Path:
        """The file of the CA that signs now. The new one's is under its own name until the end."""
        after = self._path(f"{ca}-next{suffix}")
        if self.stage in (SIGN_NEW, TRUST_NEW) and after.exists():
            return after
        return self._path(f"{ca}{suffix}")

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _read(self, name: str) -> str:
        return (self.directory / name).read_text(encoding="ascii", errors="replace")

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


def require_length(passphrase: str, variable: str) -> None:
    """Raises PkiError unless a passphrase is long enough to be new; `variable` has it."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise PkiError(
            f"{variable} is set, but {'short' if passphrase else 'empty'}.",
            f"Give {SHORTEST_PASSPHRASE} characters or more, such as four words that have nothing "
            "to do with each other; or unset it to keep the CAs' keys unencrypted.",
        )


def _load_key(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """The key in `path`; `passphrase` is not needed where the key is in clear."""
    content = path.read_bytes()
    encrypted = any(begin.encode() in content for begin in (_OLD_ENCRYPTION, _ENCRYPTION))
    if encrypted and passphrase is None:
        raise PkiError(
            f"{path} is encrypted, and no passphrase was given.",
            f"Set {PASSPHRASE_VARIABLE} to the passphrase that it was made with.",
        )
    try:
        key = _opened(content, passphrase if encrypted else None)
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


@cache
def _opened(content: bytes, passphrase: bytes | None) -> object:
    # Kept, since it takes half a second, and a run signs several times.
    load = load_ssh_private_key if _ENCRYPTION.encode() in content else load_pem_private_key
    return load(content, passphrase)


def _damaged(path: Path, error: Exception) -> PkiError:
    return PkiError(
        f"{path} is damaged ({error}).",
        f"Restore {path.parent} as a whole from the copy that was kept of it.",
    )


@contextmanager
def _as_pki_error(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PkiError(
            f"{error.filename or directory} cannot be used: {error.strerror}.",
            f"See to it that you own {directory} and can write there.",
        ) from error
