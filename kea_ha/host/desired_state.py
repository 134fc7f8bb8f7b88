"""What a host should be like: the settings and a survey of the host, to files and packages.

Pure: everything is computed from the pair and the survey, so that a dry run, a rollout and
``verify.py`` judge a host by the same wishes. A ``Plan`` says what must stand where, by whom it
is owned and how a candidate is checked; ``pending`` says, in words, what of it is not so yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from kea_ha import layout
from kea_ha.host import daemons
from kea_ha.host.daemons import DHCP4, Daemon
from kea_ha.host.survey import RemoteFile, Survey
from kea_ha.kea import config, config_diff
from kea_ha.pki import certificates
from kea_ha.pki.ca_store import Authority
from kea_ha.pki.issue import BACKDATED
from kea_ha.settings.kea_versions import Version
from kea_ha.settings.model import Node, OwnCertificates, Pair

#: What every host gets besides Kea, and why: openssl makes keys and proves handshakes, curl speaks
#: to Kea's sockets, dhcpcd-base asks whether another DHCP server answers.
PREREQUISITES = ("openssl", "curl", "dhcpcd-base")

#: By dpkg's name of an architecture, the directory that its libraries are in.
MULTIARCH = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "armhf": "arm-linux-gnueabihf",
    "i386": "i386-linux-gnu",
    "ppc64el": "powerpc64le-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "s390x": "s390x-linux-gnu",
}


@dataclass(frozen=True)
class Wanted:
    """A file of ours. ``check`` is a command to which the candidate's path is appended."""

    path: str
    content: str
    owner: str = "root:root"
    mode: str = "644"
    check: str = ""

    @property
    def sha256(self) -> str:
        """The digest of the content, to the last byte."""
        return sha256(self.content.encode()).hexdigest()

    def is_as(self, live: RemoteFile | None) -> bool:
        """Whether the host has it as wanted: content, owner and mode."""
        return (
            live is not None
            and live.sha256 == self.sha256
            and (live.mode, live.owner) == (self.mode, self.owner)
        )


@dataclass(frozen=True)
class Plan:
    """All that a host should have; ``files`` in the order in which they are put in place."""

    node: Node
    packages: tuple[str, ...]
    platform: config.Platform
    #: By the process of the daemon that reads it, of those that are wanted.
    documents: Mapping[str, Wanted]
    drop_ins: tuple[Wanted, ...]
    support: tuple[Wanted, ...]
    firewall: tuple[Wanted, ...]
    #: The units of daemons that are not wanted.
    unwanted: tuple[str, ...]

    @property
    def files(self) -> tuple[Wanted, ...]:
        """Every file of the plan."""
        return (*self.documents.values(), *self.drop_ins, *self.support, *self.firewall)

    def document_of(self, daemon: Daemon) -> tuple[Wanted, ...]:
        """What this daemon reads; nothing for one that is not wanted."""
        return tuple(one for name, one in self.documents.items() if name == daemon.process)

    @property
    def dhcp4(self) -> Wanted:
        """The document of kea-dhcp4."""
        return self.documents[DHCP4.process]


def installed(pair: Pair, survey: Survey) -> str | None:
    """The version of Kea's package on this host; None before the rollout."""
    return survey.packages.get(DHCP4.of(pair).package)


def version_of(pair: Pair, survey: Survey) -> Version | None:
    """The Kea that runs on this host, or would be installed; None when there is none to be had."""
    text = installed(pair, survey) or candidate(pair, survey)
    try:
        return Version.parse(text) if text else None
    except ValueError:
        return None  # a package by that name, and no Kea


def candidate(pair: Pair, survey: Survey) -> str | None:
    """The version that apt would install from the configured source."""
    package = DHCP4.of(pair).package
    rows = survey.candidates.get(package, ())
    if pair.settings.package_source == "backports":
        suite = f"{survey.codename}-backports/"
        return next((version for version, source in rows if suite in source), None)
    return next((version for version, source in rows if source == "candidate"), None)


def make_plan(pair: Pair, node: Node, survey: Survey) -> Plan:
    """What ``node`` should be like. The survey must know a Kea version and the interface."""
    version = version_of(pair, survey)
    interface = interface_of(node, survey)
    place = MULTIARCH.get(survey.architecture)
    if version is None or interface is None or place is None:
        raise ValueError("pre-flight has to pass before a plan can be made")
    platform = config.Platform(version, f"/usr/lib/{place}/kea/hooks")
    wanted = daemons.wanted(pair.settings)
    firewalled = pair.settings.firewall == "nftables"
    return Plan(
        node=node,
        packages=(*(one.of(pair).package for one in wanted), *(("nftables",) * firewalled)),
        platform=platform,
        documents={
            one.process: Wanted(
                one.document,
                one.render(pair, node, platform, interface),
                owner="root:_kea",
                mode="640",
                check=_check(one.process, one.check_flag(version)),
            )
            for one in wanted
        },
        drop_ins=tuple(
            Wanted(one.of(pair).drop_in, one.drop_in(survey.codename)) for one in wanted
        ),
        support=tuple(_support()),
        firewall=tuple(_firewall(pair, node)) if firewalled else (),
        unwanted=tuple(one.of(pair).unit for one in daemons.DAEMONS if one not in wanted),
    )


def interface_of(node: Node, survey: Survey) -> str | None:
    """The interface to serve on: as configured, or the one that carries the address."""
    found = survey.interface_with(node.address)
    if node.interface is None:
        return found.name if found else None
    return node.interface if found and found.name == node.interface else None


def _check(daemon: str, flag: str) -> str:
    # As the service's own user, since AppArmor and file modes differ for root; runuser asks PAM
    # for less than su does, which refuses Debian testing's expired account. Kea's own lock file
    # for log rotation is where the service may write, and not this check.
    # Since 2.6.3 the check wants the socket's directory, which systemd makes only at the start.
    return (
        f"[ -d {layout.RUN_DIR} ] || install -d -o _kea -g _kea -m 0750 {layout.RUN_DIR}; "
        f"env KEA_LOCKFILE_DIR=none runuser -u _kea -- {daemon} {flag}"
    )


def _support() -> Iterable[Wanted]:
    for unit in (layout.EXPIRY_UNIT, layout.EXPIRY_TIMER):
        yield Wanted(f"{layout.UNIT_DIR}/{unit}", config.read_file(unit))


def _firewall(pair: Pair, node: Node) -> Iterable[Wanted]:
    yield Wanted(
        layout.FIREWALL_CONF,
        config.render_firewall(pair, node),
        mode="600",
        check="nft -c -f",
    )
    yield Wanted(layout.FIREWALL_UNIT_FILE, config.read_file(layout.FIREWALL_UNIT))


def pending(plan: Plan, survey: Survey) -> tuple[str, ...]:
    """What would change on this host, one line each; empty when the host is as planned."""
    found = [f"install {package}" for package in plan.packages if package not in survey.packages]
    for wanted in plan.files:
        found += file_changes(wanted, survey)
    found += [f"stop and disable {unit}" for unit in plan.unwanted if survey.unit(unit).is_active]
    if not plan.firewall and survey.firewall:
        found.append(f"remove the firewall table {layout.FIREWALL_TABLE}")
    return tuple(found)


def file_changes(wanted: Wanted, survey: Survey) -> list[str]:
    """What would change of one file, in words; secrets in documents are masked."""
    live = survey.files.get(wanted.path)
    if live is None:
        return [f"write {wanted.path}"]
    if wanted.is_as(live):
        return []
    if live.sha256 == wanted.sha256:
        return [f"give {wanted.path} back to {wanted.owner}, mode {wanted.mode}"]
    if not wanted.path.endswith(".conf") or ".d/" in wanted.path:
        return [f"rewrite {wanted.path}"]
    try:
        before = config_diff.parse_document(live.content or "{}")
    except ValueError:
        return [f"rewrite {wanted.path} (what stands there cannot be read)"]
    changed = config_diff.differences(before, config_diff.parse_document(wanted.content))
    return [f"{wanted.path}: {one}" for one in changed] or [f"{wanted.path}: comments only"]


def certificates_in_use(pair: Pair, survey: Survey) -> dict[str, str]:
    """The host's certificates, PEM by path, without those for API clients where none are served."""
    unused = layout.API_FILES if pair.settings.control_channel == "none" else ()
    return {path: pem for path, pem in survey.certificates.items() if path not in unused}


def identity_findings(
    node: Node,
    survey: Survey,
    which: str,
    authority: Authority,
    renew_before: datetime | None = None,
) -> tuple[str, ...]:
    """What is wrong with an identity of the host, by the host's own clock; nothing when it is good.

    ``which`` is ``ha`` (towards the partner) or ``api``. The private key is matched by its public
    half. A good certificate that was issued before ``renew_before`` is made anew all the same.
    """
    base = f"{layout.TLS_DIR}/{which}"
    certificate = survey.certificates.get(f"{base}.crt")
    anchor = survey.certificates.get(f"{base}-ca.crt")
    if certificate is None or anchor is None:
        return (f"{node.name} has no {which} certificate yet",)
    found = certificates.check_identity(
        certificate,
        authority.issuer,
        public_key_pem=survey.public_keys.get(f"{base}.key", ""),
        address=node.address,
        name=node.name,
        purposes=certificates.BOTH if which == "ha" else (certificates.SERVER_AUTH,),
        now=survey.time,
    )
    if not found:
        held = certificates.inspect(certificate)
        if held.is_due(survey.time):
            days = held.days_left(survey.time)
            found = (f"valid for {days} more days, less than a third of its life",)
        elif renew_before is not None and held.not_before + BACKDATED < renew_before:
            found = ("to be renewed now, as asked",)
        elif not certificates.are_the_same(anchor, authority.trusted):
            found = (_trust(anchor, authority),)
    return tuple(f"{base}.crt: {finding}" for finding in found)


def _trust(anchor: str, authority: Authority) -> str:
    trusted = certificates.subjects(authority.trusted)
    return f"the anchor beside it trusts {certificates.subjects(anchor)}, and is to trust {trusted}"


def own_findings(node: Node, own: OwnCertificates, survey: Survey) -> tuple[str, ...]:
    """What is wrong with the identity that the host brings itself, before any of it is used."""
    read = survey.certificates
    missing = [path for path in (own.certificate, own.anchor) if path not in survey.files]
    missing += [own.key] if own.key not in survey.files else []
    if missing:
        return tuple(f"{path} is not there" for path in missing)
    with_keys = [p for p in (own.certificate, own.anchor) if p in survey.with_keys]
    if with_keys:
        return tuple(
            f"{path} holds a private key beside the certificate, which everybody may read: keep "
            "the key in a file of its own"
            for path in with_keys
        )
    found = certificates.check_identity(
        read.get(own.certificate, ""),
        read.get(own.anchor, ""),
        public_key_pem=survey.public_keys.get(own.key, ""),
        address=node.address,
        purposes=certificates.BOTH,
        now=survey.time,
    )
    return tuple(f"{own.certificate}: {finding}" for finding in found)


def own_is_in_use(own: OwnCertificates, survey: Survey) -> bool:
    """Whether Kea's copies of the host's own identity are the same as the files themselves."""
    sha256s = {path: file.sha256 for path, file in survey.files.items()}
    public = survey.public_keys
    return (
        sha256s.get(own.certificate, "") == sha256s.get(layout.HA_CERTIFICATE)
        and sha256s.get(own.anchor, "") == sha256s.get(layout.HA_ANCHOR)
        and public.get(own.key, "") == public.get(layout.HA_KEY)
    )


def same_file(survey: Survey, one: str, other: str) -> bool:
    """Whether two files of the host have the same content."""
    digests = [survey.files[path].sha256 if path in survey.files else "" for path in (one, other)]
    return digests[0] == digests[1] != ""


def stale_inputs(plan: Plan, survey: Survey, unit: str) -> tuple[str, ...]:
    """Why the running service is not what would be started now, in words; nothing if it is.

    The unit's drop-in notes at each start what it was made from, also when systemd restarts it.
    """
    noted = survey.started_from.get(unit)
    if noted is None:
        return ("it is not known what it was started from",)
    now = {path: file.sha256 for path, file in survey.files.items() if file.sha256 != "-"}
    now |= {wanted.path: wanted.sha256 for wanted in plan.files}
    changed = [path for path, digest in noted.items() if now.get(path, digest) != digest]
    return tuple(f"it was started before {path} was changed" for path in changed)
