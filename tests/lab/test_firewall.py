"""firewall=nftables: 8000 for the partner, 8001 for administrators, and nothing else is touched.

A connection is tried from where it must work and from where it must not, with the same program.
The host has rules of its own before the rollout, which are there afterwards, to the letter.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab import bench, identities
from tests.lab.bench import DEPLOY, FAST, HOSTS, Clone

pytestmark = pytest.mark.timeout(400)

SETTINGS = (*FAST, "--data", "firewall=nftables", "--data", 'admin_networks=["192.168.1.10/32"]')
OWN_RULES = "table inet own { chain input { type filter hook input priority 10; counter; }; }"


def connects(lab: Lab, machine: str, address: str, port: int, *, source: str = "") -> bool:
    """Whether a TCP connection comes about within a second."""
    script = (
        f"import socket, sys\nsocket.create_connection(({address!r}, {port}), 1, ({source!r}, 0))"
    )
    return lab.exec(machine, ["python3", "-c", script], check=False).returncode == 0


def own_rules(lab: Lab, host: str) -> str:
    """Every table of the host's but ours, without what counts packets."""
    return bench.sh(lab, host, "nft -s list ruleset inet; nft -s list ruleset ip").partition(
        "table inet kea_ha"
    )[0]


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair rolled out with the firewall, on hosts that had rules of their own."""
    lab = fresh_lab()
    for host in HOSTS:
        bench.sh(lab, host, f"nft '{OWN_RULES}'")
    bench.sh(lab, "client", "ip address add 192.168.1.11/24 dev enp0s8")
    assert operator.deploy(*SETTINGS).verdict
    return lab


def _promises(lab: Lab) -> None:
    for host, address in HOSTS.items():
        partner = next(name for name in HOSTS if name != host)
        assert connects(lab, partner, address, 8000), host
        assert not connects(lab, "client", address, 8000), host
        assert connects(lab, "client", address, 8001, source="192.168.1.10"), host
        assert not connects(lab, "client", address, 8001, source="192.168.1.11"), host
        assert not connects(lab, partner, address, 8001), host
        # The host itself, and thereby who comes in by ssh.
        assert connects(lab, host, address, 8000), host
        assert connects(lab, host, address, 8001), host
        # Everything else is not ours.
        assert connects(lab, "client", address, 22, source="192.168.1.11"), host


def test_the_ports_are_open_to_whom_they_are_meant_for_and_to_nobody_else(
    lab: Lab, operator: Clone
) -> None:
    """8000 to the partner, 8001 to admin_networks, whose API client is answered; DHCP is served."""
    _promises(lab)
    store = Store.open(operator.pki, "lab")
    options = (
        *identities.hand_over(lab, "client", "api", identities.api_client(store)),
        *identities.hand_over_anchor(lab, "client", "api-ca", store.api.trusted),
    )
    for address in HOSTS.values():
        assert bench.request(lab, "client", f"https://{address}:8001/", *options).answered
    assert bench.get_lease(lab) is not None


def test_rules_that_are_not_ours_are_as_they_were(lab: Lab) -> None:
    """The host's own table is there to the letter; a rule added to it would be seen."""
    for host in HOSTS:
        before = own_rules(lab, host)
        assert "table inet own" in before
        assert "dport" not in before
        bench.sh(lab, host, "nft add rule inet own input tcp dport 1 accept")
        assert before != own_rules(lab, host)
        bench.sh(lab, host, "nft flush chain inet own input; nft add rule inet own input counter")


def test_a_second_run_changes_nothing(lab: Lab, operator: Clone) -> None:
    """With the firewall in place as without."""
    again = operator.deploy(*SETTINGS)

    assert again.verdict
    assert (0, 0) == again.totals()[:2]


def test_after_a_reboot_it_is_there_before_kea_listens(lab: Lab, operator: Clone) -> None:
    """No moment with 8000 open to others; and the pair comes back."""
    bench.reboot(lab, "host-2")

    operator.await_verdict(*SETTINGS, patience=60)
    _promises(lab)
    order = bench.sh(
        lab,
        "host-2",
        "for u in kea-ha-firewall kea-dhcp4-server; do "
        "systemctl show -p ActiveEnterTimestampMonotonic --value $u.service; done",
    ).split()
    assert int(order[0]) < int(order[1])


def test_rules_of_the_host_that_are_loaded_anew_do_not_take_it_away(lab: Lab) -> None:
    """Debian's own rules flush all others, also when they are only reloaded."""
    kept = "nft list table inet own > /run/own"
    try:
        bench.sh(lab, "host-1", f"{kept}; systemctl start nftables kea-ha-firewall")
        bench.sh(lab, "host-1", "systemctl restart nftables; systemctl reload nftables")
        bench.wait_for("the table", lambda: "kea_ha" in bench.sh(lab, "host-1", "nft list tables"))
        _promises(lab)
    finally:
        bench.sh(lab, "host-1", "systemctl stop nftables")
        bench.sh(lab, "host-1", "systemctl start kea-ha-firewall; nft -f /run/own")


def test_verify_misses_a_table_that_was_taken_away(lab: Lab, operator: Clone) -> None:
    """A flushed firewall is a finding, and the next rollout puts it back."""
    bench.sh(lab, "host-1", "nft delete table inet kea_ha")

    refused = operator.verify(*SETTINGS)

    assert "host-1: the table inet kea_ha is not loaded" in refused.refusal
    assert connects(lab, "client", HOSTS["host-1"], 8000)
    assert operator.deploy(*SETTINGS).verdict
    _promises(lab)


@pytest.mark.slow
def test_off_takes_the_table_of_an_unfinished_rollout_away(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """Killed with the firewall loaded, then run with `off`: no table, no unit, open to all."""
    lab = fresh_lab()
    running = operator.start(*DEPLOY, *SETTINGS)
    running.wait_for("Write the expiry timer on host-1")
    running.kill()
    bench.wait_for(
        "the table",
        lambda: "kea_ha" in bench.sh(lab, "host-1", "nft list tables"),
    )

    assert operator.deploy(*FAST).verdict

    assert "kea_ha" not in bench.sh(lab, "host-1", "nft list tables")
    assert "" == bench.sh(lab, "host-1", "systemctl list-unit-files --no-legend kea-ha-firewall*",
                          check=False)  # fmt: skip
    assert connects(lab, "client", HOSTS["host-1"], 8000)
