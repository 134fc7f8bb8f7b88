"""Work as operations of pyinfra: each piece is a plain function, and ``operate`` the one operation.

A piece of work looks at its host and gives what is to be done there: commands, one after the other,
each of which counts as a change; or ``CHANGED``, when it has done it all by itself; or words, why
there is nothing to do. Another piece of work calls it as any function. Here a ``Refusal`` of any
kind becomes a failed host, and its words are kept for the last block on the screen.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from enum import Enum
from typing import Any, ParamSpec

from pyinfra import host, state
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.exceptions import PyinfraError

from kea_ha import foreign
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN, Failure
from kea_ha.session.remote import Commands, PartnerFailed, run_commands

P = ParamSpec("P")


class Done(Enum):
    """That a piece of work has done itself what there was to do."""

    CHANGED = "changed"


CHANGED = Done.CHANGED
Outcome = Commands | Done | str | None


def operate(name: str, work: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have pyinfra do a piece of work, on the host that this is prepared for, under this name.

    A ``Refusal`` fails the host with words instead of a traceback. While changes are only being
    listed (``--dry``, or before the prompt) it is shown and fails the host too, so that the exit
    status tells.
    """
    _operation(name=name, work=work, args=args, kwargs=kwargs)


@operation()
def _operation(
    work: Callable[..., Outcome], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Commands:
    try:
        outcome = work(*args, **kwargs)
        if isinstance(outcome, str):
            host.noop(outcome)
        elif outcome is CHANGED:
            # What was done was done above, in words; for pyinfra's totals it is one change.
            yield _ending(True)
        elif outcome is not None:
            yield from _by_our_channel(outcome)
    except PartnerFailed:
        RUN.stopped.add(host.name)
        yield from _give_up_host()
    except Refusal as refusal:
        yield from _fail(refusal)
    except PyinfraError:
        raise
    except Exception as error:
        # Anything else would end the run for every pair, with a traceback for an answer.
        where = traceback.extract_tb(error.__traceback__)[-1]
        yield from _fail(
            Refusal(
                f"a defect of this project: {type(error).__name__}: {error} "
                f"({where.filename} line {where.lineno})",
                "please report it, with this line. The hosts are left as they are; running "
                "the same command again is safe",
            )
        )


def _by_our_channel(commands: Commands) -> Commands:
    """The same commands, each of them run through our own channel, with its limits."""
    for command in commands:
        if isinstance(command, str):
            command = StringCommand(command)
        if isinstance(command, StringCommand):
            command = FunctionCommand(_run, (command,), {})
        yield command


def _run(state: Any, host: Any, command: StringCommand) -> bool:
    # Raised in here, it would be a traceback on the screen.
    try:
        run_commands([command])
    except Refusal as refusal:
        _remember(refusal)
        return False
    return True


def _fail(refusal: Refusal) -> Commands:
    _remember(refusal)
    yield from _give_up_host()


def _give_up_host() -> Commands:
    if state.is_executing:
        yield _ending(False)
    else:
        # What state.fail_hosts does, without its question to a terminal that may not be there.
        failed = state.inventory.get_host(host.name)
        state.failed_hosts.add(failed)
        state.active_hosts.discard(failed)


def _remember(refusal: Refusal) -> None:
    names = state.get_op_meta(host.current_op_hash or "").names
    failure = Failure(
        refusal.hosts or (host.name,),
        ", ".join(names),
        refusal.what,
        refusal.remedy,
        refusal.outcome,
    )
    # While changes are listed each host judges by what is known so far; the last word is fullest.
    RUN.failures = [
        one for one in RUN.failures if (one.hosts, one.step) != (failure.hosts, failure.step)
    ] + [failure]
    for line in foreign.shown(refusal.what).split("\n"):
        host.log_styled(line, fg="red")


def _ending(good: bool) -> FunctionCommand:
    # One that returns False fails the host; raising would print a traceback.
    return FunctionCommand(lambda state, host: good, (), {})
