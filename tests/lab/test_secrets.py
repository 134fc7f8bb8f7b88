"""No private key leaves its host, and no secret is shown to anybody, whatever is done to a pair.

One first rollout, as talkative as pyinfra can be, with the CAs' keys under a passphrase, watched
from its first to its last moment. What the watchers kept is then searched for the secrets that the
rollout made. Each watcher finds a leak that is planted for it, after the same rollout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab, places
from tests.lab import bench
from tests.lab.bench import FAST, HOSTS, Clone, Outcome
from tests.lab.identities import Authority
from tests.lab.watching import Arguments, Readable, Secret, key_needles, places_of

pytestmark = pytest.mark.timeout(400)

PASSPHRASE = "a-passphrase-of-the-tests-Zx81kQ"  # noqa: S105 - protects nothing but a lab
_WATCHED = "/tmp /var/tmp /run /dev/shm /etc /root /home /var/lib/kea /var/lib/kea-ha /var/log"


@dataclass
class Watched:
    """A rollout, everything that was seen of it, and what must not have been."""

    lab: Lab
    operator: Clone
    outcome: Outcome
    arguments: Arguments
    readable: list[Readable]
    secrets: list[Secret]

    def trees(self) -> dict[str, Path]:
        """Every file that was written on a machine, and the operator's clone."""
        uppers = {name: places.DISKS / name / "upper" for name in (*HOSTS, "client")}
        return uppers | {"operator": self.operator.directory}

    def shown(self) -> list[tuple[str, str]]:
        """Secrets in files that another user could read, at any time: secret and place."""
        return [
            (secret.name, f"{watcher.machine}:{path}")
            for watcher in self.readable
            for path, content in watcher.files()
            for secret in self.secrets
            if secret.is_in(content)
        ]

    def in_arguments(self) -> list[str]:
        """Secrets in the arguments of a process."""
        return [s.name for s in self.secrets if any(map(s.is_in, list(self.arguments.seen)))]

    def in_memory_and_journals(self) -> list[tuple[str, str]]:
        """Secrets in what a machine keeps in memory, and in what it logs."""
        found = []
        for name in (*HOSTS, "client"):
            journal = ["journalctl", "--all", "--no-pager", "-o", "cat"]
            said = self.lab.exec(name, journal, text=False)
            kept = self.lab.exec(
                name,
                ["sh", "-c", "find /run /tmp /dev/shm -type f -size -1024k -exec cat {} +"],
                text=False,
                check=False,
            )
            content = said.stdout + kept.stdout
            found += [(s.name, name) for s in self.secrets if s.is_in(content)]
        return found


def _secrets(lab: Lab, operator: Clone) -> list[Secret]:
    found = [Secret("the passphrase", "", (PASSPHRASE.encode(),))]
    for host in HOSTS:
        for which in ("ha", "api"):
            path = f"/etc/kea/tls/{which}.key"
            needles = key_needles(bench.sh(lab, host, f"cat {path}"))
            found.append(Secret(f"{which} key of {host}", f"{host}:{path}", needles))
        path = "/etc/kea/kea-api-password"
        password = bench.sh(lab, host, f"cat {path}").strip().encode()
        assert len(password) > 20
        found.append(Secret(f"the agent's password of {host}", f"{host}:{path}", (password,)))
    for name in ("peers-ca.key", "api-ca.key", "api-client.key"):
        pem = (operator.pki / name).read_text()
        needles = key_needles(pem, PASSPHRASE)
        found.append(Secret(name, f"operator:/pki/lab/{name}", needles))
    return found


@pytest.fixture(scope="module")
def watched(
    fresh_lab: Callable[..., Lab], operator: Clone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """A first rollout at `-vvv --diff`, watched; the watchers watch on until the last test."""
    lab = fresh_lab()
    logs = tmp_path_factory.mktemp("watched")
    temporary = operator.directory / "tmp"
    temporary.mkdir()
    arguments = Arguments()
    readable = [Readable(logs / name, _WATCHED.split(), lab, name) for name in (*HOSTS, "client")]
    readable.append(Readable(logs / "here", [str(operator.directory)], None, "operator"))
    try:
        outcome = operator.deploy(
            *(*FAST, "-vvv", "--diff"),
            environment={"KEA_HA_CA_PASSPHRASE": PASSPHRASE, "TMPDIR": str(temporary)},
        )
        assert outcome.verdict
        yield Watched(lab, operator, outcome, arguments, readable, _secrets(lab, operator))
    finally:
        arguments.stop()
        for watcher in readable:
            watcher.stop()


def test_each_secret_is_in_its_own_place_and_nowhere_else(watched: Watched) -> None:
    """Keys stay where they were made: in no other file of either host, client or operator."""
    for secret in watched.secrets:
        found = places_of(secret, watched.trees())
        assert ({secret.place} if secret.place else set()) == found, secret.name


def test_the_search_finds_a_key_on_the_other_host(watched: Watched) -> None:
    """The same search finds host-1's key when it is copied to host-2."""
    key = bench.sh(watched.lab, "host-1", "cat /etc/kea/tls/ha.key")
    bench.give(watched.lab, "host-2", "/root/copied", key)
    try:
        secret = next(s for s in watched.secrets if s.name == "ha key of host-1")
        assert "host-2:/root/copied" in places_of(secret, watched.trees())
    finally:
        bench.sh(watched.lab, "host-2", "rm /root/copied")


def test_the_screen_shows_no_secret_at_full_verbosity(watched: Watched) -> None:
    """At `-vvv --diff`; the same search finds a key that an operator has printed on purpose."""
    assert "kea-dhcp4.conf" in watched.outcome.output
    shown = [s.name for s in watched.secrets if s.is_in(watched.outcome.output.encode())]
    assert shown == []

    on_purpose = watched.operator.run(
        *("-y", "-vvv", "inventory.py", "exec", "--", "cat", "/etc/kea/tls/ha.key")
    )
    shown = [s.name for s in watched.secrets if s.is_in(on_purpose.output.encode())]
    assert {"ha key of host-1", "ha key of host-2"} <= set(shown)


def test_no_process_was_given_a_secret_in_its_arguments(watched: Watched) -> None:
    """On the operator's side and on all machines; the watcher finds one that is given a key."""
    assert watched.arguments.rounds > 100
    assert any(b"kea-dhcp4" in one for one in list(watched.arguments.seen))
    assert watched.in_arguments() == []

    planted = Secret("planted", "", (b"a-secret-in-an-argument",))
    waiting = "import time; time.sleep(30)"
    process = watched.lab.popen("host-2", ["python3", "-c", waiting, "a-secret-in-an-argument"])
    try:
        bench.wait_for(
            "the watcher to see it",
            lambda: any(planted.is_in(one) for one in list(watched.arguments.seen)),
        )
    finally:
        process.terminate()
        process.wait()


def test_no_other_user_could_read_a_secret_at_any_time(watched: Watched) -> None:
    """In no file, however short-lived; the watchers find one left open for a moment."""
    assert any(path == "/etc/passwd" for path, _ in watched.readable[0].files())
    assert watched.shown() == []

    bench.sh(watched.lab, "host-1", "cp /etc/kea/tls/ha.key /tmp/staged; chmod 644 /tmp/staged")
    try:
        bench.wait_for(
            "the watcher to see it",
            lambda: ("ha key of host-1", "host-1:/tmp/staged") in watched.shown(),
            every=0.5,
        )
    finally:
        bench.sh(watched.lab, "host-1", "rm /tmp/staged")
    key = watched.operator.pki / "api-client.key"
    key.chmod(0o644)
    try:
        bench.wait_for(
            "the watcher here to see it",
            lambda: ("api-client.key", f"operator:{key}") in watched.shown(),
            every=0.5,
        )
    finally:
        key.chmod(0o600)


def test_no_journal_and_no_volatile_file_holds_a_secret(watched: Watched) -> None:
    """Journals of both hosts and /run and /tmp; the same search finds a key that was logged."""
    assert watched.in_memory_and_journals() == []

    bench.sh(watched.lab, "host-2", "logger -t leak < /etc/kea/tls/api.key; journalctl --sync")
    assert ("api key of host-2", "host-2") in watched.in_memory_and_journals()


def test_without_the_passphrase_nothing_can_be_signed_and_verify_still_judges(
    watched: Watched,
) -> None:
    """The CAs' keys are encrypted; a check from cron needs no passphrase."""
    for name in ("peers-ca.key", "api-ca.key"):
        assert "BEGIN OPENSSH PRIVATE KEY" in (watched.operator.pki / name).read_text()

    assert watched.operator.verify(*FAST).verdict


OWN = {name: f"/etc/ssl/office/{name}" for name in ("key", "certificate", "anchor")}
LATER = {
    "backup": ("runbook/backup.py",),
    "rotate": ("runbook/rotate.py", *FAST),
    "rotate the CAs": ("runbook/rotate.py", *FAST, "--data", "ca=true"),
    "restore": ("runbook/restore.py", *FAST, "--data", "force=true"),
    "drill": ("runbook/drill.py", *FAST, "--data", "scenario=certificate-expired"),
    "recover": ("runbook/recover.py", *FAST),
    "own certificates": (
        *("deploy.py", *FAST, "--data", "accept_outage=true"),
        *("--data", f"own_certificates={json.dumps(OWN)}"),
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_later_command_gives_a_secret_away(watched: Watched, scratch: Path) -> None:
    """Neither an old key nor a new one, on the screen, in arguments, to others, in journals, in a
    backup or a report; recover has a server to start, and certificates of the operator's are used.
    """
    lab, operator = watched.lab, watched.operator
    # What was planted, above.
    planted = {*watched.shown(), *watched.in_memory_and_journals()}
    office = Authority(scratch / "office", "the office CA")
    brought = {host: office.issue(address) for host, address in HOSTS.items()}
    for host, identity in brought.items():
        bench.give(lab, host, OWN["key"], identity.key)
        bench.give(lab, host, OWN["certificate"], identity.certificate, "644")
        bench.give(lab, host, OWN["anchor"], office.anchor, "644")
        needles = key_needles(identity.key)
        watched.secrets.append(Secret(f"own key of {host}", f"{host}:{OWN['key']}", needles))
    for what, (command, *given) in LATER.items():
        if what == "restore":
            (made,) = (operator.directory / "backups").glob("lab-*")
            given += ["--data", f"from={made}"]
        if what == "recover":
            bench.sh(lab, "host-2", "systemctl stop kea-dhcp4-server")
        outcome = operator.run(
            *("-y", "-vvv", "--diff", "inventory.py", command, *given),
            environment={"KEA_HA_CA_PASSPHRASE": PASSPHRASE},
            timeout=300,
        )
        assert 0 == outcome.status, outcome.output
        fresh = [one for one in _secrets(lab, operator) if one not in watched.secrets]
        watched.secrets += fresh
        shown = [one.name for one in watched.secrets if one.is_in(outcome.output.encode())]
        assert [] == shown, what
    assert [] == watched.in_arguments()
    assert planted == {*watched.shown(), *watched.in_memory_and_journals()}
    here = {"operator": operator.directory}
    for secret in watched.secrets:
        own = {secret.place} if secret.place.startswith("operator:") else set()
        assert places_of(secret, here) <= own, secret.name
