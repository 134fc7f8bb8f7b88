"""The lab itself keeps what its users rely on.

It comes up fresh whatever was left behind, its machines behave as machines do (power cuts,
reboots, silence when off), nothing leads into or out of it, and nothing of it stays.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import Lab, LabError, cgroups, network, places
from lab.trees import recipes

MACHINES = ["host-1", "host-2", "client"]
BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that is up, with all machines on; each test leaves it so."""
    lab = Lab()
    lab.up()
    yield lab
    lab.down()


def cli(*arguments: str, cwd: Path = places.PROJECT) -> "subprocess.CompletedProcess[str]":
    """Run the lab's command line, as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def wait_until(condition: Callable[[], bool], patience: float = 30) -> None:
    """Return as soon as `condition` holds; fail after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} s in vain"
        time.sleep(0.01)


def can_ping(lab: Lab, source: str, target: str) -> bool:
    """Whether the machine `source` gets an answer from the address `target` within a second."""
    return lab.exec(source, ["ping", "-c1", "-W1", target], check=False).returncode == 0


def commands_with(*words: str) -> list[str]:
    """The command lines of this machine's processes that have all of `words` in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words):
                found.append(line)
    return found


def traces() -> dict[str, list[str]]:
    """Everything of the lab that the system shows, by kind."""
    # The stand-in hosts of tests/rollout, which may be up beside it, use the cached trees, too.
    ours = (str(places.RUN), str(places.DISKS))
    seen: dict[str, list[str]] = {"mount": [], "process": []}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mounts = (process / "mounts").read_text()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            group = (process / "cgroup").read_text()
        except OSError:
            continue  # it ended, or is a zombie
        seen["mount"] += [m for m in mounts.splitlines() if any(name in m for name in ours)]
        if places.NAME in group or "systemd-nspawn" in command or "lab.keeper" in command:
            seen["process"].append(command)
    seen["namespace"] = network.namespaces()
    seen["cgroup"] = [str(path) for path in cgroups.ROOT.glob(f"**/{places.NAME}")]
    seen["disk"] = [str(places.DISKS)] if places.DISKS.exists() else []
    return seen


# --- commands in machines


def test_exec_gives_the_commands_status_and_both_its_outputs(lab: Lab) -> None:
    """A script can rely on the status and tell the outputs apart."""
    done = cli("exec", "host-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (7, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)


def test_exec_passes_every_byte_through(lab: Lab) -> None:
    """Input and output are not text to the lab."""
    everything = bytes(range(256)) * 4096

    done = subprocess.run(
        [sys.executable, "-m", "lab", "exec", "host-1", "--", "cat"],
        cwd=places.PROJECT,
        input=everything,
        capture_output=True,
        check=True,
    )

    assert everything == done.stdout
    assert everything == lab.exec("host-1", ["cat"], input=everything, text=False).stdout


def test_exec_takes_nothing_of_the_callers_environment(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a test's machine has set cannot change what a host does."""
    monkeypatch.setenv("STRAY", "from the caller")
    monkeypatch.setenv("PATH", f"/nonexistent:{os.environ['PATH']}")

    environment = cli("exec", "host-1", "--", "env").stdout

    assert "PATH=/usr/local/sbin:" in environment
    assert "STRAY" not in environment
    assert "/nonexistent" not in environment


def test_exec_on_a_machine_that_is_not_there_is_255(lab: Lab) -> None:
    """As with ssh: a status that tells a lost machine from a failed command."""
    done = cli("exec", "host-9", "--", "true")

    assert 255 == done.returncode
    assert "host-1, host-2, client" in done.stderr


def test_ending_what_popen_gave_ends_the_command_in_the_machine(lab: Lab) -> None:
    """No capture or server that a test started outlives it."""
    running = ["pgrep", "-f", "^sleep 7531$"]
    process = lab.popen("host-1", ["sleep", "7531"])
    wait_until(lambda: lab.exec("host-1", running, check=False).returncode == 0)

    process.terminate()
    process.wait()

    wait_until(lambda: lab.exec("host-1", running, check=False).returncode == 1)


# --- machines


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_boots_with_no_failed_unit(lab: Lab, name: str) -> None:
    """Debian 13 comes up whole."""
    assert "running" == lab.exec(name, ["systemctl", "is-system-running"]).stdout.strip()


def test_every_machine_has_an_identity_of_its_own(lab: Lab) -> None:
    """No two share a machine id or an ssh host key, and each knows its name."""
    read = ["cat", "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"]
    identities = {lab.exec(name, read).stdout for name in MACHINES}

    assert 3 == len(identities)
    assert MACHINES == [lab.exec(name, ["uname", "-n"]).stdout.strip() for name in MACHINES]


def test_a_power_cut_is_silent_and_keeps_the_disk(lab: Lab) -> None:
    """After `kill` nothing answers and no connection was closed; after `start` files are there."""
    lab.exec("host-1", ["sh", "-c", "echo kept > /root/kept; sync"])
    serve = "import socket; socket.create_server(('', 7777)).accept()[0].recv(1)"
    listener = lab.popen("host-1", ["python3", "-c", serve])
    wait_until(lambda: ":7777" in lab.exec("host-1", ["ss", "-Htln", "sport = :7777"]).stdout)
    peer = lab.popen("client", ["socat", "-u", "TCP:192.168.1.2:7777", "STDOUT"])
    connection = ["ss", "-Htn", "state", "established", "dport = :7777"]
    wait_until(lambda: ":7777" in lab.exec("client", connection).stdout)
    assert can_ping(lab, "client", "192.168.1.2")

    assert 0 == cli("kill", "host-1").returncode

    listener.wait()
    assert not lab.is_on("host-1")
    assert not can_ping(lab, "client", "192.168.1.2")
    assert ":7777" in lab.exec("client", connection).stdout
    peer.terminate()
    peer.wait()
    assert 255 == cli("exec", "host-1", "--", "true").returncode

    assert 0 == cli("start", "host-1").returncode

    assert "kept\n" == lab.exec("host-1", ["cat", "/root/kept"]).stdout
    assert can_ping(lab, "client", "192.168.1.2")


def test_a_reboot_comes_back_with_a_clean_network(lab: Lab) -> None:
    """As on hardware: files stay, firewall rules and added addresses do not."""
    before = lab.exec("host-2", BOOT_ID).stdout
    lab.exec("host-2", ["nft", "add", "table", "ip", "strangers"])
    lab.exec("host-2", ["ip", "addr", "add", "192.168.1.77/24", "dev", "enp0s8"])

    lab.exec("host-2", ["reboot"], check=False)

    wait_until(
        lambda: (
            lab.is_on("host-2")
            and lab.exec("host-2", BOOT_ID, check=False).stdout not in ("", before)
        )
    )
    lab.start("host-2")  # returns when it has booted
    assert "" == lab.exec("host-2", ["nft", "list", "ruleset"]).stdout
    addresses = lab.exec("host-2", ["ip", "-4", "-br", "addr", "show", "enp0s8"]).stdout
    assert ["192.168.1.3/24"] == addresses.split()[2:]


def test_a_machine_that_powers_itself_off_stays_off(lab: Lab) -> None:
    """Until it is started; its address is silent meanwhile."""
    lab.exec("host-2", ["poweroff"], check=False)

    wait_until(lambda: not cgroups.processes("host-2"))
    assert not can_ping(lab, "client", "192.168.1.3")
    assert 0 == cli("status").returncode

    lab.start("host-2")

    assert can_ping(lab, "client", "192.168.1.3")


# --- the network


def test_no_way_leads_out_of_the_lab_or_into_it(lab: Lab) -> None:
    """A machine knows no route beyond the LAN; this machine has nothing of the LAN."""
    out = ["ip", "route", "get", "203.0.113.1"]
    assert 0 != lab.exec("host-1", out, check=False).returncode
    assert 0 == lab.exec("host-1", [*out[:-1], "192.168.1.1"], check=False).returncode
    assert can_ping(lab, "host-1", "192.168.1.1")

    here = subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout

    assert "192.168.1." not in here
    assert "enp0s8@" not in here
    there = lab.exec("host-1", ["ip", "addr"]).stdout
    assert "192.168.1." in there
    assert "enp0s8@" in there


def test_a_stock_client_gets_a_lease_on_the_bare_card(lab: Lab) -> None:
    """From a stock server, which comes from the lab's own package source."""
    show = ["ip", "-br", "addr", "show"]
    assert "UP" == lab.exec("client", [*show, "enp0s9"]).stdout.split()[1]
    assert "192.168.1." in lab.exec("client", [*show, "enp0s8"]).stdout
    assert "192.168.1." not in lab.exec("client", [*show, "enp0s9"]).stdout
    lab.exec("host-2", ["apt-get", "-qq", "update"])
    lab.exec("host-2", ["apt-get", "-y", "-qq", "install", "dnsmasq-base"])
    server = lab.popen(
        "host-2",
        [
            *("dnsmasq", "--keep-in-foreground", "--port=0", "--interface=enp0s8"),
            *("--bind-interfaces", "--dhcp-range=192.168.1.200,192.168.1.200", "--leasefile-ro"),
        ],
    )
    try:
        ask = "udhcpc -f -n -q -t 20 -T 1 -i enp0s9 -s /bin/true 2>&1"
        assert "192.168.1.200 obtained" in lab.exec("client", ["sh", "-c", ask]).stdout
    finally:
        server.terminate()
        server.wait()


def test_ssh_accepts_the_machines_own_key_alone(lab: Lab) -> None:
    """Host keys are checked: with another machine's key there is no connection."""
    ssh = ["ssh", "-F", str(lab.access.ssh_config), "-o", "BatchMode=yes"]

    def status(*options: str) -> int:
        command = [*ssh, *options, "operator@host-1", "sudo", "-n", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert 0 == status()
    assert 255 == status("-o", "HostKeyAlias=host-2")


def test_ssh_survives_the_loss_of_the_lan(lab: Lab) -> None:
    """An operator can look into a host whose cable is out."""
    lab.exec("host-1", ["ip", "link", "set", "enp0s8", "down"])
    try:
        assert not can_ping(lab, "client", "192.168.1.2")
        lab.access.wait_for_ssh(lab.node("host-1"), patience=5)
    finally:
        lab.exec("host-1", ["ip", "link", "set", "enp0s8", "up"])


# --- packages


def test_hosts_come_without_kea_and_can_install_either_version(lab: Lab) -> None:
    """The release's Kea is the default; backports has to be asked for."""
    assert (
        "" == lab.exec("host-1", ["sh", "-c", "dpkg-query -Wf '${Package}\n' | grep kea;:"]).stdout
    )
    lab.exec("host-1", ["apt-get", "-qq", "update"])

    def would_install(*options: str) -> str:
        install = ["apt-get", "-qq", "--simulate", *options, "install", "kea-dhcp4-server"]
        return lab.exec("host-1", install).stdout

    assert "kea-dhcp4-server (2.6." in would_install()
    assert "kea-dhcp4-server (3.0." in would_install("-t", "trixie-backports")


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_keeps_daemons_from_starting(lab: Lab, name: str) -> None:
    """A rollout that needs them held back has to do it itself."""
    assert 0 != lab.exec(name, ["test", "-e", "/usr/sbin/policy-rc.d"], check=False).returncode


# --- up and down


def test_up_on_a_running_lab_replaces_its_machines(lab: Lab) -> None:
    """Nothing of the former hosts is left on the new ones."""
    lab.exec("host-1", ["touch", "/root/former"])
    former = lab.exec("host-1", ["cat", "/etc/machine-id"]).stdout

    assert 0 == cli("up").returncode

    assert former != lab.exec("host-1", ["cat", "/etc/machine-id"]).stdout
    assert 0 != lab.exec("host-1", ["test", "-e", "/root/former"], check=False).returncode


def test_down_leaves_nothing_behind(lab: Lab) -> None:
    """No mount, process, namespace, control group or disk; the same search finds all when up."""
    assert [] == [kind for kind, found in traces().items() if not found]
    assert 0 == cli("status").returncode

    assert 0 == cli("down").returncode

    assert {} == {kind: found for kind, found in traces().items() if found}
    assert 3 == cli("status").returncode
    assert [] == list(lab.access.directory.iterdir())
    assert 0 == cli("down").returncode

    lab.up()


REACHED: dict[str, Callable[[], bool]] = {
    "its record is written": lambda: (places.RUN / "lab.json").exists(),
    "the disks are made": (places.DISKS / "host-2").exists,
    "the LAN is there": lambda: network.LAN in network.namespaces(),
    "the first machine has power": lambda: bool(cgroups.processes("host-1")),
    "the last machine boots": lambda: bool(cgroups.processes("client/machine")),
    "ssh is prepared": lambda: Lab().access.ssh_config.exists(),
}


@pytest.mark.parametrize("moment", REACHED)
def test_up_works_after_an_up_that_was_killed(lab: Lab, moment: str) -> None:
    """SIGKILL to `up`, at any moment, needs no cleaning by hand."""
    lab.down()
    up = subprocess.Popen([sys.executable, "-m", "lab", "up"], cwd=places.PROJECT)
    wait_until(lambda: REACHED[moment]() or up.poll() is not None)
    up.kill()
    assert -signal.SIGKILL == up.wait()
    assert 3 == cli("status").returncode

    lab.up()

    assert all(lab.is_on(name) for name in MACHINES)


def test_a_tree_that_was_being_built_is_never_taken_for_a_whole_one(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL to `up` while it builds ends the builder too, and leaves no tree."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wanted = [recipe.path for recipe in recipes("13").values()]
    up = subprocess.Popen([sys.executable, "-m", "lab", "up"], cwd=places.PROJECT)
    try:
        wait_until(lambda: any(tmp_path.glob("*/*.partial/root/usr")))
        assert [] != commands_with("mmdebstrap", str(tmp_path))
    finally:
        up.kill()
        up.wait()

    wait_until(lambda: commands_with("mmdebstrap", str(tmp_path)) == [])
    assert [] == [path for path in wanted if path.exists()]
    monkeypatch.undo()
    lab.up()


def test_a_second_up_is_told_of_the_first(lab: Lab) -> None:
    """Two at once do not get into each other's way."""
    first = subprocess.Popen([sys.executable, "-m", "lab", "up"], cwd=places.PROJECT)
    wait_until(lambda: "`lab up`" in (places.RUN / "lock").read_text() and not lab.is_up())

    second = cli("up")

    assert 0 == first.wait()
    assert 1 == second.returncode
    assert f"process {first.pid}, in {places.PROJECT}" in second.stderr


def test_another_project_is_refused_while_this_lab_is_up(lab: Lab, tmp_path: Path) -> None:
    """One lab on a machine; the message says whose it is. That one stays as it was."""
    another = tmp_path / "clone"
    shutil.copytree(places.PROJECT / "lab", another / "lab")
    before = lab.exec("host-1", BOOT_ID).stdout

    for verb in ("up", "down"):
        refused = cli(verb, cwd=another)
        assert 1 == refused.returncode
        assert f"the quick lab of {places.PROJECT} is on this machine" in refused.stderr
    assert 3 == cli("status", cwd=another).returncode

    assert before == lab.exec("host-1", BOOT_ID).stdout


@pytest.mark.parametrize("change", ["kill", "start"])
def test_a_machine_cannot_be_switched_while_the_lab_is_down(lab: Lab, change: str) -> None:
    """One sentence says what to do."""
    lab.down()
    try:
        refused = cli(change, "host-1")
        assert 1 == refused.returncode
        assert "lab up" in refused.stderr
        with pytest.raises(LabError, match="host-1 is off"):
            lab.exec("host-1", ["true"])
    finally:
        lab.up()


@pytest.mark.slow
@pytest.mark.parametrize(("debian", "kea"), [("12", "2.2."), ("testing", "3.0.")])
def test_other_debians_boot_whole_and_offer_their_kea(lab: Lab, debian: str, kea: str) -> None:
    """Hosts on Debian 12 and testing come up with no failed unit."""
    lab.up(debian=debian)
    try:
        for name in MACHINES:
            assert "running" == lab.exec(name, ["systemctl", "is-system-running"]).stdout.strip()
        lab.exec("host-1", ["apt-get", "-qq", "update"])
        policy = lab.exec("host-1", ["apt-cache", "policy", "kea-dhcp4-server"]).stdout
        assert f"Candidate: {kea}" in policy
    finally:
        lab.up()


def test_the_lab_runs_on_cgroup_v2_alone(lab: Lab) -> None:
    """With the one hierarchy of a current Debian in place of a hybrid one."""
    lab.down()
    script = (
        "mount -t cgroup2 none /sys/fs/cgroup && "
        f"{sys.executable} -m lab up && {sys.executable} -m lab status && "
        f"{sys.executable} -m lab exec host-1 -- systemctl is-system-running && "
        f"{sys.executable} -m lab kill host-1 && {sys.executable} -m lab start host-1 && "
        f"{sys.executable} -m lab down"
    )
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script],
            cwd=places.PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "") == (done.returncode, done.stderr)
        assert "\nrunning\n" in done.stdout
    finally:
        lab.up()
