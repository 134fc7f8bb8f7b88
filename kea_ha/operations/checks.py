"""Work that changes nothing: it looks, waits, proves and judges.

Each ends without a change or fails its host with the reason and the remedy. While changes are only
being listed (``--dry``, or before the prompt) they do nothing, except that pre-flight looks and
judges then too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pyinfra import host, state

from kea_ha import layout
from kea_ha.decide import acceptance, change_plan, preflight
from kea_ha.decide.acceptance import Evidence
from kea_ha.decide.change_plan import Change
from kea_ha.decide.preflight import Agreed, Seen
from kea_ha.host import daemons, desired_state
from kea_ha.host.daemons import Daemon
from kea_ha.host.script import script
from kea_ha.host.survey import Survey
from kea_ha.kea import config_in_use, log_file
from kea_ha.operations import probes
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import Outcome
from kea_ha.session.remote import AGAIN, PartnerFailed, ask, say, wait_until
from kea_ha.session.surveys import anchors_for, change_of_cas, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, counted

#: By host: what pre-flight saw there, and what the acceptance is judged by.
SEEN = Slot[Seen]()
EVIDENCE = Slot[Evidence]()
#: By pair: what is to change of a live one.
CHANGES = Slot[Change]()


# Pre-flight ------------------------------------------------------------------------------------


def look(pair: Pair, node: Node) -> Outcome:
    """See what there is on a host and what it can reach."""
    survey = look_at(node, anew=True)
    if desired_state.installed(pair, survey) is None:
        say("    refreshing the package index")
        # A failure shows as a missing or an old candidate, and is refused with that.
        ask(host, "apt-get -q update -o DPkg::Lock::Timeout=60", timeout_s=300)
        survey = look_at(node, anew=True)
    SEEN[node.name] = Seen(
        survey,
        RUN.skews[node.name],
        paths=tuple(probes.paths(pair, node)),
        dhcp=probes.dhcp_servers(pair, node),
    )
    return "seen"


def survey(node: Node) -> Outcome:
    """See what there is on a host, and no more."""
    look_at(node, anew=True)
    return "seen"


def decide(pair: Pair, *, agreed: Agreed, only_live: bool = False) -> Outcome:
    """Refuse, with every reason against both hosts at once, or go on.

    ``only_live``: there has to be a live pair, since this run does not roll one out.
    """
    if any(set(failure.hosts) & set(_hosts_of(pair)) for failure in RUN.failures):
        raise PartnerFailed  # held by another run, or not to be read: that has been said
    if not state.is_executing:
        look_ahead(pair)
    found = list(preflight.problems(pair, SEEN, anchors_for(pair), agreed))
    if only_live:
        found += preflight.not_live(pair, SEEN)
    if state.is_executing:
        found += [
            preflight.unreachable(node)
            for node in pair.nodes
            if RUN.in_scope(node.name) and node.name not in SEEN
        ]
    if all(node.name in SEEN for node in pair.nodes if RUN.in_scope(node.name)):
        for text in preflight.warnings(pair, SEEN):
            RUN.warn(pair, text)
    refuse(pair, found)
    planned = change_plan.plan_change(pair, preflight.plannable(pair, SEEN), anchors_for(pair))
    if not {"runbook/rotate.py", "runbook/recover.py"} & set(RUN.scripts):
        warn_of_unfinished_cas(pair)  # those two go on with it
    CHANGES.pop(pair.name, None)
    if planned is not None:
        CHANGES[pair.name] = planned
    return "nothing stands against it"


def refuse(pair: Pair, found: Sequence[Problem]) -> None:
    """End the run for this pair before it changes anything, if there is a reason to.

    :raises Refusal: with all of them, once for the pair.
    """
    if found:
        only_once(pair)
        raise Refusal(
            f"{counted(len(found), 'problem')}:\n{_numbered(found)}",
            "mend what is listed, then run the same command again",
            _hosts_of(pair),
            "refused; nothing was changed",
        )


def look_ahead(pair: Pair) -> None:
    """See the partner, too. To list changes pyinfra goes through all operations of one host before
    it begins with the next, and what changes on a live pair is decided by both."""
    for node in pair.nodes:
        if RUN.in_scope(node.name) and node.name not in SEEN:
            with suppress(Refusal):  # said when it is looked at itself
                SEEN[node.name] = Seen(look_at(node), RUN.skews[node.name])


def warn_of_unfinished_cas(pair: Pair) -> None:
    """Say that a change of CAs is under way."""
    if change_of_cas(pair) is not None:
        RUN.warn(
            pair,
            "a change of the CAs is under way: pyinfra -y inventory.py runbook/rotate.py --data "
            "ca=true goes on with it",
        )


def hold_together(pair: Pair, *, after: str) -> Outcome:
    """Go on only if both hosts can: pyinfra alone would go on with the one that did not fail."""
    for node in pair.nodes if state.is_executing else ():
        if RUN.in_scope(node.name) and node.name != host.name and RUN.has_failed(node.name):
            say(f"    stopped here: {node.name} failed in: {after}")
            raise PartnerFailed
    return "both hosts go on"


# The daemons and the links ---------------------------------------------------------------------


def answers(pair: Pair, node: Node) -> Outcome:
    """Wait until what was started stays up."""
    if state.is_executing:
        await_answers(pair, node)
    return "it answers"


def await_answers(pair: Pair, node: Node) -> None:
    """Wait until kea-dhcp4 answers, and each listener is open.

    :raises Refusal: when a daemon does not stay up, with its own words, or takes too long.
    """
    units = {one.of(pair).unit: one for one in daemons.wanted(pair.settings)}
    listening = [place for _, place in daemons.listening(pair.settings)]
    ports = [place.port for place in listening if place.protocol == "tcp"]

    # systemd counts on from what came before, such as an address that was late at boot.
    counted: dict[str, int] = {}

    known = [look_at(node)]

    def missing() -> str:
        survey = known.pop() if known else look_at(node, anew=True)
        for unit, daemon in units.items():
            found = survey.unit(unit)
            again = found.restarts - counted.setdefault(unit, found.restarts)
            if found.active in ("failed", "inactive") or again > 3:
                raise Refusal(_why_down(node, unit, daemon), AGAIN)
        if survey.status is None:
            return f"kea-dhcp4: {survey.status_error}"
        closed = [str(port) for port in ports if not survey.holders("tcp", port)]
        return f"port {' and '.join(closed)} is not open yet" if closed else ""

    wait_until(
        missing,
        timeout_s=30,
        what=f"{node.name} does not come up",
        remedy=f"look at {layout.LOG} and `journalctl -u {' -u '.join(units)}` on {node.name}",
    )


def _why_down(node: Node, unit: str, daemon: Daemon) -> str:
    words = (
        f"as_kea tail -c 1000000 {daemon.log} | taken 1000000 | "
        "grep -aE ' (ERROR|FATAL) ' | tail -n 5; "
        f"journalctl -q -o cat -n 5 -u {unit} | grep -aE 'ERROR|FATAL|rror|exited'"
    )
    said = ask(host_of(node), script("as_kea") + words)
    return f"{unit} on {node.name} does not stay up. In its own words:\n{said.words}"


def link(pair: Pair, node: Node) -> Outcome:
    """The link from ``node`` to its partner, or what can be proved of it before the partner is."""
    partner = pair.partner_of(node)
    if not state.is_executing:
        return None
    if not RUN.in_scope(partner.name):
        RUN.warn(pair, f"the link to {partner.name} was not verified: --limit leaves it out")
    elif look_at(partner).unit(unit_of(pair)).is_active:
        _await_link(pair, node)
    else:
        _await_attempts(pair, node)
        probes.prove_path(pair, node)
        there = (
            "is not running"
            if look_at(partner).unit(unit_of(pair)).exists
            else ("is not installed yet")
        )
        say(f"    path open, Kea tries; its partner on {partner.name} {there}")
    return "verified"


def opposite(pair: Pair, node: Node) -> Outcome:
    """The link from the partner to ``node``: a request with the partner's own certificate."""
    partner = pair.partner_of(node)
    if state.is_executing and RUN.in_scope(partner.name):
        probes.prove_request(pair, partner, node)
    return "verified"


def both_joined(pair: Pair, node: Node) -> Outcome:
    """Wait until this host sees its partner in hot-standby, without an alarm."""
    if state.is_executing:
        _await_link(pair, node)
    return "joined"


def _await_attempts(pair: Pair, node: Node) -> None:
    partner = pair.partner_of(node)
    url = f"https://{partner.address}:{pair.settings.ha_port}/"

    def missing() -> str:
        survey = look_at(node, anew=True)
        process = survey.unit(unit_of(pair)).main_pid
        own = [line for line in survey.log if line.process == process]
        tried = log_file.first_contact_attempted(own, url)
        return "" if tried else f"no heartbeat to {url} in {layout.LOG} yet"

    wait_until(
        missing,
        timeout_s=2 * pair.settings.heartbeat_delay / 1000 + 15,
        what=f"Kea on {node.name} does not try to reach {partner.name}",
        remedy=f"look at {layout.LOG} on {node.name}",
    )


def _await_link(pair: Pair, node: Node) -> None:
    """Wait for what the settings say must come: start, synchronisation, a heartbeat each way."""
    known = [look_at(node)]

    def missing() -> str:
        survey = known.pop() if known else look_at(node, anew=True)
        return "; ".join(acceptance.link_findings(pair, node, survey))

    wait_until(
        missing,
        timeout_s=config_in_use.patience_s(
            pair.settings.heartbeat_delay, pair.settings.sync_timeout
        ),
        what=f"the link from {node.name} to {pair.partner_of(node).name} is not good",
        remedy=f"look at {layout.LOG} on both hosts, mend what it says, then run the same "
        "command again",
    )


# The verdict -----------------------------------------------------------------------------------


def gather(pair: Pair, node: Node) -> Outcome:
    """Read the host, and try its ports with right and wrong identities."""
    if state.is_executing:
        survey = look_at(node, anew=True)
        made = (*probes.host_controls(pair, node), *probes.operator_controls(pair, node))
        EVIDENCE[node.name] = Evidence(survey, made)
    return "read"


def judge(pair: Pair, node: Node) -> Outcome:
    """Give the verdict, or fail with every finding, once for the pair."""
    if not state.is_executing:
        return None
    found = acceptance.pair_findings(pair, EVIDENCE)
    for text in acceptance.notes(pair, EVIDENCE):
        RUN.warn(pair, text)
    if found:
        only_once(pair)
        raise Refusal(
            f"{acceptance.serving(pair, _surveys(EVIDENCE))}; {counted(len(found), 'finding')}:\n"
            f"{_numbered(found)}",
            "`pyinfra -y inventory.py runbook/recover.py` mends what can be mended from here; "
            "docs/runbook.md, When the pair is not accepted, goes through these findings; "
            "runbook/verify.py asks again and changes nothing",
            _hosts_of(pair),
            "not accepted",
        )
    RUN.verdicts[pair.name] = f"accepted. {acceptance.verdict(pair, EVIDENCE)}"
    return "accepted"


def _surveys(evidence: Mapping[str, Evidence]) -> dict[str, Survey]:
    return {name: known.survey for name, known in evidence.items()}


def only_once(pair: Pair) -> None:
    """Let the first host alone say what concerns the pair; the other one stops without a word.

    :raises PartnerFailed: on the other one.
    """
    active = [host.name for host in state.active_hosts]
    speaker = next(node.name for node in pair.nodes if node.name in active)
    if state.is_executing and host.name != speaker:
        raise PartnerFailed


def _hosts_of(pair: Pair) -> tuple[str, ...]:
    return tuple(node.name for node in pair.nodes if RUN.in_scope(node.name))


def _numbered(items: Sequence[object]) -> str:
    listed = [f"{number}. {item}" for number, item in enumerate(items[:_MOST_LISTED], 1)]
    more = len(items) - len(listed)
    return "\n".join([*listed, f"and {more} more"] if more else listed)


#: How many findings are shown: nobody reads more, and what is above must not scroll away.
_MOST_LISTED = 50
