"""A host that is in other hands ends nothing but its own part of a run.

It is an ssh server of the tests that answers each command with what hurts most. The operator's
command ends within its limits, in words, for that host; nothing moves the terminal, nobody is asked
for a password, the process stays small, and other pairs go on.
"""

from __future__ import annotations

import os
import pty
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rollout.conftest import make_operator
from tests.rollout.operators import PROJECT
from tests.rollout.world import HERE, Tree, World

PYINFRA = str(Path(sys.executable).with_name("pyinfra"))
#: What a command may take for hosts that answer at once, but with too much or with nonsense.
PATIENCE_S = 60
#: What the operator's process may take, in KiB.
LARGEST = 300 * 1024


@contextmanager
def hostile_host(directory: Path, enter: list[str]) -> Iterator[int]:
    """The server, and the port that it listens on."""
    directory.mkdir(parents=True)
    server = subprocess.Popen(
        [*enter, sys.executable, str(HERE / "hostile_host.py"), str(directory)]
    )
    try:
        deadline = time.monotonic() + 30
        while not (directory / "port").exists():
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield int((directory / "port").read_text())
    finally:
        server.terminate()
        server.wait()


def pair_of(name: str, behaviour: str, port: int, known_hosts: Path) -> str:
    """The inventory's lines for a pair of two such hosts."""
    members = []
    for number, role in ((1, "primary"), (2, "standby")):
        data = {
            "role": role,
            "server_name": f"server{number}",
            "address": f"192.0.2.{200 + number + len(name)}",
            "ssh_hostname": "127.0.0.1",
            "ssh_port": port,
            "ssh_user": behaviour,
            "ssh_password": "any",
            "ssh_known_hosts_file": str(known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
        }
        members.append((f"{name}-{number}", data))
    subnets = [{"subnet": "192.0.2.0/24", "id": 1, "pools": ["192.0.2.100-192.0.2.109"]}]
    return f"{name} = ({members!r}, {{'subnets': {subnets!r}}})\n"


def trust(directory: Path, port: int) -> Path:
    """A known_hosts file with the server's key."""
    found = directory / "known_hosts"
    found.write_text(f"[127.0.0.1]:{port} {(directory / 'host_key.pub').read_text()}")
    return found


@dataclass(frozen=True)
class Ended:
    """A command of the operator's: its exit status, all it showed, its time and its peak in KiB."""

    status: int
    shown: bytes
    seconds: float
    peak: int


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """An operator's clone, without an inventory."""
    directory = tmp_path / "clone"
    directory.mkdir()
    for name in ("deploy.py", "runbook", "kea_ha", "templates", "files", "lab", "group_data"):
        (directory / name).symlink_to(PROJECT / name)
    return directory


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """One server for all of these: port, and known_hosts with its key."""
    directory = tmp_path_factory.mktemp("hostile") / "server"
    with hostile_host(directory, []) as port:
        yield port, trust(directory, port)


def run(clone: Path, *arguments: str, terminal: bool = False) -> Ended:
    """Run pyinfra there until it ends; with a terminal, if it is to have one."""
    environment = {**os.environ, "PYINFRA_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": "1"}
    begun = time.monotonic()
    ours, its = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [PYINFRA, *arguments],
        cwd=clone,
        env=environment,
        stdin=its if terminal else subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    shown = bytearray()
    try:
        while piece := os.read(ours, 65536):
            shown += piece
            assert time.monotonic() - begun < 240, bytes(shown)
    except OSError:
        pass  # how a terminal ends
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.close(ours)
    return Ended(process.returncode, bytes(shown), time.monotonic() - begun, usage.ru_maxrss)


def must_be_sound(ended: Ended, host: str, *, asked: bool = True) -> None:
    """Not accepted, said so in words for that host, and nothing else happened.

    ``asked``: it came so far that a command was run there.
    """
    text = ended.shown.decode(errors="replace")
    assert ended.status not in (0, None), text
    assert "Traceback" not in text and "defect of this project" not in text, text
    assert not re.search(r"^lab: accepted", text, re.M), text
    assert f"  Host  {host}" in text, text
    assert asked == ("  Step  Connect" not in text), text
    assert ended.peak < LARGEST, f"{ended.peak} KiB"
    # Of control sequences only the colours that pyinfra sets.
    assert not re.search(
        rb"\x1b(?!\[(?:0|1|3[0-7])m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x7f]", ended.shown
    )


AT_ONCE = ["endless", "endless-errors", "empty", "forged", "screen", "password", "cut"]
COMMANDS = ["deploy.py", "runbook/verify.py", "runbook/recover.py", "runbook/undo.py"]


@pytest.mark.parametrize("behaviour", AT_ONCE)
def test_a_hostile_host_ends_its_own_part_of_a_run(
    clone: Path, server: tuple[int, Path], behaviour: str
) -> None:
    """Within the limits, in words, whatever it answers."""
    inventory = pair_of("lab", behaviour, *server)
    (clone / "inventory.py").write_text(
        f"from kea_ha.run import before_connecting\n{inventory}before_connecting()\n"
    )

    ended = run(clone, "-y", "inventory.py", "deploy.py")

    must_be_sound(ended, "lab-1")
    assert ended.seconds < PATIENCE_S


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [*COMMANDS[1:], "runbook/backup.py"])
@pytest.mark.parametrize("behaviour", [*AT_ONCE, "silent", "deaf"])
def test_no_command_is_stopped_by_a_hostile_host(
    clone: Path, server: tuple[int, Path], behaviour: str, command: str
) -> None:
    """The same for those by which an operator would look after such a pair."""
    inventory = pair_of("lab", behaviour, *server)
    (clone / "inventory.py").write_text(
        f"from kea_ha.run import before_connecting\n{inventory}before_connecting()\n"
    )

    must_be_sound(run(clone, "-y", "inventory.py", command), "lab-1")


@pytest.mark.parametrize("verbosity", ["-v", "-vvv"])
@pytest.mark.parametrize("behaviour", ["screen", "password"])
def test_on_a_terminal_no_verdict_is_forged_and_nobody_is_asked_for_a_password(
    clone: Path, server: tuple[int, Path], behaviour: str, verbosity: str
) -> None:
    """What a host says stands behind its name or behind the margin, without control characters."""
    inventory = pair_of("lab", behaviour, *server)
    (clone / "inventory.py").write_text(
        f"from kea_ha.run import before_connecting\n{inventory}before_connecting()\n"
    )

    ended = run(clone, "-y", verbosity, "inventory.py", "deploy.py", terminal=True)

    must_be_sound(Ended(ended.status, ended.shown.replace(b"\r\n", b"\n"), 0, ended.peak), "lab-1")
    assert b"sudo password" not in ended.shown


def ssh_packet(content: bytes, length: int | None = None) -> bytes:
    """A packet of ssh before anything is encrypted (RFC 4253, 6), of this length if not its own."""
    padding = 8 - (len(content) + 5) % 8 + 4
    length = 1 + len(content) + padding if length is None else length
    return struct.pack(">IB", length, padding) + content + bytes(padding)


#: What a host says to whoever connects, before any key has been seen: once, and then without end.
STRANGERS = {
    "greeting without end": (b"", b"A" * 4096),
    "lines without end": (b"", b"welcome\r\n" * 400),
    "packet without end": (b"SSH-2.0-x\r\n" + struct.pack(">IB", 0x7FFFFFFC, 4), bytes(65536)),
    "names of no kind": (
        b"SSH-2.0-x\r\n" + ssh_packet(b"\x14" + bytes(16) + b"\0\0\0\2\xff\xfe" + bytes(41)),
        b"",
    ),
    "silence": (b"", b""),
}


@contextmanager
def stranger(first: bytes, again: bytes) -> Iterator[int]:
    """Something that listens, and speaks so; the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def speak(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(first)
                while again:
                    connection.sendall(again)
                while connection.recv(65536):
                    pass

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(
                        target=speak, args=(listener.accept()[0],), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("kind", STRANGERS)
def test_whoever_answers_in_a_hosts_place_is_not_connected_to(clone: Path, kind: str) -> None:
    """Before its key is known it may say anything: neither memory, time nor words run out."""
    with stranger(*STRANGERS[kind]) as port:
        (clone / "known_hosts").touch()
        inventory = pair_of("lab", "root", port, clone / "known_hosts")
        (clone / "inventory.py").write_text(
            f"from kea_ha.run import before_connecting\n{inventory}before_connecting()\n"
        )

        ended = run(clone, "-y", "inventory.py", "runbook/verify.py")

    must_be_sound(ended, "lab-1", asked=False)
    assert ended.seconds < PATIENCE_S


def test_other_pairs_go_on(ground: World, tree: Tree, tmp_path: Path) -> None:
    """A pair that answers without end is stopped; the one beside it is rolled out and accepted."""
    with World(ground) as world:
        operator = make_operator(tmp_path / "anna", world, tree, {"office": ("dhcp-a", "dhcp-b")})
        with hostile_host(tmp_path / "server", world.enter()) as port:
            known = trust(tmp_path / "server", port)
            operator.over_ssh = pair_of("bad", "endless", port, known)

            outcome = operator.run()

        assert outcome.status == 1
        assert outcome.block_of("office").startswith("office: accepted. dhcp-a serves")
        assert "  Host  bad-1" in outcome.block_of("bad")
