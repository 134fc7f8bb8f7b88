"""Bring the leases of a backup back.

That is one operation for the pair, on its primary: pyinfra gives up a host at its first failed
operation, and what stands on both has to be known to say it, and to start again what was stopped.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from pyinfra import host, state

from kea_ha import layout
from kea_ha.commands.turn import await_health, halt, start
from kea_ha.decide import restore_plan
from kea_ha.decide.restore_plan import HostFile, Restoration
from kea_ha.host import file_transfer, put_back_timer
from kea_ha.host.backup_store import Backup
from kea_ha.kea import lease_file
from kea_ha.operations import checks
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import ask, need, say
from kea_ha.session.surveys import COPYING_S, changed, files_of, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import counted

#: After which time a server that was stopped for a restore is started, whatever becomes of the run.
_START_S = 2 * COPYING_S + 60
_STOPPED = (
    "kea-dhcp4 was stopped on both hosts for the restore: run the same command again, or start it "
    f"there. Else a timer does, {_START_S // 60} minutes after the last step (`systemctl "
    f"list-timers {put_back_timer.RESTORE}.timer`)"
)


def restore(pair: Pair, *, backup: Backup, force: bool) -> Outcome:
    """Merge the backup's leases with those of both hosts, and start both servers on them."""
    if host.name != pair.primary.name:
        return f"done from {pair.primary.name}, for both"
    surveys = {node.name: look_at(node) for node in pair.nodes}
    found = list(restore_plan.objections(pair, backup, surveys, force=force, now=datetime.now(UTC)))
    names = tuple(node.name for node in pair.nodes)
    if found:
        listed = "\n".join(f"{number}. {one}" for number, one in enumerate(found, 1))
        raise Refusal(
            f"{len(found)} problem{'' if len(found) == 1 else 's'}:\n{listed}",
            "mend what is listed, then run the same command again",
            names,
            "refused; nothing was changed",
        )
    for text in restore_plan.notes(pair, backup, surveys):
        RUN.warn(pair, text)
    if state.is_executing:
        up = [
            node
            for node in pair.nodes
            if surveys[node.name].unit(unit_of(pair)).is_active or surveys[node.name].serves
        ]
        # Also those that a run stopped which was cut off: what it has armed is this one's now.
        # And those that a drill holds down: what it has armed is done first, when they are stopped.
        armed = " || ".join(
            f"systemctl is-active --quiet {name}.timer"
            for name in (put_back_timer.RESTORE, put_back_timer.DRILL)
        )
        ran = [node for node in pair.nodes if node in up or ask(host_of(node), armed).ok]
        if ran:
            RUN.warn(pair, _STOPPED)  # for a run that is interrupted, which ends at once
        try:
            _restore(pair, backup, ran, up)
        finally:
            RUN.take_back(pair, _STOPPED)
    return CHANGED


def _restore(pair: Pair, backup: Backup, ran: Collection[Node], up: Collection[Node]) -> None:
    """``ran``: the servers that are to run when it fails; ``up``: those that do so now."""
    names = tuple(node.name for node in pair.nodes)
    aside = f"{layout.STATE_DIR}/leases-before-restore-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    begun: list[str] = []
    written: list[str] = []
    still_up = list(up)
    if up:
        say("    stopping both servers: no client is served until they have started again")
    try:
        _see_to_a_start(pair, ran)
        # The primary last: it is the one that gives leases.
        for node in reversed(pair.nodes):
            still_up = [one for one in still_up if one != node]
            _stop(pair, node)
        outcome = _merged(pair, backup)
        for node in pair.nodes:
            _see_to_a_start(pair, ran)
            file = outcome.files[node.name]
            if file.is_there:
                say(f"    {node.name} has all of these leases, and no other")
                continue
            begun.append(node.name)
            _put(node, file, aside)
            written.append(node.name)
    except Refusal as refusal:
        stands = _what_stands(begun, written, aside)
        raise Refusal(
            f"{refusal.what}\n{stands}\n{_started_again(pair, ran, still_up)}",
            f"{refusal.remedy}; then run the same command again: it begins with what is there by "
            "then, and loses nothing",
            names,
            "stopped",
        ) from refusal
    held = f"{counted(outcome.in_use, 'lease')}, {outcome.from_backup} of them from the backup"
    say(f"    both hosts have {held}; starting both servers")
    try:
        failed = None
        for node in pair.nodes:
            try:
                start(pair, node)
                _call_off(node)
            except Refusal as refusal:  # the other one is to serve, then
                failed = failed or refusal
        if failed:
            raise failed
        for node in pair.nodes:
            checks.await_answers(pair, node)
        await_health(pair)
    except Refusal as refusal:
        raise Refusal(
            f"{refusal.what}\n{_what_stands(begun, written, aside)}",
            f"look at {layout.LOG} on both hosts; when it is mended, `pyinfra -y inventory.py "
            "deploy.py` starts what is down. The leases need not be restored again",
            names,
            "the leases are restored, and the pair is not healthy",
        ) from refusal
    RUN.warn(pair, f"restored from {backup.directory}: both hosts have {held}")
    if written:
        on = " and ".join(written)
        RUN.warn(pair, f"what lease files {on} had before are there in {aside}/")


def _see_to_a_start(pair: Pair, ran: Collection[Node]) -> None:
    """Have the servers that ran start by themselves, should this run be cut off before it does it.

    Not before what comes next has had its time: a lease file is not replaced under a server.
    """
    for node in ran:
        need(
            host_of(node),
            put_back_timer.arm(
                put_back_timer.RESTORE, _START_S, f"systemctl start {unit_of(pair)}"
            ),
            what=f"no timer can be set on {node.name} that would start kea-dhcp4 again",
            remedy=f"look at `journalctl -xe` on {node.name}",
        )


def _call_off(node: Node) -> None:
    ask(host_of(node), put_back_timer.call_off(put_back_timer.RESTORE))


def _merged(pair: Pair, backup: Backup) -> Restoration:
    live = {node.name: files_of(node, ()) for node in pair.nodes}
    return restore_plan.restoration(pair, backup, live)


def _put(node: Node, file: HostFile, aside: str) -> None:
    answer = ask(
        host_of(node),
        file_transfer.write_script(
            file.content, path=layout.LEASES, others=lease_file.BESIDES, aside=aside
        ),
        stdin=file_transfer.write_input(file.content),
        timeout_s=COPYING_S,
    )
    changed(node)
    if not answer.ok:
        raise Refusal(
            f"the leases could not be written on {node.name}: {answer.words}",
            f"mend that on {node.name}",
        )


def _stop(pair: Pair, node: Node) -> None:
    halt(pair, node, put_back_timer.run_now(put_back_timer.DRILL))
    for one in look_at(node, anew=True).holders("udp", 67):
        for program, pid in one.processes:
            if program == "kea-dhcp4":
                raise Refusal(
                    f"a kea-dhcp4 still runs on {node.name} that {unit_of(pair)} did not start "
                    f"(process {pid})",
                    f"end it on {node.name}",
                )


def _what_stands(begun: Collection[str], written: Collection[str], aside: str) -> str:
    said = []
    if written:
        on = " and ".join(written)
        said.append(f"The leases are restored on {on}; what was there before is in {aside}/.")
    # Whether the last step was still done is not known when the connection broke.
    said += [
        f"{name} has its lease file as it was, or restored: whole in either case."
        for name in begun
        if name not in written
    ]
    return " ".join(said) or "No lease file was changed."


def _started_again(pair: Pair, ran: Collection[Node], up: Collection[Node]) -> str:
    """Start what was stopped for this; what became of it, in words.

    Lease files are whole at any moment, and of two servers the one that lacks leases fetches them.
    """
    words = []
    for node in ran:
        if node in up:
            _call_off(node)
            words.append(f"kea-dhcp4 on {node.name} was not stopped.")
            continue
        try:
            start(pair, node)
            _call_off(node)
            words.append(f"kea-dhcp4 was started again on {node.name}.")
        except Refusal as refusal:
            words.append(f"{refusal.what}.")
    return " ".join(words) or "kea-dhcp4 runs on neither host, as before."
