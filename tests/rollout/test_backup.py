"""A pair is backed up, and its leases are brought back, on hosts that run Kea."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kea_ha import layout
from kea_ha.host import backup_store, daemons
from kea_ha.host.daemons import DHCP4
from tests.rollout.conftest import Accepted, make_operator
from tests.rollout.operators import Operator, Outcome
from tests.rollout.world import StandIn, Tree, World

BACKUP = ("-y", "inventory.py", "runbook/backup.py")
RESTORE = ("-y", "inventory.py", "runbook/restore.py")
UNDO = ("-y", "inventory.py", "runbook/undo.py")
UNIT = DHCP4.debian.unit
#: Long enough for leases not to end in the course of a test.
LIFETIME = 40000


@pytest.fixture(scope="module")
def _rolled_out(
    ground: World, tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    with World(ground) as world:
        directory = tmp_path_factory.mktemp("backups") / "anna"
        operator = make_operator(directory, world, tree, {"office": ("dhcp-a", "dhcp-b")})
        assert operator.run().status == 0
        yield operator


@pytest.fixture
def operator(_rolled_out: Operator) -> Operator:
    """An operator whose pair is accepted, has no leases, and was never backed up."""
    for host in _rolled_out.pairs["office"]:
        lose_leases(host)
    outcome = _rolled_out.run()
    assert outcome.status == 0, outcome.output
    shutil.rmtree(_rolled_out.directory / "backups", ignore_errors=True)
    return _rolled_out


def hosts_of(operator: Operator) -> list[StandIn]:
    return list(operator.pairs["office"])


def ask_kea(host: StandIn, command: str, **arguments: Any) -> dict[str, Any]:
    """Kea's answer on its own socket."""
    question = json.dumps({"command": command} | ({"arguments": arguments} if arguments else {}))
    answer = json.loads(
        host.sh(
            f"printf %s '{question}' | "
            f"curl -sS --unix-socket {layout.CONTROL_SOCKET} telnet://kea/ --max-time 5; true"
        )
    )
    assert isinstance(answer, dict)
    return answer


def give(host: StandIn, last: int, *, hostname: str = "", mac: int = 1) -> None:
    """Have a server give 192.0.2.`last` to a client."""
    answer = ask_kea(
        host,
        "lease4-add",
        **{
            "ip-address": f"192.0.2.{last}",
            "hw-address": f"02:00:00:00:00:{mac:02x}",
            "subnet-id": 1,
            "valid-lft": LIFETIME,
            "hostname": hostname,
        },
    )
    assert answer["result"] == 0, answer


def held(host: StandIn) -> dict[str, str]:
    """The leases that a server holds: address -> host name."""
    found = ask_kea(host, "lease4-get-all").get("arguments", {}).get("leases", [])
    return {lease["ip-address"]: lease["hostname"] for lease in found if lease["state"] == 0}


def lose_leases(host: StandIn) -> None:
    host.sh(f"systemctl stop {UNIT}; rm -f {layout.LEASES}*")


def backup(operator: Operator) -> Path:
    outcome = operator.run(*BACKUP)
    assert outcome.status == 0, outcome.output
    found = re.search(r"backed up to (backups/office-\S+): ", outcome.last_block)
    assert found, outcome.last_block
    return operator.directory / found[1]


def restore(operator: Operator, directory: Path, *arguments: str) -> Outcome:
    return operator.run(*RESTORE, "--data", f"from=backups/{directory.name}", *arguments)


def restored(operator: Operator, directory: Path, *arguments: str) -> Outcome:
    outcome = restore(operator, directory, *arguments)
    assert outcome.status == 0, outcome.output
    assert outcome.last_block.startswith("office: accepted."), outcome.last_block
    return outcome


# --- a pair that is left as it is -----------------------------------------------------------


def test_a_backup_changes_nothing_on_the_hosts(accepted: Accepted) -> None:
    """Documents, settings, leases; whole, and no key in it. The fixture sees to the hosts."""
    operator = accepted.operator
    outcome = operator.run(*BACKUP)

    assert outcome.status == 0, outcome.output
    assert outcome.totals()[:2] == (0, 0)
    outcome.must_say("0 leases of dhcp-a, 0 leases of dhcp-b", "keep pki/ separately")
    (directory,) = (operator.directory / "backups").iterdir()
    found = backup_store.read(directory)
    for host in operator.pairs["office"]:
        files = found.hosts[host.name]
        known = (*daemons.DOCUMENTS, *daemons.ACCEPTED)
        wanted = {path for path in known if host.path(path).exists()}
        assert {layout.LEASES} | wanted == set(files)
        for path in wanted:
            assert host.path(path).read_bytes() == files[path]
    assert not [p for p in directory.rglob("*") if p.suffix in (".key", ".crt") or "tls" in p.parts]
    shutil.rmtree(operator.directory / "backups")


@pytest.mark.parametrize("off", ["dhcp-a", "dhcp-b"])
def test_a_host_that_is_off_is_named_and_the_other_one_kept(accepted: Accepted, off: str) -> None:
    """Exit status not 0, and a backup of the one that was there."""
    operator = accepted.operator
    (other,) = {"dhcp-a", "dhcp-b"} - {off}
    operator.off = {off}
    try:
        outcome = operator.run(*BACKUP)
    finally:
        operator.off = set()

    assert outcome.status != 0
    outcome.must_say(f"Host  {off}\n", f"{off} could not be read", f"0 leases of {other}")
    outcome.must_say("office: not backed up in full.")
    (directory,) = (operator.directory / "backups").iterdir()
    assert [other] == list(backup_store.read(directory).hosts)
    shutil.rmtree(operator.directory / "backups")


def test_nothing_is_restored_while_clients_are_served(accepted: Accepted) -> None:
    """Said with the price of doing it all the same; --dry says it, too."""
    operator = accepted.operator
    directory = backup(operator)
    given = ("--data", f"from=backups/{directory.name}")
    for command in (RESTORE, ("--dry", "inventory.py", "runbook/restore.py")):
        outcome = operator.run(*command, *given)

        assert outcome.status == 1, outcome.output
        outcome.must_say("refused; nothing was changed", "dhcp-a: kea-dhcp4 is serving clients")
        outcome.must_say("dhcp-b: kea-dhcp4 is running", "--data force=true stops both servers")
    outcome = operator.run("--dry", "inventory.py", "runbook/restore.py", *given,
                           "--data", "force=true")  # fmt: skip
    assert outcome.status == 0, outcome.output
    outcome.must_say("--dry: nothing was changed")
    shutil.rmtree(operator.directory / "backups")


def test_a_backup_that_does_not_fit_is_refused_before_a_host_is_contacted(
    accepted: Accepted,
) -> None:
    """Not given, not there, damaged, another pair's; and half of the pair."""
    operator = accepted.operator
    directory = backup(operator)
    other = operator.directory / "backups/other"
    backup_store.write(
        operator.directory / "backups", "branch", datetime(2000, 1, 1, tzinfo=UTC), {"dhcp-a": {}}
    )
    (branch,) = operator.directory.glob("backups/branch-*")
    shutil.copytree(directory, other)
    (other / f"dhcp-b{layout.LEASES}").write_text("address\n")
    whole = f"from=backups/{directory.name}"
    for arguments, said in (
        ((), f"--data from is not given.*the newest here: backups/{directory.name}"),
        (("--data", "from=backups/nothing"), "backups/nothing, not a directory"),
        (("--data", "from=backups/other"), r"dhcp-b/var/lib/kea/kea-leases4\.csv is damaged"),
        (("--data", f"from=backups/{branch.name}"), "a backup of the pair branch.*: office"),
        (("--data", whole, "--limit", "dhcp-a"), "leaves a host of the pair out"),
        (("--data", whole, "--data", "force=perhaps"), "--data force is perhaps"),
    ):
        outcome = operator.run(*RESTORE, *arguments)

        assert outcome.status == 1
        assert re.search(said, outcome.output), outcome.output
        assert "No host was contacted." in outcome.output
        assert outcome.contacted == set()
    shutil.rmtree(operator.directory / "backups")


# --- leases are brought back ----------------------------------------------------------------


def test_what_both_hosts_lost_is_on_both_again(operator: Operator) -> None:
    """Also what only one of them had; in files that are Kea's own."""
    first, second = hosts_of(operator)
    for host in (first, second):
        for last in (100, 101, 102):
            give(host, last, hostname="with,comma", mac=last)
    give(second, 103, hostname="late")
    directory = backup(operator)
    for host in (first, second):
        lose_leases(host)

    outcome = restored(operator, directory)

    outcome.must_say("both hosts have 4 leases, 4 of them from the backup")
    for host in (first, second):
        expected = {f"192.0.2.{last}": "with,comma" for last in (100, 101, 102)}
        assert {**expected, "192.0.2.103": "late"} == held(host)
        assert "640 _kea:_kea\n" == host.sh(f"stat -c '%a %U:%G' {layout.LEASES}")
        assert "enabled\n" == host.sh(f"systemctl is-enabled {UNIT}")


@pytest.mark.slow
def test_a_newer_lease_and_the_end_of_one_survive_a_forced_restoration(
    operator: Operator,
) -> None:
    """What was given, changed or given back after the backup stays so."""
    first, second = hosts_of(operator)
    for host in (first, second):
        for last in (110, 111, 112):
            give(host, last, hostname="before", mac=last)
    directory = backup(operator)
    for host in (first, second):
        host.sh("sleep 1.1")  # cltt is in whole seconds
        for last in (111, 112):
            ask_kea(host, "lease4-del", **{"ip-address": f"192.0.2.{last}"})
        give(host, 111, hostname="after", mac=99)
        give(host, 113, hostname="after", mac=98)
    before = {host.name: held(host) for host in (first, second)}

    outcome = restored(operator, directory, "--data", "force=true")

    assert "no client is served until they have started again" in outcome.output
    outcome.must_say("both hosts have 3 leases, 0 of them from the backup")
    wanted = {"192.0.2.110": "before", "192.0.2.111": "after", "192.0.2.113": "after"}
    assert [wanted, wanted] == [held(host) for host in (first, second)]
    assert before == {host.name: held(host) for host in (first, second)}


@pytest.mark.slow
def test_the_files_of_before_are_kept_and_a_second_time_changes_none(operator: Operator) -> None:
    """The set as it was, closed to others; then there is nothing to write."""
    first, second = hosts_of(operator)
    give(first, 120)
    directory = backup(operator)
    for host in (first, second):
        host.sh(f"systemctl stop {UNIT}; cp -p {layout.LEASES} {layout.LEASES}.2")
        host.sh(f"rm -rf {layout.STATE_DIR}/leases-before-restore-*")

    restored(operator, directory)

    for host in (first, second):
        (aside,) = host.path(layout.STATE_DIR).glob("leases-before-restore-*")
        assert 0o40700 == aside.stat().st_mode
        names = {path.name for path in aside.iterdir()}
        assert {"kea-leases4.csv", "kea-leases4.csv.2"} == names
        host.sh(f"systemctl stop {UNIT}")
    again = restored(operator, directory)
    for host in (first, second):
        assert f"{host.name} has all of these leases, and no other" in again.output
        assert 1 == len(list(host.path(layout.STATE_DIR).glob("leases-before-restore-*")))


@pytest.mark.slow
def test_a_host_out_for_maintenance_is_not_started(operator: Operator) -> None:
    """Refused, and it stays as it is."""
    directory = backup(operator)
    maintain = ("-y", "inventory.py", "runbook/maintain.py", "--data", "host=dhcp-b")
    assert operator.run(*maintain).status == 0

    outcome = restore(operator, directory, "--data", "force=true")

    assert outcome.status == 1
    outcome.must_say("dhcp-b: the host is out for maintenance since", "done=true")
    assert hosts_of(operator)[1].main_pid(UNIT) == 0
    assert backup(operator)  # that only reads
    assert operator.run(*maintain, "--data", "done=true").status == 0


@pytest.mark.slow
def test_documents_that_differ_stay_and_come_back_on_demand(operator: Operator) -> None:
    """The backup is of before a change of settings; killed in the middle, the same run ends it."""
    first, second = hosts_of(operator)
    saved = documents_of(operator)
    directory = backup(operator)
    operator.settings["valid_lifetime"] = 41000
    try:
        assert operator.run().status == 0
        live = documents_of(operator)

        outcome = restored(operator, directory, "--data", "force=true")

        outcome.must_say(f"dhcp-a: {layout.KEA_CONF} is not as it was in the backup")
        assert live == documents_of(operator)

        only = ("--data", f"from=backups/{directory.name}", "--data", "documents=true")
        operator.start_killed(*RESTORE, *only, before=f"systemctl stop {UNIT}")
        outcome = operator.run(*RESTORE, *only)

        assert outcome.status == 0, outcome.output
        outcome.must_say(f"restored. Both hosts have their documents of backups/{directory.name}")
        outcome.must_say("would change this again: setting valid_lifetime: 43200 -> 41000")
        assert saved == documents_of(operator)
        for host in (first, second):
            assert not host.path(layout.RESTORED_DIR).exists()
        assert operator.run(*UNDO).status == 0
        assert live == documents_of(operator)
    finally:
        operator.settings.clear()
    assert operator.run().status == 0


def documents_of(operator: Operator) -> list[bytes]:
    """Kea's document on each host."""
    return [host.path(layout.KEA_CONF).read_bytes() for host in hosts_of(operator)]


# A gzip that cannot write what it unpacks.
_FULL = """#!/bin/sh
[ "$1" != -dc ] || { echo 'No space left on device' >&2; exit 1; }
exec /usr/bin/gzip.away "$@"
"""


@pytest.mark.slow
def test_a_failure_in_between_says_what_stands_and_is_safe_to_repeat(operator: Operator) -> None:
    """No space on the second host: the servers serve again, and the same command completes it."""
    first, second = hosts_of(operator)
    give(first, 130)
    directory = backup(operator)
    for host in (first, second):
        lose_leases(host)
    assert operator.run().status == 0
    second.sh("mv /usr/bin/gzip /usr/bin/gzip.away")
    second.write("/usr/bin/gzip", _FULL)
    second.sh("chmod 755 /usr/bin/gzip")
    try:
        outcome = restore(operator, directory, "--data", "force=true")
    finally:
        second.sh("mv /usr/bin/gzip.away /usr/bin/gzip")

    assert outcome.status == 1
    outcome.must_say("could not be written on dhcp-b", "No space left on device")
    outcome.must_say("The leases are restored on dhcp-a", "dhcp-b has its lease file as it was")
    outcome.must_say("started again on dhcp-a", "started again on dhcp-b")
    assert all(host.main_pid(UNIT) for host in (first, second))
    restored(operator, directory, "--data", "force=true")
    assert {"192.0.2.130": ""} == held(second)


KILLED_BEFORE = (
    "runuser -u _kea",
    pytest.param(f"systemctl stop {UNIT}", marks=pytest.mark.slow),
    pytest.param(f"systemctl start {UNIT}", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("command", KILLED_BEFORE)
def test_killed_at_any_command_the_same_again_completes_it(
    operator: Operator, command: str
) -> None:
    """No lease is lost, whichever."""
    first, second = hosts_of(operator)
    give(first, 140, hostname="saved")
    directory = backup(operator)
    for host in (first, second):
        lose_leases(host)
    given = (*RESTORE, "--data", f"from=backups/{directory.name}", "--data", "force=true")

    operator.start_killed(*given, before=command)
    restored(operator, directory, "--data", "force=true")

    for host in (first, second):
        assert {"192.0.2.140": "saved"} == held(host)
