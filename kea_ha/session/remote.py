"""How our operations speak to a host, fail, and wait: the policy in one place.

A command's answer comes back as an ``Answer``, also when the connection broke: an exception that
leaves an operation would end the run for every pair. A step that cannot go on raises ``Refusal``
with the reason and the remedy; ``operate`` makes a failed host of it. ``wait_until`` waits for a
condition, shows that it does, and gives up with the reason that the condition itself gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

from paramiko import SSHException
from pyinfra import host, state
from pyinfra.api import StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.output import echo
from pyinfra.connectors.util import extract_control_arguments, make_unix_command

from kea_ha import foreign
from kea_ha.foreign import ForeignError
from kea_ha.host import frames
from kea_ha.refusal import Refusal
from kea_ha.session import channel
from kea_ha.session.learned import RUN

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
#: The same for one that installs packages: cut off on the host, it would leave them half-way.
PATIENT_S = 1800
#: How long a host is waited for that did not answer the last time. Seconds.
SILENT_S = 10
#: How often a condition is looked at while waiting, and how often a line says so. Seconds.
POLL_S = 0.5
PROGRESS_S = 2.0
#: How much of what a command printed is looked at for its last words. Bytes.
_TOLD = 20_000
#: And of each of its lines. Characters: Kea tells why it does not start at the end of a long one.
_LINE = 1000


class PartnerFailed(Exception):
    """Raised at a barrier when the pair's other host has failed: nothing more happens here."""


@dataclass(frozen=True)
class Answer:
    """What a command on a host gave back; ``ok`` is False also when the connection broke."""

    ok: bool
    stdout: bytes
    stderr: bytes

    @classmethod
    def none(cls, why: str) -> Answer:
        """No answer, and ``why`` there is none."""
        return cls(False, b"", why.encode())

    @property
    def words(self) -> str:
        """The last few lines that it printed, as they may be shown: of its complaints, if any."""
        for said in (self.stderr, self.stdout):
            # sudo says this of a host that does not know its own name, whatever it is to run.
            found = [
                foreign.cut(line, _LINE)
                for line in foreign.lines(said[-_TOLD:])
                if line.strip() and not line.startswith("sudo: unable to resolve host")
            ]
            if found:
                return "\n".join(found[-8:])
        return "it printed nothing"


def ask(
    on: Host,
    script: str,
    *,
    stdin: str | None = None,
    timeout_s: int = COMMAND_S,
    most: int = channel.MOST,
    sink: Callable[[bytes], object] | None = None,
) -> Answer:
    """Run ``script`` under sh on a host, as the inventory says to (``_sudo`` and the like).

    ``stdin`` never shows in a log or in an argument list, so secrets may go there. The host may
    answer with at most so many bytes; a ``sink`` takes them as they come.
    """
    # Who did not answer in time is asked again, but not waited for as long: a host that has lost
    # its power says nothing, and there may be much to ask of it.
    limit_s = min(timeout_s, SILENT_S) if on.name in RUN.silent else timeout_s
    if not on.connected:  # a host outside --limit
        try:
            on.connect(raise_exceptions=True)
        except Exception as error:  # whatever ssh's configuration or the host brings about
            return Answer.none(f"{on.name} cannot be reached: {foreign.cut(str(error))}")
        guard(on)
    try:
        said = channel.run(
            getattr(on.connector, "client", None),
            _command(on, script, timeout_s),
            given=_ended(stdin),
            limit_s=limit_s + 5,
            most=most,
            sink=sink,
        )
    except channel.NoAnswer as error:
        RUN.silent.add(on.name)
        return Answer.none(f"no answer from {on.name} in {min(limit_s, error.seconds):g} s")
    except channel.TooMuch as error:
        return Answer.none(f"{on.name} answered with {error}, and was not listened to any longer")
    except (OSError, EOFError, SSHException, channel.CutOff) as error:
        reason = foreign.cut(str(error)) or type(error).__name__
        return Answer.none(f"no answer from {on.name}: {reason}")
    RUN.silent.discard(on.name)
    _print(on, said)
    return Answer(said.code == 0, said.out, said.err)


def _command(on: Host, script: str, timeout_s: int) -> str:
    """What the host's login shell is given, to run the script as the inventory says."""
    given: Mapping[str, Any] = dict(pop_global_arguments(state, on, {})[0])
    arguments: Any = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    extract_control_arguments(arguments)
    if timeout_s < PATIENT_S:
        # Also on the host: what is not waited for any longer must not go on there.
        script = f"exec timeout -k 5 {timeout_s} sh -c {foreign.quoted(script)}"
    command = make_unix_command(StringCommand(script), **arguments)
    if state.print_input:
        echo(f"{on.print_prefix}>>> {foreign.shown(str(command))}", err=True)
    return command.get_raw_value()


def _ended(stdin: str | None) -> bytes:
    if not stdin:
        return b""
    return (stdin if stdin.endswith("\n") else f"{stdin}\n").encode()


def _print(on: Host, said: channel.Said) -> None:
    """At -vvv, what a host said; values in frames as what they are."""
    if state.print_output:
        for line in (*foreign.lines(frames.plain(said.out)), *foreign.lines(said.err)):
            echo(f"{on.print_prefix}{foreign.shown(line)}", err=True)


def need(on: Host, script: str, *, what: str, remedy: str, timeout_s: int = COMMAND_S) -> str:
    """Like ``ask``, for a command that must succeed; gives what it printed.

    :raises Refusal: when it fails, with its own words.
    """
    answer = ask(on, script, timeout_s=timeout_s)
    if not answer.ok:
        raise Refusal(f"{what}: {answer.words}", remedy)
    return foreign.text(answer.stdout)


def value_of(
    on: Host,
    script: str,
    name: str,
    *,
    stdin: str | None = None,
    timeout_s: int = COMMAND_S,
    most: int = frames.USUAL_SIZE,
) -> bytes:
    """Like ``ask``, for a script that passes one value to ``put NAME``; empty when it did not.

    The value has at most so many bytes.

    :raises ForeignError: when it fails, with its own words, or answers with something else.
    """
    script = frames.framed(f"{script}\n")
    answer = ask(on, script, stdin=stdin, timeout_s=timeout_s)
    if not answer.ok:
        raise ForeignError(answer.words)
    return frames.read(answer.stdout, [name], largest={name: most}).get(name, b"")


def run_commands(commands: Iterable[PyinfraCommand | str]) -> None:
    """Run commands on the host whose operation this is, until the first that fails.

    Each has as long as its ``_timeout`` says, else a minute.

    :raises Refusal: with that command's own words.
    """
    for command in commands:
        if not isinstance(command, StringCommand):
            command = StringCommand(command)
        given = command.connector_arguments
        stdin = given.get("_stdin")
        timeout_s = given.get("_timeout") or max(COMMAND_S, host.data.get("_timeout") or 0)
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
    host.log(foreign.shown(text, indent="    "))


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


def reconnect(on: Host, *, timeout_s: float) -> None:
    """Connect anew to a host that was off, whose connection leads nowhere.

    :raises Refusal: when it cannot be reached by then.
    """

    def missing() -> str:
        on.connected = False  # it does not know
        try:
            on.connect(show_errors=False, raise_exceptions=True)
        except ConnectError as error:
            return foreign.cut(str(error))
        return ""

    wait_until(missing, timeout_s=timeout_s, what=f"{on.name} cannot be reached", remedy=AGAIN)
    guard(on)
    RUN.silent.discard(on.name)


def guard(on: Host) -> None:
    """Have no command wait for long to begin on a connection whose other end has gone silent."""
    # Later than `ask`, which then knows that the host is silent.
    channel.guard(getattr(on.connector, "client", None), silence_s=COMMAND_S + 10)
