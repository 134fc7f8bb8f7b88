"""Upgrade Kea on a live pair, one host at a time, its partner serving.

Packages are not put back when an upgrade does not work: then the partner serves on, the other host
is left alone, and the leases as they were are kept beside it.
"""

from __future__ import annotations

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import layout
from kea_ha.commands.turn import (
    come_back,
    free_of_clients,
    mark,
    own_words,
    put_in_place,
    stop,
    who_serves,
)
from kea_ha.decide import change_plan, upgrade_plan
from kea_ha.decide.upgrade_plan import HostUpgrade
from kea_ha.host import desired_state
from kea_ha.host.daemons import DAEMONS
from kea_ha.host.mark import Work
from kea_ha.host.script import script
from kea_ha.operations import checks, host_marks, packages
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import SERVICE_S, need, run_commands, say
from kea_ha.session.surveys import anchors_for, changed, look_at
from kea_ha.settings.model import Node, Pair

#: By pair: the hosts to be upgraded, in their order.
UPGRADES = Slot[tuple[HostUpgrade, ...]]()


def refresh(node: Node) -> Outcome:
    """Learn which versions there are, and see the host."""
    if state.is_executing:
        say("    refreshing the package index")
        need(
            host,
            "apt-get -q update -o DPkg::Lock::Timeout=60 -o APT::Update::Error-Mode=any",
            what=f"{node.name} cannot learn which packages there are",
            remedy="check /etc/apt/sources.list* there, and that the host reaches what they name",
            timeout_s=300,
        )
    look_at(node, anew=True)
    return "seen"


def decide(pair: Pair, *, force: bool) -> Outcome:
    """Refuse, with every reason at once, or say what will be upgraded and what that means."""
    surveys = {node.name: look_at(node) for node in pair.nodes}
    checks.refuse(
        pair, list(upgrade_plan.objections(pair, surveys, anchors_for(pair), force=force))
    )
    planned = upgrade_plan.plan_upgrade(pair, surveys)
    UPGRADES[pair.name] = planned
    if host.name == pair.primary.name and planned:
        for one in planned:
            say(f"    {one}")
        say(f"    {change_plan.cost_of_restarts(pair, len(planned), surveys)}")
        say("    packages are not put back: what is upgraded stays so; leases are kept as they are")
    if not planned:
        newest = desired_state.candidate(pair, surveys[host.name])
        source = f"package_source={pair.settings.package_source}"
        RUN.warn(pair, f"nothing to upgrade: both run Kea {newest}, the newest of {source}")
    return "to be upgraded" if planned else "nothing to upgrade"


def upgrade(pair: Pair, *, turn: int) -> Outcome:
    """Upgrade the host whose turn it is while its partner serves all."""
    planned = UPGRADES.get(pair.name, ())
    mine = planned[turn] if turn < len(planned) else None
    if mine is None or mine.node.name != host.name:
        return "it is not this host's turn, or there is nothing to upgrade"
    if state.is_executing:
        _upgrade(pair, mine)
    return CHANGED


def _upgrade(pair: Pair, mine: HostUpgrade) -> None:
    node = mine.node
    partner = pair.partner_of(node)
    server, *others = (one.of(pair).unit for one in DAEMONS)
    suite = packages.suite_of(pair, look_at(node))
    install = f"{suite}install --only-upgrade {_all_of_kea(mine.gets)}"
    stopped = upgraded = False
    try:
        mark(pair, node, Work.UPGRADING)
        if mine.has != mine.gets:
            say(f"    fetching Kea {mine.gets}; the server runs on")
            run_commands([packages.apt_get(f"--download-only {install}")])
        if look_at(node).unit(server).is_active:
            free_of_clients(pair, node)
            stopped = True
            stop(pair, node)
        stopped = True
        if mine.has != mine.gets:
            say(f"    upgrading {node.name}; {partner.name} serves all clients meanwhile")
            run_commands([
                # Masked: a package's own script would start the new Kea on the old documents.
                StringCommand("systemctl stop", *others, "2>/dev/null;"
                              " systemctl mask --quiet", server, *others, _timeout=SERVICE_S),
                StringCommand(script("keep_leases", kept=_kept(mine)), _timeout=SERVICE_S),
                packages.apt_get(install),
            ])  # fmt: skip
            changed(node)
        upgraded = True
        put_in_place(pair, node)
        come_back(pair, node)
    except Refusal as refusal:
        raise _left(pair, mine, refusal, stopped=stopped, upgraded=upgraded) from refusal
    say(f"    {node.name} runs Kea {mine.gets}, and the pair is healthy")
    kept = f"; the leases as they were are in {_kept(mine)} there" if mine.has != mine.gets else ""
    RUN.warn(pair, f"{mine}{kept}")


def _left(
    pair: Pair, mine: HostUpgrade, refusal: Refusal, *, stopped: bool, upgraded: bool
) -> Refusal:
    """Say how far it came. What serves is left alone: it is the only one that does."""
    node, partner = mine.node, pair.partner_of(mine.node)
    if not stopped:
        return Refusal(
            f"{node.name} was not upgraded, its server runs on: {refusal.what}",
            refusal.remedy,
            (node.name,),
            f"stopped; {who_serves(pair)}",
        )
    how = "upgraded" if upgraded else "out of service to be upgraded"
    return Refusal(
        f"{node.name}, {how} from {mine.has or 'half installed'} to {mine.gets}: {refusal.what}"
        f"{own_words(node)}\n{who_serves(pair)}",
        f"mend what it says on {node.name}, then run the same command again: it goes on from here. "
        f"{partner.name} was not touched and must not be upgraded before. The leases that "
        f"{node.name} had are in {_kept(mine)} there; without its lease files it gets all of them "
        f"from {partner.name}",
        (node.name,),
        f"stopped; {node.name} is not back",
    )


def _all_of_kea(version: str) -> str:
    """All packages built of Kea that the host has: they want each other in the same version."""
    return (
        "$(dpkg-query -W -f '${db:Status-Abbrev} ${source:Package} ${Package}\\n' |"
        f" sed -n 's/^i.. *isc-kea \\(.*\\)/\\1={version}/p')"
    )


def _kept(mine: HostUpgrade) -> str:
    return f"{layout.STATE_DIR}/leases-of-{mine.has or 'unknown'}"


def forget_before(pair: Pair) -> Outcome:
    """Forget what an older Kea was accepted with, if there was an upgrade."""
    return host_marks.forget_before(pair) if UPGRADES.get(pair.name) else "nothing was upgraded"
