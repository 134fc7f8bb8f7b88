"""Running this machine's own programs, with one kind of error when they fail."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError


def run(
    command: Sequence[str], *, given: str = "", check: bool = True, cwd: Path | None = None
) -> str:
    """What `command` prints, given `given` on its standard input.

    Raises LabError, with what it complained of, when it fails and `check` is true.
    """
    done = subprocess.run(
        command, input=given, cwd=cwd, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        complaint = done.stderr.strip() or done.stdout.strip()
        raise LabError(f"`{' '.join(command)}` failed: {complaint}")
    return done.stdout
