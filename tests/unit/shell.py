"""Scripts for hosts on this machine, where Kea and its user are not."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kea_ha import layout

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
#: Who stands in for Kea's user.
USER = "nobody"


def owner() -> tuple[int, int]:
    entry = pwd.getpwnam(USER)
    return entry.pw_uid, entry.pw_gid


def for_this_machine(script: str) -> str:
    """The script, with the user that stands in for Kea's; where that cannot be, with oneself."""
    kea = f"setpriv --reuid={layout.KEA_USER} --regid={layout.KEA_USER} --init-groups --"
    uid, gid = owner()
    here = f"setpriv --reuid={uid} --regid={gid} --init-groups --"
    script = script.replace(f"runuser -u {layout.KEA_USER} ", f"runuser -u {USER} ")
    return script.replace(kea, here if os.geteuid() == 0 else "env --")


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
