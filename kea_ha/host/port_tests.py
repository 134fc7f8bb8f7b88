"""Proof on the wire: who is answered on the pair's ports, and who is not.

A control is one request with a known identity and a known right answer. Each negative control (no
certificate, a stranger's, the wrong CA's, plain HTTP) stands beside a positive one made by the
same client in the same run: a client that cannot connect at all proves nothing, and comes out as
*undecided*, which counts as failed.

Controls with a host's own certificate run on that host, with curl. Those with the API client's
run on the operator's side, through the ssh connection, so that its key never leaves.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kea_ha.foreign import ForeignError, cut, json_value, quoted, text
from kea_ha.host import frames
from kea_ha.host.script import script
from kea_ha.settings.model import Node, Pair

Outcome = Literal["answered", "refused", "undecided"]

#: curl's exit codes for a connection that was made and then ended by the server: TLS failed (35),
#: nothing came back (52), sending failed (55), receiving failed (56).
_ENDED_BY_SERVER = {35, 52, 55, 56}
TIMEOUT_S = 10
#: How much an API's server may answer with, in bytes.
_REPLY_SIZE = 1 << 20
API_CLIENT = "a certificate of the API clients' CA"


@dataclass(frozen=True)
class Control:
    """One request: ``who`` asked whom on which port, what must happen, and what did."""

    who: str
    target: str
    port: int
    must_be_answered: bool
    outcome: Outcome
    words: str = ""
    tls: str = ""

    @property
    def holds(self) -> bool:
        """Whether what happened is what must happen."""
        return self.outcome == ("answered" if self.must_be_answered else "refused")

    def __str__(self) -> str:
        if self.outcome == "undecided":
            happened = f"could not be decided ({self.words})"
        else:
            happened = f"was {self.outcome}" + (f" ({self.words})" if self.words else "")
        must = "must be answered" if self.must_be_answered else "must be refused"
        return f"{self.who} on {self.target} port {self.port} {happened}; it {must}"


class Stream(Protocol):
    """What TLS is spoken over: a socket, or a channel through ssh."""

    def recv(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""

    def sendall(self, data: bytes, /) -> Any:
        """Send all of ``data``."""

    def settimeout(self, seconds: float, /) -> Any:
        """How long the next of these may take."""

    def close(self) -> Any:
        """Let go of it."""


# On the hosts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """A control that a host is to make: ``who`` it asks as, a key of ``_WHO``."""

    who: str
    target: Node
    port: int
    must_be_answered: bool = False


def tests_of(pair: Pair, node: Node, *, negative: bool = True) -> tuple[Test, ...]:
    """The controls that ``node`` makes: one of its partner, the others of its own ports.

    The negative ones are made against the host's own address, so that what they leave in Kea's
    log does not come from the partner's, where it would be an alarm.
    """
    settings = pair.settings
    found = [Test("ha", pair.partner_of(node), settings.ha_port, must_be_answered=True)]
    if negative:
        found.append(Test("ha", node, settings.ha_port, must_be_answered=True))
        found += [Test(who, node, settings.ha_port) for who in ("none", "stranger", "plain")]
    if negative and settings.control_channel != "none":
        found += [Test(who, node, settings.ca_port) for who in ("ha", "none", "stranger", "plain")]
    return tuple(found)


def build_script(tests: Sequence[Test]) -> str:
    """Make these controls; the answers come in frames, by their numbers."""
    calls = "".join(f"{_call(number, test)}\n" for number, test in enumerate(tests))
    return frames.framed(script("port_tests", timeout_s=TIMEOUT_S) + calls)


def _call(number: int, test: Test) -> str:
    scheme = "http" if test.who == "plain" else "https"
    must = "yes" if test.must_be_answered else "no"
    return quoted(
        "try", str(number), test.who, must, f"{scheme}://{test.target.address}:{test.port}/"
    )


_WHO = {
    "ha": "a certificate of the peers' CA",
    "none": "a client without a certificate",
    "stranger": "a certificate of a stranger's CA",
    "plain": "plain HTTP",
}


def parse_controls(answer: bytes, tests: Sequence[Test]) -> tuple[Control, ...]:
    """What the script printed, judged. A script that was cut short gives an undecided control."""
    names = [f"{what}.{n}" for n in range(len(tests)) for what in ("code", "tls", "body", "words")]
    try:
        said = frames.read(answer, names)
    except ForeignError as error:
        return (Control("the controls", "the host", 0, True, "undecided", str(error)),)
    return tuple(_judged(test, number, said) for number, test in enumerate(tests))


def _judged(test: Test, number: int, said: Mapping[str, bytes]) -> Control:
    def of(what: str) -> bytes:
        return said.get(f"{what}.{number}", b"")

    ended = _ENDED.fullmatch(of("code"))
    outcome: Outcome = "undecided"
    words = cut(of("words").removeprefix(b"* "))
    if ended is None:
        words = words or "curl was ended"
    elif ended["http"] == b"200" and ended["exit"] == b"0":
        result, told = kea_result(of("body"))
        outcome = "answered" if result == 0 else "undecided"
        words = f"Kea's answer: {told}" if result != 0 else ""
    elif ended["http"] == b"000" and int(ended["exit"]) in _ENDED_BY_SERVER:
        outcome = "refused"
    elif not words:
        http, code = ended["http"].decode(), ended["exit"].decode()
        words = f"HTTP status {http}, curl exit {code}"
    return Control(
        who=_WHO[test.who],
        target=test.target.name,
        port=test.port,
        must_be_answered=test.must_be_answered,
        outcome=outcome,
        words=words,
        tls=_tls_version(text(of("tls")).strip()),
    )


_ENDED = re.compile(rb"(?P<http>[0-9]{3}) (?P<exit>[0-9]{1,3})")


def _tls_version(said: str) -> str:
    """A version of TLS that there is; empty if it is none."""
    return said if re.fullmatch(r"(TLSv1(\.[0-3])?|SSLv[23])", said) else ""


def kea_result(said: bytes) -> tuple[int | None, str]:
    """The result of a reply of Kea's (a map, or a list of one), and its words; None if it is none.

    Kea ARM, "Data Syntax" of the management API: 0 is success.
    """
    try:
        reply = json_value(said, "the reply")
    except ForeignError as error:
        return None, str(error)
    match reply[0] if isinstance(reply, list) and len(reply) == 1 else reply:
        case {"result": int(result), **rest} if not isinstance(result, bool):
            return result, cut(str(rest.get("text", "")), 200)
    return None, cut(said, 200) or "nothing came back"


# On the operator's side -----------------------------------------------------------------------


def client_context(certificate: str, key: str, anchor: str | None) -> ssl.SSLContext:
    """TLS for the API client: paths of its certificate and key, and the anchor (PEM) to verify by.

    Without an anchor the server is not verified, which only negative controls may do.
    """
    context = ssl.create_default_context(cadata=anchor) if anchor else ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # fmt: skip
    if anchor is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context


def command_over_tls(
    stream: Stream,
    context: ssl.SSLContext,
    address: str,
    command: dict[str, Any],
    limit_s: float = TIMEOUT_S,
) -> tuple[bytes, str]:
    """Send one Kea command over HTTPS; gives the body of the answer and the TLS version.

    :raises ssl.SSLError: when either side refuses the other's certificate.
    :raises ConnectionError: when the server ends the connection without an answer.
    :raises TimeoutError: when not all of it has come after ``limit_s`` seconds.
    :raises ValueError: when what comes back is no HTTP answer, or too long.
    """
    deadline = time.monotonic() + limit_s

    def wait_no_longer() -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer in {limit_s:g} s")
        stream.settimeout(left)

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=address)

    def handshake() -> bool:
        tls.do_handshake()
        return True

    def pump(action: Any) -> Any:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                result = None
            wait_no_longer()
            if data := outgoing.read():
                stream.sendall(data)
            if result is not None:
                return result
            received = stream.recv(65536)
            if not received:
                raise ConnectionResetError("the server ended the connection")
            incoming.write(received)

    pump(handshake)
    body = json.dumps(command).encode()
    head = (
        f"POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    pump(lambda: tls.write(head.encode() + body))
    answer = b""
    while not _is_whole(answer):
        try:
            piece = pump(lambda: tls.read(65536))
        except (ConnectionResetError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            break
        answer += piece
        if len(answer) > _REPLY_SIZE:
            raise ValueError(f"the answer is longer than {_REPLY_SIZE} bytes")
    if not answer:
        raise ConnectionResetError("the server ended the connection")
    status, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0] + b" ":
        raise ValueError(cut(status.split(b"\r\n")[0]))
    return content, tls.version() or ""


def _is_whole(answer: bytes) -> bool:
    head, separator, content = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(content) >= min(int(value), _REPLY_SIZE)
    return False


def try_command(
    connect: Callable[[], Stream],
    context: ssl.SSLContext,
    node: Node,
    port: int,
    *,
    must_be_answered: bool,
) -> Control:
    """One control of the API client's; ``connect`` raises OSError when there is no connection."""

    def control(outcome: Outcome, words: str = "", tls: str = "") -> Control:
        return Control(API_CLIENT, node.name, port, must_be_answered, outcome, words, tls)

    command = {"command": "status-get", "service": ["dhcp4"]}
    try:
        stream = connect()
    except OSError as error:
        return control("undecided", str(error))
    try:
        with closing(stream):
            body, tls = command_over_tls(stream, context, node.address, command)
    except ssl.SSLCertVerificationError as error:
        return control("undecided", f"the server's own certificate: {error.verify_message}")
    except ssl.SSLError as error:
        return control("refused", error.reason or str(error))
    except (ConnectionError, EOFError) as error:
        return control("refused", str(error))
    except (OSError, ValueError) as error:
        return control("undecided", str(error) or type(error).__name__)
    result, told = kea_result(body)
    if result == 0:
        return control("answered", tls=_tls_version(tls))
    return control("undecided", f"Kea's answer: {told}")


def undecided(node: Node, port: int, why: str) -> Control:
    """The control of the API client's that could not be made."""
    return Control(API_CLIENT, node.name, port, True, "undecided", why)
