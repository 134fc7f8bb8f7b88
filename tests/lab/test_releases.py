"""Each release of Kea that is supported rolls out, serves, and is left alone by the second run.

Debian 12 stands for them in the short run; the others, and the other two ways to manage Kea, are
part of the full matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab import bench, identities
from tests.lab.bench import DEPLOY, FAST, HOSTS, UNITS, Clone

pytestmark = pytest.mark.timeout(600)


def _rolls_out(lab: Lab, operator: Clone, version: str, *settings: str) -> str:
    """The whole promise for one release; gives the verdict."""
    first = operator.deploy(*FAST, *settings)
    assert first.verdict
    for host in HOSTS:
        assert bench.sh(lab, host, "kea-dhcp4 -v").startswith(version)
    lease = bench.get_lease(lab)
    assert lease is not None
    assert ("192.168.1.1", "192.168.1.2") == (lease.router, lease.server)
    for host in HOSTS:
        bench.wait_for(
            f"the lease on {host}",
            lambda host=host: lease.address in bench.leases(lab, host),
            patience=5,
        )
        found = bench.sh(lab, host, "find /etc/kea /var/lib/kea /var/log/kea /run/kea -perm /007")
        assert "" == found
        assert "750\n" == bench.sh(lab, host, "stat -c %a /run/kea")
    again = operator.deploy(*FAST, *settings)
    assert again.verdict
    assert (0, 0) == again.totals()[:2]
    return first.last_block


def test_debian_12_with_kea_2_2(fresh_lab: Callable[..., Lab], operator: Clone) -> None:
    """Its Kea has crashes that Debian will not mend there: that is said, by number."""
    said = _rolls_out(fresh_lab("12"), operator, "2.2.0")

    assert "CVE-2026-3608" in said


@pytest.mark.slow
def test_debian_testing_with_kea_3_0(fresh_lab: Callable[..., Lab], operator: Clone) -> None:
    """By its codename forky."""
    _rolls_out(fresh_lab("testing"), operator, "3.0.4")


@pytest.mark.slow
def test_debian_13_with_kea_3_0_from_backports(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """package_source=backports, on both hosts."""
    _rolls_out(fresh_lab(), operator, "3.0.3", "--data", "package_source=backports")


@pytest.mark.slow
def test_direct_is_answered_by_kea_itself_and_only_to_api_clients(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """control_channel=direct on Kea 3.0: no agent runs, 8001 is kea-dhcp4's, mutual TLS alone."""
    lab = fresh_lab("testing")
    _rolls_out(lab, operator, "3.0.4", "--data", "control_channel=direct")

    store = Store.open(operator.pki, "lab")
    trust = identities.hand_over_anchor(lab, "client", "api-ca", store.api.trusted)
    right = identities.hand_over(lab, "client", "api", identities.api_client(store))
    peer = identities.throwaway_peer(store, operator.directory)
    wrong = identities.hand_over(lab, "client", "peer", peer)
    for host, address in HOSTS.items():
        assert not bench.is_active(lab, host, UNITS[1])
        assert "kea-dhcp4" in bench.sh(lab, host, "ss -Hlntp 'sport = 8001'")
        url, asked = f"https://{address}:8001/", {"command": "status-get"}
        assert bench.request(lab, "client", url, *right, *trust, command=asked).answered
        assert bench.request(lab, "client", url, *wrong, *trust, command=asked).refused
        assert bench.request(lab, "client", url, *trust, command=asked).refused
        assert bench.request(lab, "client", f"http://{address}:8001/", command=asked).refused


def test_direct_is_refused_before_kea_3_0(fresh_lab: Callable[..., Lab], operator: Clone) -> None:
    """Debian 13's Kea cannot: said in pre-flight, with what can be had instead."""
    lab = fresh_lab()
    before = {host: bench.touched(lab, host) for host in HOSTS}

    outcome = operator.deploy("--data", "control_channel=direct")

    assert not bench.missing(outcome.refusal, ["0 Pre-flight", "control_channel", "direct"])
    assert before == {host: bench.touched(lab, host) for host in HOSTS}


@pytest.mark.slow
def test_none_listens_nowhere_and_an_agent_left_from_before_is_stopped(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """A rollout with the agent is given up on its way; the one with `none` ends the agent.

    What it would have served API clients with goes with its CA.
    """
    lab = fresh_lab()
    # With the documented values it is a minute before host-1 serves alone, and counts as live.
    running = operator.start(*DEPLOY)
    running.wait_for(r"3 Verify the link \| From host-1")
    running.kill()
    assert bench.is_active(lab, "host-1", UNITS[1])

    settings = ("--data", "control_channel=none")
    assert operator.deploy(*settings).verdict

    for host in HOSTS:
        assert not bench.is_active(lab, host, UNITS[1])
        enabled = lab.exec(host, ["systemctl", "is-enabled", "--quiet", UNITS[1]], check=False)
        assert enabled.returncode != 0
        assert "" == bench.sh(lab, host, "ss -Hlnt 'sport = 8001'")
        assert "" != bench.sh(lab, host, "ss -Hlnt 'sport = 8000'")
    assert bench.get_lease(lab) is not None
    assert (0, 0) == operator.deploy(*settings).totals()[:2]

    rotate = ("-y", "inventory.py", "runbook/rotate.py", *FAST, *settings)
    assert operator.deploy(*FAST, *settings).verdict
    assert operator.run(*rotate, "--data", "ca=true", timeout=360).verdict
    for host in HOSTS:
        assert "ha-ca.crt ha.crt ha.key" == bench.sh(lab, host, "cd /etc/kea/tls; echo *").strip()
    assert (0, 0) == operator.deploy(*FAST, *settings).totals()[:2]
    assert operator.deploy(*FAST).verdict
