"""Take one host of a live pair out for maintenance, and bring it back.

A host that is out has our mark, and its kea-dhcp4 neither runs nor starts at boot: whatever is done
to the host, it does not come back half repaired. Its partner serves all clients meanwhile.
"""

from __future__ import annotations

from pyinfra import state

from kea_ha import layout
from kea_ha.commands.turn import RECOVER, await_health, fall_into_step, free_of_clients, start, stop
from kea_ha.operations import checks, host_marks
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import need, run_commands, say
from kea_ha.session.surveys import host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair


def take_out(pair: Pair, node: Node) -> Outcome:
    """Have the partner serve all clients, and stop this server for good."""
    partner = pair.partner_of(node)
    for one in pair.nodes:
        if not look_at(one).mark.accepted:
            raise Refusal(
                f"{one.name} was never accepted as part of the pair",
                "roll the pair out first: pyinfra -y inventory.py deploy.py",
            )
    if look_at(partner).mark.out_since:
        raise Refusal(
            f"{partner.name} is out for maintenance itself: nobody would serve",
            f"bring {partner.name} back first (--data host={partner.name} --data done=true)",
        )
    if state.is_executing:
        _take_out(pair, node)
        RUN.verdicts[pair.name] = (
            f"{node.name} is out for maintenance, {partner.name} serves all clients alone. Bring "
            f"it back with: pyinfra -y inventory.py runbook/maintain.py --data host={node.name} "
            "--data done=true"
        )
    if look_at(node).mark.out_since and not state.is_executing:
        return f"{node.name} is out already"
    return CHANGED


def _take_out(pair: Pair, node: Node) -> None:
    partner = pair.partner_of(node)
    unit = unit_of(pair)
    out_already = look_at(node).mark.out_since
    # The mark first: whoever finds the host half out is told why.
    run_commands(host_marks.mark_out(node))
    try:
        if look_at(node).unit(unit).is_active:
            free_of_clients(pair, node)
        elif not look_at(partner, anew=True).serves:
            raise Refusal(
                f"{partner.name} does not serve either",
                RECOVER,
            )
    except Refusal:
        if not out_already:
            run_commands(host_marks.mark_back(node))
        raise
    need(
        host_of(node),
        f"SYSTEMCTL_SKIP_SYSV=1 systemctl disable --quiet {unit} 2>&1",
        what=f"{unit} on {node.name} could not be kept from starting at boot",
        remedy=f"look at `systemctl status {unit}` on {node.name}",
    )
    stop(pair, node)
    if not look_at(partner, anew=True).serves:
        raise Refusal(
            f"{partner.name} does not serve all clients",
            f"bring {node.name} back (--data done=true), and look at {layout.LOG} on both",
        )
    say(f"    {partner.name} serves all clients; kea-dhcp4 on {node.name} stays down")


def bring_back(pair: Pair, node: Node) -> Outcome:
    """Start this server again, and see the pair healthy."""
    if not look_at(node).mark.out_since:
        return f"{node.name} is not out for maintenance"
    if state.is_executing:
        if look_at(node).unit(unit_of(pair)).is_active and not look_at(node).answers:
            stop(pair, node)  # left in maintenance by a run that was cut off: only a start ends it
        fall_into_step(pair, node)
        start(pair, node)
        checks.await_answers(pair, node)
        # It is back. Whatever keeps the pair from being healthy now is recover.py's matter, which
        # does nothing to a pair with a host that is out.
        run_commands(host_marks.mark_back(node))
        await_health(pair)
    return CHANGED
