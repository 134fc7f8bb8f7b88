"""Make the sample outputs in the documents anew, from what the quick lab says: `make docs`.

A sample is a block below a comment, `<!-- output: SCENE -->`. Its lines say what of the scene's
output is shown, `…` that lines are left out: each is replaced by the line of the output that is
the same but for numbers, names of states and times. One that the output does not have is an error:
the document says what is not true any more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = (PROJECT / "docs/runbook.md",)
_BIN = Path(sys.executable).parent
_SAMPLE = re.compile(
    r"(<!-- output: (?P<scene>[\w-]+) -->\n```text\n)(?P<lines>.*?)(?=^```$)", re.M | re.S
)
#: What differs from run to run: numbers, digests, and the spaces by which tables are aligned.
_VARIES = re.compile(r"\b[0-9a-f]{8}\b|(?<!host-)\d[\d.:T/-]*|\s+|-{3,}")
_KEA = "kea-dhcp4-server"

Scene = Callable[[], str]


def run(*command: str, wanted: int | None = 0) -> str:
    """What a command prints; it must end with this status.

    :raises SystemExit: when it does not.
    """
    print(f"docs: {' '.join(command)}", flush=True)
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"PATH": f"{_BIN}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if wanted is not None and done.returncode != wanted:
        raise SystemExit(f"{done.stdout}\ndocs: that ended with {done.returncode}, not {wanted}")
    return done.stdout


def on(host: str, command: str) -> str:
    """Run a command on a machine of the lab."""
    return run(*("ssh", "-F", ".lab/ssh_config", host, command))


def pyinfra(script: str, *data: str, wanted: int = 0, options: Sequence[str] = ("-y",)) -> str:
    """Run one of the project's commands, with these `NAME=VALUE`."""
    given = [word for one in data for word in ("--data", one)]
    return run("pyinfra", *options, "inventory.py", script, *given, wanted=wanted)


def down() -> str:
    """What is said of a server that was stopped by hand."""
    on("host-1", f"systemctl stop {_KEA}")
    said = pyinfra("runbook/verify.py", wanted=1)
    on("host-1", f"systemctl start {_KEA}")
    pyinfra("deploy.py")
    return said


def undone() -> str:
    """A change with which Kea does not start."""
    place = f"/etc/systemd/system/{_KEA}.service.d/zz-sample.conf"
    refuse = "ExecStartPre=/bin/sh -c '! grep -q 50001 /etc/kea/kea-dhcp4.conf'"
    on("host-2", f'printf "[Service]\\n%s\\n" "{refuse}" > {place}; systemctl daemon-reload')
    said = pyinfra("deploy.py", *LARGE, "valid_lifetime=50001", wanted=1)
    on("host-2", f"rm {place}; systemctl daemon-reload")
    return said


def recovered() -> str:
    """A lease file that Kea cannot open."""
    on("host-1", f"systemctl stop {_KEA}; echo nonsense > /var/lib/kea/kea-leases4.csv")
    on("host-1", f"systemctl start {_KEA}; sleep 5")
    return pyinfra("runbook/recover.py", *LARGE)


def newest() -> str:
    """The newest backup."""
    return str(max((PROJECT / "backups").iterdir()).relative_to(PROJECT))


def restored() -> str:
    """The leases of a backup, with both servers stopped."""
    for host in ("host-1", "host-2"):
        on(host, f"systemctl stop {_KEA}")
    return pyinfra("runbook/restore.py", *LARGE, f"from={newest()}")


def documents() -> str:
    """The documents of a backup of before a change."""
    before = newest()
    pyinfra("deploy.py", *LARGE, "valid_lifetime=42530")
    given = (*LARGE, "valid_lifetime=42530", f"from={before}", "documents=true")
    said = pyinfra("runbook/restore.py", *given)
    pyinfra("deploy.py", *LARGE)
    return said


def upgraded() -> str:
    """Kea of the backports, on a pair of its own: packages are not put back."""
    run("python", "-m", "lab", "down")
    run("python", "-m", "lab", "up")
    pyinfra("deploy.py", *LARGE)
    return pyinfra("runbook/upgrade.py", *LARGE, "package_source=backports")


#: A heartbeat of a second, as most samples have it.
LARGE = ("failover_profile=fast",)
WRONG = ("poool=3", "ca_port=8000", "heartbeat_delay=70000")
#: In the order in which they are played.
SCENES: dict[str, Scene] = {
    "refused": lambda: pyinfra("deploy.py", *WRONG, wanted=1),
    "rollout": lambda: pyinfra("deploy.py"),
    "again": lambda: pyinfra("deploy.py"),
    "dry": lambda: pyinfra("deploy.py", options=("--dry",)),
    "verify": lambda: pyinfra("runbook/verify.py"),
    "down": down,
    "fast": lambda: pyinfra("deploy.py", *LARGE),
    "change": lambda: pyinfra("deploy.py", *LARGE, "valid_lifetime=50000"),
    "undo": lambda: pyinfra("runbook/undo.py", *LARGE, "valid_lifetime=50000"),
    "undone": undone,
    "drill": lambda: pyinfra("runbook/drill.py", *LARGE),
    "recover": recovered,
    "out": lambda: pyinfra("runbook/maintain.py", *LARGE, "host=host-2"),
    "back": lambda: pyinfra("runbook/maintain.py", *LARGE, "host=host-2", "done=true"),
    "rotate": lambda: pyinfra("runbook/rotate.py", *LARGE, "ca=true"),
    "backup": lambda: pyinfra("runbook/backup.py", *LARGE),
    "restore": restored,
    "documents": documents,
    "upgrade": upgraded,
}


def refreshed(shown: Sequence[str], said: Sequence[str]) -> Iterator[str]:
    """The lines that are shown, as they were said now.

    :raises LookupError: for one that was not said.
    """
    said, section = [line.rstrip() for line in said], 0
    left = dict(enumerate(map(_key, said)))
    for line in shown:
        if line.strip() in ("…", ""):
            yield line
            continue
        heading = line.startswith("-->")
        at = next((n for n, key in left.items() if n >= section and key == _key(line)), None)
        if at is None:
            raise LookupError(line)
        section = at if heading else section
        del left[at]
        yield said[at]


def _key(line: str) -> str:
    return _VARIES.sub("#", line.strip())


def main() -> int:
    """Play the scenes, and write what they said into the documents."""
    texts = {path: path.read_text() for path in DOCUMENTS}
    used = {found["scene"] for text in texts.values() for found in _SAMPLE.finditer(text)}
    if unknown := used - SCENES.keys():
        raise SystemExit(f"docs: there is no scene {', '.join(unknown)}")
    said: dict[str, str] = {}
    run("python", "-m", "lab", "up")
    try:
        for name, scene in SCENES.items():
            said[name] = scene()
    finally:
        run("python", "-m", "lab", "down", wanted=None)
    untrue = 0
    for path, text in texts.items():

        def anew(found: re.Match[str], path: Path = path) -> str:
            nonlocal untrue
            try:
                lines = list(
                    refreshed(found["lines"].splitlines(), said[found["scene"]].split("\n"))
                )
            except LookupError as error:
                untrue += 1
                print(f"docs: {path.name}, {found['scene']}: the lab does not say: {error.args[0]}")
                return found[0]
            return found[1] + "".join(f"{line}\n" for line in lines)

        path.write_text(_SAMPLE.sub(anew, text))
    return 1 if untrue else 0


if __name__ == "__main__":
    sys.exit(main())
