"""Our own state on the hosts: who works on them, whose they are, how far a rollout has come.

The lock lives exactly as long as the operator's connection, so that nothing has to be cleaned up
after a kill. The marks under /var/lib/kea-ha tell a later run whether a rollout was left unfinished
(then it is continued) or the pair was accepted once (then it is live).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import foreign, layout
from kea_ha.foreign import ForeignError
from kea_ha.host import accepted_state, desired_state, frames
from kea_ha.host.mark import UnderWay, Work
from kea_ha.host.script import script
from kea_ha.operations.checks import EVIDENCE
from kea_ha.operations.files import rename, write
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.operation import Outcome
from kea_ha.session.remote import AS_ROOT, SERVICE_S, Commands, ask
from kea_ha.session.surveys import changed, host_of, look_at, plan_for
from kea_ha.settings.model import Node, Pair


def lock(node: Node) -> Outcome:
    """Take the host for this run; it is let go by itself when the connection ends, however."""
    if not state.is_executing:
        return None
    who = f"{os.environ.get('USER') or 'root'}@{os.uname().nodename} (pid {os.getpid()})"
    answer = ask(host, frames.framed(script("lock")), stdin=who)
    if answer.ok:
        return f"{node.name} is held for this run"
    outcome = "refused; nothing was changed"
    if by := _held_by(answer.stdout):
        raise Refusal(
            f"{node.name} is being worked on by another run: {by}",
            "wait for that run to end. If its operator is gone: end that process on "
            f"{node.name} (it is the ssh session of that run), which lets go of the host",
            outcome=outcome,
        )
    raise Refusal(
        f"{node.name} could not be held for this run: {answer.words}", AS_ROOT, outcome=outcome
    )


def _held_by(said: bytes) -> str:
    """Whoever holds the host, in the words that it left there; empty when nobody is known to."""
    with suppress(ForeignError):
        return foreign.cut(frames.read(said, ["held"]).get("held", b""))
    return ""


def mark_unfinished(pair: Pair, node: Node, *, adopt: bool) -> Commands:
    """Leave word on the host that it is ours, and that a rollout is under way."""
    seen = look_at(node)
    owner = f"{pair.name} {node.server_name}"
    mark = seen.mark
    done = mark.accepted and not desired_state.pending(plan_for(pair, node), seen)
    if mark.owner == owner and (done or mark.under_way):
        host.noop(f"{node.name} is known as {owner}")
        return
    work = Work.ADOPTING if adopt and not mark.owner else Work.ROLLING_OUT
    yield StringCommand("mkdir -p -m 0700", layout.STATE_DIR)
    if not mark.goes_on(work):
        yield from _note(layout.UNFINISHED_FILE, UnderWay(work, _now()).text())
    yield from _note(layout.OWNER_FILE, owner)
    changed(node)


def mark_change(node: Node, *, work: Work, back_to: str) -> Commands:
    """Leave word that a change is under way: a run that finds it may go on with it, or go back."""
    yield from _note(layout.UNFINISHED_FILE, UnderWay(work, _now(), back_to).text())
    changed(node)


def mark_ended(node: Node) -> Commands:
    """Nothing is under way any longer: what stands there is what was accepted."""
    yield StringCommand("rm -rf", layout.UNFINISHED_FILE, layout.RESTORED_DIR)
    changed(node)


def forget_change(node: Node) -> None:
    """The same after a change was undone, on whichever host; also when the host is silent."""
    ask(host_of(node), f"rm -f {layout.UNFINISHED_FILE}")
    changed(node)


def mark_out(node: Node) -> Commands:
    """Leave word that the host is out for maintenance."""
    yield from _note(layout.MAINTENANCE_FILE, _now())
    changed(node)


def mark_back(node: Node) -> Commands:
    """It is not out any longer."""
    yield StringCommand("rm -f", layout.MAINTENANCE_FILE)
    changed(node)


def _now() -> str:
    return time.strftime("%F %T %z")


def _note(path: str, text: str) -> Commands:
    yield write(path, f"{text}\n", mode="600", owner="root:root")
    yield rename(path)


def mark_accepted(pair: Pair, node: Node) -> Commands:
    """Leave word on the host that the pair was accepted: from now on it counts as live.

    What stands on the host is kept there, to be put back when a later change does not work.
    """
    seen = look_at(node)
    # Both or none, that what is kept on the two is one state of the pair.
    judged = [EVIDENCE[n.name].survey if n.name in EVIDENCE else look_at(n) for n in pair.nodes]
    kept = all(map(accepted_state.is_kept, judged))
    same_settings = accepted_state.is_of(pair, seen)
    if seen.mark.accepted and not seen.mark.under_way and kept and same_settings:
        host.noop(f"{node.name} is known as accepted")
        return
    if not kept:
        # One state of the pair has one name: that of a run that was cut off, if a host came so far.
        name = accepted_state.name_of(pair, judged) or accepted_state.next_name(RUN.name, judged)
        if seen.kept_names.get(layout.KEPT_DIR) != name:
            yield StringCommand(
                accepted_state.keep_script(node, name),
                _stdin=accepted_state.settings_text(pair),
                _timeout=SERVICE_S,
            )
    elif not same_settings:
        yield from _note(layout.SETTINGS_FILE, accepted_state.settings_text(pair))
    new = f"{layout.ACCEPTED_FILE}.new"
    yield write(layout.ACCEPTED_FILE, f"{_now()}\n", mode="600", owner="root:root")
    yield StringCommand("sync", new, "&& mv -f", new, layout.ACCEPTED_FILE,
                        "&& rm -f", layout.UNFINISHED_FILE)  # fmt: skip
    changed(node)


def forget_before(pair: Pair, also: Iterable[str] = ()) -> Commands:
    """Remove the state that was accepted before the last one: it must not be put back."""
    gone = [layout.KEPT_BEFORE_DIR, *also]
    # What cannot be asked is not taken for gone.
    if ask(host, " && ".join(f"[ ! -e {path} ]" for path in gone)).ok:
        host.noop("there is none")
        return
    yield StringCommand("rm -rf", *gone)
    changed(pair.node(host.name))
