"""pyinfra operations of the failover drill: make a failure happen under load, measure, put back.

Clients ask from the host of the group ``probes``; what Kea did is read from both servers' logs.
Each host that is broken has a timer first that puts it back by itself, so that a drill that is
killed leaves nothing broken for long.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import gevent
from pyinfra import host, inventory, state
from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from kea_ha import foreign, layout
from kea_ha.commands.rolling_change import await_health
from kea_ha.decide import drill_report, drill_scenarios
from kea_ha.decide.drill_report import Figures, Report, Scenario
from kea_ha.decide.drill_scenarios import Kind, Told
from kea_ha.foreign import ForeignError
from kea_ha.host import desired_state, frames, put_back_timer
from kea_ha.host.script import script
from kea_ha.host.survey import parse_interfaces
from kea_ha.kea import lease_file
from kea_ha.kea.lease_file import LeaseFileError
from kea_ha.kea.status import HOT_STANDBY, PARTNER_DOWN
from kea_ha.pki.certificates import PkiError
from kea_ha.session.learned import RUN
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import (
    AGAIN,
    Refusal,
    ask,
    need,
    reconnect,
    say,
    wait_until,
)
from kea_ha.session.surveys import authorities_at_hand, files_of, host_of, look_at, unit_of
from kea_ha.settings.model import Node, Pair, Subnet

_PROGRAM = Path("files/drill-clients.py")
_PLACE = "/run/kea-ha-drill"
#: How many clients ask in a second, and how much of what is free of the pools they may take.
_RATE, _SHARE = 20, 0.7
#: Fewer clients than that would ask too seldom.
_FEWEST = 10
#: How many ACKs are seen before the fault, and by the survivor before the way back.
_ENOUGH = 40
_LAB_SSH = ".lab/ssh_config"


def probe() -> Host | None:
    """The host to probe from; None when the inventory has none."""
    hosts = inventory.get_group("probes", [])
    return hosts[0] if hosts else None


def in_lab() -> bool:
    """Whether this pair is a lab's, where an outage costs nobody anything."""
    return bool(host.data.get("ssh_config_file") == _LAB_SSH)


def decide(*, pair: Pair, names: tuple[str, ...], accept_outage: bool) -> Outcome:
    """Say what each scenario costs, and refuse where nobody has agreed to that."""
    if probe() is None:
        raise Refusal(
            "the inventory has no host to probe from",
            "give it a group `probes` with one host on the clients' network, with Python",
            outcome="refused; nothing was changed",
        )
    if host.name == pair.primary.name:
        for name in names:
            kind = drill_scenarios.KINDS[name]
            expected = drill_scenarios.implied(pair, kind)
            gap = "" if expected.longest_gap_s is None else f"{expected.longest_gap_s:g} s: "
            say(f"    {name}: {kind.what}; clients may wait {gap}{expected.words}")
    alone = [name for name in names if drill_scenarios.KINDS[name].in_lab]
    if alone and not in_lab():
        raise Refusal(
            f"{', '.join(alone)}: for the labs alone",
            "leave it out",
            outcome="refused; nothing was changed",
        )
    if not in_lab() and not accept_outage:
        raise Refusal(
            "this is no lab, and the outages above are for its clients",
            "give --data accept_outage=true to have them",
            outcome="refused; nothing was changed",
        )
    if drill_scenarios.CERTIFICATE_EXPIRED in names:
        _see_that_one_can_be_made(pair)
    return "agreed"


def _see_that_one_can_be_made(pair: Pair) -> None:
    name = drill_scenarios.CERTIFICATE_EXPIRED
    nothing = "refused; nothing was changed"
    if pair.standby.own_certificates is not None:
        raise Refusal(
            f"{name}: the pair's certificates are the operator's own (own_certificates), so that "
            "no expired one can be made",
            "leave it out",
            outcome=nothing,
        )
    try:
        authorities_at_hand(pair).require_keys()
    except PkiError as error:
        raise Refusal(f"{name}: {error.what}", error.remedy, outcome=nothing) from error


def drill(*, pair: Pair, scenario: str) -> Outcome:
    """Go through one scenario, and put everything back."""
    if host.name != pair.primary.name:
        return f"done from {pair.primary.name}, for both"
    before = RUN.drilled.setdefault(pair.name, [])
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


def report(*, pair: Pair, names: tuple[str, ...]) -> Outcome:
    """Write what was measured, and fail if it is worse than the settings imply."""
    done = RUN.drilled.get(pair.name, [])
    if host.name != pair.primary.name or not done:
        return "done once for the pair"
    page, made = _write(pair, done)
    for line in drill_report.table(made):
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
    page, data = drill_report.write(drill_report.REPORTS_DIR, made)
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
        asking = gevent.spawn(
            ask, self._probe, self._start_clients(), timeout_s=drill_scenarios.PUT_BACK_S + 400
        )
        broken = False
        try:
            self._await_acks(asking, _ENOUGH, "clients are served")
            begun = time.time()
            broken = True
            RUN.warn(self.pair, self._word)  # for one that is interrupted, which ends at once
            self._on_victims(back=False)
            fault = time.time()
            say(f"    {self.kind.what}")
            self._let_it_work(fault)
            self._on_victims(back=True)
            RUN.take_back(self.pair, self._word)
            broken = False
            repaired = time.time()
            say("    put back; waiting until the pair is healthy")
            accepted = self._await_health()
            self._await_acks(asking, _ENOUGH, "clients are served again")
            ask(self._probe, f"touch {_PLACE}/stop")
            told = self._told()
            missing = self._lost(told)
        except BaseException as error:  # also of a drill that is interrupted
            if broken:
                self._put_back_after(error)
            raise
        finally:
            ask(self._probe, f"touch {_PLACE}/stop {_PLACE}/release")
        asking.join(timeout=30)
        return self._scenario(told, begun - 2, fault, repaired, accepted, missing)

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
            first = f"{error.why}; " if isinstance(error, Refusal) else ""
            raise Refusal(f"{first}{second.why}", second.remedy) from error

    # The clients -----------------------------------------------------------------------------

    @property
    def _probe(self) -> Host:
        found = probe()
        if found is None:
            raise Refusal("the inventory has no host to probe from", AGAIN)
        return found

    def _start_clients(self) -> str:
        what = f"{self._probe.name} cannot be probed from"
        remedy = "it has to have Python, and an address in a subnet that the pair serves"
        answer = ask(
            self._probe,
            frames.framed(
                f"rm -rf {_PLACE}; mkdir -p -m 700 {_PLACE}; "
                "command -v python3 >/dev/null || { echo 'no python3 there' >&2; exit 1; }\n"
                "ip -j -4 addr show | put interfaces\n"
            ),
        )
        try:
            if not answer.ok:
                raise ForeignError(answer.words)
            told = frames.read(answer.stdout, ["interfaces"]).get("interfaces", b"")
            network = drill_scenarios.network_of(self.pair, parse_interfaces(told))
        except ForeignError as error:
            raise Refusal(f"{what}: {error}", remedy) from error
        if network is None:
            raise Refusal(f"{what}: it has no address in a subnet of the pair", remedy)
        card, subnet = network
        answer = ask(self._probe, f"cat > {_PLACE}/clients.py", stdin=_PROGRAM.read_text())
        if not answer.ok:
            raise Refusal(f"{what}: {answer.words}", AGAIN)
        seconds = (drill_scenarios.implied(self.pair, self.kind).longest_gap_s or 30) + 20
        settings = {
            "card": card,
            "rate": _RATE,
            "new": self._free_addresses(subnet),
            "seconds": seconds,
            "seconds_at_most": drill_scenarios.PUT_BACK_S,
            "directory": _PLACE,
        }
        given = foreign.quoted(json.dumps(settings))
        return f"exec python3 {_PLACE}/clients.py {given} </dev/null 2>&1"

    def _free_addresses(self, subnet: Subnet) -> int:
        """How many addresses the drill may take, by the leases of the server that serves.

        Not by Kea's statistics: in a pair they drift, as far as below nothing (seen on 2.6.3).
        """
        serving = self.pair.primary
        try:
            held = lease_file.load(files_of(serving, ()))
        except LeaseFileError as error:
            raise Refusal(f"{serving.name}: {error}", AGAIN) from error
        counted = drill_scenarios.free_addresses(subnet, held, self._on(serving, time.time()))
        may_take = int(counted * _SHARE)
        if may_take < _FEWEST:
            raise Refusal(
                f"{counted} addresses are free in {subnet.subnet}, and the clients of a drill take "
                f"{_SHARE:.0%} of them at most: {may_take} are too few to measure anything",
                f"have {ceil(_FEWEST / _SHARE)} free, with a larger pool; or probe from a host in "
                "another subnet of the pair",
            )
        return may_take

    def _await_acks(self, asking: gevent.Greenlet, count: int, what: str) -> None:
        first = self._acks()

        def missing() -> str:
            if asking.ready():
                raise Refusal(f"the clients on {self._probe.name} ended: {asking.value.words}",
                              AGAIN)  # fmt: skip
            seen = self._acks() - first
            return "" if seen >= count else f"{seen} of {count} ACKs"

        wait_until(missing, timeout_s=120, what=f"waited in vain until {what}", remedy=AGAIN)

    def _acks(self) -> int:
        said = self._value(f"head -c 20 {_PLACE}/acks").strip()
        return int(said) if foreign.is_number(foreign.text(said)) else 0

    def _told(self) -> Told:
        told: list[bytes] = []

        def missing() -> str:
            told.append(self._value(f"cat {_PLACE}/told"))
            return "" if told[-1].strip() else "the last clients are waited for"

        wait_until(missing, timeout_s=90, what="the clients do not come to an end", remedy=AGAIN)
        try:
            return Told.read(told[-1])
        except ForeignError as error:
            raise Refusal(f"what the clients told cannot be read: {error}", AGAIN) from error

    def _value(self, command: str) -> bytes:
        """What a command prints on the host to probe from; nothing when it does not tell."""
        return value_of(self._probe, command)

    def _lost(self, told: Told) -> int:
        """How many of the leases that were given a server does not have, on either.

        Of an address that two clients have the servers can hold one lease: that is counted as such.
        """
        twice = Counter(told.leases.values())
        held = "".join(
            f"{address} {mac}\n" for mac, address in told.leases.items() if twice[address] == 1
        )
        lost = 0
        for node in self.pair.nodes:
            asking = frames.framed(script("as_kea", "missing_leases"))
            answer = ask(host_of(node), asking, stdin=held, timeout_s=300)
            try:
                if not answer.ok:
                    raise ForeignError(answer.words)
                found = frames.read(answer.stdout, ["missing"]).get("missing", b"")
            except ForeignError as error:
                raise Refusal(f"{node.name} does not tell its leases: {error}", AGAIN) from error
            lost += len({*foreign.text(found).split()} & set(twice))
        return lost

    # The servers -----------------------------------------------------------------------------

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
        try:
            return authorities_at_hand(self.pair).sign_peer(
                request, name=node.name, address=node.address, at=long_ago
            )
        except PkiError as error:
            raise Refusal(error.what, error.remedy) from error

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

    def _let_it_work(self, fault: float) -> None:
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
                seen = self._acks()
                self._wait(
                    lambda: "" if self._acks() - seen >= _ENOUGH else "few ACKs of the survivor",
                    60,
                    "the survivor answers few clients",
                )
        except Refusal as refusal:
            say(f"    {refusal.why}")
            # Else a figure is missing, and what is found tells of that.
            if node is None or self.kind.back:
                self.missed.append(refusal.why)

    def _await_transition(self, node: Node, state: str, since: float, patience_s: float) -> None:
        def missing() -> str:
            seen = drill_scenarios.transitions(look_at(node, anew=True), self._on(node, since))
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
            say(f"    {refusal.why}")
            return None
        return time.time()

    @staticmethod
    def _on(node: Node, moment: float) -> float:
        """A moment by the clock of a host."""
        return moment + RUN.skews.get(node.name, 0.0)

    # What came of it -------------------------------------------------------------------------

    def _scenario(
        self,
        told: Told,
        begun: float,
        fault: float,
        repaired: float,
        accepted: float | None,
        missing: int,
    ) -> Scenario:
        if self.kind.back:
            begun = fault = repaired
        skew = _skew(self._probe)
        acks = [(at - skew, server) for at, server in told.acks]
        until = told.last_arrival - skew
        names = {node.address: node.name for node in self.pair.nodes}
        expected = drill_scenarios.implied(self.pair, self.kind)
        surveys = {node.name: look_at(node, anew=True) for node in self.pair.nodes}
        states = {}
        for node in self.pair.nodes:
            changes = drill_scenarios.transitions(surveys[node.name], self._on(node, begun))
            first = drill_scenarios.state_at(surveys[node.name], self._on(node, begun))
            line = [(0.0, first or HOT_STANDBY)]
            if node in drill_scenarios.victims(self.pair, self.kind) and self.kind.down:
                line.append((fault - begun, "no answer"))
            line += [(at - RUN.skews[node.name] - begun, name) for at, name in changes]
            states[node.name] = tuple(line)
        taker = drill_scenarios.survivor(self.pair, self.kind)
        down = next(
            (at + begun - fault for at, name in states[taker.name] if name == PARTNER_DOWN)
            if taker
            else iter(()),
            None,
        )
        figures = Figures(
            clients=told.clients,
            longest_gap_s=drill_scenarios.longest_gap(
                [begun, *(at for at, _ in acks if at > begun)], until
            ),
            longest_wait_s=max(told.waits, default=0.0),
            unserved=len(told.unserved),
            until_partner_down_s=down,
            until_accepted_s=accepted - repaired if accepted else None,
            leases_lost=missing + len(told.refused),
            given_twice=len(told.given_twice),
        )
        return Scenario(
            name=self.kind.name,
            what=f"{self.kind.what[:1].upper()}{self.kind.what[1:]}.",
            findings=tuple(
                foreign.shown(one)
                for one in (
                    *self.missed,
                    *drill_scenarios.findings(
                        self.pair, self.kind, figures, expected, missing=missing
                    ),
                )
            ),
            seconds=until - begun,
            fault_s=fault - begun,
            repair_s=repaired - begun,
            accepted_s=accepted - begun if accepted else None,
            acks={
                name: tuple(
                    round(at - begun, 3) for at, server in acks if server == address and at >= begun
                )
                for address, name in names.items()
            },
            states=states,
            figures=figures,
            implied=expected,
            log_ids={
                node.name: drill_scenarios.log_ids(surveys[node.name], self._on(node, begun))
                for node in self.pair.nodes
            },
        )


def _words_of(do: Callable[[Node, bool], str], node: Node, back: bool) -> str:
    """What went wrong on a host, in words; beside others that do the same on theirs."""
    with ctx_host.use(host_of(node)):
        try:
            return do(node, back)
        except Refusal as refusal:
            return refusal.why


def value_of(on: Host, command: str) -> bytes:
    """What a command prints on a host; nothing when it does not tell."""
    answer = ask(on, frames.framed(f"{command} 2>/dev/null | put value\n"))
    try:
        return frames.read(answer.stdout, ["value"]).get("value", b"")
    except ForeignError:
        return b""


def _skew(on: Host) -> float:
    """A host's clock less this machine's, in seconds."""
    before = time.time()
    said = foreign.text(value_of(on, "date +%s.%N")).strip()
    after = time.time()
    if not re.fullmatch(r"[0-9]{9,11}\.[0-9]{9}", said):
        raise Refusal(f"{on.name} does not tell its time", AGAIN)
    return float(said) - (before + after) / 2
