"""The one way to a host: a command, what it is to read, and its answer, each within limits.

What comes back is bytes, at most so many and for at most so long, from a host that may be in
other hands: pyinfra's own reader collects without a limit, takes what is no UTF-8 for a failure of
its own, and asks the operator for a password when a host prints the words for it. A larger answer
goes where it is told to, as it comes, and is never in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import gevent
from gevent.select import select
from paramiko import ProxyCommand, RSAKey, SSHException, Transport
from paramiko.packet import Packetizer
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector

from kea_ha import foreign

#: What a host may answer to one command, in bytes, unless it goes elsewhere as it comes.
MOST: Final = 16 << 20
#: The same of what it complains of. A survey's own complaints are thrown away on the host.
MOST_COMPLAINTS: Final = 1 << 20
#: The largest packet of ssh that is read, in bytes: RFC 4253 (6.1) has every side take 35000, and
#: OpenSSH sends no larger ones than 256 KiB. paramiko would collect 4 GiB.
LARGEST_PACKET: Final = 1 << 20
#: What a host may say before ssh begins, in bytes: RFC 4253 (4.2) has lines of 255.
LONGEST_GREETING: Final = 1 << 16
#: How long connecting may take, in seconds; pyinfra's own limit is on each answer of the host.
CONNECTING_S: Final = 90
#: How long a host may take to begin with a command, and how long nothing may come of one whose
#: answer comes in pieces. Seconds.
SILENCE_S: Final = 60
#: How long is waited to say goodbye on a channel, in seconds.
_GOODBYE_S: Final = 3
_PIECE: Final = 65536


class NoAnswer(TimeoutError):
    """Raised when a host has not answered in so many ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer in {seconds:g} s")
        self.seconds = seconds


class TooMuch(Exception):
    """Raised when a host answers with more than it may."""


class CutOff(Exception):
    """Raised when a connection ends before the command has told how it ended."""


@dataclass(frozen=True)
class Said:
    """A command's exit status, what it printed, and what it complained of."""

    code: int
    out: bytes
    err: bytes


class Client(Protocol):
    """What is used of paramiko's client."""

    def get_transport(self) -> Any:
        """The connection; None when there is none."""


def run(
    client: Client | None,
    command: str,
    *,
    given: bytes,
    limit_s: float,
    most: int = MOST,
    sink: Callable[[bytes], object] | None = None,
) -> Said:
    """Run a command with ``given`` on its standard input; ``sink`` takes what it prints, if any.

    :raises NoAnswer: when it has not ended after ``limit_s`` seconds, has not begun after
        ``SILENCE_S``, or, with a sink, has printed nothing for as long.
    :raises TooMuch: when it prints more than ``most`` bytes.
    :raises CutOff, OSError, EOFError, SSHException: when the connection does not carry it.
    """
    try:
        with gevent.Timeout(limit_s, NoAnswer(limit_s)):
            return _run(client, command, given, limit_s, most, sink)
    except (TimeoutError, TooMuch, CutOff, OSError, EOFError, SSHException):
        raise
    except Exception as error:  # whatever odd words of a host bring about in the library
        raise CutOff(foreign.cut(str(error)) or type(error).__name__) from error


def _run(
    client: Client | None,
    command: str,
    given: bytes,
    limit_s: float,
    most: int,
    sink: Callable[[bytes], object] | None,
) -> Said:
    transport = client.get_transport() if client is not None else None
    if transport is None:
        raise CutOff("there is no connection")
    silence_s = min(limit_s, SILENCE_S)
    channel = transport.open_session(timeout=silence_s)
    reading: list[gevent.Greenlet] = []
    try:
        channel.settimeout(silence_s if sink else limit_s)
        with gevent.Timeout(silence_s, NoAnswer(silence_s)):
            channel.exec_command(command)
        out: list[bytes] = []
        err: list[bytes] = []
        reading = [
            gevent.spawn(_write, channel, given),
            gevent.spawn(_read, channel.recv, most, sink or out.append),
            gevent.spawn(_read, channel.recv_stderr, MOST_COMPLAINTS, err.append, waits=True),
        ]
        for job in gevent.iwait(reading):
            failed = job.get()
            if isinstance(failed, TimeoutError):
                raise NoAnswer(silence_s)
            if failed is not None:
                raise failed
        code = channel.recv_exit_status()
    finally:
        gevent.killall(reading, block=False)
        _let_go(transport, channel)
    if code < 0:
        raise CutOff("the connection ended before the command did")
    return Said(code, b"".join(out), b"".join(err))


def _let_go(transport: Any, channel: Any) -> None:
    """Close a channel; a connection on which even that cannot be said is ended."""
    closing = gevent.spawn(_close, channel)
    closing.join(timeout=_GOODBYE_S)
    if not closing.ready():
        for one in (getattr(transport, "packetizer", None), getattr(transport, "sock", None)):
            if one is not None:
                with suppress(Exception):
                    one.close()


def _close(channel: Any) -> None:
    with suppress(Exception):
        channel.close()


# What goes wrong in these is given back: raised there, gevent would print it.


def _write(channel: Any, given: bytes) -> None:
    # A command may end without having read all of it: its exit status tells.
    with suppress(OSError, EOFError):
        channel.sendall(given)
        channel.shutdown_write()


def _read(
    receive: Callable[[int], bytes],
    most: int,
    sink: Callable[[bytes], object],
    *,
    waits: bool = False,
) -> Exception | None:
    seen = 0
    while True:
        try:
            piece = receive(_PIECE)
            seen += len(piece)
            if seen > most:
                return TooMuch(f"more than {most} bytes")
            if not piece:
                return None
            sink(piece)
        except TimeoutError as error:
            if not waits:  # complaints mostly never come
                return error
        except Exception as error:
            return error


def guard(client: Client | None, *, silence_s: float) -> None:
    """Have no channel of a connection be waited for longer; of paramiko's own accord, an hour."""
    transport = client.get_transport() if client is not None else None
    if transport is not None:
        transport.channel_timeout = silence_s


def harden() -> None:
    """Have every connection of this process stay within limits, before it is authenticated too.

    Packets and greetings have a size, other hosts go on while one floods, and whatever a host
    brings about while it is connected to ends as pyinfra's own error of that host. The end of a
    ``ProxyCommand`` is the end of its connection.
    """
    refuse_sha1()
    packetizer: Any = Packetizer
    connector: Any = SSHConnector
    read_all, readline, connect = packetizer.read_all, packetizer.readline, connector.connect

    def bounded_read_all(self: Any, n: int, check_rekey: bool = False) -> bytes:
        if n > LARGEST_PACKET:
            raise SSHException(f"the host announced a packet of {n} bytes")
        gevent.sleep(0)  # a host that always has more to say leaves nobody else a turn
        whole: bytes = read_all(self, n, check_rekey)
        return whole

    def bounded_readline(self: Any, timeout: float) -> str:
        greeting = self._read_timeout
        seen = 0

        def counted(limit: float) -> bytes:
            nonlocal seen
            piece: bytes = greeting(limit)
            seen += len(piece)
            if seen > LONGEST_GREETING:
                raise SSHException("the host's greeting has no end")
            return piece

        self._read_timeout = counted
        try:
            line: str = readline(self, timeout)
        finally:
            del self._read_timeout
        return line

    def bounded_connect(self: Any) -> None:
        try:
            with gevent.Timeout(CONNECTING_S, TimeoutError(f"not connected in {CONNECTING_S} s")):
                connect(self)
        except ConnectError:
            raise
        except Exception as error:
            words = foreign.cut(str(error)) or type(error).__name__
            raise ConnectError(f"Could not connect ({words})") from error

    def recv(self: Any, size: int) -> bytes:
        # paramiko's own reads on for ever, without a pause, from a program that has ended.
        if not select([self.process.stdout], [], [], self.timeout)[0]:
            raise TimeoutError
        return os.read(self.process.stdout.fileno(), size)

    packetizer.read_all, packetizer.readline = bounded_read_all, bounded_readline
    connector.connect = bounded_connect
    proxy: Any = ProxyCommand
    proxy.recv = recv


#: RSA with SHA-1, as a host's key and as a user's: paramiko 4 takes such a signature also where
#: another was agreed on (CVE-2026-44405), and pyinfra 3.10 cannot have a newer one.
SHA1 = ("ssh-rsa", "ssh-rsa-cert-v01@openssh.com")


def refuse_sha1() -> None:
    """Have no connection of this process use, or take, a signature with SHA-1."""
    for name in ("_preferred_keys", "_preferred_pubkeys"):
        kept = tuple(one for one in getattr(Transport, name) if one not in SHA1)
        setattr(Transport, name, kept)
    for name in SHA1:
        RSAKey.HASHES.pop(name, None)
