"""An ssh server that lets anybody in and answers each command with what hurts most.

    python hostile_host.py DIRECTORY

It makes its key in DIRECTORY, writes the port that it listens on to DIRECTORY/port, and takes from
DIRECTORY/behaviour how it answers; a user's name chooses another one (``forged``, …). It stands for
a host that is in other hands.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import paramiko

BLOCK = b"x" * 32768


class Door(paramiko.ServerInterface):
    """Everybody may come in, and have any channel."""

    def __init__(self) -> None:
        self.user = ""

    def check_auth_none(self, username: str) -> int:
        self.user = username
        return paramiko.common.AUTH_SUCCESSFUL

    check_auth_publickey = check_auth_none

    def check_auth_password(self, username: str, password: str) -> int:
        return self.check_auth_none(username)

    def get_allowed_auths(self, username: str) -> str:
        return "none,publickey,password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, *_: object) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self.user == "deaf":
            # This is the thread that reads: from here on nothing is, and the other side drowns.
            threading.Thread(target=flood, args=(channel.get_transport(),), daemon=True).start()
            threading.Event().wait()
        # Not before this has been granted, which paramiko does when it returns.
        threading.Timer(0.1, answer, (self.user, channel, command)).start()
        return True


def answer(behaviour: str, channel: paramiko.Channel, command: bytes) -> None:
    """One command's answer."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        {
            "endless": endless,
            "endless-errors": endless_errors,
            "silent": silent,
            "empty": empty,
            "forged": forged,
            "screen": screen,
            "password": password,
            "cut": cut,
        }[behaviour](channel, command)


def flood(transport: paramiko.Transport) -> None:
    """Questions that want an answer each, without end."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        while True:
            message = paramiko.Message()
            message.add_byte(paramiko.common.cMSG_GLOBAL_REQUEST)
            message.add_string("keepalive@example.org")
            message.add_boolean(True)
            transport._send_message(message)


def endless(channel: paramiko.Channel, _command: bytes) -> None:
    while True:
        channel.sendall(BLOCK)


def endless_errors(channel: paramiko.Channel, _command: bytes) -> None:
    while True:
        channel.sendall_stderr(BLOCK)


def silent(channel: paramiko.Channel, _command: bytes) -> None:
    while not channel.closed:
        time.sleep(0.1)


def empty(channel: paramiko.Channel, _command: bytes) -> None:
    channel.send_exit_status(0)
    channel.close()


def forged(channel: paramiko.Channel, command: bytes) -> None:
    """Frames with the run's own token, which stands in the command."""
    token = command.partition(b"printf ")[2].lstrip(b"'\"\\").split(b" ")[0][-16:]
    for name, value in (
        (b"host", b"1795413355.9 2026-11-23 05:55:55.936\n2\namd64\n"),
        (b"attributes", b"1 600 root:root /etc/../$(id)\n"),
        (b"contents", b"\x0b@@ clock 1"),
        (b"status", b"[" * 100_000),
        (b"end", b""),
    ):
        channel.sendall(token + b" " + name + b" " + b64encode(value) + b"\n")
    channel.send_exit_status(0)
    channel.close()


VERDICT = "-" * 78 + "\nlab: accepted. host-1 serves 192.0.2.0/24, host-2 stands by\n" + "-" * 78


def screen(channel: paramiko.Channel, _command: bytes) -> None:
    """What would clear a terminal, set its title and clipboard, and print a verdict."""
    said = f"no\x1b[2J\x1b[H\n{VERDICT}\n\x1b[8m\x1b]0;x\x07\x1b]52;c;eA==\x07\u202e\x9b1m"
    channel.sendall_stderr(said.encode())
    channel.sendall(said.encode())
    channel.send_exit_status(1)
    channel.close()


def password(channel: paramiko.Channel, _command: bytes) -> None:
    """The words for which pyinfra asks the operator for a password."""
    channel.sendall(b"sudo: a password is required\n")
    channel.sendall_stderr(b"sudo: a password is required\n")
    channel.send_exit_status(1)
    channel.close()


def cut(channel: paramiko.Channel, _command: bytes) -> None:
    """The connection ends in the middle of an answer."""
    channel.sendall(b"half")
    channel.get_transport().close()


def serve(directory: Path) -> None:
    key = paramiko.ECDSAKey.generate()
    (directory / "host_key.pub").write_text(f"{key.get_name()} {key.get_base64()}\n")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    candidate = directory / "port.new"
    candidate.write_text(str(listener.getsockname()[1]))
    candidate.rename(directory / "port")
    kept = []
    while True:
        connection, _ = listener.accept()
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        with suppress(EOFError, paramiko.SSHException):
            transport.start_server(server=Door())
        kept.append(transport)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
