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
import shlex
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kea_ha import layout
from kea_ha.settings import Node, Pair

Outcome = Literal["answered", "refused", "undecided"]

#: curl's exit codes for a connection that was made and then ended by the server: TLS failed (35),
#: nothing came back (52), sending failed (55), receiving failed (56).
_ENDED_BY_SERVER = {35, 52, 55, 56}
TIMEOUT_S = 10
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


# On the hosts ---------------------------------------------------------------------------------


def build_script(pair: Pair, node: Node, *, negative: bool = True) -> str:
    """The controls that ``node`` makes: one of its partner, the others of its own ports.

    The negative ones are made against the host's own address, so that what they leave in Kea's
    log does not come from the partner's, where it would be an alarm.
    """
    settings = pair.settings
    tests = [_test("ha", pair.partner_of(node), settings.ha_port, must="yes")]
    if negative:
        tests.append(_test("ha", node, settings.ha_port, must="yes"))
        tests += [_test(who, node, settings.ha_port) for who in ("none", "stranger", "plain")]
    if negative and settings.control_channel != "none":
        tests += [_test(who, node, settings.ca_port) for who in ("ha", "none", "stranger", "plain")]
    return _SCRIPT.format(
        run=layout.VOLATILE_DIR, tls=layout.TLS_DIR, tests="\n".join(tests), timeout=TIMEOUT_S
    )


def _test(who: str, target: Node, port: int, *, must: str = "no") -> str:
    scheme = "http" if who == "plain" else "https"
    return f"try {who} {must} {shlex.quote(target.name)} {port} {scheme}://{target.address}:{port}/"


_WHO = {
    "ha": "a certificate of the peers' CA",
    "none": "a client without a certificate",
    "stranger": "a certificate of a stranger's CA",
    "plain": "plain HTTP",
}

# The stranger's key is made for this one script, in root's own tmpfs directory, and goes with it.
# Names are not verified for the negative controls: the server's refusal is what is asked for.
_SCRIPT = r"""
export LC_ALL=C; umask 077; mkdir -p -m 0700 {run}
work=$(mktemp -d {run}/controls.XXXXXX) || exit 1; trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
  -subj /CN=stranger -addext extendedKeyUsage=clientAuth,serverAuth \
  -keyout "$work/key" -out "$work/crt" 2>/dev/null || exit 1
try() {{
  who=$1; must=$2; name=$3; port=$4; url=$5; set --
  case $who in
    ha) set -- --cert {tls}/ha.crt --key {tls}/ha.key ;;
    stranger) set -- --cert "$work/crt" --key "$work/key" ;;
  esac
  case $must in yes) set -- "$@" --cacert {tls}/ha-ca.crt ;; *) set -- "$@" --insecure ;; esac
  code=$(curl -sv --noproxy '*' --max-time {timeout} -o "$work/body" \
    -w '%{{http_code}} %{{exitcode}}' -H 'Content-Type: application/json' \
    -d '{{"command":"list-commands"}}' "$@" "$url" 2>"$work/err")
  echo "@@ $who $must $name $port $code"
  grep -oE 'SSL connection using [^ ]+' "$work/err" | sed 's/^/tls /'
  if grep -qE '"result": *0' "$work/body" 2>/dev/null; then echo "result ok"
  elif [ -s "$work/body" ]; then echo "words $(head -c 200 "$work/body" | tr '\n' ' ')"; fi
  grep -iE 'alert|error|refused|timed out|reset|empty reply|closed' "$work/err" | tail -n 1 |
    sed 's/^[*] //; s/^/words /'
  rm -f "$work/body"
}}
{tests}
echo "@@ end"
"""


def parse_controls(output: Iterable[str]) -> tuple[Control, ...]:
    """What the script printed, judged. A script that was cut short gives an undecided control."""
    found: list[Control] = []
    block: list[str] = []
    ended = False
    for line in output:
        if line == "@@ end":
            ended = True
        if line.startswith("@@ "):
            if block:
                found.append(_parse_block(block))
            block = [] if ended else [line]
        elif block:
            block.append(line)
    if not ended:
        found.append(Control("the controls", "the host", 0, True, "undecided", "cut short"))
    return tuple(found)


def _parse_block(block: list[str]) -> Control:
    _, who, must, target, port, code, exit_code = (*block[0].split(" "), "000", "-1")[:7]
    rest = dict(line.partition(" ")[::2] for line in block[1:])
    outcome: Outcome = "undecided"
    if code == "200" and exit_code == "0" and "result" in rest:
        outcome = "answered"
    elif code == "000" and int(exit_code) in _ENDED_BY_SERVER:
        outcome = "refused"
    words = rest.get("words", "").strip()
    if outcome == "undecided":
        words = words or f"HTTP status {code}, curl exit {exit_code}"
    return Control(
        who=_WHO[who],
        target=target,
        port=int(port),
        must_be_answered=must == "yes",
        outcome=outcome,
        words="" if outcome == "answered" else words,
        tls=rest.get("tls", "").removeprefix("SSL connection using "),
    )


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
    stream: Stream, context: ssl.SSLContext, address: str, command: dict[str, Any]
) -> tuple[Any, str]:
    """Send one Kea command over HTTPS; gives the parsed reply and the TLS version.

    :raises ssl.SSLError: when either side refuses the other's certificate.
    :raises ConnectionError: when the server ends the connection without an answer.
    :raises ValueError: when what comes back is no HTTP answer with JSON in it.
    """
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
    if not answer:
        raise ConnectionResetError("the server ended the connection")
    status, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0] + b" ":
        raise ValueError(status.split(b"\r\n")[0].decode(errors="replace"))
    return json.loads(content), tls.version() or ""


def _is_whole(answer: bytes) -> bool:
    head, separator, content = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(content) >= int(value)
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
        reply, tls = command_over_tls(stream, context, node.address, command)
    except ssl.SSLCertVerificationError as error:
        return control("undecided", f"the server's own certificate: {error.verify_message}")
    except ssl.SSLError as error:
        return control("refused", error.reason or str(error))
    except (ConnectionError, EOFError) as error:
        return control("refused", str(error))
    except (OSError, ValueError) as error:
        return control("undecided", str(error) or type(error).__name__)
    first = reply[0] if isinstance(reply, list) and reply else reply
    if isinstance(first, dict) and first.get("result") == 0:
        return control("answered", tls=tls)
    return control("undecided", f"Kea's answer: {json.dumps(first)[:200]}")


def undecided(node: Node, port: int, why: str) -> Control:
    """The control of the API client's that could not be made."""
    return Control(API_CLIENT, node.name, port, True, "undecided", why)
