"""How our operations speak to a host, fail, and wait: the policy in one place.

A command's answer comes back as an ``Answer``, also when the connection broke: an exception that
leaves an operation would end the run for every pair. A step that cannot go on raises ``Refusal``
with the reason and the remedy; ``checked_operation`` turns that into a failed host and keeps the
words for the last block on the screen. ``wait_until`` waits for a condition, shows that it does,
and gives up with the reason that the condition itself gave.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import gevent
from paramiko import SSHException
from pyinfra import host, state
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.host import Host

from kea_ha.record import RUN, Failure

P = ParamSpec("P")
Commands = Generator[PyinfraCommand | str, None, None]

#: The remedy of most failures in the middle of a rollout.
AGAIN = "mend what it says, then run the same command again: it continues from here"

#: The remedy when a host does not do what root may do there.
AS_ROOT = (
    "check the ssh connection and that the user may become root (_sudo in group_data/), "
    "then run the same command again"
)

#: How long a command may take, unless it says otherwise. Seconds.
COMMAND_S = 60
#: The same for one that stops or starts a service, or copies what may be much: systemd gives a
#: service 90 s to stop. Seconds.
SERVICE_S = 180
#: How long a host is waited for that did not answer the last time. Seconds.
SILENT_S = 10
#: How often a condition is looked at while waiting, and how often a line says so. Seconds.
POLL_S = 0.5
PROGRESS_S = 2.0


class Refusal(Exception):
    """Raised when a step cannot go on: ``why`` it cannot, and the ``remedy`` for the operator.

    ``hosts`` names those that it concerns, when they are others than the one that found out;
    ``outcome`` is what it means for the pair, in a word or two.
    """

    def __init__(
        self, why: str, remedy: str, hosts: tuple[str, ...] = (), outcome: str = "stopped"
    ) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.hosts = hosts
        self.outcome = outcome


class PartnerFailed(Exception):
    """Raised at a barrier when the pair's other host has failed: nothing more happens here."""


@dataclass(frozen=True)
class Answer:
    """What a command on a host gave back; ``ok`` is False also when the connection broke."""

    ok: bool
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """The last few lines that it printed, for an operator: of its complaints, if it has any."""
        for said in (self.stderr, self.stdout):
            # sudo says this of a host that does not know its own name, whatever it is to run.
            lines = [
                line
                for line in said.splitlines()
                if line.strip() and not line.startswith("sudo: unable to resolve host")
            ]
            if lines:
                return "\n".join(lines[-8:])
        return "it printed nothing"


def ask(on: Host, script: str, *, stdin: str | None = None, timeout_s: int = COMMAND_S) -> Answer:
    """Run ``script`` under sh on a host, as the inventory says to (``_sudo`` and the like).

    ``stdin`` never shows in a log or in an argument list, so secrets may go there.
    """
    given, _ = pop_global_arguments(state, on, {})
    arguments: dict[str, Any] = {k: v for k, v in given.items() if k in CONNECTOR_ARGUMENT_KEYS}
    # Who did not answer in time is asked again, but not waited for as long: a host that has lost
    # its power says nothing, and there may be much to ask of it.
    limit_s = min(timeout_s, SILENT_S) if on.name in RUN.silent else timeout_s
    arguments["_timeout"] = limit_s
    if stdin is not None:
        arguments["_stdin"] = stdin
    try:
        if not on.connected:
            on.connect(raise_exceptions=True)
        # pyinfra's own limit begins when the command has begun; on a connection whose other end is
        # gone paramiko would wait an hour for that.
        with gevent.Timeout(limit_s + 5, TimeoutError()):
            ok, output = on.run_shell_command(
                StringCommand(script),
                print_output=state.print_output,
                print_input=state.print_input,
                **arguments,
            )
    except TimeoutError:
        RUN.silent.add(on.name)
        return Answer(False, "", f"no answer from {on.name} in {limit_s} s")
    except (OSError, EOFError, SSHException) as error:
        reason = str(error) or type(error).__name__
        return Answer(False, "", f"no answer from {on.name}: {reason}")
    except Exception as error:
        # pyinfra's ConnectError, raised when a host outside --limit cannot be reached.
        return Answer(False, "", f"{on.name} cannot be reached: {error}")
    RUN.silent.discard(on.name)
    return Answer(ok, output.stdout, output.stderr)


def need(on: Host, script: str, *, what: str, remedy: str, timeout_s: int = COMMAND_S) -> str:
    """Like ``ask``, for a command that must succeed; gives what it printed.

    :raises Refusal: when it fails, with its own words.
    """
    answer = ask(on, script, timeout_s=timeout_s)
    if not answer.ok:
        raise Refusal(f"{what}: {answer.words}", remedy)
    return answer.stdout


def carry_out(operation: PyinfraOperation[P], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do now, inside another operation, what one of ours would do by itself.

    :raises Refusal: the operation's own, or with the words of the first command that fails.
    """
    # What pyinfra's decorator and ours were put around: its commands, and its refusals as they are.
    commands: Commands = operation._inner.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]
    run_commands(commands)


def run_commands(commands: Iterable[PyinfraCommand | str]) -> None:
    """Run commands on the host whose operation this is, until the first that fails.

    Each has as long as its ``_timeout`` says, else a minute.

    :raises Refusal: with that command's own words.
    """
    for command in commands:
        if not isinstance(command, StringCommand):
            command = StringCommand(command)
        given = command.connector_arguments
        stdin, timeout_s = given.get("_stdin"), given.get("_timeout") or COMMAND_S
        answer = ask(
            host,
            command.get_raw_value(),
            stdin=str(stdin) if stdin else None,
            timeout_s=timeout_s,
        )
        if not answer.ok:
            raise Refusal(answer.words, AGAIN)


def say(text: str) -> None:
    """A line of progress for the operator, in front of which pyinfra puts the host's name."""
    host.log(text)


def wait_until(condition: Callable[[], str], *, timeout_s: float, what: str, remedy: str) -> None:
    """Wait until ``condition`` returns an empty string; until then it returns what is missing.

    :raises Refusal: after ``timeout_s`` seconds, with what was missing last.
    """
    start = said = time.monotonic()
    while missing := condition():
        now = time.monotonic()
        if now - start > timeout_s:
            raise Refusal(f"{what}: not after {timeout_s:.0f} s: {missing}", remedy)
        if now - said >= PROGRESS_S:
            said = now
            say(f"    waiting ({now - start:.0f} of at most {timeout_s:.0f} s): {missing}")
        time.sleep(POLL_S)  # cooperative: other hosts go on


def checked_operation(function: Callable[P, Commands]) -> PyinfraOperation[P]:
    """``@operation`` for ours: a ``Refusal`` fails the host with words instead of a traceback.

    While changes are only being listed (``--dry``, or before the prompt) the refusal is shown and
    fails the host too, so that the exit status tells.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Commands:
        try:
            yield from _limited(function(*args, **kwargs))
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

    return operation()(guarded)


def _limited(commands: Commands) -> Commands:
    """The same commands, none of which waits for good for a host that has gone silent."""
    for command in commands:
        if isinstance(command, str):
            command = StringCommand(command)
        if isinstance(command, StringCommand):
            given = host.data.get("_timeout") or 0
            command.connector_arguments.setdefault("_timeout", max(COMMAND_S, given))
        yield command


def reconnect(on: Host, *, timeout_s: float) -> None:
    """Connect anew to a host that was off, whose connection leads nowhere.

    :raises Refusal: when it cannot be reached by then.
    """

    def missing() -> str:
        on.connected = False  # it does not know
        try:
            on.connect(show_errors=False, raise_exceptions=True)
        except ConnectError as error:
            return str(error)
        return ""

    wait_until(missing, timeout_s=timeout_s, what=f"{on.name} cannot be reached", remedy=AGAIN)
    limit_silence(on)
    RUN.silent.discard(on.name)


def limit_silence(on: Host) -> None:
    """Have no command wait for long to begin on a connection whose other end has gone silent."""
    client = getattr(on.connector, "client", None)
    if client is not None and (transport := client.get_transport()) is not None:
        # Of paramiko's own accord it is an hour, and pyinfra's `_timeout` begins only afterwards.
        # Later than `ask`, which then knows that the host is silent.
        transport.channel_timeout = COMMAND_S + 10


def _fail(refusal: Refusal) -> Commands:
    _remember(refusal)
    yield from _give_up_host()


def _give_up_host() -> Commands:
    if state.is_executing:
        yield FunctionCommand(_give_up, (), {})
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
        refusal.why,
        refusal.remedy,
        refusal.outcome,
    )
    # While changes are listed each host judges by what is known so far; the last word is fullest.
    RUN.failures = [
        one for one in RUN.failures if (one.hosts, one.step) != (failure.hosts, failure.step)
    ] + [failure]
    for line in refusal.why.splitlines():
        host.log_styled(line, fg="red")


def _give_up(state: Any, host: Any) -> bool:
    # A function command that returns False fails the host; raising would print a traceback.
    return False
