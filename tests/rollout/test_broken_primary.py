"""The primary broken in each step in turn: the standby stays untouched, the operator is told.

One pair lives through all of it: in each round something else is wrong, a little further on; the
rollout stops there, and with that put right the same command goes on to the next.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rollout.operators import Operator, Outcome
from tests.rollout.world import StandIn

_DROP_INS = "/etc/systemd/system/kea-dhcp4-server.service.d"
# Both pass our own rules: what options and types there are is for Kea to say.
_NO_SUCH_OPTION = {"option-data": [{"name": "no-such-option", "data": "1"}]}
_NO_SUCH_TYPE = {"authentication": {"type": "no-such-type", "clients": []}}
_BROKEN_START = "[Service]\nExecStart=\nExecStart=/bin/false\n"


@dataclass(frozen=True)
class Fault:
    """Something wrong on a host: how it comes and goes, and what the operator must read."""

    what: str
    step: str
    words: tuple[str, ...]
    harm: Callable[[Operator], Any]
    mend: Callable[[Operator], Any]


def _on_primary(script: str) -> Callable[[Operator], Any]:
    return lambda operator: operator.pairs["office"][0].sh(script)


def _on_standby(script: str) -> Callable[[Operator], Any]:
    return lambda operator: operator.pairs["office"][1].sh(script)


def _extra(document: str, value: dict[str, Any]) -> Callable[[Operator], Any]:
    return lambda operator: operator.settings.__setitem__("extra", {document: value})


def _no_extra(operator: Operator) -> None:
    del operator.settings["extra"]


def _reject(number: int) -> Callable[[Operator], Any]:
    """A host rejects its partner as a closed port would, which pre-flight must let pass."""

    def add(operator: Operator) -> None:
        hosts = operator.pairs["office"]
        source = hosts[1 - number].address
        hosts[number].filter(f"ip saddr {source} tcp dport 8000 reject with tcp reset")

    return add


FAULTS = (
    Fault(
        "no place for keys", "0 Identities", ("/etc/kea",),
        _on_primary("touch /etc/kea"), _on_primary("rm /etc/kea"),
    ),
    Fault(
        "apt fails", "1 Install | Install Kea on dhcp-a", ("no space on device",),
        _on_primary("""echo 'DPkg::Pre-Invoke { "echo no space on device >&2; false"; };'"""
                    " > /etc/apt/apt.conf.d/99broken"),
        _on_primary("rm /etc/apt/apt.conf.d/99broken"),
    ),
    Fault(
        "no drop-in can be written", "2 Configure | Write the drop-ins on dhcp-a", (_DROP_INS,),
        _on_primary(f"touch {_DROP_INS}"), _on_primary(f"rm {_DROP_INS}"),
    ),
    Fault(
        "kea-dhcp4.conf is refused by Kea's check",
        "2 Configure | Check and write kea-dhcp4.conf on dhcp-a",
        ("no-such-option", "does not exist", "extra"),
        _extra("Dhcp4", _NO_SUCH_OPTION), _no_extra,
    ),
    Fault(
        "kea-ctrl-agent.conf is refused by Kea's check",
        "2 Configure | Check and write kea-ctrl-agent.conf on dhcp-a",
        ("expecting basic", "extra"),
        _extra("Control-agent", _NO_SUCH_TYPE), _no_extra,
    ),
    Fault(
        "kea-dhcp4 dies at once", "2 Configure | ", ("kea-dhcp4-server.service", "stay up"),
        _on_primary(f"echo '{_BROKEN_START}' > {_DROP_INS}/zz.conf"),
        _on_primary(f"rm {_DROP_INS}/zz.conf"),
    ),
    Fault(
        "the path to the standby's port is rejected", "3 Verify the link",
        ("dhcp-a cannot reach dhcp-b (192.0.2.3 port 8000)", "let TCP port 8000 pass"),
        _reject(1), _on_standby("nft delete table ip foreign"),
    ),
    Fault(
        "the path back is rejected", "4 Verify the opposite direction",
        ("dhcp-b gets no answer from dhcp-a (192.0.2.2 port 8000)", "let TCP port 8000 pass"),
        _reject(0), _on_primary("nft delete table ip foreign"),
    ),
)  # fmt: skip


def assert_stopped(outcome: Outcome, fault: Fault, standby: StandIn) -> None:
    """The one contract of a failed step on the primary."""
    assert outcome.status == 1, f"{fault.what}: {outcome.output}"
    block = outcome.last_block
    assert block.startswith("office: stopped"), f"{fault.what}: {block}"
    assert "  Host  dhcp-a" in block, fault.what
    assert f"  Step  {fault.step}" in block, f"{fault.what}: {block}"
    assert "  Host  dhcp-b" not in block, f"{fault.what}: {block}"
    why, remedy = block.partition("  Why   ")[2].split("  Do    ", 1)
    assert why.strip() and remedy.strip(), fault.what
    for words in fault.words:
        assert words in block, f"{fault.what}: {words!r} is not in: {block}"
    assert "Traceback" not in outcome.output, fault.what
    assert standby.traces_of_kea() == [], fault.what


@pytest.mark.timeout(280)
def test_broken_in_each_step_the_standby_stays_untouched_and_the_same_command_goes_on(
    operator: Operator,
) -> None:
    """Exit status not 0; step, host, reason and remedy in the last block; nothing on dhcp-b."""
    _, standby = operator.pairs["office"]
    for fault in FAULTS:
        fault.harm(operator)
        outcome = operator.run()
        assert_stopped(outcome, fault, standby)
        fault.mend(operator)

    outcome = operator.run()
    assert outcome.status == 0, outcome.output
    assert outcome.last_block.startswith("office: accepted.")


def test_a_document_that_kea_refuses_does_not_replace_the_live_one(operator: Operator) -> None:
    """Settings that pass our rules and not Kea's: its own words, and the service as it was."""
    primary, standby = operator.pairs["office"]
    first = operator.start_and_hold(after="4 Verify the opposite direction", on="dhcp-a")
    live = primary.path("/etc/kea/kea-dhcp4.conf")
    before = (live.stat().st_ino, live.read_bytes())
    pid = primary.main_pid("kea-dhcp4-server.service")
    first.send(signal.SIGKILL)
    first.wait()

    operator.settings["extra"] = {"Dhcp4": _NO_SUCH_OPTION}
    outcome = operator.run()

    assert outcome.status == 1
    outcome.must_say("no-such-option", "does not exist")
    assert before == (live.stat().st_ino, live.read_bytes())
    assert pid == primary.main_pid("kea-dhcp4-server.service")
    assert not live.with_name("kea-dhcp4.conf.new").exists()
    assert standby.traces_of_kea() == []


def test_a_program_that_takes_the_port_meanwhile_is_found(operator: Operator) -> None:
    """Kea's own words say that the address is in use, before the standby is touched."""
    primary, standby = operator.pairs["office"]
    command = operator.start_and_hold(after="Write the drop-ins", on="dhcp-a")
    primary.sh(
        "setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null & "
        "until ss -Hlnt | grep -q :8000; do sleep 0.02; done"
    )
    command.let_go()
    outcome = command.wait()

    assert outcome.status == 1
    outcome.must_say("Address already in use")
    outcome.must_say("  Host  dhcp-a")
    assert standby.traces_of_kea() == []


def test_a_control_agent_that_dies_stops_the_rollout_before_the_standby(operator: Operator) -> None:
    """It belongs to step 2 on the primary; waiting for the acceptance would be too late."""
    primary, standby = operator.pairs["office"]
    primary.write("/etc/systemd/system/kea-ctrl-agent.service.d/zz.conf", _BROKEN_START)

    outcome = operator.run()

    assert outcome.status == 1
    outcome.must_say("kea-ctrl-agent")
    outcome.must_say("  Step  2 Configure")
    assert standby.traces_of_kea() == []
