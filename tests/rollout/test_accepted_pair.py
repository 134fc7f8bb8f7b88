"""A live pair, and what may be done about it: nothing in this file changes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rollout.conftest import Accepted
from tests.rollout.operators import Operator

VERIFY = ("-y", "inventory.py", "runbook/verify.py")


@contextmanager
def _settings(operator: Operator, **settings: object) -> Iterator[None]:
    before = dict(operator.settings)
    operator.settings.update(settings)
    try:
        yield
    finally:
        operator.settings = before


def test_a_change_that_costs_an_outage_is_refused_and_priced(accepted: Accepted) -> None:
    """Clients rely on the pair: it is said why and for how long, and nothing is restarted."""
    with _settings(accepted.operator, ha_port=8005):
        outcome = accepted.operator.run()

    assert outcome.status == 1
    outcome.must_say("ha_port changes")
    outcome.must_say("accept_outage=true")


def test_one_host_alone_of_a_live_pair_is_not_changed(accepted: Accepted) -> None:
    """--limit leaves nobody to serve meanwhile."""
    with _settings(accepted.operator, valid_lifetime=50000):
        outcome = accepted.operator.run("-y", "inventory.py", "deploy.py", "--limit", "dhcp-b")

    assert outcome.status == 1
    outcome.must_say("dhcp-b: the live server is to be changed")
    outcome.must_say("without --limit")


def test_a_dry_run_tells_a_pending_change(accepted: Accepted) -> None:
    """--dry says what the run itself would say first, and counts a change for each host."""
    with _settings(accepted.operator, valid_lifetime=50000):
        outcome = accepted.operator.run("--dry", "--diff", "inventory.py", "deploy.py")

    assert outcome.status == 0, outcome.output
    assert "setting valid_lifetime: 43200 -> 50000" in outcome.output
    for host in ("dhcp-a", "dhcp-b"):
        assert f"{host} (kea-dhcp4 restarts):" in outcome.output
    rows = re.findall(r"Change the (first|second) server.* 1 \(dhcp-([ab])\)", outcome.output)
    assert [("first", "b"), ("second", "a")] == rows, outcome.output


def test_a_dry_run_on_a_pair_as_described_finds_nothing_to_do(accepted: Accepted) -> None:
    """No operation of ours counts as a change when there is none."""
    outcome = accepted.operator.run("--dry", "inventory.py", "deploy.py")

    assert outcome.status == 0, outcome.output
    outcome.must_say("nothing was changed")
    assert "Grand total" not in outcome.output or outcome.totals()[0] == 0


def test_verify_says_that_the_pair_is_accepted(accepted: Accepted) -> None:
    """The verdict of the rollout, at any time, with exit status 0."""
    outcome = accepted.operator.run(*VERIFY)

    assert outcome.status == 0, outcome.output
    assert outcome.last_block.startswith("office: accepted. dhcp-a serves 192.0.2.0/24")
    assert outcome.totals()[:2] == (0, 0)


def test_verify_says_when_a_host_cannot_be_reached(accepted: Accepted) -> None:
    """Exit status not 0; the host that does not answer is named, also when both do not."""
    for off in ({"dhcp-b"}, {"dhcp-a"}, {"dhcp-a", "dhcp-b"}):
        accepted.operator.off = off
        try:
            outcome = accepted.operator.run(*VERIFY)
        finally:
            accepted.operator.off = set()

        assert outcome.status != 0, off
        assert outcome.blocks, outcome.output
        assert "accepted." not in outcome.last_block.replace("not accepted", "")
        outcome.must_say(*off)
        outcome.must_say("could not be re")
        assert "Traceback" not in outcome.output


def test_a_clone_without_the_identities_is_refused_and_told_what_to_do(accepted: Accepted) -> None:
    """Another operator without pki/ could only make identities that nobody trusts."""
    other = accepted.operator.clone(f"bert-{accepted.first.ended}", pki=False)

    outcome = other.run()

    assert outcome.status == 1
    outcome.must_say("there is no pki/office/ here")
    outcome.must_say("Copy pki/office/")
    assert not (other.directory / "pki").exists()


def test_another_operator_with_the_identities_finds_the_pair_as_described(
    accepted: Accepted,
) -> None:
    """With pki/ copied, a second machine is as good as the first."""
    other = accepted.operator.clone("carla", pki=True)

    outcome = other.run()

    assert outcome.status == 0, outcome.output
    assert outcome.totals()[:2] == (0, 0)


def test_limit_to_a_host_of_a_live_pair_skips_the_acceptance(accepted: Accepted) -> None:
    """It says that it did, and how to get the verdict."""
    outcome = accepted.operator.run("-y", "inventory.py", "deploy.py", "--limit", "dhcp-b")

    assert outcome.status == 0, outcome.output
    outcome.must_say("not accepted, since --limit leaves dhcp-a out")
    assert outcome.contacted == {"dhcp-b"}
