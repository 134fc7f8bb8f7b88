"""Refused before anything is changed: bad settings, unreachable hosts, what is there already."""

from __future__ import annotations

import json

import pytest

from tests.rollout.operators import Operator
from tests.rollout.world import StandIn


def _before(operator: Operator) -> list[dict[str, str]]:
    return [host.snapshot() for host in operator.pairs["office"]]


def test_bad_settings_and_options_are_refused_before_any_host_is_contacted(
    operator: Operator,
) -> None:
    """Each names the setting, the value, what is allowed and the remedy; all at once."""
    cases: list[tuple[list[str], list[str]]] = [
        (["--data", "heartbeat_delay=7000"], ["max_response_delay", "14000"]),
        (["--data", "no_such_setting=1"], ["no_such_setting"]),
        (["--data", "ca_port=8000"], ["ca_port", "8000"]),
        (["--data", 'control_channel="telnet"'], ["control_channel", "telnet", "agent"]),
        (["--data", "thread_pool_size=-1", "--data", "rebind_timer=1"],
         ["thread_pool_size", "-1", "rebind_timer", "2 problems"]),
        (["--limit", "nosuch"], ["nosuch", "dhcp-a", "dhcp-b"]),
        (["--limit", "dhcp-a", "--limit", "typo"], ["typo"]),
        (["--serial"], ["--serial", "order"]),
        (["--no-wait"], ["--no-wait"]),
    ]  # fmt: skip
    for arguments, words in cases:
        outcome = operator.run("-y", "inventory.py", "deploy.py", *arguments)

        assert outcome.status == 1, arguments
        assert outcome.record == (), arguments
        for word in words:
            assert word in outcome.output, f"{arguments}: {outcome.output}"
        assert "No host was contacted" in outcome.output
        assert "Traceback" not in outcome.output


def test_without_yes_and_without_a_terminal_one_sentence_says_so(operator: Operator) -> None:
    """pyinfra alone would end in a traceback, after having contacted the hosts."""
    outcome = operator.run("inventory.py", "deploy.py")

    assert outcome.status == 1
    assert "pyinfra -y inventory.py deploy.py" in outcome.output
    assert outcome.record == ()
    assert "Traceback" not in outcome.output


def test_a_dry_run_on_fresh_hosts_changes_nothing_and_lists_what_would(operator: Operator) -> None:
    """Not even the CA is made; the steps that would change something are listed."""
    before = _before(operator)

    outcome = operator.run("--dry", "inventory.py", "deploy.py")

    assert outcome.status == 0, outcome.output
    assert before == _before(operator)
    assert not (operator.directory / "pki").exists()
    for step in ("Mark the rollout", "Install Kea on dhcp-a", "Install Kea on dhcp-b"):
        assert step in outcome.output
    assert "Traceback" not in outcome.output


def _hold_port(host: StandIn, port: int) -> None:
    host.sh(
        f"setsid python3 -m http.server {port} >/dev/null 2>&1 </dev/null & "
        f"until ss -Hlnt | grep -q :{port}; do sleep 0.02; done"
    )


def test_everything_that_stands_against_a_rollout_is_said_at_once(operator: Operator) -> None:
    """One host off, and on the other a taken port, another DHCP server and few CPUs."""
    primary, _ = operator.pairs["office"]
    operator.off = {"dhcp-b"}
    _hold_port(primary, 8001)
    primary.write("/srv/standin/dhcp-servers", "eth0: offered 192.0.2.99 from 192.0.2.1\n")
    before = _before(operator)

    outcome = operator.run()

    assert outcome.status == 1
    outcome.must_say(
        "dhcp-b", "ssh", "8001/tcp", "python3", "another DHCP server answers: 192.0.2.1"
    )
    assert before == _before(operator)
    assert "Traceback" not in outcome.output


def test_a_pair_that_is_off_altogether_is_still_spoken_of(operator: Operator) -> None:
    """With no host left pyinfra runs nothing of ours; the last block is there all the same."""
    operator.off = {"dhcp-a", "dhcp-b"}

    outcome = operator.run()

    assert outcome.status == 1
    assert outcome.last_block.startswith("office: stopped")
    outcome.must_say("dhcp-a")
    outcome.must_say("dhcp-b")
    outcome.must_say("ssh")
    assert "Traceback" not in outcome.output


def test_a_probe_that_cannot_decide_is_a_refusal(operator: Operator) -> None:
    """Whether another DHCP server answers must be known."""
    primary, _ = operator.pairs["office"]
    primary.write("/srv/standin/dhcp-broken", "")

    outcome = operator.run()

    assert outcome.status == 1
    outcome.must_say("could not be asked")
    outcome.must_say("could not bind")


@pytest.mark.parametrize("direction", ["out of dhcp-a", "out of dhcp-b"])
def test_a_firewall_that_drops_the_path_is_named_with_its_direction(
    operator: Operator, direction: str
) -> None:
    """Host, port and direction; neither host is touched."""
    source, target = operator.pairs["office"]
    if direction.endswith("b"):
        source, target = target, source
    target.filter(f"ip saddr {source.address} tcp dport 8000 drop")
    before = _before(operator)

    outcome = operator.run()

    assert outcome.status == 1
    outcome.must_say(f"{source.name}: path to {target.name} ({target.address} port 8000)")
    assert f"{target.name}: path to" not in outcome.last_block
    outcome.must_say("dropped")
    assert before == _before(operator)


def test_limit_does_the_steps_of_that_host_alone(operator: Operator) -> None:
    """The other is not contacted; the acceptance is skipped, and the whole run continues later."""
    outcome = operator.run("-y", "inventory.py", "deploy.py", "--limit", "dhcp-a")

    assert outcome.status == 0, outcome.output
    assert outcome.contacted == {"dhcp-a"}
    outcome.must_say("was not accepted, since --limit leaves dhcp-b out")
    assert operator.pairs["office"][1].traces_of_kea() == []

    whole = operator.run()
    assert whole.status == 0, whole.output
    assert whole.last_block.startswith("office: accepted.")


def test_a_kea_that_is_not_ours_is_refused_and_can_be_adopted(operator: Operator) -> None:
    """Refused by name; with adopt=true its documents are kept and its leases are carried on."""
    primary, _ = operator.pairs["office"]
    old = json.dumps({"Dhcp4": {"interfaces-config": {"interfaces": []}, "valid-lifetime": 77}})
    lease = "192.0.2.150,02:00:00:00:00:01,,43200,1900000000,1,0,0,old,0,,0\n"
    primary.sh("apt-get -qq update && apt-get -qq -y install kea-dhcp4-server >/dev/null 2>&1")
    primary.sh("systemctl stop kea-dhcp4-server.service")
    primary.write("/etc/kea/kea-dhcp4.conf", old)
    primary.sh("systemctl start kea-dhcp4-server.service")
    leases = primary.path("/var/lib/kea/kea-leases4.csv")
    primary.sh("until [ -s /var/lib/kea/kea-leases4.csv ]; do sleep 0.05; done")
    leases.write_text(leases.read_text() + lease)
    before = _before(operator)

    refused = operator.run()

    assert refused.status == 1
    refused.must_say("kea-dhcp4-server, which this project did not set up")
    refused.must_say("--data adopt=true")
    assert before == _before(operator)

    adopted = operator.run("-y", "inventory.py", "deploy.py", "--data", "adopt=true")

    assert adopted.status == 0, adopted.output
    assert old == primary.path("/var/lib/kea-ha/adopted/etc/kea/kea-dhcp4.conf").read_text()
    assert "192.0.2.150" in primary.sh(
        'echo \'{"command":"lease4-get-all"}\' |'
        " curl -sS --unix-socket /run/kea/kea4-ctrl-socket telnet://kea/"
    )
