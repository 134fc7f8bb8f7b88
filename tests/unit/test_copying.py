"""The shell that reads files of a host as of one moment, and puts a lease file in its place.

Run here by this machine's own sh, in directories of the test's.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kea_ha import copying
from kea_ha.copying import CopyError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may write as another user")
USER = "nobody"


def run(script: str, given: str = "", programs: Path | None = None) -> tuple[int, str, str]:
    """Exit status, output and complaints of a script, with these programs before the system's."""
    path = f"{programs}:{os.environ['PATH']}" if programs else os.environ["PATH"]
    done = subprocess.run(
        ["sh", "-c", script],
        input=given,
        capture_output=True,
        text=True,
        env={"PATH": path},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# --- read -----------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with two documents and a live lease file."""
    for name, content in (("a.conf", "a\n"), ("b.conf", "b"), ("leases", "1\n2\n")):
        (tmp_path / name).write_text(content)
    return tmp_path


def scripted(host: Path) -> tuple[list[str], list[str]]:
    plain = [str(host / name) for name in ("a.conf", "b.conf", "missing.conf")]
    return plain, [str(host / name) for name in ("leases.done", "leases.1", "leases")]


def read(host: Path, programs: Path | None = None) -> dict[str, bytes]:
    plain, leases = scripted(host)
    status, output, words = run(copying.read_script(plain, leases), programs=programs)
    assert 0 == status, words
    found = copying.parse(output.splitlines(), [str(host / "leases")])
    return {path.removeprefix(f"{host}/"): content for path, content in found.items()}


def test_those_files_that_exist_are_read(host: Path) -> None:
    """Byte for byte."""
    (host / "a.conf").write_bytes(bytes(range(256)) * 300)

    assert {
        "a.conf": bytes(range(256)) * 300,
        "b.conf": b"b",
        "leases": b"1\n2\n",
    } == read(host)


def test_nothing_at_all_is_no_failure(tmp_path: Path) -> None:
    """A host without any of the files."""
    assert {} == read(tmp_path)


def test_a_partly_written_last_line_is_dropped_of_the_growing_file_alone(host: Path) -> None:
    """A document may end without a line feed."""
    (host / "leases").write_text("1\n2\n3")
    (host / "leases.1").write_text("0\n0")

    found = read(host)

    assert (b"1\n2\n", b"0\n0", b"b") == (found["leases"], found["leases.1"], found["b.conf"])


def test_a_link_is_not_followed(host: Path) -> None:
    """Kea's user could have put one there to have root read another's file."""
    (host / "secret").write_text("secret\n")
    (host / "leases.1").symlink_to(host / "secret")

    assert "leases.1" not in read(host)


def test_nothing_is_left_or_changed_there(host: Path) -> None:
    """Not even for a moment: the archive goes straight to the operator."""
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (host, *host.iterdir())}

    read(host)

    assert before == {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (host, *host.iterdir())}


# A tar that lets something happen to the files just before it reads them.
_TAR = """#!/bin/sh
cd {host}; n=$(cat {count} 2>/dev/null); n=${{n:-0}}; echo $((n + 1)) > {count}
[ "$n" -ge {times} ] || {{ {event}; }}
cd /; PATH={path}; exec tar "$@"
"""


def meanwhile(host: Path, tmp: Path, event: str, times: int = 1) -> Path:
    programs = tmp / "programs"
    programs.mkdir()
    programs.chmod(0o755)
    script = _TAR.format(
        host=host, count=tmp / "count", times=times, event=event, path=os.environ["PATH"]
    )
    (programs / "tar").write_text(script)
    (programs / "tar").chmod(0o755)
    return programs


_ROTATE = "mv leases leases.1; echo 3 > leases"
_CLEAN = "mv leases.1 leases.done; echo '1 and 2' > leases.done; rm -f leases.1"


@pytest.mark.parametrize("event", [_ROTATE, "rm leases.1; echo 3 >> leases", _CLEAN])
def test_what_is_rotated_meanwhile_is_read_again(
    host: Path, tmp_path_factory: pytest.TempPathFactory, event: str
) -> None:
    """What is taken is what Kea could have loaded at one moment."""
    (host / "leases.1").write_text("0\n")
    programs = meanwhile(host, tmp_path_factory.mktemp("tar"), event)

    found = read(host, programs)

    now = {p.name: p.read_bytes() for p in host.iterdir() if p.name.startswith("leases")}
    assert now == {name: content for name, content in found.items() if name.startswith("leases")}


def test_a_file_that_only_grows_is_not_read_again(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A busy server would never let us end."""
    tmp = tmp_path_factory.mktemp("tar")
    programs = meanwhile(host, tmp, "echo 3 >> leases", times=99)

    assert read(host, programs)["leases"].startswith(b"1\n2\n")
    assert "1\n" == (tmp / "count").read_text()


def test_after_five_rotations_it_is_said(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of it is taken."""
    rotate = "mv leases leases.1; cp leases.1 leases"
    programs = meanwhile(host, tmp_path_factory.mktemp("tar"), rotate, times=99)
    plain, leases = scripted(host)

    status, output, words = run(copying.read_script(plain, leases), programs=programs)

    assert 1 == status
    assert "Kea rotated its lease files each time" in words
    with pytest.raises(CopyError):
        copying.parse(output.splitlines(), [])


def test_a_file_that_cannot_be_read_is_a_failure(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With tar's own words."""
    programs = meanwhile(
        host, tmp_path_factory.mktemp("tar"), "echo 'a.conf: Input/output error' >&2; exit 2", 99
    )
    plain, leases = scripted(host)

    status, _, words = run(copying.read_script(plain, leases), programs=programs)

    assert (1, "a.conf: Input/output error\n") == (status, words)


def test_an_answer_that_is_cut_short_is_not_taken(host: Path) -> None:
    """Wherever it is cut; chatter of a login before it does no harm."""
    plain, leases = scripted(host)
    _, output, _ = run(copying.read_script(plain, leases))
    lines = ["Welcome!", *output.splitlines()]

    assert copying.parse(lines, [])
    for end in range(len(lines)):
        with pytest.raises(CopyError):
            copying.parse(lines[:end], [])
    for gone in range(2, len(lines) - 1):
        with pytest.raises(CopyError):
            copying.parse([*lines[:gone], *lines[gone + 1 :]], [])


# --- write ----------------------------------------------------------------------------------

CONTENT = b"address\n192.0.2.1\n"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def kea(open_path: Path) -> Path:
    """Kea's directory, its own user's, with a set of lease files, and our state beside it."""
    directory = open_path / "kea"
    directory.mkdir(mode=0o750)
    (open_path / "state").mkdir(mode=0o700)
    for name in ("leases", "leases.1", "leases.done"):
        (directory / name).write_text(f"before: {name}\n")
        (directory / name).chmod(0o640)
        os.chown(directory / name, *owner())
    os.chown(directory, *owner())
    return open_path


def owner() -> tuple[int, int]:
    entry = pwd.getpwnam(USER)
    return entry.pw_uid, entry.pw_gid


def write(kea: Path, given: str | None = None) -> tuple[int, str]:
    script = copying.write_script(
        CONTENT,
        path=str(kea / "kea/leases"),
        others=[str(kea / f"kea/leases{end}") for end in (".1", ".2", ".done")],
        aside=str(kea / "state/aside"),
        user=USER,
    )
    status, _, words = run(script, copying.write_input(CONTENT) if given is None else given)
    return status, words


def tree(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}


BEFORE = {name: f"before: {name}\n" for name in ("leases", "leases.1", "leases.done")}


@needs_root
def test_the_file_is_keas_own_and_what_was_there_is_kept(kea: Path) -> None:
    """One file in the place of the set; the set in a directory that is root's alone."""
    assert (0, "") == write(kea)

    assert {"leases": CONTENT.decode()} == tree(kea / "kea")
    about = (kea / "kea/leases").stat()
    assert (0o100640, *owner()) == (about.st_mode, about.st_uid, about.st_gid)
    assert BEFORE == tree(kea / "state/aside")
    about = (kea / "state/aside").stat()
    assert (0o40700, 0) == (about.st_mode, about.st_uid)


@needs_root
def test_it_is_written_where_nothing_is_left(kea: Path) -> None:
    """The lease files were lost."""
    for path in (kea / "kea").iterdir():
        path.unlink()

    assert (0, "") == write(kea)

    assert {"leases": CONTENT.decode()} == tree(kea / "kea")
    assert [] == list((kea / "state").iterdir())


@needs_root
@pytest.mark.parametrize("part", [0, 1, 20, -8])
def test_input_that_ends_early_changes_nothing(kea: Path, part: int) -> None:
    """As when the connection breaks: what was there stays, and no candidate is left."""
    status, words = write(kea, copying.write_input(CONTENT)[:part])

    assert status != 0
    assert words
    assert BEFORE == tree(kea / "kea")
    assert {} == tree(kea / "state/aside")


@needs_root
def test_other_input_than_was_meant_changes_nothing(kea: Path) -> None:
    """Whole, but another."""
    status, _ = write(kea, copying.write_input(b"another\n"))

    assert status != 0
    assert BEFORE == tree(kea / "kea")


@needs_root
def test_a_link_in_keas_directory_leads_root_nowhere(kea: Path) -> None:
    """Kea's user owns the directory: it must not have root write to, or copy, another's file."""
    secret = kea / "state/secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    (kea / "kea/leases.new").symlink_to(secret)
    (kea / "kea/leases.1").unlink()
    (kea / "kea/leases.1").symlink_to(secret)

    assert (0, "") == write(kea)

    assert "secret\n" == secret.read_text()
    assert {"leases": CONTENT.decode()} == tree(kea / "kea")
    assert (kea / "state/aside/leases.1").is_symlink()


@needs_root
@pytest.mark.parametrize("program", ["mkdir", "cp", "sync", "mv", "gzip", "chmod"])
def test_a_failure_in_between_leaves_what_was_there_or_the_new_file(
    kea: Path, program: str
) -> None:
    """Never a part of it; and the same again completes it."""
    programs = kea / "programs"
    programs.mkdir()
    programs.chmod(0o755)
    (programs / program).write_text("#!/bin/sh\necho 'No space left on device' >&2; exit 1\n")
    (programs / program).chmod(0o755)
    script = copying.write_script(
        CONTENT,
        path=str(kea / "kea/leases"),
        others=[str(kea / f"kea/leases{end}") for end in (".1", ".2", ".done")],
        aside=str(kea / "state/broken"),
        user=USER,
    )

    status, _, words = run(script, copying.write_input(CONTENT), programs)

    assert status != 0
    assert "No space left on device" in words
    left = tree(kea / "kea")
    assert left.pop("leases") in (BEFORE["leases"], CONTENT.decode())
    assert left.items() <= BEFORE.items()
    assert (0, "") == write(kea)
    assert {"leases": CONTENT.decode()} == tree(kea / "kea")
