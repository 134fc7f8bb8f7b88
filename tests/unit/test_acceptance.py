"""The pair is accepted when everything is as it must be, and by nothing less."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kea_ha import layout
from kea_ha.decide import acceptance
from kea_ha.decide.acceptance import Evidence
from kea_ha.host.daemons import AGENT, DHCP4
from kea_ha.host.port_tests import Control
from kea_ha.host.survey import Survey
from kea_ha.kea.log_file import parse_log
from tests.unit.surveys import as_planned, lab_pair, read, said_by

PAIR = lab_pair()
HOLDS = (
    Control("a certificate of the peers' CA", "host-2", 8000, True, "answered", tls="TLSv1.3"),
    Control("plain HTTP", "host-1", 8000, False, "refused"),
)


def evidence(change: Callable[[Survey], Survey] = lambda survey: survey) -> dict[str, Evidence]:
    """Both hosts of an accepted pair; the first one's survey changed."""
    return {
        "host-1": Evidence(change(as_planned(PAIR, "host-1")), HOLDS),
        "host-2": Evidence(as_planned(PAIR, "host-2"), HOLDS),
    }


def findings(known: dict[str, Evidence]) -> str:
    return "\n".join(acceptance.pair_findings(PAIR, known))


def with_status(path: tuple[Any, ...], value: object) -> Callable[[Survey], Survey]:
    """One value of the first host's answer replaced, and that read."""

    def change(survey: Survey) -> Survey:
        answer = json.loads(said_by("host-1")["status"])
        inner = answer["arguments"]
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        found = read("host-1", status=json.dumps(answer).encode())
        return replace(survey, status=found.status, status_error=found.status_error)

    return change


def with_unit(name: str, **changes: Any) -> Callable[[Survey], Survey]:
    def change(survey: Survey) -> Survey:
        units = {**survey.units, name: replace(survey.units[name], **changes)}
        return replace(survey, units=units)

    return change


def with_log(*lines: str) -> Callable[[Survey], Survey]:
    """Lines added to the log, a second before the survey."""

    def change(survey: Survey) -> Survey:
        stamp = survey.local.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        added = parse_log(f"{stamp} {line}" for line in lines)
        return replace(survey, log=survey.log + added)

    return change


def test_a_real_accepted_pair_is_accepted_and_its_verdict_is_in_words() -> None:
    """As both hosts of the lab were read."""
    assert "" == findings(evidence())
    verdict = acceptance.verdict(PAIR, evidence())
    assert verdict.startswith("host-1 serves 192.168.1.0/24, host-2 stands by, in touch ")
    assert "TLS 1.3" in verdict
    assert "clients are served by host-1" == acceptance.serving(
        PAIR, {n: e.survey for n, e in evidence().items()}
    )


HA = ("high-availability", 0, "ha-servers")
SPOILT: dict[str, tuple[Callable[[Survey], Survey], str]] = {
    "state": (with_status((*HA, "local", "state"), "partner-down"), "partner-down"),
    "terminated": (with_status((*HA, "local", "state"), "terminated"), "terminated"),
    "no scope": (with_status((*HA, "local", "scopes"), []), "serves no clients"),
    "role": (with_status((*HA, "local", "role"), "standby"), "role"),
    "interrupted": (with_status((*HA, "remote", "communication-interrupted"), True), "interrupted"),
    "old heartbeat": (with_status((*HA, "remote", "age"), 21), "21 s ago"),
    "threads": (with_status(("thread-pool-size",), 2), "2 threads"),
    "queue": (with_status(("packet-queue-size",), 8), "queue of 8"),
    "multi-threading": (with_status(("multi-threading-enabled",), False), "multi-threading is off"),
    "deaf": (with_status(("sockets",), {"status": "failed"}), "does not hear DHCP clients"),
    "no HA": (with_status(("high-availability",), []), "HA"),
    "no answer": (lambda s: replace(s, status=None, status_error="gone"), "cannot be asked"),
    "stopped": (with_unit(DHCP4.debian.unit, active="failed"), "is failed"),
    "not at boot": (with_unit(DHCP4.debian.unit, enabled="disabled"), "start at boot"),
    "agent down": (with_unit(AGENT.debian.unit, active="inactive"), "is inactive"),
    "old binary": (lambda s: replace(s, executable=f"{s.executable} (deleted)"), "restart it"),
    "port closed": (
        lambda s: replace(s, listeners=tuple(x for x in s.listeners if x.port != 8000)),
        "nothing listens on 8000/tcp",
    ),
    "port of another": (
        lambda s: replace(
            s,
            listeners=tuple(
                replace(x, processes=(("nginx", 1),)) if x.port == 8001 else x for x in s.listeners
            ),
        ),
        "held by nginx",
    ),
    "document altered": (
        lambda s: replace(
            s,
            files={
                **s.files,
                layout.KEA_CONF: replace(s.files[layout.KEA_CONF], sha256="0" * 64),
            },
        ),
        "not as described",
    ),
    "expired": (lambda s: replace(s, epoch=s.epoch + 400 * 86400), "expired"),
    "alarm": (
        with_log("WARN  [kea-dhcp4.ha-hooks/67.1] HA_LEASE_UPDATE_FAILED server1: lease update"),
        "HA_LEASE_UPDATE_FAILED",
    ),
    "handshake with the partner": (
        with_log(
            "INFO  [kea-dhcp4.http/67.1] HTTP_CONNECTION_HANDSHAKE_FAILED TLS handshake with "
            "192.168.1.3 failed with certificate verify failed"
        ),
        "HTTP_CONNECTION_HANDSHAKE_FAILED",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_one_thing_wrong_is_found_and_named_with_its_host(spoilt: str) -> None:
    """Each alone keeps the pair from being accepted."""
    change, words = SPOILT[spoilt]

    found = findings(evidence(change))

    assert words in found
    assert "host-1" in found


@pytest.mark.parametrize(
    "spoilt",
    [
        Control("plain HTTP", "host-1", 8000, False, "answered", tls="TLSv1.3"),
        Control("plain HTTP", "host-1", 8000, False, "undecided", "timed out"),
        Control("a certificate of the peers' CA", "host-2", 8000, True, "refused"),
        Control("a certificate of the peers' CA", "host-2", 8000, True, "answered", tls="TLSv1.1"),
        Control("a certificate of the peers' CA", "host-2", 8000, True, "answered", tls=""),
    ],
)
def test_one_control_that_does_not_hold_is_found(spoilt: Control) -> None:
    """Old TLS, an answer to a stranger, silence: none is acceptable."""
    known = evidence()
    known["host-1"] = replace(known["host-1"], controls=(*HOLDS, spoilt))

    assert "from host-1" in findings(known)


def test_controls_that_were_not_made_are_found() -> None:
    """No control is no proof."""
    known = evidence()
    known["host-2"] = replace(known["host-2"], controls=())

    assert "no control was made" in findings(known)


def test_a_host_that_was_not_read_is_a_finding_and_the_other_is_judged_still() -> None:
    """At three in the morning one host may be off: what is known is said."""
    known = evidence(with_status((*HA, "local", "state"), "partner-down"))
    del known["host-2"]

    found = findings(known)

    assert "host-2 could not be read" in found
    assert "partner-down" in found


def test_documents_that_differ_in_more_than_they_may_are_found() -> None:
    """Both as a hand left them: alike in nothing but what the rollout wrote."""

    def change(survey: Survey) -> Survey:
        file = survey.files[layout.KEA_CONF]
        content = (file.content or "").replace("43200", "43201")
        return replace(
            survey, files={**survey.files, layout.KEA_CONF: replace(file, content=content)}
        )

    assert "Dhcp4.valid-lifetime" in findings(evidence(change))


def test_alarms_that_are_over_are_told_and_keep_nobody_from_being_accepted() -> None:
    """They are in the log of the last days, and the operator may want to know."""

    def change(survey: Survey) -> Survey:
        joined = "2020-01-01 00:00:00.000 INFO  [kea-dhcp4.ha-hooks/67.1] HA_STATE_TRANSITION "
        joined += "server1: server transitions from READY to HOT-STANDBY state, partner state is "
        alarm = "2020-01-02 00:00:00.000 WARN  [kea-dhcp4.ha-hooks/67.1] HA_HEARTBEAT_FAILED x"
        return replace(survey, log=parse_log([f"{joined}HOT-STANDBY", alarm]))

    known = evidence(change)

    assert "" == findings(known)
    assert any("HA_HEARTBEAT_FAILED" in note for note in acceptance.notes(PAIR, known))


def test_a_certificate_with_less_than_a_third_of_its_life_is_a_note() -> None:
    """Renewed in time, it never becomes a finding."""
    known = evidence(lambda survey: replace(survey, epoch=survey.epoch + 300 * 86400))

    assert "" == findings(known)
    assert any("less than a third" in note for note in acceptance.notes(PAIR, known))


def test_a_lease_file_cleanup_holds_no_port_of_its_own() -> None:
    """Kea starts it with its own sockets open, once an hour for a moment."""

    def cleaning(survey: Survey) -> Survey:
        found = tuple(
            replace(one, processes=(*one.processes, ("kea-lfc", 99))) for one in survey.listeners
        )
        return replace(survey, listeners=found)

    held = [p for one in cleaning(as_planned(PAIR, "host-1")).listeners for p in one.processes]
    assert ("kea-lfc", 99) in held
    assert "held by kea-dhcp4" not in findings(evidence(cleaning))
