"""Step 0: may the rollout begin? Two surveys in, every problem at once out.

Pure: what was seen on the hosts comes in as ``Seen``, and each rule that is broken comes out as a
``Problem`` in the same form as a bad setting: where, what was found, what is allowed, what to do.
What is no obstacle but worth knowing comes out as a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kea_ha import layout
from kea_ha.decide import change_plan
from kea_ha.decide.client_impact import (
    Anchors,
    interruptions,
    is_live,
    not_rolled_out,
    out_for_maintenance,
)
from kea_ha.host import daemons, desired_state
from kea_ha.host.daemons import DHCP4
from kea_ha.host.survey import Listener, Survey
from kea_ha.settings import build, kea_versions
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, below

#: Kea's own limits (ARM, "Clock Skew"): it warns above the first, and stops HA above the second.
SKEW_WARNING_S = 30
SKEW_LIMIT_S = 60
#: The template's assumption.
CPUS = 4
SUPPORTED = {"debian": {"bookworm": "12", "trixie": "13", "forky": "testing"}}

_OUR_PROCESSES = tuple(one.process for one in daemons.DAEMONS)


@dataclass(frozen=True)
class Agreed:
    """What the operator agreed to beforehand, on the command line.

    ``adopt``: take over a DHCP server that is not ours. ``force``: change a live pair although it
    is damaged, or although somebody edited its documents. ``accept_outage``: change what the two
    servers cannot live with half done, so that no client is served for a while.
    """

    adopt: bool = False
    force: bool = False
    accept_outage: bool = False


@dataclass(frozen=True)
class Path:
    """A TCP port of the partner as seen from a host.

    ``outcome``: ``open``, ``refused``, ``dropped``, or the words with which it was rejected.
    """

    address: str
    port: int
    outcome: str


@dataclass(frozen=True)
class DhcpAnswer:
    """Which addresses, not the pair's own, answered a DHCPDISCOVER; or why it could not be sent."""

    servers: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True)
class Seen:
    """All that was seen on one host. ``skew_s``: its clock less ours, in seconds.

    ``dhcp`` is None when it was not asked.
    """

    survey: Survey
    skew_s: float = 0.0
    paths: tuple[Path, ...] = ()
    dhcp: DhcpAnswer | None = None


def problems(
    pair: Pair, seen: Mapping[str, Seen], anchors: Anchors, agreed: Agreed | None
) -> tuple[Problem, ...]:
    """Every reason against beginning, for the hosts of the pair that were seen.

    Without ``agreed`` it is not asked what would change of a live server: nothing is to.
    """
    seen = {node.name: seen[node.name] for node in pair.nodes if node.name in seen}
    found: list[Problem] = []
    for node in pair.nodes:
        if node.name in seen:
            adopt = agreed is not None and agreed.adopt
            found += _host_problems(pair, node, seen[node.name], adopt=adopt)
            found += identity_problems(pair, node, seen[node.name].survey, anchors)
    found += between(pair, seen)
    if all(node.name in seen for node in pair.nodes):
        found += _version_problems(pair, *(seen[node.name].survey for node in pair.nodes))
    for name, one in seen.items():
        found += out_for_maintenance(name, one.survey)
    if agreed is not None:
        found += _live_problems(pair, seen, anchors, agreed)
    return tuple(dict.fromkeys(found))


def between(pair: Pair, seen: Mapping[str, Seen]) -> Iterable[Problem]:
    """What keeps two hosts from each other, whatever runs on them: blocked paths, and clocks."""
    for node in pair.nodes:
        if node.name in seen:
            yield from _path_problems(pair, node, seen)
    if all(node.name in seen for node in pair.nodes):
        yield from _clock_problems(pair, *(seen[node.name] for node in pair.nodes))


def warnings(pair: Pair, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """What is no obstacle, but what the operator should know."""
    found = list(build.pair_warnings(pair))
    few = {n.name: seen[n.name].survey.cpus for n in pair.nodes if n.name in seen}
    few = {name: cpus for name, cpus in few.items() if cpus < CPUS}
    if few:
        listed = " and ".join(f"{cpus} on {name}" for name, cpus in few.items())
        found.append(
            f"CPUs: {listed}; the documented thread counts assume {CPUS} (thread_pool_size, "
            "ha_listener_threads, ha_client_threads)"
        )
    for node in pair.nodes:
        if node.name not in seen:
            continue
        survey = seen[node.name].survey
        version = desired_state.version_of(pair, survey)
        if version is not None:
            found += kea_versions.version_warnings(pair, version)
        installed = survey.packages.get(DHCP4.of(pair).package)
        candidate = desired_state.candidate(pair, survey)
        if installed and candidate and candidate != installed:
            found.append(
                f"{node.name} runs Kea {installed}; apt has {candidate}. "
                "deploy.py never upgrades an installed Kea; runbook/upgrade.py does"
            )
    if all(node.name in seen for node in pair.nodes):
        skew = _skew(pair, seen[pair.primary.name], seen[pair.standby.name])
        if SKEW_WARNING_S < skew[0] <= SKEW_LIMIT_S:
            found.append(f"{skew[1]}; over {SKEW_LIMIT_S} s Kea ends HA. Set up NTP on both hosts")
        found += _replaced(pair, seen)
    return tuple(dict.fromkeys(found))


def _replaced(pair: Pair, seen: Mapping[str, Seen]) -> Iterable[str]:
    for node in pair.nodes:
        partner = seen[pair.partner_of(node).name].survey
        if not seen[node.name].survey.mark.owner and partner.mark.accepted:
            yield (
                f"{node.name} is a fresh machine, and its partner is not. If it takes the place of "
                "one that was lost, whose keys may be in other hands, give the pair new CAs "
                "afterwards: pyinfra -y inventory.py runbook/rotate.py --data ca=true. "
                "(runbook/recover.py does both at once)"
            )


def unreachable(node: Node) -> Problem:
    """The problem of a host that did not answer over ssh."""
    return Problem(
        "ssh",
        "no connection (pyinfra's own words are above)",
        "both hosts of a pair answer before either is changed",
        "bring it up, or mend its name, key or user in inventory.py. Meanwhile, in a first rollout "
        "deploy.py with `--limit` prepares the other host alone; of a pair that was accepted, "
        "recover.py has the other one serve",
        where=node.name,
    )


def _host_problems(pair: Pair, node: Node, seen: Seen, *, adopt: bool) -> Iterable[Problem]:
    survey = seen.survey
    for tool in survey.missing_tools:
        yield Problem(
            f"{tool}", "not there", f"a host with {tool}", f"install {tool} on it", where=node.name
        )
    releases = SUPPORTED.get(survey.distribution, {})
    if survey.codename not in releases:
        yield Problem(
            "distribution",
            f"{survey.distribution} {survey.codename or survey.release}",
            ", ".join(f"Debian {number} ({name})" for name, number in SUPPORTED["debian"].items()),
            "use a supported distribution",
            where=node.name,
        )
    if survey.architecture not in desired_state.MULTIARCH:
        yield Problem(
            "architecture",
            survey.architecture,
            ", ".join(desired_state.MULTIARCH),
            "use a host of one of these: of others it is not known where Kea's hooks are",
            where=node.name,
        )
    yield from _interface_problems(node, survey)
    yield from _port_problems(pair, node, survey, adopt=adopt)
    yield from _ownership_problems(pair, node, survey, adopt=adopt)
    yield from _dhcp_problems(node, seen.dhcp)
    version = desired_state.version_of(pair, survey)
    if version is None:
        yield no_kea(pair, node)
    else:
        for problem in kea_versions.version_problems(pair, version):
            yield replace(problem, where=node.name)


def no_kea(pair: Pair, node: Node) -> Problem:
    """The problem of a host for which the package source has no Kea."""
    return Problem(
        "package_source",
        f"{pair.settings.package_source}, which has no Kea for this host",
        f"a package source with {DHCP4.of(pair).package}",
        "check /etc/apt/sources.list* on the host (`apt-cache policy kea-dhcp4-server`), or "
        "set package_source",
        where=node.name,
    )


def _interface_problems(node: Node, survey: Survey) -> Iterable[Problem]:
    holder = survey.interface_with(node.address)
    names = ", ".join(
        f"{i.name} ({', '.join(i.addresses) or 'no address'})"
        for i in survey.interfaces
        if i.name != "lo"
    )
    if holder is None:
        yield Problem(
            "address",
            f"{node.address}, which no interface of the host carries",
            f"an address of one of: {names}",
            "bring the interface up, or mend `address` in inventory.py",
            where=node.name,
        )
    elif node.interface is not None and holder.name != node.interface:
        exists = any(i.name == node.interface for i in survey.interfaces)
        lacking = f"does not carry {node.address}" if exists else "the host does not have"
        yield Problem(
            "interface",
            f"{node.interface}, which {lacking}",
            f"the interface with {node.address}: {holder.name}",
            "leave `interface` at None (found by the address), or mend it",
            where=node.name,
        )
    elif not holder.up:
        yield Problem(
            "interface",
            f"{holder.name}, which is down",
            "an interface that is up and has a link",
            f"ip link set {holder.name} up; check the cable or the virtual switch",
            where=node.name,
        )


def _port_problems(pair: Pair, node: Node, survey: Survey, *, adopt: bool) -> Iterable[Problem]:
    for _, (protocol, port, meaning) in daemons.listening(pair.settings):
        for listener in survey.holders(protocol, port):
            if not _collides(listener, node.address) or _is_ours(listener):
                continue
            if protocol == "udp" and adopt:
                continue  # the DHCP server that is being taken over
            holders = ", ".join(f"{name} (pid {pid})" for name, pid in listener.processes)
            yield Problem(
                f"port {port}/{protocol} ({meaning})",
                f"held by {holders or 'a process that the host does not name'}",
                "free, or held by the pair's own Kea",
                "stop that program, or choose another port"
                if protocol == "tcp"
                else "stop that DHCP server, or run again with --data adopt=true to take over "
                "from it",
                where=node.name,
            )


def _collides(listener: Listener, address: str) -> bool:
    return listener.address in ("0.0.0.0", "*", "::", address)  # noqa: S104 - compared, not bound


def _is_ours(listener: Listener) -> bool:
    # Kea's capabilities can hide its process from ss run by a host's own restrictions; then the
    # socket has no holder named, and cannot be said to be ours.
    return bool(listener.processes) and all(
        name.startswith(_OUR_PROCESSES) for name, _ in listener.processes
    )


def _path_problems(pair: Pair, node: Node, seen: Mapping[str, Seen]) -> Iterable[Problem]:
    partner = pair.partner_of(node)
    ends = [one for one in (node, partner) if one.name in seen]
    if any(seen[one.name].survey.interface_with(one.address) is None for one in ends):
        return  # there is no way without the addresses, which has been said
    for path in seen[node.name].paths:
        if path.outcome in ("open", "refused"):
            continue
        # Our own table, left by a rollout with `firewall` on, keeps the partner from ca_port.
        ours = partner.name in seen and seen[partner.name].survey.firewall
        if ours and path.port == pair.settings.ca_port:
            continue
        what = "dropped: no answer" if path.outcome == "dropped" else path.outcome
        yield Problem(
            f"path to {partner.name} ({path.address} port {path.port})",
            what,
            "open, or refused while nothing listens there",
            f"let TCP port {path.port} pass from {node.name} ({node.address}) to {partner.name} "
            f"({path.address}), in the firewalls of {partner.name}, of {node.name} and in between",
            where=node.name,
        )


def _ownership_problems(
    pair: Pair, node: Node, survey: Survey, *, adopt: bool
) -> Iterable[Problem]:
    owner = survey.mark.owner
    ours = f"{pair.name} {node.server_name}"
    if owner and owner != ours:
        yield Problem(
            "what is there",
            f"a server of another pair: {owner}",
            f"nothing, or {ours}",
            "check `server_name`, `role` and the group's name in inventory.py. To give servers "
            "other names or pairs on purpose: docs/runbook.md, Give a host another part",
            where=node.name,
        )
    if owner or adopt:
        return
    kea = [name for name in survey.packages if name.endswith(("dhcp4-server", "kea-dhcp4"))]
    others = survey.dhcp_units(layout.FOREIGN_UNITS)
    for name in [*kea, *others]:
        yield Problem(
            "what is there",
            f"{name}, which this project did not set up",
            "nothing, or a Kea of ours",
            "run again with --data adopt=true: its documents and leases are kept under "
            f"{layout.STATE_DIR}/adopted/ first, and Kea's leases are carried on; or remove it",
            where=node.name,
        )


def _dhcp_problems(node: Node, answer: DhcpAnswer | None) -> Iterable[Problem]:
    if answer is None:
        return
    for server in answer.servers:
        yield Problem(
            "DHCP on its network",
            f"another DHCP server answers: {server}",
            "no DHCP server but the pair",
            f"switch off the DHCP service of {server} (often a router), or move the pair to a "
            "network of its own",
            node.name,
        )
    if answer.error:
        yield Problem(
            "DHCP on its network",
            f"unknown, since it could not be asked: {answer.error}",
            "a probe that can decide",
            "check the interface and the package dhcpcd-base on the host, then run again",
            node.name,
        )


def identity_problems(
    pair: Pair, node: Node, survey: Survey, anchors: Anchors
) -> Iterable[Problem]:
    """Why no certificate may be made for this host: it is not of the CAs that are at hand."""
    own = node.own_certificates
    for finding in desired_state.own_findings(node, own, survey) if own else ():
        yield Problem(
            "own_certificates",
            f"not usable: {finding}",
            "a key, its certificate for serverAuth and clientAuth, and the anchor of both hosts'",
            "mend the files on the host",
            where=node.name,
        )
    held = (
        (layout.HA_ANCHOR if own is None else "", layout.HA_CERTIFICATE, anchors.peers, "peers"),
        (layout.API_ANCHOR, layout.API_CERTIFICATE, anchors.api, "API clients"),
    )
    in_use = desired_state.certificates_in_use(pair, survey)
    for path, certificate, at_hand, whose in held:
        live, leaf = (in_use.get(one) for one in (path, certificate))
        if live is None:
            continue
        # A certificate of another CA under a good anchor is made anew; one of a CA that is to sign
        # only later tells that the pair was taken further from another machine.
        ahead = leaf is not None and at_hand.is_behind(leaf)
        if at_hand.knows(live) and not ahead:
            continue
        if not at_hand.trusted:
            given = f"of a CA for {whose}, and there is no pki/{pair.name}/ here"
        else:
            given = f"of another CA for {whose} than the one in pki/{pair.name}/ here"
        yield Problem(
            f"{path}",
            given,
            f"the CA that this host's certificates come from, in pki/{pair.name}/",
            f"copy pki/{pair.name}/ from the machine that rolled this pair out (docs/runbook.md, "
            "Keep pki/); or, to make new identities deliberately, stop Kea on both hosts and "
            f"remove {layout.TLS_DIR} there",
            where=node.name,
        )


def _skew(pair: Pair, primary: Seen, standby: Seen) -> tuple[float, str]:
    seconds = primary.skew_s - standby.skew_s
    ahead, behind = pair.nodes if seconds > 0 else tuple(reversed(pair.nodes))
    return abs(seconds), f"the clock of {ahead.name} is {abs(seconds):.0f} s ahead of {behind.name}"


def _clock_problems(pair: Pair, primary: Seen, standby: Seen) -> Iterable[Problem]:
    seconds, words = _skew(pair, primary, standby)
    if seconds > SKEW_LIMIT_S:
        yield Problem(
            f"{pair.primary.name} and {pair.standby.name}, clocks",
            words,
            f"at most {SKEW_LIMIT_S} s apart, better none (Kea ends HA above {SKEW_LIMIT_S} s)",
            "install chrony or systemd-timesyncd on both, let them agree, then run again",
        )


def _version_problems(pair: Pair, primary: Survey, standby: Survey) -> Iterable[Problem]:
    one, other = (desired_state.version_of(pair, survey) for survey in (primary, standby))
    if one is not None and other is not None and one != other:
        yield Problem(
            f"{pair.primary.name} and {pair.standby.name}, Kea's version",
            f"{one} on {pair.primary.name}, {other} on {pair.standby.name}",
            "the same version on both",
            "bring both hosts to the same Debian release and package source; an upgrade that was "
            "begun is gone on with by runbook/upgrade.py",
        )


def _live_problems(
    pair: Pair, seen: Mapping[str, Seen], anchors: Anchors, agreed: Agreed
) -> Iterable[Problem]:
    """What stands against changing servers that clients rely on."""
    surveys = plannable(pair, seen)
    if len(surveys) == len(pair.nodes) and all(map(is_live, surveys.values())):
        if change_plan.plan_change(pair, surveys, anchors) is not None:
            yield from change_plan.objections(
                pair, surveys, force=agreed.force, accept_outage=agreed.accept_outage
            )
        return
    for name, survey in surveys.items():
        node = pair.node(name)
        found = interruptions(pair, node, survey, anchors) if is_live(survey) else ()
        if found:
            yield Problem(
                "the live server",
                f"to be changed, which would interrupt its clients:{below(found)}",
                "no change while its partner does not stand by to serve them",
                "roll out the other host first, with the settings as they were (a forgotten "
                "--data counts, too) and without --limit; then change both",
                where=name,
            )


def not_live(pair: Pair, seen: Mapping[str, Seen]) -> Iterable[Problem]:
    """The hosts that were never rolled out, for a command that needs a live pair."""
    seen = {node.name: seen[node.name] for node in pair.nodes if node.name in seen}
    for name in seen:
        if not is_live(seen[name].survey):
            yield not_rolled_out(name)
    if len(seen) < len(pair.nodes):
        yield Problem(
            "--limit", "one host alone", "both hosts of the pair", "leave it out", where=pair.name
        )


def plannable(pair: Pair, seen: Mapping[str, Seen]) -> dict[str, Survey]:
    """The surveys of the hosts that are known well enough to plan for."""
    surveys = {node.name: seen[node.name].survey for node in pair.nodes if node.name in seen}
    return {
        name: survey
        for name, survey in surveys.items()
        if desired_state.version_of(pair, survey) is not None
        and desired_state.interface_of(pair.node(name), survey) is not None
        and survey.architecture in desired_state.MULTIARCH
    }
