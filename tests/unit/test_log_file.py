"""Alarms in real logs: Kea 2.2.0, 2.6.3 and 3.0.4, on two hosts, heartbeat 1 s.

192.168.1.2 is the primary, 192.168.1.3 the standby, 192.168.1.10 a third machine. Each file
under `data/` is what the primary logged (`rollout-standby.log`: the standby).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha.kea.log_file import (
    Alarms,
    LogLine,
    alarms,
    first_contact_attempted,
    last_transition,
    parse_log,
    start_took,
    summary,
)

DATA = Path(__file__).parent / "data"
VERSIONS = ("2.2.0", "2.6.3", "3.0.4")
PRIMARY, STANDBY, THIRD = "192.168.1.2", "192.168.1.3", "192.168.1.10"
URL = "https://192.168.1.3:8000/"
WINDOW = timedelta(seconds=2)

every_version = pytest.mark.parametrize("version", VERSIONS)


def text(version: str, name: str) -> str:
    return (DATA / f"kea-{version}" / f"{name}.log").read_text()


def read(content: str) -> tuple[LogLine, ...]:
    return parse_log(content.removesuffix("\n").split("\n"))


def log(version: str, *names: str) -> tuple[LogLine, ...]:
    return read("".join(text(version, name) for name in names))


def judged(
    lines: tuple[LogLine, ...],
    *,
    now: datetime | None = None,
    window: timedelta = WINDOW,
    partner: str = STANDBY,
) -> Alarms:
    now = now or lines[-1].time
    return alarms(lines, now=now, window=window, partner_address=partner)


def ids(lines: tuple[LogLine, ...]) -> set[str]:
    return {line.id for line in lines}


def line(id_: str, words: str, time: str = "2026-11-23 05:00:00.000") -> str:
    return f"{time} INFO  [kea-dhcp4.x/7.8] {id_} {words}\n"


# --- reading --------------------------------------------------------------------------------


@every_version
def test_every_line_of_a_real_log_is_a_message(version: str) -> None:
    for path in sorted((DATA / f"kea-{version}").glob("*.log")):
        content = path.read_text()
        assert content.count("\n") == len(read(content))


def test_a_message_is_taken_apart() -> None:
    (found,) = read(
        "2026-11-23 04:58:26.815 WARN  [kea-dhcp4.ha-hooks/2151.140578325739200] "
        "HA_HEARTBEAT_COMMUNICATIONS_FAILED failed to send heartbeat to server2 "
        "(https://192.168.1.3:8000/): certificate verify failed\n"
    )
    assert found == LogLine(
        time=datetime(2026, 11, 23, 4, 58, 26, 815000),
        severity="WARN",
        logger="kea-dhcp4.ha-hooks",
        process=2151,
        id="HA_HEARTBEAT_COMMUNICATIONS_FAILED",
        text="failed to send heartbeat to server2 (https://192.168.1.3:8000/): "
        "certificate verify failed",
    )


def test_a_message_of_several_lines_stays_one() -> None:
    found = read(
        "the end of a message whose start was rotated away\n"
        + line("DHCP4_CONFIG_LOAD_FAIL", "reason: first")
        + "second\n\n  third\n"
        + line("DHCP4_STARTED", "")
    )
    assert [one.id for one in found] == ["DHCP4_CONFIG_LOAD_FAIL", "DHCP4_STARTED"]
    assert found[0].text == "reason: first\nsecond\n\n  third"


@given(noise=st.text(max_size=300))
def test_noise_in_a_log_stops_nothing(noise: str) -> None:
    """Nor does it hide what follows it."""
    found = read(noise + "\n" + line("HA_TERMINATED", "HA has stopped"))
    assert judged(found).recent[-1].id == "HA_TERMINATED"


def test_a_date_that_is_none_is_no_message() -> None:
    assert read(line("DHCP4_STARTED", "", "2026-13-45 99:00:00.000")) == ()


# --- starting -------------------------------------------------------------------------------


@every_version
def test_a_start_that_failed_is_an_alarm(version: str) -> None:
    lines = log(version, "rollout-primary", "bad-key")
    assert {"HA_CONFIGURATION_FAILED", "HOOKS_LOAD_ERROR"} <= ids(judged(lines).recent)


@every_version
def test_a_listener_without_its_port_is_an_alarm(version: str) -> None:
    """2.2 goes on without it, and logs that as a message of another kind."""
    lines = log(version, "port-taken")
    found = judged(lines, window=timedelta(minutes=1)).recent
    assert any("CmdHttpListener::run failed" in one.text for one in found)
    assert any("another program has the port" in words for words in summary(found))


# --- contact --------------------------------------------------------------------------------


@every_version
def test_attempts_to_reach_a_partner_that_is_not_there_yet_are_found(version: str) -> None:
    lines = log(version, "rollout-primary")
    tried = first_contact_attempted(lines, URL)
    assert len(tried) >= 5
    assert all("Connection refused" in one.text for one in tried)
    assert first_contact_attempted(lines, URL.rstrip("/")) == tried
    for other in (
        "https://192.168.1.3:80/",
        "https://192.168.1.30:8000/",
        "http://192.168.1.3:8000/",
    ):
        assert first_contact_attempted(lines, other) == ()


# --- alarms ---------------------------------------------------------------------------------


@every_version
def test_what_came_before_hot_standby_is_reported_and_not_held_against_the_pair(
    version: str,
) -> None:
    """However wide the window: a first rollout starts with refused heartbeats."""
    lines = log(version, "rollout-primary")
    recent, older = judged(lines, window=timedelta(hours=1))
    assert recent == ()
    assert ids(older) == {
        "HA_HEARTBEAT_COMMUNICATIONS_FAILED",
        "HA_COMMUNICATION_INTERRUPTED",
        "HA_STATE_TRANSITION",
    }
    assert judged(log(version, "rollout-standby"), partner=PRIMARY) == Alarms((), ())


@every_version
def test_a_reload_is_no_alarm_once_hot_standby_is_entered(version: str) -> None:
    assert judged(log(version, "rollout-primary", "reload")).recent == ()
    assert judged(log(version, "reload"), window=timedelta(hours=1)) == Alarms((), ())


@every_version
def test_a_lost_partner_is_an_alarm_until_hot_standby_is_entered_again(version: str) -> None:
    lines = log(version, "rollout-primary", "standby-killed")
    back = max(n for n, one in enumerate(lines) if "to HOT-STANDBY state" in one.text)
    lost = judged(lines[:back], window=timedelta(seconds=30))
    assert {
        "HA_HEARTBEAT_COMMUNICATIONS_FAILED",
        "HA_COMMUNICATION_INTERRUPTED",
        "HA_STATE_TRANSITION",
    } <= ids(lost.recent)
    assert any("to PARTNER-DOWN state" in one.text for one in lost.recent)
    assert judged(lines, window=timedelta(seconds=30)).recent == ()


@every_version
def test_a_single_lost_heartbeat_is_an_alarm_for_two_heartbeats(version: str) -> None:
    """While the pair stays in hot-standby, time alone makes it old."""
    lines = (
        *log(version, "rollout-primary"),
        *(one for one in log(version, "standby-killed") if one.id.startswith("HA_HEARTBEAT"))
    )  # fmt: skip
    last = lines[-1].time
    assert len(judged(lines, now=last + timedelta(seconds=1.9)).recent) >= 1
    late = judged(lines, now=last + timedelta(seconds=2.1))
    assert late.recent == ()
    assert lines[-1] in late.older


@every_version
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("partner-stranger", "the other side's certificate is expired, or not signed by"),
        ("partner-trusts-another", "the other side does not trust the CA of this host's"),
        ("partner-plain", "the other side answers without TLS"),
        ("link-down", "the host is not on the network"),
    ],
)
def test_the_cause_of_a_broken_link_is_told(version: str, name: str, words: str) -> None:
    lines = log(version, name)
    recent = judged(lines[: _index_of_recovery(lines)], window=timedelta(minutes=1)).recent
    assert any(words in sentence for sentence in summary(recent))


def _index_of_recovery(lines: tuple[LogLine, ...]) -> int:
    found = [n for n, one in enumerate(lines) if "to HOT-STANDBY state" in one.text]
    return found[-1] if found else len(lines)


@every_version
@pytest.mark.parametrize("name", ["partner-stranger", "partner-trusts-another", "partner-plain"])
def test_a_partner_whose_handshakes_fail_is_an_alarm(version: str, name: str) -> None:
    recent = judged(log(version, name), window=timedelta(minutes=1)).recent
    refused = [one for one in recent if one.id == "HTTP_CONNECTION_HANDSHAKE_FAILED"]
    assert refused
    assert all(STANDBY in one.text for one in refused)


@every_version
def test_our_own_controls_are_no_alarm(version: str) -> None:
    """No certificate, a stranger's, the API CA's, plain HTTP, a port check; from a third
    machine and from the partner, whose heartbeats go on."""
    lines = log(version, "controls")
    refused = [one for one in lines if one.id == "HTTP_CONNECTION_HANDSHAKE_FAILED"]
    assert len([one for one in refused if STANDBY in one.text]) >= 5
    assert len([one for one in refused if THIRD in one.text]) >= 4
    wide = timedelta(minutes=1)
    heartbeats = [one for one in lines if "'ha-heartbeat'" in one.text]
    last = replace(heartbeats[-1], time=lines[-1].time)
    recent, older = judged((*lines, last), window=wide)
    assert recent == ()
    assert len(older) >= 4


@every_version
def test_the_same_refusals_are_an_alarm_when_no_heartbeat_follows(version: str) -> None:
    """It is the partner itself, then, that is refused. The third machine's never count."""
    lines = tuple(one for one in log(version, "controls") if one.id != "COMMAND_RECEIVED")
    recent = judged(lines, window=timedelta(minutes=1)).recent
    assert len(recent) >= 4
    assert all(f"with {STANDBY} failed" in one.text for one in recent)
    assert judged(lines, window=timedelta(minutes=1), partner="192.168.1.77").recent == ()


def test_a_refusal_after_the_last_heartbeat_stands() -> None:
    heartbeat = line("COMMAND_RECEIVED", "Received command 'ha-heartbeat'")
    refusal = line(
        "HTTP_CONNECTION_HANDSHAKE_FAILED",
        f"TLS handshake with {STANDBY} failed with certificate verify failed",
    )
    assert len(judged(read(heartbeat + refusal)).recent) == 1
    answered = judged(read(heartbeat + refusal + heartbeat))
    assert (len(answered.recent), len(answered.older)) == (0, 1)
    status = line("COMMAND_RECEIVED", "Received command 'status-get'")
    assert len(judged(read(refusal + status)).recent) == 1


def test_a_refusal_grows_old_like_any_alarm() -> None:
    refusal = line(
        "HTTP_CONNECTION_HANDSHAKE_FAILED",
        f"TLS handshake with {STANDBY} failed with certificate verify failed",
    )
    later = line("HA_INIT_OK", "", "2026-11-23 05:00:30.000")
    assert [len(part) for part in judged(read(refusal + later))] == [0, 1]


@pytest.mark.parametrize("reason", ["stream truncated", "stream truncated (SSL routines)"])
def test_a_port_check_from_the_partner_is_no_alarm(reason: str) -> None:
    check = line(
        "HTTP_CONNECTION_HANDSHAKE_FAILED", f"TLS handshake with {STANDBY} failed with {reason}"
    )
    assert judged(read(check)) == Alarms((), ())


def test_an_address_that_begins_like_the_partners_is_another() -> None:
    refusal = line(
        "HTTP_CONNECTION_HANDSHAKE_FAILED",
        f"TLS handshake with {STANDBY}1 failed with certificate verify failed",
    )
    assert judged(read(refusal)) == Alarms((), ())


@pytest.mark.parametrize(
    ("target", "alarming"),
    [("PARTNER-DOWN", True), ("WAITING", True), ("TERMINATED", True), ("SYNCING", False),
     ("READY", False), ("HOT-STANDBY", False), ("PARTNER-IN-MAINTENANCE", False)],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "server1: "])
def test_a_change_of_state_is_judged_by_its_target(
    target: str, alarming: bool, prefix: str
) -> None:
    words = f"{prefix}server transitions from HOT-STANDBY to {target} state, partner state is READY"
    lines = read(line("HA_STATE_TRANSITION", words))
    assert bool(judged(lines).recent) == alarming
    transition = last_transition(lines)
    assert transition is not None
    assert transition[0] == target


@pytest.mark.parametrize(
    "id_",
    ["HA_HEARTBEAT_FAILED", "HA_LEASE_UPDATE_COMMUNICATIONS_FAILED", "HA_LEASE_UPDATE_CONFLICT",
     "HA_SYNC_FAILED", "HA_TERMINATED", "HA_HIGH_CLOCK_SKEW",
     "HA_HIGH_CLOCK_SKEW_CAUSES_TERMINATION", "HA_HIGH_CLOCK_SKEW_CAUSED_TERMINATION",
     "HA_INVALID_PARTNER_STATE_HOT_STANDBY", "HA_CONFIG_LEASE_UPDATES_DISABLED",
     "HA_CONFIG_DHCP_MT_DISABLED", "HTTP_CLIENT_QUEUE_SIZE_GROWING",
     "DHCP4_CONFIG_UNRECOVERABLE_ERROR"],
)  # fmt: skip
def test_alarm_ids_are_alarms(id_: str) -> None:
    assert ids(judged(read(line(id_, "text"))).recent) == {id_}


@pytest.mark.parametrize(
    "id_", ["HA_INIT_OK", "HA_LEASE_UPDATES_DISABLED", "HA_LOCAL_DHCP_DISABLE", "COMMAND_RECEIVED"]
)
def test_ids_of_ordinary_work_are_none(id_: str) -> None:
    assert judged(read(line(id_, "text"))) == Alarms((), ())


def test_a_clock_set_back_does_not_make_old_alarms_recent() -> None:
    """As at the end of summer time: an alarm of 02:59 is followed by lines of 02:00."""
    lines = read(
        line("HA_HEARTBEAT_FAILED", "x", "2026-10-25 02:59:00.000")
        + line("HA_INIT_OK", "", "2026-10-25 02:00:00.000")
        + line("HA_INIT_OK", "", "2026-10-25 02:30:00.000")
    )
    now = datetime(2026, 10, 25, 2, 30, 5)
    assert judged(lines, now=now, window=timedelta(seconds=2)).recent == ()


@given(ago=st.integers(0, 100), window=st.integers(1, 100))
def test_an_alarm_is_recent_within_the_window_and_no_longer(ago: int, window: int) -> None:
    now = datetime(2026, 11, 23, 5, 10)
    time = f"{now - timedelta(seconds=ago):%Y-%m-%d %H:%M:%S}.000"
    found = judged(
        read(line("HA_HEARTBEAT_FAILED", "x", time)),
        now=now,
        window=timedelta(seconds=window),
    )
    assert (len(found.recent), len(found.older)) == ((1, 0) if ago <= window else (0, 1))


def test_no_log_has_no_alarms() -> None:
    """That the log is there at all is for others to see: it cannot be empty after a start."""
    assert alarms((), now=datetime(2026, 1, 1), window=WINDOW, partner_address=STANDBY) == ((), ())
    assert last_transition(()) is None


def test_a_summary_says_how_often_when_last_and_what() -> None:
    lines = read(
        line("HA_HEARTBEAT_FAILED", "first", "2026-11-23 05:00:00.000")
        + line("HA_TERMINATED", "HA has stopped", "2026-11-23 05:00:01.000")
        + line("HA_HEARTBEAT_FAILED", "x: Connection refused", "2026-11-23 05:00:02.000")
    )
    assert summary(lines) == (
        "HA_HEARTBEAT_FAILED 2 times, last at 2026-11-23 05:00:02: x: Connection refused "
        "(nothing listens there)",
        "HA_TERMINATED once at 2026-11-23 05:00:01: HA has stopped",
    )


def test_how_long_a_server_took_to_start_is_read_from_its_last_start() -> None:
    """Of the last one that came so far; an attempt that failed says nothing."""

    def line(second: str, process: int, name: str) -> str:
        return f"2026-11-25 09:00:{second} INFO  [kea-dhcp4.x/{process}.1] {name} text"

    log = [
        line("00.000", 1, "DHCP4_MULTI_THREADING_INFO"),
        line("00.900", 1, "HA_LOCAL_DHCP_DISABLE"),
        line("10.000", 2, "DHCP4_MULTI_THREADING_INFO"),
        line("10.250", 2, "HA_LOCAL_DHCP_DISABLE"),
        line("15.000", 2, "HA_LOCAL_DHCP_DISABLE"),
        line("20.000", 3, "DHCP4_MULTI_THREADING_INFO"),
    ]
    assert 0.25 == pytest.approx(start_took(parse_log(log)))
    assert 0 < start_took(()) < 1
