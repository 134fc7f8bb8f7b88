"""Services on a host: what is to run runs on exactly what is on disk, the rest does not at all."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import StringCommand

from kea_ha import layout
from kea_ha.host import desired_state
from kea_ha.host.daemons import Daemon
from kea_ha.session.remote import SERVICE_S, Commands
from kea_ha.session.surveys import changed, look_at, plan_for
from kea_ha.settings.model import Node, Pair

# To reload, systemd reads every unit of the host again, which takes seconds on a slow one: once
# before each start, after all that changes files. Kea's packages bring init scripts, too, and
# update-rc.d, which systemctl would call for them, reloads twice more (systemd, ENVIRONMENT.md).
_ENABLE = "SYSTEMCTL_SKIP_SYSV=1 systemctl enable --no-reload --quiet"
_RELOAD = "systemctl daemon-reload"


def daemon_runs(pair: Pair, node: Node, *, daemon: Daemon) -> Commands:
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


def firewall_table(pair: Pair, node: Node) -> Commands:
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
