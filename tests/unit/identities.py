"""Keys, requests and certificates for the tests, good ones and bad ones."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HostKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def csr(key: HostKey, subject: str = "whoever", *extensions: x509.ExtensionType) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: HostKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: HostKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def key_of(certificate_pem: str) -> bytes:
    """The public key of a certificate, by which two are of one key or not."""
    key = load(certificate_pem).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def certificate(
    subject: str,
    key: HostKey,
    issuer: x509.Certificate | None = None,
    issuer_key: HostKey | None = None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    organisation: str | None = None,
    address: str | None = None,
    purposes: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ),
    digital_signature: bool = True,
    days: tuple[int, int] = (-1, 365),
    now: datetime | None = None,
) -> x509.Certificate:
    """A certificate as somebody else's CA might make it; self-signed without an issuer."""
    now = now or datetime.now(UTC)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    name = x509.Name(attributes)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=digital_signature,
                key_cert_sign=ca,
                crl_sign=ca,
                content_commitment=False,
                key_encipherment=not digital_signature,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if address is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName(subject)]
            ),
            critical=False,
        )
    if purposes is not None and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256())


class Stranger(NamedTuple):
    """A key, its certificate and the CA of it, as PEM."""

    anchor: str
    certificate: str
    key: str


def stranger(address: str) -> Stranger:
    """An identity called `stranger` that is right in everything but its CA, which nobody trusts."""
    ca_key, key = new_key(), new_key()
    ca = certificate("stranger CA", ca_key, ca=True, path_length=0)
    leaf = certificate("stranger", key, ca, ca_key, address=address)
    return Stranger(pem(ca), pem(leaf), key_pem(key))


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)
