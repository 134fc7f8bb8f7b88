"""Pre-flight names every reason against beginning, with its host, and no reason that is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.decide.client_impact import Anchors, is_live
from kea_ha.decide.preflight import Agreed, DhcpAnswer, Path, Seen, problems, warnings
from kea_ha.host.daemons import DHCP4
from kea_ha.host.mark import Mark, UnderWay, Work
from kea_ha.host.survey import Interface, Listener, Survey, Unit
from kea_ha.pki.ca_store import Authority
from kea_ha.settings.model import Pair
from kea_ha.settings.problems import Problem
from tests.unit import surveys
from tests.unit.surveys import in_state, lab_pair, survey_of

PAIR = lab_pair()
ANCHORS = Anchors(
    Authority.of(survey_of("host-1").certificates[layout.HA_ANCHOR]),
    Authority.of(survey_of("host-1").certificates[layout.API_ANCHOR]),
)


def accepted(**of_first: Any) -> dict[str, Seen]:
    """Both hosts of an accepted pair; the first one's survey with some facts replaced."""
    return {
        "host-1": Seen(surveys.accepted("host-1", **of_first)),
        "host-2": Seen(surveys.accepted("host-2")),
    }


def fresh(**facts: Any) -> dict[str, Seen]:
    """Both hosts before anything of Kea was there; the first one with some facts replaced."""

    def bare(name: str) -> Survey:
        survey = survey_of(name)
        return replace(
            survey,
            packages={"openssl": "3.5", "curl": "8"},
            listeners=tuple(one for one in survey.listeners if one.port == 22),
            units={},
            files={},
            certificates={},
            mark=Mark(),
            started_from={},
            status=None,
            leases=False,
        )

    return {"host-1": Seen(replace(bare("host-1"), **facts)), "host-2": Seen(bare("host-2"))}


def found(
    seen: Mapping[str, Seen], *, pair: Pair = PAIR, anchors: Anchors = ANCHORS, adopt: bool = False
) -> tuple[Problem, ...]:
    return problems(pair, seen, anchors, Agreed(adopt=adopt))


def test_of_a_fresh_machine_beside_an_accepted_one_the_keys_of_the_lost_one_are_said() -> None:
    """`recover.py` changes the CAs in that case; who takes `deploy.py` is told to."""
    seen = {"host-1": fresh()["host-1"], "host-2": accepted()["host-2"]}
    assert any("rotate.py --data ca=true" in text for text in warnings(PAIR, seen))
    for other in (fresh(), accepted()):
        assert not any("ca=true" in text for text in warnings(PAIR, other))


def test_certificates_that_serve_nobody_are_nobodys_problem() -> None:
    """Those for API clients, left on a host whose `control_channel` has become `none`."""
    other = Anchors(ANCHORS.peers, Authority.of(ANCHORS.peers.trusted))
    assert any(layout.API_ANCHOR in str(one) for one in found(accepted(), anchors=other))
    silent = lab_pair(control_channel="none")
    assert not any(
        layout.API_ANCHOR in str(one) for one in found(accepted(), pair=silent, anchors=other)
    )


def one(seen: Mapping[str, Seen], **how: Any) -> Problem:
    """The only problem that there is."""
    (problem,) = found(seen, **how)
    return problem


def test_nothing_stands_against_fresh_hosts_and_against_an_accepted_pair() -> None:
    """A first rollout begins, and so does a second run."""
    assert () == found(fresh(), anchors=Anchors())
    assert () == found(accepted())


def test_an_address_that_no_interface_carries_is_refused() -> None:
    """Kea would listen nowhere."""
    problem = one(fresh(interfaces=(Interface("eth0", True, ("10.0.0.1",)),)))

    assert ("host-1", "address") == (problem.where, problem.setting)
    assert "192.168.1.2" in problem.given
    assert "eth0" in problem.allowed


def test_a_missing_address_is_not_told_again_as_closed_paths() -> None:
    """Neither host can reach the other then; what is to be mended is said once."""
    closed = "rejected: Network is unreachable"
    seen = fresh(interfaces=(Interface("eth1", False, ()),))
    for name, address in (("host-1", "192.168.1.3"), ("host-2", "192.168.1.2")):
        seen[name] = replace(seen[name], paths=(Path(address, 8000, closed),))

    assert "address" == one(seen).setting


def test_an_interface_that_is_down_is_refused() -> None:
    """Kea would be deaf."""
    problem = one(fresh(interfaces=(Interface("eth0", False, ("192.168.1.2",)),)))

    assert ("host-1", "interface") == (problem.where, problem.setting)


@pytest.mark.parametrize(
    ("protocol", "port", "address"),
    [("udp", 67, "*"), ("tcp", 8000, "192.168.1.2"), ("tcp", 8001, "*")],
)
def test_a_port_that_another_program_holds_is_refused_by_its_name(
    protocol: str, port: int, address: str
) -> None:
    """The operator reads which program to stop."""
    taken = Listener(protocol, address, port, (("nginx", 77),))

    problem = one(fresh(listeners=(taken,)))

    assert "host-1" == problem.where
    assert f"{port}/{protocol}" in problem.setting
    assert "nginx (pid 77)" in problem.given


def test_a_port_on_another_address_is_nobodys_business() -> None:
    """Kea binds its own address alone."""
    elsewhere = Listener("tcp", "127.0.0.1", 8000, (("nginx", 77),))

    assert () == found(fresh(listeners=(elsewhere,)))


def test_a_port_held_by_someone_unnamed_is_refused() -> None:
    """A check that cannot decide has failed."""
    assert one(fresh(listeners=(Listener("tcp", "192.168.1.2", 8000, ()),)))


@pytest.mark.parametrize("outcome", ["dropped", "rejected: No route to host"])
def test_a_path_that_is_closed_is_refused_with_host_port_and_direction(outcome: str) -> None:
    """Whoever keeps the firewall is told what to let pass."""
    seen = fresh()
    seen["host-2"] = replace(seen["host-2"], paths=(Path("192.168.1.2", 8000, outcome),))

    problem = one(seen)

    assert "host-2" == problem.where
    assert "path to host-1" in problem.setting
    assert "from host-2 (192.168.1.3) to host-1 (192.168.1.2)" in problem.remedy


@pytest.mark.parametrize("outcome", ["open", "refused"])
def test_a_path_that_is_open_or_refused_is_good(outcome: str) -> None:
    """Before the rollout nothing listens, so a refusal is the best answer there is."""
    seen = fresh()
    seen["host-1"] = replace(seen["host-1"], paths=(Path("192.168.1.3", 8000, outcome),))

    assert () == found(seen)


@given(st.floats(min_value=-3600, max_value=3600), st.floats(min_value=-3600, max_value=3600))
def test_clocks_are_judged_against_each_other(first: float, second: float) -> None:
    """Kea's limits: over 30 s it warns, over 60 s it ends HA. This machine's clock is no matter."""
    seen = {name: replace(one, skew_s=skew) for (name, one), skew in
            zip(fresh().items(), (first, second), strict=True)}  # fmt: skip
    apart = abs(first - second)

    refused = [p for p in found(seen) if "clocks" in p.setting]
    warned = [text for text in warnings(PAIR, seen) if "clock" in text]

    assert (apart > 60) == bool(refused)
    assert (30 < apart <= 60) == bool(warned)


def test_the_clock_that_is_ahead_is_named() -> None:
    """So that the operator goes to the right host."""
    seen = fresh()
    seen["host-2"] = replace(seen["host-2"], skew_s=70.0)

    assert "the clock of host-2 is 70 s ahead of host-1" in one(seen).given


def test_another_dhcp_server_is_refused_and_the_pairs_own_is_not() -> None:
    """Two unrelated servers on one network give one address twice."""
    seen = fresh()
    own = replace(seen["host-2"], dhcp=DhcpAnswer(()))
    foreign = replace(seen["host-1"], dhcp=DhcpAnswer(("192.168.1.1",)))

    assert () == found({**seen, "host-2": own})
    assert "192.168.1.1" in one({**seen, "host-1": foreign}).given


def test_a_dhcp_probe_that_failed_is_no_all_clear() -> None:
    """A check that cannot decide has failed."""
    seen = fresh()
    seen["host-1"] = replace(seen["host-1"], dhcp=DhcpAnswer((), "Operation not permitted"))

    assert "Operation not permitted" in one(seen).given


def test_different_versions_of_kea_are_refused() -> None:
    """A pair of unlike servers is for the minutes of an upgrade, not for a rollout."""
    seen = fresh(candidates={"kea-dhcp4-server": (("3.0.4-1", "candidate"),)})

    problem = one(seen)

    assert "3.0.4" in problem.given
    assert "2.6.3" in problem.given


def test_a_host_for_which_there_is_no_kea_is_refused() -> None:
    """Not half-way through the installation, but here."""
    problem = one(fresh(candidates={}))

    assert ("host-1", "package_source") == (problem.where, problem.setting)


def test_an_unsupported_release_is_refused_with_what_is_supported() -> None:
    """The operator reads where it would work."""
    problem = one(fresh(codename="buster"))

    assert "trixie" in problem.allowed


def test_a_kea_that_is_not_ours_is_refused_unless_it_is_to_be_adopted() -> None:
    """Someone else's service is not overwritten by default."""
    seen = fresh(packages={"kea-dhcp4-server": "2.6.3-1+deb13u1"})

    assert "adopt=true" in one(seen).remedy
    assert () == found(seen, adopt=True)


def test_a_running_isc_dhcp_server_is_refused_unless_it_is_to_be_adopted() -> None:
    """It holds the port, and is named by its unit too."""
    server = Unit("isc-dhcp-server.service", "loaded", "enabled", "active", 99)
    held = Listener("udp", "*", 67, (("dhcpd", 99),))
    seen = fresh(units={server.name: server}, listeners=(held,))

    assert {"dhcpd", "isc-dhcp-server"} == {
        word for p in found(seen) for word in ("dhcpd", "isc-dhcp-server") if word in p.given
    }
    assert () == found(seen, adopt=True)


def test_a_host_of_another_pair_is_refused() -> None:
    """A host name mixed up in the inventory must not turn one pair's server into another's."""
    assert "office server1" in one(fresh(mark=Mark("office server1"))).given


@pytest.mark.parametrize("anchors", [Anchors(), Anchors(ANCHORS.api, ANCHORS.peers)])
def test_hosts_of_a_ca_that_is_not_at_hand_are_refused(anchors: Anchors) -> None:
    """A second operator without pki/, or with another: told to copy it, or to begin anew."""
    refused = found(accepted(), anchors=anchors)

    assert {"host-1", "host-2"} == {problem.where for problem in refused}
    assert all("pki/lab/" in problem.remedy for problem in refused)


def test_all_problems_of_both_hosts_come_at_once() -> None:
    """The operator mends everything in one go."""
    seen = fresh(
        interfaces=(Interface("eth0", False, ("192.168.1.2",)),),
        packages={"kea-dhcp4-server": "2.6.3-1+deb13u1"},
    )
    seen["host-2"] = replace(
        seen["host-2"], skew_s=90.0, paths=(Path("192.168.1.2", 8000, "dropped"),)
    )

    refused = found(seen)

    assert 4 == len(refused)
    assert {"host-1", "host-2"} <= {problem.where for problem in refused}


# Live or not -----------------------------------------------------------------------------------


def test_a_change_of_a_healthy_live_pair_is_no_obstacle() -> None:
    """It is made host by host; what could stand against it is in test_changes.py."""
    assert () == found(accepted(), pair=lab_pair(valid_lifetime=50000))


def unfinished(**facts: Any) -> Survey:
    mark = Mark("lab server1", under_way=UnderWay(Work.ROLLING_OUT, "yesterday"))
    waiting = in_state(survey_of("host-1"), "waiting", [])
    return replace(waiting, **{"mark": mark, "leases": False, **facts})


def test_an_unfinished_rollout_is_continued_until_clients_rely_on_it() -> None:
    """Marked, not serving and without leases: free to change. Serving, or with leases: live."""
    serving = in_state(survey_of("host-1"), "partner-down", ["server1"]).status

    assert not is_live(unfinished())
    assert is_live(unfinished(leases=True))
    assert is_live(unfinished(status=serving))
    assert is_live(survey_of("host-1"))


def test_a_host_without_our_mark_is_not_our_live_server() -> None:
    """Whether it may be taken over is asked elsewhere."""
    assert not is_live(replace(survey_of("host-1"), mark=Mark()))


def test_few_cpus_are_worth_a_note_and_no_refusal() -> None:
    """The template's assumption."""
    assert any("CPUs" in text for text in warnings(PAIR, fresh()))
    many = {name: Seen(replace(seen.survey, cpus=4)) for name, seen in fresh().items()}
    assert not any("CPUs" in text for text in warnings(PAIR, many))


def test_a_newer_kea_is_reported_and_left_alone() -> None:
    """The deploy never upgrades."""
    newer = accepted(candidates={"kea-dhcp4-server": (("2.6.5-1", "candidate"),)})

    assert any("2.6.5-1" in text for text in warnings(PAIR, newer))
    assert () == found(newer)


def test_a_live_server_that_is_down_may_be_started() -> None:
    """Starting it interrupts nobody: this is how a deploy brings a pair back."""
    unit = replace(survey_of("host-1").units[DHCP4.debian.unit], active="inactive")
    down = accepted(started_from={}, units={unit.name: unit})

    assert () == found(down)


def test_one_live_host_alone_is_not_changed_either() -> None:
    """--limit is no way around the question."""
    alone = {"host-1": accepted()["host-1"]}

    assert "valid-lifetime" in one(alone, pair=lab_pair(valid_lifetime=50000)).given


def test_an_adoption_that_was_cut_off_goes_on_over_the_leases_of_the_old_server() -> None:
    """They are why it is adopted at all."""
    mark = Mark("lab server1", under_way=UnderWay(Work.ADOPTING, "yesterday"))

    assert not is_live(unfinished(mark=mark, leases=True))


def test_our_own_table_is_no_foreign_firewall() -> None:
    """Left by a rollout with the firewall on, it keeps the partner from the API's port alone."""
    seen = fresh()
    ours = replace(seen["host-2"].survey, firewall=True)
    paths = (Path("192.168.1.3", 8001, "dropped"), Path("192.168.1.3", 8000, "dropped"))
    seen = {"host-1": replace(seen["host-1"], paths=paths), "host-2": Seen(ours)}

    assert "8000" in one(seen).setting
