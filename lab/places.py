"""Where the lab keeps things on this machine, and the one name under which it can be found.

Only one lab runs on a machine at a time, so its running state has fixed places, whichever clone
of the project brought it up. Whatever a crash leaves behind is found by `NAME` in the system's
own state (control groups, network namespaces, mounts), never in a list of our own.
"""

import os
from pathlib import Path

NAME = "kea-ha-lab"

RUN = Path("/run") / NAME
"""The lock and the record of which lab is up."""

DISKS = Path("/var/lib") / NAME
"""The machines' writable layers: on disk, kept over a power cut, thrown away by `down`."""

PROJECT = Path(__file__).resolve().parent.parent


def cache() -> Path:
    """Where the built trees are kept: under `$XDG_CACHE_HOME`, by default `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / NAME
