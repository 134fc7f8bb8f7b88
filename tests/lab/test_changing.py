"""A live pair is changed host by host, and its clients do not notice.

The bound on the time between two ACKs is Kea's design, not luck: a server in partner-down holds its
service off until its next heartbeat sees the restarted partner ready, so that no lease is given
that the partner would miss. That is one heartbeat-delay at most; half a second is for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab import bench, identities
from tests.lab.bench import DEPLOY, FAST, HOSTS, UNITS, Clone
from tests.lab.clients import BEHIND_A_RELAY, MANY, Served, relayed, steady

pytestmark = pytest.mark.timeout(400)

GAP_S = 1.0 + 0.5
ROTATE = ("-y", "inventory.py", "runbook/rotate.py")
UNDO = ("-y", "inventory.py", "runbook/undo.py")
MAINTAIN = ("-y", "inventory.py", "runbook/maintain.py")
MANY_CLIENTS = ("--data", f"subnets={json.dumps(MANY)}", *FAST)


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab], operator: Clone) -> Lab:
    """A pair that serves a large subnet, with a heartbeat of a second."""
    lab = fresh_lab()
    assert operator.deploy(*MANY_CLIENTS).verdict
    return lab


def unnoticed(lab: Lab, served: Served) -> None:
    """No client unserved, no lease lost or given twice, and no longer gap than Kea's own."""
    print(served)
    assert [] == served.unserved
    assert [] == served.given_twice
    assert served.longest_gap <= GAP_S, f"{served}\n{what_kea_did(lab)}"
    both_hold(lab, served)


def what_kea_did(lab: Lab) -> str:
    """The last changes of state, by both servers' logs in the order of time."""
    lines = [
        f"{line[:23]} {host} {line[24:]}"
        for host in HOSTS
        for line in bench.sh(
            lab,
            host,
            "grep -hE 'HA_STATE_TRANS|HA_SYNC|HA_LOCAL_DHCP|HA_HEARTBEAT|_FAILED|dhcp-(dis|en)able|"
            "sync-complete' /var/log/kea/kea-dhcp4.log | tail -n 40",
        ).splitlines()
    ]
    return "\n".join(sorted(lines))


def both_hold(lab: Lab, served: Served) -> None:
    """Each server has every lease that was given."""
    given = {address: mac for mac, address in served.leases.items()}
    for host in HOSTS:
        bench.wait_for(
            f"all leases on {host}",
            lambda host=host: given.items() <= bench.leases(lab, host).items(),
            patience=10,
        )


def served_by(lab: Lab, operator: Clone, *settings: str) -> None:
    """The pair is accepted with these settings and nothing is left to do."""
    operator.await_verdict(*MANY_CLIENTS, *settings)
    assert (0, 0) == operator.deploy(*MANY_CLIENTS, *settings).totals()[:2]


def lifetime(seconds: int) -> tuple[str, str]:
    """A setting that every test changes to a value of its own."""
    return ("--data", f"valid_lifetime={seconds}")


def one_of(cases: Sequence[str], shown: str) -> list[object]:
    """All of them, in the full matrix; the one that is ``shown`` in every run of the tests."""
    return [one if one == shown else pytest.param(one, marks=pytest.mark.slow) for one in cases]


def refuses_to_start_with(lab: Lab, host: str, seconds: int) -> None:
    """From now on kea-dhcp4 does not start on this host with that lifetime; with others it does."""
    drop_in = (
        "[Service]\n"
        f"ExecStartPre=/bin/sh -c '! grep -q \"lifetime.: {seconds}\" /etc/kea/kea-dhcp4.conf'\n"
    )
    bench.give(lab, host, f"/etc/systemd/system/{UNITS[0]}.d/zz-fault.conf", drop_in, "644")


def test_a_change_of_setting_passes_unnoticed(lab: Lab, operator: Clone) -> None:
    """Standby first, then the primary, each restarted while the other serves; then accepted."""
    before = bench.process_ids(lab)
    with steady(lab) as served:
        outcome = operator.deploy(*MANY_CLIENTS, *lifetime(40000), "--data", "thread_pool_size=2")

    assert outcome.verdict
    assert "setting thread_pool_size: 4 -> 2" in outcome.output
    assert outcome.output.index("host-2 steps down") < outcome.output.index("host-1 steps down")
    unnoticed(lab, served)
    after = bench.process_ids(lab)
    changed = {host for (host, unit), pid in after.items() if before[host, unit] != pid}
    assert set(HOSTS) == changed
    for host in HOSTS:
        status = bench.ask_kea(lab, host, "status-get")["arguments"]
        assert 2 == status["thread-pool-size"]
    served_by(lab, operator, *lifetime(40000), "--data", "thread_pool_size=2")


def test_certificates_that_are_due_are_renewed_unnoticed(lab: Lab, operator: Clone) -> None:
    """Less than a third of a year is left: made anew by the next deploy.py, the pair serving."""
    served_by_now = operator.deploy(*MANY_CLIENTS, *lifetime(40000))
    assert served_by_now.verdict
    past = Store.open(operator.pki, "lab", None, datetime.now(UTC) - timedelta(days=300))
    for host, address in HOSTS.items():
        request = bench.sh(lab, host, "openssl req -new -key /etc/kea/tls/ha.key -subj /CN=x")
        due = past.sign_peer(request, name=host, address=address)
        bench.sh(lab, host, f"cat > /etc/kea/tls/ha.crt <<'END'\n{due}END")
    assert "less than a third of its life" in operator.verify(*MANY_CLIENTS).output

    with steady(lab) as served:
        outcome = operator.deploy(*MANY_CLIENTS, *lifetime(40000))

    assert "certificates valid for 36" in outcome.verdict
    unnoticed(lab, served)


@pytest.mark.slow
def test_certificates_are_made_anew_on_demand_unnoticed(lab: Lab, operator: Clone) -> None:
    """`rotate.py`: other certificates in use on both hosts and on the wire, the same keys."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(40000)).verdict

    def identities() -> list[str]:
        return [
            bench.sh(lab, host, f"cat /etc/kea/tls/{which}.{kind}")
            for kind in ("key", "crt")
            for host in HOSTS
            for which in ("ha", "api")
        ]

    before = identities()
    with steady(lab) as served:
        outcome = operator.run(*ROTATE, *MANY_CLIENTS, *lifetime(40000))

    assert outcome.verdict
    after = identities()
    assert before[:4] == after[:4]
    assert not set(before[4:]) & set(after[4:])
    unnoticed(lab, served)
    served_by(lab, operator, *lifetime(40000))


@pytest.mark.slow  # in every run: a machine that replaces a lost one
def test_the_cas_are_changed_unnoticed(lab: Lab, operator: Clone, tmp_path: Path) -> None:
    """`rotate.py --data ca=true`: what the old CA signed opens nothing, and nothing brings it back.

    Nor does any key from before: it may be why the CAs are changed. Each round of the change is a
    rolling one of its own, with the bound of any other.
    """
    settings = (*MANY_CLIENTS, *lifetime(40000))
    assert operator.deploy(*settings).verdict
    old = Store(operator.pki, "lab")
    dropped = [pem.splitlines()[3] for pem in (old.peers.trusted, old.api.trusted)]
    keys = [bench.sh(lab, host, f"cat {path}") for host in HOSTS for path in layout.KEYS]
    keys.append((operator.pki / "api-client.key").read_text())
    dropped += [pem.splitlines()[1] for pem in keys]
    peer = identities.hand_over(lab, "client", "old", identities.throwaway_peer(old, tmp_path))
    url = f"https://{HOSTS['host-1']}:8000/"
    assert bench.request(lab, "client", url, "--insecure", *peer).answered

    with steady(lab) as served:
        outcome = operator.run(*ROTATE, *settings, "--data", "ca=true", timeout=360)

    assert outcome.verdict
    unnoticed(lab, served)
    for host in HOSTS:
        kept = bench.sh(lab, host, "find /etc/kea /var/lib/kea-ha -type f -exec cat {} +")
        assert not [line for line in dropped if line in kept]
    assert keys[-1] != (operator.pki / "api-client.key").read_text()
    assert None is Store(operator.pki, "lab").stage
    assert bench.request(lab, "client", url, "--insecure", *peer).refused
    served_by(lab, operator, *lifetime(40000))


@pytest.mark.slow
def test_new_keys_that_do_not_work_are_undone_on_both(lab: Lab, operator: Clone) -> None:
    """In the round of a change of CAs that makes them; then the same command goes on."""
    settings = (*MANY_CLIENTS, *lifetime(40500))
    assert operator.deploy(*settings).verdict
    keys = {host: bench.sh(lab, host, f"cat {layout.HA_KEY}") for host in HOSTS}
    digest = bench.sh(lab, "host-1", f"sha256sum {layout.HA_KEY}").split()[0]
    fault = f"/etc/systemd/system/{UNITS[0]}.d/zz-fault.conf"
    check = f"ExecStartPre=/bin/sh -c 'sha256sum {layout.HA_KEY} | grep -q {digest}'"
    bench.give(lab, "host-1", fault, f"[Service]\n{check}\n", "644")
    bench.sh(lab, "host-1", "systemctl daemon-reload")

    with steady(lab) as served:
        outcome = operator.run(*ROTATE, *settings, "--data", "ca=true", timeout=360)

    assert "undone; the pair is as it was before" in outcome.refusal
    unnoticed(lab, served)
    operator.await_verdict(*settings)
    assert keys == {host: bench.sh(lab, host, f"cat {layout.HA_KEY}") for host in HOSTS}
    bench.sh(lab, "host-1", f"rm {fault}; systemctl daemon-reload")
    assert operator.run(*ROTATE, *settings, "--data", "ca=true", timeout=360).verdict
    for host in HOSTS:
        found = bench.sh(lab, host, "find /etc/kea /var/lib/kea-ha -type f -exec cat {} +")
        assert keys[host].splitlines()[1] not in found
    served_by(lab, operator, *lifetime(40500))


@pytest.mark.parametrize("host", one_of(tuple(HOSTS), "host-1"))
def test_a_change_that_keeps_a_server_from_starting_is_undone(
    lab: Lab, operator: Clone, host: str
) -> None:
    """Told with Kea's and systemd's own words; the old state serves on, clients notice nothing."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(41000)).verdict
    refuses_to_start_with(lab, host, 42000)

    with steady(lab) as served:
        outcome = operator.deploy(*MANY_CLIENTS, *lifetime(42000))

    assert "undone; the pair is as it was before" in outcome.refusal
    assert f"Host {host}" in outcome.refusal
    assert "would try the same ones again" in outcome.refusal
    served_by(lab, operator, *lifetime(41000))
    unnoticed(lab, served)
    bench.sh(
        lab, host, f"rm /etc/systemd/system/{UNITS[0]}.d/zz-fault.conf; systemctl daemon-reload"
    )


def test_a_finished_change_is_undone_by_hand_unnoticed(lab: Lab, operator: Clone) -> None:
    """`undo.py`: what was accepted before is back on both, and what would change it is said."""
    before = (*MANY_CLIENTS, *lifetime(42500), "--data", "thread_pool_size=3")
    after = (*MANY_CLIENTS, *lifetime(42600))
    assert operator.deploy(*before).verdict
    documents = [bench.document(lab, host) for host in HOSTS]
    assert operator.deploy(*after).verdict

    with steady(lab) as served:
        outcome = operator.run(*UNDO, *after)

    assert 0 == outcome.status
    assert "undone. Both hosts are as they were" in outcome.last_block
    assert "would change this again: setting thread_pool_size: 3 -> 4" in outcome.last_block
    assert outcome.output.index("host-2 has its earlier state") < outcome.output.index(
        "host-1 has its earlier state"
    )
    assert documents == [bench.document(lab, host) for host in HOSTS]
    unnoticed(lab, served)
    assert (0, 0) == operator.deploy(*before).totals()[:2]


@pytest.mark.slow
def test_the_documents_of_a_backup_come_back_unnoticed(lab: Lab, operator: Clone) -> None:
    """`restore.py --data documents=true`, over whatever changes there were since."""
    saved = (*MANY_CLIENTS, *lifetime(42510))
    assert operator.deploy(*saved).verdict
    assert 0 == operator.run("-y", "inventory.py", "runbook/backup.py", *saved).status
    documents = [bench.document(lab, host) for host in HOSTS]
    for seconds in (42520, 42530):
        assert operator.deploy(*MANY_CLIENTS, *lifetime(seconds)).verdict
    (backup,) = (operator.directory / "backups").glob("lab-*")

    with steady(lab) as served:
        outcome = operator.run(
            *("-y", "inventory.py", "runbook/restore.py", *MANY_CLIENTS, *lifetime(42530)),
            *("--data", f"from=backups/{backup.name}", "--data", "documents=true"),
        )

    assert 0 == outcome.status, outcome.output
    assert "restored. Both hosts have their documents" in outcome.last_block
    assert "would change this again: setting valid_lifetime: 42510 -> 42530" in outcome.last_block
    assert documents == [bench.document(lab, host) for host in HOSTS]
    unnoticed(lab, served)
    served_by(lab, operator, *lifetime(42510))


@pytest.mark.slow
def test_an_undo_is_undone_by_the_next_one(lab: Lab, operator: Clone) -> None:
    """What was undone is kept in its turn."""
    before, after = ((*MANY_CLIENTS, *lifetime(seconds)) for seconds in (42610, 42620))
    assert operator.deploy(*before).verdict
    assert operator.deploy(*after).verdict
    for there in (before, after):
        assert 0 == operator.run(*UNDO, *after).status
        assert (0, 0) == operator.deploy(*there).totals()[:2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["Try the earlier document", "host-2 has its", "host-1 steps"])
def test_an_undo_that_was_killed_goes_on(lab: Lab, operator: Clone, stage: str) -> None:
    """It comes to the same end, and not forward again."""
    before, after = ((*MANY_CLIENTS, *lifetime(seconds)) for seconds in (42700, 42800))
    assert operator.deploy(*before).verdict
    assert operator.deploy(*after).verdict
    with steady(lab) as served:
        running = operator.start(*UNDO, *after)
        running.wait_for(stage)
        running.kill()
        outcome = operator.run(*UNDO, *after)

    assert 0 == outcome.status, outcome.output
    unnoticed(lab, served)
    for host in HOSTS:
        assert 42700 == bench.document(lab, host)["Dhcp4"]["valid-lifetime"]
    assert (0, 0) == operator.deploy(*before).totals()[:2]


@pytest.mark.slow
def test_a_change_that_was_cut_off_is_undone_by_hand(lab: Lab, operator: Clone) -> None:
    """To what was accepted last, not to what was accepted before that."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(42900)).verdict
    running = operator.start(*DEPLOY, *MANY_CLIENTS, *lifetime(42950))
    running.wait_for("host-2 is changed")
    running.kill()

    outcome = operator.run(*UNDO, *MANY_CLIENTS, *lifetime(42950))

    assert 0 == outcome.status, outcome.output
    served_by(lab, operator, *lifetime(42900))


@pytest.mark.slow
def test_a_hands_edit_is_shown_and_kept_until_forced(lab: Lab, operator: Clone) -> None:
    """What was edited where, and the two values; with force=true it is written anew."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(43000)).verdict
    bench.sh(lab, "host-2", "sed -i 's/: 21600/: 21000/' /etc/kea/kea-dhcp4.conf")

    refused = operator.deploy(*MANY_CLIENTS, *lifetime(43000)).refusal

    assert "Dhcp4.renew-timer: 21600 -> 21000" in refused
    assert 21000 == bench.document(lab, "host-2")["Dhcp4"]["renew-timer"]
    assert operator.deploy(*MANY_CLIENTS, *lifetime(43000), "--data", "force=true").verdict
    assert 21600 == bench.document(lab, "host-2")["Dhcp4"]["renew-timer"]


def test_a_damaged_pair_is_not_changed(lab: Lab, operator: Clone) -> None:
    """The standby is down: said with who serves; the primary is not restarted."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(44000)).verdict
    bench.sh(lab, "host-2", f"systemctl stop {UNITS[0]}")
    before = bench.main_pid(lab, "host-1")

    refused = operator.deploy(*MANY_CLIENTS, *lifetime(45000)).refusal

    assert "clients are served by host-1" in refused
    assert "host-2: kea-dhcp4-server.service is inactive" in refused
    assert before == bench.main_pid(lab, "host-1")
    # With the settings as they were it is brought back.
    assert operator.deploy(*MANY_CLIENTS, *lifetime(44000)).verdict
    assert before == bench.main_pid(lab, "host-1")


@pytest.mark.slow
def test_what_a_pair_cannot_live_with_half_done_wants_an_outage(lab: Lab, operator: Clone) -> None:
    """Another prefix under a subnet's id: refused with the price; accepted, both at once."""
    assert operator.deploy(*MANY_CLIENTS).verdict
    before = bench.process_ids(lab)
    renumbered = json.dumps(
        [{**MANY[0], "subnet": "192.168.0.0/17", "pools": ["192.168.16.0-192.168.100.255"]}]
    )
    settings = ("--data", f"subnets={renumbered}", *FAST)

    refused = operator.deploy(*settings).refusal

    assert "accept_outage=true" in refused
    assert "subnet 1 (192.168.0.0/16) becomes 192.168.0.0/17" in refused
    assert before == bench.process_ids(lab)
    assert operator.deploy(*settings, "--data", "accept_outage=true").verdict
    for host in HOSTS:
        (subnet,) = bench.document(lab, host)["Dhcp4"]["subnet4"]
        assert "192.168.0.0/17" == subnet["subnet"]
    refused = operator.run(*UNDO, *settings).refusal
    assert "accept_outage=true" in refused
    assert 0 == operator.run(*UNDO, *settings, "--data", "accept_outage=true").status
    served_by(lab, operator)


@pytest.mark.slow
def test_a_subnet_comes_and_goes_unnoticed(lab: Lab, operator: Clone) -> None:
    """To the standby first, and from the primary first: neither turns a lease of the other away."""
    more = ("--data", f"subnets={json.dumps([*MANY, BEHIND_A_RELAY])}", *FAST)
    assert operator.deploy(*MANY_CLIENTS).verdict
    with steady(lab) as served:
        outcome = operator.deploy(*more)
    assert outcome.verdict
    unnoticed(lab, served)

    with steady(lab) as served, relayed(lab):
        outcome = operator.deploy(*MANY_CLIENTS)

    assert outcome.verdict
    assert outcome.output.index("host-1 steps down") < outcome.output.index("host-2 steps down")
    unnoticed(lab, served)
    for host in HOSTS:
        refused = "grep -c HA_LEASE_UPDATE_FAILED /var/log/kea/kea-dhcp4.log"
        assert "0" == bench.sh(lab, host, refused, check=False).strip()
    served_by(lab, operator)


@pytest.mark.slow
def test_a_change_of_both_at_once_that_does_not_work_is_undone_on_both(
    lab: Lab, operator: Clone
) -> None:
    """One of the two does not start with it: both get back what was accepted."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(49500)).verdict
    refuses_to_start_with(lab, "host-2", 49600)
    renumbered = json.dumps([{**MANY[0], "id": 7}])
    settings = ("--data", f"subnets={renumbered}", *FAST, *lifetime(49600))

    outcome = operator.deploy(*settings, "--data", "accept_outage=true")

    assert "undone; the pair is as it was before" in outcome.refusal
    served_by(lab, operator, *lifetime(49500))
    bench.sh(
        lab, "host-2", f"rm /etc/systemd/system/{UNITS[0]}.d/zz-fault.conf; systemctl daemon-reload"
    )


STAGES = (
    "writing what changes on host-2",
    "host-2 steps down",
    "host-2 is changed",
    "writing what changes on host-1",
    "host-1 steps down",
    "host-1 is changed",
)


@pytest.mark.parametrize("stage", one_of(STAGES, "host-2 steps down"))
def test_an_operator_killed_in_the_middle_only_runs_again(
    lab: Lab, operator: Clone, stage: str
) -> None:
    """The next run goes on from wherever it was, and the clients notice nothing."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(50000)).verdict
    settings = lifetime(50001 + STAGES.index(stage))
    with steady(lab) as served:
        running = operator.start(*DEPLOY, *MANY_CLIENTS, *settings)
        running.wait_for(stage)
        running.kill()
        outcome = operator.deploy(*MANY_CLIENTS, *settings)

    assert outcome.verdict
    unnoticed(lab, served)
    served_by(lab, operator, *settings)


@pytest.mark.parametrize("stage", one_of(STAGES, "host-1 steps down"))
def test_power_lost_in_the_middle_of_a_change(lab: Lab, operator: Clone, stage: str) -> None:
    """The other server serves on; with the power back, the same command ends accepted."""
    host = "host-1" if "host-1" in stage else "host-2"
    other = next(name for name in HOSTS if name != host)
    before, after = lifetime(60000), lifetime(60001 + STAGES.index(stage))
    assert operator.deploy(*MANY_CLIENTS, *before).verdict
    known = bench.leases(lab, other)
    running = operator.start(*DEPLOY, *MANY_CLIENTS, *after)
    running.wait_for(stage)
    lab.kill(host)
    outcome = running.wait()
    assert outcome.status != 0
    assert host in outcome.refusal
    bench.wait_for(
        f"a lease from {other}",
        lambda: (lease := bench.get_lease(lab)) and lease.server == HOSTS[other],
        patience=60,
    )

    lab.start(host)
    bench.wait_for(
        f"{host} to be back", lambda: bench.ha_state(lab, host) == "hot-standby", patience=90
    )
    assert operator.deploy(*MANY_CLIENTS, *after).verdict
    served_by(lab, operator, *after)
    for name in HOSTS:
        assert known.items() <= bench.leases(lab, name).items(), name


def test_a_full_disk_on_the_standby_stops_the_change_there(lab: Lab, operator: Clone) -> None:
    """Said with the host and the system's words; what was there is there, and nothing restarted."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(46000)).verdict
    before = bench.process_ids(lab)
    bench.sh(
        lab,
        "host-2",
        "cp -a /etc/kea /root/etc-kea; mount -t tmpfs -o size=128k,mode=750 none /etc/kea; "
        "chown root:_kea /etc/kea; cp -a /root/etc-kea/. /etc/kea/; "
        "dd if=/dev/zero of=/etc/kea/tls/fill bs=1k 2>/dev/null; true",
    )

    outcome = operator.deploy(*MANY_CLIENTS, *lifetime(47000))

    assert "No space left on device" in outcome.refusal
    assert "host-2" in outcome.refusal
    bench.sh(lab, "host-2", "umount -l /etc/kea")
    assert before == bench.process_ids(lab)
    served_by(lab, operator, *lifetime(46000))
    assert operator.deploy(*MANY_CLIENTS, *lifetime(47000)).verdict


def test_a_link_cut_in_the_middle_leaves_the_old_or_the_new_state(
    lab: Lab, operator: Clone
) -> None:
    """The standby cannot rejoin: its old state is put back, the primary serves throughout."""
    assert operator.deploy(*MANY_CLIENTS, *lifetime(48000)).verdict
    primary = bench.main_pid(lab, "host-1")
    with steady(lab) as served:
        running = operator.start(*DEPLOY, *MANY_CLIENTS, *lifetime(49000))
        running.wait_for("host-2 steps down")
        bench.sh(
            lab,
            "host-1",
            "nft add table inet cut; "
            "nft add chain inet cut in '{ type filter hook input priority 0; }'; "
            "for port in dport sport; do nft add rule inet cut in tcp $port 8000 drop; done",
        )
        outcome = running.wait(400)
        bench.sh(lab, "host-1", "nft delete table inet cut")

    assert "put back on host-2, but the pair does not become healthy" in outcome.refusal
    assert primary == bench.main_pid(lab, "host-1")
    assert [] == served.unserved
    bench.wait_for(
        "the pair to be healthy",
        lambda: all(bench.ha_state(lab, host) == "hot-standby" for host in HOSTS),
        patience=90,
    )
    assert operator.deploy(*MANY_CLIENTS, *lifetime(48000)).verdict
    assert primary == bench.main_pid(lab, "host-1")
    served_by(lab, operator, *lifetime(48000))


def test_a_certificate_that_expires_during_the_change(lab: Lab, operator: Clone) -> None:
    """Not begun one by one; accepted, both get new ones at once."""
    settings = (*MANY_CLIENTS, *lifetime(48500))
    assert operator.deploy(*settings).verdict
    before = bench.process_ids(lab)
    for host, address in HOSTS.items():
        past = Store.open(
            operator.pki, "lab", None, datetime.now(UTC) - timedelta(days=365, seconds=-60)
        )
        request = bench.sh(lab, host, "openssl req -new -key /etc/kea/tls/ha.key -subj /CN=x")
        ending = past.sign_peer(request, name=host, address=address)
        bench.sh(lab, host, f"cat > /etc/kea/tls/ha.crt <<'END'\n{ending}END")

    refused = operator.deploy(*settings).refusal

    assert "the certificate of host-1 expires at" in refused
    assert before == bench.process_ids(lab)
    assert operator.deploy(*settings, "--data", "accept_outage=true").verdict
    served_by(lab, operator, *lifetime(48500))


@pytest.mark.parametrize("host", one_of(tuple(HOSTS), "host-1"))
def test_a_host_is_taken_out_and_brought_back_unnoticed(
    lab: Lab, operator: Clone, host: str
) -> None:
    """`maintain.py`: it stays down over a reboot, and deploy.py says why; then both are well."""
    assert operator.deploy(*MANY_CLIENTS).verdict
    other = next(name for name in HOSTS if name != host)
    one = (*MAINTAIN, *MANY_CLIENTS, "--data", f"host={host}")
    with steady(lab) as served:
        out = operator.run(*one)
    assert f"{host} is out for maintenance, {other} serves all clients alone" in out.last_block
    assert 0 == out.status
    unnoticed_by_one(lab, served, other)

    bench.reboot(lab, host)
    assert not bench.is_active(lab, host)
    refused = operator.deploy(*MANY_CLIENTS).refusal
    assert f"{host}: the host is out for maintenance since" in refused
    assert f"--data host={host} --data done=true" in refused
    assert "out for maintenance since" in operator.verify(*MANY_CLIENTS).refusal
    refused = operator.run(*MAINTAIN, *MANY_CLIENTS, "--data", f"host={other}").refusal
    assert "nobody would serve" in refused

    with steady(lab) as served:
        back = operator.run(*one, "--data", "done=true")
    assert back.verdict
    unnoticed(lab, served)
    served_by(lab, operator)


def unnoticed_by_one(lab: Lab, served: Served, host: str) -> None:
    """No client unserved, and this server has every lease."""
    assert [] == served.unserved
    assert served.longest_gap <= GAP_S, str(served)
    given = {address: mac for mac, address in served.leases.items()}
    assert given.items() <= bench.leases(lab, host).items()


def test_a_name_that_is_no_host_is_refused(lab: Lab, operator: Clone) -> None:
    """Before any host is contacted; the hosts that there are are named."""
    for argument in ((), ("--data", "host=host-9")):
        outcome = operator.run(*MAINTAIN, *argument)
        assert outcome.status == 1
        assert "host-1, host-2" in outcome.output
        assert "No host was contacted" in outcome.output


@pytest.mark.slow
@pytest.mark.parametrize("debian", ["12", "testing"])
def test_other_keas_change_unnoticed_too(
    fresh_lab: Callable[..., Lab], tmp_path: Path, debian: str
) -> None:
    """Kea 2.2.0 and 3.0: a change of setting, with clients asking.

    On other machines than the module's, whose pair is gone then: therefore the last of its tests.
    """
    lab = fresh_lab(debian)
    operator = Clone(tmp_path / "anna")
    assert operator.deploy(*MANY_CLIENTS).verdict

    with steady(lab) as served:
        outcome = operator.deploy(*MANY_CLIENTS, *lifetime(40000))

    assert outcome.verdict
    unnoticed(lab, served)
