"""Do clients rely on a server, and what of a rollout would they feel? Pure judgements."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from kea_ha import layout
from kea_ha.host import desired_state
from kea_ha.host.daemons import DHCP4
from kea_ha.host.mark import Work
from kea_ha.host.survey import Survey
from kea_ha.pki.ca_store import Authority
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem

_NO_CA = Authority()


@dataclass(frozen=True)
class Anchors:
    """The CAs at hand on the operator's side.

    Certificates of theirs that were issued before ``renew_before`` are to be made anew.
    """

    peers: Authority = _NO_CA
    api: Authority = _NO_CA
    renew_before: datetime | None = None


def is_live(survey: Survey) -> bool:
    """Whether clients may rely on this host.

    An unfinished rollout is continued without being asked, unless the host already serves or
    knows of leases: then it counts as live, as every accepted one does.
    """
    mark = survey.mark
    if not mark.owner:
        return False
    if mark.work is None:
        return mark.accepted or _runs(survey) or survey.leases
    if mark.work is Work.ADOPTING:
        return _has_clients(survey)  # the leases are those of the server that is taken over
    return mark.is_changing or survey.leases or _has_clients(survey)


def _has_clients(survey: Survey) -> bool:
    """Whether the HA gives it clients to serve; also while it is kept from that for a moment, as by
    a partner that fetches its leases."""
    ha = survey.status.ha if survey.status else None
    return _runs(survey) and ha is not None and bool(ha.local.scopes)


def _runs(survey: Survey) -> bool:
    return any(survey.unit(unit).is_active for unit in DHCP4.units)


def not_rolled_out(where: str, found: str = "not rolled out on this host") -> Problem:
    """Why nothing is done where the pair was never accepted."""
    return Problem(
        "the pair",
        found,
        "a pair that was accepted",
        "roll it out first: pyinfra -y inventory.py deploy.py",
        where=where,
    )


def out_for_maintenance(name: str, survey: Survey) -> Iterable[Problem]:
    """Why nothing is done to a pair of which this host was taken out."""
    if survey.mark.out_since:
        yield Problem(
            "the host",
            f"out for maintenance since {survey.mark.out_since}",
            "no change of a pair while one of its hosts is out",
            "bring it back first: pyinfra -y inventory.py runbook/maintain.py "
            f"--data host={name} --data done=true",
            where=name,
        )


def interruptions(pair: Pair, node: Node, survey: Survey, anchors: Anchors) -> list[str]:
    """What would be done to a server and would interrupt its clients."""
    wished = desired_state.make_plan(pair, node, survey)
    changes = list(desired_state.pending(wished, survey))
    changes += _identity_changes(pair, node, survey, anchors)
    unit = DHCP4.of(pair).unit
    if not changes and survey.unit(unit).is_active:  # starting what is down interrupts nobody
        changes += [
            f"restart {unit}: {why}" for why in desired_state.stale_inputs(wished, survey, unit)
        ]
    return changes


def restarts_kea(pair: Pair, node: Node, survey: Survey, anchors: Anchors) -> bool:
    """Whether kea-dhcp4 is restarted by what would be done to the host."""
    wished = desired_state.make_plan(pair, node, survey)
    mine = ("ha", "api") if pair.settings.control_channel == "direct" else ("ha",)
    return bool(
        desired_state.stale_inputs(wished, survey, DHCP4.of(pair).unit)
        or _identity_changes(pair, node, survey, anchors, among=mine)
    )


def _identity_changes(
    pair: Pair,
    node: Node,
    survey: Survey,
    anchors: Anchors,
    among: Collection[str] = ("ha", "api"),
) -> list[str]:
    changes = []
    own = node.own_certificates
    if own is not None and "ha" in among and not desired_state.own_is_in_use(own, survey):
        changes.append(f"use {own.certificate}, which is not the certificate in use")
    held = [] if own is not None else [("ha", layout.HA_ANCHOR, anchors.peers)]
    if pair.settings.control_channel != "none":
        held.append(("api", layout.API_ANCHOR, anchors.api))
    for which, path, authority in (one for one in held if one[0] in among):
        live = survey.certificates.get(path)
        # Another CA than the one at hand is a problem of its own, and has been named.
        if live is None or authority.knows(live):
            findings = desired_state.identity_findings(
                node, survey, which, authority, anchors.renew_before
            )
            changes += [f"make a certificate: {finding}" for finding in findings]
    return changes
