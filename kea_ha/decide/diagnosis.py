"""What is wrong with a live pair, and what would mend it. Pure.

Surveys of both hosts in (of one, when the other cannot be read), one diagnosis out: what was found,
in words, and the one cure that fits. What cannot be mended from here is a ``Problem``, with what
the operator has to do first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kea_ha import layout
from kea_ha.decide import acceptance, change_plan, client_impact, preflight
from kea_ha.decide.client_impact import Anchors
from kea_ha.decide.preflight import Seen
from kea_ha.host import accepted_state, desired_state
from kea_ha.host.daemons import DHCP4
from kea_ha.host.survey import Survey
from kea_ha.kea import status
from kea_ha.kea.lease_file import is_header
from kea_ha.pki import certificates
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, below

#: ``wait``: Kea mends it by itself. ``take over``: the one server that is left serves all clients.
#: ``rejoin``: one server is started anew, its partner serving. ``restart both``: at once, since
#: neither can join the other as it is. ``rebuild``: a fresh machine takes the place of a lost one.
Cure = Literal["nothing", "wait", "take over", "rejoin", "restart both", "rebuild"]

#: In these a server serves all clients and waits for no acknowledgement.
_ALONE = (status.PARTNER_DOWN, status.PARTNER_IN_MAINTENANCE, "terminated")
_ROW_LOST = "DHCPSRV_MEMFILE_LEASE_LOAD_ROW_ERROR"


@dataclass(frozen=True)
class Diagnosis:
    """What was ``found``, the ``cure``, the host that it is for (empty: both), in ``words``.

    ``aside``: hosts whose lease file Kea cannot open, so that it is set aside and all leases come
    from the partner. ``renew``: hosts whose certificate is to be made anew.
    """

    found: tuple[str, ...]
    cure: Cure
    words: str
    host: str = ""
    aside: tuple[str, ...] = ()
    renew: tuple[str, ...] = ()


def diagnose(pair: Pair, seen: Mapping[str, Seen], anchors: Anchors) -> Diagnosis:
    """What is wrong with the pair of which these hosts could be seen, at least one."""
    surveys = {node.name: seen[node.name].survey for node in pair.nodes if node.name in seen}
    if len(surveys) == 1:
        (name,) = surveys
        return _diagnose_survivor(pair, pair.node(name), seen[name])
    # A host that was lost, or whose machine was being set up in the place of one.
    fresh = [node for node in pair.nodes if not surveys[node.name].mark.accepted]
    if len(fresh) == 1:
        return _diagnose_fresh(pair, fresh[0], seen[pair.partner_of(fresh[0]).name])
    found = list(acceptance.health_findings(pair, surveys))
    if found and all(acceptance.OLD_PROGRAM in one for one in found):
        return Diagnosis(tuple(found), "nothing", "runbook/upgrade.py restarts one after the other")
    broken = [node for node in pair.nodes if _broken(node, surveys[node.name])]
    for node in broken:
        found += _broken(node, surveys[node.name])
    closed = [node.name for node in pair.nodes if _lease_file_is_closed(surveys[node.name])]
    found += [f"{name}: Kea cannot open its lease file" for name in closed]
    found = list(dict.fromkeys(found))
    if not found:
        lost = [_rows_lost(node, surveys[node.name]) for node in pair.nodes]
        return Diagnosis(
            tuple(one for one in lost if one), "nothing", "the pair is healthy: nothing is done"
        )
    # Renewed by a run that was cut off before it restarted the server.
    old = [node for node in pair.nodes if node not in broken and _runs_on_old(surveys[node.name])]
    return _choose(pair, surveys, found, closed, broken, old)


def _choose(
    pair: Pair,
    surveys: Mapping[str, Survey],
    found: Sequence[str],
    closed: Sequence[str],
    broken: Sequence[Node],
    old: Sequence[Node],
) -> Diagnosis:
    def cure(cure: Cure, words: str, host: str = "") -> Diagnosis:
        renew = tuple(node.name for node in broken)
        return Diagnosis(tuple(found), cure, words, host, tuple(closed), renew)

    states = {node.name: _state(surveys[node.name]) for node in pair.nodes}
    down = [node for node in pair.nodes if states[node.name] is None]
    if "terminated" in states.values():
        return cure("restart both", f"both are restarted at once, {_sync(pair, surveys)}")
    if len(broken) + len(old) == 2:
        return cure(
            "restart both",
            "both are restarted at once with new certificates, since neither lets the other in as "
            f"it runs, {_sync(pair, surveys)}",
        )
    if len(down) == 2 and not closed:
        return cure("restart both", f"both are started, {_sync(pair, surveys)}")
    stuck = [node for node in pair.nodes if states[node.name] == status.IN_MAINTENANCE]
    # Of two that are down, the one whose leases can be read starts first, for the other one.
    down.sort(key=lambda node: node.name not in closed)
    for node in (*down, *broken, *old, *stuck):
        partner = pair.partner_of(node)
        first = f"{partner.name} is started first, and serves. " if len(down) == 2 else ""
        certificate = "gets a new certificate and " if node in broken else ""
        leases = (
            f"Its lease file is set aside, under {layout.STATE_DIR}; all leases come from "
            f"{partner.name}"
            if node.name in closed
            else f"It gets what it missed from {partner.name}"
        )
        words = f"{first}{node.name} {certificate}is started anew. {leases}"
        return cure("rejoin", words, node.name)
    return cure("wait", "nothing has to be restarted: the two are waited for")


def _diagnose_fresh(pair: Pair, node: Node, survivor: Seen) -> Diagnosis:
    """One host is a fresh machine: only a partner that serves has leases to give it."""
    other = pair.partner_of(node)
    found = f"{node.name} is a machine on which the pair is not, or not whole"
    if not survivor.survey.serves:
        alone = _diagnose_survivor(pair, other, survivor)
        if alone.cure == "take over":
            words = f"{alone.words}. Run the same command again then, to set {node.name} up"
            return replace(alone, found=(found, *alone.found[1:]), words=words)
    return Diagnosis(
        (found,),
        "rebuild",
        f"{node.name} is set up, and gets all leases from {other.name}, which is not restarted for "
        "it. Then the CAs are changed, since the keys of the lost machine may be in other hands",
        node.name,
    )


def problems(
    pair: Pair, seen: Mapping[str, Seen], anchors: Anchors, diagnosis: Diagnosis
) -> Iterable[Problem]:
    """What has to be put right before the cure can work."""
    seen = {node.name: seen[node.name] for node in pair.nodes if node.name in seen}
    if not any(one.survey.mark.owner for one in seen.values()):
        yield client_impact.not_rolled_out(pair.name, "rolled out on no host that can be read")
        return
    if diagnosis.cure != "take over":  # which is what a host that is out may be needed for
        for name, one in seen.items():
            yield from client_impact.out_for_maintenance(name, one.survey)
    if diagnosis.cure == "rebuild":
        yield from preflight.problems(pair, seen, anchors, None)
        survivor = pair.partner_of(pair.node(diagnosis.host))
        yield from _survivor_differs(pair, survivor, seen[survivor.name].survey)
        return
    if len(seen) == len(pair.nodes) and diagnosis.cure != "take over":
        yield from preflight.between(pair, seen)
    closed = [name for name, one in seen.items() if _lease_file_is_closed(one.survey)]
    if len(closed) == len(seen):
        yield Problem(
            "the lease file of each host that answers",
            "one that Kea cannot open",
            "one host that still has the leases",
            f"stop kea-dhcp4 on both, and move {layout.LEASES}* there to another directory; then "
            "bring the leases back from a backup: pyinfra -y inventory.py runbook/restore.py "
            f"--data from=backups/{pair.name}-DATE",
            where=pair.name,
        )
    for name in diagnosis.renew:
        node, survey = pair.node(name), seen[name].survey
        yield from preflight.identity_problems(pair, node, survey, anchors)
    if diagnosis.cure in ("rejoin", "restart both"):
        for name in [diagnosis.host] if diagnosis.host else list(seen):
            edited = accepted_state.hand_edits(seen[name].survey)
            if edited and _state(seen[name].survey) is None:
                yield Problem(
                    ", ".join(edited),
                    "not as the last rollout left it, and the server is down",
                    "the documents of the rollout",
                    "pyinfra -y inventory.py deploy.py --data force=true shows what differs and "
                    "writes them anew",
                    where=name,
                )


def _survivor_differs(pair: Pair, node: Node, survey: Survey) -> Iterable[Problem]:
    """Its certificates do not matter: they are made anew with the CAs, afterwards."""
    waiting = desired_state.pending(desired_state.make_plan(pair, node, survey), survey)
    if waiting:
        yield Problem(
            "the survivor",
            f"not as described:{below(waiting)}",
            "the settings that it was rolled out with: nobody could serve while it is changed",
            "give those settings (a forgotten --data counts, too); change both hosts afterwards",
            where=node.name,
        )


def _diagnose_survivor(pair: Pair, node: Node, one: Seen) -> Diagnosis:
    lost, survey = pair.partner_of(node), one.survey
    found = [f"{lost.name} cannot be reached from here"]
    if survey.serves and _state(survey) in _ALONE:
        words = f"{node.name} serves all clients alone: nothing is done"
        return Diagnosis(tuple(found), "nothing", words, node.name)
    if survey.status is not None:
        heartbeat = acceptance.heartbeat(pair, survey)
        if survey.status.ha is not None and not status.judge_link(survey.status, heartbeat):
            words = f"{node.name} reaches it, so the pair serves: nothing is done"
            return Diagnosis(tuple(found), "nothing", words, node.name)
        found.append(f"{node.name} does not reach it either, and waits for it")
    if _state(survey) is None:
        found.append(f"kea-dhcp4 does not run on {node.name}")
        port = pair.settings.ha_port
        if any(p.port == port and p.outcome == "open" for p in one.paths):
            found.append(f"{lost.name} answers on port {port} all the same")
            words = f"{node.name} is started, and joins {lost.name}"
            return Diagnosis(tuple(found), "rejoin", words, node.name)
    return Diagnosis(
        tuple(found),
        "take over",
        f"{node.name} is told that {lost.name} is gone, and serves all clients. If {lost.name} "
        "does serve somewhere all the same, two clients may be given one address until they "
        "reach each other again",
        node.name,
    )


def _sync(pair: Pair, surveys: Mapping[str, Survey]) -> str:
    seconds = change_plan.outage_s(pair, surveys)
    return f"and exchange their leases first: no client is served for {seconds:.0f} s or so"


def _state(survey: Survey) -> str | None:
    """The HA state of the server, by its own account; None when it does not answer."""
    if survey.status is None:
        return None
    return survey.ha_state or "no HA"


def _broken(node: Node, survey: Survey) -> list[str]:
    """Why any partner must turn this host away; by what Kea looks at, and no more."""
    found = certificates.check_identity(
        survey.certificates.get(layout.HA_CERTIFICATE, ""),
        survey.certificates.get(layout.HA_ANCHOR, ""),
        public_key_pem=survey.public_keys.get(layout.HA_KEY, ""),
        now=survey.time,
    )
    return [f"{node.name}: {layout.HA_CERTIFICATE}: {one}" for one in found]


def _runs_on_old(survey: Survey) -> bool:
    """Whether the server was started before the certificates that are there now."""
    for unit in DHCP4.units:
        for path, digest in survey.started_from.get(unit, {}).items():
            file = survey.files.get(path)
            if path in layout.HA_FILES and file is not None and file.sha256 != digest:
                return True
    return False


def _lease_file_is_closed(survey: Survey) -> bool:
    return survey.status is None and not all(map(is_header, survey.lease_headers.values()))


def _rows_lost(node: Node, survey: Survey) -> str:
    lines = survey.log
    rows = [one for one in lines if one.id == _ROW_LOST and one.process == lines[-1].process]
    if not rows:
        return ""
    return (
        f"{node.name}: {len(rows)} rows of its lease file could not be read at its last start; "
        "since then it has got all leases from its partner"
    )
