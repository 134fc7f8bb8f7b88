"""What a change of a live pair would be, and what stands against it. Pure.

A live pair is changed one host after the other, the one that serves no clients first, while its
partner serves them all; where a subnet goes, the primary first (``_order``). ``plan_change`` says
what changes where; ``objections`` says why it must not be done yet: the pair is damaged, somebody
edited a document by hand, or the two hosts could not live together while one is changed and the
other is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from kea_ha import layout
from kea_ha.decide import acceptance, client_impact
from kea_ha.decide.client_impact import Anchors
from kea_ha.foreign import ForeignError, json_value
from kea_ha.host import accepted_state, daemons, desired_state, mark
from kea_ha.host.mark import Work
from kea_ha.host.survey import RemoteFile, Survey
from kea_ha.kea import config_diff, config_in_use
from kea_ha.kea.config_in_use import Running
from kea_ha.pki import certificates
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, below

#: From this heartbeat on an operator may want to know what a change costs, in ms.
_SLOW_HEARTBEAT_MS = 2000


@dataclass(frozen=True)
class HostChange:
    """What changes on one host, in words; ``restarts``: whether kea-dhcp4 is among it."""

    node: Node
    lines: tuple[str, ...]
    restarts: bool


@dataclass(frozen=True)
class Change:
    """A change of a live pair: its hosts in the order in which they are changed.

    ``settings``: each setting whose value differs from the last rollout's. ``together``: both
    servers are restarted at once, since they cannot live together half changed.
    """

    hosts: tuple[HostChange, ...]
    settings: tuple[str, ...] = ()
    together: bool = False

    def of(self, turn: int) -> HostChange | None:
        """The host whose turn it is, if that many change."""
        return self.hosts[turn] if turn < len(self.hosts) else None


def is_marked(surveys: Iterable[Survey]) -> bool:
    """Whether a change of ours was begun on one of these hosts and has not ended."""
    return any(one.mark.is_changing for one in surveys)


def plan_change(pair: Pair, surveys: Mapping[str, Survey], anchors: Anchors) -> Change | None:
    """What would change on a live pair; None when nothing does, or when it is no live pair.

    A pair is live when both of its hosts are: one that has lost a host for good, or that was never
    whole, is not rolled but rolled out.
    """
    if not all(
        node.name in surveys and client_impact.is_live(surveys[node.name]) for node in pair.nodes
    ):
        return None
    goes = any(
        _loses_a_subnet(given, _wished(pair, pair.primary, surveys[pair.primary.name]))
        for given in _givens(surveys[pair.primary.name])
    )
    marked = is_marked(surveys.values())
    found = []
    for node in _order(pair, surveys, primary_loses=goes):
        survey = surveys[node.name]
        lines = client_impact.interruptions(pair, node, survey, anchors)
        left_down = not lines and marked and not survey.answers
        if left_down:
            lines = ["bring back kea-dhcp4, which a run left down or in maintenance"]
        if lines:
            restarts = left_down or client_impact.restarts_kea(pair, node, survey, anchors)
            found.append(HostChange(node, tuple(lines), restarts))
    if not found:
        return None
    return Change(
        tuple(found),
        tuple(_settings_changed(pair, surveys[pair.primary.name])),
        together=bool(_incompatible(pair, surveys)),
    )


def plan_undo(pair: Pair, surveys: Mapping[str, Survey]) -> Change | None:
    """What would change if what is kept were put back; None when it stands there.

    The surveys tell of the state that is to be put back as what is kept.
    """
    of_primary = surveys[pair.primary.name]
    given, wished = of_primary.in_use, of_primary.accepted_in_use
    goes = given is not None and wished is not None and _loses_a_subnet(given, wished)
    found = []
    for node in _order(pair, surveys, primary_loses=goes):
        survey = surveys[node.name]
        lines = [
            f"{path}: {one.strip()}"
            for path in accepted_state.differing(survey, daemons.KEPT)
            for one in _edit(survey.files.get(path), survey.kept.get(path), path).split("\n")
        ]
        if not lines and is_marked([survey]):
            lines = ["bring the server back, which a run that was cut off may have left down"]
        if lines:
            found.append(HostChange(node, tuple(lines), restarts=True))
    if not found:
        return None
    reasons = _unlivable_undo(pair, surveys)
    return Change(tuple(found), together=bool(reasons))


def _order(pair: Pair, surveys: Mapping[str, Survey], *, primary_loses: bool) -> list[Node]:
    """The hosts in the order in which they are to be changed.

    A server turns away leases of a subnet that it does not have. So the one that gives leases, the
    primary, must not have a subnet that its partner lacks: it gets a new one after its partner, and
    loses an old one before it, its partner serving (``primary_loses``: this is still to come).
    """
    if primary_loses and surveys[pair.standby.name].answers:
        return [pair.primary, pair.standby]
    return sorted(pair.nodes, key=lambda n: (surveys[n.name].serves, n.role == "primary"))


#: What is under way while a state is put back, by where that is kept.
PUTS_BACK: Mapping[str, Work] = {
    layout.KEPT_DIR: Work.CHANGING,
    layout.KEPT_BEFORE_DIR: Work.UNDOING,
    layout.RESTORED_DIR: Work.RESTORING,
}


def goals(surveys: Mapping[str, Survey]) -> Mapping[str, str]:
    """Where each host keeps the accepted state that the pair is to go back to.

    Of a change that was begun that is what its marks say, else what was accepted before the last
    one. It is the same state on both, wherever each keeps it by now; empty where a host does not.
    """
    if is_marked(surveys.values()):
        wanted = mark.back_to(one.mark for one in surveys.values())
    else:
        names = {one.kept_names.get(layout.KEPT_BEFORE_DIR, "") for one in surveys.values()}
        wanted = names.pop() if len(names) == 1 else ""
    return {
        host: next((d for d, name in one.kept_names.items() if wanted and name == wanted), "")
        for host, one in surveys.items()
    }


def undo_objections(
    pair: Pair, surveys: Mapping[str, Survey], *, force: bool, accept_outage: bool
) -> Iterable[Problem]:
    """Why the state that these surveys tell of as kept must not be put back."""
    for node in pair.nodes:
        survey = surveys[node.name]
        yield from client_impact.out_for_maintenance(node.name, survey)
        if survey.mark.work is Work.UPGRADING:
            yield Problem(
                "the host",
                "in the middle of an upgrade",
                "one Kea on both: its packages are not put back",
                "go on with it: pyinfra -y inventory.py runbook/upgrade.py",
                where=node.name,
            )
        if not survey.mark.accepted or not survey.kept:
            yield Problem(
                "the state to go back to",
                "not kept on this host",
                "an earlier state that was accepted (a change of CAs and an upgrade leave none)",
                "give the settings as they were, and run deploy.py",
                where=node.name,
            )
            return
    if not force and not is_marked(surveys.values()):
        yield from damage(pair, surveys)
    reasons = _unlivable_undo(pair, surveys)
    if reasons and not accept_outage:
        yield _wants_outage(pair, surveys, reasons)


def _unlivable_undo(pair: Pair, surveys: Mapping[str, Survey]) -> list[str]:
    found: list[str] = []
    for node in pair.nodes:
        survey = surveys[node.name]
        if node.own_certificates and layout.HA_ANCHOR in accepted_state.differing(
            survey, daemons.KEPT
        ):
            found.append(_ANOTHER_ANCHOR)
        given, wished = survey.in_use, survey.accepted_in_use
        if given and wished:
            found += _unlivable(given, wished)
    return list(dict.fromkeys(found))


def objections(
    pair: Pair, surveys: Mapping[str, Survey], *, force: bool, accept_outage: bool
) -> Iterable[Problem]:
    """Why the change must not be made, unless the operator said so."""
    marked = is_marked(surveys.values())
    if not force and not marked:
        yield from hand_edits(pair, surveys)
        yield from damage(pair, surveys)
    reasons = _incompatible(pair, surveys)
    if reasons and not accept_outage:
        yield _wants_outage(pair, surveys, reasons)


def _wants_outage(pair: Pair, surveys: Mapping[str, Survey], reasons: Iterable[str]) -> Problem:
    return Problem(
        "the change",
        f"one that the two servers cannot live with half done:{below(reasons)}",
        "changes that can be made on one server while the other serves",
        "give --data accept_outage=true (of rotate.py's changes, to deploy.py) to make it all the "
        "same: both servers are then restarted at once, and no client is served for "
        f"{outage_s(pair, surveys):.0f} s or so. docs/runbook.md, Change a live pair",
        where=pair.name,
    )


def cost(pair: Pair, change: Change, surveys: Mapping[str, Survey]) -> str:
    """What clients will notice of the change, and which setting would make it less."""
    restarts = [one.node.name for one in change.hosts if one.restarts]
    if change.together:
        return f"Both servers restart at once: about {outage_s(pair, surveys):.0f} s of no service"
    if not restarts:
        return "kea-dhcp4 runs on: clients notice nothing"
    return cost_of_restarts(pair, len(restarts), surveys)


def cost_of_restarts(pair: Pair, count: int, surveys: Mapping[str, Survey]) -> str:
    """What clients will notice of so many restarts, one at a time, each under maintenance."""
    heartbeat = heartbeat_ms(pair, surveys)
    times = f" each time ({count} restarts)" if count > 1 else ""
    advice = (
        "; heartbeat_delay=1000 would make that 1 s, whatever else stays as it is"
        if heartbeat >= _SLOW_HEARTBEAT_MS
        else ""
    )
    return (
        "When a restarted server rejoins, clients may wait for up to one heartbeat_delay, "
        f"{heartbeat / 1000:g} s{times}{advice}"
    )


def patience_s(pair: Pair, surveys: Mapping[str, Survey]) -> float:
    """How long a restarted server may take to be accepted again, by old and new settings, in s."""
    given = [one for one in (each.in_use for each in surveys.values()) if one is not None]
    timeouts = [one.sync_timeout.total_seconds() * 1000 for one in given]
    return config_in_use.patience_s(
        heartbeat_ms(pair, surveys), max([pair.settings.sync_timeout, *timeouts])
    )


def heartbeat_ms(pair: Pair, surveys: Mapping[str, Survey]) -> float:
    """The longest heartbeat-delay of old and new settings, in ms: each server has its own."""
    given = [one for one in (each.in_use for each in surveys.values()) if one is not None]
    old = [one.heartbeat.total_seconds() * 1000 for one in given]
    return max([pair.settings.heartbeat_delay, *old])


def outage_s(pair: Pair, surveys: Mapping[str, Survey]) -> float:
    """How long no client is served, about, when both servers restart at once, in seconds."""
    # Both wait for each other's heartbeat, the primary synchronises, is ready, and serves.
    return 3 * heartbeat_ms(pair, surveys) / 1000


def _settings_changed(pair: Pair, survey: Survey) -> Iterable[str]:
    try:
        before = json_value(survey.kept_settings, "the settings")
    except ForeignError:
        return  # rolled out before settings were kept
    now = json.loads(accepted_state.settings_text(pair))
    for one in config_diff.differences(before, now):
        yield str(one)


def hand_edits(pair: Pair, surveys: Mapping[str, Survey]) -> Iterable[Problem]:
    """The documents that somebody edited since the last rollout, with what became of what."""
    for node in pair.nodes:
        survey = surveys[node.name]
        for path in accepted_state.hand_edits(survey):
            yield Problem(
                path,
                "not as the last rollout left it:\n      "
                f"{_edit(survey.kept.get(path), survey.files.get(path), path)}",
                "documents that only the rollout writes",
                "take what is wanted of it into the settings (or `extra`); then --data force=true "
                "goes on, and the edit is lost",
                where=node.name,
            )


def _edit(old: RemoteFile | None, new: RemoteFile | None, path: str) -> str:
    """How a file became another, in words."""
    if old is None or new is None:
        return "removed" if new is None else "added"
    if path not in (one.document for one in daemons.DAEMONS):
        return "its text differs"
    try:
        before, after = (config_diff.parse_document(f.content or "{}") for f in (old, new))
    except ValueError as error:
        return f"it is no document any more: {error}"
    found = [str(one) for one in config_diff.differences(before, after)]
    return "\n      ".join(found) or "comments or spaces only"


def damage(
    pair: Pair, surveys: Mapping[str, Survey], *, but: str | None = None
) -> Iterable[Problem]:
    """Why no server of this pair may step down; findings with ``but`` in them do not count."""
    found = [one for one in acceptance.health_findings(pair, surveys) if not (but and but in one)]
    if found:
        yield Problem(
            "the live pair",
            f"damaged; {acceptance.serving(pair, surveys)}:{below(found)}",
            "a healthy pair, so that one server carries all while the other is changed",
            "mend it first: pyinfra -y inventory.py runbook/recover.py finds out what is wrong and "
            "mends what can be mended from here; or go on all the same with --data force=true",
            where=pair.name,
        )


def _incompatible(pair: Pair, surveys: Mapping[str, Survey]) -> list[str]:
    """What of the change the two servers could not live with while it is half done."""
    found: list[str] = []
    for node in pair.nodes:
        survey = surveys[node.name]
        givens = _givens(survey)
        found += _expires_meanwhile(pair, node, surveys)
        if not givens:
            continue
        own = node.own_certificates
        if (
            own
            and own.anchor in survey.files
            and not desired_state.same_file(survey, own.anchor, layout.HA_ANCHOR)
        ):
            found.append(_ANOTHER_ANCHOR)
        wished = _wished(pair, node, survey)
        for given in givens:
            found += _unlivable(given, wished)
    return list(dict.fromkeys(found))


def _givens(survey: Survey) -> list[Running]:
    """What the server may have been started with.

    Of a change that was cut off that may be its document, or still what was accepted before it.
    """
    accepted = survey.accepted_in_use if is_marked([survey]) else None
    return [one for one in (survey.in_use, accepted) if one is not None]


def _loses_a_subnet(given: Running, wished: Running) -> bool:
    return bool(given.subnets.keys() - wished.subnets.keys())


def _wished(pair: Pair, node: Node, survey: Survey) -> Running:
    return config_in_use.parse(
        config_diff.parse_document(desired_state.make_plan(pair, node, survey).dhcp4.content)
    )


def _expires_meanwhile(pair: Pair, node: Node, surveys: Mapping[str, Survey]) -> Iterable[str]:
    survey = surveys[node.name]
    held = survey.certificates.get(layout.HA_CERTIFICATE)
    with suppress(certificates.PkiError):
        ends = certificates.inspect(held or "").not_after
        # Each of the two may take as long as that to be healthy again.
        if ends < survey.time + timedelta(seconds=2 * patience_s(pair, surveys)):
            if ends < survey.time:
                words = "has expired: pyinfra -y inventory.py runbook/recover.py makes new ones"
            else:
                words = (
                    f"expires at {ends:%Y-%m-%d %H:%M:%S} UTC: from then on the two turn each "
                    "other away until both have new ones"
                )
            yield f"the certificate of {node.name} {words}"


_ANOTHER_ANCHOR = (
    "the anchor of the peers changes: the changed server and the other one would turn each other "
    "away"
)


def _unlivable(given: Running, wished: Running) -> Iterable[str]:
    """What a server that is as ``given`` could not live with in a partner that is as ``wished``."""
    for number in given.subnets.keys() & wished.subnets.keys():
        old, new = given.subnets[number], wished.subnets[number]
        if new != old:
            yield (
                f"subnet {number} ({old}) becomes {new}: the changed server would turn away the "
                "leases that the other one still gives there. Clients of other subnets notice "
                "nothing if deploy.py removes it, and in another run adds one with another id"
            )
    removed = [str(one) for one in given.subnets.keys() - wished.subnets.keys()]
    added = [str(one) for one in wished.subnets.keys() - given.subnets.keys()]
    if removed and added:
        yield (
            f"subnet {', '.join(removed)} is removed and {', '.join(added)} added: whichever is "
            "changed first, it or the other one would turn away leases. Clients of other subnets "
            "notice nothing if deploy.py does it in two runs: the one, then the other"
        )
    if given.peers != wished.peers:
        yield (
            "a server's name, role, address or ha_port changes: the changed server and the other "
            "one would not find each other"
        )
