"""One change of the lab at a time, on the whole machine."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab import places
from lab.errors import LabError


@contextmanager
def changing(what: str) -> Iterator[None]:
    """Hold the machine's lab lock while the lab is changed by `what`.

    `up` and `down` are told at once when another command holds it; short ones wait their turn
    for up to 20 seconds. Raises LabError that names the holder. The lock goes with its holder,
    however that ends.
    """
    places.RUN.mkdir(parents=True, exist_ok=True)
    with (places.RUN / "lock").open("a+") as lock:
        deadline = time.monotonic() + (0 if what in ("up", "down") else 20)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    lock.seek(0)
                    raise LabError(
                        f"another command is changing the lab: {lock.read().strip()}; "
                        "wait for it to end, then try again"
                    ) from None
                time.sleep(0.05)
        lock.truncate(0)
        lock.write(f"`lab {what}`, process {os.getpid()}, in {places.PROJECT}\n")
        lock.flush()
        yield
