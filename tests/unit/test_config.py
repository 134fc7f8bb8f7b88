"""What the documents promise: Kea reads exactly the settings, whatever is in them, in the words of
the version that runs there; and the two hosts' documents differ in what is each host's own."""

from __future__ import annotations

import configparser
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.kea import config
from kea_ha.kea.config import Platform, render_control_agent, render_dhcp4, render_firewall
from kea_ha.kea.config_diff import differences, pair_differences, parse_document, remembered
from kea_ha.settings.build import build_pair
from kea_ha.settings.extra import DHCP4_KEYS, merged
from kea_ha.settings.kea_versions import Version
from kea_ha.settings.model import Pair
from kea_ha.settings.problems import HIDDEN, is_secret

HOOKS = "/usr/lib/x86_64-linux-gnu/kea/hooks"
VERSIONS = ("2.2.0-6", "2.6.3-1+deb13u1", "3.0.3-1~bpo13+1", "3.0.4-2", "3.2.0")
OLD, NEW = (Platform(Version.parse(text), HOOKS) for text in ("2.6.3", "3.0.4"))

# Kea's HA parameters are checked by nobody but us before 3.0: a name that is not here is a mistake.
HA_NAMES = {
    "this-server-name", "mode", "heartbeat-delay", "max-response-delay", "max-ack-delay",
    "max-unacked-clients", "send-lease-updates", "sync-leases", "sync-timeout", "multi-threading",
    "trust-anchor", "cert-file", "key-file", "require-client-certs", "restrict-commands", "peers",
}  # fmt: skip


def pair(directory: Path = Path(), **both: Any) -> Pair:
    """The template's pair with these settings."""
    nodes: dict[str, dict[str, Any]] = {
        "host-1": {"role": "primary", "server_name": "server1", "address": "192.168.1.2"},
        "host-2": {"role": "standby", "server_name": "server2", "address": "192.168.1.3"},
    }
    hosts = {name: {**node, **both} for name, node in nodes.items()}
    return build_pair("lab", hosts, directory=directory)


def dhcp4(made: Pair, platform: Platform = OLD) -> dict[str, Any]:
    """What Kea on the primary reads."""
    text = render_dhcp4(made, made.primary, platform, "enp0s8")
    return parse_document(text)["Dhcp4"]  # type: ignore[no-any-return]


def high_availability(document: dict[str, Any]) -> dict[str, Any]:
    """The HA parameters of a document."""
    return document["hooks-libraries"][1]["parameters"]["high-availability"][0]  # type: ignore[no-any-return]


class TestTemplate:
    @pytest.mark.parametrize("text", VERSIONS)
    def test_untouched_settings_give_the_templates_values(self, text: str) -> None:
        """Every value that the template documents, on every Kea."""
        channel = "none" if text.startswith("3.2") else "agent"
        document = dhcp4(pair(control_channel=channel), Platform(Version.parse(text), HOOKS))
        ha = high_availability(document)

        assert document["interfaces-config"]["interfaces"] == ["enp0s8"]
        assert document["multi-threading"] == {
            "enable-multi-threading": True, "thread-pool-size": 4, "packet-queue-size": 64,
        }  # fmt: skip
        assert document["lease-database"]["type"] == "memfile"
        assert (
            document["valid-lifetime"], document["renew-timer"], document["rebind-timer"],
        ) == (43200, 21600, 32400)  # fmt: skip
        assert document["expired-leases-processing"] == {
            "reclaim-timer-wait-time": 3600, "hold-reclaimed-time": 172800,
            "max-reclaim-leases": 0, "max-reclaim-time": 0,
        }  # fmt: skip
        assert [Path(hook["library"]).name for hook in document["hooks-libraries"]] == [
            "libdhcp_lease_cmds.so",
            "libdhcp_ha.so",
        ]
        assert {
            "this-server-name": "server1", "mode": "hot-standby", "heartbeat-delay": 10000,
            "max-response-delay": 60000, "max-ack-delay": 5000, "max-unacked-clients": 5,
            "sync-timeout": 60000,
        }.items() <= ha.items()  # fmt: skip
        assert [(peer["name"], peer["role"]) for peer in ha["peers"]] == [
            ("server1", "primary"),
            ("server2", "standby"),
        ]
        (subnet,) = document["subnet4"]
        assert subnet["subnet"] == "192.168.1.0/24"
        assert subnet["interface"] == "enp0s8"
        assert subnet["pools"] == [{"pool": "192.168.1.100-192.168.1.199"}]
        (logger,) = document["loggers"]
        assert (
            logger["name"],
            logger["severity"],
            logger["debuglevel"],
        ) == ("kea-dhcp4", "INFO", 0)
        (output,) = logger.get("output-options", logger.get("output_options"))
        assert (output["maxsize"], output["maxver"]) == (2048000, 4)

    @pytest.mark.parametrize("platform", [OLD, NEW], ids=["2.6", "3.0"])
    def test_the_link_is_mutual_tls_and_every_switch_is_written(self, platform: Platform) -> None:
        """TLS once for the relationship, https urls as the guard, and nothing left to defaults."""
        ha = high_availability(dhcp4(pair(), platform))

        assert set(ha) == HA_NAMES
        assert (
            ha["trust-anchor"], ha["cert-file"], ha["key-file"],
        ) == (layout.HA_ANCHOR, layout.HA_CERTIFICATE, layout.HA_KEY)  # fmt: skip
        assert ha["require-client-certs"] is ha["restrict-commands"] is True
        assert [peer["url"] for peer in ha["peers"]] == [
            "https://192.168.1.2:8000/",
            "https://192.168.1.3:8000/",
        ]
        assert {"name", "url", "role", "auto-failover"} == set().union(*ha["peers"])
        assert ha["multi-threading"] == {
            "enable-multi-threading": True, "http-dedicated-listener": True,
            "http-listener-threads": 4, "http-client-threads": 4,
        }  # fmt: skip

    def test_each_setting_reaches_its_place(self) -> None:
        """Other values than the template's, each a different number."""
        numbers = {
            "heartbeat_delay": 1001, "max_response_delay": 3002, "max_ack_delay": 1003,
            "max_unacked_clients": 7, "sync_timeout": 61000, "thread_pool_size": 11,
            "packet_queue_size": 122, "ha_listener_threads": 13, "ha_client_threads": 14,
            "valid_lifetime": 903, "rebind_timer": 702, "renew_timer": 501,
        }  # fmt: skip
        document = dhcp4(pair(Path(), **numbers, ha_port=9000))
        ha = high_availability(document)

        assert [numbers[name] for name in list(numbers)[:5]] == [
            ha[name.replace("_", "-")] for name in list(numbers)[:5]
        ]
        assert (
            ha["multi-threading"]["http-listener-threads"],
            ha["multi-threading"]["http-client-threads"],
        ) == (13, 14)
        assert (
            document["multi-threading"]["thread-pool-size"],
            document["multi-threading"]["packet-queue-size"],
        ) == (11, 122)
        assert (
            document["valid-lifetime"], document["rebind-timer"], document["renew-timer"],
        ) == (903, 702, 501)  # fmt: skip
        assert ha["peers"][0]["url"] == "https://192.168.1.2:9000/"


class TestVersions:
    def test_names_before_3_0(self) -> None:
        """One unix socket, the hooks in full, and the log's options with an underscore."""
        document = dhcp4(pair(), OLD)

        assert document["control-socket"] == {
            "socket-type": "unix",
            "socket-name": layout.CONTROL_SOCKET,
        }
        assert "control-sockets" not in document
        assert f"{HOOKS}/libdhcp_ha.so" == document["hooks-libraries"][1]["library"]
        assert "output_options" in document["loggers"][0]

    def test_names_from_3_0(self) -> None:
        """A list of sockets, bare hook names, and dashes throughout."""
        document = dhcp4(pair(), NEW)

        assert [one["socket-type"] for one in document["control-sockets"]] == ["unix"]
        assert "control-socket" not in document
        assert document["hooks-libraries"][1]["library"] == "libdhcp_ha.so"
        assert "output-options" in document["loggers"][0]

    def test_direct_is_keas_own_https_socket(self) -> None:
        """On the host's own address, with the API's identity, for certificates only."""
        _, https = dhcp4(pair(control_channel="direct"), NEW)["control-sockets"]

        assert https == {
            "socket-type": "https", "socket-address": "192.168.1.2", "socket-port": 8001,
            "trust-anchor": layout.API_ANCHOR, "cert-file": layout.API_CERTIFICATE,
            "key-file": layout.API_KEY, "cert-required": True,
        }  # fmt: skip

    def test_direct_is_never_rendered_for_a_kea_without_it(self) -> None:
        """A document without the socket would look like a success."""
        with pytest.raises(ValueError, match="no HTTPS socket"):
            dhcp4(pair(control_channel="direct"), OLD)

    def test_none_leaves_the_unix_socket_alone(self) -> None:
        """Nothing listens on 8001, and commands on the host still work."""
        assert [
            one["socket-type"]
            for one in dhcp4(pair(control_channel="none"), NEW)["control-sockets"]
        ] == ["unix"]

    def test_the_agent_takes_certificates_alone(self) -> None:
        """On the host's own address and port, for one daemon, with the API's identity."""
        made = pair(ca_port=8443)
        agent = parse_document(render_control_agent(made, made.standby, OLD))["Control-agent"]

        assert (
            agent["http-host"], agent["http-port"], agent["cert-required"],
        ) == ("192.168.1.3", 8443, True)  # fmt: skip
        assert (
            agent["trust-anchor"], agent["cert-file"], agent["key-file"],
        ) == (layout.API_ANCHOR, layout.API_CERTIFICATE, layout.API_KEY)  # fmt: skip
        assert agent["control-sockets"]["dhcp4"]["socket-name"] == layout.CONTROL_SOCKET
        assert "authentication" not in agent

    def test_the_check_loads_hooks_where_it_can(self) -> None:
        """-T fails with the HA hook before 3.0."""
        assert [config.check_flag(Version.parse(text)) for text in VERSIONS[:4]] == [
            "-t",
            "-t",
            "-T",
            "-T",
        ]

    @pytest.mark.parametrize("platform", [OLD, NEW], ids=["2.6", "3.0"])
    def test_paths_stay_where_debians_apparmor_lets_kea(self, platform: Platform) -> None:
        """Kea would start in the lab and fail on a host with AppArmor."""
        allowed = re.compile(
            r"/etc/kea/.+|/run/kea/kea4-ctrl-socket|/var/lib/kea/kea-leases4\.csv"
            r"|/var/log/kea/kea-(dhcp4|ctrl-agent)\.log|/usr/lib/[^/]+/kea/hooks/libdhcp_\w+\.so"
        )
        made = pair(control_channel="agent")
        found = [
            text
            for document in (
                dhcp4(made, platform),
                parse_document(render_control_agent(made, made.primary, platform)),
            )
            for text in strings(document)
            if text.startswith("/")
        ]
        assert len(found) >= 8
        assert [path for path in found if not allowed.fullmatch(path)] == []


def strings(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


class TestSubnets:
    def test_relays_options_and_extra(self) -> None:
        """A subnet behind relays has no interface of ours; its extra is merged last."""
        far = {
            "subnet": "10.2.0.0/16", "id": 7, "pools": ["10.2.1.0/24"],
            "relays": ["10.2.0.1", "10.2.0.2"], "extra": {"valid-lifetime": 600},
        }  # fmt: skip
        near = {"subnet": "192.168.1.0/24", "id": 1, "options": {"routers": ["192.168.1.1"]}}
        first, second = dhcp4(pair(subnets=[near, far]))["subnet4"]

        assert first["interface"] == "enp0s8"
        assert first["option-data"] == [{"name": "routers", "data": "192.168.1.1"}]
        assert "relay" not in first
        assert "interface" not in second
        assert second["relay"] == {"ip-addresses": ["10.2.0.1", "10.2.0.2"]}
        assert (second["id"], second["valid-lifetime"]) == (7, 600)

    def test_reservations_go_where_their_address_is(self, tmp_path: Path) -> None:
        """Each in the subnet that contains it, and in no other."""
        (tmp_path / "r.yaml").write_text(
            "- {mac: 52:54:00:00:00:01, address: 10.2.0.9, hostname: far}\n"
            "- {client_id: 01:02, address: 192.168.1.9, options: {domain-name: example}}\n"
        )
        far = {"subnet": "10.2.0.0/16", "id": 7, "relays": ["10.2.0.1"]}
        made = pair(
            tmp_path,
            subnets=[{"subnet": "192.168.1.0/24", "id": 1}, far],
            reservations_file="r.yaml",
        )
        first, second = dhcp4(made)["subnet4"]

        assert first["reservations"] == [
            {
                "client-id": "01:02", "ip-address": "192.168.1.9",
                "option-data": [{"name": "domain-name", "data": "example"}],
            }
        ]  # fmt: skip
        assert second["reservations"] == [
            {"hw-address": "52:54:00:00:00:01", "ip-address": "10.2.0.9", "hostname": "far"}
        ]


NASTY = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30
)
# A name that a secret might have is refused, by a rule of its own.
NAMES = NASTY.filter(lambda name: not is_secret(name))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
OWNED = {
    "subnet4", "hooks-libraries", "control-socket", "control-sockets", "multi-threading", "loggers",
    "valid-lifetime", "renew-timer", "rebind-timer", "interfaces-config", "lease-database",
}  # fmt: skip


class TestRoundTrip:
    @given(NASTY, NASTY, st.sampled_from(VERSIONS[:4]))
    def test_any_text_reaches_kea_as_it_was_given(self, one: str, other: str, text: str) -> None:
        """Quotes, backslashes, comment marks and every script: data, never syntax."""
        options = {"routers": "192.168.1.1", "domain-name": one, "boot-file-name": other}
        made = pair(subnets=[{"subnet": "192.168.1.0/24", "id": 1, "options": options}])
        platform = Platform(Version.parse(text), HOOKS)
        rendered = render_dhcp4(made, made.primary, platform, "enp0s8")
        document = parse_document(rendered)

        data = {one["name"]: one["data"] for one in document["Dhcp4"]["subnet4"][0]["option-data"]}
        assert options == data
        assert config.dhcp4_document(made, made.primary, platform, "enp0s8") == document
        # Kea's own parser knows \u escapes below \u0100 alone, and takes them for Latin-1.
        assert not re.search(r"(?<!\\)(\\\\)*\\u(?!00[01])", rendered)

    @given(
        st.dictionaries(st.sampled_from(sorted(DHCP4_KEYS - OWNED)), JSON, max_size=6),
        st.sampled_from([OLD, NEW]),
    )
    def test_extra_is_all_there_and_nothing_else_is_lost(
        self, extra: dict[str, Any], platform: Platform
    ) -> None:
        """Whatever extra names, the document holds it and all that it held before."""
        plain = config.dhcp4_document(pair(), pair().primary, platform, "enp0s8")["Dhcp4"]

        assert merged(plain, extra) == dhcp4(pair(extra={"Dhcp4": extra}), platform)

    def test_extra_merges_maps_and_replaces_lists(self) -> None:
        """One member of a map can be changed without repeating its neighbours."""
        expired = {"expired-leases-processing": {"max-reclaim-leases": 9}}
        outputs = [{"output": layout.LOG, "maxver": 9}]
        loggers = [{"name": "kea-dhcp4", "output_options": outputs}]
        document = dhcp4(pair(extra={"Dhcp4": {**expired, "loggers": loggers}}))

        assert (
            document["expired-leases-processing"]["max-reclaim-leases"],
            document["expired-leases-processing"]["reclaim-timer-wait-time"],
        ) == (9, 3600)
        assert loggers == document["loggers"]

    def test_extra_reaches_the_agent(self) -> None:
        """With password files, the only form that extra may have."""
        authentication = {"type": "basic", "clients": [{"user-file": "u", "password-file": "p"}]}
        made = pair(extra={"Control-agent": {"authentication": authentication}})
        agent = parse_document(render_control_agent(made, made.primary, OLD))["Control-agent"]

        assert authentication == agent["authentication"]
        assert agent["cert-required"]

    def test_rendering_is_stable(self) -> None:
        """The same settings give the same bytes: a second run has nothing to write."""
        made = pair()
        assert render_dhcp4(made, made.primary, OLD, "e0") == render_dhcp4(
            pair(), made.primary, OLD, "e0"
        )

    def test_the_file_is_laid_out_for_reading(self) -> None:
        """One empty line between sections, and an end of line at the end, as pyinfra sends it."""
        made = pair()
        for text in (
            render_dhcp4(made, made.primary, NEW, "e0"),
            render_control_agent(made, made.primary, NEW),
            render_firewall(made, made.primary),
        ):
            assert text.endswith("}\n")
            assert "\n\n\n" not in text
            assert not [line for line in text.splitlines() if line != line.rstrip()]

    def test_no_setting_is_left_without_its_reason(self) -> None:
        """Whoever opens the file on a host finds a comment before each section."""
        lines = render_dhcp4(pair(), pair().primary, OLD, "enp0s8").splitlines()
        sections = [i for i, line in enumerate(lines) if re.match(r'    "', line)]
        bare = [lines[i] for i in sections if not re.match(r"    (//|\")", lines[i - 1])]
        assert bare == []


class TestComments:
    @given(JSON)
    def test_comments_are_no_data_and_data_is_no_comment(self, value: Any) -> None:
        """In all three forms of Kea's, between any two lines; inside a text they are text."""
        plain = json.dumps({"a": value, "b": '// # /* " \\'}, ensure_ascii=False, indent=1)
        commented = plain.replace("\n", ' // one "\n# two "\n/* three " */\n')

        assert json.loads(plain) == parse_document(f"// head\n{commented}# foot")

    @pytest.mark.parametrize("text", ["", "{", '{"a": 1 "b": 2}', "[]", "// only a comment"])
    def test_what_is_no_document_is_refused(self, text: str) -> None:
        """Never half a document."""
        with pytest.raises(ValueError, match=r"."):
            parse_document(text)

    def test_a_mistake_is_told_with_its_line(self) -> None:
        """The line of the file, comments included."""
        with pytest.raises(ValueError, match="line 4"):
            parse_document("{\n/* two\nthree */\n  oops }")


def test_what_is_remembered_of_documents_has_a_limit() -> None:
    """A host that says something else each time must not fill the memory."""
    made: list[str] = []
    read = remembered(10)(lambda text: made.append(text) or len(text))

    for text in (
        "12345",
        "12345",
        "1234",
        "12",
        "12",
        "12345",
        "a long one",
        "a longer one",
        "a longer one",
    ):
        assert len(text) == read(text)

    assert ["12345", "1234", "12", "12345", "a long one", "a longer one", "a longer one"] == made


class TestDifferences:
    def test_the_hosts_differ_in_their_name_alone(self) -> None:
        """The documented sentence: very similar, other than this-server-name."""
        made = pair()
        both = [parse_document(render_dhcp4(made, node, OLD, "enp0s8")) for node in made.nodes]
        (only,) = differences(*both)

        assert only.path.endswith(".high-availability[0].this-server-name")
        assert (only.old, only.new) == ('"server1"', '"server2"')
        assert pair_differences(*both) == []

    def test_interface_and_own_address_may_differ_too(self) -> None:
        """What is each host's own by nature."""
        made = pair(control_channel="direct")
        both = [
            parse_document(render_dhcp4(made, node, NEW, interface))
            for node, interface in zip(made.nodes, ("enp0s8", "eth1"), strict=True)
        ]

        assert len(differences(*both)) == 4
        assert pair_differences(*both) == []

    @pytest.mark.parametrize(
        "path",
        [
            ("valid-lifetime",),
            ("subnet4", 0, "id"),
            ("hooks-libraries", 1, "parameters", "high-availability", 0, "heartbeat-delay"),
            ("control-sockets", 1, "socket-port"),
        ],
    )
    def test_anything_else_is_found(self, path: tuple[str | int, ...]) -> None:
        """A value that one host's document has differently is no pair's."""
        made = pair(control_channel="direct")
        first, second = (
            copy.deepcopy(parse_document(render_dhcp4(made, node, NEW, "enp0s8")))
            for node in made.nodes
        )
        place: Any = second["Dhcp4"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] += 1

        found = pair_differences(first, second)
        assert found
        assert all(str(path[-1]) in one.path or "subnet4" in one.path for one in found)

    @given(JSON, JSON)
    def test_no_difference_means_equal(self, one: Any, other: Any) -> None:
        """And equal means no difference."""
        assert differences(one, copy.deepcopy(one)) == []
        as_json = [json.dumps(value, sort_keys=True) for value in (one, other)]
        assert (as_json[0] == as_json[1]) == (differences(one, other) == [])

    def test_a_new_entry_is_one_difference(self) -> None:
        """A reservation put first does not make every other one differ."""
        old = {"reservations": [{"hw-address": f"02:{i}", "ip-address": str(i)} for i in range(9)]}
        new = {"reservations": [{"hw-address": "new"}, *old["reservations"]]}
        (found,) = differences(old, new)

        assert (found.path, found.old) == ("reservations[new]", "nothing")

    def test_another_order_is_a_difference(self) -> None:
        """Kea asks its hooks in the order of the list."""
        one = [{"library": "a"}, {"library": "b"}]
        assert [each.path for each in differences({"hooks": one}, {"hooks": one[::-1]})] == [
            "hooks (order)"
        ]

    def test_secrets_are_masked(self) -> None:
        """A document that was there before may hold some."""
        old = {"hosts-database": {"password": "hunter2", "name": "db"}}
        told = [
            *map(str, differences(old, {"hosts-database": {"password": "changed", "name": "x"}})),
            *map(str, differences(old, {})),
        ]

        assert "hunter2" not in "\n".join(told)
        assert "changed" not in "\n".join(told)
        assert f"hosts-database.password: {HIDDEN} -> {HIDDEN}" in told
        assert 'hosts-database.name: "db" -> "x"' in told


class TestUnits:
    @pytest.mark.parametrize(
        "text",
        [
            config.render_dhcp4_drop_in("bookworm"),
            config.render_dhcp4_drop_in("trixie"),
            config.render_agent_drop_in(),
        ],
        ids=["dhcp4 on bookworm", "dhcp4 on trixie", "agent"],
    )
    def test_the_service_comes_back_and_keeps_its_files_to_itself(self, text: str) -> None:
        """After a crash, after any number of failed starts; with the exact mode that Kea wants."""
        unit = configparser.RawConfigParser(strict=False)  # some settings are lists of lines
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)

        assert dict(unit["Unit"]) == {"StartLimitIntervalSec": "0"}
        assert {
            "Restart": "on-failure", "RestartSec": "2", "UMask": "0027",
            "RuntimeDirectoryMode": "0750",
        }.items() <= dict(unit["Service"]).items()  # fmt: skip


class TestFirewall:
    @staticmethod
    def drops(**settings: Any) -> list[str]:
        made = pair(firewall="nftables", **settings)
        lines = (line.strip() for line in render_firewall(made, made.primary).splitlines())
        return [line for line in lines if line.endswith("drop")]

    def test_the_listener_is_the_partners(self) -> None:
        """On the host's own address; port 8000 elsewhere is not ours to close."""
        assert (
            self.drops()[0]
            == "ip daddr 192.168.1.2 tcp dport 8000 ip saddr != 192.168.1.3 counter drop"
        )

    def test_the_control_channel_is_the_administrators(self) -> None:
        """Their networks, or nobody but the host itself."""
        drop = "ip daddr 192.168.1.2 tcp dport 8001"
        assert f"{drop} counter drop" == self.drops()[1]
        assert (
            f"{drop} ip saddr != {{ 10.0.0.0/8, 172.16.0.0/12 }} counter drop"
            == self.drops(admin_networks=["10.0.0.0/8", "172.16.0.0/12"])[1]
        )

    def test_without_control_channel_its_port_is_left_alone(self) -> None:
        """Nothing of ours listens there."""
        assert len(self.drops(control_channel="none")) == 1

    def test_it_only_drops_and_replaces_itself_in_one_step(self) -> None:
        """Whatever it does not drop is for the host's own rules to judge."""
        made = pair(firewall="nftables")
        text = render_firewall(made, made.primary)
        rules = [line for line in text.splitlines() if not line.lstrip().startswith("#")]

        assert [line for line in rules if "table" in line] == [
            "table inet kea_ha",
            "delete table inet kea_ha",
            "table inet kea_ha {",
        ]
        assert "policy accept" in text
        assert [line for line in rules if line.endswith(" accept")] == ['    iifname "lo" accept']
