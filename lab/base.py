"""What both labs have in common: machines that can be entered as root, switched off and on."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import places
from lab.errors import LabError
from lab.pair import Node, read_pair


class AnyLab(ABC):
    """The lab of the project at `project` (a directory; this one by default)."""

    ENVIRONMENT: Mapping[str, str] | None = None
    """What the commands of `command` are to be run in; None: as we were called."""

    def __init__(self, project: Path = places.PROJECT) -> None:
        self.project = project
        self.pair = read_pair()

    @abstractmethod
    def is_up(self) -> bool:
        """Whether this lab is up. Single machines may be off all the same."""

    @abstractmethod
    def describe(self) -> list[str]:
        """What there is, in words, a line each."""

    @abstractmethod
    def down(self) -> None:
        """Remove the machines and everything else of the lab; raises LabError if it cannot."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """Cut the power of a machine: no goodbye to anyone. What it wrote stays on its disk."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Power a machine on, and wait until it has booted; fine if it is on."""

    @abstractmethod
    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on the machine `name` as root, with the caller's stdin.

        Raises LabError when there is no way to that machine.
        """

    def exec(
        self,
        name: str,
        argv: Sequence[str],
        *,
        input: bytes | str | None = None,
        check: bool = True,
        timeout: float | None = 120,
        text: bool = True,
    ) -> "subprocess.CompletedProcess[Any]":
        """Run `argv` as root on the machine `name` and wait for it.

        Output is captured, as str unless `text` is false. With `check`, a status other than 0
        raises LabError, which holds the command's output. `timeout` is in seconds.
        """
        command = self.command(name, argv)
        if text and isinstance(input, bytes):
            raise TypeError("input is bytes: give text=False")
        done = subprocess.run(
            command,
            input=input if input is not None else ("" if text else b""),
            capture_output=True,
            text=text,
            timeout=timeout,
            env=self.ENVIRONMENT,
            check=False,
        )
        if check and done.returncode != 0:
            raise LabError(
                f"on {name}, {list(argv)} ended with status {done.returncode}:\n"
                f"{done.stdout!s}\n{done.stderr!s}"
            )
        return done

    def popen(self, name: str, argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """Start `argv` as root on the machine `name`; terminating what this returns ends it there.

        `options` are those of subprocess.Popen.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("env", self.ENVIRONMENT)
        return subprocess.Popen(self.command(name, argv), **options)

    def node(self, name: str) -> Node:
        """The machine called `name`; raises LabError that lists the names."""
        try:
            return self.pair.node(name)
        except KeyError as error:
            raise LabError(error.args[0]) from None
