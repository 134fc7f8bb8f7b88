"""Control groups of the lab's machines, on hybrid hierarchies and on cgroup v2 alone.

Each machine has a group of its own in every hierarchy that systemd looks at; without it two
machines share `/system.slice` and delete what the other is about to use. The group is also how
the lab finds every process of a machine, whoever started it.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.places import NAME

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """The mounted hierarchies that carry processes: one on v2 alone, two on hybrid.

    Raises LabError where there is no cgroup v2 at all: systemd 258 and newer cannot boot there.
    """
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    hybrid = [ROOT / "unified", ROOT / "systemd"]
    if (hybrid[0] / "cgroup.controllers").exists():
        return [path for path in hybrid if (path / "cgroup.procs").exists()]
    raise LabError(
        f"no cgroup v2 hierarchy is mounted at {ROOT} or {hybrid[0]}: mount one "
        f"(`mount -t cgroup2 cgroup2 {ROOT}` on a machine without any), then try again"
    )


def join(group: str) -> None:
    """Move the calling process into `group` (a path below the lab's own), making it first."""
    for hierarchy in hierarchies():
        path = hierarchy / NAME / group
        path.mkdir(parents=True, exist_ok=True)
        (path / "cgroup.procs").write_text("0")


def processes(group: str = "") -> set[int]:
    """Ids of all processes in `group` and below; of the whole lab when no group is given."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for directory in _below(hierarchy / NAME / group):
            try:
                found.update(int(line) for line in (directory / "cgroup.procs").open())
            except OSError:
                continue  # the group went away, or is a threaded one: its parent lists it
    return found


def destroy(group: str = "", *, patience: float = 20.0) -> None:
    """SIGKILL everything in `group` and remove it, in every hierarchy.

    Raises LabError when something is still there after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        for pid in processes(group):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        left = [path for hierarchy in hierarchies() for path in _remove(hierarchy / NAME / group)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise LabError(f"cannot remove the control group {left[0]}: {processes(group)} in it")
        time.sleep(0.01)


def _below(top: Path) -> Iterator[Path]:
    """`top` and every group below it, deepest first; nothing when there is no `top`."""
    for directory, _, _ in os.walk(top, topdown=False):
        yield Path(directory)


def _remove(top: Path) -> list[Path]:
    """Remove `top` and below as far as the kernel lets us; give back what is left."""
    left = []
    for directory in _below(top):
        try:
            directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left.append(directory)
    return left
