"""May a backup's leases be brought back, and what each host's lease file is then. Pure judgements.

Its documents make an accepted state of a host, to be put back as any other (by
``commands.undo_change``). Of leases nothing newer gives way: whatever the hosts have is merged with
the backup, address by address (``lease_file.merge``), and both hosts get the outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from kea_ha import foreign, layout
from kea_ha.decide import client_impact
from kea_ha.host import daemons
from kea_ha.host.backup_store import Backup
from kea_ha.host.daemons import DHCP4
from kea_ha.host.survey import RemoteFile, Survey
from kea_ha.kea import config, lease_file
from kea_ha.kea.config_diff import parse_document
from kea_ha.kea.lease_file import LeaseFileError, LeaseSet, Row
from kea_ha.settings.model import Pair
from kea_ha.settings.problems import Problem, below

#: How many leases of other subnets are named one by one.
_NAMED = 20


@dataclass(frozen=True)
class HostFile:
    """What a host's one lease file is to be, and whether it is that already, with no other."""

    content: bytes
    is_there: bool


@dataclass(frozen=True)
class Restoration:
    """The lease files by host, and how many addresses are in use by them."""

    files: Mapping[str, HostFile]
    in_use: int
    #: Of these, the ones that no host had as new.
    from_backup: int


def foreign_backup(pair: Pair | None, backup: Backup) -> str:
    """Why a backup is another pair's; empty when it is this one's. None is a pair unheard of."""
    if pair is None or backup.pair != pair.name:
        return f"a backup of the pair {backup.pair}"
    if not {node.name for node in pair.nodes} & set(backup.hosts):
        return f"a backup of other hosts: {', '.join(backup.hosts)}"
    return ""


def objections(
    pair: Pair, backup: Backup, surveys: Mapping[str, Survey], *, force: bool, now: datetime
) -> Iterator[Problem]:
    """Every reason against bringing the backup's leases back.

    ``force``: the servers may be stopped for it.
    """
    for node in pair.nodes:
        yield from _host_objections(pair, node.name, surveys[node.name], force=force)
    try:
        lasting = [row for row in _outside(pair, backup) if row.expire > now.timestamp()]
    except LeaseFileError as error:
        yield Problem(
            "the backup",
            f"one with a file that Kea did not write: {error}",
            "lease files of Kea's",
            "use another backup",
            where=pair.name,
        )
        return
    if lasting:
        yield Problem(
            "the backup",
            f"one with leases of subnets that the pair does not have:{_listed(lasting)}",
            "leases of " + ", ".join(f"{s.subnet} (id {s.id})" for s in pair.settings.subnets),
            "roll the pair out with those subnets first, or use another backup",
            where=pair.name,
        )


def notes(pair: Pair, backup: Backup, surveys: Mapping[str, Survey]) -> Iterator[str]:
    """What of a backup is no obstacle, but worth a line."""
    for node in pair.nodes:
        if node.name not in backup.hosts:
            yield f"the backup has nothing of {node.name}: it gets what the other host had"
    over = len(_outside(pair, backup))
    if over:
        yield (
            f"left out of the backup: {over} leases that are over, of subnets that the pair does "
            "not have"
        )
    unreadable = sum(one.unreadable for one in _sets(backup))
    if unreadable:
        yield f"left out of the backup: {unreadable} rows that cannot be read, nor could Kea"
    for host in backup.hosts:
        files = backup.documents(host)
        live = surveys[host].files if host in surveys else {}
        for path in daemons.DOCUMENTS:
            saved = sha256(files[path]).hexdigest() if path in files else ""
            if host in surveys and saved != (live[path].sha256 if path in live else ""):
                yield (
                    f"{host}: {path} is not as it was in the backup; it stays as it is (with "
                    "documents=true, restore.py brings documents back, and no leases)"
                )


def restoration(
    pair: Pair, backup: Backup, live: Mapping[str, Mapping[str, bytes | Path]]
) -> Restoration:
    """The lease files of both hosts, from those of the backup and those that are ``live`` now.

    ``live``: by host, by path.

    :raises LeaseFileError: when a file is none that Kea wrote; the message names the host.
    """
    foreign = {row.address for row in _outside(pair, backup)}
    saved = {host: lease_file.load(files).without(foreign) for host, files in backup.hosts.items()}
    known = {}
    for host, files in live.items():
        try:
            known[host] = lease_file.load(files)
        except LeaseFileError as error:
            raise LeaseFileError(f"{host}: {error}") from error
    rows = lease_file.merge(known.values(), saved.values())
    return Restoration(
        {
            host: _host_file(rows, files, _header(host, known, saved))
            for host, files in live.items()
        },
        sum(row.in_use for row in rows.values()),
        sum(row.in_use and not _is_in(row, known.values()) for row in rows.values()),
    )


def document_objections(pair: Pair, backup: Backup) -> Iterator[Problem]:
    """Why this backup's documents are no state of the pair's to put back."""
    wanted = {layout.SETTINGS_FILE, layout.UNITS_FILE, f"{layout.KEPT_DIR}{layout.KEA_CONF}"}
    found = [node for node in pair.nodes if wanted <= backup.documents(node.name).keys()]
    for node in pair.nodes:
        if node not in found:
            yield Problem(
                "the backup",
                "without a state in which this host was accepted",
                "one that was made of both hosts, after the pair was accepted",
                "use another backup",
                where=node.name,
            )
    for node in found:
        for path, what in _odd(backup.documents(node.name)):
            yield Problem(
                "the backup",
                f"one whose {path} {what}",
                "documents as this project writes them",
                "use another backup: somebody else wrote into this one",
                where=node.name,
            )
    if len({backup.documents(node.name)[layout.SETTINGS_FILE] for node in found}) > 1:
        yield Problem(
            "the backup",
            "of a moment at which the two hosts were accepted with different settings",
            "one state of both hosts",
            "use another backup",
            where=pair.name,
        )


def _odd(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """What of an accepted state in a backup would have a host run what is not Kea's or ours."""
    for path in (one.document for one in daemons.DAEMONS):
        content = files.get(f"{layout.KEPT_DIR}{path}")
        if content is None:
            continue
        try:
            document = parse_document(foreign.text(content))
        except ValueError as error:
            yield path, f"cannot be read: {error}"
            continue
        if strange := list(_strange_libraries(document)):
            yield path, f"loads {foreign.cut(', '.join(strange))}"
    table = files.get(f"{layout.KEPT_DIR}{layout.FIREWALL_CONF}", b"")
    for line in foreign.lines(table):
        if not _OF_OUR_TABLE.fullmatch(line.strip()):
            yield layout.FIREWALL_CONF, f"has a rule that is none of ours: {foreign.cut(line, 80)}"
            break


def _strange_libraries(value: Any) -> Iterator[str]:
    """Libraries that this project has no Kea load, at any depth of a document."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "library" and not (
                isinstance(inner, str) and _OF_OUR_LIBRARIES.fullmatch(inner)
            ):
                yield str(inner)
            yield from _strange_libraries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strange_libraries(inner)


_OF_OUR_LIBRARIES = re.compile(
    rf"(?:/usr/lib/[a-z0-9_-]+/kea/hooks/)?(?:{layout.LEASE_CMDS_HOOK}|{layout.HA_HOOK})"
)
# What templates/firewall.nft.j2 can come to.
_OF_OUR_TABLE = re.compile(
    rf"(?:#.*|(?:delete )?table {layout.FIREWALL_TABLE}(?: {{)?|chain input {{|}}|"
    r"type filter hook input priority filter; policy accept;|"
    'iifname "lo" accept|'
    r"ip daddr [0-9.]+ tcp dport [0-9]+(?: ip saddr != (?:[0-9.]+|{ [0-9., /]+ }))? counter drop)?"
)


def _own_text(path: str, survey: Survey) -> str:
    """What this project writes into a file that root runs."""
    for one in daemons.DAEMONS:
        if path in (one.debian.drop_in, one.isc.drop_in):
            return one.drop_in(survey.codename)
    return config.read_file(path.rpartition("/")[2])


#: What of a backup is put back as it was; the rest root runs, and this project has it itself.
_PUT_BACK = (*(one.document for one in daemons.DAEMONS), layout.FIREWALL_CONF)


def accepted_state(survey: Survey, files: Mapping[str, bytes]) -> Survey:
    """The survey, telling of the accepted state in these ``files`` of a backup as what is kept.

    Certificates are in no backup: those that the host has stay. Units and drop-ins are this
    project's own, whatever the backup has for them.
    """
    kept = {path: survey.files[path] for path in daemons.KEPT if path in survey.files}
    for path in daemons.DOCUMENTS:
        kept.pop(path, None)
        content = files.get(f"{layout.KEPT_DIR}{path}")
        if content is not None:
            content = content if path in _PUT_BACK else _own_text(path, survey).encode()
            live = survey.files.get(path)
            mode, owner = (live.mode, live.owner) if live else _usual(path)
            text = foreign.text(content)
            kept[path] = RemoteFile(mode, owner, sha256(content).hexdigest(), text)
    settings = foreign.text(files.get(layout.SETTINGS_FILE, b""))
    return replace(survey, kept=kept, kept_settings=settings)


def _usual(path: str) -> tuple[str, str]:
    """Mode and owner of a document, as ``desired_state`` has them."""
    if path.startswith(f"{layout.CONF_DIR}/"):
        return "640", f"root:{layout.KEA_USER}"
    return ("600" if path == layout.FIREWALL_CONF else "644"), "root:root"


def _host_objections(pair: Pair, host: str, survey: Survey, *, force: bool) -> Iterator[Problem]:
    unit = survey.unit(DHCP4.of(pair).unit)
    if not survey.mark.accepted:
        yield client_impact.not_rolled_out(host)
    yield from client_impact.out_for_maintenance(host, survey)
    if not force and (unit.is_active or survey.serves):
        doing = "serving clients" if survey.serves else "running"
        yield Problem(
            "kea-dhcp4",
            doing,
            "a stopped one: what it gives to clients meanwhile could be given twice",
            "--data force=true stops both servers for as long as it takes; no client is served "
            "meanwhile",
            where=host,
        )


def _sets(backup: Backup) -> list[LeaseSet]:
    return [lease_file.load(files) for files in backup.hosts.values()]


def _outside(pair: Pair, backup: Backup) -> list[Row]:
    """The backup's leases that are of no subnet of the pair, each address once, the longest."""
    subnets = {subnet.id: subnet.network for subnet in pair.settings.subnets}
    found: dict[IPv4Address, Row] = {}
    for one in _sets(backup):
        for address, row in one.rows.items():
            if row.is_lease and not row.is_of(subnets):
                found[address] = max(row, found.get(address, row), key=lambda r: r.expire)
    return [found[address] for address in sorted(found)]


def _listed(rows: list[Row]) -> str:
    lines = [
        f"{row.address} of subnet {row.subnet_id}, until "
        f"{datetime.fromtimestamp(min(row.expire, 2**32), UTC):%F %T %Z}"
        for row in rows[:_NAMED]
    ]
    more = [f"and {len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
    return below([*lines, *more])


def _header(
    host: str, live: Mapping[str, LeaseSet], saved: Mapping[str, LeaseSet]
) -> tuple[str, ...]:
    """The live file's columns, else the backup's: its own host's if it is in it."""
    own = [sets[host] for sets in (live, saved) if host in sets]
    known = (*own, *saved.values(), *live.values())
    return next((one.header for one in known if one.header), lease_file.COLUMNS)


def _host_file(
    rows: Mapping[IPv4Address, Row], live: Mapping[str, bytes | Path], header: tuple[str, ...]
) -> HostFile:
    content = lease_file.render(rows, header)
    is_there = live.keys() == {layout.LEASES} and _content(live[layout.LEASES]) == content
    return HostFile(content, is_there)


def _content(file: bytes | Path) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def _is_in(row: Row, sets: Iterable[LeaseSet]) -> bool:
    return any(row is one.rows.get(row.address) for one in sets)
