"""The drill makes failures happen and measures them; its bounds come from the settings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kea_ha.decide import drill_scenarios
from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, UNITS, Clone, Outcome
from tests.lab.watching import ack_times, capture

pytestmark = pytest.mark.timeout(400)

DRILL = ("-y", "inventory.py", "runbook/drill.py")


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """The documented pair, with the failure detection of a LAN."""
    lab = fresh_lab()
    assert operator.deploy(*FAST).verdict
    return lab


def drill(operator: Clone, *names: str, settings: tuple[str, ...] = FAST) -> Outcome:
    """Go through these scenarios."""
    return operator.run(*DRILL, *settings, "--data", f"scenario={','.join(names)}", timeout=380)


def newest(operator: Clone) -> list[dict[str, Any]]:
    """What the last drill measured, scenario by scenario."""
    files = sorted((operator.directory / "reports").glob("drill-*.json"))
    scenarios: list[dict[str, Any]] = json.loads(files[-1].read_text())["scenarios"]
    return scenarios


def held(lab: Lab) -> list[str]:
    """The addresses that clients hold; Kea ends a released lease, and keeps it for its client."""
    told = [bench.ask_kea(lab, host, "lease4-get-all").get("arguments", {}) for host in HOSTS]
    found = [lease for one in told for lease in one.get("leases", ())]
    return [one["ip-address"] for one in found if one["state"] == 0 and one["valid-lft"]]


def test_the_primary_is_killed_and_the_wire_agrees(
    lab: Lab, operator: Clone, scratch: Path
) -> None:
    """At most 5 s with the fast profile, nothing lost; tcpdump saw the same outage."""
    with capture(lab, "client", scratch / "wire", "udp src port 67"):
        outcome = drill(operator, "primary-killed")
    assert outcome.status == 0, outcome.output
    assert "lab: drilled: primary-killed passed" in outcome.last_block
    (scenario,) = newest(operator)
    print(scenario["figures"])
    assert scenario["passed"]
    assert scenario["figures"]["longest_gap_s"] <= 5
    assert scenario["figures"]["leases_lost"] == scenario["figures"]["given_twice"] == 0
    assert {"host-1", "host-2"} == {name for name, acks in scenario["acks"].items() if acks}
    # The leases were the drill's own, and are given back.
    bench.wait_for("the leases to be released", lambda: not held(lab))
    times = ack_times(scratch / "wire")
    wire = max(later - earlier for earlier, later in itertools.pairwise(times))
    assert wire == pytest.approx(scenario["figures"]["longest_gap_s"], abs=0.2)
    assert operator.verify(*FAST).verdict


def test_the_standby_is_killed(lab: Lab, operator: Clone) -> None:
    """The primary holds ACKs back until its partner counts as down: 5 s at most."""
    outcome = drill(operator, "standby-killed")
    assert outcome.status == 0, outcome.output
    (scenario,) = newest(operator)
    print(scenario["figures"])
    assert scenario["figures"]["longest_gap_s"] <= 5
    assert ["partner-down"] == [name for _, name in scenario["states"]["host-1"]][1:2]


#: What each of the other scenarios brings about: by host, HA states that it goes through.
BRINGS = {
    "primary-back": {"host-1": ("hot-standby",), "host-2": ("hot-standby",)},
    "primary-powered-off": {"host-1": ("no answer",), "host-2": ("partner-down",)},
    "host-isolated": {"host-1": ("partner-down",), "host-2": ("partner-down",)},
    "link-cut": {"host-1": ("partner-down",), "host-2": ("partner-down",)},
    "flapping": {"host-1": (), "host-2": ()},
    "slow-link": {"host-1": (), "host-2": ()},
    "both-down-together": {"host-1": ("no answer",), "host-2": ("no answer",)},
    "certificate-expired": {"host-1": ("partner-down",), "host-2": ("partner-down",)},
    "clock-drift": {"host-1": ("terminated",), "host-2": ()},
}


def test_every_scenario_has_its_test() -> None:
    assert set(BRINGS) | {"primary-killed", "standby-killed"} == set(drill_scenarios.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BRINGS)
def test_a_scenario_is_as_good_as_the_settings_imply(lab: Lab, operator: Clone, name: str) -> None:
    """What fails does fail, nothing is lost, no address given twice, and nothing is left behind.

    The bounds on the figures are the drill's own, from the settings: not kept, it does not pass.
    """
    held_before = [bench.sh(lab, host, "cat /etc/kea/tls/ha.crt") for host in HOSTS]
    outcome = drill(operator, name)
    assert outcome.status == 0, outcome.output
    (scenario,) = newest(operator)
    print(scenario["name"], scenario["figures"], scenario["implied"])
    assert scenario["passed"]
    most_s = scenario["implied"]["longest_gap_s"]
    assert most_s is not None
    assert scenario["figures"]["longest_gap_s"] <= most_s + drill_scenarios.MARGIN_S
    for host, states in BRINGS[name].items():
        seen = [state for _, state in scenario["states"][host][1:]]
        assert set(states) <= set(seen), scenario["states"]
        assert states or "partner-down" not in seen, scenario["states"]
    for host in HOSTS:
        assert "kea_ha_drill" not in bench.sh(lab, host, "nft list ruleset")
        assert "tbf" not in bench.sh(lab, host, "tc qdisc show")
        assert "" == bench.sh(
            lab, host, "find /run/systemd /run -maxdepth 3 -name '*kea-ha-drill*'"
        )
    assert held_before == [bench.sh(lab, host, "cat /etc/kea/tls/ha.crt") for host in HOSTS]
    operator.await_verdict(*FAST)


@pytest.mark.slow
def test_a_standby_that_waits_for_too_many_clients_fails_the_drill(
    lab: Lab, operator: Clone
) -> None:
    """It ends with a status that is not 0, and names the setting; the pair is put back."""
    patient = (*FAST, "--data", "max_unacked_clients=1000")
    assert operator.deploy(*patient).verdict
    outcome = drill(operator, "primary-killed", settings=patient)
    assert "host-2 did not take over: max_unacked_clients is 1000" in outcome.refusal
    operator.await_verdict(*patient)
    assert operator.deploy(*FAST).verdict


@pytest.mark.slow
def test_a_broken_pair_is_not_drilled_and_says_why(lab: Lab, operator: Clone) -> None:
    """Lease updates switched off by hand, and a standby that trusts another CA."""
    bench.sh(
        lab,
        "host-2",
        'sed -i \'s/"send-lease-updates": true/"send-lease-updates": false/\' '
        f"/etc/kea/kea-dhcp4.conf; systemctl restart {UNITS[0]}",
    )
    before = bench.main_pid(lab, "host-1")
    assert "send-lease-updates: false -> true" in drill(operator, "primary-killed").refusal
    assert before == bench.main_pid(lab, "host-1")
    assert operator.deploy(*FAST, "--data", "force=true").verdict

    bench.sh(
        lab,
        "host-2",
        "cp -a /etc/kea/tls/ha-ca.crt /root/; cp /etc/kea/tls/api-ca.crt /etc/kea/tls/ha-ca.crt; "
        f"systemctl restart {UNITS[0]}",
    )
    before = bench.main_pid(lab, "host-1")
    assert "CA" in drill(operator, "primary-killed").refusal
    assert before == bench.main_pid(lab, "host-1")
    bench.sh(lab, "host-2", f"cp -a /root/ha-ca.crt /etc/kea/tls/; systemctl restart {UNITS[0]}")
    operator.await_verdict(*FAST)


def test_a_drill_that_was_killed_is_put_back_by_the_hosts_own_timer(
    lab: Lab, operator: Clone
) -> None:
    """It is armed before anything is broken; what it will run is run here at once."""
    running = operator.start(*DRILL, *FAST)
    running.wait_for(r"\[host-1\] +kea-dhcp4 on the primary is killed")
    running.kill()
    assert not bench.is_active(lab, "host-1")
    armed = json.loads(bench.sh(lab, "host-1", "systemctl list-timers -o json kea-ha-drill.timer"))
    assert ["kea-ha-drill.timer"] == [one["unit"] for one in armed]
    bench.sh(lab, "host-1", "systemctl start kea-ha-drill.service")
    operator.await_verdict(*FAST, patience=90)
    bench.sh(lab, "host-1", "systemctl stop kea-ha-drill.timer")
    # Its clients end by themselves, too; here they are told to.
    bench.sh(lab, "client", "touch /run/kea-ha-drill/stop /run/kea-ha-drill/release")


@pytest.mark.slow
def test_what_a_killed_drill_has_left_does_not_start_a_server_that_is_out(
    lab: Lab, operator: Clone
) -> None:
    """Taken out for maintenance, it stays down: its timer has done its work, and is gone."""
    running = operator.start(*DRILL, *FAST, "--data", "scenario=slow-link")
    running.wait_for(r"\[host-1\] +the standby's card is limited")
    running.kill()
    assert "tbf" in bench.sh(lab, "host-2", "tc qdisc show")
    bench.sh(lab, "client", "touch /run/kea-ha-drill/stop /run/kea-ha-drill/release")
    maintain = ("-y", "inventory.py", "runbook/maintain.py", *FAST, "--data", "host=host-2")
    assert "out for maintenance" in operator.run(*maintain).last_block
    assert "" == bench.sh(lab, "host-2", "systemctl list-timers -q --no-pager kea-ha-drill.timer")
    assert "tbf" not in bench.sh(lab, "host-2", "tc qdisc show")
    assert not bench.is_active(lab, "host-2")
    assert operator.run(*maintain, "--data", "done=true").verdict


@pytest.mark.slow
def test_after_a_scenario_that_left_the_pair_damaged_no_other_is_gone_through(
    lab: Lab, operator: Clone
) -> None:
    """The standby never comes back: said, with a report of what was done, and a status not 0."""
    place = f"/run/systemd/system/{UNITS[0]}.d"
    fault = f"mkdir -p {place}; printf '[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n'"
    bench.sh(lab, "host-2", f"{fault} > {place}/zzz.conf; systemctl daemon-reload")
    outcome = drill(operator, "standby-killed", "primary-killed")
    assert "standby-killed: the pair was not healthy again in time" in outcome.refusal
    assert "primary-killed: not gone through, since the pair was damaged" in outcome.refusal
    assert ["standby-killed"] == [one["name"] for one in newest(operator)]
    assert bench.is_active(lab, "host-1")
    bench.sh(
        lab,
        "host-2",
        f"rm {place}/zzz.conf; systemctl daemon-reload; systemctl restart {UNITS[0]}",
    )
    operator.await_verdict(*FAST, patience=60)


def test_a_scenario_that_does_not_exist_is_refused(lab: Lab, operator: Clone) -> None:
    outcome = drill(operator, "primary-kiled")
    assert outcome.status == 1
    assert "primary-kiled" in outcome.output and "standby-killed" in outcome.output


@pytest.mark.slow
def test_with_the_documented_values_a_failover_takes_a_minute(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """What the template's values cost, measured beside what they imply."""
    fresh_lab()
    assert operator.deploy().verdict
    outcome = drill(operator, "primary-killed", "standby-killed", settings=())
    print(outcome.last_block)
    for scenario in newest(operator):
        print(scenario["name"], scenario["figures"])
        assert scenario["figures"]["longest_gap_s"] > 40
        assert scenario["figures"]["leases_lost"] == 0
    assert outcome.status == 0, outcome.output


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["12", "testing"])
def test_other_keas(fresh_lab: Callable[..., Lab], tmp_path: Path, debian: str) -> None:
    """Kea 2.2.0 and 3.0."""
    fresh_lab(debian)
    operator = Clone(tmp_path / "anna")
    assert operator.deploy(*FAST).verdict
    outcome = drill(operator, "primary-killed", "standby-killed")
    assert outcome.status == 0, outcome.output
    for scenario in newest(operator):
        print(scenario["name"], scenario["figures"])
        assert scenario["figures"]["longest_gap_s"] <= 5
