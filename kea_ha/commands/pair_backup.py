"""Back a pair up to the operator's machine. It only reads, while the servers serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pyinfra import host, state

from kea_ha import foreign, layout
from kea_ha.host import backup_store, daemons
from kea_ha.host.backup_store import BackupError
from kea_ha.kea import lease_file
from kea_ha.kea.lease_file import LeaseFileError
from kea_ha.kea.redaction import without_secrets
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import Outcome
from kea_ha.session.surveys import files_of
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import counted

#: What was read for the backup: by host, the content of its files by path, or where they are.
_READ = Slot[dict[str, bytes | Path]]()

_IN_PART = "not backed up in full"


def read(node: Node) -> Outcome:
    """Read the documents, the kept settings and the leases of a host; no key is among them."""
    if state.is_executing:
        try:
            files = files_of(node, (*daemons.DOCUMENTS, *daemons.ACCEPTED))
            if layout.KEA_CONF not in files:
                raise Refusal(
                    f"{node.name} has no {layout.KEA_CONF}: there is nothing to back up",
                    "roll the pair out first: pyinfra -y inventory.py deploy.py",
                )
            _READ[node.name] = dict(_without_secrets(node, files))
        except Refusal as refusal:
            raise Refusal(refusal.what, refusal.remedy, outcome=_IN_PART) from refusal
    return "read"


def _without_secrets(
    node: Node, files: Mapping[str, bytes | Path]
) -> Iterator[tuple[str, bytes | Path]]:
    """The files, but for what somebody wrote into a document by hand that is a secret.

    Of a live document the secret alone is left out. A kept one could not be put back without, and
    is left out as a whole.
    """
    for path, content in files.items():
        if isinstance(content, Path) or not path.endswith(_DOCUMENTS):
            yield path, content
            continue
        kept = without_secrets(foreign.text(content))
        if kept is not None and kept.encode() == content:
            yield path, content
            continue
        pair = RUN.pair_of(node.name)
        if kept is not None and path in _DOCUMENTS:
            yield path, kept.encode()
            what = "what looks like a secret in it is not in the backup"
        else:
            what = "it is not in the backup: it may hold a secret, or cannot be read as a document"
        if pair is not None:
            RUN.warn(pair, f"{node.name}: {path} is not as the rollout writes it: {what}")


#: The documents that Kea reads, live and kept.
_DOCUMENTS = tuple(one.document for one in daemons.DAEMONS)


def keep(pair: Pair) -> Outcome:
    """Write what was read of both hosts to this machine; fail if one of them is missing."""
    if state.is_executing:
        active = [one.name for one in state.active_hosts]
        writer = next(node.name for node in pair.nodes if node.name in active)
        if host.name == writer:
            _keep(pair)
    return "nothing was changed on the hosts"


def _keep(pair: Pair) -> None:
    wanted = [node.name for node in pair.nodes if RUN.in_scope(node.name)]
    files = {name: _READ[name] for name in wanted if name in _READ}
    try:
        directory = backup_store.write(
            backup_store.BACKUPS_DIR, pair.name, datetime.now(UTC), files
        )
    except BackupError as error:
        raise Refusal(error.what, error.remedy, tuple(files), "not backed up") from error
    held = ", ".join(f"{_count(pair, name, files[name])} of {name}" for name in files)
    missing = tuple(name for name in wanted if name not in files)
    if missing:
        RUN.stopped.add(host.name)  # it has failed in nothing itself
        raise Refusal(
            f"{', '.join(missing)} could not be read, so nothing of it is in the backup. What "
            f"there is of the other host is kept in {directory}: {held}",
            f"bring {', '.join(missing)} back, or mend the way there, then back up again",
            missing,
            _IN_PART,
        )
    left_out = [node.name for node in pair.nodes if node.name not in wanted]
    without = f" --limit leaves {', '.join(left_out)} out." if left_out else ""
    RUN.verdicts[pair.name] = (
        f"backed up to {directory}: {held}, and the documents.{without} No key is in it: keep "
        "pki/ separately (docs/runbook.md, Keep pki/)."
    )


def _count(pair: Pair, name: str, files: Mapping[str, bytes | Path]) -> str:
    try:
        in_use, unreadable = lease_file.count(files)
    except LeaseFileError as error:
        RUN.warn(pair, f"{name}: {error}")
        return "leases that cannot be counted"
    if unreadable:
        RUN.warn(pair, f"{name}: {unreadable} rows of its leases cannot be read")
    if layout.LEASES not in files:
        RUN.warn(pair, f"{name} has no {layout.LEASES}: Kea keeps its leases there while it runs")
    return counted(in_use, "lease")
