"""The documented setup: nothing given but the command, every value the template's.

One rollout on fresh Debian 13 hosts serves all tests here: what it says, what is then live, what a
client gets, and who is answered on the two ports. None of them changes the pair.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kea_ha.pki.ca_store import Store
from lab import Lab
from tests.lab import bench, identities
from tests.lab.bench import HOSTS, UNITS, Clone, Outcome, Reply
from tests.lab.identities import Authority

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def lab(fresh_lab: Callable[..., Lab]) -> Lab:
    """Fresh hosts."""
    return fresh_lab()


@pytest.fixture(scope="module")
def first(lab: Lab, operator: Clone) -> Outcome:
    """The outcome of `pyinfra -y inventory.py deploy.py` on fresh hosts."""
    return operator.deploy()


@pytest.fixture
def pair(lab: Lab, first: Outcome) -> Lab:
    """The lab with the pair rolled out."""
    assert first.status == 0, first.output
    return lab


def test_one_command_on_fresh_hosts_ends_with_the_verdict(first: Outcome) -> None:
    """Exit status 0, and the last block says who serves, who stands by, and how safely."""
    assert re.search(
        r"host-1 serves 192\.168\.1\.0/24, host-2 stands by, in touch \d+ s ago, TLS 1\.3, "
        r"certificates valid for 36[45] days",
        first.verdict,
    )


def test_a_stock_client_gets_a_lease_that_both_servers_hold(pair: Lab) -> None:
    """An address of the documented pool, the documented router, from the primary."""
    lease = bench.get_lease(pair)

    assert lease is not None
    assert int(lease.address.removeprefix("192.168.1.")) in range(100, 200)
    assert ("192.168.1.1", "192.168.1.2", 43200) == (lease.router, lease.server, lease.seconds)
    for host in HOSTS:
        bench.wait_for(
            f"the lease on {host}",
            lambda host=host: bench.leases(pair, host).get(lease.address) == bench.card(pair),
            patience=5,
        )


def _paths(value: Any, at: str = "") -> dict[str, Any]:
    """Every leaf of a document by its path."""
    if isinstance(value, dict):
        parts = [_paths(inner, f"{at}/{name}") for name, inner in value.items()]
    elif isinstance(value, list):
        parts = [_paths(inner, f"{at}[{number}]") for number, inner in enumerate(value)]
    else:
        return {at: value}
    return {path: leaf for part in parts for path, leaf in part.items()}


def _difference(one: Any, other: Any) -> set[str]:
    left, right = _paths(one), _paths(other)
    return {p for p in left.keys() | right.keys() if left.get(p, ...) != right.get(p, ...)}


def test_the_two_live_documents_differ_in_this_server_name_alone(pair: Lab) -> None:
    """Parsed and compared leaf by leaf; the same comparison finds a change of one number."""
    documents = [bench.document(pair, host) for host in HOSTS]

    different = _difference(*documents)
    assert {path.rpartition("/")[2] for path in different} == {"this-server-name"}
    assert len(different) == 1

    changed = copy.deepcopy(documents[0])
    changed["Dhcp4"]["subnet4"][0]["pools"][0]["pool"] = "192.168.1.100 - 192.168.1.198"
    assert len(_difference(documents[0], changed)) == 1


def _has(document: Any, expected: Any) -> bool:
    """Whether everything in `expected` is in `document`, to the letter."""
    if isinstance(expected, dict):
        return isinstance(document, dict) and all(
            name in document and _has(document[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(document, list)
            and len(document) == len(expected)
            and all(_has(*two) for two in zip(document, expected, strict=True))
        )
    return type(document) is type(expected) and document == expected


TEMPLATE: dict[str, Any] = {
    "interfaces-config": {"interfaces": ["enp0s8"]},
    "multi-threading": {
        "enable-multi-threading": True,
        "thread-pool-size": 4,
        "packet-queue-size": 64,
    },
    "lease-database": {"type": "memfile"},
    "valid-lifetime": 43200,
    "renew-timer": 21600,
    "rebind-timer": 32400,
    "expired-leases-processing": {
        "reclaim-timer-wait-time": 3600,
        "hold-reclaimed-time": 172800,
        "max-reclaim-leases": 0,
        "max-reclaim-time": 0,
    },
    "loggers": [
        {
            "name": "kea-dhcp4",
            "severity": "INFO",
            "output_options": [
                {"output": "/var/log/kea/kea-dhcp4.log", "maxsize": 2048000, "maxver": 4}
            ],
        }
    ],
}
SUBNET: dict[str, Any] = {
    "subnet": "192.168.1.0/24",
    "option-data": [{"name": "routers", "data": "192.168.1.1"}],
}
HIGH_AVAILABILITY: dict[str, Any] = {
    "mode": "hot-standby",
    "heartbeat-delay": 10000,
    "max-response-delay": 60000,
    "max-ack-delay": 5000,
    "max-unacked-clients": 5,
    "sync-timeout": 60000,
    "multi-threading": {
        "enable-multi-threading": True,
        "http-dedicated-listener": True,
        "http-listener-threads": 4,
        "http-client-threads": 4,
    },
    # What differs from the template, for the reasons in docs/differences.md.
    "require-client-certs": True,
    "restrict-commands": True,
    "trust-anchor": "/etc/kea/tls/ha-ca.crt",
    "cert-file": "/etc/kea/tls/ha.crt",
    "key-file": "/etc/kea/tls/ha.key",
    "peers": [
        {"name": "server1", "url": "https://192.168.1.2:8000/", "role": "primary"},
        {"name": "server2", "url": "https://192.168.1.3:8000/", "role": "standby"},
    ],
}


def test_every_value_that_the_template_documents_is_the_templates(pair: Lab) -> None:
    """Read from the running servers' own account of their configuration, and from the files."""
    for host, name in zip(HOSTS, ("server1", "server2"), strict=True):
        written = bench.document(pair, host)["Dhcp4"]
        running = bench.ask_kea(pair, host, "config-get")["arguments"]["Dhcp4"]
        assert _has(written, TEMPLATE)
        for document in (written, running):
            hooks = {
                Path(hook["library"]).name: hook.get("parameters")
                for hook in document["hooks-libraries"]
            }
            assert {"libdhcp_lease_cmds.so", "libdhcp_ha.so"} == set(hooks)
            (relationship,) = hooks["libdhcp_ha.so"]["high-availability"]
            assert _has(relationship, HIGH_AVAILABILITY)
            assert name == relationship["this-server-name"]
            (subnet,) = document["subnet4"]
            assert subnet["subnet"] == SUBNET["subnet"]
            assert _has(subnet["option-data"][0], SUBNET["option-data"][0])
            (pool,) = subnet["pools"]
            assert "192.168.1.100-192.168.1.199" == pool["pool"].replace(" ", "")
            for value in ("valid-lifetime", "renew-timer", "rebind-timer", "multi-threading"):
                assert _has(document[value], TEMPLATE[value])
    changed = copy.deepcopy(TEMPLATE)
    changed["multi-threading"]["packet-queue-size"] = 65
    assert not _has(changed, TEMPLATE)


def test_the_agent_is_the_templates(pair: Lab) -> None:
    """On the host's own address and port 8001, with a certificate required of who asks."""
    for host, address in HOSTS.items():
        text = bench.sh(pair, host, "cat /etc/kea/kea-ctrl-agent.conf")
        agent = bench.parse_document(text)["Control-agent"]
        assert (address, 8001) == (agent["http-host"], agent["http-port"])
        assert agent["cert-required"] is True
        assert "authentication" not in agent
        assert list(agent["control-sockets"]) == ["dhcp4"]


# Who is answered ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def callers(
    lab: Lab, first: Outcome, operator: Clone, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, ...]]:
    """On the client: curl's options for each identity that could knock."""
    assert first.status == 0, first.output
    scratch = tmp_path_factory.mktemp("callers")
    store = Store.open(operator.pki, "lab")
    stranger = Authority(scratch / "stranger", "nobody's CA")
    return {
        "peer": identities.hand_over(
            lab, "client", "peer", identities.throwaway_peer(store, scratch)
        ),
        "api client": identities.hand_over(lab, "client", "api", identities.api_client(store)),
        "stranger": identities.hand_over(lab, "client", "stranger", stranger.issue()),
        "nobody": (),
        "trust 8000": identities.hand_over_anchor(lab, "client", "ha", store.peers.trusted),
        "trust 8001": identities.hand_over_anchor(lab, "client", "api-ca", store.api.trusted),
    }


def _knock(lab: Lab, host: str, port: int, callers: dict[str, tuple[str, ...]], who: str) -> Reply:
    url = f"https://{HOSTS[host]}:{port}/"
    return bench.request(lab, "client", url, *callers[who], *callers[f"trust {port}"])


EACH = list(itertools.product(HOSTS, (8000, 8001)))
RIGHT = {8000: "peer", 8001: "api client"}


@pytest.mark.parametrize(("host", "port"), EACH)
def test_the_right_certificate_is_answered_and_no_other(
    pair: Lab, callers: dict[str, tuple[str, ...]], host: str, port: int
) -> None:
    """Refused before any HTTP: no certificate, a stranger's, and one of the other port's CA."""
    right = RIGHT[port]
    reply = _knock(pair, host, port, callers, right)
    assert reply.answered, reply
    for who in ("nobody", "stranger", RIGHT[16001 - port]):
        assert _knock(pair, host, port, callers, who).refused, who
    # The same client, from the same address, is still welcome.
    assert _knock(pair, host, port, callers, right).answered


@pytest.mark.parametrize(("host", "port"), EACH)
def test_plain_http_gets_nothing(pair: Lab, host: str, port: int) -> None:
    """The same request without TLS ends without an answer, and finds a server that gives one."""
    assert bench.request(pair, "client", f"http://{HOSTS[host]}:{port}/").refused
    answering = (
        "import http.server as h\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        " def do_POST(self):\n"
        "  self.send_response(200); self.end_headers(); self.wfile.write(b'{\"result\": 0}')\n"
        "h.HTTPServer(('127.0.0.1', 8009), A).serve_forever()"
    )
    server = pair.popen("client", ["python3", "-c", answering])
    try:
        bench.wait_for(
            "an answer to the same request",
            lambda: bench.request(pair, "client", "http://127.0.0.1:8009/").answered,
        )
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(("host", "port"), EACH)
def test_tls_older_than_1_2_is_refused(
    pair: Lab, callers: dict[str, tuple[str, ...]], host: str, port: int
) -> None:
    """TLS 1.1 fails where 1.2 and 1.3 succeed, with the same client and the right certificate."""
    _, certificate, _, key = callers[RIGHT[port]]

    def handshake(version: str) -> bool:
        said = bench.sh(
            pair,
            "client",
            f"openssl s_client -connect {HOSTS[host]}:{port} -{version} -cert {certificate} "
            f"-key {key} -cipher DEFAULT@SECLEVEL=0 </dev/null 2>&1",
            check=False,
        )
        return bool(re.search(r"Cipher is (?!\(NONE\))", said))

    assert handshake("tls1_3")
    assert handshake("tls1_2")
    assert not handshake("tls1_1")


def test_a_client_that_can_do_tls_1_1_would_be_seen(
    pair: Lab, callers: dict[str, tuple[str, ...]]
) -> None:
    """The same attempt at a server that still takes TLS 1.1 succeeds: the detector detects."""
    _, certificate, _, key = callers["peer"]
    server = pair.popen(
        "client",
        [
            *("openssl", "s_server", "-quiet", "-accept", "127.0.0.1:8009", "-tls1_1"),
            *("-cert", certificate, "-key", key, "-cipher", "DEFAULT@SECLEVEL=0"),
        ],
    )
    attempt = (
        "openssl s_client -connect 127.0.0.1:8009 -tls1_1 -cipher DEFAULT@SECLEVEL=0 "
        "</dev/null 2>&1 | grep -q 'Cipher is ECDHE'"
    )
    try:
        bench.wait_for(
            "TLS 1.1",
            lambda: pair.exec("client", ["sh", "-c", attempt], check=False).returncode == 0,
        )
    finally:
        server.terminate()
        server.wait()


def test_a_peers_certificate_gets_only_what_peers_need(
    pair: Lab, callers: dict[str, tuple[str, ...]]
) -> None:
    """The HA listener gives a heartbeat, and refuses to show or replace the configuration."""
    options = (*callers["peer"], *callers["trust 8000"])
    for host, address in HOSTS.items():
        url = f"https://{address}:8000/"
        asked = {"command": "ha-heartbeat", "service": ["dhcp4"]}
        assert bench.request(pair, "client", url, *options, command=asked).answered, host
        asked["command"] = "config-get"
        reply = bench.request(pair, "client", url, *options, command=asked)
        assert not reply.answered
        assert reply.http == 403, reply


# On the hosts ---------------------------------------------------------------------------------

_OPEN = (
    "find /etc/kea /var/lib/kea /var/log/kea /run/kea /var/lib/kea-ha "
    "! -type l -perm /007 -printf '%p %m\\n'"
)


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_of_keas_is_open_to_other_users(pair: Lab, host: str) -> None:
    """Documents, keys, certificates, leases, logs, sockets; the same look finds a planted file."""
    assert "" == bench.sh(pair, host, _OPEN)
    bench.sh(pair, host, "touch /var/lib/kea/planted; chmod 604 /var/lib/kea/planted")
    try:
        assert "/var/lib/kea/planted 604\n" == bench.sh(pair, host, _OPEN)
    finally:
        bench.sh(pair, host, "rm /var/lib/kea/planted")


@pytest.mark.parametrize("host", HOSTS)
def test_kea_cannot_replace_what_root_wrote_for_it(pair: Lab, host: str) -> None:
    """/etc/kea is root's with mode 0750, and the service's own user can write nowhere in it."""
    assert "750 root:_kea\n" == bench.sh(pair, host, "stat -c '%a %U:%G' /etc/kea")
    for path in ("/etc/kea/new", "/etc/kea/tls/new", "/etc/kea/kea-dhcp4.conf"):
        done = pair.exec(
            host, ["runuser", "-u", "_kea", "--", "sh", "-c", f": >>{path}"], check=False
        )
        assert done.returncode != 0, path
    # As that user, in a place that is its own, the same does succeed.
    bench.sh(pair, host, "runuser -u _kea -- sh -c ': >>/var/lib/kea/new && rm /var/lib/kea/new'")


@pytest.mark.parametrize("host", HOSTS)
def test_the_daemons_run_as_keas_own_user(pair: Lab, host: str) -> None:
    """Neither kea-dhcp4 nor the agent runs as root."""
    for unit in UNITS:
        pid = bench.main_pid(pair, host, unit)
        assert "_kea" == bench.sh(pair, host, f"ps -o user= -p {pid}").strip()


# Again ----------------------------------------------------------------------------------------


def test_verify_says_the_verdict_and_changes_nothing(pair: Lab, operator: Clone) -> None:
    """Exit status 0 and the same words, at any time."""
    before = [bench.files(pair, host) for host in HOSTS]

    outcome = operator.verify()

    assert "host-1 serves 192.168.1.0/24, host-2 stands by" in outcome.verdict
    assert before == [bench.files(pair, host) for host in HOSTS]


def test_a_second_run_changes_nothing(pair: Lab, operator: Clone) -> None:
    """Same processes, same files to the inode, pyinfra's totals show 0 changed, the verdict."""
    before = bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS]
    assert all(before[0].values())

    again = operator.deploy()

    assert "host-1 serves 192.168.1.0/24" in again.verdict
    changed, errors, unchanged = again.totals()
    assert (0, 0) == (changed, errors)
    assert unchanged > 50
    assert before == (bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS])


def test_dry_and_diff_tell_what_a_setting_would_change(pair: Lab, operator: Clone) -> None:
    """A pending change is listed by name with both values, and nothing is changed by listing it."""
    before = bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS]

    outcome = operator.run(
        *("--dry", "--diff", "inventory.py", "deploy.py", "--data", "packet_queue_size=128")
    )

    assert "Traceback" not in outcome.output
    assert re.search(r"packet-queue-size.*64.*128", outcome.output), outcome.output
    assert before == (bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS])


def test_what_a_change_would_cost_is_told_beforehand(pair: Lab, operator: Clone) -> None:
    """--dry: the settings that differ, the documented heartbeat's price, and what shrinks it."""
    before = bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS]

    outcome = operator.run("--dry", *bench.DEPLOY[1:], "--data", "valid_lifetime=50000")

    assert not bench.missing(
        outcome.output,
        ["setting valid_lifetime: 43200 -> 50000", "10 s each time (2 restarts)",
         "heartbeat_delay=1000 would make that 1 s"],
    )  # fmt: skip
    assert before == (bench.process_ids(pair), [bench.files(pair, host) for host in HOSTS])
