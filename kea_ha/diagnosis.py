"""What is wrong with a live pair, and what would mend it. Pure.

Surveys of both hosts in (of one, when the other cannot be read), one diagnosis out: what was found,
in words, and the one cure that fits. What cannot be mended from here is a ``Problem``, with what
the operator has to do first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from kea_ha import (
    acceptance,
    certificates,
    changes,
    journal,
    keeping,
    layout,
    live,
    plan,
    preflight,
    status,
)
from kea_ha.leases import is_header
from kea_ha.live import Anchors
from kea_ha.preflight import Seen
from kea_ha.settings import Node, Pair, Problem
from kea_ha.survey import Survey

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
        return _diagnose_survivor(pair, pair.node(name), surveys[name])
    fresh = [node for node in pair.nodes if "pair" not in surveys[node.name].state]
    if fresh:
        other = pair.partner_of(fresh[0])
        return Diagnosis(
            (f"{fresh[0].name} is a machine on which nothing of the pair is",),
            "rebuild",
            f"{fresh[0].name} is set up, and gets all leases from {other.name}, which is not "
            "restarted for it. Then the CAs are changed, since the keys of the lost machine may be "
            "in other hands",
            fresh[0].name,
        )
    found = list(acceptance.health_findings(pair, surveys))
    if found and all(acceptance.OLD_PROGRAM in one for one in found):
        return Diagnosis(tuple(found), "nothing", "runbook/upgrade.py restarts one after the other")
    broken = [node for node in pair.nodes if _broken(node, surveys[node.name], anchors)]
    for node in broken:
        found += _broken(node, surveys[node.name], anchors)
    closed = [node.name for node in pair.nodes if _lease_file_is_closed(surveys[node.name])]
    found += [f"{name}: Kea cannot open its lease file" for name in closed]
    found = list(dict.fromkeys(found))
    renew = tuple(node.name for node in broken)
    if not found:
        lost = [_rows_lost(node, surveys[node.name]) for node in pair.nodes]
        return Diagnosis(
            tuple(one for one in lost if one), "nothing", "the pair is healthy: nothing is done"
        )

    def cure(cure: Cure, words: str, host: str = "") -> Diagnosis:
        return Diagnosis(tuple(found), cure, words, host, tuple(closed), renew)

    states = {node.name: _state(surveys[node.name]) for node in pair.nodes}
    down = [node for node in pair.nodes if states[node.name] is None]
    if "terminated" in states.values():
        return cure("restart both", f"both are restarted at once, {_sync(pair, surveys)}")
    if len(broken) == 2:
        return cure(
            "restart both",
            "both get new certificates and are restarted at once, since neither would let the "
            f"other in as it runs, {_sync(pair, surveys)}",
        )
    if len(down) == 2:
        return cure("restart both", f"both are started, {_sync(pair, surveys)}")
    stuck = [node for node in pair.nodes if states[node.name] == status.IN_MAINTENANCE]
    for node in (*down, *broken, *stuck):
        partner = pair.partner_of(node)
        certificate = "gets a new certificate and " if node in broken else ""
        leases = (
            f"Its lease file is set aside, under {layout.STATE_DIR}; all leases come from "
            f"{partner.name}"
            if node.name in closed
            else f"It gets what it missed from {partner.name}"
        )
        return cure("rejoin", f"{node.name} {certificate}is started anew. {leases}", node.name)
    return cure("wait", "nothing has to be restarted: the two are waited for")


def problems(
    pair: Pair, seen: Mapping[str, Seen], anchors: Anchors, diagnosis: Diagnosis
) -> Iterable[Problem]:
    """What has to be put right before the cure can work."""
    seen = {node.name: seen[node.name] for node in pair.nodes if node.name in seen}
    for name, one in seen.items():
        yield from live.out_for_maintenance(name, one.survey)
    if all("pair" not in one.survey.state for one in seen.values()):
        yield Problem(
            "the pair",
            "rolled out on no host that can be read",
            "a pair that was accepted",
            "roll it out: pyinfra -y inventory.py deploy.py",
            where=pair.name,
        )
        return
    if diagnosis.cure == "rebuild":
        yield from preflight.problems(pair, seen, anchors, preflight.Agreed())
        return
    if len(seen) == len(pair.nodes):
        yield from preflight.between(pair, seen)
    if len(diagnosis.aside) == 2:
        yield Problem(
            "the lease files",
            "such that Kea can open neither",
            "one host that still has the leases",
            "bring them back from a backup: pyinfra -y inventory.py runbook/restore.py",
            where=pair.name,
        )
    for name in diagnosis.renew:
        yield from _no_new_certificate(pair, pair.node(name), seen[name].survey, anchors)
    if diagnosis.cure in ("rejoin", "restart both"):
        for name in [diagnosis.host] if diagnosis.host else list(seen):
            edited = keeping.hand_edits(seen[name].survey)
            if edited and _state(seen[name].survey) is None:
                yield Problem(
                    ", ".join(edited),
                    "not as the last rollout left it, and the server is down",
                    "the documents of the rollout",
                    "pyinfra -y inventory.py deploy.py --data force=true shows what differs and "
                    "writes them anew",
                    where=name,
                )


def _no_new_certificate(
    pair: Pair, node: Node, survey: Survey, anchors: Anchors
) -> Iterable[Problem]:
    if node.own_certificates is not None:
        for finding in plan.own_findings(node, node.own_certificates, survey):
            yield Problem(
                "own_certificates",
                f"not usable: {finding}",
                "a key, its certificate and its anchor that fit",
                "put good ones there, then run the same command again",
                where=node.name,
            )
    elif not anchors.peers.issuer:
        yield Problem(
            layout.HA_CERTIFICATE,
            f"not valid, and there is no pki/{pair.name}/ here to make another",
            f"the CA of the pair in pki/{pair.name}/",
            f"copy pki/{pair.name}/ from the machine that rolled this pair out (docs/runbook.md, "
            "Keep pki/)",
            where=node.name,
        )


def _diagnose_survivor(pair: Pair, node: Node, survey: Survey) -> Diagnosis:
    lost = pair.partner_of(node)
    found = [f"{lost.name} cannot be reached from here"]
    if acceptance.serves(survey) and _state(survey) in _ALONE:
        words = f"{node.name} serves all clients alone: nothing is done"
        return Diagnosis(tuple(found), "nothing", words, node.name)
    with suppress(status.StatusError):
        reported = status.parse_status(survey.status)
        heartbeat = acceptance.heartbeat(pair, survey)
        if reported.ha is not None and not status.judge_link(reported, heartbeat):
            words = f"{node.name} reaches it, so the pair serves: nothing is done"
            return Diagnosis(tuple(found), "nothing", words, node.name)
        found.append(f"{node.name} does not reach it either, and waits for it")
    if _state(survey) is None:
        found.append(f"kea-dhcp4 does not run on {node.name}")
    return Diagnosis(
        tuple(found),
        "take over",
        f"{node.name} is told that {lost.name} is gone, and serves all clients. If {lost.name} "
        "does serve somewhere all the same, two clients may be given one address until they "
        "reach each other again",
        node.name,
    )


def _sync(pair: Pair, surveys: Mapping[str, Survey]) -> str:
    seconds = changes.outage_s(pair, surveys)
    return f"and exchange their leases first: no client is served for {seconds:.0f} s or so"


def _state(survey: Survey) -> str | None:
    """The HA state of the server, by its own account; None when it does not answer."""
    with suppress(status.StatusError):
        reported = status.parse_status(survey.status)
        return reported.ha.local.state if reported.ha else "no HA"
    return None


def _broken(node: Node, survey: Survey, anchors: Anchors) -> list[str]:
    """Why the partner must turn this host away."""
    certificate = survey.certificates.get(layout.HA_CERTIFICATE, "")
    # By the CA that signs here, or by the host's own anchor where that is not at hand.
    issuer = anchors.peers.known if node.own_certificates is None else ""
    found = certificates.check_identity(
        certificate,
        issuer or survey.certificates.get(layout.HA_ANCHOR, ""),
        public_key_pem=survey.public_keys.get(layout.HA_KEY, ""),
        address=node.address,
        now=survey.time,
    )
    return [f"{node.name}: {layout.HA_CERTIFICATE}: {one}" for one in found]


def _lease_file_is_closed(survey: Survey) -> bool:
    return survey.status is None and not all(map(is_header, survey.lease_headers.values()))


def _rows_lost(node: Node, survey: Survey) -> str:
    lines = journal.parse_log(survey.log)
    rows = [one for one in lines if one.id == _ROW_LOST and one.process == lines[-1].process]
    if not rows:
        return ""
    return (
        f"{node.name}: {len(rows)} rows of its lease file could not be read at its last start; "
        "since then it has got all leases from its partner"
    )
