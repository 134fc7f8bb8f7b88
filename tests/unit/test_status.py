"""What real servers answered to status-get (Kea 2.2.0, 2.6.3, 3.0.4), and the words for it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha.foreign import ForeignError
from kea_ha.kea.status import (
    PRIMARY,
    STANDBY,
    ExpectedPair,
    ServerStatus,
    Threads,
    explain_state,
    judge_link,
    judge_pair,
    parse_status,
    verdict_sentence,
)

DATA = Path(__file__).parent / "data"
VERSIONS = ("2.2.0", "2.6.3", "3.0.4")
HEARTBEAT = timedelta(seconds=1)
EXPECTED = ExpectedPair(
    primary_host="host-1",
    primary_name="server1",
    standby_host="host-2",
    standby_name="server2",
    primary_threads=Threads(4, 64),
    standby_threads=Threads(4, 64),
)

every_version = pytest.mark.parametrize("version", VERSIONS)


def reply(version: str, name: str) -> dict[str, Any]:
    loaded = json.loads((DATA / f"kea-{version}" / f"status-{name}.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def status(version: str, name: str) -> ServerStatus:
    return parse_status(reply(version, name))


def changed(version: str, name: str, *path: str, to: object) -> ServerStatus:
    """The answer with one member of it replaced."""
    answer = reply(version, name)
    holder = answer["arguments"]
    for step in path[:-1]:
        holder = holder[step]
        if isinstance(holder, list):
            holder = holder[0]
    holder[path[-1]] = to
    return parse_status(answer)


HA = ("high-availability", "ha-servers")


@every_version
def test_a_healthy_pair_has_no_findings(version: str) -> None:
    primary, standby = status(version, "primary"), status(version, "standby")
    assert judge_pair(primary, standby, EXPECTED) == ()
    assert judge_link(primary, HEARTBEAT) == judge_link(standby, HEARTBEAT) == ()


@every_version
def test_an_answer_over_http_says_the_same(version: str) -> None:
    """HTTP wraps it in a list, the unix socket does not."""
    assert parse_status([reply(version, "primary")]) == status(version, "primary")


@every_version
def test_all_that_is_asked_of_an_answer_is_read(version: str) -> None:
    standby = status(version, "standby")
    assert standby.ha is not None
    assert standby.ha.mode == "hot-standby"
    assert (standby.ha.local.role, standby.ha.local.state) == ("standby", "hot-standby")
    assert standby.ha.local.scopes == ()
    assert standby.ha.remote.last_state == "hot-standby"
    assert standby.ha.remote.in_touch
    assert standby.ha.remote.age_s <= 2
    assert standby.uptime_s >= 0
    assert (standby.multi_threading, standby.thread_pool_size) == (True, 4)
    assert standby.packet_queue_size == 64
    assert standby.sockets_ready
    named = version != "2.2.0"
    assert (standby.ha.local.name, standby.ha.remote.name) == (
        ("server2", "server1") if named else (None, None)
    )
    assert (standby.dhcp is not None) == named


@every_version
def test_a_partner_that_never_answered_is_not_in_touch_whatever_kea_says(version: str) -> None:
    """Kea reports `in-touch: true` here."""
    alone = status(version, "alone")
    assert alone.ha is not None
    assert alone.ha.remote.in_touch
    findings = judge_link(alone, HEARTBEAT)
    assert any("does not answer" in finding for finding in findings)
    assert any("interrupted" in finding for finding in findings)


@every_version
def test_a_dead_partner_is_found_on_the_link_and_in_the_state(version: str) -> None:
    down = status(version, "partner-down")
    assert any("interrupted: no answer for" in finding for finding in judge_link(down, HEARTBEAT))
    (finding,) = judge_pair(down, status(version, "standby"), EXPECTED)
    assert finding.startswith("host-1: its state is partner-down")
    assert "Bring the partner back" in finding


@every_version
def test_swapped_hosts_are_found_by_role_name_and_scopes(version: str) -> None:
    findings = judge_pair(status(version, "standby"), status(version, "primary"), EXPECTED)
    assert "host-1: its role is standby, not primary" in findings
    assert any(f.startswith("host-1: it serves no clients") for f in findings)
    assert any(f.startswith("host-2: it serves the clients of server1") for f in findings)
    if version != "2.2.0":
        assert "host-2: its server name is server1, not server2" in findings
        assert "host-2: its partner is server2, not server1" in findings


@every_version
def test_multi_threading_switched_off_is_found(version: str) -> None:
    off = status(version, "multi-threading-off")
    assert (off.multi_threading, off.thread_pool_size, off.packet_queue_size) == (False, None, None)
    findings = judge_pair(off, status(version, "standby"), EXPECTED)
    assert any("multi-threading is off" in finding for finding in findings)


@every_version
def test_other_threads_and_queue_than_configured_are_found(version: str) -> None:
    both = status(version, "primary"), status(version, "standby")
    findings = judge_pair(
        *both, replace(EXPECTED, primary_threads=Threads(8, 28), standby_threads=Threads(8, 28))
    )
    assert len(findings) == 2
    assert "4 threads and a queue of 64; configured are 8 and 28" in findings[0]


@every_version
def test_a_server_that_is_deaf_to_clients_is_found(version: str) -> None:
    """The service runs and HA is well, but no client is heard (interface without address)."""
    deaf = changed(
        version, "primary", "sockets", to={"status": "failed", "errors": ["enp0s8 has no address"]}
    )
    findings = judge_pair(deaf, status(version, "standby"), EXPECTED)
    assert findings == ("host-1: it does not hear DHCP clients: enp0s8 has no address",)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_dhcp_service_that_was_switched_off_is_found_with_who_did_it(version: str) -> None:
    off = changed(version, "primary", "dhcp-state", "globally-disabled", to=True)
    assert judge_pair(off, status(version, "standby"), EXPECTED) == (
        "host-1: its DHCP service is switched off for no given reason",
    )
    maintained = status(version, "in-maintenance")
    findings = judge_pair(status(version, "primary"), maintained, EXPECTED)
    assert "host-2: its DHCP service is switched off by this server's own HA" in findings
    assert any("state is in-maintenance" in finding for finding in findings)


@every_version
def test_a_server_whose_ha_hook_is_not_loaded_is_found(version: str) -> None:
    """Kea then simply leaves the part out, and reports success."""
    answer = reply(version, "primary")
    del answer["arguments"]["high-availability"]
    bare = parse_status(answer)
    assert bare.ha is None
    assert "the HA hook is not loaded" in judge_link(bare, HEARTBEAT)
    assert "host-1: the HA hook is not loaded" in judge_pair(
        bare, status(version, "standby"), EXPECTED
    )


@pytest.mark.parametrize("foreign", [["server1", "server2"], ["server2"], []])
def test_a_primary_serves_its_own_scope_and_no_other(foreign: list[str]) -> None:
    odd = changed("2.6.3", "primary", *HA, "local", "scopes", to=foreign)
    assert len(judge_pair(odd, status("2.6.3", "standby"), EXPECTED)) == 1


def test_another_mode_is_found() -> None:
    odd = changed("2.6.3", "primary", "high-availability", "ha-mode", to="load-balancing")
    assert (
        "its HA mode is load-balancing" in judge_pair(odd, status("2.6.3", "standby"), EXPECTED)[0]
    )


@given(heartbeat_ms=st.integers(100, 60_000), delays=st.floats(0, 4))
def test_a_heartbeat_is_fresh_for_two_delays(heartbeat_ms: int, delays: float) -> None:
    age = round(delays * heartbeat_ms / 1000)
    aged = changed("3.0.4", "primary", *HA, "remote", "age", to=age)
    heartbeat = timedelta(milliseconds=heartbeat_ms)
    assert (judge_link(aged, heartbeat) == ()) == (age * 1000 <= 2 * heartbeat_ms)


def test_a_partner_not_heard_of_is_found() -> None:
    """Before the first answer or failure the partner's state is empty."""
    answer = reply("2.6.3", "primary")
    answer["arguments"]["high-availability"][0]["ha-servers"]["remote"].update(
        {"in-touch": False, "age": 0, "last-state": "", "last-scopes": []}
    )
    assert judge_link(parse_status(answer), HEARTBEAT) == ("server2 has not been heard of yet",)


# --- what cannot be decided -----------------------------------------------------------------

REQUIRED = (
    ("uptime",),
    ("multi-threading-enabled",),
    ("thread-pool-size",),
    ("packet-queue-size",),
    ("sockets",),
    ("sockets", "status"),
    ("high-availability", "ha-mode"),
    ("high-availability", "ha-servers"),
    *((*HA, side) for side in ("local", "remote")),
    *((*HA, "local", key) for key in ("role", "state", "scopes")),
    *(
        (*HA, "remote", key)
        for key in ("last-state", "in-touch", "age", "communication-interrupted")
    ),
)

#: Kea tells these too; a version that does not is no worse for it.
NOT_NEEDED = (
    ("pid",),
    ("reload",),
    (*HA, "remote", "role"),
    (*HA, "remote", "unacked-clients"),
    (*HA, "remote", "last-scopes"),
)


@every_version
@pytest.mark.parametrize("path", NOT_NEEDED, ids=".".join)
def test_an_answer_may_lack_what_nobody_needs(version: str, path: tuple[str, ...]) -> None:
    answer = reply(version, "primary")
    whole = parse_status(answer)
    holder: Any = answer["arguments"]
    for step in path[:-1]:
        holder = holder[step] if isinstance(holder, dict) else holder[0][step]
    del (holder[0] if isinstance(holder, list) else holder)[path[-1]]

    assert whole == parse_status(answer)


@every_version
@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_an_answer_that_lacks_what_we_must_know_is_an_error(
    version: str, path: tuple[str, ...]
) -> None:
    answer = reply(version, "primary")
    holder: Any = answer["arguments"]
    for step in path[:-1]:
        holder = holder[step]
        if isinstance(holder, list):
            holder = holder[0]
    del holder[path[-1]]
    with pytest.raises(ForeignError, match=path[-1]):
        parse_status(answer)


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
@pytest.mark.parametrize("wrong", [None, [1], 1.5, {"a": 1}], ids=str)
def test_an_answer_of_another_kind_is_an_error(path: tuple[str, ...], wrong: object) -> None:
    with pytest.raises(ForeignError):
        changed("2.6.3", "primary", *path, to=wrong)


def test_a_truth_is_not_a_count() -> None:
    with pytest.raises(ForeignError):
        changed("2.6.3", "primary", "uptime", to=True)
    with pytest.raises(ForeignError):
        changed("2.6.3", "primary", *HA, "remote", "in-touch", to=1)


def test_a_refusal_is_told_in_keas_words() -> None:
    with pytest.raises(ForeignError, match="'status-get' command not supported"):
        parse_status({"result": 2, "text": "'status-get' command not supported"})


def test_two_relationships_are_not_ours_to_judge() -> None:
    answer = reply("3.0.4", "primary")
    answer["arguments"]["high-availability"] *= 2
    with pytest.raises(ForeignError, match="2 HA relationships"):
        parse_status(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(answer=json_values)
def test_no_answer_whatever_does_more_than_fail(answer: object) -> None:
    with pytest.raises(ForeignError):
        parse_status(answer)


@given(data=st.data(), value=json_values)
def test_no_change_to_an_answer_does_more_than_fail(data: st.DataObject, value: object) -> None:
    """Either it is still understood, and can be judged, or it is a ForeignError."""
    path = data.draw(st.sampled_from(REQUIRED))
    try:
        odd = changed("3.0.4", "primary", *path, to=copy.deepcopy(value))
    except ForeignError:
        return
    judge_link(odd, HEARTBEAT)
    judge_pair(odd, status("3.0.4", "standby"), EXPECTED)


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [PRIMARY, STANDBY])
@pytest.mark.parametrize(
    "state",
    ["waiting", "syncing", "ready", "hot-standby", "partner-down", "in-maintenance",
     "partner-in-maintenance", "terminated", "communication-recovery", "load-balancing",
     "passive-backup", "backup", "unavailable"],
)  # fmt: skip
def test_every_state_of_keas_has_words(state: str, role: str) -> None:
    words = explain_state(state, role)
    assert words.startswith("it ") or words.startswith("HA has stopped")
    assert "not a state that we know" not in words


def test_a_healthy_standby_is_not_said_to_be_stuck() -> None:
    """Its state has the same name as the primary's and its scopes are empty: that is health."""
    assert "stands by" in explain_state("hot-standby", STANDBY)
    assert "serves all clients" in explain_state("hot-standby", PRIMARY)


def test_a_state_of_a_newer_kea_is_named_as_it_is() -> None:
    assert "'paused'" in explain_state("paused", PRIMARY)


def test_the_verdict_is_one_sentence() -> None:
    words = verdict_sentence(
        primary_host="host-1",
        standby_host="host-2",
        subnets=["192.168.1.0/24"],
        age_s=2,
        tls_version="TLS 1.3",
        certificate_days=364,
    )
    assert words == (
        "host-1 serves 192.168.1.0/24, host-2 stands by, in touch 2 s ago, TLS 1.3, "
        "certificates valid for 364 days"
    )


@pytest.mark.parametrize(
    ("subnets", "words"),
    [(2, "10.0.0.0/24 and 1 more subnet,"), (40, "10.0.0.0/24 and 39 more subnets,")],
)
def test_the_verdict_on_many_subnets_stays_one_line(subnets: int, words: str) -> None:
    sentence = verdict_sentence(
        primary_host="a",
        standby_host="b",
        subnets=[f"10.0.{n}.0/24" for n in range(subnets)],
        age_s=0,
        tls_version="TLS 1.2",
        certificate_days=1,
    )
    assert f"a serves {words}" in sentence
    assert sentence.endswith("valid for 1 day")
