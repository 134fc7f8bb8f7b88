"""Identities of the tests' own, to try the pair's ports with: right ones, wrong ones, a stranger's.

Made with openssl and with the CAs in an operator's `pki/`, as files to be given to a machine.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab.bench import give

_DIRECTORY = "/root/identities"


@dataclass(frozen=True)
class Identity:
    """A key and a certificate, PEM."""

    key: str
    certificate: str


def openssl(*arguments: str, given: str = "") -> str:
    """What openssl prints."""
    done = subprocess.run(
        ["openssl", *arguments], input=given, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def new_key() -> str:
    """A new EC key, PEM."""
    return openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def _request(directory: Path, key: str) -> str:
    (directory / "key").write_text(key)
    return openssl("req", "-new", "-key", str(directory / "key"), "-subj", "/CN=throwaway")


class Authority:
    """A CA of the tests' own, in `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "ca.key").write_text(new_key())
        self.anchor = openssl(
            *("req", "-x509", "-key", str(directory / "ca.key"), "-subj", f"/CN={name}"),
            *("-days", "3650", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        (directory / "ca.crt").write_text(self.anchor)

    def issue(self, address: str = "192.168.1.10", *, days: int = 30) -> Identity:
        """A certificate for both ends; with `days` below 0 it has expired."""
        key = new_key()
        (self.directory / "request").write_text(_request(self.directory, key))
        (self.directory / "extensions").write_text(
            f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n"
            "basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
        )
        certificate = openssl(
            *("x509", "-req", "-in", str(self.directory / "request")),
            *("-CA", str(self.directory / "ca.crt"), "-CAkey", str(self.directory / "ca.key")),
            *("-CAcreateserial", "-extfile", str(self.directory / "extensions")),
            *("-days", str(days)),
        )
        return Identity(key, certificate)


def throwaway_peer(store: Store, directory: Path) -> Identity:
    """A certificate of the pair's own peers' CA, such as a third host would have."""
    key = new_key()
    return Identity(
        key, store.sign_peer(_request(directory, key), name="x", address="192.168.1.10")
    )


def api_client(store: Store) -> Identity:
    """The operator's own API client certificate."""
    files = store.client_certificate()
    return Identity(files.key.read_text(), files.certificate.read_text())


def hand_over(lab: Lab, machine: str, name: str, identity: Identity) -> tuple[str, ...]:
    """Put an identity on a machine; curl's options to use it there."""
    base = f"{_DIRECTORY}/{name}"
    give(lab, machine, f"{base}.key", identity.key)
    give(lab, machine, f"{base}.crt", identity.certificate)
    return ("--cert", f"{base}.crt", "--key", f"{base}.key")


def hand_over_anchor(lab: Lab, machine: str, name: str, pem: str) -> tuple[str, ...]:
    """Put a CA's certificate on a machine; curl's options to trust that one alone."""
    give(lab, machine, f"{_DIRECTORY}/{name}.pem", pem)
    return ("--cacert", f"{_DIRECTORY}/{name}.pem")
