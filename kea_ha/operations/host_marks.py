"""Our own state on the hosts: who works on them, whose they are, how far a rollout has come.

The lock lives exactly as long as the operator's connection, so that nothing has to be cleaned up
after a kill. The marks under /var/lib/kea-ha tell a later run whether a rollout was left unfinished
(then it is continued) or the pair was accepted once (then it is live).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from pyinfra import host, state
from pyinfra.api import StringCommand

from kea_ha import foreign, layout
from kea_ha.foreign import ForeignError
from kea_ha.host import accepted_state, desired_state, frames
from kea_ha.host.script import script
from kea_ha.operations.checks import EVIDENCE
from kea_ha.operations.put_in_order import rename, write
from kea_ha.session.learned import RUN
from kea_ha.session.operation import Outcome
from kea_ha.session.remote import AS_ROOT, SERVICE_S, Commands, Refusal, ask
from kea_ha.session.surveys import changed, look_at, plan_for
from kea_ha.settings.model import Node, Pair


def lock(*, node: Node) -> Outcome:
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


def mark_unfinished(*, pair: Pair, node: Node, adopt: bool) -> Commands:
    """Leave word on the host that it is ours, and that a rollout is under way."""
    seen = look_at(node)
    owner = f"{pair.name} {node.server_name}"
    done = "accepted" in seen.state and not desired_state.pending(plan_for(pair, node), seen)
    if seen.state.get("pair") == owner and (done or "unfinished" in seen.state):
        host.noop(f"{node.name} is known as {owner}")
        return
    how = "adopting" if adopt and "pair" not in seen.state else "rolling out"
    note = f"{how} since {time.strftime('%F %T %z')}"
    yield StringCommand("mkdir -p -m 0700", layout.STATE_DIR)
    for path, text in ((layout.UNFINISHED_FILE, note), (layout.OWNER_FILE, owner)):
        yield write(path, text + "\n", mode="600", owner="root:root")
        yield rename(path)
    changed(node)


def mark_accepted(*, pair: Pair, node: Node) -> Commands:
    """Leave word on the host that the pair was accepted: from now on it counts as live.

    What stands on the host is kept there, to be put back when a later change does not work.
    """
    seen = look_at(node)
    # Both or none, that what is kept on the two is one state of the pair.
    judged = [EVIDENCE[n.name].survey if n.name in EVIDENCE else look_at(n) for n in pair.nodes]
    kept = all(map(accepted_state.is_kept, judged))
    same_settings = accepted_state.is_of(pair, seen)
    if "accepted" in seen.state and "unfinished" not in seen.state and kept and same_settings:
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
        text = accepted_state.settings_text(pair)
        yield write(layout.SETTINGS_FILE, text, mode="600", owner="root:root")
        yield rename(layout.SETTINGS_FILE)
    yield write(layout.ACCEPTED_FILE, time.strftime("%F %T %z") + "\n", mode="600",
                 owner="root:root")  # fmt: skip
    yield StringCommand("mv -f", f"{layout.ACCEPTED_FILE}.new", layout.ACCEPTED_FILE,
                        "&& rm -f", layout.UNFINISHED_FILE)  # fmt: skip
    changed(node)


def forget_before(*, pair: Pair, if_upgraded: bool = False) -> Commands:
    """Remove the state that was accepted before the last one: it must not be put back.

    After a change of CAs with it what is left for API clients where none are served: of the old CA.
    """
    unasked = if_upgraded and not RUN.upgrades.get(pair.name)
    gone = [layout.KEPT_BEFORE_DIR]
    if not if_upgraded and pair.settings.control_channel == "none":
        left = (*layout.API_FILES, layout.API_KEY)
        gone += [f"{place}{path}" for place in ("", layout.KEPT_DIR) for path in left]
    # What cannot be asked is not taken for gone.
    if unasked or ask(host, " && ".join(f"[ ! -e {path} ]" for path in gone)).ok:
        host.noop("there is none, or it may stay")
        return
    yield StringCommand("rm -rf", *gone)
    changed(pair.node(host.name))
