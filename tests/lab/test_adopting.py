"""Taking over from a Kea in service: refused until it is asked for, and then no lease is lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FOREIGN = {
    "Dhcp4": {
        "interfaces-config": {"interfaces": ["enp0s8"]},
        "lease-database": {"type": "memfile"},
        "valid-lifetime": 7200,
        "subnet4": [
            {
                "id": 1,
                "subnet": "192.168.1.0/24",
                "pools": [{"pool": "192.168.1.100 - 192.168.1.199"}],
            }
        ],
        "loggers": [
            {
                "name": "kea-dhcp4",
                "severity": "INFO",
                "output-options": [{"output": "/var/log/kea/kea-dhcp4.log"}],
            }
        ],
    }
}


def test_a_foreign_kea_is_adopted_with_its_leases(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """Without adopt=true nothing happens to it. With it: documents kept, the lease on both."""
    lab = fresh_lab()
    bench.sh(lab, "host-1", "apt-get -q update && apt-get -qy install kea-dhcp4-server 2>&1")
    text = json.dumps(FOREIGN, indent=1)
    bench.give(lab, "host-1", "/etc/kea/kea-dhcp4.conf", text, "644")
    bench.sh(lab, "host-1", "systemctl restart kea-dhcp4-server")
    # Its owner may not read it, and root does not go where another can lead it.
    bench.sh(lab, "host-1", "install -m 600 /dev/null /var/lib/kea/roots-own")
    lease = bench.wait_for(
        "a lease from the foreign Kea",
        lambda: bench.get_lease(lab, mac="02:00:00:00:00:ad", tries=2),
        patience=30,
    )
    before = bench.main_pid(lab, "host-1"), bench.files(lab, "host-1", "/etc/kea /var/lib/kea")

    refused = operator.deploy(*FAST)
    assert not bench.missing(refused.refusal, ["host-1", "--data adopt=true"]), refused.refusal
    after = bench.main_pid(lab, "host-1"), bench.files(lab, "host-1", "/etc/kea /var/lib/kea")
    assert before == after

    assert operator.deploy(*FAST, "--data", "adopt=true").verdict
    kept = bench.sh(lab, "host-1", "cat /var/lib/kea-ha/adopted/etc/kea/kea-dhcp4.conf")
    assert text == kept
    left_out = bench.sh(lab, "host-1", "cat /var/lib/kea-ha/adopted/var/lib/kea.left-out")
    assert left_out.split() == ["/var/lib/kea/roots-own"]
    old = bench.sh(lab, "host-1", "cat /var/lib/kea-ha/adopted/var/lib/kea/kea-leases4.csv*")
    assert "02:00:00:00:00:ad" in old
    for host in HOSTS:
        assert "02:00:00:00:00:ad" == bench.leases(lab, host).get(lease.address), host
    again = bench.get_lease(lab)
    assert again is not None
    assert lease.address == again.address
    # From now on it is ours: nothing has to be asked for any more.
    assert (0, 0) == operator.deploy(*FAST).totals()[:2]
