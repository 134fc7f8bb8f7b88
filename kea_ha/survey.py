"""What one host is like, read in one remote command.

``SCRIPT`` runs under plain ``sh`` with coreutils, dpkg, systemd and iproute2, changes nothing,
and never fails because something is not there yet: what is missing is reported as missing.
``parse_survey`` turns what it printed into a frozen ``Survey``, which pre-flight, the documents,
the acceptance and ``verify.py`` share, so that no fact is read twice and each sees the same host.

No private key and no password is ever read: of a key only its public half leaves the host, and of
documents only those that this project writes.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kea_ha import layout
from kea_ha.leases import FILES
from kea_ha.model import OwnCertificates

#: Packages whose version decides something. ISC's own packages carry other names.
PACKAGES = (
    "kea-dhcp4-server",
    "kea-ctrl-agent",
    "kea-common",
    "isc-kea-dhcp4",
    "isc-kea-ctrl-agent",
    "openssl",
    "curl",
    "dhcpcd-base",
    "nftables",
)
#: Units that we run, and units that would answer DHCP clients beside us.
UNITS = (
    layout.DEBIAN.dhcp4_unit,
    layout.DEBIAN.agent_unit,
    layout.ISC.dhcp4_unit,
    layout.ISC.agent_unit,
    layout.FIREWALL_UNIT,
    layout.EXPIRY_TIMER,
    *layout.FOREIGN_UNITS,
)
#: What the log excerpt keeps. Per-packet lines are left behind, since a busy server writes
#: megabytes of them between two heartbeats.
LOG_PATTERN = (
    r" (FATAL|ERROR|WARN) | HA_|HTTP_|HOOKS_|DHCP4_(START|MULTI|CONFIG|INIT)|'ha-|'list-commands'"
)
LOG_LINES = 2000
#: What is read of a reply of Kea's at most, in bytes: status-get's is 2 kB.
_REPLY_SIZE = 100_000

_MARK = "@@ "
# These become words of shell scripts that root runs: what Debian's policy (5.6.12) allows in a
# version, and of what Linux allows in an interface's name what a shell and nft take as it stands.
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:+-]+")


class SurveyError(Exception):
    """Raised when a host's answer is not what the survey's script prints."""


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
    public_keys: Mapping[str, str]
    state: Mapping[str, str]
    started_from: Mapping[str, str]
    kept: Mapping[str, RemoteFile]
    kept_settings: str
    #: Of each directory that an accepted state is kept in, that state's name.
    kept_names: Mapping[str, str]
    firewall: str
    leases: int
    lease_headers: Mapping[str, str]
    status: Any
    status_error: str
    log: str

    @property
    def time(self) -> datetime:
        """The host's own idea of the time, in UTC."""
        return datetime.fromtimestamp(self.epoch, UTC)

    def unit(self, name: str) -> Unit:
        """The unit called ``name``, also when the host has none such."""
        return self.units.get(name, Unit(name))

    def text(self, path: str) -> str | None:
        """The content of the file of ours at ``path``; None when it is not there."""
        found = self.files.get(path)
        return found.content if found else None

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


#: Where accepted states are kept for an undo.
_KEPT_PLACES = (layout.KEPT_DIR, layout.KEPT_BEFORE_DIR)


def build_script(own: OwnCertificates | None = None, kept: str = layout.KEPT_DIR) -> str:
    """The survey as one shell script.

    ``own`` are identity files that the host brings itself; ``kept`` is the accepted state to tell
    of, the last one or the one before it.
    """
    quoted = shlex.join
    certificates = [*layout.HA_FILES, *layout.API_FILES]
    keys = [*layout.KEYS]
    if own is not None:
        certificates += [own.certificate, own.anchor]
        keys.append(own.key)
    return _TEMPLATE.format(
        packages=quoted(PACKAGES),
        units=quoted(UNITS),
        documents=quoted(layout.DOCUMENTS),
        secrets=quoted([*keys, layout.API_PASSWORD_FILE]),
        certificates=quoted(certificates),
        keys=quoted(keys),
        kept=quoted([f"{kept}{path}" for path in layout.KEPT]),
        settings=f"{kept}/{layout.KEPT_SETTINGS}",
        names=quoted([f"{place}/{layout.KEPT_NAME}" for place in _KEPT_PLACES]),
        state=layout.STATE_DIR,
        started=layout.STARTED_DIR,
        socket=layout.CONTROL_SOCKET,
        log=layout.LOG,
        leases=layout.LEASES,
        lease_files=quoted(FILES),
        pattern=shlex.quote(LOG_PATTERN),
        lines=LOG_LINES,
        reply_size=_REPLY_SIZE,
        table=layout.FIREWALL_TABLE,
    )


# Everything that could hang has a timeout; everything that may be absent is asked for first. Nearly
# all of the time goes into starting programs, so each is started once, for all that it has to tell.
_TEMPLATE = r"""
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() {{ printf '@@ %s\n' "$*"; }}
have() {{ command -v "$1" >/dev/null 2>&1; }}
# Which of these are files: to read a pipe or a device would keep us waiting.
tell() {{ kind=$1; shift; for file; do [ -f "$file" ] && say "$kind" "$file"; done; }}
{{
say clock "$(date '+%s.%N %Y-%m-%d %H:%M:%S.%3N')"
say cpus "$(nproc)"
say architecture "$(dpkg --print-architecture)"
for tool in ip ss systemctl apt-get; do have $tool || say missing $tool; done
say packages
dpkg-query -W -f '${{Package}} ${{db:Status-Abbrev}} ${{Version}}\n' {packages}
say policy; apt-cache policy kea-dhcp4-server kea-ctrl-agent isc-kea-dhcp4
say interfaces; have ip && ip addr show
say sockets; have ss && ss -Hlntup | sed 's/^/ /'

shown=$(systemctl show -p LoadState,UnitFileState,ActiveState,MainPID,NRestarts {units})
say units {units}; printf '%s\n' "$shown"
for line in $shown; do
  case $line in MainPID=[1-9]*)
    pid=${{line#MainPID=}}
    say executable "$pid" "$(readlink -n "/proc/$pid/exe" | tr -c ' -~' '?')" ;;
  esac
done

tell document {documents}
tell secret {secrets}
tell certificate {certificates}
tell kept {kept}
tell settings {settings}
tell name {names}
tell state {state}/*
tell started {started}/*
# Those that may be read. The secrets are not among them.
set --
for file in /etc/os-release {documents} {certificates} {kept} {settings} {names} \
  {state}/* {started}/*; do
  [ -f "$file" ] && set -- "$@" "$file"
done
say attributes; stat -c '%a %U:%G %n' "$@" {secrets}
say digests; sha256sum "$@"
# The name of each (F), and its lines behind a blank. The last expression ends a last line that has
# no end, or the next heading would stand on it.
say contents; sed -s -e 1F -e 's/^/ /' -e '$a\' "$@"
if have openssl; then for file in {keys}; do
  [ -f "$file" ] && say public "$file" && openssl pkey -in "$file" -pubout -passin pass:
done; fi

have nft && say firewall && nft list table {table}
say leases; grep -chs -D skip '^[0-9]' {leases}*
for file in {lease_files}; do
  [ -f "$file" ] && say lease_header "$file" &&
    printf ' %s\n' "$(head -c 300 "$file" | head -n 1 | tr -d '\n' | tr -c ' -~' '?')"
done
if [ -S {socket} ]; then
  say status
  if have curl; then
    # What answers there runs as _kea, and may be anything: no more than this of it is read.
    echo '{{"command":"status-get"}}' | \
      timeout 10 curl -sS --max-time 8 --unix-socket {socket} telnet://kea/ 2>&1 | \
      head -c {reply_size} | sed -e 's/^/ /' -e '$a\'
  fi
fi
if [ -f {log} ]; then
  # Kea rotates to .1 by size: straight after that the newest file alone says little.
  say log; grep -ahsE -D skip {pattern} {log}.1 {log} | tail -n {lines} | sed 's/^/ /'
fi
say end
# Whatever is no heading gets its mark here. Where others may have written (files, the log, replies,
# names of processes), lines have their blank before that: none of theirs is taken for a heading.
}} </dev/null 2>/dev/null | sed '/^@@ /!s/^/|/'
"""


def parse_survey(output: Iterable[str]) -> Survey:
    """Turn the script's lines into a ``Survey``.

    :raises SurveyError: when the output is cut short or says something unexpected.
    """
    sections = _split(output)
    if not sections or sections[-1][0] != "end":
        raise SurveyError("the host's answer was cut short")
    try:
        return _build(sections)
    except (KeyError, ValueError, IndexError) as error:
        raise SurveyError(f"the host's answer makes no sense: {error!r}") from error


def _split(output: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """Cut the output into (section, argument, lines)."""
    sections: list[tuple[str, str, list[str]]] = []
    for line in output:
        if line.startswith(_MARK):
            name, _, argument = line[len(_MARK) :].partition(" ")
            sections.append((name, argument, []))
        elif line.startswith("|") and sections:
            sections[-1][2].append(line[1:])
        # Anything else is chatter around the script, such as sudo's or a login's.
    return sections


def _build(sections: Sequence[tuple[str, str, list[str]]]) -> Survey:
    one = {name: (argument, lines) for name, argument, lines in sections}

    def lines(name: str) -> list[str]:
        return one.get(name, ("", []))[1]

    def each(name: str) -> list[tuple[str, list[str]]]:
        return [(argument, body) for found, argument, body in sections if found == name]

    def told(name: str) -> list[str]:
        return [argument for argument, _ in each(name)]

    contents = _parse_contents(lines("contents"))

    def files(*kinds: str) -> dict[str, RemoteFile]:
        asked = {kind: told(kind) for kind in kinds}
        return _parse_files(asked, lines("attributes"), lines("digests"), contents)

    system = dict(line.split("=", 1) for line in contents.get("/etc/os-release", ()) if "=" in line)
    system = {key: value.strip('"') for key, value in system.items()}
    epoch, local = one["clock"][0].split(" ", 1)
    units = _parse_units(*one["units"])
    status, status_error = _parse_status("\n".join(lines("status")), asked="status" in one)
    return Survey(
        distribution=system.get("ID", "unknown"),
        codename=system.get("VERSION_CODENAME", ""),
        release=system.get("VERSION_ID", ""),
        architecture=one["architecture"][0],
        epoch=float(epoch),
        local=datetime.strptime(local, "%Y-%m-%d %H:%M:%S.%f"),
        cpus=int(one["cpus"][0]),
        missing_tools=tuple(told("missing")),
        packages=_parse_packages(lines("packages")),
        candidates=_parse_policy(lines("policy")),
        interfaces=_parse_interfaces(lines("interfaces")),
        listeners=tuple(_parse_listeners(lines("sockets"))),
        units=units,
        executable=_parse_executable(units, told("executable")),
        files=files("document", "secret", "certificate"),
        certificates={p: "\n".join(contents.get(p, ())) + "\n" for p in told("certificate")},
        public_keys={path: "\n".join(body) + "\n" for path, body in each("public")},
        state={_name(path): "\n".join(contents.get(path, ())) for path in told("state")},
        started_from={_name(path): "\n".join(contents.get(path, ())) for path in told("started")},
        kept={_place(path): one for path, one in files("kept").items()},
        kept_settings="\n".join(line for p in told("settings") for line in contents.get(p, ())),
        kept_names={
            path.rpartition("/")[0]: "".join(contents.get(path, ())) for path in told("name")
        },
        firewall="\n".join(lines("firewall")),
        leases=sum(int(count) for count in lines("leases")),
        lease_headers={path: "".join(body)[1:] for path, body in each("lease_header")},
        status=status,
        status_error=status_error,
        log="\n".join(line.removeprefix(" ") for line in lines("log")),
    )


def _parse_status(text: str, *, asked: bool) -> tuple[Any, str]:
    if not asked:
        return None, "its control socket is not there"
    try:
        return json.loads(text), ""
    except ValueError:
        said = text.strip()[:200] or "nothing came back"
        return None, f"its control socket gave no answer: {said}"


def _parse_packages(lines: Iterable[str]) -> dict[str, str]:
    """Installed packages only: ``ii``, and half-installed ones are not installed."""
    found = {}
    for line in lines:
        name, abbreviation, version = (*line.split(), "", "")[:3]
        if abbreviation.startswith("ii"):
            found[name] = _sound(version)
    return found


def _parse_policy(lines: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """``apt-cache policy``: for each package (version, suite line), the candidate first.

    The candidate comes as the pair ``(version, "candidate")``; after it each version of the table
    with the sources that have it, one pair for each source line.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    package = version = ""
    for line in lines:
        if line and not line[0].isspace():
            package = line.rstrip(":")
            found[package] = []
        elif line.strip().startswith("Candidate:"):
            candidate = line.split()[1]
            if candidate != "(none)":
                found[package].append((_sound(candidate), "candidate"))
        elif line.startswith((" *** ", "     ")) and len(line.split()) <= 3 and "/" not in line:
            version = line.replace("***", "").split()[0]
        elif line.startswith("        "):
            found[package].append((version, line.strip()))
    return {name: tuple(rows) for name, rows in found.items()}


def _parse_interfaces(lines: Iterable[str]) -> tuple[Interface, ...]:
    """``ip addr show``: what begins at the margin is an interface, its addresses are below it.

    One that no shell script could be given is left out.
    """
    up: dict[str, bool] = {}
    held: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        words = line.split()
        if not line.startswith(" "):
            name = words[1].rstrip(":").partition("@")[0]
            flags = words[2].strip("<>").split(",")
            up[name] = "UP" in flags and "LOWER_UP" in flags
            held[name] = []
        elif words[0] == "inet":
            held[name].append(words[1].partition("/")[0])
    return tuple(Interface(n, up[n], tuple(a)) for n, a in held.items() if _INTERFACE.fullmatch(n))


def _sound(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version of a package")
    return version


def _parse_listeners(lines: Iterable[str]) -> Iterable[Listener]:
    for line in lines:
        words = line.split()
        address, _, port = words[4].rpartition(":")
        processes = []
        for part in line.partition("users:((")[2].split("),("):
            name, _, rest = part.partition('",pid=')
            if rest:
                processes.append((name.strip('"'), int(rest.partition(",")[0])))
        yield Listener(words[0], address.partition("%")[0].strip("[]"), int(port), tuple(processes))


def _parse_units(asked: str, lines: Iterable[str]) -> dict[str, Unit]:
    """``systemctl show``: a block for each unit that was asked for, in that order.

    By position, since a block of an alias would name another unit. No block at all comes from a
    host without systemd.
    """
    names = asked.split()
    text = "\n".join(lines).strip("\n")
    blocks = text.split("\n\n") if text else [""] * len(names)
    return {
        name: _parse_unit(name, block.splitlines())
        for name, block in zip(names, blocks, strict=True)
    }


def _parse_unit(name: str, lines: Iterable[str]) -> Unit:
    values = dict(line.split("=", 1) for line in lines)
    return Unit(
        name=name,
        load=values.get("LoadState", "not-found"),
        enabled=values.get("UnitFileState", ""),
        active=values.get("ActiveState", "inactive"),
        main_pid=int(values.get("MainPID") or 0),
        restarts=int(values.get("NRestarts") or 0),
    )


def _parse_executable(units: Mapping[str, Unit], told: Iterable[str]) -> str:
    """The program that the running kea-dhcp4 was started from; empty when none runs."""
    by_pid = {int(pid): path for pid, _, path in (one.partition(" ") for one in told)}
    pids = [units[packaging.dhcp4_unit].main_pid for packaging in (layout.DEBIAN, layout.ISC)]
    return next((by_pid[pid] for pid in pids if pid in by_pid), "")


def _parse_contents(lines: Iterable[str]) -> dict[str, list[str]]:
    """The lines of each file that was read; of an empty one there is nothing."""
    contents: dict[str, list[str]] = {}
    path = ""
    for line in lines:
        if line.startswith(" "):
            contents[path].append(line[1:])
        else:
            path = line
            contents[path] = []
    return contents


def _parse_files(
    told: Mapping[str, Iterable[str]],
    attributes: Iterable[str],
    digests: Iterable[str],
    contents: Mapping[str, Sequence[str]],
) -> dict[str, RemoteFile]:
    """Our files by their path; one that went away while the script ran is not there."""
    modes = {path: (mode, owner) for mode, owner, path in (a.split(" ", 2) for a in attributes)}
    sums = dict(_parse_digest(line) for line in digests)
    found = {}
    for kind, paths in told.items():
        for path in paths:
            digest = "-" if kind == "secret" else sums.get(path)
            if path in modes and digest:
                lines = contents.get(path) if kind in ("document", "kept") else None
                content = "\n".join(lines) + "\n" if lines else None
                found[path] = RemoteFile(*modes[path], digest, content)
    return found


def _parse_digest(line: str) -> tuple[str, str]:
    """Path and digest. ``sha256sum`` begins a line with a backslash if the path's are doubled."""
    digest, _, path = line.partition("  ")
    if digest.startswith("\\"):
        return path.replace("\\\\", "\\"), digest[1:]
    return path, digest


def _place(kept: str) -> str:
    """Where a kept file stands when it is in use."""
    return kept.removeprefix(layout.KEPT_DIR).removeprefix(layout.KEPT_BEFORE_DIR)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
