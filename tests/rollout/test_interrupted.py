"""A rollout that is killed, interrupted, or met by another operator's."""

from __future__ import annotations

import re
import signal
from hashlib import sha256

import pytest

from kea_ha import layout
from kea_ha.host import daemons
from kea_ha.host.daemons import AGENT, DHCP4
from tests.rollout.conftest import Accepted
from tests.rollout.operators import Operator, Outcome
from tests.rollout.world import StandIn

Seen = dict[str, dict[str, set[str]]]
"""The digests of what stood under the live names: host -> path -> digests."""

OPERATIONS = 56
"""How many operations a first rollout has; seen to by the first test."""

# A few that lie between the things that change: the mark, an identity, the installation, the
# documents, the start, the links, and the same on the standby.
SPREAD = (1, 5, 8, 11, 14, 21, 25, 28, 31, 38, 44)


def test_all_operations_are_counted(accepted: Accepted) -> None:
    """The kills below are spread over, or cover, all operations of a first rollout."""
    assert accepted.first.ended == OPERATIONS


def test_killed_again_and_again_the_rollout_goes_on(operator: Operator) -> None:
    """SIGKILL in one run after another, each a little later: nothing half-written, nothing in the
    way of others, no lock left; and the run that is left alone ends accepted."""
    seen: Seen = {}
    for number in SPREAD:
        outcome = run_killed(operator, seen, after=number)

        assert outcome.ended == number

    outcome = operator.run()
    assert outcome.status == 0, outcome.output
    assert outcome.last_block.startswith("office: accepted.")
    assert_documents_were_whole(operator, seen)


# Between two commands of one operation, where a half-done thing would show.
COMMANDS = (
    "mv -f /var/lib/kea-ha/pair.new",
    "cat > /etc/kea/tls/ha-ca.crt.new",
    "mv -f /etc/kea/tls/ha.crt.new",
    "install kea-dhcp4-server",
    "runuser -u _kea -- kea-dhcp4",
    "mv -f /etc/kea/kea-dhcp4.conf.new",
    "mv -f /etc/kea/kea-ctrl-agent.conf.new",
    "systemctl enable --no-reload --quiet kea-dhcp4-server.service",
    "systemctl restart kea-dhcp4-server.service",
)


def test_killed_between_two_commands_nothing_is_half_written(operator: Operator) -> None:
    """SIGKILL just before what would complete a thing: the live one is whole, or not there."""
    seen: Seen = {}
    for command in COMMANDS:
        run_killed(operator, seen, before=command)

    outcome = operator.run()
    assert outcome.status == 0, outcome.output
    assert_documents_were_whole(operator, seen)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, OPERATIONS))
def test_killed_after_any_operation_the_next_run_converges(operator: Operator, number: int) -> None:
    """The same on fresh hosts, for every operation: one kill, and the next run ends accepted."""
    seen: Seen = {}
    run_killed(operator, seen, after=number)

    outcome = operator.run()
    assert outcome.status == 0, outcome.output
    assert outcome.last_block.startswith("office: accepted.")
    assert_documents_were_whole(operator, seen)


def run_killed(
    operator: Operator, seen: Seen, *, after: int | None = None, before: str | None = None
) -> Outcome:
    """The rollout until SIGKILL: what it left is in nobody's way, and its documents are noted."""
    outcome = operator.run_killed(after=after, before=before)
    assert outcome.status == -signal.SIGKILL, f"{after or before}: {outcome.output}"
    for host in operator.pairs["office"]:
        assert_nothing_in_the_way(host, after or before)
        collect_documents(host, seen.setdefault(host.name, {}))
    return outcome


def assert_nothing_in_the_way(host: StandIn, when: object) -> None:
    """Nothing keeps other packages' services from starting: no policy, no mask but on Kea's."""
    assert not host.path("/usr/sbin/policy-rc.d").exists(), when
    masked = host.sh("find /etc/systemd/system -lname /dev/null -printf '%f\\n'").split()
    ours = {DHCP4.debian.unit, AGENT.debian.unit}
    assert set(masked) - ours <= {"apt-daily.timer", "apt-daily-upgrade.timer"}, when


def collect_documents(host: StandIn, seen: dict[str, set[str]]) -> None:
    """Note what stands under the live names; what openssl reads must be whole at once."""
    for path in daemons.DOCUMENTS:
        if host.path(path).exists():
            digest = sha256(host.path(path).read_bytes()).hexdigest()
            seen.setdefault(path, set()).add(digest)
    for path in (*layout.HA_FILES, *layout.API_FILES):
        if host.path(path).exists():
            host.sh(f"openssl x509 -in {path} -noout")
    for path in layout.KEYS:
        if host.path(path).exists():
            host.sh(f"openssl pkey -in {path} -noout -passin pass:")


def assert_documents_were_whole(operator: Operator, seen: Seen) -> None:
    """All that ever stood under a live name was the package's document, or ours in full."""
    for host in operator.pairs["office"]:
        for path, digests in seen[host.name].items():
            ours = sha256(host.path(path).read_bytes()).hexdigest()
            packaged = host.sh(
                "dpkg-deb --fsys-tarfile /srv/packages/pool/trixie/"
                f"{'kea-dhcp4-server' if 'dhcp4' in path else 'kea-ctrl-agent'}_*.deb"
                f" | tar -xO .{path} 2>/dev/null | sha256sum | cut -c1-64; true"
            ).strip()
            assert digests <= {ours, packaged}, f"{path} on {host.name} was something else"


def test_a_kill_in_the_middle_of_the_installation_is_mended(operator: Operator) -> None:
    """dpkg goes on without us for a moment; the next run waits for it, or mends it."""
    primary, _ = operator.pairs["office"]
    command = operator.start()
    while not primary.path("/usr/sbin/kea-dhcp4.dpkg-new").exists():
        if command.process.poll() is not None:
            pytest.fail(command.wait().output)
    # The host loses its power, so to speak: dpkg dies as well.
    command.send(signal.SIGKILL)
    primary.kill("apt-get", "dpkg")
    command.wait()
    assert primary.sh("dpkg --audit")

    outcome = operator.run()

    assert outcome.status == 0, outcome.output
    assert primary.sh("dpkg --audit") == ""


@pytest.mark.parametrize("state", ["half-installed", "unpacked"])
def test_a_package_cut_off_while_it_was_unpacked_is_unpacked_again(
    operator: Operator, state: str
) -> None:
    """What dpkg itself calls a very bad inconsistent state, and refuses to configure."""
    primary, _ = operator.pairs["office"]
    # The limit of a file's size ends dpkg, by a signal, in the middle of Kea's program.
    primary.sh(
        "apt-get -q update && cd /srv/packages/pool/trixie && dpkg --unpack kea-common_*.deb;"
        "ulimit -f 300; ! dpkg --unpack kea-dhcp4-server_*.deb"
    )
    # "unpacked" comes a moment later, before the flag is cleared. To configure the rest brings
    # what dpkg has noted so far into its status file.
    primary.sh(
        "dpkg --configure -a;"
        f"sed -i 's/^Status: install reinstreq .*/Status: install reinstreq {state}/'"
        " /var/lib/dpkg/status"
    )
    assert f"reinstreq {state}" in primary.sh("dpkg -s kea-dhcp4-server")

    outcome = operator.run()

    assert outcome.status == 0, outcome.output
    assert primary.sh("dpkg --audit") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_that_the_same_command_continues(
    operator: Operator, number: signal.Signals
) -> None:
    """Ctrl-C is not success: the exit status tells, and so do the last words."""
    command = operator.start_and_hold(after="Write the drop-ins", on="dhcp-a")

    command.send(number)
    outcome = command.wait()

    assert outcome.status == 128 + number
    outcome.must_say(f"office: interrupted ({number.name})")
    outcome.must_say("same command again")
    assert "Traceback" not in outcome.output


def test_the_second_of_two_operators_is_told_who_and_since_when(operator: Operator) -> None:
    """The first goes on undisturbed; the second changes nothing, and may begin afterwards."""
    other = operator.clone("bert", pki=False)
    command = operator.start_and_hold(after="Judge both hosts", on="dhcp-a")

    refused = other.run()

    assert refused.status == 1
    assert re.search(
        r"dhcp-a is being worked on by another run: anna@\S+ \(pid \d+\) "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        refused.last_block,
    )
    refused.must_say("wait for that run to end")
    assert "Traceback" not in refused.output
    command.let_go()
    first = command.wait()
    assert first.status == 0, first.output
