"""Read a certificate, and judge whether a host can serve with it.

Nothing here signs or writes. `inspect` gives the facts of a certificate; `check_identity`
says in words what keeps a certificate from doing its work. It is stricter than Kea, which
checks the chain and the extended key usage alone (Kea ARM, "TLS/HTTPS Support"): curl and
kea-shell also check the address, and an anchor that signs for others as well would let
others drive the HA listener.

A host's private key never comes here. That it belongs to the certificate is judged by the
public key that the host took from it.
"""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kea_ha.foreign import cut
from kea_ha.refusal import Refusal

SERVER_AUTH = "serverAuth"
CLIENT_AUTH = "clientAuth"
BOTH = frozenset({SERVER_AUTH, CLIENT_AUTH})

EKU = {SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH, CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH}

#: Where systems keep the roots that everything on them trusts: Debian and its kin, Red Hat
#: and its kin, macOS. What is not there is not compared.
SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)

# For a machine without a bundle. The bundle decides; this list only catches the common ones.
_PUBLIC_OPERATORS = (
    "Amazon", "Asseco", "Baltimore", "Buypass", "COMODO", "DigiCert", "Entrust", "GlobalSign",
    "GoDaddy", "Google Trust Services", "IdenTrust", "Internet Security Research Group",
    "Let's Encrypt", "Microsoft", "QuoVadis", "Sectigo", "SSL Corp", "Starfield", "SwissSign",
    "The USERTRUST Network", "ZeroSSL",
)  # fmt: skip

#: A chain has a handful of them; each is compared with each.
_MOST = 20
_PEM_END = b"-----END CERTIFICATE-----"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class PkiError(Refusal):
    """Raised when an identity cannot be made, read or trusted."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of one certificate. Times are UTC and aware."""

    subject: str
    """The common name, or the whole subject where there is none."""
    issuer: str
    addresses: tuple[str, ...]
    """The IP addresses of its subject alternative name."""
    names: tuple[str, ...]
    """The DNS names of its subject alternative name."""
    not_before: datetime
    not_after: datetime
    purposes: frozenset[str]
    """What TLS lets it be used for, of `serverAuth` and `clientAuth`; without an extended
    key usage that is both (RFC 5280, 4.2.1.12)."""
    is_ca: bool

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.not_after - (now or datetime.now(UTC))) // timedelta(days=1)

    def life_left(self, now: datetime | None = None) -> float:
        """The part of its life that is left, 0.0 to 1.0."""
        whole = (self.not_after - self.not_before).total_seconds()
        left = (self.not_after - (now or datetime.now(UTC))).total_seconds()
        return min(1.0, max(0.0, left / whole)) if whole > 0 else 0.0

    def is_due(self, now: datetime | None = None) -> bool:
        """Whether it should be renewed: less than a third of its life is left."""
        return self.life_left(now) < 1 / 3


def inspect(pem: str) -> Certificate:
    """The facts of the first certificate in `pem`; raises PkiError when there is none to read."""
    found = load_certificates(pem, "the certificate")[0]
    try:
        return _facts(found)
    except Exception as error:  # the library lists none of those that odd contents bring about
        raise PkiError(
            f"the certificate has contents that cannot be read ({_words(error)}).",
            "Give one of a kind that OpenSSL makes.",
        ) from error


def check_identity(
    certificate_pem: str,
    anchor_pem: str,
    *,
    public_key_pem: str | None = None,
    address: str | None = None,
    name: str | None = None,
    purposes: Collection[str] = BOTH,
    now: datetime | None = None,
) -> tuple[str, ...]:
    """What keeps this certificate from serving, in words; empty when nothing does.

    `certificate_pem` is the leaf, with its intermediates after it if it has any;
    `anchor_pem` the one or more CAs that the partner trusts; `public_key_pem` the public
    half of the host's key; `purposes` what the certificate must be good for. What is None
    is not compared. Never raises: what cannot be read is a finding.
    """
    now = now or datetime.now(UTC)
    try:
        chain = load_certificates(certificate_pem, "the certificate")
        anchors = load_certificates(anchor_pem, "the trust anchor")
    except PkiError as error:
        return (error.what,)
    leaf = chain[0]
    try:
        return (
            *_anchor_findings(anchors, now),
            *_chain_findings(leaf, chain[1:], anchors, now),
            *_leaf_findings(leaf, purposes, now),
            *_name_findings(_facts(leaf), address, name),
            *_key_findings(leaf, public_key_pem),
        )
    except Exception as error:  # as above
        return (
            "the certificate or its trust anchor has contents that cannot be read: "
            f"{_words(error)}",
        )


def chains(certificate: str, anchor: str) -> bool:
    """Whether a certificate was issued by one of the anchor's CAs, whatever else is wrong with it.

    What cannot be read was not.
    """
    try:
        leaf, *rest = load_certificates(certificate, "the certificate")
        anchors = load_certificates(anchor, "the trust anchor")
        return any(_issuer_of(one, anchors) for one in (leaf, *rest))
    except Exception:  # whatever it was that could not be read
        return False


def are_the_same(one: str, other: str) -> bool:
    """Whether two PEMs hold the same certificates, in whichever order; none are not the same."""
    try:
        return _fingerprints(one) == _fingerprints(other)
    except PkiError:
        return False


def subjects(pem: str) -> str:
    """What the certificates in `pem` are called, in words."""
    try:
        found = load_certificates(pem, "the certificate")
        return " and ".join(_common_name(one.subject) for one in found)
    except Exception:  # whatever it was that could not be read
        return "nothing that can be read"


def _words(error: Exception) -> str:
    return cut(str(error) or type(error).__name__, 200)


def _fingerprints(pem: str) -> frozenset[bytes]:
    found = load_certificates(pem, "the certificate")
    return frozenset(one.fingerprint(hashes.SHA256()) for one in found)


def key_weakness(key: PublicKeyTypes | object) -> str | None:
    """Why this public key must not be used, or None: below 112 bits TLS refuses it anyway."""
    match key:
        case rsa.RSAPublicKey():
            return None if key.key_size >= 2048 else f"RSA with {key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            return None if key.curve.name in _CURVES else f"elliptic curve {key.curve.name}"
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return None
        case _:
            return f"a key of type {type(key).__name__.removesuffix('PublicKey')}"


def load_certificates(pem: str, what: str) -> list[x509.Certificate]:
    """All certificates in `pem`, at least one; raises PkiError, which names it as `what`."""
    if "PRIVATE KEY-----" in pem:
        raise PkiError(
            f"{what} holds a private key beside the certificate.",
            "Keep the key in a file of its own: this one is shown to everybody.",
        )
    try:
        found = x509.load_pem_x509_certificates(pem.encode(errors="replace"))
    except Exception as error:  # as above
        raise PkiError(
            f"{what} is not a readable PEM certificate ({_words(error)}).",
            "Give a file with BEGIN CERTIFICATE in it.",
        ) from error
    if len(found) > _MOST:
        raise PkiError(f"{what} holds {len(found)} certificates.", f"Give {_MOST} at most.")
    return found


def public_key_der(key: PublicKeyTypes) -> bytes:
    """The key's SubjectPublicKeyInfo, by which two keys are the same or not."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _facts(certificate: x509.Certificate) -> Certificate:
    san = _extension(certificate, x509.SubjectAlternativeName)
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    basic = _extension(certificate, x509.BasicConstraints)
    return Certificate(
        subject=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        addresses=tuple(map(str, san.get_values_for_type(x509.IPAddress))) if san else (),
        names=tuple(san.get_values_for_type(x509.DNSName)) if san else (),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        purposes=BOTH if usage is None else frozenset(p for p in EKU if EKU[p] in usage),
        is_ca=basic is not None and basic.ca,
    )


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _anchor_findings(anchors: Sequence[x509.Certificate], now: datetime) -> list[str]:
    findings = []
    for anchor in anchors:
        facts = _facts(anchor)
        who = f"the trust anchor ({facts.subject})"
        if not facts.is_ca:
            findings.append(f"{who} is not a CA certificate")
        elif anchor.subject != anchor.issuer:
            findings.append(
                f"{who} is an intermediate CA of {facts.issuer}: Kea accepts no chain that does "
                "not end in a self-signed root, so the anchor has to be that root"
            )
        if where := _trusted_by_all(anchor):
            findings.append(
                f"{who} {where}: whoever else it signs for could drive the HA listener, so the "
                "pair needs a CA that signs nothing but this pair's certificates"
            )
        findings += _time_findings(facts, who, now)
        if weakness := key_weakness(anchor.public_key()):
            findings.append(f"{who} has a weak key: {weakness}")
    return findings


def _trusted_by_all(anchor: x509.Certificate) -> str | None:
    """Why this anchor vouches for strangers too, or None."""
    key = public_key_der(anchor.public_key())
    for bundle in SYSTEM_BUNDLES:
        if key in _bundle_keys(bundle):
            return f"is one that every program here trusts (it is in {bundle})"
    organisations = anchor.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    for organisation in (str(entry.value) for entry in organisations):
        if organisation.casefold().startswith(tuple(o.casefold() for o in _PUBLIC_OPERATORS)):
            return f"is, by its name, a public CA of {organisation}"
    return None


@cache
def _bundle_keys(bundle: Path) -> frozenset[bytes]:
    """The keys of a bundle's roots (a root is often there under several certificates)."""
    try:
        content = bundle.read_bytes()
    except OSError:
        return frozenset()
    keys = set()
    with warnings.catch_warnings():
        # Some public roots break today's rules for serial numbers, which is not our user's
        # matter. One that cannot be read at all cannot be an anchor that was.
        warnings.simplefilter("ignore")
        for body in content.split(_PEM_END)[:-1]:
            with suppress(ValueError, UnsupportedAlgorithm):
                root = x509.load_pem_x509_certificate(body + _PEM_END)
                keys.add(public_key_der(root.public_key()))
    return frozenset(keys)


def _chain_findings(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    now: datetime,
) -> list[str]:
    """Walk from the leaf to an anchor, as a TLS library does with what it is shown."""
    current, used = leaf, 0
    while True:
        if issuer := _issuer_of(current, anchors):
            limit = _extension(issuer, x509.BasicConstraints)
            if limit and limit.path_length is not None and used > limit.path_length:
                return [f"the trust anchor allows {limit.path_length} intermediate CAs, not {used}"]
            return []
        step = _issuer_of(current, intermediates)
        if step is None or used == len(intermediates):
            break
        used += 1
        facts = _facts(step)
        if not facts.is_ca:
            return [f"{facts.subject}, which issued {_common_name(current.subject)}, is not a CA"]
        if findings := _time_findings(facts, f"the intermediate CA {facts.subject}", now):
            return findings
        current = step
    known = ", ".join(_common_name(anchor.subject) for anchor in anchors)
    return [
        f"the certificate was issued by {_facts(current).issuer} and does not chain to the "
        f"trust anchor ({known})"
    ]


def _issuer_of(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    for candidate in candidates:
        # InvalidSignature, and whatever odd contents bring about: it did not issue this one.
        with suppress(Exception):
            certificate.verify_directly_issued_by(candidate)
            return candidate
    return None


def _leaf_findings(leaf: x509.Certificate, purposes: Collection[str], now: datetime) -> list[str]:
    facts = _facts(leaf)
    findings = _time_findings(facts, "the certificate", now)
    if missing := sorted(set(purposes) - facts.purposes):
        findings.append(
            f"the certificate lacks {' and '.join(missing)} in its extended key usage "
            f"(it has {' and '.join(sorted(facts.purposes)) or 'neither'})"
        )
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        findings.append("the certificate's key usage does not allow digitalSignature")
    digest = leaf.signature_hash_algorithm
    if isinstance(digest, hashes.SHA1 | hashes.MD5):
        findings.append(f"the certificate is signed with {digest.name.upper()}, which is refused")
    return findings


def _time_findings(facts: Certificate, who: str, now: datetime) -> list[str]:
    if now > facts.not_after:
        return [f"{who} expired at {facts.not_after:%Y-%m-%d %H:%M} UTC"]
    if now < facts.not_before:
        return [f"{who} is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC"]
    return []


def _name_findings(facts: Certificate, address: str | None, name: str | None) -> list[str]:
    findings = []
    held = ", ".join((*facts.addresses, *facts.names)) or "nothing"
    if address is not None and not _holds_address(facts.addresses, address):
        findings.append(f"the certificate is not for the address {address} (it names {held})")
    if name is not None and not _is_address(name):
        known = {entry.casefold() for entry in facts.names}
        if name.casefold() not in known:
            findings.append(f"the certificate is not for the name {name} (it names {held})")
    return findings


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _holds_address(addresses: Collection[str], address: str) -> bool:
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ipaddress.ip_address(entry) == wanted for entry in addresses)


def _key_findings(leaf: x509.Certificate, public_key_pem: str | None) -> list[str]:
    findings = []
    if weakness := key_weakness(leaf.public_key()):
        findings.append(f"the certificate has a weak key: {weakness}")
    if public_key_pem is None:
        return findings
    try:
        key = load_pem_public_key(public_key_pem.encode(errors="replace"))
    except (ValueError, UnsupportedAlgorithm) as error:
        return [*findings, f"the host's public key cannot be read ({_words(error)})"]
    if public_key_der(key) != public_key_der(leaf.public_key()):
        findings.append("the certificate does not belong to the host's private key")
    return findings
