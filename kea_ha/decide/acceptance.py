"""Is the pair what it should be? Surveys and controls in, findings and a verdict out.

Pure, and the one place that decides what *verified* and *accepted* mean: the rollout and
``verify.py`` ask the same functions. A finding is a sentence with the host's name in it; no
findings is the only good answer, and what cannot be decided is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from kea_ha import layout
from kea_ha.host import daemons, desired_state
from kea_ha.host.daemons import DHCP4
from kea_ha.host.port_tests import Control
from kea_ha.host.survey import Survey
from kea_ha.kea import config_diff, log_file, status
from kea_ha.pki import certificates
from kea_ha.settings import kea_versions
from kea_ha.settings.model import Node, Pair

#: What is found of a server whose package was upgraded while it ran on.
OLD_PROGRAM = "the running kea-dhcp4 is no longer the installed one"
#: Kea's Lease File Cleanup, which is started with whatever sockets kea-dhcp4 has open.
_CLEANUP = "kea-lfc"
_WEAK_TLS = ("SSL", "TLSv1", "TLSv1.0", "TLSv1.1")


@dataclass(frozen=True)
class Evidence:
    """All that is known of one host: what it is like, and what its ports answered to whom."""

    survey: Survey
    controls: tuple[Control, ...]


def link_findings(pair: Pair, node: Node, survey: Survey) -> tuple[str, ...]:
    """What keeps the link from ``node`` to its partner from being verified, by its own account."""
    reported = survey.status
    if reported is None:
        return (f"{node.name}: kea-dhcp4 cannot be asked: {survey.status_error}.",)
    if reported.ha is not None and reported.ha.local.state != status.HOT_STANDBY:
        state = reported.ha.local.state
        return (f"{node.name} is in {state}: {status.explain_state(state, node.role)}",)
    found = [f"{node.name}: {f}" for f in status.judge_link(reported, heartbeat(pair, survey))]
    recent = alarms(pair, node, survey).recent
    if survey.log_since is None:
        found.append(
            f"{node.name}: nothing could be read of {layout.LOG}, so that whether there is an "
            "alarm cannot be told"
        )
    found += [f"{node.name}'s log: {words}" for words in log_file.summary(recent)]
    return tuple(found)


def alarms(pair: Pair, node: Node, survey: Survey) -> log_file.Alarms:
    """The alarms in the host's log: those that count now, and those that are over."""
    return log_file.alarms(
        survey.log,
        now=survey.local,
        window=2 * heartbeat(pair, survey),
        partner_address=pair.partner_of(node).address,
    )


def control_findings(node: Node, controls: Iterable[Control]) -> tuple[str, ...]:
    """The controls made from ``node`` that came out otherwise than they must."""
    found = [f"from {node.name}: {control}" for control in controls if not control.holds]
    found += [
        f"from {node.name}: {c.who} on {c.target} port {c.port} spoke {c.tls}; 1.2 is the least"
        for c in controls
        if c.outcome == "answered" and (not c.tls or c.tls in _WEAK_TLS)
    ]
    return tuple(found)


def pair_findings(pair: Pair, evidence: Mapping[str, Evidence]) -> tuple[str, ...]:
    """Everything that keeps the pair from being accepted, both hosts and both directions."""
    surveys = {name: known.survey for name, known in evidence.items()}
    found = list(health_findings(pair, surveys))
    silent = _silent(pair, surveys)
    for node in pair.nodes:
        if node.name in silent:
            continue
        found += _host_findings(pair, node, surveys[node.name])
        controls = evidence[node.name].controls
        found += control_findings(node, [c for c in controls if c.target not in silent])
        if not controls:
            found.append(f"{node.name}: no control was made from it")
    if not silent:
        found += _equality_findings(pair, [surveys[node.name] for node in pair.nodes])
    return tuple(dict.fromkeys(found))


def health_findings(pair: Pair, surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """Everything that keeps two servers from being a healthy pair, each as it was configured.

    What the settings at hand say beyond that does not matter here, so that a pair can be judged
    before it is changed, and while it is.
    """
    found: list[str] = []
    silent = _silent(pair, surveys)
    for node in pair.nodes:
        known = surveys.get(node.name)
        if known is None:
            found.append(f"{node.name} could not be read: nothing is known of it")
        elif node.name in silent:
            unit = known.unit(DHCP4.of(pair).unit)
            since = known.mark.out_since
            out = f", out for maintenance since {since}" if since else ""
            found.append(f"{node.name}: {unit.name} is {unit.active}{out}")
        else:
            found += link_findings(pair, node, known)
            found += _daemon_findings(pair, node, known)
    if not silent:
        roles = _role_findings(pair, [surveys[node.name] for node in pair.nodes])
        found += [one for one in roles if ": its state is " not in one]  # each link has said that
    return tuple(dict.fromkeys(found))


def _silent(pair: Pair, surveys: Mapping[str, Survey]) -> set[str]:
    """Hosts that were not read, or whose server does not run: what else would be found of their
    ports and of their state follows from that."""
    unit = DHCP4.of(pair).unit
    return {
        node.name
        for node in pair.nodes
        if node.name not in surveys or surveys[node.name].unit(unit).active != "active"
    }


def serving(pair: Pair, surveys: Mapping[str, Survey]) -> str:
    """Who serves clients at this moment, in words: what matters first when something is wrong."""
    names = [n.name for n in pair.nodes if n.name in surveys and surveys[n.name].serves]
    unknown = [node.name for node in pair.nodes if node.name not in surveys]
    if unknown and not names:
        return f"whether {unknown[0]} serves clients is not known"
    return (
        f"clients are served by {' and by '.join(names)}" if names else "no server serves clients"
    )


def verdict(pair: Pair, evidence: Mapping[str, Evidence]) -> str:
    """The verdict on an accepted pair, in one sentence."""
    ages, days, tls = [], [], []
    for node in pair.nodes:
        known = evidence[node.name]
        reported = known.survey.status
        if reported is not None and reported.ha is not None:
            ages.append(reported.ha.remote.age_s)
        days += [
            certificates.inspect(pem).days_left(known.survey.time)
            for path, pem in desired_state.certificates_in_use(pair, known.survey).items()
            if path in (layout.HA_CERTIFICATE, layout.API_CERTIFICATE)
        ]
        tls += [control.tls for control in known.controls if control.tls]
    return status.verdict_sentence(
        primary_host=pair.primary.name,
        standby_host=pair.standby.name,
        subnets=[str(subnet.subnet) for subnet in pair.settings.subnets],
        age_s=max(ages, default=0),
        tls_version=min(tls, default="").replace("TLSv", "TLS "),
        certificate_days=min(days, default=0),
    )


def notes(pair: Pair, evidence: Mapping[str, Evidence]) -> tuple[str, ...]:
    """What is no obstacle, but worth a line: alarms that are over, certificates that are due."""
    found: list[str] = []
    for node in pair.nodes:
        if node.name not in evidence:
            continue
        survey = evidence[node.name].survey
        version = desired_state.version_of(pair, survey)
        found += (
            [f"{pair.name}: {w}" for w in kea_versions.crash_warnings(version)] if version else []
        )
        if (lost := _log_lost(pair, survey)) is not None:
            found.append(
                f"{node.name}'s log reaches back to {lost:%Y-%m-%d %H:%M:%S} only: of an alarm "
                "before that nothing would be known"
            )
        joined = log_file.last_transition(survey.log)
        since = [
            line
            for line in alarms(pair, node, survey).older
            if joined is not None and line.time >= joined[1].time
        ]
        found += [f"over by now, {node.name}'s log: {w}" for w in log_file.summary(since)]
        for path, pem in desired_state.certificates_in_use(pair, survey).items():
            if path not in (layout.HA_CERTIFICATE, layout.API_CERTIFICATE):
                continue
            with suppress(certificates.PkiError):  # which is a finding
                held = certificates.inspect(pem)
                if not held.is_due(survey.time):
                    continue
                found.append(
                    f"{node.name}: {path} is valid for {held.days_left(survey.time)} more days, "
                    "less than a third of its life"
                )
    return tuple(found)


def _log_lost(pair: Pair, survey: Survey) -> datetime | None:
    """How far back the log reaches, if that is not as far as an alarm would count.

    What was logged before the server's start counts no longer.
    """
    if survey.log_since is None:
        return None
    begin = survey.local - 2 * heartbeat(pair, survey)
    if survey.status is not None:
        # Kea tells its time in whole seconds.
        begin = max(begin, survey.local - timedelta(seconds=survey.status.uptime_s + 2))
    return survey.log_since if survey.log_since > begin + timedelta(seconds=2) else None


def heartbeat(pair: Pair, survey: Survey) -> timedelta:
    """How often this server asks after its partner, as it was configured."""
    given = survey.in_use
    return given.heartbeat if given else timedelta(milliseconds=pair.settings.heartbeat_delay)


def _threads(pair: Pair, survey: Survey) -> status.Threads:
    settings, given = pair.settings, survey.in_use
    if given is not None:
        return given.threads
    return status.Threads(settings.thread_pool_size, settings.packet_queue_size)


def _role_findings(pair: Pair, surveys: Sequence[Survey]) -> Iterable[str]:
    primary, standby = (one.status for one in surveys)
    if primary is None or standby is None:
        return ()  # each link has said so already
    return status.judge_pair(
        primary,
        standby,
        status.ExpectedPair(
            primary_host=pair.primary.name,
            primary_name=pair.primary.server_name,
            standby_host=pair.standby.name,
            standby_name=pair.standby.server_name,
            primary_threads=_threads(pair, surveys[0]),
            standby_threads=_threads(pair, surveys[1]),
        ),
    )


def _daemon_findings(pair: Pair, node: Node, survey: Survey) -> Iterable[str]:
    unit = survey.unit(DHCP4.of(pair).unit)
    if unit.enabled != "enabled":
        yield f"{node.name}: {unit.name} would not start at boot ({unit.enabled or 'not there'})"
    if survey.runs_old_program:
        yield f"{node.name}: {OLD_PROGRAM}; restart it with runbook/upgrade.py"


def _host_findings(pair: Pair, node: Node, survey: Survey) -> Iterable[str]:
    yield from _socket_findings(pair, node, survey)
    yield from _other_findings(pair, node, survey)
    for path, pem in desired_state.certificates_in_use(pair, survey).items():
        try:
            if certificates.inspect(pem).days_left(survey.time) < 0:
                yield f"{node.name}: {path} has expired"
        except certificates.PkiError as error:
            yield f"{node.name}: {path}: {error.what}"
    if pair.settings.firewall == "nftables" and not survey.firewall:
        yield f"{node.name}: the table {layout.FIREWALL_TABLE} is not loaded"


def _socket_findings(pair: Pair, node: Node, survey: Survey) -> Iterable[str]:
    for daemon, (protocol, port, _) in daemons.listening(pair.settings):
        process = daemon.process
        holders = survey.holders(protocol, port)
        names = {name for holder in holders for name, _ in holder.processes}
        if DHCP4.process in names:
            names.discard(_CLEANUP)
        if not holders:
            yield f"{node.name}: nothing listens on {port}/{protocol}"
        # The kernel keeps 15 characters of a process's name.
        elif names != {process[:15]}:
            held = ", ".join(sorted(names)) or "an unknown process"
            yield f"{node.name}: {port}/{protocol} is held by {held}, not by {process}"


def _other_findings(pair: Pair, node: Node, survey: Survey) -> Iterable[str]:
    """Of the daemons beside kea-dhcp4, and of ports that none of those that are wanted has."""
    for daemon in daemons.DAEMONS:
        unit = survey.unit(daemon.of(pair).unit)
        if daemon is not DHCP4 and daemon.is_wanted(pair.settings) and unit.active != "active":
            yield f"{node.name}: {unit.name} is {unit.active}"
        if not daemon.is_wanted(pair.settings) and unit.is_active:
            yield f"{node.name}: {unit.name} runs, and is not wanted"
    open_ = {place[:2] for _, place in daemons.listening(pair.settings)}
    for daemon in daemons.DAEMONS:
        for protocol, port, _ in daemon.listens(pair.settings):
            if (protocol, port) not in open_ and survey.holders(protocol, port):
                yield f"{node.name}: something listens on {port}/{protocol}, and nothing should"


def _equality_findings(pair: Pair, surveys: Sequence[Survey]) -> Iterable[str]:
    """Both live documents against what each was to be: then they differ as they should only."""
    for node, survey in zip(pair.nodes, surveys, strict=True):
        try:
            wished = desired_state.make_plan(pair, node, survey)
        except ValueError:
            yield f"{node.name}: its interface or its version of Kea cannot be told"
            continue
        for line in desired_state.pending(wished, survey):
            yield f"{node.name} is not as described: {line}"
        unit = DHCP4.of(pair).unit
        for why in desired_state.stale_inputs(wished, survey, unit):
            yield f"{node.name}: {unit} wants a restart: {why}"
    parsed = []
    for node, survey in zip(pair.nodes, surveys, strict=True):
        try:
            parsed.append(config_diff.parse_document(survey.text(layout.KEA_CONF) or "{}"))
        except ValueError as error:
            yield f"{node.name}: {layout.KEA_CONF}: {error}"
    for one in config_diff.pair_differences(*parsed) if len(parsed) == len(surveys) else ():
        yield f"the two live documents differ in more than they may: {one}"
