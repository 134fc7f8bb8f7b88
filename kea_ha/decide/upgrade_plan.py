"""Which Kea the hosts of a live pair are to be upgraded to, and what stands against it. Pure.

An upgrade goes host by host as a change does, the server that serves nobody first. While only one
is upgraded the two speak different versions of Kea, so that time is kept short: from 2.7.0 on Kea
tells its partner of released leases in a way that older ones refuse (change log, 2256).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kea_ha.decide import acceptance, change_plan, client_impact, preflight
from kea_ha.decide.client_impact import Anchors
from kea_ha.host import desired_state
from kea_ha.host.mark import Work
from kea_ha.host.survey import Survey
from kea_ha.settings import kea_versions
from kea_ha.settings.kea_versions import Version
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, below


@dataclass(frozen=True)
class HostUpgrade:
    """One host's upgrade: the version it ``has`` (empty: half installed) and the one it ``gets``.

    Where the two are the same, the program that runs is still an older one.
    """

    node: Node
    has: str
    gets: str

    def __str__(self) -> str:
        if self.has == self.gets:
            return f"{self.node.name}: {self.gets} is installed, and not what runs: restart"
        return f"{self.node.name}: Kea {self.has or '(half installed)'} -> {self.gets}"


def plan_upgrade(pair: Pair, surveys: Mapping[str, Survey]) -> tuple[HostUpgrade, ...]:
    """The hosts that are to be upgraded, in their order; none when both are up to date."""
    order = sorted(pair.nodes, key=lambda n: (surveys[n.name].serves, n.role == "primary"))
    found = []
    for node in order:
        survey = surveys[node.name]
        has, gets = (
            desired_state.installed(pair, survey) or "",
            desired_state.candidate(pair, survey),
        )
        unfinished = is_begun([survey])
        if gets is not None and (has != gets or unfinished or survey.runs_old_program):
            found.append(HostUpgrade(node, has, gets))
    return tuple(found)


def is_begun(surveys: Iterable[Survey]) -> bool:
    """Whether an upgrade was begun on one of these hosts and has not ended."""
    return any(one.mark.work is Work.UPGRADING for one in surveys)


def objections(
    pair: Pair, surveys: Mapping[str, Survey], anchors: Anchors, *, force: bool
) -> Iterable[Problem]:
    """Why the upgrade must not begin, for a pair whose two hosts were seen."""
    begun = is_begun(surveys.values())
    for node in pair.nodes:
        yield from _host_objections(pair, node, surveys[node.name], anchors, begun=begun)
    targets = {node.name: desired_state.candidate(pair, surveys[node.name]) for node in pair.nodes}
    versions = {name: Version.parse(text) for name, text in targets.items() if text}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{text} on {name}" for name, text in targets.items())
        yield Problem(
            "the version to upgrade to",
            listed,
            "the same version on both",
            "give both hosts the same package sources (`apt-cache policy kea-dhcp4-server`)",
            where=pair.name,
        )
    if not begun and not force:
        # Where an older program still runs, the restart is what is asked for.
        yield from change_plan.damage(pair, surveys, but=acceptance.OLD_PROGRAM)


def _host_objections(
    pair: Pair, node: Node, survey: Survey, anchors: Anchors, *, begun: bool
) -> Iterable[Problem]:
    if not survey.mark.accepted:
        yield client_impact.not_rolled_out(node.name, "never accepted on this host")
        return
    yield from client_impact.out_for_maintenance(node.name, survey)
    yield from preflight.identity_problems(pair, node, survey, anchors)
    if change_plan.is_marked([survey]) and not begun:
        yield Problem(
            "the host",
            "in the middle of a change that was cut off",
            "one thing at a time",
            "end the change first: deploy.py goes on with it, runbook/undo.py goes back",
            where=node.name,
        )
    has, gets = desired_state.installed(pair, survey), desired_state.candidate(pair, survey)
    if gets is None:
        yield preflight.no_kea(pair, node)
        return
    target = Version.parse(gets)
    if has and target < Version.parse(has):
        yield Problem(
            "the version to upgrade to",
            f"{gets}, and {has} is installed",
            "a newer one: leases and documents of a newer Kea are not for an older one to read",
            "check package_source, and the package sources and pins of the host",
            where=node.name,
        )
    for problem in kea_versions.version_problems(pair, target):
        yield replace(problem, where=node.name)
    waiting = client_impact.interruptions(pair, node, survey, anchors) if has and not begun else []
    if waiting:
        yield Problem(
            "the host",
            f"not as described:{below(waiting)}",
            "one thing at a time: a pair that is as its settings say",
            "run deploy.py first, or give the settings as they were",
            where=node.name,
        )
