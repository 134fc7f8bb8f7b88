"""Make keys and certificates: CAs that sign leaves alone, and leaves for one purpose each.

What a certificate says comes from the arguments. Of a signing request only the public key
is used, after the request has proved to hold the private one and the key is strong enough.
Everything is in memory; where it is kept is `ca_store`'s matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from kea_ha.foreign import cut, is_host_name
from kea_ha.pki.certificates import EKU, PkiError, key_weakness

CA_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=365)
# A host whose clock is behind must not find its new certificate "not yet valid".
BACKDATED = timedelta(hours=1)

#: Of bcrypt_pbkdf, for keys under a passphrase; ssh-keygen's own default is 24.
KDF_ROUNDS = 64

_COMMON_NAME_LIMIT = 64  # RFC 5280, appendix A.1, ub-common-name


def requested_key(csr_pem: str, name: str) -> CertificatePublicKeyTypes:
    """The public key of a signing request that proves to hold the private one.

    Raises PkiError, which says `name`'s request, when it cannot be read or proves nothing, and
    when the key is too weak.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode(errors="replace"))
        genuine = request.is_signature_valid
        key = request.public_key()
    except Exception as error:  # the library lists none of those that odd contents bring about
        raise PkiError(
            f"The signing request of {name} cannot be read ({cut(str(error), 200)}).",
            f"Remove the request on {name} and run again: a new one is made.",
        ) from error
    if not genuine:
        raise PkiError(
            f"The signing request of {name} is not signed by the key that it names.",
            f"Find out who wrote it. Then remove it on {name} and run again.",
        )
    if weakness := key_weakness(key):
        raise PkiError(
            f"The key of {name} is too weak: {weakness}.",
            "Allowed are the curves P-256, P-384, P-521, Ed25519 and RSA from 2048 bits. "
            f"Remove the key on {name} and run again: a new one is made.",
        )
    return key


def make_ca(key: ec.EllipticCurvePrivateKey, title: str, now: datetime) -> x509.Certificate:
    """A CA of ten years that signs leaves, and no other CA."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # With a piece of the key in it the operator can tell a CA from one made anew.
    title = f"{title[: _COMMON_NAME_LIMIT - 9]} {identifier.digest.hex()[:8]}"
    subject = _subject(title)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def sign(
    key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    name: str,
    address: str | None,
    purposes: Collection[str],
    now: datetime,
) -> x509.Certificate:
    """A leaf of one year for `name` at `address`, good for `purposes`.

    Without an address it is a client's, which nobody connects to. Raises PkiError for a name
    or address that cannot stand in a certificate, and when the CA has expired.
    """
    # A leaf that outlives its CA would fail on a day that its own date does not tell.
    end = min(now + LEAF_LIFE, issuer.not_valid_after_utc)
    if end <= now:
        raise PkiError(
            f"The CA {issuer.subject.rfc4514_string()} expired at {end:%Y-%m-%d %H:%M} UTC.",
            "Move its directory away and make new identities for the pair.",
        )
    names = None if address is None else _alternative_names(name, address)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([EKU[purpose] for purpose in sorted(purposes)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _alternative_names(name: str, address: str) -> x509.SubjectAlternativeName:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise PkiError(
            f"The address of {name} is {address!r}, which is not an IP address.",
            "Give the address itself, such as 192.168.1.2; Kea takes no names here.",
        ) from error
    names: list[x509.GeneralName] = [x509.IPAddress(ip)]
    if not is_host_name(name):
        raise PkiError(
            f"The host name {name!r} cannot stand in a certificate.",
            "Allowed are letters, digits, hyphens and dots (RFC 1123).",
        )
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return x509.SubjectAlternativeName(names)
    names.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(names)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_LIMIT])])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    """The key as PEM: PKCS 8 in clear, or as OpenSSH keeps keys under a passphrase.

    That is bcrypt_pbkdf, of which each guess takes half a second; what the library has for an
    encrypted PKCS 8 is 2048 rounds of PBKDF2, a thousand guesses a second.
    """
    if not passphrase:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    derivation = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(KDF_ROUNDS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, derivation.build(passphrase))


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
