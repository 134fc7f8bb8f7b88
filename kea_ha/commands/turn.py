"""A server's turn: its partner serves, it stops, work is done, it starts, both are healthy again.

Whatever a command does to a server of a live pair is made of this, so that there is one order of
things and one way to wait for them:

    step_down    the partner serves all clients, this server stops, and its partner has seen it go
    (the work)   documents, certificates, packages, leases
    come_back    it starts in step with its partner, answers, and the pair is healthy
"""

from __future__ import annotations

import time

from pyinfra.api import StringCommand

from kea_ha import foreign, layout
from kea_ha.decide import acceptance, change_plan
from kea_ha.host import accepted_state, put_back_timer
from kea_ha.host.daemons import DAEMONS, DHCP4
from kea_ha.host.mark import Work
from kea_ha.host.mark import back_to as back_to_of
from kea_ha.host.script import script
from kea_ha.host.survey import Survey
from kea_ha.kea import log_file
from kea_ha.kea.status import HOT_STANDBY, PARTNER_DOWN, PARTNER_IN_MAINTENANCE
from kea_ha.operations import checks, files, host_marks, identities, packages, services
from kea_ha.operations.probes import ask_kea, ha_state_of
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.remote import (
    PROGRESS_S,
    SERVICE_S,
    ask,
    need,
    run_commands,
    say,
    wait_until,
)
from kea_ha.session.surveys import changed, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair

_ON_ITS_WAY = ("waiting", "syncing", "ready")
RECOVER = "pyinfra -y inventory.py runbook/recover.py finds out what is wrong, and mends it"
#: What a server may take to notice something beyond its heartbeat, in seconds: Kea gives a request
#: 10 s.
_REQUEST_S = 15
#: From our order to start a server until systemd has carried it out, in seconds.
_ORDER_S = 0.4


def mark(pair: Pair, node: Node, work: Work = Work.CHANGING, back_to: str = "") -> None:
    """Leave word that a change is under way here: a run that finds it may go on with it.

    With it, which accepted state to go back to: if not ``back_to``, the one that a run that was cut
    off has left word of on either host, else the last.
    """
    if not look_at(node).kept:
        # Rolled out before states were kept: what stands here now is what was accepted.
        keep = accepted_state.keep_script(node, RUN.name)
        run_commands([StringCommand(keep, _stdin="not known", _timeout=SERVICE_S)])
        changed(node)
    if not look_at(node).mark.goes_on(work):
        last = look_at(node).kept_names.get(layout.KEPT_DIR, "")
        goal = back_to or back_to_of(one.mark for one in surveys_of(pair).values()) or last
        run_commands(host_marks.mark_change(node, work=work, back_to=goal))


def put_in_place(pair: Pair, node: Node) -> None:
    """Packages, certificates and documents: nothing that runs reads them before it restarts."""
    for of in (packages.kea, files.ownership):
        run_commands(of(pair, node))
    for which in ("ha", "api"):
        run_commands(identities.identity(pair, node, which=which))
    run_commands(files.document(pair, node, of=lambda plan: plan.files))
    run_commands(files.agent_password(pair, node))


# Down and up --------------------------------------------------------------------------------


def step_down(pair: Pair, node: Node) -> None:
    """Have the partner serve all clients, and stop this server."""
    free_of_clients(pair, node)
    stop(pair, node)


def come_back(pair: Pair, node: Node) -> None:
    """Run each daemon on what is on disk, and see the pair healthy."""
    fall_into_step(pair, node)
    run_daemons(pair, node)
    checks.await_answers(pair, node)
    await_health(pair)


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
            await_state(partner, change_plan.patience_s(pair, surveys_of(pair)), HOT_STANDBY)
        _hand_over(partner, node)
    elif look_at(partner, anew=True).serves:
        say(f"    {partner.name} serves all clients already")
    elif look_at(node, anew=True).serves:
        raise Refusal(
            f"{node.name} alone serves, so it may not be restarted",
            f"look at {layout.LOG} on {partner.name}; {RECOVER}",
        )


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


def stop(pair: Pair, node: Node) -> None:
    """Stop this server, and wait until its partner has seen it gone.

    It must not come back before that: as long as its partner is in partner-in-maintenance, that one
    sends a server that rejoins back into maintenance.
    """
    partner = pair.partner_of(node)
    partner_serves = look_at(partner, anew=True).serves
    halt(pair, node, put_back_timer.settle())
    if partner_serves:
        await_state(partner, _heartbeat_s(pair) + _REQUEST_S, PARTNER_DOWN)


def halt(pair: Pair, node: Node, first: str) -> None:
    """Stop this server, whoever serves; ``first`` is shell that goes before it."""
    # On the host that it concerns, which is not always the one whose operation this is.
    need(
        host_of(node),
        f"{first}; systemctl stop {unit_of(pair)}",
        what=f"kea-dhcp4 on {node.name} does not stop",
        remedy=f"look at `systemctl status {unit_of(pair)}` on {node.name}",
        timeout_s=SERVICE_S,
    )
    changed(node)


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


def run_daemons(pair: Pair, node: Node) -> None:
    """Each daemon on what is on disk now; one that is no longer wanted stops first."""
    for daemon in sorted(DAEMONS, key=lambda one: one.is_wanted(pair.settings)):
        run_commands(services.daemon_runs(pair, node, daemon=daemon))
    run_commands(services.firewall_table(pair, node))
    run_commands(services.expiry_timer(node))


# What is waited for ----------------------------------------------------------------------------


def await_state(node: Node, timeout_s: float, *states: str) -> None:
    """Wait until the server says that it is in one of these states."""
    wait_until(
        lambda: "" if (now := _state_of(node)) in states else f"{node.name} is in {now}",
        timeout_s=timeout_s,
        what=f"{node.name} does not go to {' or '.join(states)}",
        remedy=f"look at {layout.LOG} on {node.name}",
    )


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
        timeout_s=change_plan.patience_s(pair, surveys_of(pair)),
        what="the pair does not become healthy again",
        remedy=f"look at {layout.LOG} on both hosts",
    )


def _state_of(node: Node) -> str:
    return ha_state_of(node) or "a state that it does not tell"


def _heartbeat_s(pair: Pair) -> float:
    return change_plan.heartbeat_ms(pair, surveys_of(pair)) / 1000


def surveys_of(pair: Pair) -> dict[str, Survey]:
    """What is known of both hosts."""
    return {node.name: look_at(node) for node in pair.nodes}


def _anew(pair: Pair) -> dict[str, Survey]:
    return {node.name: look_at(node, anew=True) for node in pair.nodes}


# Putting back ----------------------------------------------------------------------------------


class NotHealthy(Refusal):
    """Raised when a host has its old state back, and the pair is not healthy all the same."""


def put_back(pair: Pair, node: Node, restart: tuple[str, ...], kept: str) -> None:
    """Put back an accepted state, its partner serving, and see the pair healthy again."""
    down = unit_of(pair) in restart
    if down:
        free_of_clients(pair, node)
        try:
            stop(pair, node)
        except Refusal as refusal:
            say(f"    {refusal.what}; putting back all the same")
    _write_back(node, accepted_state.put_back_script(kept))
    if down:
        fall_into_step(pair, node)
    if restart:
        _write_back(node, accepted_state.restart_script(restart, kept))
    try:
        await_health(pair)
    except Refusal as refusal:
        raise NotHealthy(refusal.what, refusal.remedy) from refusal


def put_back_together(pair: Pair, node: Node, kept: str) -> None:
    """Put back an accepted state here, as the partner does on its own, and see both healthy."""
    _write_back(
        node,
        accepted_state.put_back_script(kept)
        + accepted_state.restart_script(accepted_state.ALL_UNITS, kept),
        who=f"{node.name}: ",
    )
    await_health(pair)


def _write_back(node: Node, script: str, who: str = "") -> None:
    answer = ask(host_of(node), script, timeout_s=120)
    changed(node)
    if not answer.ok:
        raise Refusal(f"{who}{answer.words}", f"look at {layout.LOG} on {node.name}")


# In words ---------------------------------------------------------------------------------------


def own_words(node: Node) -> str:
    """What Kea, or systemd for it, said on the host in the last minute, where it failed."""
    units = " -u ".join(DHCP4.units)
    answer = ask(
        host_of(node),
        f"journalctl -q -o cat --since -60s -u {units} | grep -aE 'ERROR|FATAL|exited|rror:' | "
        "tail -n 4",
    )
    found = "\n".join(foreign.cut(line) for line in foreign.lines(answer.stdout.strip()))
    return f"\nThe journal of kea-dhcp4 on {node.name}:\n{found}" if found else ""


def who_serves(pair: Pair) -> str:
    """Who serves clients at this moment, as far as it can be told, as a sentence."""
    surveys = {}
    for node in pair.nodes:
        try:
            surveys[node.name] = look_at(node, anew=True)
        except Refusal:
            continue
    words = acceptance.serving(pair, surveys)
    return f"{words[:1].upper()}{words[1:]}."
