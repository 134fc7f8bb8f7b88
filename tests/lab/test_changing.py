"""A live pair is changed host by host, and its clients do not notice.

The bound on the time between two ACKs is Kea's design, not luck: a server in partner-down holds its
service off until its next heartbeat sees the restarted partner ready, so that no lease is given
that the partner would miss. That is one heartbeat-delay at most; half a second is for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone
from tests.lab.clients import MANY, Served, steady

pytestmark = pytest.mark.timeout(400)

GAP_S = 1.0 + 0.5
MANY_CLIENTS = ("--data", f"subnets={json.dumps(MANY)}", *FAST)


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that serves a large subnet, with a heartbeat of a second."""
    lab = fresh_lab()
    assert operator.deploy(*MANY_CLIENTS).verdict
    return lab


def unnoticed(lab: Lab, served: Served) -> None:
    """No client unserved, no lease lost or given twice, and no longer gap than Kea's own."""
    print(served)
    assert [] == served.unserved
    assert [] == served.given_twice
    assert served.longest_gap <= GAP_S, str(served)
    both_hold(lab, served)


def both_hold(lab: Lab, served: Served) -> None:
    """Each server has every lease that was given."""
    given = {address: mac for mac, address in served.leases.items()}
    for host in HOSTS:
        bench.wait_for(
            f"all leases on {host}",
            lambda host=host: given.items() <= bench.leases(lab, host).items(),
            patience=10,
        )


def test_a_change_of_setting_passes_unnoticed(lab: Lab, operator: Clone) -> None:
    """Standby first, then the primary, each restarted while the other serves; then accepted."""
    before = bench.process_ids(lab)
    with steady(lab) as served:
        outcome = operator.deploy(*MANY_CLIENTS, "--data", "thread_pool_size=2")

    assert outcome.verdict
    assert "setting thread_pool_size: 4 -> 2" in outcome.output
    unnoticed(lab, served)
    after = bench.process_ids(lab)
    changed = {host for (host, unit), pid in after.items() if before[host, unit] != pid}
    assert set(HOSTS) == changed
    for host in HOSTS:
        status = bench.ask_kea(lab, host, "status-get")["arguments"]
        assert 2 == status["thread-pool-size"]
    assert (0, 0) == operator.deploy(*MANY_CLIENTS, "--data", "thread_pool_size=2").totals()[:2]
