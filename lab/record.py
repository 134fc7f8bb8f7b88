"""The machine-wide note of whose quick lab is up, whoever brought it up.

It says whose lab it is, never what there is to clean: that is found in the system itself.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import places


@dataclass(frozen=True)
class Record:
    """Whose quick lab is on this machine, and whether its `up` has finished."""

    project: str
    boot: str
    ready: bool = False
    debian: str = ""
    trees: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read() -> "Record | None":
        """The record on this machine; None when there is none, or only one from before a reboot."""
        try:
            record = Record(**json.loads((places.RUN / "lab.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return record if record.boot == boot_id() else None

    def write(self) -> None:
        """Put this record in place of any other, in one step."""
        new = places.RUN / "lab.json.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(places.RUN / "lab.json")


def boot_id() -> str:
    """Changes with each boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
