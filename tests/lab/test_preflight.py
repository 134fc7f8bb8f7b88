"""What stands against a rollout is found before anything is touched, all of it at once.

Real obstacles on fresh hosts, one lab for all: after each refusal both hosts are as they were, to
the last package. A dry run of the same command on the same hosts, without the obstacle, passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone, Outcome

pytestmark = pytest.mark.timeout(300)

DRY = ("--dry", "inventory.py", "deploy.py", *FAST)


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab]) -> Lab:
    """Fresh hosts; each test takes its obstacles away again."""
    return fresh_lab()


@contextmanager
def running(lab: Lab, machine: str, *command: str, ready: str) -> Iterator[None]:
    """A program on a machine, for as long as the block; `ready` tells that it is at work."""
    process = lab.popen(machine, command)
    try:
        bench.wait_for(
            " ".join(command),
            lambda: lab.exec(machine, ["sh", "-c", ready], check=False).returncode == 0,
        )
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def done(lab: Lab, machine: str, change: str, undo: str) -> Iterator[None]:
    """A change on a machine, undone at the end of the block."""
    bench.sh(lab, machine, change)
    try:
        yield
    finally:
        bench.sh(lab, machine, undo)


def port_taken(lab: Lab, host: str) -> object:
    """Another program on the pair's port."""
    serve = ("python3", "-m", "http.server", "8000", "--bind", HOSTS[host])
    return running(lab, host, *serve, ready="ss -Hlnt 'sport = 8000' | grep -q .")


def another_dhcp_server(lab: Lab) -> object:
    """A stranger's DHCP server on the LAN, on the client at 192.168.1.10."""
    serve = "-C /dev/null -p 0 -i enp0s8 --bind-interfaces -F 192.168.1.50,192.168.1.60"
    end = "p=$(cat /run/dhcp.pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.05; done"
    return done(lab, "client", f"dnsmasq -x /run/dhcp.pid {serve}", end)


def clock_off(lab: Lab, host: str, seconds: int) -> object:
    """Every program that comes in by ssh and sudo sees a clock that is off."""
    preload = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    seen = f"LD_PRELOAD={preload}\nFAKETIME=+{seconds}s\nFAKETIME_DONT_FAKE_MONOTONIC=1\n"
    rule, variables = "/etc/sudoers.d/clock", "/etc/clock"
    return done(
        lab,
        host,
        f"test -e {preload} && printf '{seen}' >{variables}"
        f" && echo 'Defaults env_file={variables}' >{rule}",
        f"rm {rule} {variables}",
    )


def other_version(lab: Lab, host: str) -> object:
    """apt on this host prefers Kea from backports."""
    path = "/etc/apt/preferences.d/kea"
    pin = r"Package: kea*\nPin: release n=trixie-backports\nPin-Priority: 990\n"
    return done(lab, host, f"printf '{pin}' >{path}", f"rm {path}")


def dropping(lab: Lab, server: str, client: str) -> object:
    """A foreign firewall on `server` that drops port 8000 from `client` without a word."""
    rule = f"ip saddr {HOSTS[client]} tcp dport 8000 drop"
    table = "inet foreign { chain input { type filter hook input priority 0; " + rule + "; }; }"
    return done(lab, server, f"nft 'table {table}'", "nft delete table inet foreign")


@pytest.fixture
def refused(lab: Lab, operator: Clone) -> Callable[..., str]:
    """Run the deploy, which must refuse and leave both hosts as they were; gives its last block."""

    def run(*arguments: str, look_at: tuple[str, ...] = tuple(HOSTS)) -> str:
        before = {host: bench.touched(lab, host) for host in look_at}
        outcome = operator.deploy(*FAST, *arguments)
        assert before == {host: bench.touched(lab, host) for host in look_at}
        assert not operator.pki.exists()
        assert "0 Pre-flight" in outcome.refusal
        return outcome.refusal

    return run


def _dry(operator: Clone) -> Outcome:
    outcome = operator.run(*DRY)
    assert outcome.status == 0, outcome.output
    return outcome


def test_fresh_hosts_pass_and_are_not_touched_by_a_dry_run(lab: Lab, operator: Clone) -> None:
    """The ground for all refusals here: without an obstacle nothing is refused."""
    before = {host: bench.touched(lab, host) for host in HOSTS}

    assert "nothing was changed" in _dry(operator).last_block

    assert before == {host: bench.touched(lab, host) for host in HOSTS}


def test_everything_that_stands_against_it_is_said_at_once(
    lab: Lab, refused: Callable[..., str]
) -> None:
    """Port taken, another DHCP server, clocks, versions, interface: one run names them all."""
    with (
        port_taken(lab, "host-1"),
        another_dhcp_server(lab),
        clock_off(lab, "host-2", 70),
        other_version(lab, "host-2"),
    ):
        said = refused("--data", "interface=enp9s9")

    expected = [
        "held by python3",
        "another DHCP server answers: 192.168.1.10",
        "the clock of host-2 is",
        "2.6.3 on host-1, 3.0.3 on host-2",
        "enp9s9, which the host does not have",
    ]
    assert not bench.missing(said, expected), said
    assert re.search(r"the clock of host-2 is (69|70|71) s ahead of host-1", said), said


def test_a_clock_that_is_45_s_off_is_a_warning(lab: Lab, operator: Clone) -> None:
    """Not refused, but said; without it nothing is said of clocks."""
    assert "clock" not in _dry(operator).last_block

    with clock_off(lab, "host-1", 45):
        said = _dry(operator).last_block

    assert re.search(r"the clock of host-1 is 4[456] s ahead of host-2", said), said


def test_an_address_that_no_interface_carries(lab: Lab, refused: Callable[..., str]) -> None:
    """The host and the address are named, and what it has instead."""
    with done(
        lab,
        "host-2",
        "ip address flush dev enp0s8; ip address add 192.168.1.33/24 dev enp0s8",
        "ip address flush dev enp0s8; ip address add 192.168.1.3/24 broadcast + dev enp0s8",
    ):
        said = refused()

    assert not bench.missing(
        said, ["host-2", "192.168.1.3, which no interface", "enp0s8 (192.168.1.33)"]
    ), said


@pytest.mark.parametrize(("client", "server"), [("host-1", "host-2"), ("host-2", "host-1")])
def test_a_firewall_that_drops_one_direction_is_named_with_host_port_and_direction(
    lab: Lab, refused: Callable[..., str], client: str, server: str
) -> None:
    """From whom to whom, and the port; the other direction is not complained of."""
    with dropping(lab, server, client):
        said = refused()

    where = re.escape(f"path to {server} ({HOSTS[server]} port 8000)")
    assert re.search(rf"{client}: {where}\W+(is )?dropped", said), said
    assert f"pass from {client} ({HOSTS[client]}) to {server}" in said
    assert f"path to {client}" not in said


def test_one_host_that_is_off_is_named_beside_what_is_wrong_with_the_other(
    lab: Lab, refused: Callable[..., str]
) -> None:
    """host-2 without power and host-1's port taken: both are said, and host-1 is not touched."""
    lab.kill("host-2")
    try:
        with port_taken(lab, "host-1"):
            said = refused(look_at=("host-1",))
    finally:
        lab.start("host-2")

    assert not bench.missing(said, ["host-2", "no connection", "held by python3"]), said


def test_a_kea_in_service_that_is_not_ours(
    fresh_lab: Callable[..., Lab], refused: Callable[..., str]
) -> None:
    """It is left alone: refused with the way to take it over, still running, its files the same."""
    lab = fresh_lab()
    bench.sh(lab, "host-1", "apt-get -q update && apt-get -qy install kea-dhcp4-server 2>&1")
    assert bench.is_active(lab, "host-1")
    before = bench.main_pid(lab, "host-1"), bench.files(lab, "host-1", "/etc/kea /var/lib/kea")

    said = refused()

    assert not bench.missing(said, ["host-1", "kea-dhcp4-server", "--data adopt=true"]), said
    assert before == (
        bench.main_pid(lab, "host-1"),
        bench.files(lab, "host-1", "/etc/kea /var/lib/kea"),
    )
