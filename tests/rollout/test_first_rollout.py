"""A first rollout on fresh hosts, and the run after it."""

from __future__ import annotations

import itertools
import re

from kea_ha import layout
from kea_ha.host.daemons import DHCP4
from tests.rollout.conftest import Accepted, state_of
from tests.rollout.operators import Operator, Outcome


def test_a_first_rollout_ends_with_the_verdict_in_words(accepted: Accepted) -> None:
    """Exit status 0, and the last block says who serves, who stands by, and how safely."""
    assert accepted.first.status == 0
    assert re.match(
        r"office: accepted\. dhcp-a serves 192\.0\.2\.0/24, dhcp-b stands by, in touch \d s ago, "
        r"TLS 1\.3, certificates valid for 36[45] days",
        accepted.first.last_block,
    )


# What must be seen in the commands themselves, host by host: what is done there, and a piece of
# the command that does it.
_ON_EACH_HOST = (
    ("install", "apt-get .* install kea-dhcp4-server"),
    ("close the directories", "dpkg-statoverride .*/etc/kea"),
    ("write the drop-ins", r"mv -f /etc/systemd/system/kea-dhcp4-server\.service\.d/"),
    ("check kea-dhcp4.conf", r"runuser -u _kea -- kea-dhcp4 -t"),
    ("put kea-dhcp4.conf in place", r"mv -f /etc/kea/kea-dhcp4\.conf\.new"),
    ("check kea-ctrl-agent.conf", r"runuser -u _kea -- kea-ctrl-agent -t"),
    ("put kea-ctrl-agent.conf in place", r"mv -f /etc/kea/kea-ctrl-agent\.conf\.new"),
    ("start kea-dhcp4", r"systemctl restart kea-dhcp4-server"),
    ("start the agent", r"systemctl restart kea-ctrl-agent"),
)


def _first_and_last(outcome: Outcome, host: str, pattern: str) -> tuple[float, float]:
    times = [
        entry.time
        for entry in outcome.record
        if (entry.host, entry.what) == (host, "command") and re.search(pattern, entry.text, re.S)
    ]
    assert times, f"nothing on {host} matches {pattern}"
    return times[0], times[-1]


def test_the_commands_come_in_the_documented_order(accepted: Accepted) -> None:
    """Both hosts' identities, then all of the primary's steps 1 to 4, then all of the standby's."""
    moments = []
    for host in ("dhcp-a", "dhcp-b"):
        moments.append(
            (f"{host}: identity", _first_and_last(accepted.first, host, "openssl req -new"))
        )
    for host, partner in (("dhcp-a", "dhcp-b"), ("dhcp-b", "dhcp-a")):
        moments += [
            (f"{host}: {what}", _first_and_last(accepted.first, host, pattern))
            for what, pattern in _ON_EACH_HOST
        ]
        if host == "dhcp-a":
            moments.append(
                ("the path to dhcp-b", _first_and_last(accepted.first, partner, "openssl s_server"))
            )
    # The two identities are made side by side.
    for (before, (_, last)), (after, (first, _)) in itertools.pairwise(moments[1:]):
        assert last < first, f"{before} came after {after}"


def test_installed_is_not_started(operator: Operator) -> None:
    """No daemon runs on the packaged example, not even for a moment: nothing of it is logged."""
    primary, _ = operator.pairs["office"]
    command = operator.start_and_hold(after="Close Kea's directories", on="dhcp-a")

    assert primary.path("/usr/sbin/kea-dhcp4").exists()
    assert 0 == primary.main_pid(DHCP4.debian.unit)
    assert not primary.path(layout.LOG).exists()
    assert primary.sh("ss -Hlntu | grep -E ':(67|8000|8001) '; true") == ""
    command.let_go()
    assert command.wait().status == 0
    assert primary.path(layout.LOG).exists()


def test_the_standby_is_untouched_until_the_primary_is_done(operator: Operator) -> None:
    """No package, unit, port or document of Kea there: identities and what makes them alone."""
    primary, standby = operator.pairs["office"]

    command = operator.start_and_hold(after="4 Verify the opposite direction", on="dhcp-a")

    assert primary.main_pid(DHCP4.debian.unit)
    assert standby.traces_of_kea() == []
    assert sorted(p.name for p in standby.path("/etc/kea").iterdir()) == ["tls"]
    command.let_go()
    assert command.wait().status == 0
    # The same look finds what it looks for.
    assert len(standby.traces_of_kea()) > 8


def test_a_second_run_changes_nothing(accepted: Accepted) -> None:
    """pyinfra's totals show 0 changed; same processes, same files; the verdict is said again."""
    before = [state_of(host) for host in accepted.operator.pairs["office"]]

    again = accepted.operator.run()

    assert again.status == 0
    changed, errors, unchanged = again.totals()
    assert (0, 0) == (changed, errors)
    assert unchanged > 50
    assert "office: accepted. dhcp-a serves" in again.last_block
    assert before == [state_of(host) for host in accepted.operator.pairs["office"]]


def test_the_primary_may_be_named_second_and_be_called_anything(operator: Operator) -> None:
    """Order follows the role, not the name or its place in the inventory."""
    first, second = operator.pairs["office"]
    operator.pairs = {"office": (second, first)}  # dhcp-b is the primary now

    outcome = operator.run("-y", "inventory.py", "deploy.py")

    assert outcome.status == 0
    assert outcome.last_block.startswith("office: accepted. dhcp-b serves")
    _, done = _first_and_last(outcome, "dhcp-b", "systemctl restart kea-ctrl-agent")
    begun, _ = _first_and_last(outcome, "dhcp-a", "install kea-dhcp4-server")
    assert done < begun
