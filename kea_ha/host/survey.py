"""What one host is like, read in one remote command.

The script runs under plain ``sh`` with coreutils, awk, dpkg, systemd and iproute2, changes nothing,
and never fails because something is not there yet: what is missing is reported as missing. Each
value travels in a frame of its own (``frames``), so that no byte of it is taken for another one.
``parse_survey`` turns them into a frozen ``Survey``, which pre-flight, the documents, the
acceptance and ``verify.py`` share, so that no fact is read twice and each sees the same host.

Where only root can put anything, root reads. Where Kea's user can (its leases, its log, its
socket, and /etc/kea of a host that is not ours yet), that user reads, with limits of size and of
time: it could have put a link, a pipe or a file without end there.

No private key and no password is ever read: of a key only its public half leaves the host, of a
file of certificates only the certificates, and of documents only those that this project writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from kea_ha import foreign, layout
from kea_ha.foreign import ForeignError
from kea_ha.host import daemons, frames
from kea_ha.host.daemons import DHCP4
from kea_ha.host.mark import Mark
from kea_ha.host.script import script
from kea_ha.kea import config_in_use, log_file, status
from kea_ha.kea.config_in_use import Running
from kea_ha.kea.lease_file import FILES
from kea_ha.kea.log_file import LogLine
from kea_ha.kea.status import ServerStatus
from kea_ha.settings.model import OwnCertificates

#: Packages whose version decides something. ISC's own packages carry other names.
PACKAGES = (
    *daemons.PACKAGES,
    *("kea-common", "openssl", "curl", "dhcpcd-base", "nftables"),
)
#: Units that we run, and units that would answer DHCP clients beside us.
UNITS = (
    *daemons.UNITS,
    layout.FIREWALL_UNIT,
    layout.EXPIRY_TIMER,
    *layout.FOREIGN_UNITS,
)
#: Programs that a rollout cannot do without, and that a host may lack.
_TOOLS = ("ip", "ss", "systemctl", "apt-get")
#: Our own state on a host, and the notes of what each service was started from.
_STATE = (
    layout.OWNER_FILE,
    layout.UNFINISHED_FILE,
    layout.ACCEPTED_FILE,
    layout.MAINTENANCE_FILE,
)
_STARTED = tuple(f"{layout.STARTED_DIR}/{unit}" for unit in UNITS)
#: What is in Kea's own directory of documents.
_IN_CONF_DIR = tuple(p for p in daemons.DOCUMENTS if p.startswith(f"{layout.CONF_DIR}/"))
_CERTIFICATES = (*layout.HA_FILES, *layout.API_FILES)
_SECRETS = (*layout.KEYS, layout.API_PASSWORD_FILE)

# Limits, in bytes. A document with 5000 reservations has 1 MB.
_FILE_SIZE: Final = 4 << 20
_FILES_SIZE: Final = 8 << 20
_LOG_TAKEN: Final = 8 << 20
#: Of each kind of message in the log the last ones, so many.
_OF_A_KIND: Final = 300
#: Of all kinds together: Kea has some sixty that tell of a pair.
_MOST_MESSAGES: Final = 100 * _OF_A_KIND
_YEARS = range(2000, 2200)


@dataclass(frozen=True)
class RemoteFile:
    """A file of ours on a host: ``mode`` in octal digits, ``owner`` as ``user:group``.

    ``sha256`` is ``-`` for a secret, which is not read.
    """

    mode: str
    owner: str
    sha256: str
    content: str | None = None


@dataclass(frozen=True)
class Unit:
    """What systemd says of one unit (``systemctl show``)."""

    name: str
    load: str = "not-found"
    enabled: str = ""
    active: str = "inactive"
    main_pid: int = 0
    restarts: int = 0

    @property
    def exists(self) -> bool:
        """Whether the unit is installed. A unit that we masked before its package came is not."""
        return self.load not in ("not-found", "masked")

    @property
    def is_active(self) -> bool:
        """Whether it runs, or is on its way to running."""
        return self.active in ("active", "activating", "reloading")


@dataclass(frozen=True)
class Listener:
    """A bound socket: protocol ``tcp`` or ``udp``, and the processes that hold it."""

    protocol: str
    address: str
    port: int
    processes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Interface:
    """A network interface and its IPv4 addresses, without prefix lengths."""

    name: str
    up: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """One host at one moment. Times: ``epoch`` in seconds UTC, ``local`` in the host's own zone."""

    distribution: str
    codename: str
    release: str
    architecture: str
    epoch: float
    local: datetime
    cpus: int
    missing_tools: tuple[str, ...]
    packages: Mapping[str, str]
    candidates: Mapping[str, tuple[tuple[str, str], ...]]
    interfaces: tuple[Interface, ...]
    listeners: tuple[Listener, ...]
    units: Mapping[str, Unit]
    executable: str
    files: Mapping[str, RemoteFile]
    certificates: Mapping[str, str]
    #: Files of certificates that hold a private key beside them, which has not left the host.
    with_keys: frozenset[str]
    public_keys: Mapping[str, str]
    mark: Mark
    #: By unit: the digest of each file that it was started from, by path.
    started_from: Mapping[str, Mapping[str, str]]
    kept: Mapping[str, RemoteFile]
    kept_settings: str
    #: Of each directory that an accepted state is kept in, that state's name.
    kept_names: Mapping[str, str]
    #: Whether our table is loaded.
    firewall: bool
    #: Whether a lease file has any row.
    leases: bool
    lease_headers: Mapping[str, str]
    #: What Kea says of itself; None when it does not, and then why.
    status: ServerStatus | None
    status_error: str
    #: Of each kind of message the last ones, in the order in which they were logged.
    log: tuple[LogLine, ...]
    #: How far back the log reaches: what was logged before has been lost. None without a log.
    log_since: datetime | None

    @property
    def time(self) -> datetime:
        """The host's own idea of the time, in UTC."""
        return datetime.fromtimestamp(self.epoch, UTC)

    @property
    def runs_old_program(self) -> bool:
        """Whether the kea-dhcp4 that runs is no longer the installed one."""
        return self.executable.endswith("(deleted)")

    def unit(self, name: str) -> Unit:
        """The unit called ``name``, also when the host has none such."""
        return self.units.get(name, Unit(name))

    def text(self, path: str) -> str | None:
        """The content of the file of ours at ``path``; None when it is not there."""
        found = self.files.get(path)
        return found.content if found else None

    @property
    def ha_state(self) -> str | None:
        """The HA state of its server; None when it does not answer, or has no HA."""
        return self.status.ha.local.state if self.status and self.status.ha else None

    @property
    def answers(self) -> bool:
        """Whether its server runs, and is not in the maintenance that only a restart ends."""
        return self.ha_state not in (None, status.IN_MAINTENANCE)

    @property
    def serves(self) -> bool:
        """Whether its server answers clients at this moment, by its own account."""
        return self.status is not None and self.status.serves

    @property
    def in_use(self) -> Running | None:
        """What the live document gives the server; None when there is none, or none of ours."""
        return _in_use(self.files.get(layout.KEA_CONF))

    @property
    def accepted_in_use(self) -> Running | None:
        """What the document gave it that was last accepted; None when none is kept."""
        return _in_use(self.kept.get(layout.KEA_CONF))

    def interface_with(self, address: str) -> Interface | None:
        """The interface that carries ``address``, if one does."""
        return next((i for i in self.interfaces if address in i.addresses), None)

    def holders(self, protocol: str, port: int) -> tuple[Listener, ...]:
        """The sockets bound to ``port``, on whichever address."""
        return tuple(s for s in self.listeners if s.protocol == protocol and s.port == port)

    def dhcp_units(self, among: Iterable[str]) -> tuple[str, ...]:
        """The units ``among`` these that serve DHCP: a dnsmasq may be there for DNS alone."""
        serving = {pid for one in self.holders("udp", 67) for _, pid in one.processes}
        return tuple(
            name
            for name in among
            if self.unit(name).is_active and self.unit(name).main_pid in serving
        )


def _in_use(document: RemoteFile | None) -> Running | None:
    return config_in_use.read(document.content) if document and document.content else None


@dataclass(frozen=True)
class Question:
    """What a survey asks of a host.

    ``own``: identity files that the host brings itself; ``kept``: the accepted state to tell of,
    the last one or another; ``partner``: the address that its partner's connections come from.
    """

    own: OwnCertificates | None = None
    kept: str = layout.KEPT_DIR
    partner: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The private keys of which the public half is asked for."""
        return (*layout.KEYS, *((self.own.key,) if self.own else ()))

    @property
    def own_files(self) -> tuple[str, ...]:
        """The host's own certificate, anchor and key, if it brings them."""
        return (self.own.certificate, self.own.anchor, self.own.key) if self.own else ()

    @property
    def own_certificates(self) -> tuple[str, ...]:
        """Those of them that are certificates."""
        return self.own_files[:2]

    @property
    def kept_settings(self) -> str:
        """The settings with which the state that is told of was accepted."""
        return f"{self.kept}/{layout.KEPT_SETTINGS}"

    @property
    def roots(self) -> tuple[str, ...]:
        """What lies in directories of root's alone, and is read as it is."""
        return (
            *(path for path in daemons.DOCUMENTS if path not in _IN_CONF_DIR),
            *(f"{self.kept}{path}" for path in daemons.DOCUMENTS),
            self.kept_settings,
            *_NAMES,
            *_STATE,
            *_STARTED,
        )

    @property
    def kept_certificates(self) -> tuple[str, ...]:
        """The certificates of the kept state, of which only the digest is asked for."""
        return tuple(f"{self.kept}{path}" for path in _CERTIFICATES)


#: Where accepted states are kept for an undo, and where each has its name.
_KEPT_PLACES = (layout.KEPT_DIR, layout.KEPT_BEFORE_DIR)
_NAMES = tuple(f"{place}/{layout.KEPT_NAME}" for place in _KEPT_PLACES)

#: The values that a survey sends.
_KNOWN = (
    *("host", "os", "packages", "policy", "interfaces", "sockets", "units", "executable.*"),
    *("attributes", "contents", "conf_attributes", "conf.*", "certificates", "digests"),
    *("own_attributes", "own_certificates", "own_with_keys", "public.*"),
    *("firewall", "lease_file.*", "status", "log"),
)


#: Those of which there may be more than is usual, in bytes.
_LARGEST = {"contents": _FILES_SIZE, "conf": _FILE_SIZE, "log": _LOG_TAKEN}


def build_script(question: Question) -> str:
    """The survey as one shell script."""
    read_log = script(
        "read_log",
        files=(*(f"{layout.LOG}.{number}" for number in range(20, 0, -1)), layout.LOG),
        of_a_kind=_OF_A_KIND,
        partner=question.partner or "nobody",
    )
    text = script(
        *("as_kea", "survey"),
        tools=_TOOLS,
        packages=PACKAGES,
        candidates=daemons.PACKAGES,
        units=UNITS,
        roots=question.roots,
        documents=_IN_CONF_DIR,
        certificates=_CERTIFICATES,
        secrets=_SECRETS,
        kept_certificates=question.kept_certificates,
        own=question.own_files,
        own_certificates=question.own_certificates,
        keys=question.keys,
        file_size=_FILE_SIZE,
        files_size=_FILES_SIZE,
        lease_files=FILES,
        status_get=json.dumps({"command": "status-get"}),
        read_log=read_log,
        log_taken=_LOG_TAKEN,
    )
    return frames.framed(text)


def parse_survey(answer: bytes, question: Question) -> Survey:
    """Turn what the script printed into a ``Survey``.

    :raises ForeignError: when it is cut short, or says something that cannot be.
    """
    frames_ = frames.read(answer, _KNOWN, _LARGEST)

    def said(name: str) -> bytes:
        return frames_.get(name, b"")

    def texts(paths: Iterable[str]) -> dict[str, str]:
        found = ((path, roots[path].content or "") for path in paths if path in roots)
        return {path: text.removesuffix("\n") for path, text in found}

    host = list(foreign.lines(said("host")))
    if len(host) < 3:
        raise ForeignError("the answer does not tell what host it is from")
    epoch, local = _clock(host[0])
    system = _os_release(said("os"))
    units = _units(said("units"))
    roots = _read_by_root(said("attributes"), said("contents"), (*question.roots, *_IN_CONF_DIR))
    headers, leases = _lease_files(frames_)
    reported, unknown = _status(frames_.get("status"))
    since, log = _log(said("log"))
    return Survey(
        distribution=system.get("ID", "unknown"),
        codename=system.get("VERSION_CODENAME", ""),
        release=system.get("VERSION_ID", ""),
        architecture=foreign.architecture(host[2]),
        epoch=epoch,
        local=local,
        cpus=foreign.number(host[1], 100_000),
        missing_tools=tuple(foreign.only(_TOOLS, tool) for tool in host[3:]),
        packages=_packages(said("packages")),
        candidates=_policy(said("policy")),
        interfaces=tuple(parse_interfaces(said("interfaces"))),
        listeners=tuple(_listeners(said("sockets"))),
        units=units,
        executable=_executable(units, frames_),
        files=_files(frames_, question, roots),
        certificates=_certificates(said("certificates"), _CERTIFICATES)
        | _certificates(said("own_certificates"), question.own_certificates),
        with_keys=frozenset(
            _nth(question.own_certificates, line) for line in foreign.lines(said("own_with_keys"))
        ),
        public_keys={
            path: foreign.text(frames_[f"public.{number}"])
            for number, path in enumerate(question.keys)
            if f"public.{number}" in frames_
        },
        mark=Mark.parse(texts(_STATE)),
        started_from={_name(path): _noted(text) for path, text in texts(_STARTED).items()},
        kept=_kept(said("digests"), question, roots),
        kept_settings=texts([question.kept_settings]).get(question.kept_settings, ""),
        kept_names={path.rpartition("/")[0]: _state_name(t) for path, t in texts(_NAMES).items()},
        firewall=bool(said("firewall").strip()),
        leases=leases,
        lease_headers=headers,
        status=reported,
        status_error=unknown,
        log=log,
        log_since=since,
    )


def _clock(line: str) -> tuple[float, datetime]:
    """The host's time: seconds since the epoch, and what its own clock shows."""
    match = _CLOCK.fullmatch(line)
    try:
        if match and int(match["year"]) in _YEARS:
            return float(match["epoch"]), datetime.fromisoformat(match["local"])
    except ValueError:
        pass
    raise ForeignError(f"{foreign.cut(line, 60)!r} is no time")


_CLOCK = re.compile(
    r"(?P<epoch>[0-9]{9,11}\.[0-9]{1,9}) "
    r"(?P<local>(?P<year>[0-9]{4})-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3})"
)


def _os_release(said: bytes) -> dict[str, str]:
    """os-release(5): names of a distribution are plain words."""
    found = (_OS.fullmatch(line) for line in foreign.lines(said))
    return {one["name"]: one["value"] for one in found if one}


_OS = re.compile(r"""(?P<name>[A-Z_]+)=(["']?)(?P<value>[A-Za-z0-9._-]{0,40})\2""")


def _packages(said: bytes) -> dict[str, str]:
    """Installed packages only: ``ii``, and half-installed ones are not installed."""
    rows = (line.split(" ") for line in foreign.lines(said))
    return {
        foreign.only(PACKAGES, row[0]): foreign.version(row[-1])
        for row in rows
        # The abbreviation is of three letters, of which the last is mostly a blank.
        if len(row) == 4 and row[1:3] == ["ii", ""]
    }


def _policy(said: bytes) -> dict[str, tuple[tuple[str, str], ...]]:
    """``apt-cache policy``: for each package (version, suite line), the candidate first.

    The candidate comes as the pair ``(version, "candidate")``; after it each version of the table
    with the sources that have it, one pair for each source line.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    rows: list[tuple[str, str]] = []
    version = ""
    for line in foreign.lines(said):
        words = line.split()
        if line and not line[0].isspace():
            rows = found[foreign.only(daemons.PACKAGES, line.rstrip(":"))] = []
        elif words[:1] == ["Candidate:"] and len(words) == 2:
            if words[1] != "(none)":
                rows.append((foreign.version(words[1]), "candidate"))
        elif line.startswith((" *** ", "     ")) and 0 < len(words) <= 3 and "/" not in line:
            version = foreign.version(next((word for word in words if word != "***"), ""))
        elif line.startswith("        ") and version:
            rows.append((version, line.strip()))
    return {name: tuple(all_rows) for name, all_rows in found.items()}


def parse_interfaces(said: bytes) -> Iterator[Interface]:
    """``ip -j addr show``. An interface that no shell script could be given is left out.

    :raises ForeignError: when it is something else.
    """
    told = foreign.json_value(said, "what ip tells") if said.strip() else []
    if not isinstance(told, list):
        raise ForeignError("what ip tells is no list of interfaces")
    for one in told:
        match one:
            case {"ifname": str(name), "flags": list(flags), "addr_info": list(entries)}:
                addresses = tuple(
                    foreign.ipv4(address)
                    for entry in entries
                    for family, address in [_family(entry)]
                    if family == "inet"
                )
                if foreign.is_interface(name):
                    yield Interface(name, "UP" in flags and "LOWER_UP" in flags, addresses)


def _family(entry: object) -> tuple[str, str]:
    match entry:
        case {"family": str(family), "local": str(address)}:
            return family, address
    return "", ""


def _listeners(said: bytes) -> Iterator[Listener]:
    """``ss -Hlntup``. A process may have any name: of a row that is strange it is not known."""
    for line in foreign.lines(said):
        found = _SOCKET.fullmatch(line.rstrip())
        if found is None:
            continue
        holders = found["holders"] or ""
        named = _HOLDER.findall(holders) if _HOLDERS.fullmatch(holders) else ()
        processes = tuple((name, foreign.number(pid)) for name, pid in named)
        address = found["address"].partition("%")[0].strip("[]")
        yield Listener(found["protocol"], address, foreign.number(found["port"], 65535), processes)


_SOCKET = re.compile(
    r"(?P<protocol>tcp|udp) +(?:LISTEN|UNCONN|ESTAB) +[0-9]+ +[0-9]+ +"
    r"(?P<address>[^ ]+):(?P<port>[0-9]{1,5}) +[^ ]+(?: +users:(?P<holders>.*))?"
)
# The kernel keeps 15 bytes of a process's name, which is too little to forge a row with.
_HOLDER = re.compile(r'\("([^"]*)",pid=([0-9]{1,10}),fd=[0-9]+\)')
_HOLDERS = re.compile(rf"\({_HOLDER.pattern}(?:,{_HOLDER.pattern})*\)")


def _units(said: bytes) -> dict[str, Unit]:
    """``systemctl show``: a block for each unit that was asked for, in that order.

    By position, since a block of an alias would name another unit. No block at all comes from a
    host without systemd.
    """
    text = foreign.text(said).strip("\n")
    blocks = text.split("\n\n") if text else [""] * len(UNITS)
    if len(blocks) != len(UNITS):
        raise ForeignError(f"systemd told of {len(blocks)} units, and {len(UNITS)} were asked for")
    return {name: _unit(name, block) for name, block in zip(UNITS, blocks, strict=True)}


def _unit(name: str, block: str) -> Unit:
    found = (_PROPERTY.fullmatch(line) for line in block.split("\n"))
    values = {one["name"]: one["value"] for one in found if one}
    return Unit(
        name=name,
        load=values.get("LoadState", "not-found"),
        enabled=values.get("UnitFileState", ""),
        active=values.get("ActiveState", "inactive"),
        main_pid=foreign.number(values.get("MainPID") or "0"),
        restarts=foreign.number(values.get("NRestarts") or "0"),
    )


_PROPERTY = re.compile(r"(?P<name>[A-Za-z]+)=(?P<value>[a-z0-9-]*)")


def _executable(units: Mapping[str, Unit], said: Mapping[str, bytes]) -> str:
    """The program that the running kea-dhcp4 was started from; empty when none runs."""
    for unit in DHCP4.units:
        path = said.get(f"executable.{units[unit].main_pid}")
        if path is not None:
            return foreign.text(path)
    return ""


# Files ---------------------------------------------------------------------------------------


def _read_by_root(
    attributes: bytes, contents: bytes, asked: Collection[str]
) -> dict[str, RemoteFile]:
    """Files of which the sizes and modes were told, and then all of their bytes in one go."""
    found: dict[str, RemoteFile] = {}
    begin = 0
    for line in foreign.lines(attributes):
        size, _, rest = line.partition(" ")
        path, mode, owner = _attribute(rest, asked)
        content = contents[begin : begin + foreign.number(size)]
        begin += foreign.number(size)
        found[path] = _file(mode, owner, content)
    if begin != len(contents):
        raise ForeignError("a file was changed while it was read, or is too large")
    return found


def _attribute(line: str, asked: Collection[str]) -> tuple[str, str, str]:
    mode, _, rest = line.partition(" ")
    owner, _, path = rest.partition(" ")
    return foreign.only(asked, path), foreign.mode(mode), foreign.owner(owner)


def _file(mode: str, owner: str, content: bytes) -> RemoteFile:
    return RemoteFile(mode, owner, sha256(content).hexdigest(), foreign.text(content))


def _files(
    said: Mapping[str, bytes], question: Question, roots: Mapping[str, RemoteFile]
) -> dict[str, RemoteFile]:
    """Our files by their path; one that went away while the script ran is not there."""
    found = {path: one for path, one in roots.items() if path in daemons.DOCUMENTS}
    asked = (*_IN_CONF_DIR, *_CERTIFICATES, *_SECRETS, *question.own_files)
    told = said.get("conf_attributes", b"") + said.get("own_attributes", b"")
    digests = _digests(said.get("digests", b""), question)
    for path, mode, owner in (_attribute(line, asked) for line in foreign.lines(told)):
        if path in _IN_CONF_DIR:
            content = said.get(f"conf.{_IN_CONF_DIR.index(path)}")
            if content is not None:
                found[path] = _file(mode, owner, content)
        elif path in (*_CERTIFICATES, *question.own_certificates):
            # Where Kea's user could change it at any moment, its digest is not asked for.
            found[path] = RemoteFile(mode, owner, digests.get(path, "not known"))
        else:
            found[path] = RemoteFile(mode, owner, "-")
    return found


def _kept(
    digests: bytes, question: Question, roots: Mapping[str, RemoteFile]
) -> dict[str, RemoteFile]:
    """What is kept of an accepted state, by where it stands when it is in use."""
    documents = {path: roots.get(f"{question.kept}{path}") for path in daemons.DOCUMENTS}
    found = {path: one for path, one in documents.items() if one is not None}
    for path, digest in _digests(digests, question).items():
        if path in question.kept_certificates:
            found[path.removeprefix(question.kept)] = RemoteFile("-", "-", digest)
    return found


def _digests(said: bytes, question: Question) -> dict[str, str]:
    """``sha256sum -z``: digest and path of each file."""
    asked = (*_CERTIFICATES, *question.kept_certificates, *question.own_certificates)
    rows = (row.partition("  ") for row in foreign.text(said).split("\0") if row)
    return {foreign.only(asked, path): foreign.digest(digest) for digest, _, path in rows}


def _noted(text: str) -> dict[str, str]:
    """What a unit's drop-in notes at each start, as ``sha256sum`` prints it."""
    rows = (line.partition("  ") for line in text.split("\n"))
    return {path: digest for digest, _, path in rows if path}


def _certificates(said: bytes, asked: Sequence[str]) -> dict[str, str]:
    """The certificates of each file, PEM; of one that holds none there is nothing."""
    found: dict[str, list[str]] = {}
    mine: list[str] = []
    for line in foreign.lines(said):
        if line.startswith("@"):
            mine = found.setdefault(_nth(asked, line[1:]), [])
        else:
            mine.append(line.rstrip("\r"))
    return {path: "".join(f"{line}\n" for line in pem) for path, pem in found.items()}


def _nth(asked: Sequence[str], number: str) -> str:
    return asked[foreign.number(number, len(asked) - 1)]


def _state_name(text: str) -> str:
    """The name of an accepted state; empty if it is none, and nothing can be put back by it."""
    try:
        return foreign.state_name(text)
    except ForeignError:
        return ""


def _name(path: str) -> str:
    return path.rpartition("/")[2]


# What Kea's user tells -----------------------------------------------------------------------


def _lease_files(said: Mapping[str, bytes]) -> tuple[dict[str, str], bool]:
    """The first row of each lease file, and whether any of them has another one."""
    headers, leases = {}, False
    for number, path in enumerate(FILES):
        begin = said.get(f"lease_file.{number}")
        if begin is not None:
            headers[path] = foreign.text(begin[:300].partition(b"\n")[0])
            leases = leases or re.search(rb"\n[0-9]", begin) is not None
    return headers, leases


def _status(said: bytes | None) -> tuple[ServerStatus | None, str]:
    """What Kea reports of itself; or nothing, and why."""
    if said is None:
        return None, "its control socket is not there"
    try:
        reply = foreign.json_value(said, "its answer")
    except ForeignError:
        words = foreign.cut(said, 200) or "nothing came back"
        return None, f"its control socket gave no answer: {words}"
    try:
        return status.parse_status(reply), ""
    except ForeignError as error:
        return None, str(error)


def _log(said: bytes) -> tuple[datetime | None, tuple[LogLine, ...]]:
    """The messages that were taken of the log, in its order, and how far back it reaches."""
    since = None
    numbered: list[tuple[int, str]] = []
    for line in foreign.lines(said):
        if len(numbered) > _MOST_MESSAGES:
            raise ForeignError("its log comes with more messages than were asked for")
        number, _, text = line.partition(":")
        if number == "since":
            since = log_file.time_of(text)
        elif foreign.is_number(number):
            numbered.append((int(number), text))
    return since, log_file.parse_log(text for _, text in sorted(numbered))
