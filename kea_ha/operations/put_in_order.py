"""pyinfra operations of ours: each puts one thing in order on one host, or notes that it is.

An operation compares the plan with the host's survey, which is read once and again only after
something has changed; it yields commands only where they differ, so that pyinfra's own "no change"
is the truth. Documents are written beside their live name by root, checked there by the service's
own user, and renamed: a reader sees the old or the new one, whole, also when the run is killed
between any two commands. Content goes in on standard input, never in an argument list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

from kea_ha import foreign, layout
from kea_ha.host import daemons, desired_state
from kea_ha.host.daemons import AGENT, Daemon
from kea_ha.host.desired_state import Plan, Wanted
from kea_ha.host.mark import Work
from kea_ha.host.script import script
from kea_ha.host.survey import Survey
from kea_ha.refusal import Refusal
from kea_ha.session.remote import PATIENT_S, SERVICE_S, Commands, ask, say
from kea_ha.session.surveys import changed, look_at, plan_for
from kea_ha.settings.model import Node, Pair

# Packages ------------------------------------------------------------------------------------


def prerequisites(node: Node) -> Commands:
    """Install what the rollout itself needs on a host; none of it starts a service."""
    missing = [name for name in desired_state.PREREQUISITES if name not in look_at(node).packages]
    if not missing:
        host.noop("openssl, curl and the DHCP probe are there")
        return
    say(f"    installing {', '.join(missing)}")
    yield apt_get(f"install {' '.join(missing)}")
    changed(node)


def packages(pair: Pair, node: Node) -> Commands:
    """Install Kea, masked: a package's own script would start it on the packaged example."""
    seen = look_at(node)
    wished = plan_for(pair, node)
    missing = [name for name in wished.packages if name not in seen.packages]
    if not missing:
        host.noop(f"{', '.join(wished.packages)} are there")
        return
    units = [
        one.of(pair).unit
        for one in daemons.wanted(pair.settings)
        if one.of(pair).package in missing
    ]
    if units:
        yield StringCommand("systemctl mask --quiet", *units)
    say(f"    installing {', '.join(missing)} (Kea {wished.platform.version})")
    # Beside a Kea that runs, its own version and no other: apt would upgrade both, and restart it.
    installed = desired_state.installed(pair, seen)
    pinned = [
        foreign.quoted(f"{name}={installed}") if installed and name in daemons.PACKAGES else name
        for name in missing
    ]
    yield apt_get(f"{suite_of(pair, seen)}install {' '.join(pinned)}")
    changed(node)


def suite_of(pair: Pair, seen: Survey) -> str:
    """The option by which apt takes Kea, and what it needs, from the configured source."""
    backports = pair.settings.package_source == "backports"
    return f"-t {foreign.quoted(f'{seen.codename}-backports')} " if backports else ""


def apt_get(arguments: str) -> StringCommand:
    """Call apt-get so that it asks nothing and keeps our documents."""
    # A killed run can leave dpkg half-way, or still at work: it is waited for, and mended first.
    # dpkg cannot configure what was cut off while it was unpacked; apt unpacks that again.
    return StringCommand(
        "export DEBIAN_FRONTEND=noninteractive;"
        ' [ -z "$(dpkg --audit)" ] || dpkg --configure -a;'
        " apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300"
        f" -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold {arguments} 2>&1",
        _timeout=PATIENT_S,
    )


def ownership(pair: Pair, node: Node) -> Commands:
    """Close Kea's directories to others, and hand the identities to Kea's group."""
    wished = plan_for(pair, node)
    if state.is_executing:
        if ask(host, script("are_directories_closed")).ok:
            host.noop("Kea's directories are closed to others")
            return
    elif all(name in look_at(node).packages for name in wished.packages):
        return
    yield StringCommand(script("as_kea", "closing", "own_directories"))
    changed(node)


def adopt(node: Node) -> Commands:
    """Keep what another installation left, then stop it. Kea's leases stay where they are."""
    seen = look_at(node)
    if seen.mark.work is not Work.ADOPTING:
        host.noop("nothing here that is not ours")
        return
    running = [unit for unit in daemons.UNITS if seen.unit(unit).is_active]
    running += seen.dhcp_units(layout.FOREIGN_UNITS)
    for unit in running:
        yield StringCommand("systemctl disable --quiet --now", unit, _timeout=SERVICE_S)
    yield StringCommand(script("as_kea", "adopt"), _timeout=PATIENT_S)
    changed(node)


# Documents and identities --------------------------------------------------------------------


def document(pair: Pair, node: Node, *, of: Callable[[Plan], Iterable[Wanted]]) -> Commands:
    """Put those files ``of`` a plan in place."""
    wanted = of(plan_for(pair, node))
    seen = look_at(node)
    differing = [one for one in wanted if not one.is_as(seen.files.get(one.path))]
    if not differing:
        host.noop("as planned")
        return
    if state.config.DIFF:
        for one in differing:
            for line in desired_state.file_changes(one, seen):
                say(f"    {line}")
    for one in differing:
        yield write(one.path, one.content, mode=one.mode, owner=one.owner)
        if one.check and state.is_executing:
            _check(one)
        yield rename(one.path)
    changed(node)


def _check(wanted: Wanted) -> None:
    candidate = f"{wanted.path}.new"
    answer = ask(host, f"{wanted.check} {candidate} 2>&1")
    if not answer.ok:
        ask(host, f"rm -f {candidate}")
        raise Refusal(
            f"{wanted.path} was not accepted by the program that would read it; what is live "
            f"was not touched. In its own words:\n{answer.words}",
            "mend the setting that it names (group_data/, --data, or `extra`), then run again",
        )


def write(path: str, content: str, *, mode: str, owner: str) -> StringCommand:
    """Write a candidate beside ``path``; only root's directories are written to as root."""
    new = QuoteString(f"{path}.new")
    folder = QuoteString(str(Path(path).parent))
    return StringCommand(
        "umask 077; mkdir -p -m 0755", folder, "&& rm -f", new, "&& cat >", new,
        "&& chown", QuoteString(owner), new, "&& chmod", QuoteString(mode), new,
        _stdin=content.removesuffix("\n"),
    )  # fmt: skip


def rename(*paths: str) -> StringCommand:
    """Make the candidates beside ``paths`` the live files, at once and for good."""
    # sync: after a power cut a renamed file must not be an empty one.
    words: list[str | QuoteString] = ["sync", *(QuoteString(f"{path}.new") for path in paths)]
    for path in paths:
        words += ["&& mv -f", QuoteString(f"{path}.new"), QuoteString(path)]
    return StringCommand(*words)


def agent_password(pair: Pair, node: Node) -> Commands:
    """Give the agent's unit the file it wants to exist; made on the host, it guards nothing."""
    if not AGENT.is_wanted(pair.settings) or layout.API_PASSWORD_FILE in look_at(node).files:
        host.noop("not needed, or there")
        return
    new = f"{layout.API_PASSWORD_FILE}.new"
    yield StringCommand(
        f"umask 077; head -c 24 /dev/urandom | base64 | tr -d '\\n' > {new} &&"
        f" chown root:_kea {new} && chmod 640 {new} && mv -f {new} {layout.API_PASSWORD_FILE}"
    )
    changed(node)


# Services ------------------------------------------------------------------------------------

# To reload, systemd reads every unit of the host again, which takes seconds on a slow one: once
# before each start, after all that changes files. Kea's packages bring init scripts, too, and
# update-rc.d, which systemctl would call for them, reloads twice more (systemd, ENVIRONMENT.md).
_ENABLE = "SYSTEMCTL_SKIP_SYSV=1 systemctl enable --no-reload --quiet"
_RELOAD = "systemctl daemon-reload"


def service(pair: Pair, node: Node, *, daemon: Daemon) -> Commands:
    """Run a daemon on exactly what is on disk now, or see that it does not run at all."""
    wished = plan_for(pair, node)
    unit = daemon.of(pair).unit
    seen = look_at(node)
    found = seen.unit(unit)
    if not daemon.is_wanted(pair.settings):
        if found.is_active or found.enabled == "enabled":
            yield StringCommand("systemctl disable --quiet --now", unit, _timeout=SERVICE_S)
            changed(node)
        else:
            host.noop(f"{unit} is not wanted and does not run")
        return
    if (
        found.active == "active"
        and found.enabled == "enabled"
        and not desired_state.stale_inputs(wished, seen, unit)
    ):
        host.noop(f"{unit} runs on what is on disk")
        return
    yield StringCommand("systemctl unmask --no-reload --quiet", unit)
    yield StringCommand(_ENABLE, unit, "2>&1 &&", _RELOAD)
    if found.active == "active" and not desired_state.stale_inputs(wished, seen, unit):
        changed(node)
        return  # it would not have started at boot; it runs as it should
    # A restart that failed leaves systemd's own counters; they must not decide over this one.
    yield StringCommand(
        "systemctl reset-failed", unit, "2>/dev/null; systemctl restart", unit, _timeout=SERVICE_S
    )
    changed(node)


def firewall(pair: Pair, node: Node) -> Commands:
    """Load our table, or take it away; no other rule of the host is touched."""
    wished = plan_for(pair, node)
    seen = look_at(node)
    unit = layout.FIREWALL_UNIT
    if not wished.firewall:
        if seen.firewall or seen.unit(unit).exists:
            yield StringCommand("systemctl disable --quiet --now", unit, "2>/dev/null; nft delete"
                                " table", layout.FIREWALL_TABLE, "2>/dev/null; rm -f",
                                layout.FIREWALL_CONF, f"{layout.UNIT_DIR}/{unit}",
                                "&& systemctl daemon-reload")  # fmt: skip
            changed(node)
        else:
            host.noop("no firewall of ours is wanted")
        return
    found = seen.unit(unit)
    if (
        found.is_active
        and found.enabled == "enabled"
        and seen.firewall
        and not desired_state.stale_inputs(wished, seen, unit)
    ):
        host.noop("our table is loaded")
        return
    yield StringCommand(_ENABLE, unit, "&&", _RELOAD, "&& systemctl restart", unit)
    changed(node)


def expiry_timer(node: Node) -> Commands:
    """Have the host watch over its own certificates."""
    if look_at(node).unit(layout.EXPIRY_TIMER).active == "active":
        host.noop("the timer runs")
        return
    timer = layout.EXPIRY_TIMER
    yield StringCommand(_ENABLE, timer, "&&", _RELOAD, "&& systemctl start", timer)
    changed(node)
