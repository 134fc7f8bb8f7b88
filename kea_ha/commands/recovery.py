"""Find out what is wrong with a live pair, say it, and mend it."""

from __future__ import annotations

import time
from dataclasses import replace

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import layout
from kea_ha.commands.turn import (
    await_health,
    await_state,
    come_back,
    fall_into_step,
    halt,
    own_words,
    put_in_place,
    start,
    step_down,
    who_serves,
)
from kea_ha.decide import acceptance, diagnosis
from kea_ha.decide.diagnosis import Diagnosis
from kea_ha.host import put_back_timer
from kea_ha.host.daemons import AGENT
from kea_ha.kea.status import HOT_STANDBY, IN_MAINTENANCE, PARTNER_DOWN
from kea_ha.operations import checks, host_marks, identities, packages, services
from kea_ha.operations.checks import SEEN
from kea_ha.operations.probes import ask_kea
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import (
    AGAIN,
    POLL_S,
    SERVICE_S,
    PartnerFailed,
    run_commands,
    say,
    wait_until,
)
from kea_ha.session.surveys import anchors_for, changed, look_at, unit_of
from kea_ha.settings.model import Node, Pair

#: By pair: what is wrong with it, and what mends it.
DIAGNOSES = Slot[Diagnosis]()


def diagnose(pair: Pair) -> Outcome:
    """Say what was found and what will be done; refuse where something else has to come first."""
    names = {node.name for node in pair.nodes}
    if any(set(failure.hosts) & names for failure in RUN.failures):
        raise PartnerFailed  # held by another run, or not to be read: that has been said
    if not state.is_executing:
        checks.look_ahead(pair)
    elif len(pair.nodes) > sum(node.name in SEEN for node in pair.nodes):
        _await_word_of_partner(pair, pair.node(host.name))
    found = diagnosis.diagnose(pair, SEEN, anchors_for(pair))
    checks.refuse(pair, list(diagnosis.problems(pair, SEEN, anchors_for(pair), found)))
    DIAGNOSES[pair.name] = found
    if found.cure != "rebuild":
        checks.warn_of_unfinished_cas(pair)
    if host.name == next(node.name for node in pair.nodes if node.name in SEEN):
        for line in found.found:
            say(f"    found: {line}")
        say(f"    to do: {found.words}")
    return found.cure


def cure(pair: Pair, node: Node) -> Outcome:
    """Do on this host what the diagnosis says."""
    found = DIAGNOSES.get(pair.name)
    if found is None or found.cure == "nothing" or found.host not in ("", node.name):
        host.noop("nothing is to be done here")
        if found is not None and found.cure == "nothing":
            _say_the_end(pair, found)
        return None
    if state.is_executing:
        try:
            _CURES[found.cure](pair, node, found)
        except Refusal as refusal:
            raise Refusal(
                f"{found.words}: {refusal.what}{own_words(node)}\n{who_serves(pair)}",
                refusal.remedy,
                refusal.hosts,
                "not recovered",
            ) from refusal
        _say_the_end(pair, found)
    return CHANGED


def _await_word_of_partner(pair: Pair, node: Node) -> None:
    """Wait until it is known whether this server hears of its partner still.

    It has when there was an answer since we began, and it has not when there was none for two
    heartbeats.
    """
    begun = time.monotonic()

    def undecided() -> str:
        survey = look_at(node, anew=True)
        SEEN[node.name] = replace(SEEN[node.name], survey=survey)
        reported = survey.status
        if reported is None:
            return ""
        heartbeat_s = acceptance.heartbeat(pair, survey).total_seconds()
        age_s = reported.ha.remote.age_s if reported.ha else 0
        if reported.ha is None or age_s > 2 * heartbeat_s or age_s < time.monotonic() - begun - 1:
            return ""
        return f"its partner answered {age_s} s ago"

    wait_until(
        undecided,
        timeout_s=60,
        what=f"whether {node.name} hears of its partner cannot be told",
        remedy=AGAIN,
    )


def _say_the_end(pair: Pair, found: Diagnosis) -> None:
    for line in found.found:
        RUN.warn(pair, f"found: {line}")
    RUN.warn(pair, found.words if found.cure == "nothing" else f"done: {found.words}")
    missing = [node.name for node in pair.nodes if node.name not in SEEN]
    if missing:
        RUN.warn(
            pair,
            f"when {missing[0]} is back it joins by itself. If it is lost for good, put a fresh "
            "machine with its name and address in its place, and run the same command again",
        )


def _wait(pair: Pair, node: Node, _found: Diagnosis) -> None:
    unit = unit_of(pair)
    if look_at(node).unit(unit).enabled != "enabled":
        run_commands([f"SYSTEMCTL_SKIP_SYSV=1 systemctl enable --quiet {unit} 2>&1"])
        changed(node)
    # Both serving is what is to end here: they may just not have heard of each other yet.
    await_health(pair, though_both_serve=True)


def _take_over(pair: Pair, node: Node, _found: Diagnosis) -> None:
    _make_serve(pair, node)
    if look_at(node).mark.out_since:
        run_commands(host_marks.mark_back(node))


def _make_serve(pair: Pair, node: Node) -> None:
    """Have this server serve all clients, its partner being gone.

    A partner that does not answer counts as down at once (Kea ARM, "The ha-maintenance-start
    Command"); one that does answer is never told to step down by this.
    """
    # From these only a start leads out.
    if _state_now(node) in (IN_MAINTENANCE, "terminated", ""):
        start(pair, node)
        checks.await_answers(pair, node)
        if _joins(pair, node):
            return
    answer = ask_kea(node, "ha-maintenance-start")
    try:
        if answer.result != 0:
            raise Refusal(
                f"{node.name} does not take over: {answer.text or 'no answer'}",
                f"look at {layout.LOG} on {node.name}",
            )
        await_state(node, 30, PARTNER_DOWN)
    except Refusal:
        ask_kea(node, "ha-maintenance-cancel")
        raise


def _joins(pair: Pair, node: Node) -> bool:
    """Whether a server that has just started finds its partner, within two heartbeats and Kea's
    own limit on a request."""
    deadline = time.monotonic() + 2 * acceptance.heartbeat(pair, look_at(node)).total_seconds() + 12
    while time.monotonic() < deadline:
        now = _state_now(node)
        if now == PARTNER_DOWN:
            return True
        if now not in ("waiting", ""):
            await_state(node, 90, HOT_STANDBY, PARTNER_DOWN)
            return True
        time.sleep(POLL_S)
    return False


def _state_now(node: Node) -> str:
    return look_at(node, anew=True).ha_state or ""


def _rejoin(pair: Pair, node: Node, found: Diagnosis) -> None:
    partner = pair.partner_of(node)
    _renew(pair, node, found)
    if partner.name in SEEN and not look_at(partner).answers:
        _make_serve(pair, partner)
    if look_at(node).status is not None:
        step_down(pair, node)
    _start_anew(pair, node, found)


def _restart_both(pair: Pair, node: Node, found: Diagnosis) -> None:
    _renew(pair, node, found)
    _start_anew(pair, node, found)


def _renew(pair: Pair, node: Node, found: Diagnosis) -> None:
    if node.name in found.renew:
        for which in ("ha", "api"):
            run_commands(identities.identity(pair, node, which=which))


def _start_anew(pair: Pair, node: Node, found: Diagnosis) -> None:
    if node.name in found.aside:
        place = f"{layout.STATE_DIR}/damaged-leases-{time.strftime('%Y%m%d-%H%M%S')}"
        say(f"    setting its lease file aside, in {place}")
        halt(pair, node, put_back_timer.settle())
        aside = f"umask 077; mkdir -p {place} && mv {layout.LEASES}* {place}/"
        run_commands([StringCommand(aside, _timeout=SERVICE_S)])
    fall_into_step(pair, node)
    start(pair, node)
    if node.name in found.renew:
        run_commands(services.daemon_runs(pair, node, daemon=AGENT))
    checks.await_answers(pair, node)
    if all(one.name in SEEN for one in pair.nodes):
        await_health(pair, though_both_serve=True)
    else:
        await_state(node, 90, HOT_STANDBY)


def _rebuild(pair: Pair, node: Node, _found: Diagnosis) -> None:
    """Set up the machine as the rollout does; its partner, which serves, is not touched."""
    run_commands(host_marks.mark_unfinished(pair, node, adopt=False))
    run_commands(packages.prerequisites(node))
    for which in ("ha", "api"):
        run_commands(identities.identity(pair, node, which=which))
    put_in_place(pair, node)
    come_back(pair, node)


_CURES = {
    "wait": _wait,
    "take over": _take_over,
    "rejoin": _rejoin,
    "restart both": _restart_both,
    "rebuild": _rebuild,
}


def was_rebuilt(pair: Pair) -> bool:
    """Whether this run set up a machine in the place of a lost one."""
    found = DIAGNOSES.get(pair.name)
    return found is not None and found.cure == "rebuild"
