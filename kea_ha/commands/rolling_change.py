"""pyinfra operations that change a live pair: one server at a time, its partner serving meanwhile.

What is to be in order is the plan's, and how it gets there is the package ``operations``'s
matter; here is when: everything that no client can feel first, then the hand-over, the restart, and
the wait until the pair is healthy again. What does not get there is undone.
"""

from __future__ import annotations

import time

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import foreign, layout
from kea_ha.decide import acceptance, change_plan
from kea_ha.decide.change_plan import HostChange
from kea_ha.decide.client_impact import CHANGING
from kea_ha.host import accepted_state, put_back_timer
from kea_ha.host.script import script
from kea_ha.host.survey import Survey
from kea_ha.kea import log_file
from kea_ha.kea.status import HOT_STANDBY, PARTNER_DOWN, PARTNER_IN_MAINTENANCE
from kea_ha.operations import checks, identities, put_in_order
from kea_ha.operations.probes import ask_kea, ha_state_of
from kea_ha.operations.put_in_order import rename, write
from kea_ha.session.learned import RUN
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import (
    AGAIN,
    PROGRESS_S,
    SERVICE_S,
    Refusal,
    ask,
    need,
    run_commands,
    say,
    wait_until,
)
from kea_ha.session.surveys import changed, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair

_ON_ITS_WAY = ("waiting", "syncing", "ready")
#: What a server may take to notice something beyond its heartbeat, in seconds: Kea gives a request
#: 10 s.
_REQUEST_S = 15
#: From our order to start a server until systemd has carried it out, in seconds.
_ORDER_S = 0.4


def announce(*, pair: Pair) -> Outcome:
    """Say what will change on which host, in which order, and what clients will notice."""
    change = RUN.changes.get(pair.name)
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
        say(f"    {change_plan.cost(pair, change, _surveys(pair))}")
    return "said"


def change(*, pair: Pair, turn: int) -> Outcome:
    """Change the host whose turn it is while its partner serves all, and see it healthy again."""
    planned = RUN.changes.get(pair.name)
    mine = planned.of(turn) if planned else None
    if planned is None or mine is None or mine.node.name != host.name:
        return "it is not this host's turn, or nothing is to change"
    if state.is_executing:
        if planned.together:
            _prepare_together(pair, mine.node)
        else:
            _roll(pair, mine, before=planned.hosts[:turn])
    return CHANGED


def restart_together(*, pair: Pair) -> Outcome:
    """Restart both servers at once, for a change that they cannot live with half done."""
    planned = RUN.changes.get(pair.name)
    if planned is None or not planned.together:
        return "no change here that takes both servers at once"
    node = pair.node(host.name)
    if state.is_executing:
        try:
            run_daemons(pair, node)
            checks.await_answers(pair, node)
        except Refusal as refusal:
            RUN.broken[pair.name] = refusal  # both are to be put back, and this is one of them
    return CHANGED


def settle_together(*, pair: Pair) -> Outcome:
    """See both healthy after they were restarted at once, or put back both."""
    planned = RUN.changes.get(pair.name)
    if planned is None or not planned.together:
        return "no change here that takes both servers at once"
    if state.is_executing:
        try:
            if pair.name in RUN.broken:
                raise RUN.broken[pair.name]
            await_health(pair)
        except Refusal as refusal:
            raise _undone_together(pair, pair.node(host.name), refusal) from refusal
    return "both are healthy"


def _undone_together(pair: Pair, node: Node, refusal: Refusal) -> Refusal:
    """Put back the last accepted state on this host, as its partner does on its own."""
    said = f"both restarted with the change: {refusal.why}{own_words(node)}"
    say("    undoing: the host gets back its last accepted state, as its partner does")
    kept = _last_accepted(node)
    restart = accepted_state.restart_script(accepted_state.ALL_UNITS, kept)
    answer = ask(host, accepted_state.put_back_script(kept) + restart, timeout_s=120)
    changed(node)
    names = tuple(one.name for one in pair.nodes)
    try:
        if not answer.ok:
            raise Refusal(f"{node.name}: {answer.words}", AGAIN)
        await_health(pair)
    except Refusal as second:
        return Refusal(
            f"{said}\nThe last accepted state was put back, but {second.why}\n{who_serves(pair)}",
            _RECOVER,
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
        if mine.restarts or not acceptance.answers(look_at(node)):
            free_of_clients(pair, node)
            touched = accepted_state.ALL_UNITS
            stop(pair, node)
            fall_into_step(pair, node)
        touched = touched or accepted_state.OTHER_UNITS
        run_daemons(pair, node)
        checks.await_answers(pair, node)
        await_health(pair)
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


def mark(pair: Pair, node: Node, how: str = CHANGING, back_to: str = "") -> None:
    """Leave word that a change is under way here: a run that finds it may go on with it.

    With it, which accepted state to go back to: if not ``back_to``, the one that a run that was cut
    off has left word of on either host, else the last.
    """
    if not look_at(node).kept:
        # Rolled out before states were kept: what stands here now is what was accepted.
        keep = accepted_state.keep_script(node, RUN.name)
        run_commands([StringCommand(keep, _stdin="not known", _timeout=SERVICE_S)])
        changed(node)
    if not look_at(node).state.get("unfinished", "").startswith(how):
        last = look_at(node).kept_names.get(layout.KEPT_DIR, "")
        goal = back_to or change_plan.back_to(_surveys(pair).values()) or last
        note = change_plan.mark_text(how, time.strftime("%F %T %z"), goal)
        run_commands([
            write(layout.UNFINISHED_FILE, f"{note}\n", mode="600", owner="root:root"),
            rename(layout.UNFINISHED_FILE),
        ])  # fmt: skip
        changed(node)


def put_in_place(pair: Pair, node: Node) -> None:
    """Packages, certificates and documents: nothing that runs reads them before it restarts."""
    for of in (put_in_order.packages, put_in_order.ownership):
        run_commands(of(pair=pair, node=node))
    for which in ("ha", "api"):
        run_commands(identities.identity(pair=pair, node=node, which=which))
    for which in ("drop_ins", "dhcp4", "agent", "firewall", "support"):
        run_commands(put_in_order.document(pair=pair, node=node, which=which))
    run_commands(put_in_order.agent_password(pair=pair, node=node))


def free_of_clients(pair: Pair, node: Node) -> None:
    """See that the partner serves all clients, so that this server may stop.

    Kea ARM, "Controlled Shutdown and Maintenance of DHCP Servers": the command goes to the server
    that stays up.
    """
    partner = pair.partner_of(node)
    # Also from a server that is silent or on its way: a partner in hot-standby would wait for its
    # acknowledgements until it counts as down.
    if HOT_STANDBY in (_state_of(node), _state_of(partner)):
        if _state_of(partner) in _ON_ITS_WAY:  # it has not got all leases yet
            await_state(partner, change_plan.patience_s(pair, _surveys(pair)), HOT_STANDBY)
        _hand_over(partner, node)
    elif acceptance.serves(look_at(partner, anew=True)):
        say(f"    {partner.name} serves all clients already")
    elif acceptance.serves(look_at(node, anew=True)):
        raise Refusal(
            f"{node.name} alone serves, so it may not be restarted",
            f"look at {layout.LOG} on {partner.name}; {_RECOVER}",
        )


def stop(pair: Pair, node: Node) -> None:
    """Stop this server, and wait until its partner has seen it gone.

    It must not come back before that: as long as its partner is in partner-in-maintenance, that one
    sends a server that rejoins back into maintenance.
    """
    partner = pair.partner_of(node)
    partner_serves = acceptance.serves(look_at(partner, anew=True))
    # On the host that it concerns, which is not always the one whose operation this is.
    need(
        host_of(node),
        f"{put_back_timer.settle()}; systemctl stop {unit_of(pair)}",
        what=f"kea-dhcp4 on {node.name} does not stop",
        remedy=f"look at `systemctl status {unit_of(pair)}` on {node.name}",
        timeout_s=SERVICE_S,
    )
    changed(node)
    if partner_serves:
        await_state(partner, _heartbeat_s(pair) + _REQUEST_S, PARTNER_DOWN)


def fall_into_step(pair: Pair, node: Node) -> None:
    """Wait for the moment at which a stopped primary is to start, its partner serving.

    The partner lets go of the clients at its own heartbeat that finds the primary ready, and the
    primary serves from its own that finds that. Were the partner's to come while the primary
    fetches the leases, both would miss, and clients would wait for another heartbeat: so the
    primary is started to do that half-way between two of them.
    """
    partner = pair.partner_of(node)
    if node.role != "primary" or _state_of(partner) != PARTNER_DOWN:
        return
    heartbeat_s = _heartbeat_s(pair)
    if heartbeat_s > PROGRESS_S:
        say(f"    waiting up to {heartbeat_s:.0f} s for {partner.name}'s heartbeat, to keep step")
    patience_s = round(heartbeat_s) + 2
    await_one = foreign.quoted(script("await_heartbeat", tries=round(patience_s / 0.05)))
    waiting = f"as_kea_s={patience_s + 5}; as_kea sh -c {await_one} | taken 1"
    ask(host_of(partner), script("as_kea") + waiting, timeout_s=patience_s + 8)
    lead_s = log_file.start_took(look_at(node).log) + _ORDER_S
    time.sleep((heartbeat_s / 2 - lead_s) % heartbeat_s)


def start(pair: Pair, node: Node) -> None:
    """Start this server, anew if it runs, now and at each boot."""
    unit = unit_of(pair)
    need(
        host_of(node),
        f"systemctl unmask --quiet {unit} 2>/dev/null; "
        f"SYSTEMCTL_SKIP_SYSV=1 systemctl enable --quiet {unit} 2>&1; "
        f"systemctl reset-failed {unit} 2>/dev/null; systemctl restart {unit}",
        what=f"kea-dhcp4 on {node.name} does not start",
        remedy=f"look at {layout.LOG} and `journalctl -u {unit}` on {node.name}",
        timeout_s=SERVICE_S,
    )
    changed(node)


def _hand_over(partner: Node, node: Node) -> None:
    answer = ask_kea(partner, "ha-maintenance-start")
    if answer.result != 0:
        ask_kea(partner, "ha-maintenance-cancel")
        raise Refusal(
            f"{partner.name} does not take over from {node.name}: {answer.text or 'no answer'}",
            f"look at {layout.LOG} on {partner.name}",
        )
    try:
        await_state(partner, _REQUEST_S, PARTNER_IN_MAINTENANCE, PARTNER_DOWN)
    except Refusal:
        ask_kea(partner, "ha-maintenance-cancel")
        raise
    say(f"    {partner.name} serves all clients; {node.name} steps down")


def await_state(node: Node, timeout_s: float, *states: str) -> None:
    """Wait until the server says that it is in one of these states."""
    wait_until(
        lambda: "" if (now := _state_of(node)) in states else f"{node.name} is in {now}",
        timeout_s=timeout_s,
        what=f"{node.name} does not go to {' or '.join(states)}",
        remedy=f"look at {layout.LOG} on {node.name}",
    )


def run_daemons(pair: Pair, node: Node) -> None:
    """Each daemon on what is on disk now; one that is no longer wanted stops first."""
    order = ("dhcp4", "agent") if pair.settings.control_channel == "agent" else ("agent", "dhcp4")
    for which in order:
        run_commands(put_in_order.service(pair=pair, node=node, which=which))
    run_commands(put_in_order.firewall(pair=pair, node=node))
    run_commands(put_in_order.expiry_timer(node=node))


def _state_of(node: Node) -> str:
    return ha_state_of(node) or "a state that it does not tell"


def await_health(pair: Pair, *, though_both_serve: bool = False) -> None:
    """Wait until the pair is healthy again, as long as its settings say that it may take.

    :raises Refusal: when it is not by then; at once when both serve, unless that is what is to end.
    """

    def missing() -> str:
        found = acceptance.health_findings(pair, _anew(pair))
        states = {node.name: _state_of(node) for node in pair.nodes} if found else {}
        if set(states.values()) == {PARTNER_DOWN} and not though_both_serve:
            # No time to lose: two clients may be given one address.
            raise Refusal(
                "the pair does not become healthy: the two do not reach each other, and both serve",
                f"look at {layout.LOG} on both hosts",
            )
        on_their_way = [f"{n} is in {now}" for n, now in states.items() if now != HOT_STANDBY]
        return ", ".join(on_their_way) or "; ".join(found)

    wait_until(
        missing,
        timeout_s=change_plan.patience_s(pair, _surveys(pair)),
        what="the pair does not become healthy again",
        remedy=f"look at {layout.LOG} on both hosts",
    )


def _heartbeat_s(pair: Pair) -> float:
    return change_plan.heartbeat_ms(pair, _surveys(pair)) / 1000


def _surveys(pair: Pair) -> dict[str, Survey]:
    return {node.name: look_at(node) for node in pair.nodes}


# Undo ----------------------------------------------------------------------------------------


class NotHealthy(Refusal):
    """Raised when a host has its old state back, and the pair is not healthy all the same."""


def _undone(pair: Pair, undo: list[tuple[Node, tuple[str, ...]]], refusal: Refusal) -> Refusal:
    """Put back the last accepted state of these hosts, one after the other, and tell of it.

    With each come the units that were touched there, to be restarted. The first one is the one that
    failed.
    """
    nodes = [node for node, _ in undo]
    said = f"{nodes[0].name}, changed: {refusal.why}"
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
                f"{said}\nThe last accepted state was put back on {node.name}, but {second.why}.\n"
                f"{who_serves(pair)}",
                f"{_RECOVER}; then run the same command with the settings as they were",
                tuple(one.name for one in nodes),
                "undone, and the pair is not healthy",
            )
        except Refusal as second:
            return Refusal(
                f"{said}\nThe change could not be undone on {node.name}: {second.why}\n"
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


_RECOVER = "pyinfra -y inventory.py runbook/recover.py finds out what is wrong, and mends it"
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
        ask(host_of(node), f"rm -f {layout.UNFINISHED_FILE}")
        changed(node)


def put_back(pair: Pair, node: Node, restart: tuple[str, ...], kept: str) -> None:
    """Put back an accepted state, its partner serving, and see the pair healthy again."""
    on = host_of(node)
    if unit_of(pair) in restart:
        free_of_clients(pair, node)
        try:
            stop(pair, node)
        except Refusal as refusal:
            say(f"    {refusal.why}; putting back all the same")
    answer = ask(on, accepted_state.put_back_script(kept), timeout_s=120)
    if answer.ok and restart:
        if unit_of(pair) in restart:
            fall_into_step(pair, node)
        answer = ask(on, accepted_state.restart_script(restart, kept), timeout_s=120)
    changed(node)
    if not answer.ok:
        raise Refusal(answer.words, f"look at {layout.LOG} on {node.name}")
    try:
        await_health(pair)
    except Refusal as refusal:
        raise NotHealthy(refusal.why, refusal.remedy) from refusal


def _anew(pair: Pair) -> dict[str, Survey]:
    return {node.name: look_at(node, anew=True) for node in pair.nodes}


def own_words(node: Node) -> str:
    """What Kea, or systemd for it, said on the host in the last minute, where it failed."""
    units = " -u ".join(packaging.dhcp4_unit for packaging in (layout.DEBIAN, layout.ISC))
    answer = ask(
        host_of(node),
        f"journalctl -q -o cat --since -60s -u {units} | grep -aE 'ERROR|FATAL|exited|rror:' | "
        "tail -n 4",
    )
    found = "\n".join(foreign.cut(line) for line in foreign.lines(answer.stdout.strip()))
    return f"\nThe journal of kea-dhcp4 on {node.name}:\n{found}" if found else ""


def who_serves(pair: Pair) -> str:
    surveys = {}
    for node in pair.nodes:
        try:
            surveys[node.name] = look_at(node, anew=True)
        except Refusal:
            continue
    words = acceptance.serving(pair, surveys)
    return f"{words[:1].upper()}{words[1:]}."
