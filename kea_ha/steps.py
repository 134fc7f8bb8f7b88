"""The runbook's steps: which operations each is made of, and in which order.

``deploy.py`` calls these in the documented order. Each is a pyinfra deploy, so that its operations
carry the step's name on the screen, and each concerns one host or the pair. What an operation does
stands in the package ``operations`` (one thing on one host) and in ``commands`` (a live pair).

pyinfra runs an operation on all hosts at once and goes on with the others when one fails, so the
steps of one host are followed by ``checks.hold_together``: an operation on both, at which the other
host stops when its partner has failed. It looks at its own pair alone: other pairs go on.
"""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from kea_ha.commands import (
    backup_and_restore,
    ca_change,
    failover_drill,
    kea_upgrade,
    maintenance,
    recovery,
    rolling_change,
    undo_change,
)
from kea_ha.decide.preflight import Agreed
from kea_ha.host.backup_store import Backup
from kea_ha.operations import checks, host_marks, identities, put_in_order
from kea_ha.session.learned import RUN
from kea_ha.settings.model import Node, Pair

hold_together = checks.hold_together


def this_node(pair: Pair) -> Node:
    """The node of the host that this code is being prepared for."""
    return pair.node(host.name)


def called(node: Node) -> str:
    """A host in the name of an operation: by its role when the operation is that of many pairs."""
    return node.name if len(RUN.pairs) == 1 else f"the {node.role}"


@deploy("0 Pre-flight")
def take_lock(pair: Pair, node: Node) -> None:
    """Keep a second operator out, one host after the other in the same order for everyone."""
    host_marks.lock(name=f"Hold {called(node)} for this run", node=node)


@deploy("0 Pre-flight")
def look(pair: Pair) -> None:
    """See what there is, on each host of the pair, and change nothing."""
    checks.look(name="Look at the host and at what it can reach", pair=pair, node=this_node(pair))


@deploy("0 Pre-flight")
def decide(pair: Pair, *, agreed: Agreed, only_live: bool = False) -> None:
    """Refuse, with every reason at once, or go on."""
    checks.decide(name="Judge both hosts together", pair=pair, agreed=agreed, only_live=only_live)


@deploy("Change")
def roll(pair: Pair) -> None:
    """Change a live pair: one server after the other, its partner serving meanwhile.

    Of a pair that has nothing to change, or is not live yet, nothing happens here.
    """
    rolling_change.announce(name="Say what changes of a live pair", pair=pair)
    for turn, which in enumerate(("first", "second")):
        rolling_change.change(
            name=f"Change the {which} server, its partner serving", pair=pair, turn=turn
        )
        hold_together(name="Both hosts go on", pair=pair, after=f"the {which} server's change")
    rolling_change.restart_together(name="Restart both at once, if that was accepted", pair=pair)
    rolling_change.settle_together(name="See both healthy after that, or undo it", pair=pair)
    hold_together(name="Both hosts go on", pair=pair, after="the restart of both")


@deploy("CA")
def change_cas(pair: Pair, stage: str, *, agreed: Agreed) -> None:
    """Go on to the next stage of a change of CAs; the hosts follow by a rolling change."""
    ca_change.change_cas(name=f"Go on to: {stage}", pair=pair, stage=stage, force=agreed.force)
    hold_together(name="Both hosts go on", pair=pair, after="changing the CAs")


@deploy("CA")
def end_change_of_cas(pair: Pair) -> None:
    """Forget the old CAs, on the hosts and here."""
    host_marks.forget_before(name="Remove what could bring the old CAs back", pair=pair)
    hold_together(name="Both hosts go on", pair=pair, after="forgetting the old CAs")
    ca_change.end_change(name="Keep the new CAs alone", pair=pair)


@deploy("Drill")
def agree_to_drill(pair: Pair, names: tuple[str, ...], *, agreed: Agreed) -> None:
    """Say what each scenario costs its clients, and see that somebody has agreed to it."""
    failover_drill.decide(
        name="Say what it costs", pair=pair, names=names, accept_outage=agreed.accept_outage
    )
    hold_together(name="Both hosts go on", pair=pair, after="agreeing to it")


@deploy("Drill")
def drill(pair: Pair, name: str) -> None:
    """Make one failure happen under load, measure, and put everything back."""
    failover_drill.drill(name=f"Go through {name}", pair=pair, scenario=name)
    hold_together(name="Both hosts go on", pair=pair, after=name)


@deploy("Drill")
def report(pair: Pair, names: tuple[str, ...]) -> None:
    """Write the report, and fail if it is worse than the settings imply."""
    failover_drill.report(name="Write the report", pair=pair, names=names)


@deploy("Recover")
def recover(pair: Pair) -> None:
    """Find out what is wrong, say it and what will be done, and do it."""
    recovery.diagnose(name="Find out what is wrong", pair=pair)
    recovery.cure(name="Mend it", pair=pair, node=this_node(pair))


@deploy("Undo")
def undo(pair: Pair, *, agreed: Agreed) -> None:
    """Put back what was accepted before, one server after the other, its partner serving."""
    _put_back(pair, None, agreed)


@deploy("Restore")
def restore_documents(pair: Pair, backup: Backup, *, agreed: Agreed) -> None:
    """Put back the documents of a backup, one server after the other, its partner serving."""
    _put_back(pair, backup, agreed)


def _put_back(pair: Pair, backup: Backup | None, agreed: Agreed) -> None:
    undo_change.decide(
        name="Judge both hosts together",
        pair=pair,
        backup=backup,
        force=agreed.force,
        accept_outage=agreed.accept_outage,
    )
    hold_together(name="Both hosts go on", pair=pair, after="judging both hosts")
    rolling_change.announce(name="Say what is put back", pair=pair)
    node = this_node(pair)
    undo_change.begin(name="Try the earlier document", pair=pair, node=node, backup=backup)
    hold_together(name="Both hosts go on", pair=pair, after="trying the earlier documents")
    undo_change.mark_begun(name="Mark it as under way", pair=pair, node=node)
    hold_together(name="Both hosts go on", pair=pair, after="marking the hosts")
    for turn, which in enumerate(("first", "second")):
        undo_change.undo(name=f"Put back the {which} server's state", pair=pair, turn=turn)
        hold_together(name="Both hosts go on", pair=pair, after=f"the {which} server's undo")
    undo_change.undo_together(name="Put back both at once, if that was accepted", pair=pair)
    hold_together(name="Both hosts go on", pair=pair, after="undoing both at once")
    undo_change.keep(name="Take it for what was accepted last", pair=pair, node=node)
    hold_together(name="Both hosts go on", pair=pair, after="keeping what was put back")
    undo_change.end(name="Mark it as done", pair=pair, node=node, backup=backup)


@deploy("Upgrade")
def plan_upgrade(pair: Pair, *, agreed: Agreed) -> None:
    """Learn which Kea there is for both hosts, and refuse or say what will be upgraded."""
    kea_upgrade.refresh(name="See the host, and which Kea there is for it", node=this_node(pair))
    hold_together(name="Both hosts go on", pair=pair, after="looking at both hosts")
    kea_upgrade.decide(name="Judge both hosts together", pair=pair, force=agreed.force)


@deploy("Upgrade")
def upgrade(pair: Pair) -> None:
    """Upgrade one server after the other, its partner serving meanwhile."""
    for turn, which in enumerate(("first", "second")):
        kea_upgrade.upgrade(name=f"Upgrade the {which} server", pair=pair, turn=turn)
        hold_together(name="Both hosts go on", pair=pair, after=f"the {which} server's upgrade")


@deploy("Upgrade")
def end_upgrade(pair: Pair) -> None:
    """Forget what an older Kea was accepted with, after the pair was accepted with the new one."""
    host_marks.forget_before(name="Remove the state of an older Kea", pair=pair, if_upgraded=True)


@deploy("0 Pre-flight")
def survey(pair: Pair) -> None:
    """Read each host of the pair; change nothing."""
    checks.survey(name="Look at the host", node=this_node(pair))


@deploy("Maintenance")
def take_out(pair: Pair, node: Node) -> None:
    """Take a host out, its partner serving all clients."""
    if host.name == node.name:
        maintenance.take_out(name=f"Take {node.name} out", pair=pair, node=node)


@deploy("Maintenance")
def bring_back(pair: Pair, node: Node) -> None:
    """Bring a host back, and see the pair healthy."""
    if host.name == node.name:
        maintenance.bring_back(name=f"Bring {node.name} back", pair=pair, node=node)
    hold_together(name="Both hosts go on", pair=pair, after=f"bringing {node.name} back")


@deploy("Backup")
def back_up(pair: Pair) -> None:
    """Documents and leases of both hosts to the operator's machine; the servers go on serving."""
    backup_and_restore.read(name="Read documents and leases", node=this_node(pair))
    backup_and_restore.keep(name="Write them to this machine", pair=pair)


@deploy("Restore")
def restore(pair: Pair, backup: Backup, *, force: bool) -> None:
    """Merge the leases of a backup with those of both hosts, and see the pair healthy."""
    backup_and_restore.restore(
        name="Bring the leases of the backup back", pair=pair, backup=backup, force=force
    )
    hold_together(name="Both hosts go on", pair=pair, after="bringing the leases back")


@deploy("0 Identities")
def identify(pair: Pair, *, agreed: Agreed) -> None:
    """Give both hosts what they need to know each other; nothing of Kea is there yet."""
    node = this_node(pair)
    host_marks.mark_unfinished(
        name="Mark the rollout as under way", pair=pair, node=node, adopt=agreed.adopt
    )
    put_in_order.prerequisites(name="Install openssl, curl and the DHCP probe", node=node)
    identities.identity(
        name="Give the host its certificate for its partner", pair=pair, node=node, which="ha"
    )
    identities.identity(
        name="Give the host its certificate for API clients", pair=pair, node=node, which="api"
    )


@deploy("1 Install")
def install(pair: Pair, node: Node) -> None:
    """Kea, and the Control Agent if wanted, on one host; nothing starts yet."""
    on = f"on {called(node)}"
    put_in_order.adopt(name=f"Keep what was {on} before", node=node)
    put_in_order.packages(name=f"Install Kea {on}, not started", pair=pair, node=node)
    put_in_order.ownership(name=f"Close Kea's directories {on}", pair=pair, node=node)


@deploy("2 Configure")
def configure(pair: Pair, node: Node) -> None:
    """Documents as checked candidates, then the daemons on them."""
    on = f"on {called(node)}"
    put, run = put_in_order.document, put_in_order.service
    put(name=f"Write the drop-ins {on}", pair=pair, node=node, which="drop_ins")
    put(name=f"Check and write kea-dhcp4.conf {on}", pair=pair, node=node, which="dhcp4")
    put(name=f"Check and write kea-ctrl-agent.conf {on}", pair=pair, node=node, which="agent")
    put_in_order.agent_password(name=f"Make the agent's password file {on}", pair=pair, node=node)
    put(name=f"Check and write the firewall table {on}", pair=pair, node=node, which="firewall")
    put_in_order.firewall(name=f"Load the firewall table {on}", pair=pair, node=node)
    put(name=f"Write the expiry timer {on}", pair=pair, node=node, which="support")
    put_in_order.expiry_timer(name=f"Start the expiry timer {on}", node=node)
    run(name=f"Run kea-dhcp4 {on}", pair=pair, node=node, which="dhcp4")
    run(name=f"Run the Control Agent {on}", pair=pair, node=node, which="agent")
    checks.answers(name=f"Wait until they answer {on}", pair=pair, node=node)


@deploy("3 Verify the link")
def verify_link(pair: Pair, node: Node) -> None:
    """From ``node`` to its partner: Kea's log, its HA status, and a request of our own."""
    partner = pair.partner_of(node)
    checks.link(name=f"From {called(node)} to {called(partner)}", pair=pair, node=node)


@deploy("4 Verify the opposite direction")
def verify_opposite(pair: Pair, node: Node) -> None:
    """From the partner to ``node``'s address and port."""
    partner = pair.partner_of(node)
    checks.opposite(name=f"From {called(partner)} to {called(node)}", pair=pair, node=node)


@deploy("6 Accept the pair")
def accept(pair: Pair) -> None:
    """Both directions in their strict form, both hosts at once, then the verdict."""
    node = this_node(pair)
    left_out = [other.name for other in pair.nodes if not RUN.in_scope(other.name)]
    if left_out:
        if not RUN.dry:
            RUN.verdicts[pair.name] = (
                f"{node.name} is set up; the pair was not accepted, since --limit leaves "
                f"{left_out[0]} out. Run without --limit for the verdict."
            )
        return
    checks.both_joined(name="Wait until both are in hot-standby", pair=pair, node=node)
    read(pair)
    hold_together(name="Both hosts go on", pair=pair, after="reading both hosts")
    verify(pair)
    host_marks.mark_accepted(
        name="Mark the pair as accepted, and keep its state", pair=pair, node=node
    )


def read(pair: Pair) -> None:
    """Read each host, and try its ports with right and wrong identities; change nothing."""
    checks.gather(
        name="Read the host, try its ports with right and wrong certificates",
        pair=pair,
        node=this_node(pair),
    )


def verify(pair: Pair) -> None:
    """Print the verdict, or fail with every finding."""
    checks.judge(name="Judge the pair", pair=pair, node=this_node(pair))
