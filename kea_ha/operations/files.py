"""Files and directories on a host: each as the plan has it, whole or not at all, closed to others.

Work compares the plan with the host's survey, which is read once and again only after something has
changed; it gives commands only where they differ, so that pyinfra's own "no change" is the truth.
Documents are written beside their live name by root, checked there by the service's own user, and
renamed: a reader sees the old or the new one, whole, also when the run is killed between any two
commands. Content goes in on standard input, never in an argument list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

from kea_ha import layout
from kea_ha.host import daemons, desired_state
from kea_ha.host.daemons import AGENT
from kea_ha.host.desired_state import Plan, Wanted
from kea_ha.host.mark import Work
from kea_ha.host.script import script
from kea_ha.refusal import Refusal
from kea_ha.session.remote import PATIENT_S, SERVICE_S, Commands, ask, say
from kea_ha.session.surveys import changed, look_at, plan_for
from kea_ha.settings.model import Node, Pair


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
