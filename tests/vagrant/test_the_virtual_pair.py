"""The Vagrant lab, from nothing to an accepted pair and back to nothing.

In this order, since a virtual machine takes a minute to boot where there is only emulation: the box
is built, the machines come up, a pre-flight is refused, the pair is rolled out and loses a host.
What containers cannot show is shown here: kernels of their own, with Debian's AppArmor profiles
enforced, clocks of their own, and a user who is not root. One module, and each test builds on those
before it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Lab, LabError, VirtualLab, places
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CONFINED = ("kea-dhcp4", "kea-ctrl-agent")
#: Lease File Cleanup every few seconds, in the place of once an hour.
SETTINGS = (*FAST, "--data", 'extra={"Dhcp4": {"lease-database": {"lfc-interval": 10}}}')


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the project, as a person does."""
    return subprocess.run(
        words, cwd=places.PROJECT, capture_output=True, text=True, check=False, timeout=1200
    )


def traces() -> dict[str, set[str]]:
    """Whatever a Vagrant lab may leave on this machine, by kind; asks no daemon."""

    def names(pattern: str) -> set[str]:
        place, _, rest = pattern[1:].partition("/")
        return {str(path) for path in Path("/", place).glob(rest)}

    commands = {
        path.read_text().strip()
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.parent.exists()
    }
    return {
        "machine": names("/etc/libvirt/qemu/*.xml"),
        "network": names("/etc/libvirt/qemu/networks/*.xml"),
        "volume": names("/var/lib/libvirt/images/*"),
        # But those of a quick lab, which may be up in another clone.
        "namespace": names("/run/netns/*") - names(f"/run/netns/{places.NAME}*"),
        "card": {path.name for path in Path("/sys/class/net").iterdir()},
        "process": commands & {"libvirtd", "virtlogd", "dnsmasq", "qemu-system-x86"},
        "access": {str(path) for path in (places.PROJECT / ".lab").glob("*")},
    }


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    """What was there before there was a Vagrant lab."""
    if VirtualLab().is_up():
        VirtualLab().down()
    return traces()


@pytest.fixture(scope="module")
def lab(before: dict[str, set[str]]) -> Iterator[VirtualLab]:
    """Two hosts that have just come up; the client comes up when it is wanted."""
    lab = VirtualLab()
    try:
        built = command(sys.executable, "-m", "lab", "box")
        assert built.returncode == 0, built.stderr
        up = command("vagrant", "up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield lab
    finally:
        if lab.is_up():
            lab.down()


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The operator, with a clone of the project that has no `pki/` yet."""
    return Clone(tmp_path_factory.mktemp("operator") / "anna")


def test_the_lan_is_the_machines_own(lab: VirtualLab, before: dict[str, set[str]]) -> None:
    """Nothing of 192.168.1.0/24 is on this machine, which forwards nothing; the hosts see it."""
    for asked in (["ip", "address"], ["ip", "route"]):
        assert "192.168.1." not in command(*asked).stdout
    assert "0" == Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()

    assert 0 == lab.exec("host-1", ["ping", "-c1", "-W5", HOSTS["host-2"]]).returncode


def test_pyinfra_can_go_on_with_what_up_left(lab: VirtualLab) -> None:
    """A way to each host, whose key is known; the user is not root."""
    access = places.PROJECT / ".lab"
    assert {"known_hosts", "ssh_config"} <= {path.name for path in access.iterdir()}
    for host in HOSTS:
        done = command("ssh", "-F", str(access / "ssh_config"), host, "whoami")
        assert (0, "vagrant\n") == (done.returncode, done.stdout), done.stderr


def test_the_labs_commands_work_on_it(lab: VirtualLab) -> None:
    """As root, with the caller's stdin and the command's own status; the names are listed."""
    done = lab.exec("host-1", ["sh", "-c", 'id -u; cat; exit "$1"', "sh", "7"],
                    input="said", check=False)  # fmt: skip
    assert (7, "0\nsaid") == (done.returncode, done.stdout)

    status = command(sys.executable, "-m", "lab", "status")
    assert 0 == status.returncode
    assert re.search(r"host-1 +192\.168\.1\.2 +on\n", status.stdout), status.stdout
    assert "client" not in status.stdout  # it is started when it is named
    with pytest.raises(LabError, match="host-1, host-2, client"):
        lab.exec("host-3", ["true"])


def test_the_quick_lab_is_refused_beside_it(lab: VirtualLab) -> None:
    """One sentence that says what is up and how to end it; nothing is touched."""
    with pytest.raises(LabError, match=r"Vagrant lab of this clone is up.*vagrant destroy -f"):
        Lab().up(report=lambda line: None)
    assert (places.PROJECT / ".lab/ssh_config").exists()


# Clocks ---------------------------------------------------------------------------------------


# To the seconds that an emulated machine may take to begin a command, which differ by its load.
ABOUT_70, ABOUT_45 = r"(6[6-9]|7[0-4])", r"4\d"


@contextmanager
def clock_off(lab: VirtualLab, host: str, seconds: int) -> Iterator[None]:
    """The host's own clock is off, for all that runs on it."""
    bench.sh(lab, host, f"date -s @$(($(date +%s) + {seconds}))")
    try:
        yield
    finally:
        bench.sh(lab, host, f"date -s @$(($(date +%s) - {seconds}))")


def test_a_clock_that_is_70_s_off_is_refused(lab: VirtualLab, operator: Clone) -> None:
    """Which host is ahead of which, and by how much; the hosts stay as they were."""
    before = [bench.touched(lab, host) for host in HOSTS]

    with clock_off(lab, "host-2", 70):
        said = operator.deploy(*FAST).refusal

    assert re.search(rf"the clock of host-2 is {ABOUT_70} s ahead of host-1", said), said
    assert before == [bench.touched(lab, host) for host in HOSTS]


def test_a_clock_that_is_45_s_off_is_a_warning(lab: VirtualLab, operator: Clone) -> None:
    """Said, and not refused."""
    with clock_off(lab, "host-1", 45):
        said = operator.run("--dry", *bench.DEPLOY[1:], *FAST).last_block

    assert re.search(rf"the clock of host-1 is {ABOUT_45} s ahead of host-2", said), said


# The pair -------------------------------------------------------------------------------------


def test_the_unchanged_command_ends_accepted(lab: VirtualLab, operator: Clone) -> None:
    """As a user with sudo, on the interface that carries the address, whatever it is called."""
    assert operator.deploy(*SETTINGS, timeout=1200).verdict

    for host in HOSTS:
        served = bench.document(lab, host)["Dhcp4"]["interfaces-config"]["interfaces"]
        assert ["eth1"] == [interface.partition("/")[0] for interface in served]


def test_a_second_run_changes_nothing(lab: VirtualLab, operator: Clone) -> None:
    """Accepted again, 0 changed, nothing restarted; verify.py says the same."""
    before = bench.process_ids(lab)

    again = operator.deploy(*SETTINGS, timeout=600)

    assert again.verdict
    assert (0, 0) == again.totals()[:2]
    assert before == bench.process_ids(lab)
    assert operator.verify(*SETTINGS, timeout=600).verdict


def test_a_stock_client_gets_a_lease_that_both_servers_hold(lab: VirtualLab) -> None:
    """From the primary; the client is the third machine, which `lab start` makes."""
    lab.start("client")

    lease = bench.get_lease(lab)

    assert lease is not None
    assert HOSTS["host-1"] == lease.server
    for host in HOSTS:
        bench.wait_for(
            f"the lease on {host}",
            lambda host=host: bench.leases(lab, host).get(lease.address) == bench.card(lab),
            patience=15,
        )


def denials(lab: VirtualLab, host: str) -> list[str]:
    """What AppArmor has kept Kea from since this boot, by the kernel's own log."""
    log = bench.sh(lab, host, "journalctl -k -b --no-pager -o cat")
    return [
        line
        for line in log.splitlines()
        if 'apparmor="DENIED"' in line and re.search(r'profile="[^"]*kea', line)
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_apparmor_confines_kea_and_has_nothing_to_deny(lab: VirtualLab, host: str) -> None:
    """Both daemons in enforce mode, with Debian's profiles as packaged; a denial would be seen."""
    for name in CONFINED:
        mode = bench.sh(lab, host, f"cat /proc/$(pidof {name})/attr/current")
        assert f"{name} (enforce)\n" == mode
    packages = "kea-common kea-dhcp4-server kea-ctrl-agent"
    changed = bench.sh(lab, host, f"dpkg --verify {packages}", check=False)
    assert "/etc/apparmor.d/" not in changed
    assert "" == bench.sh(lab, host, "cat /etc/apparmor.d/local/*kea*")
    assert [] == denials(lab, host)

    # The same file, where the profile lets Kea read it, and where it does not.
    own, foreign = "/etc/kea/kea-dhcp4.conf", "/root/kea-dhcp4.conf"
    bench.sh(lab, host, f"cp {own} {foreign}; KEA_LOCKFILE_DIR=none kea-dhcp4 -t {foreign}; true")
    assert any(f'name="{foreign}"' in line for line in denials(lab, host))


def test_kea_cleans_its_lease_file_up_confined_as_it_is(lab: VirtualLab) -> None:
    """kea-lfc runs under a profile of its own, which the unit's sandbox does not keep it from: the
    cleaned file appears, on both hosts, and nothing is denied."""
    denied = {host: denials(lab, host) for host in HOSTS}  # what was provoked above
    for host in HOSTS:
        pid = bench.main_pid(lab, host)
        assert "NoNewPrivs:\t0" in bench.sh(lab, host, f"cat /proc/{pid}/status")
        loaded = bench.sh(lab, host, "cat /sys/kernel/security/apparmor/profiles")
        assert re.search(r"kea-lfc \(enforce\)", loaded)
        bench.sh(lab, host, "rm -f /var/lib/kea/kea-leases4.csv.2")
    assert bench.get_lease(lab, mac="02:00:00:00:00:7f") is not None

    for host in HOSTS:
        bench.wait_for(
            f"the cleaned lease file on {host}",
            lambda host=host: (
                "02:00:00:00:00:7f"
                in bench.sh(lab, host, "cat /var/lib/kea/kea-leases4.csv.2", check=False)
            ),
            patience=90,
            every=1,
        )
        assert denied[host] == denials(lab, host)


def test_the_standby_serves_when_the_primary_loses_power(lab: VirtualLab, operator: Clone) -> None:
    """A new client gets its lease from host-2; host-1 comes back, and the pair is accepted."""
    lab.kill("host-1")
    assert "192.168.1.2     off" in "\n".join(lab.describe())

    lease = bench.wait_for(
        "a lease from the standby",
        lambda: bench.get_lease(lab, mac="02:00:00:00:00:77"),
        patience=90,
    )
    assert HOSTS["host-2"] == lease.server

    lab.start("host-1")
    operator.await_verdict(*SETTINGS, patience=300)
    for host in HOSTS:
        assert "02:00:00:00:00:77" == bench.leases(lab, host).get(lease.address), host
    assert [] == denials(lab, "host-1")  # since it booted


def test_destroying_it_leaves_nothing(lab: VirtualLab, before: dict[str, set[str]]) -> None:
    """No machine, network, volume, namespace, card or daemon, and no way to the hosts."""
    there = traces()
    assert all(there[kind] for kind in ("machine", "network", "volume", "process", "access"))

    done = command("vagrant", "destroy", "-f")

    assert done.returncode == 0, done.stdout + done.stderr
    assert before == traces()
    assert not lab.is_up()
