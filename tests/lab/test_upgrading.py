"""A live pair goes from Debian 13's Kea 2.6.3 to its backports' 3.0, and clients do not notice.

Each test begins with a pair of its own: packages are not put back.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import HOSTS, UNITS, Clone
from tests.lab.clients import steady
from tests.lab.test_changing import MANY_CLIENTS, both_hold, unnoticed

pytestmark = pytest.mark.timeout(400)

UPGRADE = ("-y", "inventory.py", "runbook/upgrade.py", *MANY_CLIENTS)
BACKPORTS = ("--data", "package_source=backports")


@pytest.fixture
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that serves a large subnet with Kea 2.6.3."""
    lab = fresh_lab()
    assert operator.deploy(*MANY_CLIENTS).verdict
    assert {"2.6.3"} == {version(lab, host) for host in HOSTS}
    return lab


def version(lab: Lab, host: str) -> str:
    """The version of the Kea that runs, by its own account."""
    return str(bench.ask_kea(lab, host, "version-get")["text"])


def test_both_are_upgraded_unnoticed(lab: Lab, operator: Clone) -> None:
    """Standby first; nothing of it happens without the word, and a second run changes nothing."""
    same = operator.run(*UPGRADE)
    assert same.verdict
    assert "nothing to upgrade" in same.last_block
    assert (0, 0) == same.totals()[:2]

    with steady(lab) as served:
        outcome = operator.run(*UPGRADE, *BACKPORTS)

    assert outcome.verdict
    assert outcome.output.index("host-2 runs Kea 3.0") < outcome.output.index("host-1 runs Kea 3.0")
    unnoticed(lab, served)
    assert {"3.0.3"} == {version(lab, host) for host in HOSTS}
    assert (0, 0) == operator.run(*UPGRADE, *BACKPORTS).totals()[:2]
    assert (0, 0) == operator.deploy(*MANY_CLIENTS, *BACKPORTS).totals()[:2]
    for host in HOSTS:
        kept = bench.sh(lab, host, "cat /var/lib/kea-ha/leases-of-2.6.3*/kea-leases4.csv*")
        assert "192.168." in kept


@pytest.mark.slow
def test_the_second_is_left_alone_when_the_first_does_not_come_back(
    lab: Lab, operator: Clone
) -> None:
    """The old server serves on; when it is mended, the same command ends with both upgraded."""
    bench.give(
        lab,
        "host-2",
        f"/etc/systemd/system/{UNITS[0]}.d/zz-fault.conf",
        "[Service]\nExecStartPre=/bin/sh -c '! kea-dhcp4 -v | grep -q ^3'\n",
        "644",
    )
    with steady(lab) as served:
        outcome = operator.run(*UPGRADE, *BACKPORTS)
    print(served)

    assert "host-2 is not back" in outcome.refusal
    assert "lients are served by host-1" in outcome.refusal
    assert "2.6.3" == version(lab, "host-1")
    assert [] == served.unserved
    assert [] == served.given_twice
    refused = operator.deploy(*MANY_CLIENTS).refusal
    assert "runbook/upgrade.py" in refused

    bench.sh(
        lab,
        "host-2",
        f"rm /etc/systemd/system/{UNITS[0]}.d/zz-fault.conf; systemctl daemon-reload",
    )
    assert operator.run(*UPGRADE, *BACKPORTS).verdict
    assert {"3.0.3"} == {version(lab, host) for host in HOSTS}
    both_hold(lab, served)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        "fetching Kea 3.0.*",
        "host-2 steps down",
        "upgrading host-2",
        "host-2 runs Kea 3.0",
        "upgrading host-1",
    ],
)
def test_an_operator_killed_during_the_upgrade_only_runs_again(
    lab: Lab, operator: Clone, stage: str
) -> None:
    """Whatever apt was doing at that moment."""
    with steady(lab) as served:
        running = operator.start(*UPGRADE, *BACKPORTS)
        running.wait_for(stage)
        running.kill()
        outcome = operator.run(*UPGRADE, *BACKPORTS)

    assert outcome.verdict
    unnoticed(lab, served)
    assert {"3.0.3"} == {version(lab, host) for host in HOSTS}
