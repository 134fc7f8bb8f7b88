"""Change a live pair: one server at a time, its partner serving meanwhile.

What is to be in order is the plan's, and how it gets there is the package ``operations``'s
matter; here is when: everything that no client can feel first, then the hand-over, the restart, and
the wait until the pair is healthy again. What does not get there is undone.
"""

from __future__ import annotations

import time

from pyinfra import host, state

from kea_ha import layout
from kea_ha.commands.turn import (
    RECOVER,
    NotHealthy,
    await_health,
    come_back,
    free_of_clients,
    mark,
    own_words,
    put_back,
    put_back_together,
    put_in_place,
    run_daemons,
    stop,
    surveys_of,
    who_serves,
)
from kea_ha.decide import change_plan
from kea_ha.decide.change_plan import HostChange
from kea_ha.host import accepted_state
from kea_ha.operations import checks, host_marks
from kea_ha.operations.checks import CHANGES
from kea_ha.refusal import Refusal
from kea_ha.session.learned import Slot
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import say
from kea_ha.session.surveys import look_at
from kea_ha.settings.model import Node, Pair

#: By pair: why a change of both servers at once has to be put back.
BROKEN = Slot[Refusal]()


def announce(pair: Pair) -> Outcome:
    """Say what will change on which host, in which order, and what clients will notice."""
    change = CHANGES.get(pair.name)
    if change is None:
        return "no live server has to change"
    if host.name == change.hosts[0].node.name:
        for setting in change.settings:
            say(f"    setting {setting}")
        for one in change.hosts:
            restart = "restarts" if one.restarts else "runs on"
            say(f"    {one.node.name} (kea-dhcp4 {restart}):")
            for line in one.lines:
                say(f"        {line}")
        say(f"    {change_plan.cost(pair, change, surveys_of(pair))}")
    return "said"


def change(pair: Pair, *, turn: int) -> Outcome:
    """Change the host whose turn it is while its partner serves all, and see it healthy again."""
    planned = CHANGES.get(pair.name)
    mine = planned.of(turn) if planned else None
    if planned is None or mine is None or mine.node.name != host.name:
        return "it is not this host's turn, or nothing is to change"
    if state.is_executing:
        if planned.together:
            _prepare_together(pair, mine.node)
        else:
            _roll(pair, mine, before=planned.hosts[:turn])
    return CHANGED


def restart_together(pair: Pair) -> Outcome:
    """Restart both servers at once, for a change that they cannot live with half done."""
    planned = CHANGES.get(pair.name)
    if planned is None or not planned.together:
        return "no change here that takes both servers at once"
    node = pair.node(host.name)
    if state.is_executing:
        try:
            run_daemons(pair, node)
            checks.await_answers(pair, node)
        except Refusal as refusal:
            BROKEN[pair.name] = refusal  # both are to be put back, and this is one of them
    return CHANGED


def settle_together(pair: Pair) -> Outcome:
    """See both healthy after they were restarted at once, or put back both."""
    planned = CHANGES.get(pair.name)
    if planned is None or not planned.together:
        return "no change here that takes both servers at once"
    if state.is_executing:
        try:
            if pair.name in BROKEN:
                raise BROKEN[pair.name]
            await_health(pair)
        except Refusal as refusal:
            raise _undone_together(pair, pair.node(host.name), refusal) from refusal
    return "both are healthy"


def _undone_together(pair: Pair, node: Node, refusal: Refusal) -> Refusal:
    """Put back the last accepted state on this host, as its partner does on its own."""
    said = f"both restarted with the change: {refusal.what}{own_words(node)}"
    say("    undoing: the host gets back its last accepted state, as its partner does")
    kept = _last_accepted(node)
    names = tuple(one.name for one in pair.nodes)
    try:
        put_back_together(pair, node, kept)
    except Refusal as second:
        return Refusal(
            f"{said}\nThe last accepted state was put back, but {second.what}\n{who_serves(pair)}",
            RECOVER,
            names,
            "undone, and the pair is not healthy",
        )
    _unmark(node, kept)
    checks.only_once(pair)
    return Refusal(
        f"{said}\nThe last accepted state was put back on both, and the pair is healthy again.",
        _SETTINGS_FIRST,
        names,
        _AS_BEFORE,
    )


# One host ------------------------------------------------------------------------------------


def _roll(pair: Pair, mine: HostChange, *, before: tuple[HostChange, ...]) -> None:
    node = mine.node
    begun = time.monotonic()
    touched: tuple[str, ...] = ()
    partner = pair.partner_of(node)
    done = [(one.node, _touched(one)) for one in before]
    if not done and change_plan.is_marked([look_at(partner)]):
        done = [(partner, accepted_state.ALL_UNITS)]  # changed by a run that was cut off
    try:
        mark(pair, node)
        say(f"    writing what changes on {node.name}; its server runs on")
        put_in_place(pair, node)
        if mine.restarts or not look_at(node).answers:
            free_of_clients(pair, node)
            touched = accepted_state.ALL_UNITS
            stop(pair, node)
        touched = touched or accepted_state.OTHER_UNITS
        come_back(pair, node)
    except Refusal as refusal:
        raise _undone(pair, [(node, touched), *done], refusal) from refusal
    say(f"    {node.name} is changed, and the pair healthy, after {time.monotonic() - begun:.1f} s")


def _touched(change: HostChange) -> tuple[str, ...]:
    return accepted_state.ALL_UNITS if change.restarts else accepted_state.OTHER_UNITS


def _prepare_together(pair: Pair, node: Node) -> None:
    """Write what changes on this host, for both to be restarted when it is written on both."""
    partner = pair.partner_of(node)
    try:
        mark(pair, node)
        say(f"    writing what changes on {node.name}; its server runs on")
        put_in_place(pair, node)
    except Refusal as refusal:
        also = [(partner, ())] if change_plan.is_marked([look_at(partner, anew=True)]) else []
        raise _undone(pair, [(node, ()), *also], refusal) from refusal


# Undo ----------------------------------------------------------------------------------------


def _undone(pair: Pair, undo: list[tuple[Node, tuple[str, ...]]], refusal: Refusal) -> Refusal:
    """Put back the last accepted state of these hosts, one after the other, and tell of it.

    With each come the units that were touched there, to be restarted. The first one is the one that
    failed.
    """
    nodes = [node for node, _ in undo]
    said = f"{nodes[0].name}, changed: {refusal.what}"
    said += own_words(nodes[0]) if undo[0][1] == accepted_state.ALL_UNITS else ""
    for line in said.split("\n"):
        say(f"    {line}")
    for node, restart in undo:
        say(f"    undoing: {node.name} gets back its last accepted state")
        try:
            kept = _last_accepted(node)
            put_back(pair, node, restart, kept)
            _unmark(node, kept)
        except NotHealthy as second:
            return Refusal(
                f"{said}\nThe last accepted state was put back on {node.name}, but {second.what}.\n"
                f"{who_serves(pair)}",
                f"{RECOVER}; then run the same command with the settings as they were",
                tuple(one.name for one in nodes),
                "undone, and the pair is not healthy",
            )
        except Refusal as second:
            return Refusal(
                f"{said}\nThe change could not be undone on {node.name}: {second.what}\n"
                f"{who_serves(pair)}",
                f"{refusal.remedy}; bring {node.name} back, then run the same command again, with "
                "the settings as they were to have the old state",
                tuple(one.name for one in nodes),
                f"stopped; {node.name} is not as it was",
            )
    names = " and ".join(node.name for node in nodes)
    return Refusal(
        f"{said}\nThe last accepted state was put back on {names}, and the pair is healthy again.",
        _SETTINGS_FIRST,
        tuple(node.name for node in nodes),
        _AS_BEFORE,
    )


_SETTINGS_FIRST = "put the settings right first: the next deploy.py would try the same ones again"
_AS_BEFORE = "undone; the pair is as it was before"


def _last_accepted(node: Node) -> str:
    """Where this host keeps what was accepted before the change that is being made."""
    seen = look_at(node)
    found = change_plan.goals({node.name: seen})[node.name] if change_plan.is_marked([seen]) else ""
    return found or layout.KEPT_DIR


def _unmark(node: Node, kept: str) -> None:
    """What was put back from there stands: nothing is under way any longer.

    Unless it is not what the host keeps as its last state, which the mark alone tells.
    """
    if kept == layout.KEPT_DIR:
        host_marks.forget_change(node)
