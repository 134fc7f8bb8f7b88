"""SIGKILL to pyinfra, anywhere in a rollout, costs nothing but the time to run it again.

One rollout is killed five times on its way; after each kill the hosts are sound, and the next run
goes on from there. (That it holds after every single operation is tested on stand-in hosts.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import DEPLOY, FAST, HOSTS, Clone

pytestmark = pytest.mark.timeout(500)

POINTS = (
    "Give the host its certificate for its partner",
    "installing kea-dhcp4-server",
    "Check and write kea-dhcp4.conf on host-1",
    "Run kea-dhcp4 on host-2",
    "Wait until both are in hot-standby",
)

# Started as a package's own script starts its service.
OTHER = "other-package.service"
OTHER_UNIT = "[Service]\nExecStart=/bin/sleep 600\n[Install]\nWantedBy=multi-user.target\n"


def unsound(lab: Lab, host: str) -> list[str]:
    """What a kill must never leave: half a live document, or a ban on starting services."""
    found = []
    packaged = bench.sh(lab, host, "dpkg-query -W -f '${Conffiles}\\n' 'kea-*' 2>&1", check=False)
    for path in ("/etc/kea/kea-dhcp4.conf", "/etc/kea/kea-ctrl-agent.conf"):
        content = bench.sh(lab, host, f"cat {path}", check=False)
        digest = hashlib.md5(content.encode()).hexdigest()  # noqa: S324 - dpkg's own
        if content and f"{path} {digest}" not in packaged:
            try:
                bench.parse_document(content)
            except ValueError as error:
                found.append(f"{path}: {error}")
    bench.give(lab, host, f"/etc/systemd/system/{OTHER}", OTHER_UNIT, "644")
    bench.sh(lab, host, f"systemctl enable -q {OTHER}; deb-systemd-invoke start {OTHER} 2>&1")
    if not bench.is_active(lab, host, OTHER):
        found.append("a package's service is not started")
    bench.sh(lab, host, f"systemctl disable -q --now {OTHER}; rm /etc/systemd/system/{OTHER}")
    return found


@pytest.mark.slow  # in every run: the same on stand-in hosts, tests/rollout/test_interrupted.py
def test_a_rollout_killed_five_times_converges(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """No half-written document, no ban on services, no lock that keeps the next run out."""
    lab = fresh_lab()
    for point in POINTS:
        running = operator.start(*DEPLOY, *FAST)
        running.wait_for(point)
        running.kill()

        for host in HOSTS:
            assert [] == unsound(lab, host), point

    last = operator.deploy(*FAST)

    assert last.verdict
    assert "being worked on" not in last.output
    assert bench.get_lease(lab) is not None
    for host in HOSTS:
        # Nothing half-way is left either, of documents or of packages.
        assert "" == bench.sh(lab, host, "find /etc/kea /etc/systemd -name '*.new'; dpkg --audit")
    again = operator.deploy(*FAST)
    assert (0, 0) == again.totals()[:2]


def test_the_look_for_harm_finds_it(fresh_lab: Callable[..., Lab]) -> None:
    """Half a document and a policy-rc.d, planted, are found."""
    lab = fresh_lab()
    assert [] == unsound(lab, "host-1")
    bench.give(lab, "host-1", "/etc/kea/kea-dhcp4.conf", '{"Dhcp4": {"valid-')
    bench.give(lab, "host-1", "/usr/sbin/policy-rc.d", "exit 101\n", "755")
    assert 2 == len(unsound(lab, "host-1"))
