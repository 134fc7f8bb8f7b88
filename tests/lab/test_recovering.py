"""What breaks a live pair is found, said, and mended by one command; no lease is lost by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab import bench
from tests.lab.bench import HOSTS, UNITS, Clone, Outcome
from tests.lab.clients import steady
from tests.lab.test_changing import MANY_CLIENTS, both_hold, unnoticed

pytestmark = pytest.mark.timeout(400)

RECOVER = ("-y", "inventory.py", "runbook/recover.py", *MANY_CLIENTS)
FILE = "/var/lib/kea/kea-leases4.csv"
OTHER = {"host-1": "host-2", "host-2": "host-1"}
#: Both wait for each other's heartbeat three times, of a second each; half of one is for the rest.
BOTH_AT_ONCE_S = 3 * 1.0 + 1.5


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that serves a large subnet, with a heartbeat of a second, and some leases."""
    lab = fresh_lab()
    assert operator.deploy(*MANY_CLIENTS).verdict
    with steady(lab):
        assert operator.verify(*MANY_CLIENTS).verdict
    return lab


def recovered(operator: Clone) -> Outcome:
    """The pair after it was mended: accepted, nothing left to find, and nothing to change."""
    outcome = operator.run(*RECOVER)
    assert outcome.verdict
    again = operator.run(*RECOVER)
    assert again.verdict
    assert "the pair is healthy: nothing is done" in again.last_block
    assert (0, 0) == again.totals()[:2]
    assert (0, 0) == operator.deploy(*MANY_CLIENTS).totals()[:2]
    return outcome


@contextmanager
def all_leases_kept(lab: Lab, operator: Clone) -> Iterator[None]:
    """Whatever happens within, each server has all leases that the pair had before."""
    before = bench.leases(lab, "host-1") | bench.leases(lab, "host-2")
    assert before
    yield
    for host in HOSTS:
        assert before.items() <= bench.leases(lab, host).items(), host


def is_in(lab: Lab, host: str, *states: str) -> None:
    bench.wait_for(
        f"{host} in {' or '.join(states)}",
        lambda: bench.ha_state(lab, host) in states,
        patience=60,
    )


def test_of_a_healthy_pair_nothing_is_touched(lab: Lab, operator: Clone) -> None:
    before = bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS]
    recovered(operator)
    assert before == (bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS])


@pytest.mark.parametrize("host", ["host-1", pytest.param("host-2", marks=pytest.mark.slow)])
def test_a_lease_file_that_kea_cannot_open(lab: Lab, operator: Clone, host: str) -> None:
    """It is set aside, and all leases come from the other server, which serves meanwhile."""
    with all_leases_kept(lab, operator):
        bench.sh(
            lab,
            host,
            f"systemctl stop {UNITS[0]}; sed -i '1s/address,hw/addr3ss,h/' {FILE}; "
            f"systemctl start {UNITS[0]}",
        )
        is_in(lab, OTHER[host], "partner-down")
        with steady(lab) as served:
            outcome = recovered(operator)
        unnoticed(lab, served)
    assert f"{host}: Kea cannot open its lease file" in outcome.last_block
    assert f"all leases come from {OTHER[host]}" in outcome.last_block
    kept = bench.sh(lab, host, "head -1 /var/lib/kea-ha/damaged-leases-*/kea-leases4.csv")
    assert kept.startswith("addr3ss")
    bench.sh(lab, host, "rm -r /var/lib/kea-ha/damaged-leases-*")


@pytest.mark.slow
def test_a_lease_file_that_was_cut_off(lab: Lab, operator: Clone) -> None:
    """Kea drops what it cannot read, and gets it from its partner: said, and nothing to do."""
    with all_leases_kept(lab, operator):
        bench.sh(
            lab,
            "host-2",
            f"systemctl stop {UNITS[0]}; truncate -s 300 {FILE}; systemctl start {UNITS[0]}",
        )
        is_in(lab, "host-2", "hot-standby")
        outcome = operator.await_verdict(*MANY_CLIENTS)
        outcome = operator.run(*RECOVER)
        assert outcome.verdict
    assert "host-2: 1 rows of its lease file could not be read" in outcome.last_block


@pytest.mark.slow
def test_two_lease_files_that_kea_cannot_open(lab: Lab, operator: Clone) -> None:
    """No leases are thrown away: refused, and the way back is named, and works."""
    assert operator.run("-y", "inventory.py", "runbook/backup.py", *MANY_CLIENTS).status == 0
    (backup,) = (operator.directory / "backups").iterdir()
    held = {host: bench.leases(lab, host) for host in HOSTS}
    for host in HOSTS:
        bench.sh(
            lab,
            host,
            f"systemctl stop {UNITS[0]}; "
            f"sed -i '1s/address,hw/addr3ss,h/' {FILE}; systemctl start {UNITS[0]}",
        )
    refused = operator.run(*RECOVER).refusal
    assert "the lease file of each host that answers is one that Kea cannot open" in refused
    assert "runbook/restore.py --data from=backups/lab-" in refused
    for host in HOSTS:
        bench.sh(lab, host, f"systemctl stop {UNITS[0]}; mkdir /root/aside; mv {FILE}* /root/aside")

    restore = ("-y", "inventory.py", "runbook/restore.py", *MANY_CLIENTS)
    assert operator.run(*restore, "--data", f"from=backups/{backup.name}").verdict

    for host in HOSTS:
        assert held[host].items() <= bench.leases(lab, host).items()


@pytest.mark.slow
def test_a_pki_that_was_lost(lab: Lab, operator: Clone) -> None:
    """As in docs/runbook.md, Losing it: both hosts get identities of new CAs, at an outage."""
    assert operator.deploy(*MANY_CLIENTS).verdict
    shutil.rmtree(operator.pki)
    assert "there is no pki/lab" in operator.deploy(*MANY_CLIENTS).refusal
    with all_leases_kept(lab, operator):
        for host in HOSTS:
            bench.sh(lab, host, f"systemctl stop {UNITS[0]}")
        for host in HOSTS:
            bench.sh(lab, host, "rm -r /etc/kea/tls")
        assert operator.run(*RECOVER).verdict
        assert operator.deploy(*MANY_CLIENTS).verdict
    assert (0, 0) == operator.deploy(*MANY_CLIENTS).totals()[:2]


@pytest.mark.slow
def test_two_servers_that_are_down(lab: Lab, operator: Clone) -> None:
    """Both are started, and have what they had."""
    with all_leases_kept(lab, operator):
        for host in HOSTS:
            bench.sh(lab, host, f"systemctl stop {UNITS[0]}")
        assert "both are started" in recovered(operator).last_block


@pytest.mark.slow
def test_a_host_that_is_out_while_its_partner_fails(lab: Lab, operator: Clone) -> None:
    """It is brought back first, and serves; then the partner is recovered."""
    maintain = ("-y", "inventory.py", "runbook/maintain.py", *MANY_CLIENTS, "--data", "host=host-2")
    with all_leases_kept(lab, operator):
        assert "out for maintenance" in operator.run(*maintain).last_block
        bench.sh(lab, "host-1", f"systemctl disable --quiet --now {UNITS[0]} 2>/dev/null")
        assert "--data host=host-2 --data done=true" in operator.run(*RECOVER).refusal
        assert operator.run(*maintain, "--data", "done=true").status == 1
        assert bench.is_active(lab, "host-2")
        recovered(operator)


def test_terminated(lab: Lab, operator: Clone) -> None:
    """One clock was 70 s off, and is right again: both are restarted, which is what it takes."""
    faked = (
        "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 "
        "FAKETIME=+70s FAKETIME_DONT_FAKE_MONOTONIC=1\n"
    )
    place = f"/etc/systemd/system/{UNITS[0]}.d/zz-clock.conf"
    with all_leases_kept(lab, operator):
        bench.give(lab, "host-2", place, faked, "644")
        bench.sh(lab, "host-2", f"systemctl daemon-reload; systemctl restart {UNITS[0]}")
        for host in HOSTS:
            is_in(lab, host, "terminated")
        bench.sh(lab, "host-2", f"rm {place}; systemctl daemon-reload")
        with steady(lab) as served:
            outcome = recovered(operator)
        print(served)
        assert [] == served.unserved
        assert [] == served.given_twice
        assert served.longest_gap <= BOTH_AT_ONCE_S
        both_hold(lab, served)
    assert "both are restarted at once" in outcome.last_block


@pytest.mark.parametrize(
    "hosts", [("host-1", "host-2"), pytest.param(("host-2",), marks=pytest.mark.slow)]
)
def test_certificates_that_have_expired(lab: Lab, operator: Clone, hosts: tuple[str, ...]) -> None:
    """Both serve, since neither lets the other in: new ones, and the two are one pair again."""
    with all_leases_kept(lab, operator):
        expired(lab, operator, *hosts)
        for host in HOSTS:
            is_in(lab, host, "partner-down")
        with steady(lab) as served:
            outcome = recovered(operator)
        print(served)
        assert [] == served.unserved
        assert served.longest_gap <= BOTH_AT_ONCE_S
    assert "the certificate expired at" in outcome.last_block


def expired(lab: Lab, operator: Clone, *hosts: str) -> None:
    """These servers are started with certificates of the day before yesterday."""
    past = Store.open(operator.pki, "lab", None, datetime.now(UTC) - timedelta(days=366))
    for host in hosts:
        for which, sign in (("ha", past.sign_peer), ("api", past.sign_api_server)):
            base = f"/etc/kea/tls/{which}"
            request = bench.sh(lab, host, f"openssl req -new -key {base}.key -subj /CN=x")
            old = sign(request, name=host, address=HOSTS[host])
            bench.sh(lab, host, f"cat > {base}.crt <<'END'\n{old}END")
        bench.sh(lab, host, f"systemctl restart {UNITS[0]} {UNITS[1]}")


@pytest.mark.slow
def test_a_server_that_is_down_or_left_in_maintenance(lab: Lab, operator: Clone) -> None:
    """It is started anew, also where it would not start at boot, and its partner serves."""
    with all_leases_kept(lab, operator):
        bench.sh(lab, "host-1", f"systemctl disable --quiet --now {UNITS[0]} 2>/dev/null")
        is_in(lab, "host-2", "partner-down")
        with steady(lab) as served:
            recovered(operator)
        unnoticed(lab, served)

        bench.ask_kea(lab, "host-1", "ha-maintenance-start")
        is_in(lab, "host-2", "in-maintenance")
        with steady(lab) as served:
            recovered(operator)
        unnoticed(lab, served)


@pytest.mark.slow
def test_a_link_that_is_cut(lab: Lab, operator: Clone) -> None:
    """Both serve: the path that is blocked is named, since nothing else mends that."""
    bench.sh(
        lab,
        "host-1",
        "nft add table inet cut; nft add chain inet cut in '{ type filter hook input priority 0; }'"
        "; for port in dport sport; do nft add rule inet cut in tcp $port 8000 drop; done",
    )
    for host in HOSTS:
        is_in(lab, host, "partner-down")
    before = bench.process_ids(lab)
    refused = operator.run(*RECOVER).refusal
    assert "path to host-1 (192.168.1.2 port 8000) is dropped" in refused
    assert before == bench.process_ids(lab)
    bench.sh(lab, "host-1", "nft delete table inet cut")
    assert operator.run(*RECOVER).verdict


def test_one_host_must_go_on_alone(lab: Lab, operator: Clone) -> None:
    """A standby that waits for clients to complain, which are not there, is told to serve."""
    patient = (*MANY_CLIENTS, "--data", "max_unacked_clients=5")
    assert operator.deploy(*patient).verdict
    lab.kill("host-1")
    outcome = operator.run(*RECOVER)
    assert outcome.status != 0
    assert "host-1 cannot be reached from here" in outcome.refusal
    assert "partner-down" == bench.ha_state(lab, "host-2")
    lease = bench.get_lease(lab)
    assert lease and lease.server == HOSTS["host-2"]
    again = operator.run(*RECOVER)
    assert "host-2 serves all clients alone: nothing is done" in again.last_block

    lab.start("host-1")
    is_in(lab, "host-1", "hot-standby")
    assert operator.deploy(*MANY_CLIENTS).verdict


def test_a_partner_that_only_we_cannot_reach_is_left_alone(lab: Lab, operator: Clone) -> None:
    """It answers its partner: nobody is told to serve beside it."""
    bench.sh(lab, "host-1", "systemctl stop ssh.socket ssh.service")
    outcome = operator.run(*RECOVER)
    bench.sh(lab, "host-1", "systemctl start ssh.socket ssh.service")
    assert "host-2 reaches it, so the pair serves: nothing is done" in outcome.refusal
    assert ["hot-standby"] * 2 == [bench.ha_state(lab, host) for host in HOSTS]


@pytest.mark.parametrize("host", ["host-1", pytest.param("host-2", marks=pytest.mark.slow)])
def test_a_fresh_machine_takes_the_place_of_a_lost_one(
    lab: Lab, operator: Clone, host: str
) -> None:
    """It gets all leases, the survivor is not restarted for it, and the old CA opens nothing."""
    other = OTHER[host]
    old = Store(operator.pki, "lab").peers.trusted
    before = bench.leases(lab, other)
    lab.kill(host)
    is_in(lab, other, "partner-down")
    lab.replace(host)
    survivor = bench.main_pid(lab, other)
    with steady(lab) as served:
        running = operator.start(*RECOVER)
        running.wait_for("Go on to: trust-both")
        assert survivor == bench.main_pid(lab, other)
        assert before.items() <= bench.leases(lab, host).items()
        outcome = running.wait(360)

    assert outcome.verdict
    unnoticed(lab, served)
    assert before.items() <= bench.leases(lab, host).items()
    for one in HOSTS:
        kept = bench.sh(lab, one, "find /etc/kea /var/lib/kea-ha -type f -exec cat {} +")
        assert old.splitlines()[3] not in kept
    assert (0, 0) == operator.deploy(*MANY_CLIENTS).totals()[:2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["Mend it", "Go on to: sign-new"])
def test_an_operator_killed_while_a_machine_is_replaced_only_runs_again(
    lab: Lab, operator: Clone, stage: str
) -> None:
    """From wherever it was, also in the middle of the change of CAs."""
    lab.kill("host-2")
    is_in(lab, "host-1", "partner-down")
    lab.replace("host-2")
    with steady(lab) as served:
        running = operator.start(*RECOVER)
        running.wait_for(stage)
        running.kill()
        outcome = operator.run(*RECOVER, timeout=360)
        assert outcome.verdict
        if Store(operator.pki, "lab").stage is not None:
            # The pair is whole by then: it is said that this is what is left to do.
            assert "runbook/rotate.py --data ca=true goes on with it" in outcome.last_block
            rotate = ("-y", "inventory.py", "runbook/rotate.py", *MANY_CLIENTS)
            assert operator.run(*rotate, "--data", "ca=true", timeout=360).verdict
    unnoticed(lab, served)
    assert None is Store(operator.pki, "lab").stage
    assert (0, 0) == operator.deploy(*MANY_CLIENTS).totals()[:2]
