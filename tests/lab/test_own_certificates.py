"""Certificates that an operator brings: used as they are, and refused when they are not good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import Lab
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone
from tests.lab.identities import Authority, Identity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

OWN = {
    "key": "/etc/ssl/office/kea.key",
    "certificate": "/etc/ssl/office/kea.crt",
    "anchor": "/etc/ssl/office/ca.crt",
}
SETTINGS = (*FAST, "--data", f"own_certificates={json.dumps(OWN)}")


def bring(lab: Lab, host: str, anchor: str, identity: Identity) -> None:
    """Put what the operator brings where the settings say that it is."""
    bench.give(lab, host, OWN["key"], identity.key)
    bench.give(lab, host, OWN["certificate"], identity.certificate, "644")
    bench.give(lab, host, OWN["anchor"], anchor, "644")


def test_own_certificates_are_used_and_bad_ones_refused_before_anything_changes(
    fresh_lab: Callable[..., Lab], operator: Clone, scratch: Path
) -> None:
    """Expired, or not fitting its key: refused on fresh hosts and on the live pair alike."""
    lab = fresh_lab()
    office = Authority(scratch / "office", "the office CA")
    good = {host: office.issue(address) for host, address in HOSTS.items()}
    expired = office.issue(HOSTS["host-2"], days=-1)
    mismatched = Identity(office.issue().key, good["host-2"].certificate)
    bring(lab, "host-1", office.anchor, good["host-1"])

    for bad, expected in ((expired, "expired"), (mismatched, "key")):
        bring(lab, "host-2", office.anchor, bad)
        outcome = operator.deploy(*SETTINGS)
        assert "0 Pre-flight" in outcome.refusal
        assert not bench.missing(outcome.refusal, ["host-2", OWN["certificate"], expected])
        for host in HOSTS:
            assert [] == bench.traces_of_kea(lab, host)

    bring(lab, "host-2", office.anchor, good["host-2"])
    assert operator.deploy(*SETTINGS).verdict
    for host in HOSTS:
        served = bench.sh(
            lab,
            "client",
            f"openssl s_client -connect {HOSTS[host]}:8000 </dev/null 2>/dev/null | "
            "openssl x509 -noout -issuer",
        )
        assert "the office CA" in served, host
    assert (0, 0) == operator.deploy(*SETTINGS).totals()[:2]

    before = bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS]
    bring(lab, "host-2", office.anchor, expired)
    outcome = operator.deploy(*SETTINGS)
    assert not bench.missing(outcome.refusal, ["host-2", "expired"])
    assert before == (bench.process_ids(lab), [bench.files(lab, host) for host in HOSTS])
