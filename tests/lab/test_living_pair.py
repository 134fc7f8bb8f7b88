"""What a pair in service survives: crashes, reboots, a power cut, and more operators than one.

One rollout with the fast profile serves all tests; each leaves the pair accepted. `verify.py` is
the judge of "it is back", asked again and again within a bound.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that was accepted, with the fast profile."""
    lab = fresh_lab()
    assert operator.deploy(*FAST).verdict
    return lab


@pytest.mark.parametrize("host", HOSTS)
def test_a_crashed_kea_is_back_within_seconds(lab: Lab, operator: Clone, host: str) -> None:
    """kea-dhcp4 killed with SIGKILL runs again within 10 s, and joins its partner."""
    before = bench.main_pid(lab, host)
    bench.sh(lab, host, f"kill -9 {before}")

    bench.wait_for(
        "kea-dhcp4 to run again",
        lambda: bench.main_pid(lab, host) not in (0, before),
        patience=10,
    )
    operator.await_verdict(*FAST, patience=60)


@pytest.mark.parametrize("host", HOSTS)
def test_after_a_reboot_the_pair_comes_back_by_itself(lab: Lab, operator: Clone, host: str) -> None:
    """Nothing is typed: the host boots, Kea joins its partner, verify.py accepts the pair."""
    bench.reboot(lab, host)

    operator.await_verdict(*FAST, patience=60)
    assert bench.get_lease(lab) is not None


def test_the_standby_serves_when_the_primary_loses_power(lab: Lab, operator: Clone) -> None:
    """A new client gets its lease from host-2; host-1 comes back, takes over, has that lease."""
    lab.kill("host-1")
    try:
        refused = operator.verify(*FAST)
        assert "host-1" in refused.refusal
        lease = bench.wait_for(
            "a lease from the standby",
            lambda: bench.get_lease(lab, mac="02:00:00:00:00:77"),
            patience=40,
        )
        assert "192.168.1.3" == lease.server
    finally:
        lab.start("host-1")

    operator.await_verdict(*FAST, patience=60)
    for host in HOSTS:
        assert "02:00:00:00:00:77" == bench.leases(lab, host).get(lease.address), host
    again = bench.get_lease(lab, mac="02:00:00:00:00:78")
    assert again is not None
    assert "192.168.1.2" == again.server


def test_verify_never_accepts_a_pair_that_is_not(lab: Lab, operator: Clone) -> None:
    """A stopped standby: status not 0, the host and its unit are named, and who serves is said."""
    bench.sh(lab, "host-2", "systemctl stop kea-dhcp4-server")
    try:
        refused = operator.verify(*FAST)
        assert not bench.missing(
            refused.refusal, ["host-2: kea-dhcp4-server.service is", "clients are served by host-1"]
        )
    finally:
        bench.sh(lab, "host-2", "systemctl start kea-dhcp4-server")
    operator.await_verdict(*FAST, patience=60)


# Two operators --------------------------------------------------------------------------------


def test_an_operator_without_the_pairs_ca_is_refused(
    lab: Lab, operator: Clone, colleague: Clone
) -> None:
    """Another clone, no pki/: told to copy it, nothing changed; with the copy, accepted."""
    before = bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS]

    outcome = colleague.deploy(*FAST)

    assert not bench.missing(outcome.refusal, ["host-1", "host-2", "opy pki/lab/ from the machine"])
    assert not colleague.pki.exists()
    assert before == (bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS])

    shutil.copytree(operator.pki, colleague.pki)
    os.chmod(colleague.pki.parent, 0o700)  # noqa: PTH101
    with_copy = colleague.deploy(*FAST)
    assert with_copy.verdict
    assert (0, 0) == with_copy.totals()[:2]


def test_what_others_left_in_keas_directories_is_closed_and_leads_root_nowhere(
    lab: Lab, operator: Clone
) -> None:
    """A copy that root made of a lease file, a link of Kea's user to a file that is not Kea's."""
    bench.sh(lab, "host-1", "mkdir /var/lib/kea/mine; touch /var/lib/kea/mine/copy /root/other")
    bench.sh(lab, "host-1", "chmod 604 /var/lib/kea/mine/copy")
    bench.sh(lab, "host-1", "chmod 604 /root/other; runuser -u _kea -- mkfifo /var/log/kea/pipe")
    bench.sh(lab, "host-1", "runuser -u _kea -- ln -s /root/other /var/lib/kea/kea-leases4.csv.1")
    try:
        assert operator.deploy(*FAST).verdict

        told = bench.sh(lab, "host-1", "stat -c %a /var/lib/kea/mine/copy /root/other").split()
        assert ["600", "604"] == told
        assert (0, 0) == operator.deploy(*FAST).totals()[:2]
    finally:
        left = "/var/lib/kea/mine /var/lib/kea/kea-leases4.csv.1 /var/log/kea/pipe /root/other"
        bench.sh(lab, "host-1", f"rm -rf {left}")


@pytest.fixture
def held(lab: Lab, operator: Clone) -> Iterator[bench.Running]:
    """A run of anna's that has begun and stands still."""
    running = operator.start(*DEPLOY_FAST)
    running.wait_for(r"Look at the host and at what it can reach")
    running.send(signal.SIGSTOP)
    yield running
    if running.process.poll() is None:
        running.send(signal.SIGCONT)
        running.wait()


DEPLOY_FAST = (*bench.DEPLOY, *FAST)


def test_of_two_operators_at_once_the_second_is_told_who_holds_the_pair(
    lab: Lab, operator: Clone, colleague: Clone, held: bench.Running
) -> None:
    """By name and since when; the first one's run ends as if nothing had been."""
    if not colleague.pki.exists():
        shutil.copytree(operator.pki, colleague.pki)

    outcome = colleague.deploy(*FAST)

    assert "being worked on by another run" in outcome.refusal
    assert re.search(r"anna@\S+ .*since 20\d\d-\d\d-\d\d \d\d:\d\d", outcome.refusal)
    held.send(signal.SIGCONT)
    assert held.wait().verdict


def test_a_killed_operator_keeps_nobody_out(lab: Lab, operator: Clone, held: bench.Running) -> None:
    """The hold ends with the connection: after SIGKILL the next run is not refused."""
    held.kill()

    outcome = operator.deploy(*FAST)

    assert outcome.verdict
    assert (0, 0) == outcome.totals()[:2]


# Settings that Kea would not take -------------------------------------------------------------


def test_what_kea_would_refuse_never_reaches_a_live_pair(lab: Lab, operator: Clone) -> None:
    """An option that Kea does not know, through `extra`: the live file and the processes stay."""

    def as_is() -> object:
        live = [bench.files(lab, host, "/etc/kea/* /etc/systemd/system/kea*") for host in HOSTS]
        return bench.process_ids(lab), live

    before = as_is()
    unknown = '{"Dhcp4": {"option-data": [{"name": "no-such-option", "data": "1"}]}}'

    outcome = operator.deploy(*FAST, "--data", f"extra={unknown}")

    assert "no-such-option" in outcome.refusal
    assert before == as_is()
