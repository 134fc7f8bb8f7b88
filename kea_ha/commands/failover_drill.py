"""The failover drill: make a failure happen under load, measure, put back.

Clients ask from the host of the group ``probes``; what Kea did is read from both servers' logs.
Each host that is broken has a timer first that puts it back by itself, so that a drill that is
killed leaves nothing broken for long.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gevent
from pyinfra import host, state
from pyinfra.context import ctx_host

from kea_ha import foreign, layout
from kea_ha.commands import drill_page
from kea_ha.commands.turn import await_health
from kea_ha.decide import drill_results, drill_scenarios
from kea_ha.decide.client_load import Told
from kea_ha.decide.drill_results import Measured, Report, Scenario
from kea_ha.decide.drill_scenarios import Kind
from kea_ha.foreign import ForeignError
from kea_ha.host import desired_state, put_back_timer
from kea_ha.host.script import script
from kea_ha.kea.status import PARTNER_DOWN
from kea_ha.operations import load
from kea_ha.operations.load import Load
from kea_ha.pki.certificates import PkiError
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Slot
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import (
    AGAIN,
    ask,
    need,
    reconnect,
    say,
    value_of,
    wait_until,
)
from kea_ha.session.surveys import authorities_at_hand, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair

#: How many ACKs are seen before the fault, and by the survivor before the way back.
_ENOUGH = 40
_LAB_SSH = ".lab/ssh_config"
_NOTHING = "refused; nothing was changed"


#: By pair: the scenarios that were gone through.
DRILLED = Slot[list[Scenario]]()


def in_lab() -> bool:
    """Whether this pair is a lab's, where an outage costs nobody anything."""
    return bool(host.data.get("ssh_config_file") == _LAB_SSH)


def decide(pair: Pair, *, names: tuple[str, ...], accept_outage: bool) -> Outcome:
    """Say what each scenario costs, and refuse where nobody has agreed to that."""
    load.probe()  # there has to be one
    if host.name == pair.primary.name:
        for name in names:
            kind = drill_scenarios.KINDS[name]
            expected = drill_scenarios.implied(pair, kind)
            gap = "" if expected.longest_gap_s is None else f"{expected.longest_gap_s:g} s: "
            say(f"    {name}: {kind.what}; clients may wait {gap}{expected.words}")
    alone = [name for name in names if drill_scenarios.KINDS[name].in_lab]
    if alone and not in_lab():
        raise Refusal(f"{', '.join(alone)}: for the labs alone", "leave it out", outcome=_NOTHING)
    if not in_lab() and not accept_outage:
        raise Refusal(
            "this is no lab, and the outages above are for its clients",
            "give --data accept_outage=true to have them",
            outcome=_NOTHING,
        )
    if drill_scenarios.CERTIFICATE_EXPIRED in names:
        _see_that_one_can_be_made(pair)
    return "agreed"


def _see_that_one_can_be_made(pair: Pair) -> None:
    name = drill_scenarios.CERTIFICATE_EXPIRED
    if pair.standby.own_certificates is not None:
        raise Refusal(
            f"{name}: the pair's certificates are the operator's own (own_certificates), so that "
            "no expired one can be made",
            "leave it out",
            outcome=_NOTHING,
        )
    try:
        authorities_at_hand(pair).require_keys()
    except PkiError as error:
        raise Refusal(f"{name}: {error.what}", error.remedy, outcome=_NOTHING) from error


def drill(pair: Pair, *, scenario: str) -> Outcome:
    """Go through one scenario, and put everything back."""
    if host.name != pair.primary.name:
        return f"done from {pair.primary.name}, for both"
    before = DRILLED.setdefault(pair.name, [])
    if before and before[-1].accepted_s is None:
        return f"not gone through: {before[-1].name} has left the pair damaged"
    if state.is_executing:
        try:
            done = _Drill(pair, drill_scenarios.KINDS[scenario]).go()
        except Refusal:
            if before:
                _write(pair, before)
            raise
        before.append(done)
        gap = f"longest time between ACKs {done.figures.longest_gap_s:.1f} s"
        say(f"    {scenario}: {'passed' if done.passed else 'not passed'}, {gap}")
    return CHANGED


def report(pair: Pair, *, names: tuple[str, ...]) -> Outcome:
    """Write what was measured, and fail if it is worse than the settings imply."""
    done = DRILLED.get(pair.name, [])
    if host.name != pair.primary.name or not done:
        return "done once for the pair"
    page, made = _write(pair, done)
    for line in drill_page.table(made):
        say(f"    {line}")
    left_out = [name for name in names if name not in {one.name for one in done}]
    if left_out or not made.passed:
        found = [f"{one.name}: {why}" for one in done for why in one.findings]
        found += [f"{name}: not gone through, since the pair was damaged" for name in left_out]
        raise Refusal(
            "\n".join(found),
            f"look at {page}; docs/failover.md says what each setting buys and costs",
            tuple(node.name for node in pair.nodes),
            "the drill was not passed",
        )
    RUN.verdicts[pair.name] = (
        f"drilled: {', '.join(one.name for one in done)} passed. The pair is healthy again."
    )
    return "written"


def _write(pair: Pair, done: Sequence[Scenario]) -> tuple[Path, Report]:
    """Write the report of these scenarios, and tell where it is."""
    surveys = {node.name: look_at(node) for node in pair.nodes}
    settings = pair.settings
    made = Report(
        made=datetime.now(UTC),
        pair=pair.name,
        profile=settings.failover_profile,
        settings={
            "heartbeat_delay": settings.heartbeat_delay,
            "max_response_delay": settings.max_response_delay,
            "max_ack_delay": settings.max_ack_delay,
            "max_unacked_clients": settings.max_unacked_clients,
        },
        versions={name: str(desired_state.version_of(pair, one)) for name, one in surveys.items()},
        roles={node.name: node.role for node in pair.nodes},
        scenarios=tuple(done),
    )
    page, data = drill_page.write(drill_page.REPORTS_DIR, made)
    RUN.warn(pair, f"the report: {page} (and {data})")
    return page, made


@dataclass
class _Drill:
    """One scenario on one pair. All times are seconds since the epoch by this machine's clock."""

    pair: Pair
    kind: Kind
    #: What the fault was to bring about, and did not.
    missed: list[str] = field(default_factory=list)

    def go(self) -> Scenario:
        """Load, fault, way back, and what came of it.

        :raises Refusal: when it could not be measured; the hosts are put back all the same.
        """
        expected = drill_scenarios.implied(self.pair, self.kind)
        clients = Load.start(
            self.pair,
            spread_s=(expected.longest_gap_s or 30) + 20,
            at_most_s=drill_scenarios.PUT_BACK_S,
        )
        broken = False
        try:
            clients.await_acks(_ENOUGH, "clients are served")
            begun = time.time()
            broken = True
            RUN.warn(self.pair, self._word)  # for one that is interrupted, which ends at once
            self._on_victims(back=False)
            fault = time.time()
            say(f"    {self.kind.what}")
            self._let_it_work(fault, clients)
            self._on_victims(back=True)
            RUN.take_back(self.pair, self._word)
            broken = False
            repaired = time.time()
            say("    put back; waiting until the pair is healthy")
            accepted = self._await_health()
            clients.await_acks(_ENOUGH, "clients are served again")
            told = clients.stop()
            missing = self._lost(told)
        except BaseException as error:  # also of a drill that is interrupted
            if broken:
                self._put_back_after(error)
            raise
        finally:
            clients.release()
        clients.join()
        measured = Measured(
            begun=begun - 2,
            fault=fault,
            repaired=repaired,
            accepted=accepted,
            told=told,
            told_ahead_s=clients.ahead_s(),
            missing=missing,
            missed=tuple(self.missed),
            surveys={node.name: look_at(node, anew=True) for node in self.pair.nodes},
            ahead_s=RUN.skews,
        )
        return drill_results.result(self.pair, self.kind, measured)

    @property
    def _word(self) -> str:
        """How to put the hosts back at once, should this run not do it."""
        names = " and ".join(node.name for node in drill_scenarios.victims(self.pair, self.kind))
        if not self.kind.fault:
            return (
                f"the drill took the power of {names}: `python -m lab start {names}` gives it back"
            )
        return (
            f"the drill broke {names}: `systemctl start {put_back_timer.DRILL}.service` there puts "
            f"it back at once, its timer does within {drill_scenarios.PUT_BACK_S // 60} minutes"
        )

    def _put_back_after(self, error: BaseException) -> None:
        """Put the hosts back; when that fails, too, tell of both."""
        try:
            self._on_victims(back=True)
            RUN.take_back(self.pair, self._word)
        except Refusal as second:
            first = f"{error.what}; " if isinstance(error, Refusal) else ""
            raise Refusal(f"{first}{second.what}", second.remedy) from error

    def _lost(self, told: Told) -> int:
        """How many of the leases that were given a server does not have, on either."""
        given, lost = told.held_by_one, 0
        held = "".join(f"{address} {mac}\n" for address, mac in given.items())
        for node in self.pair.nodes:
            asking = script("as_kea", "missing_leases")
            try:
                found = value_of(host_of(node), asking, "missing", stdin=held, timeout_s=300)
            except ForeignError as error:
                raise Refusal(f"{node.name} does not tell its leases: {error}", AGAIN) from error
            lost += len({*foreign.text(found).split()} & given.keys())
        return lost

    def _on_victims(self, back: bool) -> None:
        victims = drill_scenarios.victims(self.pair, self.kind)
        do = self._power if not self.kind.fault else self._script
        jobs = [gevent.spawn(_words_of, do, node, back) for node in victims]
        gevent.joinall(jobs)
        for node, job in zip(victims, jobs, strict=True):
            if words := job.get():
                raise Refusal(
                    f"{node.name} could not be {'put back' if back else 'broken'}: {words}",
                    f"its own timer puts it back within {drill_scenarios.PUT_BACK_S // 60} minutes "
                    f"(`systemctl list-timers {put_back_timer.DRILL}.timer` there)",
                )

    def _script(self, node: Node, back: bool) -> str:
        """Make the fault, or undo it; what went wrong, in words."""
        card = look_at(node).interface_with(node.address)
        make = drill_scenarios.way_back_script if back else drill_scenarios.fault_script
        wanted = self.kind.name == drill_scenarios.CERTIFICATE_EXPIRED and not back
        text = make(
            self.kind,
            role=node.role,
            unit=unit_of(self.pair),
            port=self.pair.settings.ha_port,
            interface=card.name if card else "",
        )
        given = self._expired(node) if wanted else None
        answer = ask(host_of(node), text, stdin=given, timeout_s=120)
        return "" if answer.ok else answer.words

    def _expired(self, node: Node) -> str:
        """A certificate for this host as it would be a day after its end, PEM."""
        request = need(
            host_of(node),
            f"openssl req -new -key {layout.HA_KEY} -subj /CN=drill",
            what="no signing request could be made",
            remedy=f"check {layout.HA_KEY} on {node.name}",
        )
        long_ago = datetime.now(UTC) - timedelta(days=366)
        return authorities_at_hand(self.pair).sign_peer(
            request, name=node.name, address=node.address, at=long_ago
        )

    @staticmethod
    def _power(node: Node, back: bool) -> str:
        command = [sys.executable, "-m", "lab", "start" if back else "kill", node.name]
        # A lab is that of the checkout that its files are in.
        lab = Path(_LAB_SSH).resolve().parent.parent
        done = subprocess.run(command, cwd=lab, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr
        if back:
            reconnect(host_of(node), timeout_s=60)
        return ""

    def _let_it_work(self, fault: float, clients: Load) -> None:
        """Until the fault has had its effect, as far as it ever has."""
        node, lasts_s = drill_scenarios.survivor(self.pair, self.kind), self.kind.lasts_s
        try:
            if lasts_s:
                self._wait(
                    lambda: "" if time.time() > fault + lasts_s else "it goes on",
                    lasts_s + 10,
                )
            elif self.kind.ends_in:
                patience_s = 3 * self.pair.settings.heartbeat_delay / 1000 + 30
                for each in self.pair.nodes:
                    self._await_transition(each, self.kind.ends_in, fault, patience_s)
            elif node is not None:
                before = drill_scenarios.implied(self.pair, replace(self.kind, back=False))
                patience_s = (before.until_partner_down_s or 0) * 1.5 + 20
                self._await_transition(node, PARTNER_DOWN, fault, patience_s)
                seen = clients.acks()
                self._wait(
                    lambda: "" if clients.acks() - seen >= _ENOUGH else "few ACKs of the survivor",
                    60,
                    "the survivor answers few clients",
                )
        except Refusal as refusal:
            say(f"    {refusal.what}")
            # Else a figure is missing, and what is found tells of that.
            if node is None or self.kind.back:
                self.missed.append(refusal.what)

    def _await_transition(self, node: Node, state: str, since: float, patience_s: float) -> None:
        def missing() -> str:
            survey = look_at(node, anew=True)
            seen = drill_results.transitions(survey, since + RUN.skews[node.name])
            there = state in (name for _, name in seen)
            return "" if there else f"{node.name} is not in {state} yet"

        self._wait(missing, patience_s)

    @staticmethod
    def _wait(
        missing: Callable[[], str], patience_s: float, what: str = "the fault had no effect"
    ) -> None:
        wait_until(missing, timeout_s=patience_s, what=what, remedy="")

    def _await_health(self) -> float | None:
        try:
            await_health(self.pair, though_both_serve=True)
        except Refusal as refusal:
            say(f"    {refusal.what}")
            return None
        return time.time()


def _words_of(do: Callable[[Node, bool], str], node: Node, back: bool) -> str:
    """What went wrong on a host, in words; beside others that do the same on theirs."""
    with ctx_host.use(host_of(node)):
        try:
            return do(node, back)
        except Refusal as refusal:
            return refusal.what
