"""Settings that pass our rules but not Kea's: its own words, and what is live stays live."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import DEPLOY, Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

UNKNOWN = (
    "--data",
    'extra={"Dhcp4": {"option-data": [{"name": "no-such-option", "data": "1"}]}}',
)
_CONF = "/etc/kea/kea-dhcp4.conf"


def test_what_kea_refuses_does_not_become_live(
    fresh_lab: Callable[..., Lab], operator: Clone
) -> None:
    """On the first rollout, and on a host whose Kea runs already in an unfinished one."""
    lab = fresh_lab()

    def refused() -> None:
        outcome = operator.deploy(*UNKNOWN)
        assert not bench.missing(
            outcome.refusal,
            [
                "Host host-1 Step 2 Configure | Check and write kea-dhcp4.conf on host-1",
                "definition for the option 'dhcp4.no-such-option'",
            ],
        ), outcome.refusal
        assert [] == bench.traces_of_kea(lab, "host-2")
        assert "" == bench.sh(lab, "host-1", "find /etc/kea -name '*.new'")

    refused()
    assert not bench.is_active(lab, "host-1")
    packaged = bench.sh(lab, "host-1", "dpkg-query -W -f '${Conffiles}\\n' kea-dhcp4-server")
    digest = bench.sh(lab, "host-1", f"md5sum {_CONF}").split()[0]
    assert f"{_CONF} {digest}" in packaged

    # With the documented values it is a minute before host-1 serves alone, and counts as live.
    running = operator.start(*DEPLOY)
    running.wait_for(r"3 Verify the link \| From host-1")
    running.kill()
    before = bench.main_pid(lab, "host-1"), bench.files(lab, "host-1", _CONF)
    assert before[0]
    refused()
    assert before == (bench.main_pid(lab, "host-1"), bench.files(lab, "host-1", _CONF))

    assert operator.deploy().verdict
