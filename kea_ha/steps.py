"""The runbook's steps: which operations each is made of, and in which order.

``deploy.py`` calls these in the documented order. Each is a pyinfra deploy, so that its operations
carry the step's name on the screen, and each concerns one host or the pair. What an operation does
stands in the package ``operations`` (one thing on one host) and in ``commands`` (a live pair).

pyinfra runs an operation on all hosts at once and goes on with the others when one fails, so the
steps of one host are followed by ``checks.hold_together``: an operation on both, at which the other
host stops when its partner has failed. It looks at its own pair alone: other pairs go on.
"""

from __future__ import annotations

from functools import partial

from pyinfra import host
from pyinfra.api import deploy

from kea_ha.commands import (
    ca_change,
    failover_drill,
    kea_upgrade,
    lease_restore,
    maintenance,
    pair_backup,
    recovery,
    rolling_change,
    undo_change,
)
from kea_ha.decide.preflight import Agreed
from kea_ha.host.backup_store import Backup
from kea_ha.host.daemons import DAEMONS
from kea_ha.host.desired_state import Plan
from kea_ha.operations import checks, files, host_marks, identities, packages, services
from kea_ha.session.learned import RUN
from kea_ha.session.operation import operate
from kea_ha.settings.model import Node, Pair


def hold_together(pair: Pair, *, after: str, name: str = "Both hosts go on") -> None:
    """Go on only if both hosts can."""
    operate(name, checks.hold_together, pair, after=after)


def this_node(pair: Pair) -> Node:
    """The node of the host that this code is being prepared for."""
    return pair.node(host.name)


def called(node: Node) -> str:
    """A host in the name of an operation: by its role when the operation is that of many pairs."""
    return node.name if len(RUN.pairs) == 1 else f"the {node.role}"


@deploy("0 Pre-flight")
def take_lock(pair: Pair, node: Node) -> None:
    """Keep a second operator out, one host after the other in the same order for everyone."""
    operate(f"Hold {called(node)} for this run", host_marks.lock, node)


@deploy("0 Pre-flight")
def look(pair: Pair) -> None:
    """See what there is, on each host of the pair, and change nothing."""
    operate("Look at the host and at what it can reach", checks.look, pair, this_node(pair))


@deploy("0 Pre-flight")
def decide(pair: Pair, *, agreed: Agreed, only_live: bool = False) -> None:
    """Refuse, with every reason at once, or go on."""
    operate("Judge both hosts together", checks.decide, pair, agreed=agreed, only_live=only_live)


@deploy("Change")
def roll(pair: Pair) -> None:
    """Change a live pair: one server after the other, its partner serving meanwhile.

    Of a pair that has nothing to change, or is not live yet, nothing happens here.
    """
    operate("Say what changes of a live pair", rolling_change.announce, pair)
    for turn, which in enumerate(("first", "second")):
        operate(
            f"Change the {which} server, its partner serving",
            rolling_change.change,
            pair,
            turn=turn,
        )
        hold_together(pair, after=f"the {which} server's change")
    operate("Restart both at once, if that was accepted", rolling_change.restart_together, pair)
    operate("See both healthy after that, or undo it", rolling_change.settle_together, pair)
    hold_together(pair, after="the restart of both")


@deploy("CA")
def change_cas(pair: Pair, stage: str, *, agreed: Agreed) -> None:
    """Go on to the next stage of a change of CAs; the hosts follow by a rolling change."""
    operate(f"Go on to: {stage}", ca_change.change_cas, pair, stage=stage, force=agreed.force)
    hold_together(pair, after="changing the CAs")


@deploy("CA")
def end_change_of_cas(pair: Pair) -> None:
    """Forget the old CAs, on the hosts and here."""
    operate("Remove what could bring the old CAs back", ca_change.forget_before, pair)
    hold_together(pair, after="forgetting the old CAs")
    operate("Keep the new CAs alone", ca_change.end_change, pair)


@deploy("Drill")
def agree_to_drill(pair: Pair, names: tuple[str, ...], *, agreed: Agreed) -> None:
    """Say what each scenario costs its clients, and see that somebody has agreed to it."""
    operate(
        "Say what it costs",
        failover_drill.decide,
        pair,
        names=names,
        accept_outage=agreed.accept_outage,
    )
    hold_together(pair, after="agreeing to it")


@deploy("Drill")
def drill(pair: Pair, name: str) -> None:
    """Make one failure happen under load, measure, and put everything back."""
    operate(f"Go through {name}", failover_drill.drill, pair, scenario=name)
    hold_together(pair, after=name)


@deploy("Drill")
def report(pair: Pair, names: tuple[str, ...]) -> None:
    """Write the report, and fail if it is worse than the settings imply."""
    operate("Write the report", failover_drill.report, pair, names=names)


@deploy("Recover")
def recover(pair: Pair) -> None:
    """Find out what is wrong, say it and what will be done, and do it."""
    operate("Find out what is wrong", recovery.diagnose, pair)
    operate("Mend it", recovery.cure, pair, this_node(pair))


@deploy("Undo")
def undo(pair: Pair, *, agreed: Agreed) -> None:
    """Put back what was accepted before, one server after the other, its partner serving."""
    _put_back(pair, None, agreed)


@deploy("Restore")
def restore_documents(pair: Pair, backup: Backup, *, agreed: Agreed) -> None:
    """Put back the documents of a backup, one server after the other, its partner serving."""
    _put_back(pair, backup, agreed)


def _put_back(pair: Pair, backup: Backup | None, agreed: Agreed) -> None:
    operate(
        "Judge both hosts together",
        undo_change.decide,
        pair,
        backup=backup,
        force=agreed.force,
        accept_outage=agreed.accept_outage,
    )
    hold_together(pair, after="judging both hosts")
    operate("Say what is put back", rolling_change.announce, pair)
    node = this_node(pair)
    operate("Try the earlier document", undo_change.begin, pair, node, backup=backup)
    hold_together(pair, after="trying the earlier documents")
    operate("Mark it as under way", undo_change.mark_begun, pair, node)
    hold_together(pair, after="marking the hosts")
    for turn, which in enumerate(("first", "second")):
        operate(f"Put back the {which} server's state", undo_change.undo, pair, turn=turn)
        hold_together(pair, after=f"the {which} server's undo")
    operate("Put back both at once, if that was accepted", undo_change.undo_together, pair)
    hold_together(pair, after="undoing both at once")
    operate("Take it for what was accepted last", undo_change.keep, pair, node)
    hold_together(pair, after="keeping what was put back")
    operate("Mark it as done", undo_change.end, pair, node, backup=backup)


@deploy("Upgrade")
def plan_upgrade(pair: Pair, *, agreed: Agreed) -> None:
    """Learn which Kea there is for both hosts, and refuse or say what will be upgraded."""
    operate("See the host, and which Kea there is for it", kea_upgrade.refresh, this_node(pair))
    hold_together(pair, after="looking at both hosts")
    operate("Judge both hosts together", kea_upgrade.decide, pair, force=agreed.force)


@deploy("Upgrade")
def upgrade(pair: Pair) -> None:
    """Upgrade one server after the other, its partner serving meanwhile."""
    for turn, which in enumerate(("first", "second")):
        operate(f"Upgrade the {which} server", kea_upgrade.upgrade, pair, turn=turn)
        hold_together(pair, after=f"the {which} server's upgrade")


@deploy("Upgrade")
def end_upgrade(pair: Pair) -> None:
    """Forget what an older Kea was accepted with, after the pair was accepted with the new one."""
    operate("Remove the state of an older Kea", kea_upgrade.forget_before, pair)


@deploy("0 Pre-flight")
def survey(pair: Pair) -> None:
    """Read each host of the pair; change nothing."""
    operate("Look at the host", checks.survey, this_node(pair))


@deploy("Maintenance")
def take_out(pair: Pair, node: Node) -> None:
    """Take a host out, its partner serving all clients."""
    if host.name == node.name:
        operate(f"Take {node.name} out", maintenance.take_out, pair, node)


@deploy("Maintenance")
def bring_back(pair: Pair, node: Node) -> None:
    """Bring a host back, and see the pair healthy."""
    if host.name == node.name:
        operate(f"Bring {node.name} back", maintenance.bring_back, pair, node)
    hold_together(pair, after=f"bringing {node.name} back")


@deploy("Backup")
def back_up(pair: Pair) -> None:
    """Documents and leases of both hosts to the operator's machine; the servers go on serving."""
    operate("Read documents and leases", pair_backup.read, this_node(pair))
    operate("Write them to this machine", pair_backup.keep, pair)


@deploy("Restore")
def restore(pair: Pair, backup: Backup, *, force: bool) -> None:
    """Merge the leases of a backup with those of both hosts, and see the pair healthy."""
    operate(
        "Bring the leases of the backup back",
        lease_restore.restore,
        pair,
        backup=backup,
        force=force,
    )
    hold_together(pair, after="bringing the leases back")


@deploy("0 Identities")
def identify(pair: Pair, *, agreed: Agreed) -> None:
    """Give both hosts what they need to know each other; nothing of Kea is there yet."""
    node = this_node(pair)
    operate(
        "Mark the rollout as under way", host_marks.mark_unfinished, pair, node, adopt=agreed.adopt
    )
    operate("Install openssl, curl and the DHCP probe", packages.prerequisites, node)
    operate(
        "Give the host its certificate for its partner", identities.identity, pair, node, which="ha"
    )
    operate(
        "Give the host its certificate for API clients",
        identities.identity,
        pair,
        node,
        which="api",
    )


@deploy("1 Install")
def install(pair: Pair, node: Node) -> None:
    """Kea, and the Control Agent if wanted, on one host; nothing starts yet."""
    on = f"on {called(node)}"
    operate(f"Keep what was {on} before", files.adopt, node)
    operate(f"Install Kea {on}, not started", packages.kea, pair, node)
    operate(f"Close Kea's directories {on}", files.ownership, pair, node)


@deploy("2 Configure")
def configure(pair: Pair, node: Node) -> None:
    """Documents as checked candidates, then the daemons on them."""
    on = f"on {called(node)}"
    put = files.document
    operate(f"Write the drop-ins {on}", put, pair, node, of=lambda plan: plan.drop_ins)
    for daemon in DAEMONS:
        name = daemon.document.rpartition("/")[2]
        of = partial(Plan.document_of, daemon=daemon)
        operate(f"Check and write {name} {on}", put, pair, node, of=of)
    operate(f"Make the agent's password file {on}", files.agent_password, pair, node)
    operate(f"Check and write the firewall table {on}", put, pair, node, of=lambda p: p.firewall)
    operate(f"Load the firewall table {on}", services.firewall_table, pair, node)
    operate(f"Write the expiry timer {on}", put, pair, node, of=lambda plan: plan.support)
    operate(f"Start the expiry timer {on}", services.expiry_timer, node)
    for daemon in DAEMONS:
        operate(f"Run {daemon.title} {on}", services.daemon_runs, pair, node, daemon=daemon)
    operate(f"Wait until they answer {on}", checks.answers, pair, node)


@deploy("3 Verify the link")
def verify_link(pair: Pair, node: Node) -> None:
    """From ``node`` to its partner: Kea's log, its HA status, and a request of our own."""
    partner = pair.partner_of(node)
    operate(f"From {called(node)} to {called(partner)}", checks.link, pair, node)


@deploy("4 Verify the opposite direction")
def verify_opposite(pair: Pair, node: Node) -> None:
    """From the partner to ``node``'s address and port."""
    partner = pair.partner_of(node)
    operate(f"From {called(partner)} to {called(node)}", checks.opposite, pair, node)


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
    operate("Wait until both are in hot-standby", checks.both_joined, pair, node)
    read(pair)
    hold_together(pair, after="reading both hosts")
    verify(pair)
    operate("Mark the pair as accepted, and keep its state", host_marks.mark_accepted, pair, node)


def read(pair: Pair) -> None:
    """Read each host, and try its ports with right and wrong identities; change nothing."""
    operate(
        "Read the host, try its ports with right and wrong certificates",
        checks.gather,
        pair,
        this_node(pair),
    )


def verify(pair: Pair) -> None:
    """Print the verdict, or fail with every finding."""
    operate("Judge the pair", checks.judge, pair, this_node(pair))
