"""A pair is backed up while it serves, and leases that both hosts lost come back to both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, UNITS, Clone, Outcome
from tests.lab.clients import MANY, steady
from tests.lab.watching import Secret, key_needles

pytestmark = pytest.mark.timeout(400)

BACKUP = ("-y", "inventory.py", "runbook/backup.py")
RESTORE = ("-y", "inventory.py", "runbook/restore.py")
MANY_CLIENTS = ("--data", f"subnets={json.dumps(MANY)}", *FAST)
LEASES = "/var/lib/kea/kea-leases4.csv"


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that serves a large subnet."""
    lab = fresh_lab()
    assert operator.deploy(*MANY_CLIENTS).verdict
    return lab


def backed_up(operator: Clone) -> Path:
    """A backup that was made now."""
    outcome = operator.run(*BACKUP, *MANY_CLIENTS)
    assert outcome.status == 0, outcome.output
    assert "lab: backed up to backups/lab-" in outcome.last_block
    return newest(operator)


def newest(operator: Clone) -> Path:
    return max((operator.directory / "backups").glob("lab-*"))


def restore(operator: Clone, backup: Path, *arguments: str) -> Outcome:
    given = ("--data", f"from=backups/{backup.name}", *arguments)
    return operator.run(*RESTORE, *MANY_CLIENTS, *given)


def both_lose_their_leases(lab: Lab) -> None:
    """Stopped, and nothing is left of any lease file."""
    for host in HOSTS:
        bench.sh(lab, host, f"systemctl stop {UNITS[0]}; rm -f {LEASES}*")


def some_clients(lab: Lab, operator: Clone) -> dict[str, str]:
    """Leases that both hosts hold, of clients that came just now: address to MAC."""
    with steady(lab) as served:
        assert operator.verify(*MANY_CLIENTS).verdict
    assert [] == served.unserved
    given = {address: mac for mac, address in served.leases.items()}
    for host in HOSTS:
        bench.wait_for(
            f"all leases on {host}",
            lambda host=host: given.items() <= bench.leases(lab, host).items(),
        )
    return bench.leases(lab, "host-1")


def secrets(lab: Lab, operator: Clone) -> list[Secret]:
    """Every key of the pair, and the passwords of its agents."""
    found = []
    for host in HOSTS:
        for which in ("ha", "api"):
            pem = bench.sh(lab, host, f"cat /etc/kea/tls/{which}.key")
            found.append(Secret(f"{which} key of {host}", "", key_needles(pem)))
        password = bench.sh(lab, host, "cat /etc/kea/kea-api-password").strip().encode()
        found.append(Secret(f"the agent's password of {host}", "", (password,)))
    for key in operator.pki.glob("*.key"):
        found.append(Secret(key.name, "", key_needles(key.read_text())))
    return found


def test_a_backup_of_a_serving_pair_changes_nothing(lab: Lab, operator: Clone) -> None:
    """Clients are served, no file and no process is another, and the backup is whole and closed."""
    held = {host: bench.leases(lab, host) for host in HOSTS}
    processes = bench.process_ids(lab)
    files = {host: bench.files(lab, host) for host in HOSTS}
    with steady(lab) as served:
        outcome = operator.run(*BACKUP, *MANY_CLIENTS)

    assert outcome.status == 0, outcome.output
    assert (0, 0) == outcome.totals()[:2]
    assert "No key is in it: keep pki/ separately" in outcome.last_block
    assert [] == served.unserved
    # Nothing is restarted, so no answer has to wait for a heartbeat.
    assert served.longest_gap <= 1.0, str(served)
    assert processes == bench.process_ids(lab)
    assert files == {host: bench.files(lab, host) for host in HOSTS}

    backup = newest(operator)
    for path in (backup, *backup.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert wanted == path.stat().st_mode & 0o777, path
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=backup, check=True)
    for host in HOSTS:
        content = (backup / f"{host}{LEASES}").read_text()
        assert content.endswith("\n")
        missing = [one for one in held[host] if f"\n{one}," not in content]
        assert [] == missing
        document = (backup / f"{host}/etc/kea/kea-dhcp4.conf").read_text()
        assert bench.sh(lab, host, "cat /etc/kea/kea-dhcp4.conf") == document


def test_no_key_and_no_password_is_in_a_backup(lab: Lab, operator: Clone) -> None:
    """By their content, whatever a file is called."""
    backup = backed_up(operator)

    for secret in secrets(lab, operator):
        found = [p for p in backup.rglob("*") if p.is_file() and secret.is_in(p.read_bytes())]
        assert [] == found, secret.name
    assert [] == [path for path in backup.rglob("*") if "tls" in path.parts]


def test_nothing_is_restored_while_clients_are_served(lab: Lab, operator: Clone) -> None:
    """Refused with the price of doing it all the same; no server is touched."""
    backup = backed_up(operator)
    before = bench.process_ids(lab)

    refused = restore(operator, backup).refusal

    assert "lab: refused; nothing was changed" in refused
    assert "host-1: kea-dhcp4 is serving clients" in refused
    assert "no client is served meanwhile" in refused
    assert before == bench.process_ids(lab)


def test_leases_that_both_hosts_lost_come_back(lab: Lab, operator: Clone) -> None:
    """All of them, on both; and a client that asks again is given its own address."""
    held = some_clients(lab, operator)
    client = bench.get_lease(lab, mac="02:00:00:00:be:02")
    assert client is not None
    backup = backed_up(operator)
    both_lose_their_leases(lab)

    outcome = restore(operator, backup)

    assert outcome.verdict
    assert "restored from backups/lab-" in outcome.last_block
    for host in HOSTS:
        assert held.items() <= bench.leases(lab, host).items()
        assert client.address in bench.leases(lab, host)
        about = bench.sh(lab, host, f"stat -c '%a %U:%G' {LEASES}").strip()
        assert "640 _kea:_kea" == about
    again = bench.get_lease(lab, mac="02:00:00:00:be:02")
    assert again is not None
    assert client.address == again.address


def test_a_newer_lease_survives_a_forced_restore(lab: Lab, operator: Clone) -> None:
    """What was given after the backup stays, and so does what was renewed."""
    early = bench.get_lease(lab, mac="02:00:00:00:be:03")
    backup = backed_up(operator)
    late = bench.get_lease(lab, mac="02:00:00:00:be:04")
    assert early is not None and late is not None
    held = bench.leases(lab, "host-1")
    assert {early.address, late.address} <= set(held)
    before = bench.process_ids(lab)

    outcome = restore(operator, backup, "--data", "force=true")

    assert outcome.verdict
    assert "no client is served until they have started again" in outcome.output
    for host in HOSTS:
        assert before[host, UNITS[0]] != bench.main_pid(lab, host)
        assert held.items() <= bench.leases(lab, host).items()


@pytest.mark.slow
def test_servers_do_not_stay_down_when_a_restore_is_cut_off(lab: Lab, operator: Clone) -> None:
    """A timer on each host starts what was stopped there; here it is not waited for."""
    backup = backed_up(operator)
    given = ("--data", f"from=backups/{backup.name}", "--data", "force=true")
    running = operator.start(*RESTORE, *MANY_CLIENTS, *given)
    running.wait_for("stopping both servers")
    # The first that is stopped; the other one follows at once, and then there is much to do.
    bench.wait_for("host-2 to be stopped", lambda: not bench.is_active(lab, "host-2"), every=0.02)
    running.kill()
    timer = "kea-ha-restore.timer"

    for host in HOSTS:
        armed = json.loads(bench.sh(lab, host, f"systemctl list-timers -o json {timer}"))
        assert [timer] == [one["unit"] for one in armed]
        bench.sh(lab, host, "systemctl start kea-ha-restore.service")
    operator.await_verdict(*MANY_CLIENTS, patience=90)
    assert restore(operator, backup, "--data", "force=true").verdict
    for host in HOSTS:
        assert "[]" == bench.sh(lab, host, f"systemctl list-timers -o json {timer}").strip()


def test_a_host_that_cannot_be_reached_is_named(lab: Lab, operator: Clone) -> None:
    """The other one's part is kept, and the exit status says that it is not all."""
    lab.kill("host-2")
    try:
        outcome = operator.run(*BACKUP, *MANY_CLIENTS)
    finally:
        lab.start("host-2")

    assert "lab: not backed up in full" in outcome.refusal
    assert "host-2 could not be read" in outcome.refusal
    assert (newest(operator) / f"host-1{LEASES}").exists()
    assert not (newest(operator) / "host-2").exists()
    operator.await_verdict(*MANY_CLIENTS)


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["12", "testing"])
def test_leases_of_other_keas_come_back_too(
    fresh_lab: Callable[..., Lab], tmp_path: Path, debian: str
) -> None:
    """Kea 2.2.0 and 3.0: each has columns of its own."""
    lab = fresh_lab(debian)
    operator = Clone(tmp_path / "anna")
    assert operator.deploy(*MANY_CLIENTS).verdict
    held = some_clients(lab, operator)
    backup = backed_up(operator)
    both_lose_their_leases(lab)

    assert restore(operator, backup).verdict

    for host in HOSTS:
        assert held.items() <= bench.leases(lab, host).items()
