"""What somebody else wrote does nothing here but be read: each way in that was found once, closed.

Scripts that run on hosts run here, with this machine's own sh, in a directory that stands for the
host's; `nobody` stands for Kea's user there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kea_ha import foreign, layout
from kea_ha.decide import acceptance, restore_plan
from kea_ha.decide.client_load import Told
from kea_ha.foreign import ForeignError, shown
from kea_ha.host import backup_store, file_transfer, frames, port_tests, survey
from kea_ha.host.backup_store import Backup, BackupError
from kea_ha.host.daemons import DHCP4
from kea_ha.host.script import script
from kea_ha.host.survey import Question, build_script, parse_survey
from kea_ha.kea import lease_file, log_file
from kea_ha.kea.redaction import without_secrets
from kea_ha.pki.ca_store import Store
from kea_ha.pki.certificates import PkiError
from kea_ha.settings import build, kea_versions
from kea_ha.settings.extra import extra_problems
from kea_ha.settings.model import OwnCertificates
from kea_ha.settings.problems import HIDDEN, SettingsError, is_secret, masked
from tests.unit.identities import key_pem, new_key
from tests.unit.surveys import (
    PAIR,
    QUESTIONS,
    SUBNETS,
    TOKEN,
    accepted,
    output_of,
    read,
    said_by,
    survey_of,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
USER, GROUP = "nobody", "nogroup"
#: What str.splitlines breaks at, and no program on a host.
BREAKS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


class Place:
    """A directory in the place of a host's /, for the paths of Kea's in a script."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path in ("etc/kea/tls", "var/log/kea", "var/lib/kea", "var/lib/kea-ha", "run/kea"):
            (root / path).mkdir(parents=True)
        for path in ("var/log/kea", "var/lib/kea", "run/kea"):
            shutil.chown(root / path, USER, GROUP)

    def of(self, path: str) -> Path:
        """Where a host's path is here."""
        return self.root / path.lstrip("/")

    def write(self, path: str, content: bytes | str) -> Path:
        """A file that Kea's user wrote."""
        found = self.of(path)
        found.write_bytes(content if isinstance(content, bytes) else content.encode())
        shutil.chown(found, USER, GROUP)
        return found

    def script(self, text: str) -> str:
        """The script, for this place."""
        for path in ("/etc/kea", "/var/log/kea", "/var/lib/kea", "/run/kea"):
            text = text.replace(path, f"{self.root}{path}")
        for words in (f"--reuid={layout.KEA_USER}", f"-user {layout.KEA_USER}", "runuser -u _kea"):
            text = text.replace(words, words.replace(layout.KEA_USER, USER))
        return text.replace(f"--regid={layout.KEA_USER}", f"--regid={GROUP}")

    def run(self, text: str, *, limit_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run a script here."""
        return subprocess.run(
            ["sh", "-c", self.script(text)],
            capture_output=True,
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def survey(self, question: Question = QUESTIONS["host-1"]) -> survey.Survey:
        """The survey of this place."""
        answer = self.run(build_script(question)).stdout
        answer = answer.replace(str(self.root).encode(), b"")
        return parse_survey(self.home(answer), question)

    def home(self, answer: bytes) -> bytes:
        """The answer with paths as a host would tell them."""
        said = frames.read(answer, survey._KNOWN)
        root = str(self.root).encode()
        return output_of({name: value.replace(root, b"") for name, value in said.items()})


@pytest.fixture
def place() -> Iterator[Place]:
    """A host's directories, which `nobody` may reach."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        yield Place(Path(root))


def log_line(
    id_: str, text: str, *, at: datetime, logger: str = "ha-hooks", level: str = "WARN"
) -> str:
    stamp = at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{stamp} {level:<5} [kea-dhcp4.{logger}/67.1] {id_} {text}\n"


# Structure that cannot be forged ------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("mark", BREAKS, ids=[f"{ord(one):x}" for one in BREAKS])
def test_a_line_in_keas_log_is_one_line_of_its_log_and_nothing_else(
    place: Place, mark: str
) -> None:
    """Kea's user writes headings behind whatever some programs take for the end of a line."""
    forged = (
        f"{mark}@@ clock 1{mark}{TOKEN} host MQ=={mark}@@ contents{mark}@@ name /x$(id>/F)/name"
    )
    now = datetime.now()
    place.write(layout.LOG, log_line("HA_X", f"x{forged}", at=now))

    found = place.survey()

    assert ["HA_X"] == [line.id for line in found.log]
    assert abs(found.epoch - time.time()) < 60
    assert {} == found.kept_names


@needs_root
def test_a_line_feed_in_keas_log_makes_no_frame(place: Place) -> None:
    """Also when the run's own token were known to whoever wrote it."""
    now = datetime.now()
    place.write(layout.LOG, log_line("HA_X", f"x\n{TOKEN} host MQ==\n{TOKEN} end \n", at=now))

    assert abs(place.survey().epoch - time.time()) < 60


@pytest.mark.parametrize("name", ["host.1", "kept", "Host", "..", "conf", "executable", ""])
def test_a_value_that_was_not_asked_for_is_no_answer(name: str) -> None:
    """A host tells what it was asked, and each of it once."""
    sent = output_of(said_by("host-1"), end=False)

    with pytest.raises(ForeignError):
        parse_survey(sent + f"{TOKEN} {name} MQ==\n{TOKEN} end \n".encode(), QUESTIONS["host-1"])


def test_a_value_is_told_once() -> None:
    """A later one replaces no earlier one."""
    sent = output_of(said_by("host-1"), end=False)

    with pytest.raises(ForeignError, match="twice"):
        parse_survey(sent + output_of({"host": b"x"}), QUESTIONS["host-1"])


def test_nothing_comes_after_the_end() -> None:
    """What an answer goes on with is not of the script."""
    with pytest.raises(ForeignError):
        parse_survey(output_of(said_by("host-1")) + output_of({}), QUESTIONS["host-1"])


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/var/lib/kea-ha/../x", "/var/lib/kea-ha/last$(id)/name"]
)
def test_a_path_that_was_not_asked_for_is_no_answer(path: str) -> None:
    """Paths that come back stand in scripts later."""
    with pytest.raises(ForeignError, match="not asked for"):
        read("host-1", attributes=f"0 600 root:root {path}\n".encode(), contents=b"")
    with pytest.raises(ForeignError, match="not asked for"):
        read("host-1", digests=f"{'0' * 64}  {path}\0".encode())


FACTS: dict[str, tuple[str, bytes]] = {
    "mode": ("conf_attributes", f"6$(id)0 root:_kea {layout.HA_KEY}".encode()),
    "owner": ("conf_attributes", f"640 root:$(id) {layout.HA_KEY}".encode()),
    "owner with a break": ("conf_attributes", f"640 root\x0b:x {layout.HA_KEY}".encode()),
    "version": ("packages", b"kea-common ii  2.6.3;id"),
    "package": ("packages", b"kea-evil ii  2.6.3"),
    "candidate": ("policy", b"kea-dhcp4-server:\n  Candidate: $(id)\n"),
    "architecture": ("host", b"1795413355.9 2026-11-23 05:55:55.936\n2\namd64/../x\n"),
    "time": ("host", b"1e308 2026-11-23 05:55:55.936\n2\namd64\n"),
    "year": ("host", b"1795413355.9 0001-11-23 05:55:55.936\n2\namd64\n"),
    "cpus": ("host", b"1795413355.9 2026-11-23 05:55:55.936\n99999999999999999999\namd64\n"),
    "tool": ("host", b"1795413355.9 2026-11-23 05:55:55.936\n2\namd64\nrm -rf\n"),
    "digest": ("digests", f"x{'0' * 63}  {layout.HA_CERTIFICATE}\0".encode()),
    "size": ("attributes", b"-1 600 root:root /var/lib/kea-ha/pair\n"),
    "units": ("units", b"MainPID=1\n"),
    "process": ("units", b"MainPID=9999999999999999999999\n\n" * 9),
    "interfaces": ("interfaces", b'{"ifname": "lo"}'),
    "address": (
        "interfaces",
        b'[{"ifname": "lo", "flags": [], "addr_info": [{"family": "inet", "local": "$(id)"}]}]',
    ),
}  # fmt: skip


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_that_cannot_be_is_no_answer(fact: str) -> None:
    """Modes, owners, versions and the like are checked before anything is done with them."""
    name, value = FACTS[fact]

    with pytest.raises(ForeignError):
        read("host-1", **{name: value})


def test_a_codename_that_cannot_be_is_that_of_no_release() -> None:
    """It becomes a word of apt's; pre-flight refuses a host whose release is not known."""
    found = read("host-1", os=b'ID=debian\nVERSION_CODENAME="trixie;id"\n')

    assert "" == found.codename


def test_the_name_of_an_accepted_state_is_a_name_or_none() -> None:
    """Else nothing can be put back by it."""
    text = b"x/../$(id)\n"
    path = f"{layout.KEPT_DIR}/{layout.KEPT_NAME}"
    told = f"{len(text)} 600 root:root {path}\n".encode()

    assert {layout.KEPT_DIR: ""} == read("host-1", attributes=told, contents=text).kept_names


def test_an_interface_that_no_script_could_be_given_is_left_out() -> None:
    """Its name becomes a word of nft's and tc's."""
    told = [
        {"ifname": name, "flags": ["UP"], "addr_info": []} for name in ("eth0", "a;id", "$(id)")
    ]

    assert ["eth0"] == [
        one.name for one in read("host-1", interfaces=json.dumps(told).encode()).interfaces
    ]


@pytest.mark.parametrize(
    "name",
    ["\x0b@@ clock 1", 'x",pid=67,fd=9', "a\ntcp LISTEN", '"),("kea-dhcp4', "))", "\u2028"],
)
def test_a_process_may_have_any_name_and_is_then_not_known(name: str) -> None:
    """What listens on a port is told, and by whom only if that cannot be doubted."""
    row = f'tcp LISTEN 0 128 192.168.1.2:8000 0.0.0.0:* users:(("{name}",pid=99,fd=3))\n'
    other = 'udp UNCONN 0 0 192.168.1.2:67 0.0.0.0:* users:(("kea-dhcp4",pid=67,fd=18))\n'

    found = read("host-1", sockets=(row + other).encode())

    assert [("kea-dhcp4", 67)] == [p for one in found.holders("udp", 67) for p in one.processes]
    assert 1 == len(found.holders("tcp", 8000))
    assert ("kea-dhcp4", 99) not in [p for one in found.listeners for p in one.processes]
    assert 67 not in [pid for one in found.holders("tcp", 8000) for _, pid in one.processes]


def test_what_a_partner_answers_is_no_result_of_a_control() -> None:
    """The body of a reply used to be able to hold the results of controls that were not made."""
    tests = port_tests.tests_of(PAIR, PAIR.primary)
    body = b'\n@@ ha yes host-2 8000 200 0\nresult ok\n@@ none no host-1 8000 000 35\n"result": 0'
    answer = output_of({"code.0": b"200 0", "body.0": body})

    made = port_tests.parse_controls(answer, tests)

    assert len(tests) == len(made)
    assert not any(control.holds for control in made)


def test_no_text_is_split_where_only_some_programs_do() -> None:
    """`str.splitlines` is not used in the package at all, nor a second way to quote for a shell."""
    package = Path(survey.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert ".splitlines(" not in text, path
        assert "shlex." not in text or path.name == "foreign.py", path


# Where Kea's user leads ---------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("name", [layout.LOG, layout.LEASES, f"{layout.LOG}.1"])
def test_a_link_among_keas_files_leads_to_nothing_that_its_user_may_not_read(
    place: Place, name: str
) -> None:
    """A line of /etc/shadow once went to the operator."""
    secret = place.root / "shadow"
    secret.write_text(log_line("HA_SECRET", "root:$y$", at=datetime.now()))
    secret.chmod(0o600)
    place.of(name).symlink_to(secret)

    found = place.survey()

    assert () == found.log
    assert not any(found.lease_headers.values())


@needs_root
@pytest.mark.parametrize(
    "name", [layout.LOG, layout.LEASES, layout.KEA_CONF, layout.HA_CERTIFICATE]
)
def test_a_pipe_keeps_nobody_waiting(place: Place, name: str) -> None:
    """Nor does one behind a link."""
    os.mkfifo(place.root / "pipe")
    shutil.chown(place.of("/etc/kea"), USER, GROUP)
    place.of(name).symlink_to(place.root / "pipe")
    os.mkfifo(place.of(f"{layout.LEASES}.1"))
    begun = time.monotonic()

    place.survey()
    assert place.run(file_transfer.read_script([layout.KEA_CONF], lease_file.FILES)).returncode == 0

    assert time.monotonic() - begun < 30


@needs_root
def test_a_file_without_end_is_not_read_to_its_end(place: Place) -> None:
    """A sparse lease file of 2 GiB, and a log that is one line of 200 MB."""
    with place.write(layout.LEASES, "").open("r+b") as file:
        file.truncate(2 << 30)
    with place.write(layout.LOG, "").open("r+b") as file:
        file.truncate(200_000_000)
    begun = time.monotonic()

    answer = place.run(build_script(QUESTIONS["host-1"])).stdout
    assert len(answer) < 1_000_000
    packed = place.run(file_transfer.read_script([], lease_file.FILES)).stdout
    assert len(packed) < 1_000_000
    assert time.monotonic() - begun < 30

    (place.root / "answer").write_bytes(packed)
    with pytest.raises(ForeignError, match="2147483648 bytes"):
        file_transfer.unpack(place.root / "answer", place.root, [], lease_file.FILES)


@needs_root
def test_where_keas_user_could_exchange_them_documents_are_read_as_that_user(place: Place) -> None:
    """Of a host whose Kea is adopted, /etc/kea may be Kea's user's."""
    secret = place.root / "secret"
    secret.write_text("{}")
    secret.chmod(0o600)
    shutil.chown(place.of("/etc/kea"), USER, GROUP)
    place.of("/etc/kea/tls").rename(place.root / "elsewhere")
    place.of("/etc/kea/tls").symlink_to(place.root / "elsewhere")
    (place.root / "elsewhere").chmod(0o700)
    (place.root / "elsewhere/ha.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    place.of(layout.KEA_CONF).symlink_to(secret)
    place.write(layout.AGENT_CONF, '{"Control-agent": {}}')

    found = place.survey()

    assert layout.KEA_CONF not in found.files
    assert not any(found.certificates.values())
    assert '{"Control-agent": {}}' == found.text(layout.AGENT_CONF)


def close(place: Place, call: str) -> subprocess.CompletedProcess[bytes]:
    functions = script("as_kea", "closing", group="root")
    functions = functions.replace(layout.KEA_USER, USER).replace(f"-g {USER}", f"-g {GROUP}")
    functions = functions.replace(f"--regid={USER}", f"--regid={GROUP}")
    return place.run(f"set -e\n{functions}\n{call}")


@needs_root
@pytest.mark.parametrize("kind", ["link", "link to a directory", "hard link", "pipe", "socket"])
def test_root_touches_nothing_that_is_no_file_of_keas_directory(place: Place, kind: str) -> None:
    """After one run /etc/shadow was once readable by Kea's group."""
    victim = place.root / "victim"
    victim.mkdir() if kind == "link to a directory" else victim.write_text("secret")
    victim.chmod(0o600)
    at = place.of("/etc/kea/odd")
    if kind == "hard link":
        os.link(victim, at)
    elif kind == "pipe":
        os.mkfifo(at)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(at))
    else:
        at.symlink_to(victim)
    os.chown(at, *(USER_ID, USER_ID), follow_symlinks=False) if kind != "hard link" else None
    before = victim.stat()

    done = close(place, "close_tree /etc/kea")

    assert 1 == done.returncode
    assert b"/etc/kea/odd" in done.stderr
    after = victim.stat()
    assert (before.st_mode, before.st_uid, before.st_gid) == (
        after.st_mode,
        after.st_uid,
        after.st_gid,
    )


USER_ID = 65534


@needs_root
def test_a_directory_is_closed_before_what_is_in_it(place: Place) -> None:
    """From above: what is root's alone cannot be exchanged below."""
    for path in ("/etc/kea", "/etc/kea/tls", "/etc/kea/tls/deep"):
        place.of(path).mkdir(exist_ok=True)
        shutil.chown(place.of(path), USER, GROUP)
        place.of(path).chmod(0o777)
    file = place.write("/etc/kea/tls/deep/a", "a")
    file.chmod(0o666)

    assert 0 == close(place, "close_tree /etc/kea").returncode

    for path in ("/etc/kea", "/etc/kea/tls", "/etc/kea/tls/deep"):
        about = place.of(path).stat()
        assert (0, 0o750) == (about.st_uid, stat.S_IMODE(about.st_mode)), path
    assert (0, 0o640) == (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode))


@needs_root
@pytest.mark.parametrize("how", ["a link", "another user's", "open to a group"])
def test_identities_are_not_written_into_a_directory_that_is_not_roots_alone(
    place: Place, how: str
) -> None:
    """Root once took over, and wrote into, a directory that a link led to."""
    victim = place.root / "victim"
    victim.mkdir()
    tls = place.of(layout.TLS_DIR)
    if how == "a link":
        tls.rmdir()
        tls.symlink_to(victim)
    elif how == "another user's":
        shutil.chown(tls, USER, GROUP)
    else:
        tls.chmod(0o770)

    done = close(place, "close_tls 750")

    assert 1 == done.returncode
    assert b"/etc/kea/tls" in done.stderr
    assert 0o755 == stat.S_IMODE(victim.stat().st_mode)


@needs_root
def test_what_is_closed_to_others_is_closed_without_following_a_link(place: Place) -> None:
    """A link of Kea's user's to a file that anybody may read leaves that file as it is."""
    other = place.root / "other"
    other.write_text("x")
    other.chmod(0o604)
    place.of("/var/lib/kea/link").symlink_to(other)
    place.write("/var/lib/kea/mine", "x").chmod(0o644)
    roots = place.of("/var/lib/kea/roots")
    roots.write_text("a copy of root's")
    roots.chmod(0o644)

    assert 0 == close(place, "close_to_others /var/lib/kea").returncode

    assert 0o604 == stat.S_IMODE(other.stat().st_mode)
    for name in ("mine", "roots"):
        about = place.of(f"/var/lib/kea/{name}").stat()
        assert (USER_ID, 0) == (about.st_uid, about.st_mode & 0o007), name
    assert "a copy of root's" == roots.read_text()


# Alarms -------------------------------------------------------------------------------------


@needs_root
def test_a_stranger_who_fails_thousands_of_handshakes_hides_no_alarm(place: Place) -> None:
    """Two thousand once pushed an alarm of the same moment out of what is read."""
    now = datetime.now()
    alarm = log_line("HA_LEASE_UPDATE_CONFLICT", "x", at=now)
    noise = [
        log_line(
            "HTTP_CONNECTION_HANDSHAKE_FAILED",
            f"TLS handshake with 192.168.1.{n % 200 + 10} failed with http request",
            at=now,
            logger="http",
            level="INFO",
        )
        for n in range(5000)
    ]
    clients = [log_line(f"DHCP4_CLIENT_{n % 9}", "y", at=now, logger="x") for n in range(5000)]
    place.write(layout.LOG, alarm + "".join(noise) + "".join(clients))

    found = place.survey()

    recent = log_file.alarms(
        found.log, now=now, window=timedelta(seconds=20), partner_address="192.168.1.3"
    ).recent
    assert ["HA_LEASE_UPDATE_CONFLICT"] == [line.id for line in recent]


@needs_root
def test_an_alarm_is_found_when_the_log_was_rotated_meanwhile(place: Place) -> None:
    """In whichever of the files it is, and in its order among the others."""
    now = datetime.now()
    begin = now - timedelta(seconds=9)
    place.write(f"{layout.LOG}.3", log_line("HA_TERMINATED", "x", at=begin))
    for number, text in ((2, "a"), (1, "b")):
        line = log_line("HA_STATE_TRANSITION", text, at=now, level="INFO")
        place.write(f"{layout.LOG}.{number}", line)
    place.write(layout.LOG, log_line("HA_SYNC_FAILED", "c", at=now))

    found = place.survey()

    assert ["HA_TERMINATED", "HA_STATE_TRANSITION", "HA_STATE_TRANSITION", "HA_SYNC_FAILED"] == [
        line.id for line in found.log
    ]
    assert found.log_since is not None
    assert abs(found.log_since - begin) < timedelta(seconds=1)


def test_where_the_log_does_not_reach_back_the_verdict_says_so() -> None:
    """Of an alarm before that nothing would be known."""
    whole = accepted("host-1")
    since = whole.local - timedelta(seconds=3)
    cut = replace(whole, log_since=since)
    for known, said in ((cut, 1), (whole, 0)):
        evidence = {
            "host-1": acceptance.Evidence(known, ()),
            "host-2": acceptance.Evidence(accepted("host-2"), ()),
        }
        notes = [n for n in acceptance.notes(PAIR, evidence) if "reaches back" in n]
        assert said == len(notes)


# The operator's machine ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/../../group_data/x.py", "/a/../../b", "/a\nb"])
def test_a_file_of_a_host_is_written_nowhere_but_into_the_backup(tmp_path: Path, path: str) -> None:
    """A host's archive once wrote a program that the next command ran."""
    with pytest.raises(BackupError):
        backup_store.write(tmp_path / "backups", "lab", datetime.now(UTC), {"host-1": {path: b"x"}})

    assert [tmp_path / "backups"] == list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["document.5", "lease.99", "whole.7", "x"])
def test_an_archive_holds_what_was_asked_for(tmp_path: Path, name: str) -> None:
    """Anything else in it, and it is not taken."""
    said = output_of({name: b"x", "whole.0": b""})
    (tmp_path / "answer").write_bytes(said)

    with pytest.raises(ForeignError, match="not asked for"):
        file_transfer.unpack(tmp_path / "answer", tmp_path, [layout.KEA_CONF], lease_file.FILES)


def test_a_backup_from_elsewhere_leads_to_no_file_outside_it(tmp_path: Path) -> None:
    """A link in it is not followed, and a pipe is not waited for."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    made = backup_store.write(tmp_path / "b", "lab", datetime.now(UTC), {"host-1": {"/a": b"mine"}})
    (made / "host-1/a").unlink()
    (made / "host-1/a").symlink_to(secret)
    with pytest.raises(BackupError):
        backup_store.read(made)
    (made / "host-1/a").unlink()
    os.mkfifo(made / "host-1/a")
    with pytest.raises(BackupError):
        backup_store.read(made)
    shutil.rmtree(made / "host-1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").write_text("mine")
    (made / "host-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackupError):
        backup_store.read(made)


HOOK = '{"Dhcp4": {"hooks-libraries": [{"library": "%s"}]}}'
FOREIGN_STATES = {
    "library": (layout.KEA_CONF, HOOK % "/tmp/evil.so"),
    "library beside ours": (layout.KEA_CONF, HOOK % "/usr/lib/x/../kea/hooks/libdhcp_ha.so"),
    "no document": (layout.KEA_CONF, "]["),
    "agent's library": (
        layout.AGENT_CONF,
        '{"Control-agent": {"hooks-libraries": [{"library": "x"}]}}',
    ),
    "rule": (layout.FIREWALL_CONF, "flush ruleset\n"),
    "include": (layout.FIREWALL_CONF, 'include "/etc/shadow"\n'),
}


@pytest.mark.parametrize("kind", FOREIGN_STATES)
def test_documents_of_a_backup_have_a_host_run_nothing_foreign(kind: str) -> None:
    """A backup may come from elsewhere; what is not as this project writes it is refused."""
    path, text = FOREIGN_STATES[kind]
    good = HOOK % f"/usr/lib/x86_64-linux-gnu/kea/hooks/{layout.HA_HOOK}"
    state = {
        layout.SETTINGS_FILE: b"{}",
        layout.UNITS_FILE: b"",
        f"{layout.KEPT_DIR}{layout.KEA_CONF}": good.encode(),
    }
    bad = state | {f"{layout.KEPT_DIR}{path}": text.encode()}

    for files, refused in ((state, False), (bad, True)):
        backup = Backup(Path("x"), "lab", {"host-1": files, "host-2": state})
        assert refused == bool(list(restore_plan.document_objections(PAIR, backup)))


def test_what_root_runs_is_not_taken_from_a_backup() -> None:
    """Of a unit or a drop-in there is what this project writes, whatever the backup has."""
    path = DHCP4.debian.drop_in
    files = {f"{layout.KEPT_DIR}{path}": b"[Service]\nExecStartPre=+/bin/sh -c id\n"}

    kept = restore_plan.accepted_state(survey_of("host-1"), files).kept[path]

    assert "ExecStartPre=+/bin/sh -c id" not in (kept.content or "")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "$(id)",
        "a\nb",
        "",
        ".",
        "..",
        "-x",
        "a/b",
        "admin@dhcp-a",
        "dhcp-a:2222",
        "dhcp-ä",
    ],
)
def test_a_host_is_called_as_a_host_can_be(name: str) -> None:
    """Its name becomes a directory, an argument, and a name in a certificate."""
    hosts = {
        name: {"role": "primary", "server_name": "server1", "address": "192.168.1.2"},
        "host-2": {"role": "standby", "server_name": "server2", "address": "192.168.1.3"},
    }
    with pytest.raises(SettingsError) as refused:
        build.build_pair("lab", {k: {**v, "subnets": SUBNETS} for k, v in hosts.items()})

    assert any(problem.setting == "inventory" for problem in refused.value.problems)


@pytest.mark.parametrize("name", ["_sudo_password", "_su_password"])
def test_no_password_goes_into_the_arguments_of_commands(name: str) -> None:
    """pyinfra would put it there; it is refused, and not repeated."""
    hosts = {
        "host-1": {"role": "primary", "server_name": "server1", "address": "192.168.1.2"},
        "host-2": {"role": "standby", "server_name": "server2", "address": "192.168.1.3"},
    }
    with pytest.raises(SettingsError) as refused:
        build.build_pair(
            "lab", {k: {**v, "subnets": SUBNETS, name: "hunter2hunter2"} for k, v in hosts.items()}
        )

    assert "NOPASSWD" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def told(**changed: object) -> bytes:
    usual = {
        "acks": [[1.5, "192.0.2.2"]],
        "waits": [0.1],
        "leases": {"02:aa:00:00:00:01": "192.0.2.100"},
        "unserved": [],
        "clients": 1,
        "last_arrival": 2.0,
        "twice": [],
        "refused": [],
    }
    return json.dumps(usual | changed).encode()


INJECTION = '1"},"command":"config-set","arguments":{"Dhcp4":{}}}'


@pytest.mark.parametrize(
    "changed",
    [
        {"leases": {"02:aa:00:00:00:01": INJECTION}},
        {"leases": {"$(id)": "192.0.2.100"}},
        {"acks": [[1.5, INJECTION]]},
        {"acks": [[float("inf"), "192.0.2.2"]]},
        {"acks": ["x"]},
        {"twice": [INJECTION]},
        {"refused": [7]},
        {"unserved": ["\n"]},
        {"clients": "many"},
        {"clients": -1},
        {"waits": [[]]},
        {"last_arrival": None},
    ],
)
def test_what_the_probe_tells_is_addresses_and_times_or_nothing(changed: dict[str, object]) -> None:
    """An address of its once became a command to both servers."""
    assert Told.read(told()).clients == 1

    with pytest.raises(ForeignError):
        Told.read(told(**changed))


def test_a_word_of_a_script_is_one_word() -> None:
    """Whatever is in it."""
    for word in ("a'b", "$(id)", "`id`", "a\nb", "", "-n", "*", '"', "\\"):
        done = subprocess.run(
            ["sh", "-c", f"printf '%s|' {foreign.quoted(word)}"], capture_output=True, check=True
        )
        assert f"{word}|" == done.stdout.decode()


# The API, through the connection ------------------------------------------------------------


def serve_tls(answer: bytes, *, close_it: bool) -> tuple[socket.socket, threading.Thread]:
    """A listener that takes a connection, and answers it with these bytes before TLS."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def one() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)
                while not close_it and connection.recv(1000):
                    pass

    thread = threading.Thread(target=one, daemon=True)
    thread.start()
    return listener, thread


@pytest.mark.parametrize(
    "answer", [b"", b"\x16\x03\x03", b"x" * 100_000], ids=["silent", "part", "noise"]
)
def test_an_api_that_does_not_answer_is_not_waited_for_for_good(answer: bytes) -> None:
    """It accepts, and then says nothing; the run once waited for ever, holding its lock."""
    listener, thread = serve_tls(answer, close_it=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    begun = time.monotonic()

    with socket.create_connection(listener.getsockname()) as stream, pytest.raises(OSError):
        port_tests.command_over_tls(stream, context, "127.0.0.1", {"command": "x"}, limit_s=0.5)

    assert time.monotonic() - begun < 5
    listener.close()
    thread.join(5)


# The screen ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x1b]52;c;eA==\x07",
        "\x9b2J",
        "\x7f",
        "\x00",
        "\r",
        "\u202e",
        "\u2066",
        "\u2028",
        "\ufeff",
        "\U000e0041",
        "\ud800",
    ],
    ids=lambda text: text.encode("unicode_escape").decode(),
)
def test_nothing_foreign_moves_the_cursor_or_turns_the_writing(text: str) -> None:
    """It is shown as what it is."""
    made = shown(f"a{text}b")

    assert made.isascii()
    assert made.isprintable()
    assert made.startswith("a\\") and made.endswith("b")


def test_what_is_foreign_stands_behind_the_margin() -> None:
    """A line of its own is indented, so that none stands where a verdict would; tabs stay."""
    assert "no\n    lab: accepted\n    \tx" == shown("no\nlab: accepted\n\tx", indent="    ")
    assert "ümlaut 😀" == shown("ümlaut 😀")


# Secrets ------------------------------------------------------------------------------------


def test_of_a_file_of_certificates_nothing_else_leaves_the_host(tmp_path: Path) -> None:
    """Also when the key stands in it, which is found there and told."""
    pem = survey_of("host-1").certificates[layout.HA_CERTIFICATE]
    key = key_pem(new_key())
    own = OwnCertificates(
        key=str(tmp_path / "key"), certificate=str(tmp_path / "both"), anchor=str(tmp_path / "ca")
    )
    Path(own.key).write_text(key)
    Path(own.certificate).write_text(f"Bag Attributes\n  secret: x\n{pem}{key}")
    Path(own.anchor).write_text(f"password=hunter2\n{pem}")
    question = Question(own)

    answer = subprocess.run(
        ["sh", "-c", build_script(question)], capture_output=True, check=True
    ).stdout
    found = parse_survey(answer, question)

    decoded = frames.plain(answer)
    assert b"PRIVATE KEY" not in decoded
    assert b"hunter2" not in decoded and b"Bag" not in decoded
    assert pem == found.certificates[own.certificate] == found.certificates[own.anchor]
    assert {own.certificate} == found.with_keys


NAMES = [
    "password",
    "psk",
    "pwd",
    "api-key",
    "api_key",
    "apikey",
    "secret-key",
    "access-token",
    "X-Passphrase",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_neither_shown_nor_taken_nor_backed_up(name: str) -> None:
    """By its name, wherever it stands."""
    assert {"a": [{name: HIDDEN}]} == masked({"a": [{name: "x1"}]})
    assert list(extra_problems({"Dhcp4": {"hosts-database": {name: "x1"}}}, "agent"))
    text = json.dumps({"Dhcp4": {"lease-database": {name: "x1"}, "valid-lifetime": 7}})
    kept = without_secrets(text)
    assert kept is not None
    assert "x1" not in kept and '"valid-lifetime": 7' in kept


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} // "password": "x1"',
        '/* "psk": "x1" */ {"a": 1}',
        '{"http-headers": [{"name": "Authorization", "value": "x1"}]}',
        '{"a": {"b": [{"secret": {"c": "x1"}}]}}',
    ],
)
def test_a_secret_in_an_odd_place_is_not_backed_up(text: str) -> None:
    """In a comment, in a header, or as a map."""
    kept = without_secrets(text)
    assert kept is not None
    assert "x1" not in kept


def test_what_holds_no_secret_is_kept_to_the_letter() -> None:
    """With its comments; names in a user-context mean nothing to Kea."""
    text = '// why\n{"user-context": {"netbox-token": "x"}, "password-file": "/x", "monkey": 1}\n'

    assert text == without_secrets(text)
    assert not is_secret("user-context.netbox-token")
    assert not is_secret("password-file")
    assert is_secret("http-headers[Authorization].value")
    assert without_secrets("][") is None


def test_headers_that_everybody_may_read_may_be_given() -> None:
    """They are part of each answer; another one's value may be a secret."""

    def found(name: str) -> list[object]:
        headers = [{"name": name, "value": "x"}]
        return list(extra_problems({"Control-agent": {"http-headers": headers}}, "agent"))

    assert [] == found("Strict-Transport-Security")
    assert found("Authorization")


def test_the_agent_loads_no_library_that_an_extra_names() -> None:
    """As kea-dhcp4 does not."""
    extra = {"Control-agent": {"hooks-libraries": [{"library": "/tmp/x.so"}]}}

    assert list(extra_problems(extra, "agent"))


@pytest.mark.parametrize("short", ["", "a", "elevenchars"])
def test_a_new_passphrase_is_long_enough(tmp_path: Path, short: str) -> None:
    """Whoever has a copy of the keys may try for as long as they like."""
    with pytest.raises(PkiError) as refused:
        Store.open(tmp_path / "pki", "lab", short)
    assert "12 characters" in refused.value.remedy

    store = Store.open(tmp_path / "pki", "lab", "a" * 12)
    with pytest.raises(PkiError):
        store.change_passphrase(short)


def test_only_named_packages_carry_a_fix() -> None:
    """The mark of some update does not say what it mends."""

    def warned(package: str) -> bool:
        version = kea_versions.Version.parse(package)
        return any("CVE-2026-3608" in text for text in kea_versions.version_warnings(PAIR, version))

    assert not warned("2.6.3-1+deb13u1")
    assert not warned("2.6.3-1+deb13u2")
    assert all(map(warned, ("2.2.0-6+deb12u1", "3.0.2-1+deb14u1", "2.6.3-1", "2.6.2-1+deb13u1")))


def test_a_kea_that_a_client_can_end_is_told_of_in_every_verdict() -> None:
    """As long as it runs."""
    assert kea_versions.crash_warnings(kea_versions.Version.parse("3.0.0-1"))
    assert not kea_versions.crash_warnings(kea_versions.Version.parse("3.0.4-1"))


_THROUGH_A_PROXY = """
from gevent import monkey; monkey.patch_all()
import gevent
from paramiko import ProxyCommand
from kea_ha.session import channel
channel.harden()
proxy = ProxyCommand("printf hello")
proxy.settimeout(60)
others = gevent.spawn(lambda: "went on")
said = b""
while piece := proxy.recv(1000):
    said += piece
print(said.decode(), others.get(timeout=1))
"""


def test_the_end_of_a_proxy_is_the_end_of_its_connection() -> None:
    """A host whose power goes takes the way to it along: paramiko would read on, for ever and
    without a pause, and no other host would have a turn."""
    done = subprocess.run(
        [sys.executable, "-c", _THROUGH_A_PROXY], capture_output=True, text=True, timeout=30
    )

    assert ("hello went on\n", 0) == (done.stdout, done.returncode), done.stderr
