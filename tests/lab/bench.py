"""What the tests on the lab have at hand: an operator's clone of the project, and eyes on machines.

`Clone` is a machine of an operator: a copy of the project with a `pki/` of its own, from which
pyinfra is run as a person runs it. The functions ask the lab's machines what is true of them, by
other means than the project's own: a stock DHCP client, curl, Kea's socket, the file system.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kea_ha.kea.config_diff import parse_document
from lab import AnyLab, LabError, VirtualLab, places

T = TypeVar("T")

HOSTS = {"host-1": "192.168.1.2", "host-2": "192.168.1.3"}
FAST = ("--data", "failover_profile=fast")
# Not `python -m pyinfra`: that loads ssh before it is made cooperative, and hangs.
PYINFRA = str(Path(sys.executable).with_name("pyinfra"))
DEPLOY = ("-y", "inventory.py", "deploy.py")
VERIFY = ("-y", "inventory.py", "runbook/verify.py")
UNITS = ("kea-dhcp4-server.service", "kea-ctrl-agent.service")
_OF_THE_PROJECT = (
    *("deploy.py", "inventory.py", "group_data", "kea_ha", "templates", "files"),
    *("runbook", "lab"),
)


def wait_for(
    what: str, condition: Callable[[], T | None], *, patience: float = 30, every: float = 0.1
) -> T:
    """The first value of `condition` that is true; fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {what}"
        time.sleep(every)
    return value


# The operator ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A command of the operator's, when it has ended."""

    status: int
    output: str = field(repr=False)
    seconds: float

    @property
    def last_block(self) -> str:
        """The last block on the screen, as one line of words."""
        blocks = re.findall(r"^-{70,}\n(.*?)\n-{70,}$", self.output, flags=re.M | re.S)
        assert blocks, f"no last block in:\n{self.output}"
        assert self.output.rstrip().endswith("-" * 70), self.output
        return re.sub(r"\s+", " ", blocks[-1])

    @property
    def verdict(self) -> str:
        """The last block of a pair that was accepted; fails with all the output otherwise."""
        assert self.status == 0, self.output
        assert self.last_block.startswith("lab: accepted. "), self.output
        return self.last_block

    @property
    def refusal(self) -> str:
        """The last block of a run that failed as it should: a status, words, no traceback."""
        assert self.status not in (0, None), self.output
        assert "Traceback" not in self.output, self.output
        return self.last_block

    def totals(self) -> tuple[int, int, int]:
        """Changed, Error and No Change of pyinfra's own grand total."""
        found = re.search(r"Grand total +(\d+) +(\S+) +(\S+) +(\S+)", self.output)
        assert found, self.output
        changed, errors, unchanged = (0 if n == "-" else int(n) for n in found.groups()[1:])
        return changed, errors, unchanged


@dataclass
class Running:
    """A command of the operator's that runs."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 240) -> Outcome:
        """Wait until it has ended; ends it when it takes too long."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"not done after {timeout} s:\n{self.output}") from None
        return Outcome(status, self.output, time.monotonic() - self.started)

    def wait_for(self, text: str, patience: float = 120) -> None:
        """Wait until it has printed `text` (a regular expression)."""

        def seen() -> bool:
            if re.search(text, self.output):
                return True
            assert self.process.poll() is None, f"ended without {text!r}:\n{self.output}"
            return False

        wait_for(f"{text!r} on the operator's screen", seen, patience=patience, every=0.02)

    def kill(self) -> None:
        """SIGKILL to pyinfra alone, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


class Clone:
    """A copy of the project in `directory`, as on the machine of an operator called by its name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # What the screen showed is no part of the clone.
        self.screens = directory.with_name(f"screens-of-{directory.name}")
        self.runs = 0
        for folder in (directory, self.screens):
            folder.mkdir(parents=True)
        skip = shutil.ignore_patterns("__pycache__")
        for name in _OF_THE_PROJECT:
            source = places.PROJECT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=skip)
            else:
                shutil.copy2(source, directory / name)
        (directory / ".lab").symlink_to(places.PROJECT / ".lab")

    @property
    def pki(self) -> Path:
        """Where this clone keeps the identities of the lab's pair."""
        return self.directory / "pki/lab"

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Running:
        """Start pyinfra with these arguments, and go on."""
        self.runs += 1
        log = self.screens / f"run-{self.runs}.log"
        own = {
            "PYINFRA_PROGRESS": "off",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "USER": self.directory.name,
        }
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SSH_AUTH_SOCK")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [PYINFRA, *arguments],
                cwd=self.directory,
                env={**kept, **own, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log, time.monotonic())

    def run(self, *arguments: str, timeout: float = 240, **options: Any) -> Outcome:
        """Run pyinfra with these arguments until it ends."""
        return self.start(*arguments, **options).wait(timeout)

    def deploy(self, *arguments: str, **options: Any) -> Outcome:
        """`pyinfra -y inventory.py deploy.py`, with more arguments if given."""
        return self.run(*DEPLOY, *arguments, **options)

    def verify(self, *arguments: str, **options: Any) -> Outcome:
        """`pyinfra -y inventory.py runbook/verify.py`, with more arguments if given."""
        return self.run(*VERIFY, *arguments, **options)

    def await_verdict(self, *arguments: str, patience: float = 60) -> Outcome:
        """Ask verify.py until it accepts the pair; fails after `patience` seconds."""
        deadline = time.monotonic() + patience
        while (outcome := self.verify(*arguments)).status != 0:
            assert time.monotonic() < deadline, f"not accepted in {patience} s:\n{outcome.output}"
        return outcome


# Machines -------------------------------------------------------------------------------------


def sh(lab: AnyLab, name: str, script: str, *, check: bool = True, **options: Any) -> str:
    """What a shell script prints on a machine, as root."""
    done = lab.exec(name, ["sh", "-c", script], check=check, **options)
    return str(done.stdout)


_ASK_KEA = """
import socket, sys
kea = socket.socket(socket.AF_UNIX)
kea.settimeout(20)
kea.connect("/run/kea/kea4-ctrl-socket")
kea.sendall(sys.stdin.buffer.read())
while piece := kea.recv(65536):
    sys.stdout.buffer.write(piece)
"""


def ask_kea(lab: AnyLab, host: str, command: str, **arguments: Any) -> dict[str, Any]:
    """Kea's answer on its own unix socket."""
    question = {"command": command} | ({"arguments": arguments} if arguments else {})
    done = lab.exec(host, ["python3", "-c", _ASK_KEA], input=json.dumps(question), timeout=30)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def leases(lab: AnyLab, host: str) -> dict[str, str]:
    """The leases that this server holds: address to MAC."""
    answer = ask_kea(lab, host, "lease4-get-all")
    found = answer.get("arguments", {}).get("leases", [])
    return {lease["ip-address"]: lease["hw-address"] for lease in found if lease["state"] == 0}


def ha_state(lab: AnyLab, host: str) -> str:
    """The state of high availability by this server's own account; empty when it does not say."""
    try:
        answer = ask_kea(lab, host, "status-get")
        return str(answer["arguments"]["high-availability"][0]["ha-servers"]["local"]["state"])
    except Exception:
        return ""


def process_ids(lab: AnyLab) -> dict[tuple[str, str], int]:
    """The main process of each unit on each host; 0 where it does not run."""
    return {(host, unit): main_pid(lab, host, unit) for host in HOSTS for unit in UNITS}


def main_pid(lab: AnyLab, host: str, unit: str = UNITS[0]) -> int:
    """The main process of a unit; 0 when it does not run."""
    return int(sh(lab, host, f"systemctl show -p MainPID --value {unit}"))


def is_active(lab: AnyLab, host: str, unit: str = UNITS[0]) -> bool:
    """Whether systemd says that the unit runs."""
    done = lab.exec(host, ["systemctl", "is-active", "--quiet", unit], check=False)
    return done.returncode == 0


_PLACES = "/etc/kea /etc/systemd/system /var/lib/kea-ha"


def files(lab: AnyLab, host: str, folders: str = _PLACES) -> list[str]:
    """Every file in `folders` with its inode, mode, owner and time of change."""
    listing = sh(
        lab,
        host,
        f"for d in {folders}; do [ ! -e $d ] || find $d -printf '%p %i %m %u:%g %T@\\n'; done",
    )
    return sorted(listing.splitlines())


def document(lab: AnyLab, host: str) -> dict[str, Any]:
    """The live document of kea-dhcp4, parsed."""
    parsed = parse_document(sh(lab, host, "cat /etc/kea/kea-dhcp4.conf"))
    assert isinstance(parsed, dict)
    return parsed


def traces_of_kea(lab: AnyLab, host: str) -> list[str]:
    """Everything of a Kea that a host has: packages, units, ports, documents, our own state.

    Identities and what makes them are not Kea: /etc/kea/tls alone is not among them.
    """
    script = r"""
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'kea-*' 2>/dev/null |
      sed -n 's/^i. /package /p'
    systemctl list-unit-files --no-legend 'kea-*' | sed 's/^/unit /'
    ss -Hlntu 'sport = 67 or sport = 8000 or sport = 8001' | sed 's/^/port /'
    find /etc/kea /var/lib/kea /var/log/kea -mindepth 1 ! -path '/etc/kea/tls*' 2>/dev/null |
      sed 's/^/file /'
    pgrep -a kea- | sed 's/^/process /'
    true"""
    return sh(lab, host, script).splitlines()


def touched(lab: AnyLab, host: str) -> list[str]:
    """What a host has that a fresh one has not: of Kea, of our own, and any package at all."""
    script = r"""
    for f in /etc/kea /var/lib/kea-ha /etc/systemd/system/kea*; do [ ! -e $f ] || echo file $f; done
    dpkg-query -W -f '${db:Status-Abbrev} package ${Package}\n' | sed -n 's/^ii  //p'
    true"""
    return [*traces_of_kea(lab, host), *sh(lab, host, script).splitlines()]


# A client -------------------------------------------------------------------------------------

_SHOW_LEASE = """#!/bin/sh
[ "$1" != bound ] || echo "lease ip=$ip router=$router server=$serverid seconds=$lease"
"""


@dataclass(frozen=True)
class Lease:
    """What a stock DHCP client was given, and by whom."""

    address: str
    router: str
    server: str
    seconds: int


def card_name(lab: AnyLab) -> str:
    """The client's card on which stock DHCP clients are tried: the quick lab has a bare one."""
    return "eth1" if isinstance(lab, VirtualLab) else "enp0s9"


def card(lab: AnyLab) -> str:
    """The MAC of that card."""
    return sh(lab, "client", f"cat /sys/class/net/{card_name(lab)}/address").strip()


def get_lease(
    lab: AnyLab, *, mac: str | None = None, hostname: str = "stock-client", tries: int = 5
) -> Lease | None:
    """Ask for a lease with a stock DHCP client on a card of the client's; None if none came.

    `mac` is given to the card first, so that it is another client.
    """
    card = card_name(lab)
    if mac is not None:
        sh(lab, "client", f"ip link set {card} down; ip link set {card} address {mac} up")
    lab.exec("client", ["sh", "-c", "cat >/root/show; chmod 755 /root/show"], input=_SHOW_LEASE)
    options = f"-i {card} -f -n -q -t {tries} -T 1 -s /root/show -x hostname:{hostname}"
    said = sh(lab, "client", f"timeout 60 udhcpc {options} 2>&1", check=False, timeout=70)
    found = re.search(r"lease ip=(\S+) router=(\S*) server=(\S+) seconds=(\d+)", said)
    return Lease(found[1], found[2], found[3], int(found[4])) if found else None


# Requests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What curl says of one request: HTTP status (0: no answer), its exit code, the body, words."""

    http: int
    code: int
    body: str
    words: str

    @property
    def answered(self) -> bool:
        """Whether Kea did what was asked."""
        if self.http != 200:
            return False
        parsed = json.loads(self.body)
        first = parsed[0] if isinstance(parsed, list) else parsed
        return bool(first["result"] == 0)

    @property
    def refused(self) -> bool:
        """Whether a server was there and ended the connection without any answer."""
        return self.http == 0 and self.code in (35, 52, 55, 56)


def request(
    lab: AnyLab, source: str, url: str, *curl: str, command: Mapping[str, Any] | None = None
) -> Reply:
    """One command to `url` with curl on the machine `source`, with these options of curl's."""
    body = json.dumps(command or {"command": "list-commands", "service": ["dhcp4"]})
    done = lab.exec(
        source,
        [
            *("curl", "-sS", "--max-time", "15", "-w", "\n%{http_code}"),
            *("-H", "Content-Type: application/json", "-d", body, *curl, url),
        ],
        check=False,
        timeout=30,
    )
    text, _, status = done.stdout.rpartition("\n")
    return Reply(int(status or 0), done.returncode, text, done.stderr.strip())


def give(lab: AnyLab, name: str, path: str, content: str | bytes, mode: str = "600") -> None:
    """Put a file on a machine."""
    raw = content.encode() if isinstance(content, str) else content
    script = f"umask 077; mkdir -p {Path(path).parent}; cat >{path}; chmod {mode} {path}"
    lab.exec(name, ["sh", "-c", script], input=raw, text=False)


def reboot(lab: AnyLab, host: str) -> None:
    """Reboot a machine from inside, and wait until it is another boot, up to its ssh server."""
    boot = ["cat", "/proc/sys/kernel/random/boot_id"]
    before = lab.exec(host, boot).stdout
    lab.exec(host, ["systemctl", "reboot"], check=False)

    def is_back() -> bool:
        try:
            done = lab.exec(host, boot, check=False)
        except LabError:
            return False  # it is off at this moment
        return done.returncode == 0 and done.stdout != before

    wait_for(f"{host} to boot again", is_back, patience=60)
    lab.start(host)


def missing(text: str, expected: Sequence[str]) -> list[str]:
    """Those of `expected` that are not in `text`."""
    return [one for one in expected if one not in text]
