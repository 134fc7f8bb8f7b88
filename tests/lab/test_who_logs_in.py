"""Who logs in is as it likes: a user who becomes root by sudo, or root on hosts without sudo."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import DEPLOY, FAST, HOSTS, Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_user_with_sudo_rolls_out(fresh_lab: Callable[..., Lab], operator: Clone) -> None:
    """Logged in as `operator`: accepted, verified, nothing to change; nobody else at a time.

    The login shell is one that nobody has heard of, and that stays while its command runs.
    """
    lab = fresh_lab()
    for host in HOSTS:
        bench.give(lab, host, "/usr/local/bin/finesh", '#!/bin/sh\n/bin/sh "$@"\nexit $?\n', "755")
        bench.sh(lab, host, "usermod -s /usr/local/bin/finesh operator")
    with (operator.directory / "group_data/all.py").open("a") as settings:
        settings.write('\nssh_user = "operator"\n')

    assert operator.deploy(*FAST).verdict

    assert "session opened for user operator" in bench.sh(lab, "host-1", "journalctl -u ssh")
    assert "session opened for user root" not in bench.sh(lab, "host-1", "journalctl -t sshd")
    assert bench.get_lease(lab) is not None
    assert operator.verify(*FAST).verdict
    assert (0, 0) == operator.deploy(*FAST).totals()[:2]
    first = operator.start(*DEPLOY, *FAST)
    first.wait_for("Look at the host and at what it can reach")
    first.send(signal.SIGSTOP)
    assert "being worked on by another run" in operator.deploy(*FAST).refusal
    first.send(signal.SIGCONT)
    assert first.wait().verdict
    # What is not for others is not for this user either.
    found = lab.exec("host-1", ["runuser", "-u", "operator", "--", "ls", "/etc/kea"], check=False)
    assert found.returncode != 0


def test_root_rolls_out_without_sudo(fresh_lab: Callable[..., Lab], colleague: Clone) -> None:
    """Told what to set where sudo is missing; with `_sudo = False` accepted."""
    lab = fresh_lab()
    for host in HOSTS:
        bench.sh(lab, host, "mv /usr/bin/sudo /root/")

    assert "_sudo" in colleague.deploy(*FAST).refusal

    with (colleague.directory / "group_data/all.py").open("a") as settings:
        settings.write("\n_sudo = False\n")
    assert colleague.deploy(*FAST).verdict
