"""The shell that reads files of a host as of one moment, and puts a lease file in its place.

Run here by this machine's own sh, in directories of the test's.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.foreign import ForeignError
from kea_ha.host import file_transfer, frames
from kea_ha.kea import lease_file
from tests.unit.shell import for_this_machine, needs_root, open_directory, owner
from tests.unit.surveys import output_of


def run(script: str, given: str = "", programs: Path | None = None) -> tuple[int, bytes, str]:
    """Exit status, output and complaints of a script, with these programs before the system's."""
    if programs:
        script = f"PATH={programs}:$PATH\n" + script.replace(" PATH=", f" PATH={programs}:")
    done = subprocess.run(
        ["sh", "-c", script],
        input=given.encode(),
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def open_path() -> Iterator[Path]:
    with open_directory() as path:
        yield path


# --- read -----------------------------------------------------------------------------------

NAMES = {Path(path).name for path in lease_file.FILES}


@pytest.fixture
def host(open_path: Path) -> Path:
    """A directory with two documents and a live lease file."""
    for name, content in (("a.conf", "a\n"), ("b.conf", "b"), ("kea-leases4.csv", "1\n2\n")):
        (open_path / name).write_text(content)
    return open_path


def documents(host: Path) -> list[str]:
    return [str(host / name) for name in ("a.conf", "b.conf", "missing.conf")]


def answered(host: Path, programs: Path | None = None) -> bytes:
    """What the script prints of this directory, taken for that of the host's lease files."""
    script = file_transfer.read_script(documents(host), lease_file.FILES)
    script = for_this_machine(script.replace(layout.LEASE_DIR, str(host)))
    status, output, words = run(script, programs=programs)
    assert 0 == status, words
    return output


def unpacked(host: Path, answer: bytes) -> dict[str, bytes]:
    """The files that came in an answer, by their names, read from where they were put."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "answer").write_bytes(answer)
        found = file_transfer.unpack(
            directory / "answer", directory, documents(host), lease_file.FILES
        )
        return {
            Path(path).name: content if isinstance(content, bytes) else content.read_bytes()
            for path, content in found.items()
        }


def read(host: Path, programs: Path | None = None) -> dict[str, bytes]:
    return unpacked(host, answered(host, programs))


def test_those_files_that_exist_are_read(host: Path) -> None:
    """Byte for byte."""
    (host / "a.conf").write_bytes(bytes(range(256)) * 300)
    (host / "kea-leases4.csv").write_bytes(bytes(range(256)) * 30_000 + b"\n")

    assert {
        "a.conf": bytes(range(256)) * 300,
        "b.conf": b"b",
        "kea-leases4.csv": bytes(range(256)) * 30_000 + b"\n",
    } == read(host)


def test_nothing_at_all_is_no_failure(open_path: Path) -> None:
    """A host without any of the files."""
    assert {} == read(open_path)


def test_lease_files_are_put_where_they_are_the_operators_alone(host: Path, tmp_path: Path) -> None:
    """Under names of this machine, whatever they are called on the host."""
    (tmp_path / "answer").write_bytes(answered(host))
    before = os.umask(0)
    try:
        found = file_transfer.unpack(
            tmp_path / "answer", tmp_path, documents(host), lease_file.FILES
        )
    finally:
        os.umask(before)

    path = found[layout.LEASES]
    assert isinstance(path, Path)
    assert (tmp_path, 0o100600) == (path.parent, path.stat().st_mode)


def test_a_partly_written_last_line_is_dropped_of_the_growing_file_alone(host: Path) -> None:
    """A document may end without a line feed."""
    (host / "kea-leases4.csv").write_text("1\n2\n3")
    (host / "kea-leases4.csv.1").write_text("0\n0")

    found = read(host)

    assert (b"1\n2\n", b"0\n0", b"b") == (
        found["kea-leases4.csv"], found["kea-leases4.csv.1"], found["b.conf"]
    )  # fmt: skip


@pytest.mark.parametrize("length", [1, 65535, 65536, 65537, 200_000])
def test_a_partly_written_line_is_dropped_however_long_it_is(host: Path, length: int) -> None:
    """Also where no line of the file has an end yet."""
    for whole in ("1\n2\n", ""):
        (host / "kea-leases4.csv").write_text(whole + "3" * length)

        assert whole.encode() == read(host)["kea-leases4.csv"]


def test_a_link_is_not_followed(host: Path) -> None:
    """Kea's user could have put one there to have root read another's file."""
    (host / "secret").write_text("secret\n")
    (host / "kea-leases4.csv.1").symlink_to(host / "secret")

    assert "kea-leases4.csv.1" not in read(host)


def test_nothing_is_left_or_changed_there(host: Path) -> None:
    """Not even for a moment: what is read goes straight to the operator."""
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (host, *host.iterdir())}

    read(host)

    assert before == {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (host, *host.iterdir())}


# A setpriv that lets something happen to the files just before the live one is read.
_SETPRIV = """#!/bin/sh
case "$*" in *" if={host}/kea-leases4.csv "*)
  cd {host}; n=$(cat {count} 2>/dev/null); n=${{n:-0}}; echo $((n + 1)) > {count}
  [ "$n" -ge {times} ] || {{ {event}; }} ;;
esac
cd /; PATH={path}; exec setpriv "$@"
"""


def meanwhile(host: Path, tmp: Path, event: str, times: int = 1) -> Path:
    programs = tmp / "programs"
    programs.mkdir()
    programs.chmod(0o755)
    script = _SETPRIV.format(
        host=host, count=tmp / "count", times=times, event=event, path=os.environ["PATH"]
    )
    (programs / "setpriv").write_text(script)
    (programs / "setpriv").chmod(0o755)
    return programs


_LIVE = "kea-leases4.csv"
_ROTATE = f"mv {_LIVE} {_LIVE}.1; echo 3 > {_LIVE}"
_CLEAN = f"mv {_LIVE}.1 {_LIVE}.completed; echo '1 and 2' > {_LIVE}.completed"


@needs_root
@pytest.mark.parametrize("event", [_ROTATE, f"rm {_LIVE}.1; echo 3 >> {_LIVE}", _CLEAN])
def test_what_is_rotated_meanwhile_is_read_again(
    host: Path, tmp_path_factory: pytest.TempPathFactory, event: str
) -> None:
    """What is taken is what Kea could have loaded at one moment."""
    (host / f"{_LIVE}.1").write_text("0\n")
    programs = meanwhile(host, tmp_path_factory.mktemp("setpriv"), event)

    found = read(host, programs)

    now = {p.name: p.read_bytes() for p in host.iterdir() if p.name in NAMES}
    assert now == {name: content for name, content in found.items() if name in NAMES}


@needs_root
def test_a_file_that_only_grows_is_not_read_again(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A busy server would never let us end."""
    tmp = tmp_path_factory.mktemp("setpriv")
    programs = meanwhile(host, tmp, f"echo 3 >> {_LIVE}", times=99)

    assert b"1\n2\n3\n" == read(host, programs)[_LIVE]
    assert "1\n" == (tmp / "count").read_text()


@needs_root
def test_after_five_rotations_it_is_said(
    host: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of it is taken."""
    rotate = f"mv {_LIVE} {_LIVE}.1; cp {_LIVE}.1 {_LIVE}"
    programs = meanwhile(host, tmp_path_factory.mktemp("setpriv"), rotate, times=99)

    with pytest.raises(ForeignError, match="Kea rotated its lease files each time"):
        read(host, programs)


@needs_root
def test_a_file_that_cannot_be_read_is_a_failure(host: Path) -> None:
    """By its name: another's file in the place of Kea's is not Kea's leases."""
    (host / _LIVE).chmod(0o600)

    with pytest.raises(ForeignError, match=rf"{layout.LEASES} could not be read whole as _kea"):
        read(host)


def test_an_answer_that_is_cut_short_is_not_taken(host: Path) -> None:
    """Wherever it is cut; chatter of a login before it does no harm."""
    output = answered(host)
    whole = b"Welcome!\n" + output.rstrip()

    assert unpacked(host, output) == unpacked(host, b"Welcome!\n" + output)
    for length in range(len(whole)):
        with pytest.raises(ForeignError):
            unpacked(host, whole[:length])


def test_chatter_without_an_end_of_its_line_hides_no_file(host: Path) -> None:
    """It stands before the first line of ours then, which must not be lost by it."""
    output = answered(host)

    assert unpacked(host, output) == unpacked(host, b"Welcome! " + output)


def sent(**values: bytes) -> bytes:
    """An answer with these values."""
    return output_of({name.replace("_", "."): value for name, value in values.items()})


LIVE_NUMBER = lease_file.FILES.index(layout.LEASES)


@pytest.mark.parametrize("name", ["document.0", f"lease.{LIVE_NUMBER}", "sizes.0"])
@pytest.mark.parametrize("damage", [b"!", b"="])
def test_an_answer_that_comes_damaged_is_not_taken(host: Path, name: str, damage: bytes) -> None:
    """What is no base64 any more, and what is no whole file by its own checksum."""
    begin = f"{frames.TOKEN} {name} ".encode()
    before, found, rest = answered(host).partition(begin)
    assert found

    with pytest.raises(ForeignError):
        unpacked(host, before + begin + damage + rest)


@pytest.mark.parametrize(
    "sizes",
    [
        f"{LIVE_NUMBER} 4\n{LIVE_NUMBER} 4\n".encode(),
        f"{len(lease_file.FILES)} 4\n".encode(),
        b"-1 4\n",
        f"{LIVE_NUMBER} 5\n".encode(),
        f"{LIVE_NUMBER} {2**40}\n".encode(),
        f"{LIVE_NUMBER}\n".encode(),
        b"0 4\n",
    ],
    ids=["twice", "unasked", "negative", "less came", "too large", "no size", "none came"],
)
def test_sizes_that_cannot_be_are_not_taken(host: Path, sizes: bytes) -> None:
    """A host may be in other hands."""
    lease = {f"lease_{LIVE_NUMBER}": gzip.compress(b"1\n2\n"), "whole_0": b""}
    good = sent(**lease, sizes_0=f"{LIVE_NUMBER} 4\n".encode())
    assert {_LIVE: b"1\n2\n"} == unpacked(host, good)

    with pytest.raises(ForeignError):
        unpacked(host, sent(**lease, sizes_0=sizes))


# --- write ----------------------------------------------------------------------------------

CONTENT = b"address\n192.0.2.1\n"


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


def write(kea: Path, given: str | None = None) -> tuple[int, str]:
    script = file_transfer.write_script(
        CONTENT,
        path=str(kea / "kea/leases"),
        others=[str(kea / f"kea/leases{end}") for end in (".1", ".2", ".done")],
        aside=str(kea / "state/aside"),
    )
    status, _, words = run(
        for_this_machine(script), file_transfer.write_input(CONTENT) if given is None else given
    )
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
    status, words = write(kea, file_transfer.write_input(CONTENT)[:part])

    assert status != 0
    assert words
    assert BEFORE == tree(kea / "kea")
    assert {} == tree(kea / "state/aside")


@needs_root
def test_other_input_than_was_meant_changes_nothing(kea: Path) -> None:
    """Whole, but another."""
    status, _ = write(kea, file_transfer.write_input(b"another\n"))

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
    script = file_transfer.write_script(
        CONTENT,
        path=str(kea / "kea/leases"),
        others=[str(kea / f"kea/leases{end}") for end in (".1", ".2", ".done")],
        aside=str(kea / "state/broken"),
    )

    status, _, words = run(for_this_machine(script), file_transfer.write_input(CONTENT), programs)

    assert status != 0
    assert "No space left on device" in words
    left = tree(kea / "kea")
    assert left.pop("leases") in (BEFORE["leases"], CONTENT.decode())
    assert left.items() <= BEFORE.items()
    assert (0, "") == write(kea)
    assert {"leases": CONTENT.decode()} == tree(kea / "kea")
