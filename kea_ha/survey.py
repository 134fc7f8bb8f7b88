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
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kea_ha import layout
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

_MARK = "@@ "


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
    firewall: str
    leases: int
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


def build_script(own: OwnCertificates | None = None) -> str:
    """The survey as one shell script; ``own`` are identity files that the host brings itself."""
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
        state=layout.STATE_DIR,
        started=layout.STARTED_DIR,
        socket=layout.CONTROL_SOCKET,
        log=layout.LOG,
        leases=layout.LEASES,
        pattern=shlex.quote(LOG_PATTERN),
        lines=LOG_LINES,
        table=layout.FIREWALL_TABLE,
        dhcp4=quoted([layout.DEBIAN.dhcp4_unit, layout.ISC.dhcp4_unit]),
    )


# Everything that could hang has a timeout; everything that may be absent is asked for first.
_TEMPLATE = r"""
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() {{ printf '@@ %s\n' "$*"; }}
# The second expression ends a last line that has no end, or the next mark would stand on it.
body() {{ sed -e 's/^/|/' -e '$a\'; }}
have() {{ command -v "$1" >/dev/null 2>&1; }}
say clock "$(date '+%s.%N %Y-%m-%d %H:%M:%S.%3N')"
say cpus "$(nproc)"
say os; body < /etc/os-release
say architecture "$(dpkg --print-architecture)"
for tool in ip ss systemctl apt-get; do have $tool || say missing $tool; done
say packages
dpkg-query -W -f '${{Package}} ${{db:Status-Abbrev}} ${{Version}}\n' {packages} 2>/dev/null | body
say policy
apt-cache policy kea-dhcp4-server kea-ctrl-agent isc-kea-dhcp4 2>/dev/null | body
say links; have ip && ip -o link show | body
say addresses; have ip && ip -o -4 addr show | body
say sockets; have ss && ss -Hlntup | body
for unit in {units}; do
  say unit "$unit"
  systemctl show -p LoadState,UnitFileState,ActiveState,MainPID,NRestarts "$unit" | body
done
for unit in {dhcp4}; do
  pid=$(systemctl show -p MainPID --value "$unit")
  [ "${{pid:-0}}" = 0 ] || say executable "$(readlink /proc/"$pid"/exe)"
done
for file in {documents}; do
  [ -f "$file" ] || continue
  say file "$(stat -c '%a %U:%G' "$file") $(sha256sum < "$file" | cut -c1-64) $file"
  body < "$file"
done
for file in {secrets}; do
  [ -f "$file" ] || continue
  say file "$(stat -c '%a %U:%G' "$file") - $file"
done
for file in {certificates}; do
  [ -f "$file" ] || continue
  say file "$(stat -c '%a %U:%G' "$file") $(sha256sum < "$file" | cut -c1-64) $file"
  say certificate "$file"; body < "$file"
done
if have openssl; then for file in {keys}; do
  [ -f "$file" ] || continue
  say public "$file"; openssl pkey -in "$file" -pubout -passin pass: 2>/dev/null </dev/null | body
done; fi
for file in {state}/*; do
  [ -f "$file" ] || continue
  say state "${{file##*/}}"; body < "$file"
done
for file in {started}/*; do
  [ -f "$file" ] || continue
  say started "${{file##*/}}"; body < "$file"
done
if have nft; then say firewall; nft list table {table} 2>/dev/null | body; fi
say leases "$(cat {leases}* 2>/dev/null | grep -c '^[0-9]')"
if [ -S {socket} ]; then
  say status
  if have curl; then
    echo '{{"command":"status-get"}}' | \
      timeout 10 curl -sS --max-time 8 --unix-socket {socket} telnet://kea/ 2>&1 | body
  fi
fi
if [ -f {log} ]; then
  say log
  # Kea rotates to .1 by size: straight after that the newest file alone says little.
  cat {log}.1 {log} 2>/dev/null | grep -aE {pattern} | tail -n {lines} | body
fi
say end
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
        # Anything else is a tool's chatter on standard error, which ssh merges in.
    return sections


def _build(sections: Sequence[tuple[str, str, list[str]]]) -> Survey:
    one = {name: (argument, lines) for name, argument, lines in sections}

    def lines(name: str) -> list[str]:
        return one.get(name, ("", []))[1]

    def each(name: str) -> list[tuple[str, list[str]]]:
        return [(argument, body) for found, argument, body in sections if found == name]

    system = dict(line.split("=", 1) for line in lines("os") if "=" in line)
    system = {key: value.strip('"') for key, value in system.items()}
    epoch, local = one["clock"][0].split(" ", 1)
    status, status_error = _parse_status("\n".join(lines("status")), asked="status" in one)
    return Survey(
        distribution=system.get("ID", "unknown"),
        codename=system.get("VERSION_CODENAME", ""),
        release=system.get("VERSION_ID", ""),
        architecture=one["architecture"][0],
        epoch=float(epoch),
        local=datetime.strptime(local, "%Y-%m-%d %H:%M:%S.%f"),
        cpus=int(one["cpus"][0]),
        missing_tools=tuple(argument for argument, _ in each("missing")),
        packages=_parse_packages(lines("packages")),
        candidates=_parse_policy(lines("policy")),
        interfaces=_parse_interfaces(lines("links"), lines("addresses")),
        listeners=tuple(_parse_listeners(lines("sockets"))),
        units={name: _parse_unit(name, body) for name, body in each("unit")},
        executable=one.get("executable", ("", []))[0],
        files=dict(_parse_file(argument, body) for argument, body in each("file")),
        certificates={path: "\n".join(body) + "\n" for path, body in each("certificate")},
        public_keys={path: "\n".join(body) + "\n" for path, body in each("public")},
        state={name: "\n".join(body) for name, body in each("state")},
        started_from={name: "\n".join(body) for name, body in each("started")},
        firewall="\n".join(lines("firewall")),
        leases=int(one["leases"][0]),
        status=status,
        status_error=status_error,
        log="\n".join(lines("log")),
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
            found[name] = version
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
                found[package].append((candidate, "candidate"))
        elif line.startswith((" *** ", "     ")) and len(line.split()) <= 3 and "/" not in line:
            version = line.replace("***", "").split()[0]
        elif line.startswith("        "):
            found[package].append((version, line.strip()))
    return {name: tuple(rows) for name, rows in found.items()}


def _parse_interfaces(links: Iterable[str], addresses: Iterable[str]) -> tuple[Interface, ...]:
    up: dict[str, bool] = {}
    for line in links:
        name = line.split(":", 2)[1].strip().partition("@")[0]
        flags = line.partition("<")[2].partition(">")[0].split(",")
        up[name] = "UP" in flags and "LOWER_UP" in flags
    held: dict[str, list[str]] = {name: [] for name in up}
    for line in addresses:
        words = line.split()
        held.setdefault(words[1], []).append(words[3].partition("/")[0])
    return tuple(Interface(n, up.get(n, False), tuple(a)) for n, a in held.items())


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


def _parse_file(argument: str, body: list[str]) -> tuple[str, RemoteFile]:
    mode, owner, digest, path = argument.split(" ", 3)
    content = "\n".join(body) + "\n" if body else None
    return path, RemoteFile(mode, owner, digest, content)
