"""What the checks ask of hosts: who can reach whom, who answers DHCP, who is answered on a port.

Each function runs something on one or two hosts and gives back what was found, as values that the
pure modules judge. Nothing stays on a host: keys for negative controls, unpacked probes and
listeners go when their script ends, and every script ends by itself, also when the run is killed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gevent
from pyinfra import host
from pyinfra.api.host import Host

from kea_ha import foreign, layout
from kea_ha.decide.preflight import DhcpAnswer, Path
from kea_ha.host import frames, port_tests
from kea_ha.host.script import script
from kea_ha.kea import status
from kea_ha.pki import ca_store
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.remote import AGAIN, AS_ROOT, ask, say, value_of, wait_until
from kea_ha.session.surveys import PKI_DIR, host_of, store_for
from kea_ha.settings.model import Node, Pair

#: How long another DHCP server has to answer: dnsmasq pings an address for 3 s before it offers it.
#: On a pair that was accepted before, a short look: it was asked thoroughly then.
DHCP_S = 5
DHCP_AGAIN_S = 2


@dataclass(frozen=True)
class Reply:
    """What Kea answers to a command: ``result`` 0 is success; None, that it gave no answer."""

    result: int | None
    text: str


def ask_kea(node: Node, command: str) -> Reply:
    """What kea-dhcp4 answers to a command on its own unix socket."""
    try:
        return Reply(*port_tests.kea_result(_answer_of_kea(node, command)))
    except foreign.ForeignError as error:
        return Reply(None, foreign.cut(str(error), 200))


def ha_state_of(node: Node) -> str | None:
    """The server's HA state by its own account at this moment; None when it does not tell."""
    try:
        reply = foreign.json_value(_answer_of_kea(node, "status-get"), "its answer")
        ha = status.parse_status(reply).ha
        return ha.local.state if ha else None
    except foreign.ForeignError:
        return None


def _answer_of_kea(node: Node, command: str) -> bytes:
    question = foreign.quoted(json.dumps({"command": command}))
    asking = f"as_kea_s=15; kea_says {question} | taken {_REPLY_SIZE} | put answer"
    return value_of(host_of(node), script("as_kea") + asking, "answer")


#: What is read of a reply of Kea's at most, in bytes.
_REPLY_SIZE = 100_000


def paths(pair: Pair, node: Node) -> Iterator[Path]:
    """The partner's ports as seen from ``node``: open, refused, dropped, or rejected in words."""
    partner = pair.partner_of(node)
    settings = pair.settings
    ports = [settings.ha_port]
    # Our own firewall keeps the partner away from the API's port on purpose.
    if settings.control_channel != "none" and settings.firewall == "off":
        ports.append(settings.ca_port)
    tries = script("try_ports", address=partner.address, ports=map(str, ports))
    answer = ask(host, frames.framed(tries))
    names = [f"{what}.{port}" for port in ports for what in ("code", "words")]
    try:
        said = frames.read(answer.stdout, names)
    except foreign.ForeignError as error:
        why = f"{node.name} could not try its way to {partner.name}: {error}"
        raise Refusal(why, AS_ROOT) from error
    for port in ports:
        code = foreign.text(said.get(f"code.{port}", b"")).strip()
        words = foreign.cut(said.get(f"words.{port}", b""))
        yield Path(partner.address, port, _outcome(code, words))


def _outcome(code: str, words: str) -> str:
    if code == "0":
        return "open"
    if code == "124":
        return "dropped"
    return "refused" if "refused" in words.lower() else f"rejected: {words.rpartition(': ')[2]}"


def dhcp_servers(pair: Pair, node: Node) -> DhcpAnswer | None:
    """Who else answers a DHCPDISCOVER on the pair's network; None if it cannot be asked yet.

    dhcpcd's test mode sends a DISCOVER, takes no lease and touches no interface; the pair's own
    servers are told to it as addresses not to listen to. Where it is not installed yet, it is
    unpacked for the moment onto tmpfs: a pre-flight changes nothing.
    """
    survey = RUN.surveys[node.name]
    interface = survey.interface_with(node.address)
    if interface is None:
        return None
    seconds = DHCP_AGAIN_S if survey.mark.accepted else DHCP_S
    say(f"    listening {seconds} s for other DHCP servers")
    asking = script(
        "ask_dhcp",
        ignored=(word for n in pair.nodes for word in ("-X", n.address)),
        interface=interface.name,
        seconds=seconds,
    )
    answer = ask(host, frames.framed(asking))
    try:
        said = frames.read(answer.stdout, ["said", "ended"])
    except foreign.ForeignError:
        return DhcpAnswer((), answer.words)
    words = foreign.text(said.get("said", b""))
    servers = tuple(dict.fromkeys(_OFFER.findall(words)))
    if servers or said.get("ended", b"").strip() in (b"0", b"1", b"124"):
        return DhcpAnswer(servers)
    last = [foreign.cut(line) for line in foreign.lines(said.get("said", b"")) if line.strip()]
    return DhcpAnswer((), "\n".join(last[-8:]) or "it said nothing")


_OFFER = re.compile(r"offered \S+ from ([0-9]{1,3}(?:\.[0-9]{1,3}){3})")


def prove_path(pair: Pair, node: Node) -> None:
    """A listener of ours on the partner, with the partner's own certificate, reached from ``node``.

    Before anything listens there, a refused attempt could be a firewall's rejection.

    :raises Refusal: when the listener is not reached, or the two do not accept each other.
    """
    partner, port = pair.partner_of(node), pair.settings.ha_port
    stop = f"{layout.VOLATILE_DIR}/stop-{secrets.token_hex(4)}"
    listen = script("listen", stop=stop, address=partner.address, port=port)
    listener = gevent.spawn(ask, host_of(partner), listen, timeout_s=90)

    def missing() -> str:
        if listener.ready():
            raise Refusal(
                f"{partner.name} could not listen on {partner.address} port {port}: "
                f"{listener.value.words}",
                AGAIN,
            )
        answer = ask(host, script("connect", address=partner.address, port=port))
        return "" if answer.ok else answer.words

    try:
        wait_until(
            missing,
            timeout_s=15,
            what=f"{node.name} cannot reach {partner.name} ({partner.address} port {port}), "
            "although a listener of ours waits there",
            remedy=let_pass(node, partner, port),
        )
    finally:
        ask(host_of(partner), f"touch {stop}")
        listener.join(timeout=5)


def let_pass(client: Node, server: Node, port: int) -> str:
    """The remedy for a blocked path, in the words of whoever keeps the firewalls."""
    return (
        f"let TCP port {port} pass from {client.name} ({client.address}) to {server.name} "
        f"({server.address}): look for a rule that drops or rejects it in the firewalls of "
        f"{server.name}, of {client.name} and in between"
    )


def prove_request(pair: Pair, client: Node, server: Node) -> None:
    """A mutual-TLS request from one host to the other's listener must be answered, by Kea.

    :raises Refusal: when it is not, or when the server's log does not show it.
    """
    port = pair.settings.ha_port
    before = _requests_logged(server)
    wait_until(
        lambda: _not_holding(host_controls(pair, client, negative=False)),
        timeout_s=15,
        what=f"{client.name} gets no answer from {server.name} ({server.address} port {port})",
        remedy=f"{let_pass(client, server, port)}. If it passes, {layout.LOG} on {server.name} "
        "has the reason",
    )
    wait_until(
        lambda: (
            "" if _requests_logged(server) > before else f"{server.name}'s log does not show it"
        ),
        timeout_s=10,
        what=f"the request from {client.name} was answered, but not by Kea on {server.name}",
        remedy=f"see what listens on {server.address} port {port}",
    )


def _not_holding(made: tuple[port_tests.Control, ...]) -> str:
    return "; ".join(str(control) for control in made if not control.holds)


def _requests_logged(node: Node) -> int:
    """How many of our requests the log shows: nothing else of a pair asks for list-commands."""
    counting = (
        f"as_kea grep -ac -D skip \"Received command 'list-commands'\" {layout.LOG} | put count"
    )
    try:
        count = value_of(host_of(node), script("as_kea") + counting, "count")
        return foreign.number(foreign.text(count).strip())
    except foreign.ForeignError:
        return 0


def host_controls(
    pair: Pair, node: Node, *, negative: bool = True
) -> tuple[port_tests.Control, ...]:
    """The controls that a host makes itself, with its own certificate and with wrong ones."""
    tests = port_tests.tests_of(pair, node, negative=negative)
    answer = ask(host_of(node), port_tests.build_script(tests), timeout_s=120)
    return port_tests.parse_controls(answer.stdout, tests)


def operator_controls(pair: Pair, node: Node) -> Iterator[port_tests.Control]:
    """The API client's own requests, through the ssh connection of the host.

    :raises PkiError: when the operator's own certificate cannot be read or renewed.
    """
    settings = pair.settings
    if settings.control_channel == "none":
        return
    if not ca_store.Store.exists(PKI_DIR / pair.name):
        missing = f"pki/{pair.name}/ is not on this machine; docs/runbook.md, Keep pki/"
        yield port_tests.undecided(node, settings.ca_port, missing)
        return
    store = store_for(pair)
    mine = store.client_certificate()
    for port, anchor in ((settings.ca_port, store.api.trusted), (settings.ha_port, None)):
        context = port_tests.client_context(str(mine.certificate), str(mine.key), anchor)
        yield port_tests.try_command(
            _through(host_of(node), node.address, port),
            context,
            node,
            port,
            must_be_answered=anchor is not None,
        )


def _through(via: Host, address: str, port: int) -> Callable[[], port_tests.Stream]:
    """How to connect to the host's own address from the host itself (direct-tcpip)."""

    def connect() -> port_tests.Stream:
        client = getattr(via.connector, "client", None)
        if client is None:
            raise OSError(f"{via.name} is not reached over ssh, so nothing can be forwarded")
        try:
            channel: port_tests.Stream = client.get_transport().open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=port_tests.TIMEOUT_S
            )
        except Exception as error:  # ssh's own, and whatever odd words of a host bring about
            reason = foreign.cut(str(error.args[-1] if error.args else type(error).__name__))
            raise OSError(
                f"the ssh server of {via.name} does not forward to {address} port {port}: {reason} "
                "(nothing listens there, or its sshd_config says AllowTcpForwarding no)"
            ) from error
        return channel

    return connect
