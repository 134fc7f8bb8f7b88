"""What stands against bringing a backup's leases back, and what each host's lease file becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kea_ha import layout
from kea_ha.decide import restore_plan
from kea_ha.host import daemons
from kea_ha.host.backup_store import Backup
from kea_ha.host.daemons import DHCP4
from kea_ha.host.desired_state import make_plan
from kea_ha.host.mark import Mark
from kea_ha.host.survey import Survey
from kea_ha.kea import lease_file
from kea_ha.kea.lease_file import COLUMNS, LeaseFileError
from kea_ha.layout import LEASES
from kea_ha.settings.problems import Problem
from tests.unit.surveys import SUBNETS, as_planned, lab_pair, survey_of

PAIR = lab_pair()
UNIT = DHCP4.debian.unit
HEADER = ",".join(COLUMNS)
NOW = datetime.fromtimestamp(2000, UTC)


def row(address: str, *, cltt: int = 1900, lifetime: int = 500, subnet: int = 1) -> str:
    return f"{address},02:00:00:00:00:01,,{lifetime},{cltt + lifetime},{subnet},0,0,,0,,0"


def file(*rows: str, header: str = HEADER) -> bytes:
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


def backup_of(**hosts: Mapping[str, bytes]) -> Backup:
    named = {host.replace("_", "-"): files for host, files in hosts.items()}
    return Backup(Path("backups/lab-x"), "lab", named)


def saved(*rows: str) -> Backup:
    return backup_of(host_1={LEASES: file(*rows)}, host_2={LEASES: file(*rows)})


def stopped(host: str, **mark: str) -> Survey:
    survey = as_planned(PAIR, host)
    units = {**survey.units, UNIT: replace(survey.units[UNIT], active="inactive")}
    return replace(
        survey, units=units, status=None, status_error="none", mark=replace(survey.mark, **mark)
    )


def both(**surveys: Survey) -> dict[str, Survey]:
    given = {host.replace("_", "-"): survey for host, survey in surveys.items()}
    return {host: given.get(host, stopped(host)) for host in ("host-1", "host-2")}


def against(backup: Backup, surveys: dict[str, Survey], **options: Any) -> list[Problem]:
    pair = options.pop("pair", PAIR)
    given = {"force": False, "now": NOW, **options}
    return list(restore_plan.objections(pair, backup, surveys, **given))


# --- may it be ------------------------------------------------------------------------------


def test_nothing_stands_against_a_stopped_pair() -> None:
    """Accepted once, and down now."""
    assert [] == against(saved(row("192.168.1.100")), both())


@pytest.mark.parametrize("host", ["host-1", "host-2"])
def test_a_running_server_is_refused_unless_forced(host: str) -> None:
    """The price of force is said."""
    surveys = both(**{host.replace("-", "_"): as_planned(PAIR, host)})

    (problem,) = against(saved(), surveys)

    assert (host, "kea-dhcp4") == (problem.where, problem.setting)
    assert "given twice" in problem.allowed
    assert "no client is served meanwhile" in problem.remedy
    assert [] == against(saved(), surveys, force=True)


def test_a_server_on_its_way_counts_as_running() -> None:
    """systemd starts a crashed one every two seconds."""
    survey = stopped("host-1")
    units = {**survey.units, UNIT: replace(survey.units[UNIT], active="activating")}

    assert against(saved(), both(host_1=replace(survey, units=units)))


def test_a_host_out_for_maintenance_is_refused_also_when_forced() -> None:
    """It would be started."""
    surveys = both(host_2=stopped("host-2", out_since="yesterday"))

    (problem,) = against(saved(), surveys, force=True)

    assert "out for maintenance since yesterday" in problem.given
    assert "--data host=host-2 --data done=true" in problem.remedy


def test_a_host_that_was_never_rolled_out_is_refused() -> None:
    """A fresh one in the place of a lost one."""
    fresh = replace(stopped("host-2"), mark=Mark())

    (problem,) = against(saved(), both(host_2=fresh), force=True)

    assert ("host-2", "not rolled out on this host") == (problem.where, problem.given)


def test_leases_of_other_subnets_are_listed() -> None:
    """By id, and by address; twice the same is one."""
    backup = saved(
        row("192.168.1.100"), row("192.168.1.101", subnet=7), row("10.0.0.5"), row("10.0.0.6")
    )

    (problem,) = against(backup, both(), force=True)

    for said in ("10.0.0.5 of subnet 1", "10.0.0.6 of subnet 1", "192.168.1.101 of subnet 7"):
        assert problem.given.count(said) == 1, problem.given
    assert "192.168.1.100" not in problem.given
    assert "until 1970-01-01 00:40:00 UTC" in problem.given
    assert "192.168.1.0/24 (id 1)" in problem.allowed


def test_of_many_leases_outside_the_first_are_listed() -> None:
    """With how many there are."""
    (problem,) = against(saved(*(row(f"10.0.0.{n}") for n in range(1, 31))), both())

    assert "10.0.0.20 " in problem.given
    assert "10.0.0.21 " not in problem.given
    assert "and 10 more" in problem.given


def test_leases_outside_that_are_over_or_gone_stand_against_nothing() -> None:
    """Else a backup from soon after a subnet was removed could never be used."""
    backup = saved(row("10.0.0.5", cltt=1000), row("10.0.0.6", lifetime=0))

    assert [] == against(backup, both())
    assert any("left out of the backup: 1 leases that are over" in note for note in notes(backup))
    outcome = restore_plan.restoration(PAIR, backup, {"host-1": {}, "host-2": {}})
    assert b"10.0.0.5" not in outcome.files["host-1"].content


def test_a_lease_without_end_is_listed_too() -> None:
    """Valid lifetime 4294967295 is Kea's infinity."""
    (problem,) = against(saved(row("10.0.0.5", lifetime=4294967295)), both())

    assert "10.0.0.5" in problem.given


def test_a_lease_file_that_is_none_is_refused() -> None:
    """Whole, by its sum, and not Kea's all the same."""
    (problem,) = against(backup_of(host_1={LEASES: b"<html>\n"}), both())

    assert "<html>" in problem.given


def test_a_backup_of_another_pair_is_told() -> None:
    """By the pair's name, or by its hosts."""
    assert "" == restore_plan.foreign_backup(PAIR, saved())
    assert "" == restore_plan.foreign_backup(PAIR, backup_of(host_2={}, host_9={}))
    assert "the pair office" in restore_plan.foreign_backup(PAIR, replace(saved(), pair="office"))
    assert "host-9" in restore_plan.foreign_backup(PAIR, backup_of(host_9={}))
    assert "the pair lab" in restore_plan.foreign_backup(None, saved())


# --- what is worth a line -------------------------------------------------------------------


def notes(backup: Backup) -> list[str]:
    return list(restore_plan.notes(PAIR, backup, both()))


def documents(host: str) -> dict[str, bytes]:
    files = stopped(host).files
    return {p: (files[p].content or "").encode() for p in daemons.DOCUMENTS if p in files}


def test_documents_that_differ_are_named() -> None:
    """Changed, gone, and new since the backup."""
    unchanged = {"host_1": documents("host-1"), "host_2": documents("host-2")}
    assert [] == notes(backup_of(**unchanged))

    edited = {**unchanged["host_1"], layout.KEA_CONF: b"{}\n"}
    (note,) = notes(backup_of(**{**unchanged, "host_1": edited}))
    assert note.startswith(f"host-1: {layout.KEA_CONF} is not as it was in the backup")

    fewer = {p: c for p, c in unchanged["host_2"].items() if p != layout.AGENT_CONF}
    (note,) = notes(backup_of(**{**unchanged, "host_2": fewer}))
    assert note.startswith(f"host-2: {layout.AGENT_CONF}")

    more = {**unchanged["host_1"], layout.FIREWALL_CONF: b"table\n"}
    (note,) = notes(backup_of(**{**unchanged, "host_1": more}))
    assert note.startswith(f"host-1: {layout.FIREWALL_CONF}")


def test_a_backup_of_one_host_and_rows_that_cannot_be_read_are_told() -> None:
    """No obstacle: each server had all leases."""
    backup = backup_of(host_1={**documents("host-1"), LEASES: file("192.168.1.100,broken")})

    assert 2 == len(notes(backup))
    assert any("has nothing of host-2" in note for note in notes(backup))
    assert any("left out of the backup: 1 rows" in note for note in notes(backup))


# --- what the files become ------------------------------------------------------------------


def test_both_hosts_get_what_either_has_and_the_backup() -> None:
    """And it is said how much of it only the backup had."""
    backup = backup_of(
        host_1={LEASES: file(row("192.168.1.100"), row("192.168.1.103", cltt=1))},
        host_2={LEASES: file(row("192.168.1.101"))},
    )
    live = {
        "host-1": {LEASES: file(row("192.168.1.102"))},
        "host-2": {LEASES: file(row("192.168.1.103"))},
    }

    outcome = restore_plan.restoration(PAIR, backup, live)

    everything = file(*(row(f"192.168.1.{n}") for n in (100, 101, 102, 103)))
    assert [everything] * 2 == [outcome.files[host].content for host in live]
    assert (4, 2) == (outcome.in_use, outcome.from_backup)


def test_an_end_that_came_after_the_backup_is_kept() -> None:
    """The lease was given back; the address is not in use."""
    live = {"host-1": {LEASES: file(row("192.168.1.100", lifetime=0))}, "host-2": {}}

    outcome = restore_plan.restoration(PAIR, saved(row("192.168.1.100")), live)

    assert (0, 0) == (outcome.in_use, outcome.from_backup)
    assert file(row("192.168.1.100", lifetime=0)) == outcome.files["host-2"].content


def test_each_host_keeps_its_columns() -> None:
    """The live file's, else those of its own file in the backup, else any."""
    old = ",".join(COLUMNS[:11])
    backup = backup_of(host_2={LEASES: file(header=old)})

    def headers(live: dict[str, dict[str, bytes]]) -> list[bytes]:
        outcome = restore_plan.restoration(PAIR, backup, live)
        return [outcome.files[host].content.splitlines()[0] for host in ("host-1", "host-2")]

    new = {LEASES: file()}
    assert [HEADER.encode(), old.encode()] == headers({"host-1": new, "host-2": {}})
    assert [old.encode(), HEADER.encode()] == headers({"host-1": {}, "host-2": new})
    assert [old.encode(), old.encode()] == headers({"host-1": {}, "host-2": {}})


def test_what_is_there_already_is_not_written_again() -> None:
    """One file with exactly this; with another beside it, it is not only this."""
    backup = saved(row("192.168.1.100"))
    first = restore_plan.restoration(PAIR, backup, {"host-1": {}, "host-2": {}})
    done = {LEASES: first.files["host-1"].content}

    again = restore_plan.restoration(
        PAIR, backup, {"host-1": done, "host-2": {**done, f"{LEASES}.2": file()}}
    )

    assert [True, False] == [again.files[host].is_there for host in ("host-1", "host-2")]
    assert done[LEASES] == again.files["host-2"].content
    assert 0 == again.from_backup


def test_a_live_file_that_is_none_is_named_with_its_host() -> None:
    """Kea does not start on it either."""
    with pytest.raises(LeaseFileError, match=rf"host-2: {lease_file.FILES[-1]} does not begin"):
        restore_plan.restoration(PAIR, saved(), {"host-1": {}, "host-2": {LEASES: b"junk\n"}})


def test_a_subnet_is_one_of_the_pair_by_its_settings() -> None:
    """Added since: its leases are welcome."""
    more = lab_pair(subnets=[*SUBNETS, {"subnet": "10.0.0.0/24", "id": 2, "relays": ["10.0.0.1"]}])

    backup = saved(row("10.0.0.5", subnet=2))

    assert against(backup, both())
    assert [] == against(backup, both(), pair=more)


# --- documents ------------------------------------------------------------------------------


KEPT_CONF = f"{layout.KEPT_DIR}{layout.KEA_CONF}"
DOCUMENTS = {
    layout.KEA_CONF: b'{"Dhcp4": {"edited": "by hand"}}\n',
    KEPT_CONF: b'{"Dhcp4": {"valid-lifetime": 7}}\n',
    layout.SETTINGS_FILE: b'{"valid_lifetime": 7}\n',
    layout.UNITS_FILE: f"{UNIT}\n".encode(),
}


def test_a_backup_makes_an_accepted_state_of_its_documents_and_the_hosts_certificates() -> None:
    """What was not there then is not there in it; no certificate comes from elsewhere."""
    live = as_planned(PAIR, "host-1")

    survey = restore_plan.accepted_state(live, DOCUMENTS)

    assert {layout.KEA_CONF} == set(survey.kept) & set(daemons.DOCUMENTS)
    kept = survey.kept[layout.KEA_CONF]
    assert DOCUMENTS[KEPT_CONF].decode() == kept.content
    assert ("640", "root:_kea") == (kept.mode, kept.owner)
    assert '{"valid_lifetime": 7}\n' == survey.kept_settings
    for path in (*layout.HA_FILES, *layout.API_FILES):
        assert live.files[path] == survey.kept[path]
    assert live.files == survey.files


def test_documents_that_the_host_lacks_are_to_be_as_a_rollout_writes_them() -> None:
    """By mode and owner: else the pair would not be accepted with them."""
    wished = make_plan(lab_pair(firewall="nftables"), PAIR.node("host-1"), survey_of("host-1"))
    saved = {f"{layout.KEPT_DIR}{one.path}": one.content.encode() for one in wished.files}
    fresh = replace(as_planned(PAIR, "host-1"), files={})

    kept = restore_plan.accepted_state(fresh, {**DOCUMENTS, **saved}).kept

    assert layout.FIREWALL_CONF in kept
    for one in wished.files:
        assert one.is_as(kept[one.path]), one.path


@pytest.mark.parametrize("missing", [KEPT_CONF, layout.SETTINGS_FILE, layout.UNITS_FILE])
def test_documents_want_a_backup_of_an_accepted_state_of_both(missing: str) -> None:
    """Of a host that could not be reached, or was never accepted, there is none."""
    part = {path: text for path, text in DOCUMENTS.items() if path != missing}

    (problem,) = restore_plan.document_objections(PAIR, backup_of(host_1=DOCUMENTS, host_2=part))

    assert "host-2" == problem.where
    assert [] == list(
        restore_plan.document_objections(PAIR, backup_of(host_1=DOCUMENTS, host_2=DOCUMENTS))
    )
    (problem,) = restore_plan.document_objections(PAIR, backup_of(host_1=DOCUMENTS))
    assert "host-2" == problem.where


def test_documents_of_two_settings_are_no_state_of_a_pair() -> None:
    """The backup was made while one of the two had been accepted, and the other not yet."""
    other = {**DOCUMENTS, layout.SETTINGS_FILE: b"{}"}

    (problem,) = restore_plan.document_objections(PAIR, backup_of(host_1=DOCUMENTS, host_2=other))

    assert "different settings" in problem.given
