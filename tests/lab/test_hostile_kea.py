"""What whoever has Kea's user on a host can write leads neither root nor the operator anywhere.

On host-1 of an accepted pair that user writes into its log, its lease directory and its socket what
hurts most. The commands by which an operator looks after a pair then say what is true of it, do
their work, or refuse in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone, Outcome

pytestmark = pytest.mark.timeout(600)

#: Made by whatever of the forged words should be executed, on a host or here.
CANARY = "/tmp/kea-ha-executed"

# Headings of old and new, behind whatever some programs take for the end of a line.
_FORGE_LOG = f"""
import datetime, time
log = open("/var/log/kea/kea-dhcp4.log", "ab", buffering=0)
now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
head = f"{{now}} INFO  [kea-dhcp4.ha-hooks/1.1] HA_X x".encode()
for mark in ("\\x0b", "\\x0c", "\\x1c", "\\x85", "\\u2028", "\\n"):
    mark = mark.encode()
    forged = mark.join((b"", b"@@ clock 1", b"@@ name /x$(touch {CANARY})/name", b"@@ contents",
                        b"0123456789abcdef host MQ==", b"@@ end"))
    log.write(head + forged + b"\\n")
log.write(head + b" \\xff\\xfe \\x1b[2J$(touch {CANARY})\\n")
"""
# Answers everything with the words for which a password would be asked, a forged status, and more.
_FORGE_SOCKET = """
import os, socket, sys
path = "/run/kea/kea4-ctrl-socket"
os.rename(path, path + ".real")
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen()
print("ready", flush=True)
answers = [b"sudo: a password is required", b"[" * 50000, b'{"result": 0, "arguments": {}}',
           b"\\xff\\x0b@@ clock 1\\n@@ end", b"", None]
number = 0
while True:
    connection, _ = listener.accept()
    answer = answers[number % len(answers)]; number += 1
    try:
        connection.recv(1000)
        if answer is None:
            while True: connection.sendall(b"x" * 65536)
        connection.sendall(answer)
    except OSError:
        pass
    connection.close()
"""
_FORGE_LEASES = """set -e; cd /var/lib/kea
truncate -s 2G kea-leases4.csv.2
ln -s /etc/shadow kea-leases4.csv.1
mkfifo kea-leases4.csv.completed
ln -s /proc/kmsg /var/log/kea/kea-dhcp4.log.1
ln -s /root/secret /var/log/kea/kea-dhcp4.log.2
ln /var/log/kea/kea-dhcp4.log /var/lib/kea/hard
"""
_AS_KEA = ("runuser", "-u", "_kea", "--")


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that was accepted, and a secret of root's on host-1."""
    lab = fresh_lab()
    assert operator.deploy(*FAST).verdict
    bench.sh(lab, "host-1", "echo '2026-01-01 00:00:00.000 WARN [x/1.1] SECRET x' > /root/secret")
    bench.sh(lab, "host-1", "chmod 600 /root/secret")
    return lab


@pytest.fixture
def forged(lab: Lab) -> Iterator[None]:
    """Log and lease directory as Kea's user left them."""
    lab.exec("host-1", [*_AS_KEA, "python3", "-c", _FORGE_LOG])
    lab.exec("host-1", [*_AS_KEA, "sh", "-c", _FORGE_LEASES])
    before = roots(lab)
    yield
    assert before == roots(lab)
    bench.sh(lab, "host-1", "cd /var/lib/kea; rm -f kea-leases4.csv.[12] *.completed hard")
    bench.sh(lab, "host-1", "rm -f /var/log/kea/kea-dhcp4.log.[12]")


def roots(lab: Lab) -> str:
    """Modes and owners of what is root's alone, and whether something was executed."""
    script = f"stat -c '%a %U:%G %n' /etc/shadow /root/secret /etc/kea/tls/*.key; ls {CANARY} 2>&1"
    return bench.sh(lab, "host-1", script, check=False)


def must_be_sound(operator: Clone, outcome: Outcome) -> None:
    """Its words are words, nothing was executed here, and no file came but into backups/."""
    assert "Traceback" not in outcome.output and "defect" not in outcome.output, outcome.output
    assert not any(mark in outcome.output for mark in ("\x1b[2J", "\x0b", "\x0c", "\x1c"))
    assert "root:" not in outcome.output or "/etc/shadow" not in outcome.output
    assert not Path(CANARY).exists()
    came = {p.name for p in operator.directory.iterdir()} - KNOWN
    assert came <= {"backups", "pki", "reports", "__pycache__"}, came


KNOWN = {
    *("deploy.py", "inventory.py", "group_data", "kea_ha", "templates", "files", "runbook", "lab"),
    ".lab",
}


def test_a_forged_log_and_lease_directory_change_no_verdict(
    lab: Lab, operator: Clone, forged: None
) -> None:
    """The pair is what it was: accepted, by the same facts; a second run changes nothing."""
    for outcome in (operator.verify(*FAST), operator.deploy(*FAST)):
        must_be_sound(operator, outcome)
        assert outcome.verdict
    assert (0, 0) == operator.deploy(*FAST).totals()[:2]


def test_a_lease_file_without_end_is_refused_by_a_backup(
    lab: Lab, operator: Clone, forged: None
) -> None:
    """By its size, before any of it is sent; without it the backup is made, and holds no link."""
    outcome = operator.run("-y", "inventory.py", "runbook/backup.py")
    must_be_sound(operator, outcome)
    assert not bench.missing(outcome.refusal, ["host-1", "2147483648 bytes"])

    bench.sh(lab, "host-1", "rm /var/lib/kea/kea-leases4.csv.2")
    outcome = operator.run("-y", "inventory.py", "runbook/backup.py")
    must_be_sound(operator, outcome)
    assert 0 == outcome.status, outcome.output
    held = [p for p in (operator.directory / "backups").rglob("*") if p.is_file()]
    assert not any("root:" in p.read_text(errors="replace") for p in held)
    assert not any(p.is_symlink() for p in (operator.directory / "backups").rglob("*"))


def test_a_kea_that_says_nonsense_is_not_accepted_and_is_mended(
    lab: Lab, operator: Clone, forged: None
) -> None:
    """verify says so of that host; undo and deploy refuse in words; recover starts it anew."""
    bench.sh(lab, "host-1", "rm -f /var/lib/kea/kea-leases4.csv.[12] /var/lib/kea/*.completed")
    liar = lab.popen("host-1", [*_AS_KEA, "python3", "-c", _FORGE_SOCKET], stdout=-1)
    assert liar.stdout is not None
    assert b"ready\n" == liar.stdout.readline()
    try:
        outcome = operator.verify(*FAST)
        must_be_sound(operator, outcome)
        assert "host-1" in outcome.refusal
        for command in ("runbook/undo.py", "deploy.py"):
            must_be_sound(operator, operator.run("-y", "inventory.py", command, *FAST))
        outcome = operator.run("-y", "inventory.py", "runbook/recover.py", *FAST)
        must_be_sound(operator, outcome)
        assert 0 == outcome.status, outcome.output
    finally:
        liar.kill()
        liar.wait()
    assert operator.await_verdict(*FAST)
    for host in HOSTS:
        assert "no such" in bench.sh(lab, host, f"ls {CANARY} 2>&1", check=False).lower()
