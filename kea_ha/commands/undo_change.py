"""Put back, on both hosts, a state that was accepted before.

Of a change that was not finished that is the last accepted state, of a finished one the state
before it, and the documents of a backup make one, too. It is put back as it was made: one server
at a time, its partner serving.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import foreign, layout
from kea_ha.commands.turn import mark, own_words, put_back, put_back_together, who_serves
from kea_ha.decide import acceptance, change_plan, restore_plan
from kea_ha.foreign import ForeignError, json_value, quoted
from kea_ha.host import accepted_state, daemons
from kea_ha.host.backup_store import Backup
from kea_ha.host.survey import RemoteFile
from kea_ha.kea import config_diff
from kea_ha.operations import checks, host_marks
from kea_ha.operations.checks import CHANGES
from kea_ha.operations.files import rename, write
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import AGAIN, SERVICE_S, Commands, ask, need, run_commands, say
from kea_ha.session.surveys import change_of_cas, changed, look_at, plan_for, read
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem


@dataclass(frozen=True)
class Goal:
    """An accepted state to go back to: where it is kept, its name, and its settings and files."""

    kept: str
    name: str
    settings: str
    files: Mapping[str, RemoteFile] = field(repr=False)


#: By pair and host: the accepted state to go back to.
GOALS = Slot[dict[str, Goal]]()


def decide(pair: Pair, *, backup: Backup | None, force: bool, accept_outage: bool) -> Outcome:
    """Refuse, with every reason at once, or plan what is put back where.

    With a ``backup`` its documents are what is put back.
    """
    if backup is None:
        goals = change_plan.goals({node.name: look_at(node) for node in pair.nodes})
        surveys = {
            node.name: read(node, goals[node.name])
            if goals[node.name]
            else replace(look_at(node), kept={})
            for node in pair.nodes
        }
    else:
        checks.refuse(pair, list(restore_plan.document_objections(pair, backup)))
        goals = dict.fromkeys((node.name for node in pair.nodes), layout.RESTORED_DIR)
        surveys = {
            node.name: restore_plan.accepted_state(read(node), backup.documents(node.name))
            for node in pair.nodes
        }
    found = list(
        change_plan.undo_objections(pair, surveys, force=force, accept_outage=accept_outage)
    )
    if not force and not change_plan.is_marked(surveys.values()):
        found += change_plan.hand_edits(pair, {node.name: look_at(node) for node in pair.nodes})
    if change_of_cas(pair) is not None:
        found.append(
            Problem(
                "the CAs",
                "in the middle of being changed",
                "one thing at a time: an earlier state could be of CAs that are dropped",
                "go on with it: pyinfra -y inventory.py runbook/rotate.py --data ca=true",
                where=pair.name,
            )
        )
    checks.refuse(pair, found)
    CHANGES.pop(pair.name, None)
    GOALS[pair.name] = {
        name: Goal(
            kept,
            backup.directory.resolve().name if backup else surveys[name].kept_names.get(kept, ""),
            surveys[name].kept_settings,
            surveys[name].kept,
        )
        for name, kept in goals.items()
    }
    if planned := change_plan.plan_undo(pair, surveys):
        CHANGES[pair.name] = planned
    return "decided"


def begin(pair: Pair, node: Node, *, backup: Backup | None) -> Outcome:
    """Have this host's Kea look at the document that it is to go back to."""
    if pair.name not in CHANGES:
        return "nothing to undo"
    goal = GOALS[pair.name][node.name]
    if state.is_executing:
        if backup is not None:
            _bring(node, goal, backup)
        candidate = f"{layout.KEA_CONF}.new"
        answer = ask(
            host,
            f"cp -a {goal.kept}{layout.KEA_CONF} {candidate} && "
            f"{{ {plan_for(pair, node).dhcp4.check} {candidate} 2>&1; code=$?; rm -f {candidate}; "
            "exit $code; }",
        )
        if not answer.ok:
            ask(host, f"rm -rf {layout.RESTORED_DIR}")
            raise Refusal(
                f"the Kea on {node.name} does not take the document that it is to go back to. In "
                f"its own words:\n{answer.words}",
                "give the settings as they were, and run deploy.py: it writes documents for the "
                "Kea that is installed",
                outcome="refused; nothing was changed",
            )
    return CHANGED


def mark_begun(pair: Pair, node: Node) -> Outcome:
    """Leave word on the host of what is being put back, now that both hosts can have it."""
    if pair.name not in CHANGES:
        return "nothing to undo"
    if state.is_executing:
        goal = GOALS[pair.name][node.name]
        # A restore goes on to the backup, and back to what was accepted before it.
        back_to = "" if goal.kept == layout.RESTORED_DIR else goal.name
        mark(pair, node, change_plan.PUTS_BACK[goal.kept], back_to)
    return CHANGED


def _bring(node: Node, goal: Goal, backup: Backup) -> None:
    """Make an accepted state of the backup's documents and the host's own certificates."""
    tls = [path for path in goal.files if path not in daemons.DOCUMENTS]
    need(
        host,
        f"set -e; umask 077; cd /; rm -rf {goal.kept}; mkdir -p {goal.kept}; "
        f"cp -a --parents {quoted(*tls)} {goal.kept}",
        what=f"the documents of the backup cannot be put on {node.name}",
        remedy=AGAIN,
    )
    units = foreign.text(backup.documents(node.name)[layout.UNITS_FILE])
    own = {
        layout.KEPT_SETTINGS: goal.settings,
        layout.KEPT_UNITS: units,
        layout.KEPT_NAME: goal.name,
    }
    given = [(f"/{name}", text, "600", "root:root") for name, text in own.items()]
    given += [
        (path, one.content or "", one.mode, one.owner)
        for path, one in goal.files.items()
        if path in daemons.DOCUMENTS
    ]
    for path, text, mode, owner in given:
        run_commands([
            write(f"{goal.kept}{path}", text, mode=mode, owner=owner),
            rename(f"{goal.kept}{path}"),
        ])  # fmt: skip


def undo(pair: Pair, *, turn: int) -> Outcome:
    """Put the earlier state back on the host whose turn it is, while its partner serves all."""
    planned = CHANGES.get(pair.name)
    mine = planned.of(turn) if planned else None
    if planned is None or planned.together or mine is None or mine.node.name != host.name:
        return "it is not this host's turn, or nothing is to be undone"
    if state.is_executing:
        try:
            put_back(pair, mine.node, accepted_state.ALL_UNITS, GOALS[pair.name][host.name].kept)
        except Refusal as refusal:
            raise _stopped(pair, mine.node, refusal) from refusal
        say(f"    {mine.node.name} has its earlier state, and the pair is healthy")
    return CHANGED


def undo_together(pair: Pair) -> Outcome:
    """Put it back on both at once, where the two could not live together half undone."""
    planned = CHANGES.get(pair.name)
    if planned is None or not planned.together:
        return "nothing to be undone that takes both servers at once"
    if state.is_executing:
        node = pair.node(host.name)
        try:
            put_back_together(pair, node, GOALS[pair.name][node.name].kept)
        except Refusal as refusal:
            raise _stopped(pair, node, refusal) from refusal
    return CHANGED


def _stopped(pair: Pair, node: Node, refusal: Refusal) -> Refusal:
    return Refusal(
        f"the earlier state of {node.name} is back, or partly so, and the pair is not healthy: "
        f"{refusal.what}{own_words(node)}\n{who_serves(pair)}",
        f"{refusal.remedy}; then run the same command again, or deploy.py to go forward to the "
        "settings at hand",
        (node.name,),
        "stopped while undoing",
    )


def keep(pair: Pair, node: Node) -> Commands:
    """Take what was put back for what was accepted last; what was undone is kept before it."""
    if pair.name not in CHANGES:
        host.noop("nothing was undone")
        return
    goal = GOALS[pair.name][node.name]
    if look_at(node).kept_names.get(layout.KEPT_DIR) == goal.name:
        # Kept a second time, it would take the place of what was undone.
        host.noop("it is kept already")
        return
    yield StringCommand(
        accepted_state.keep_script(node, goal.name),
        _stdin=goal.settings or "not known",
        _timeout=SERVICE_S,
    )
    changed(node)


def end(pair: Pair, node: Node, *, backup: Backup | None) -> Commands:
    """Both keep it: nothing is under way any longer."""
    if pair.name not in CHANGES:
        host.noop("nothing was undone")
    else:
        yield from host_marks.mark_ended(node)
    if state.is_executing:
        _say_the_end(pair, backup)


def _say_the_end(pair: Pair, backup: Backup | None) -> None:
    if pair.name not in CHANGES:
        RUN.verdicts[pair.name] = (
            "nothing to undo: what was accepted before stands there."
            if backup is None
            else f"nothing to restore: the documents are as in {backup.directory}."
        )
        return
    surveys = {node.name: look_at(node) for node in pair.nodes}
    done = (
        "undone. Both hosts are as they were accepted before"
        if backup is None
        else f"restored. Both hosts have their documents of {backup.directory}"
    )
    RUN.verdicts[pair.name] = f"{done}, and healthy; {acceptance.serving(pair, surveys)}."
    try:
        before = json_value(GOALS[pair.name][pair.primary.name].settings, "the settings")
    except ForeignError:
        return  # rolled out before settings were kept
    for one in config_diff.differences(before, json.loads(accepted_state.settings_text(pair))):
        RUN.warn(pair, f"the next deploy.py would change this again: setting {one}")
