"""A firewall that rejects, so that before Kea is there it looks like a closed port.

Step 3 finds it with a listener of its own, before the far host is touched, and the same command
converges once the firewall lets the peers pass.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, Clone

pytestmark = pytest.mark.timeout(400)

TABLE = "inet foreign { chain input { type filter hook input priority 0; %s; }; }"


@pytest.mark.parametrize(
    "way", ["tcp reset", pytest.param("icmp type port-unreachable", marks=pytest.mark.slow)]
)
def test_a_firewall_that_rejects_is_found_before_host_2_is_touched(
    fresh_lab: Callable[..., Lab], operator: Clone, way: str
) -> None:
    """Step 3 fails, with host, port and direction; without the firewall, all is well."""
    lab = fresh_lab()
    rule = f"ip saddr 192.168.1.2 tcp dport 8000 reject with {way}"
    bench.sh(lab, "host-2", f"nft 'table {TABLE % rule}'")

    outcome = operator.deploy(*FAST)

    assert not bench.missing(
        outcome.refusal,
        [
            "Host host-1 Step 3 Verify the link | From host-1 to host-2",
            "cannot reach host-2 (192.168.1.3 port 8000)",
            "let TCP port 8000 pass from host-1 (192.168.1.2) to host-2 (192.168.1.3)",
        ],
    ), outcome.refusal
    assert [] == bench.traces_of_kea(lab, "host-2")
    # The same look finds what there is on host-1.
    assert bench.traces_of_kea(lab, "host-1")
    bench.sh(lab, "host-2", "nft delete table inet foreign")

    assert operator.deploy(*FAST).verdict
    assert bench.get_lease(lab) is not None
