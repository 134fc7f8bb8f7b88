"""A backup is whole or not there, closed to others from the start, and refused when damaged."""

from __future__ import annotations

import ast
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kea_ha.host import backup_store
from kea_ha.host.backup_store import BackupError

PROJECT = Path(__file__).parents[2]
MOMENT = datetime(2026, 11, 25, 8, 30, tzinfo=UTC)
HOSTS = {
    "host-1": {"/etc/kea/kea-dhcp4.conf": b"{ }\n", "/var/lib/kea/kea-leases4.csv": b"address\n"},
    "host-2": {"/etc/kea/kea-dhcp4.conf": b"{  }\n", "/var/lib/kea/kea-leases4.csv": b""},
}
FILES = [
    *("SHA256SUMS", "about.json"),
    *("host-1/etc/kea/kea-dhcp4.conf", "host-1/var/lib/kea/kea-leases4.csv"),
    *("host-2/etc/kea/kea-dhcp4.conf", "host-2/var/lib/kea/kea-leases4.csv"),
]


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return backup_store.write(tmp_path / "backups", "lab", MOMENT, HOSTS)


def refused(directory: Path) -> str:
    with pytest.raises(BackupError) as error:
        backup_store.read(directory)
    return error.value.what


def files_in(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_a_backup_is_read_as_it_was_written(written: Path) -> None:
    """By host and by the path on the host, named after the pair and the time in UTC."""
    assert "lab-2026-11-25T08-30-00.000" == written.name
    found = backup_store.read(written)
    assert (written, "lab", HOSTS) == (found.directory, found.pair, found.hosts)
    assert FILES == files_in(written)


def test_a_file_is_taken_from_where_it_is_here(tmp_path: Path) -> None:
    """Lease files are large: they are on disk, and go into the backup from there."""
    here = tmp_path / "lease-file"
    here.write_bytes(bytes(range(256)) * 10_000)

    written = backup_store.write(tmp_path / "backups", "lab", MOMENT, {"host-1": {"/leases": here}})

    assert {"host-1": {"/leases": here.read_bytes()}} == backup_store.read(written).hosts
    assert 0o600 == stat.S_IMODE((written / "host-1/leases").stat().st_mode)


def test_its_name_is_in_utc_wherever_it_is_made(tmp_path: Path) -> None:
    """Backups of one pair sort by their names."""
    there = MOMENT.astimezone(timezone(timedelta(hours=-5)))

    assert "lab-2026-11-25T08-30-00.000" == backup_store.write(tmp_path, "lab", there, {}).name


def test_its_sums_are_those_of_sha256sum(written: Path) -> None:
    """`sha256sum -c` in the directory, and every file is listed."""
    told = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],
        cwd=written,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert [f"{name}: OK" for name in FILES if name != "SHA256SUMS"] == sorted(told)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_it_is_the_operators_alone(tmp_path: Path, mask: int) -> None:
    """Directories 0700, files 0600, whatever the umask."""
    with umask(mask):
        directory = backup_store.write(tmp_path / "backups", "lab", MOMENT, HOSTS)

    for path in (directory.parent, directory, *directory.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert wanted == stat.S_IMODE(path.stat().st_mode), path


_WATCHER = """
import os, sys
from pathlib import Path
from kea_ha.host import backup_store
from tests.unit.test_backup_store import HOSTS, MOMENT

root = Path(sys.argv[1])
seen = set()
busy = False

def look(event, arguments):
    global busy
    if not busy:
        busy = True
        for path in (root, *root.rglob("*")) if root.exists() else ():
            seen.add((path.name, path.stat().st_mode & 0o777))
        busy = False

os.umask(0)
sys.addaudithook(look)
backup_store.write(root, "lab", MOMENT, HOSTS)
print(sorted(seen))
"""


def test_it_is_never_open_to_others_while_it_is_written(tmp_path: Path) -> None:
    """Looked at before each system call of Python's own, with a umask that closes nothing."""
    root = tmp_path / "backups"
    told = subprocess.run(
        [sys.executable, "-c", _WATCHER, root], cwd=PROJECT, capture_output=True, check=True
    ).stdout

    seen = ast.literal_eval(told.decode())
    assert {Path(name).name for name in FILES} <= {name for name, _ in seen}
    assert {0o600, 0o700} == {mode for _, mode in seen}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_named(written: Path, name: str, damage: str) -> None:
    """One bit, the end of it, or all of it."""
    path = written / name
    content = path.read_bytes()
    if damage == "changed":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if content else b"!")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2] if content else b"\n")
    else:
        path.unlink()

    said = refused(written)

    # Of damaged sums, the file that they no longer fit is as good.
    assert name in said or (name == "SHA256SUMS" and any(one in said for one in FILES))


def test_sums_that_lost_a_line_are_noticed(written: Path) -> None:
    """A whole file less is no smaller backup."""
    sums = written / "SHA256SUMS"
    for dropped in sums.read_text().splitlines(keepends=True):
        whole = sums.read_text()
        sums.write_text(whole.replace(dropped, ""))
        assert dropped.split()[1] in refused(written)
        sums.write_text(whole)


def test_a_name_that_leads_out_of_it_is_refused(written: Path) -> None:
    """What is below its directory is all that is read."""
    (written.parent / "elsewhere").write_text("x")
    for name in ("../elsewhere", "/etc/passwd", "host-1/../../elsewhere"):
        (written / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
        assert "SHA256SUMS is damaged: line 1" == refused(written)


@pytest.mark.parametrize("name", ["host-1/a\0b", "x" * 5000, ".", "\x1b[2J"])
def test_a_name_that_none_of_its_files_can_have_is_refused(written: Path, name: str) -> None:
    """In words that may be shown."""
    (written / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")

    assert refused(written).isprintable()


def test_a_link_in_it_is_refused_wherever_it_stands(written: Path) -> None:
    """A backup may come from elsewhere: it is its own files that are read, and no others."""
    for name in ("host-1/etc/kea/kea-dhcp4.conf", "host-1/etc", "about.json", "SHA256SUMS"):
        place, aside = written / name, written.parent / "aside"
        place.rename(aside)
        place.symlink_to(aside)
        assert "cannot be read" in refused(written), name
        place.unlink()
        aside.rename(place)

    assert HOSTS == backup_store.read(written).hosts


def test_what_is_no_file_in_it_is_refused(written: Path) -> None:
    """A pipe would keep the run waiting."""
    place = written / "host-2/etc/kea/kea-dhcp4.conf"
    place.unlink()
    os.mkfifo(place)

    assert "host-2/etc/kea/kea-dhcp4.conf cannot be read (it is no file)" == refused(written)


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """A name that is not there, a file, an empty directory."""
    (tmp_path / "file").touch()
    assert "not a directory" == refused(tmp_path / "nothing") == refused(tmp_path / "file")
    assert "SHA256SUMS cannot be read (No such file or directory)" == refused(tmp_path)


# --- ended half-way -------------------------------------------------------------------------

_WRITER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from kea_ha.host import backup_store
from tests.unit.test_backup_store import HOSTS, MOMENT

where = sys.argv[2]
wanted = f"/lab-2026-11-25T08-30-00.000.new/{where}"

def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith(wanted):
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "os.rename" and where == "rename":
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
backup_store.write(Path(sys.argv[1]), "lab", MOMENT, HOSTS)
"""


@pytest.mark.parametrize("stage", [*FILES, "rename"])
def test_killed_half_way_it_leaves_nothing_that_looks_like_a_backup(
    tmp_path: Path, stage: str
) -> None:
    """SIGKILL before each file and before the rename; the next run is not kept from anything."""
    root = tmp_path / "backups"
    done = subprocess.run([sys.executable, "-c", _WRITER, root, stage], cwd=PROJECT, check=False)

    assert -signal.SIGKILL == done.returncode
    assert ["lab-2026-11-25T08-30-00.000.new"] == [path.name for path in root.iterdir()]
    assert () == backup_store.newest(root)
    assert "not finished" in refused(root / "lab-2026-11-25T08-30-00.000.new")
    later = backup_store.write(root, "lab", MOMENT + timedelta(seconds=1), HOSTS)
    assert (str(later),) == backup_store.newest(root)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A file where a directory has to be; the reason is said."""
    hosts: Mapping[str, Mapping[str, bytes]] = {"host-1": {"/a": b"", "/a/b": b""}}

    with pytest.raises(BackupError, match="cannot be written here"):
        backup_store.write(tmp_path, "lab", MOMENT, hosts)

    assert [] == list(tmp_path.iterdir())


def test_a_backup_that_is_there_is_not_replaced(written: Path) -> None:
    """Two runs in one second: the second one fails, and leaves the first as it is."""
    with pytest.raises(BackupError, match="cannot be written here"):
        backup_store.write(written.parent, "lab", MOMENT, {"host-1": {"/x": b"other"}})

    assert HOSTS == backup_store.read(written).hosts
    assert [written] == list(written.parent.iterdir())


def test_the_newest_are_named_first_whatever_their_pair(tmp_path: Path) -> None:
    """For an operator who left the name out."""
    for pair, hours in (("zoo", 0), ("lab", 1), ("office", 2), ("lab", 3)):
        backup_store.write(tmp_path, pair, MOMENT + timedelta(hours=hours), HOSTS)

    found = [Path(one).name.rsplit("-", 5)[0] for one in backup_store.newest(tmp_path)]

    assert ["lab", "office", "lab"] == found
    assert () == backup_store.newest(tmp_path / "nothing")


# --- whatever is in it ----------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
paths = st.sampled_from(["/etc/kea/a.conf", "/var/lib/kea/b.csv", "/var/lib/kea-ha/settings"])


@settings(deadline=None)  # each file waits for the disk
@given(st.dictionaries(names, st.dictionaries(paths, st.binary(max_size=200)), max_size=2))
def test_any_content_comes_back_and_any_change_of_it_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, hosts: dict[str, dict[str, bytes]]
) -> None:
    """Bytes, not text."""
    directory = backup_store.write(tmp_path_factory.mktemp("any"), "lab", MOMENT, hosts)
    assert hosts == backup_store.read(directory).hosts

    for host, files in hosts.items():
        for path, content in files.items():
            file = directory / f"{host}{path}"
            file.write_bytes(content + b"\0")
            assert f"{host}{path} is damaged" in refused(directory)
            file.write_bytes(content)
