"""What the settings promise: the untouched ones are the documented setup, and no mistake in them
reaches a host. Each refusal names the setting, what was given, what is allowed, and what to do."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha import layout
from kea_ha.settings import single_values
from kea_ha.settings.build import build_pair, check_pairs, pair_warnings
from kea_ha.settings.kea_versions import Version, version_problems, version_warnings
from kea_ha.settings.model import Pair, Settings
from kea_ha.settings.problems import HIDDEN, Problem, Refused, SettingsError, is_secret, masked

ROOT = Path(__file__).resolve().parents[2]
ALL = {
    name: value
    for name, value in runpy.run_path(str(ROOT / "group_data/all.py")).items()
    if not name.startswith("__")
}
NODES: dict[str, dict[str, Any]] = {
    "host-1": {"role": "primary", "server_name": "server1", "address": "192.168.1.2"},
    "host-2": {"role": "standby", "server_name": "server2", "address": "192.168.1.3"},
}
LAN = {
    "subnet": "192.168.1.0/24",
    "id": 1,
    "pools": ["192.168.1.100-192.168.1.199"],
    "options": {"routers": "192.168.1.1"},
}
FILES = {"key": "/etc/ssl/k", "certificate": "/etc/ssl/c", "anchor": "/etc/ssl/a"}


def lan(**changed: Any) -> dict[str, Any]:
    """The template's subnet with something changed, as the whole `subnets` setting."""
    return {"subnets": [{**LAN, **changed}]}


def hosts(
    both: Mapping[str, Any] | None = None, host_2: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """The template's two hosts, with something changed on both, or on host-2 alone."""
    return {
        name: {**ALL, **node, **(both or {}), **((host_2 or {}) if name == "host-2" else {})}
        for name, node in NODES.items()
    }


def pair(**both: Any) -> Pair:
    """A pair with the template's settings but for these."""
    return build_pair("lab", hosts(both))


def problems(
    both: Mapping[str, Any] | None = None,
    host_2: Mapping[str, Any] | None = None,
    directory: Path = Path(),
) -> tuple[Problem, ...]:
    """What is wrong with these settings; fails if nothing is."""
    with pytest.raises(SettingsError) as caught:
        build_pair("lab", hosts(both, host_2), directory=directory)
    return caught.value.problems


class TestDefaults:
    def test_untouched_settings_are_the_templates(self) -> None:
        """group_data/all.py, the model's defaults and the template say the same."""
        settings = pair().settings

        assert Settings.model_validate({}) == settings
        assert {
            "mode": "hot-standby",
            "heartbeat_delay": 10000,
            "max_response_delay": 60000,
            "max_ack_delay": 5000,
            "max_unacked_clients": 5,
            "sync_timeout": 60000,
            "thread_pool_size": 4,
            "packet_queue_size": 64,
            "ha_listener_threads": 4,
            "ha_client_threads": 4,
            "valid_lifetime": 43200,
            "renew_timer": 21600,
            "rebind_timer": 32400,
            "ha_port": 8000,
            "ca_port": 8001,
            "control_channel": "agent",
            "firewall": "off",
            "package_source": "distro",
        }.items() <= settings.model_dump().items()

    def test_every_setting_is_in_group_data(self) -> None:
        """Nobody has to read code to learn what can be set."""
        of_pyinfra = {"ssh_strict_host_key_checking", "_sudo"}
        every = set(Settings.model_fields) | {"interface", "own_certificates"} | of_pyinfra
        assert every == set(ALL)

    def test_the_pair_knows_its_nodes(self) -> None:
        """Order, partner and names, whatever the order of the inventory."""
        turned = build_pair("lab", dict(reversed(hosts().items())))

        assert [node.name for node in turned.nodes] == ["host-1", "host-2"]
        assert turned.standby == turned.partner_of(turned.primary)
        assert turned.primary == turned.partner_of(turned.standby)
        assert turned.standby == turned.node("host-2")
        with pytest.raises(KeyError):
            turned.node("host-3")


class TestProfiles:
    def test_fast_sets_all_four(self) -> None:
        """One word makes failure detection fast."""
        settings = pair(failover_profile="fast").settings

        assert (
            settings.heartbeat_delay,
            settings.max_response_delay,
            settings.max_ack_delay,
            settings.max_unacked_clients,
        ) == (1000, 3000, 1000, 0)

    def test_a_single_value_wins_over_the_profile(self) -> None:
        """A lower heartbeat alone makes a rolling change gentle, all else as documented."""
        settings = pair(heartbeat_delay=1000).settings

        assert (settings.heartbeat_delay, settings.max_response_delay) == (1000, 60000)

    @given(st.integers(100, 600_000), st.integers(200, 3_600_000))
    def test_silence_outlasts_two_heartbeats(self, heartbeat: int, response: int) -> None:
        """max_response_delay is accepted exactly from twice heartbeat_delay on."""
        data = {"heartbeat_delay": heartbeat, "max_response_delay": response}
        if response >= 2 * heartbeat:
            assert response == pair(**data).settings.max_response_delay
        else:
            assert [one.setting for one in problems(data)] == ["max_response_delay"]


class TestTypedValues:
    """`--data NAME=VALUE` and Python literals mean the same."""

    def test_digits_are_a_number(self) -> None:
        """Text of digits is what some shells and inventories hand over."""
        assert pair(thread_pool_size="8").settings.thread_pool_size == 8

        assert pair(ha_port="9000").settings.ha_port == 9000
        assert pair(thread_pool_size=8.0).settings.thread_pool_size == 8

    def test_one_network_is_a_list_of_one(self) -> None:
        """--data admin_networks=10.0.0.0/8 needs no JSON."""
        assert pair(admin_networks="10.0.0.0/8").settings.admin_networks == ("10.0.0.0/8",)

    def test_json_is_what_all_py_has(self) -> None:
        """A subnet from JSON equals the one from Python."""
        assert (
            pair().settings.subnets == pair(subnets=json.loads(json.dumps([LAN]))).settings.subnets
        )

    @given(st.integers(-(10**12), 10**12))
    def test_whole_numbers_are_held_to_their_bounds(self, number: int) -> None:
        """As a number or as text: accepted inside, refused outside."""
        check: Callable[[Any], Any] = single_values.whole(3, 700, "things", "").func  # type: ignore[assignment]
        for form in (number, str(number)):
            if 3 <= number <= 700:
                assert number == check(form)
            else:
                with pytest.raises(Refused):
                    check(form)

    @pytest.mark.parametrize("value", [True, 1.5, "4.0", "four", None, [4], ""])
    def test_what_is_no_whole_number_is_refused(self, value: Any) -> None:
        """True is not 1, and half a thread is none."""
        check: Callable[[Any], Any] = single_values.whole(0, 9, "things", "").func  # type: ignore[assignment]
        with pytest.raises(Refused):
            check(value)


# Each: the settings, the setting that the refusal names, words of what was given, of what is
# allowed.
BAD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "pool outside its subnet": (
        lan(pools=["192.168.2.10-192.168.2.20"]), "subnets[0].pools", "192.168.2.10",
        "192.168.1.0/24",
    ),
    "pool reaching out of its subnet": (
        lan(subnet="192.168.0.0/23", pools=["192.168.1.200-192.168.2.3"]),
        "subnets[0].pools", "192.168.2.3", "inside 192.168.0.0/23",
    ),
    "pools overlapping": (
        lan(pools=["192.168.1.100-192.168.1.150", "192.168.1.150-192.168.1.160"]),
        "subnets[0].pools", "192.168.1.150-192.168.1.160", "without a common address",
    ),
    "pool with the standby's address": (
        lan(pools=["192.168.1.3-192.168.1.30"]), "subnets[0].pools", "the address of host-2",
        "nothing else",
    ),
    "pool with the router's address": (
        lan(pools=["192.168.1.100-192.168.1.199"], options={"routers": "192.168.1.150"}),
        "subnets[0].pools", "192.168.1.150, the router", "nothing else",
    ),
    "pool with the broadcast address": (
        lan(pools=["192.168.1.240/28"]), "subnets[0].pools", "the broadcast address",
        "nothing else",
    ),
    "pool reversed": (
        lan(pools=["192.168.1.199-192.168.1.100"]), "subnets[0].pools[0]", "192.168.1.199", "lower",
    ),
    "pool that is none": (lan(pools=["all"]), "subnets[0].pools[0]", "all", "range"),
    "prefix pool with host bits": (
        lan(pools=["192.168.1.100/28"]), "subnets[0].pools[0]", "192.168.1.100/28", "prefix",
    ),
    "subnet with host bits": (lan(subnet="192.168.1.5/24"), "subnets[0].subnet", ".5/24", "CIDR"),
    "subnet of IPv6": (lan(subnet="fd00::/64"), "subnets[0].subnet", "fd00::/64", "IPv4"),
    "subnet id zero": (lan(id=0), "subnets[0].id", "0", "from 1 to 4294967294"),
    "subnet id too large": (lan(id=4294967295), "subnets[0].id", "4294967295", "from 1"),
    "subnet without id": (
        {"subnets": [{"subnet": "192.168.1.0/24"}]}, "subnets[0].id", "not given", "",
    ),
    "subnet with an unknown member": (lan(pool=["x"]), "subnets[0].pool", "unknown", "pools"),
    "subnet ids twice": (
        {"subnets": [LAN, {"subnet": "10.0.0.0/24", "id": 1, "relays": ["10.0.0.1"]}]},
        "subnets[].id", "1, 2 times", "another id",
    ),
    "subnets overlapping": (
        {"subnets": [LAN, {"subnet": "192.168.0.0/16", "id": 2, "relays": ["192.168.7.1"]}]},
        "subnets", "192.168.0.0/16", "without a common address",
    ),
    "no subnet": ({"subnets": []}, "subnets", "empty", "at least one"),
    "subnets that are a number": ({"subnets": 7}, "subnets", "7", "a list"),
    "subnet that nobody reaches": (
        {"subnets": [LAN, {"subnet": "10.0.0.0/24", "id": 2}]},
        "subnets[1]", "without relays", "both servers' addresses",
    ),
    "relay in two subnets": (
        {"subnets": [
            {"subnet": "10.0.0.0/24", "id": 1, "relays": ["10.0.0.1"]},
            {"subnet": "10.0.1.0/24", "id": 2, "relays": ["10.0.0.1"]},
        ]},
        "subnets[].relays", "10.0.0.1", "once",
    ),
    "relay by name": (lan(relays=["gw.example"]), "subnets[0].relays[0]", "gw.example", "IPv4"),
    "options that are a list": (
        lan(options=["routers"]), "subnets[0].options", "routers", "a map of option names",
    ),
    "option misspelt": (
        lan(options={"router": "192.168.1.1"}), "subnets[0].options", "router", "Kea gives",
    ),
    "option with a name for an address": (
        lan(options={"domain-name-servers": "dns.example"}),
        "subnets[0].options.domain-name-servers", "dns.example", "addresses",
    ),
    "option with a line break": (
        lan(options={"domain-name": "a\nb"}), "subnets[0].options", "domain-name", "csv-format",
    ),
    "port zero": ({"ha_port": 0}, "ha_port", "0", "1 to 65535"),
    "port of ssh": ({"ca_port": 22}, "ca_port", "22", "other than 22"),
    "port of DHCP": ({"ha_port": "67"}, "ha_port", "67", "67 (DHCP)"),
    "port too large": ({"ha_port": 65536}, "ha_port", "65536", "65535"),
    "both channels on one port": ({"ca_port": 8000}, "ca_port", "8000", "other than ha_port"),
    "both channels on one port, direct": (
        {"ca_port": 8000, "control_channel": "direct"}, "ca_port", "8000", "other than ha_port",
    ),
    "low port for the agent": ({"ca_port": 443}, "ca_port", "443", "1024"),
    "no threads": ({"thread_pool_size": 0}, "thread_pool_size", "0", "from 1 to 128"),
    "threads below zero": ({"ha_client_threads": -4}, "ha_client_threads", "-4", "from 1 to 128"),
    "absurdly many threads": ({"ha_listener_threads": 4000}, "ha_listener_threads", "4000", "128"),
    "queue below zero": ({"packet_queue_size": -1}, "packet_queue_size", "-1", "from 1"),
    "queue without bound": ({"packet_queue_size": 0}, "packet_queue_size", "0", "from 1"),
    "heartbeat below zero": ({"heartbeat_delay": -1}, "heartbeat_delay", "-1", "from 100"),
    "ack delay below zero": ({"max_ack_delay": -1}, "max_ack_delay", "-1", "from 0"),
    "clients below zero": ({"max_unacked_clients": -1}, "max_unacked_clients", "-1", "from 0"),
    "response sooner than two heartbeats": (
        {"max_response_delay": 15000}, "max_response_delay", "15000 ms", "20000",
    ),
    "renew after rebind": ({"renew_timer": 40000}, "renew_timer", "40000", "below"),
    "lease over before it is renewed": ({"valid_lifetime": 600}, "valid_lifetime", "600", "below"),
    "unknown mode": ({"mode": "load-balancing"}, "mode", "load-balancing", "hot-standby"),
    "unknown profile": ({"failover_profile": "faster"}, "failover_profile", "faster", "fast"),
    "unknown channel": ({"control_channel": "http"}, "control_channel", "http", "agent or direct"),
    "unknown package source": ({"package_source": "ppa"}, "package_source", "ppa", "distro"),
    "unknown firewall": ({"firewall": "ufw"}, "firewall", "ufw", "nftables"),
    "network without prefix": (
        {"admin_networks": ["10.0.0.5"]}, "admin_networks[0]", "10.0.0.5", "CIDR",
    ),
    "unknown setting": (
        {"thread_pool_sise": 4}, "thread_pool_sise", "nothing reads it", "settings",
    ),
    "extra of an unknown daemon": ({"extra": {"Dhcp6": {}}}, "extra.Dhcp6", "unknown", "Dhcp4"),
    "extra with an unknown name": (
        {"extra": {"Dhcp4": {"authorative": True}}}, "extra.Dhcp4.authorative", "unknown", "Kea",
    ),
    "extra of a daemon that is no map": (
        {"extra": {"Dhcp4": []}}, "extra.Dhcp4", "not a map", "a map",
    ),
    "extra that is no map": ({"extra": "{"}, "extra", "not a map", "a map"),
    "extra reaching into high availability": (
        {"extra": {"Dhcp4": {"hooks-libraries": []}}}, "extra.Dhcp4.hooks-libraries", "given",
        "nothing",
    ),
    "multi-threading off": (
        {"extra": {"Dhcp4": {"multi-threading": {"enable-multi-threading": False}}}},
        "extra.Dhcp4.multi-threading.enable-multi-threading", "false", "HA listener",
    ),
    "multi-threading not a map": (
        {"extra": {"Dhcp4": {"multi-threading": False}}}, "extra.Dhcp4.multi-threading",
        "not a map", "a map",
    ),
    "extra with another control socket": (
        {"extra": {"Dhcp4": {"control-socket": {}}}}, "extra.Dhcp4.control-socket", "given",
        "control_channel",
    ),
    "extra with subnets": (
        {"extra": {"Dhcp4": {"subnet4": []}}}, "extra.Dhcp4.subnet4", "given", "subnets",
    ),
    "extra with a setting's value": (
        {"extra": {"Dhcp4": {"valid-lifetime": 1}}}, "extra.Dhcp4.valid-lifetime", "given",
        "valid_lifetime",
    ),
    "extra with other interfaces": (
        {"extra": {"Dhcp4": {"interfaces-config": {"interfaces": ["*"]}}}},
        "extra.Dhcp4.interfaces-config.interfaces", "given", "interface",
    ),
    "leases in a database": (
        {"extra": {"Dhcp4": {"lease-database": {"type": "mysql"}}}},
        "extra.Dhcp4.lease-database.type", "mysql", "memfile",
    ),
    "leases not kept": (
        {"extra": {"Dhcp4": {"lease-database": {"persist": False}}}},
        "extra.Dhcp4.lease-database.persist", "false", "true",
    ),
    "log that cannot be verified by": (
        {"extra": {"Dhcp4": {"loggers": [{"name": "kea-dhcp4", "severity": "WARN"}]}}},
        "extra.Dhcp4.loggers[0]", "kea-dhcp4", "INFO",
    ),
    "log without the server's own logger": (
        {"extra": {"Dhcp4": {"loggers": [{"name": "kea-dhcp4.leases"}]}}},
        "extra.Dhcp4.loggers", "without kea-dhcp4", "INFO",
    ),
    "loggers that are no list": (
        {"extra": {"Dhcp4": {"loggers": {"name": "kea-dhcp4"}}}},
        "extra.Dhcp4.loggers", "not a list", "INFO",
    ),
    "extra with a control character": (
        {"extra": {"Dhcp4": {"comment": "a\x07"}}}, "extra.Dhcp4.comment", "control", "text",
    ),
    "extra with what JSON has not": (
        {"extra": {"Dhcp4": {"t1-percent": float("nan")}}},
        "extra.Dhcp4.t1-percent", "JSON", "decimals",
    ),
    "extra with a number that Kea has not": (
        {"extra": {"Dhcp4": {"cache-max-age": 2**63}}}, "extra.Dhcp4.cache-max-age", "JSON", "",
    ),
    "port that is a word": ({"ha_port": "http"}, "ha_port", "http", "1 to 65535"),
    "port that is true": ({"ca_port": True}, "ca_port", "true", "1 to 65535"),
    "agent's clients let in without certificate": (
        {"extra": {"Control-agent": {"cert-required": False}}},
        "extra.Control-agent.cert-required", "false", "certificate",
    ),
    "extra for an agent that is not there": (
        {"control_channel": "none", "extra": {"Control-agent": {"loggers": []}}},
        "extra.Control-agent", "none", "no Control Agent",
    ),
    "subnet's extra with its pools": (
        lan(extra={"pools": []}), "subnets[0].extra.pools", "given", "pools",
    ),
    "reservations file that is a number": (
        {"reservations_file": 7}, "reservations_file", "7", "the path of a file",
    ),
    "subnet that is no map": ({"subnets": ["192.168.1.0/24"]}, "subnets[0]", "192", "a map"),
    "reservations file that is not there": (
        {"reservations_file": "absent.yaml"}, "reservations_file", "No such file", "YAML list",
    ),
}  # fmt: skip

BAD_ON_HOST_2: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "two primaries": ({"role": "primary"}, "role", "primary on host-2", "exactly one primary"),
    "unknown role": ({"role": "secondary"}, "role", "secondary", "standby"),
    "no role": ({"role": None}, "role", "not given on host-2", "exactly one primary"),
    "same server name": ({"server_name": "server1"}, "server_name", "server1", "another name"),
    "server name with a space": ({"server_name": "a b"}, "server_name", "a b", "letters"),
    "no server name": ({"server_name": None}, "server_name", "not given", "one for each host"),
    "same address": ({"address": "192.168.1.2"}, "address", "192.168.1.2", "another address"),
    "host name for an address": ({"address": "kea2.example"}, "address", "kea2", "literal"),
    "address of IPv6": ({"address": "2001:db8::3"}, "address", "2001:db8::3", "IPv4"),
    "address with a prefix": ({"address": "192.168.1.3/24"}, "address", "/24", "literal"),
    "loopback address": ({"address": "127.0.0.1"}, "address", "127.0.0.1", "address of the host"),
    "no address": ({"address": None}, "address", "not given", "one for each host"),
    "address in another network": (
        {"address": "10.9.9.9"}, "subnets[0]", "host-2 has 10.9.9.9", "both servers' addresses",
    ),
    "broadcast address": (
        {"address": "255.255.255.255"}, "address", "255.255.255.255", "address of the host",
    ),
    "address that is a number": ({"address": 3232235779}, "address", "3232235779", "literal"),
    "every interface": ({"interface": "*"}, "interface", "*", "one interface"),
    "setting for one host alone": (
        {"ha_port": 9000}, "ha_port", "9000 on host-2", "the same on both",
    ),
    "own certificates on one host alone": (
        {"own_certificates": FILES}, "own_certificates", "one host alone", "both hosts",
    ),
    "own certificates that are no map": (
        {"own_certificates": "/etc/ssl"}, "own_certificates", "/etc/ssl", "a map",
    ),
    "own certificates incomplete": (
        {"own_certificates": {"key": "/k"}}, "own_certificates.anchor", "not given", "",
    ),
    "own certificates at a relative path": (
        {"own_certificates": {**FILES, "key": "k.pem"}}, "own_certificates.key", "k.pem",
        "absolute",
    ),
}  # fmt: skip


def assert_told(found: tuple[Problem, ...], setting: str, given_: str, allowed: str) -> None:
    """One of the problems has all four parts, with these words in them."""
    fitting = [
        one
        for one in found
        if setting in one.setting and given_ in one.given and allowed in one.allowed
    ]
    assert fitting, "\n".join(map(str, found))
    assert all(
        part for one in fitting for part in (one.setting, one.given, one.allowed, one.remedy)
    )
    assert all(one.where.startswith("lab") for one in fitting)


class TestRefusals:
    @pytest.mark.parametrize("case", BAD)
    def test_a_mistake_is_named(self, case: str) -> None:
        """Setting, value, what is allowed, remedy: for each of these, whatever else is right."""
        data, *words = BAD[case]
        assert_told(problems(data), *words)

    @pytest.mark.parametrize("case", BAD_ON_HOST_2)
    def test_a_mistake_of_one_host_is_named(self, case: str) -> None:
        """The same for what is said of a single host."""
        data, *words = BAD_ON_HOST_2[case]
        assert_told(problems(host_2=data), *words)

    @pytest.mark.parametrize(
        ("address", "remedy"),
        [
            ("kea2.example", "write the address that the name stands for"),
            ("192.168.1.3/24", "Leave the prefix length off"),
            ("2001:db8::3", "DHCPv4 clients need an IPv4 address"),
            ("[::1]", "DHCPv4 clients need an IPv4 address"),
            ("192.168.1", "four numbers"),
            (3232235779, "as text"),
            ("224.0.0.1", "The partner must be able to reach it"),
        ],
    )
    def test_the_remedy_fits_the_mistake(self, address: Any, remedy: str) -> None:
        """Each wrong form of an address has its own way out."""
        assert any(remedy in one.remedy for one in problems(host_2={"address": address}))

    @pytest.mark.parametrize("case", set(BAD) - {"reservations file that is not there"})
    def test_a_mistake_is_told_once(self, case: str) -> None:
        """A broken value does not set off the rules that would have read it."""
        allowed = 2 if case in {"pool reaching out of its subnet", "no subnet"} else 1
        assert len(problems(BAD[case][0])) <= allowed

    def test_all_problems_come_at_once(self) -> None:
        """Five mistakes, on both hosts, in single values and in combinations: five refusals."""
        found = problems(
            {
                "ha_port": 0,
                "thread_pool_size": 500,
                "adress": 1,
                **lan(pools=["192.168.1.1-192.168.1.2"]),
            },
            {"role": "primary"},
        )
        named = {one.setting for one in found}

        assert {"ha_port", "thread_pool_size", "adress", "subnets[0].pools", "role"} == named

    def test_the_error_reads_as_a_list(self) -> None:
        """What an operator sees first is how many problems there are, and that nothing happened."""
        with pytest.raises(SettingsError) as caught:
            build_pair("lab", hosts({"ha_port": 0, "ca_port": 0}))
        lines = str(caught.value).splitlines()

        assert lines[0].startswith("2 problems")
        assert "nothing was contacted" in lines[0]
        assert len(lines) == 3

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_a_pair_is_two(self, count: int) -> None:
        """One host is no pair, three are none either."""
        many = {f"h{i}": {**NODES["host-1"], "address": f"192.168.1.{i + 2}"} for i in range(count)}
        with pytest.raises(SettingsError) as caught:
            build_pair("lab", many)
        assert_told(caught.value.problems, "inventory", f"{count} hosts", "exactly two")

    def test_the_group_names_a_folder(self) -> None:
        """A pair's name cannot lead out of pki/."""
        with pytest.raises(SettingsError) as caught:
            build_pair("../lab", hosts())
        assert "inventory" in {one.setting for one in caught.value.problems}


class TestAccepted:
    """What looks like a mistake and is none."""

    def test_each_host_has_its_own_interface(self) -> None:
        """The names differ as the hardware does."""
        made = build_pair("lab", hosts({"interface": "enp0s8"}, {"interface": "bond0.12"}))
        assert ["enp0s8", "bond0.12"] == [node.interface for node in made.nodes]

    def test_a_server_name_of_digits(self) -> None:
        """--data and inventories turn it into a number."""
        assert "2" == build_pair("lab", hosts({}, {"server_name": 2})).standby.server_name

    def test_option_values_of_every_kind(self) -> None:
        """They become the text that Kea reads."""
        given_ = {"ip-forwarding": True, "default-ip-ttl": 64, "routers": ["192.168.1.1"]}
        assert {"ip-forwarding": "true", "default-ip-ttl": "64", "routers": "192.168.1.1"} == (
            pair(**lan(options=given_)).settings.subnets[0].options
        )

    def test_ports_may_meet_when_nothing_listens_on_one(self) -> None:
        """Without control channel ca_port is nobody's."""
        assert pair(control_channel="none", ca_port=8000, ha_port=8000)

    def test_options_of_your_own(self) -> None:
        """Defined in extra, used in a subnet."""
        definition = {"name": "site-code", "code": 224, "type": "string"}
        data = lan(options={"site-code": "b-7"})

        assert pair(**data, extra={"Dhcp4": {"option-def": [definition]}})
        assert ["subnets[0].options"] == [one.setting for one in problems(data)]

    def test_own_certificates_at_different_paths(self) -> None:
        """Both hosts have some; where is each host's own affair."""
        other = {**FILES, "key": "/other"}
        made = build_pair("lab", hosts({"own_certificates": FILES}, {"own_certificates": other}))
        files = made.standby.own_certificates

        assert files is not None
        assert "/other" == files.key

    def test_more_loggers(self) -> None:
        """What the verification does not read may be as quiet as you like."""
        outputs = [{"output": layout.LOG}]
        loggers = [
            {"name": "kea-dhcp4", "output_options": outputs},
            {"name": "kea-dhcp4.leases", "severity": "ERROR"},
        ]
        assert pair(extra={"Dhcp4": {"loggers": loggers}})


class TestUnknownSettings:
    def test_a_close_name_is_offered(self) -> None:
        """A slip of the finger is corrected by copying."""
        (problem,) = problems({"hartbeat_delay": 1})
        assert "Did you mean heartbeat_delay?" in problem.remedy

    def test_pyinfras_own_names_pass(self) -> None:
        """Connection data and global arguments are not ours to judge."""
        assert pair(ssh_user="root", _sudo=True, ssh_port=2222)

    def test_a_scripts_arguments_pass_where_it_takes_them(self) -> None:
        """`adopt` is the deploy's; elsewhere it would do nothing, and is refused."""
        data = hosts({"adopt": True})

        assert build_pair("lab", data, arguments=("adopt", "force"))
        with pytest.raises(SettingsError):
            build_pair("lab", data, arguments=("force",))

    def test_a_misspelt_argument_is_recognised(self) -> None:
        """The script's own arguments are among the names that are offered."""
        with pytest.raises(SettingsError) as caught:
            build_pair("lab", hosts({"adpot": True}), arguments=("adopt",))
        assert "adopt" in caught.value.problems[0].remedy


SECRET_KEYS = st.sampled_from(["password", "secret", "basic-auth-password", "Password"])


class TestSecrets:
    @given(SECRET_KEYS, st.lists(st.sampled_from(["authentication", "clients", 0]), max_size=4))
    def test_no_secret_in_clear_at_any_depth(self, key: str, steps: list[str | int]) -> None:
        """Refused wherever it stands, by its path, and never repeated."""
        value: Any = {key: "hunter2-hunter2"}
        for step in steps:
            value = [value] if step == 0 else {str(step): value}
        found = problems({"extra": {"Control-agent": {"authentication": value}}})

        assert any(key in one.setting and one.given == HIDDEN for one in found)
        assert "hunter2" not in "\n".join(map(str, found))

    def test_files_that_hold_secrets_may_be_named(self) -> None:
        """password-file is the way out that the refusal offers."""
        clients = [{"user-file": "u", "password-file": "p"}]
        authentication = {"type": "basic", "directory": "/etc/kea", "clients": clients}
        assert pair(extra={"Control-agent": {"authentication": authentication}})

    def test_an_unreadable_extra_is_not_shown(self) -> None:
        """JSON with a mistake in it cannot be searched for secrets."""
        for data in (
            {"extra": '{"Dhcp4": {"password": "hunter2"'},
            lan(extra='{"password": "hunter2"'),
        ):
            assert "hunter2" not in "\n".join(map(str, problems(data)))

    def test_an_unknown_secret_is_not_shown(self) -> None:
        """A setting that nothing reads may still hold one."""
        assert "hunter2" not in "\n".join(map(str, problems({"db_password": "hunter2"})))

    def test_masking_keeps_everything_else(self) -> None:
        """The detector of secrets finds a planted one, and leaves its neighbours."""
        assert masked({"a": [{"password": "x", "user": "u"}]}) == {
            "a": [{"password": HIDDEN, "user": "u"}]
        }
        assert not is_secret("password-file")


class TestPools:
    @given(st.integers(0, 255), st.integers(0, 255))
    def test_a_pool_is_accepted_exactly_when_nobody_else_is_in_it(self, a: int, b: int) -> None:
        """Network, router, both servers and broadcast are left out, all else may be leased."""
        first, last = (f"192.168.1.{n}" for n in (a, b))
        taken = {0, 1, 2, 3, 255}
        data = lan(pools=[f"{first}-{last}"])
        if a <= b and not taken & set(range(a, b + 1)):
            assert ((IPv4Address(first), IPv4Address(last)),) == pair(**data).settings.subnets[
                0
            ].ranges
        else:
            assert all("pools" in one.setting for one in problems(data))

    def test_subnets_by_relay_alone(self) -> None:
        """A pair in a server network serves many LANs and none of its own."""
        subnet = {
            "subnet": "10.1.0.0/16",
            "id": 5,
            "pools": ["10.1.1.0/24"],
            "relays": ["10.1.0.1"],
        }
        assert pair(subnets=[subnet]).settings.subnets[0].relays == ("10.1.0.1",)

    def test_a_healthy_subnet_is_still_checked_beside_a_broken_one(self) -> None:
        """One typing mistake does not hide another subnet's wrong pool."""
        found = problems(
            {"subnets": [{**LAN, "pools": ["192.168.9.1-192.168.9.2"]}, {"subnet": "x", "id": 2}]}
        )
        assert {"subnets[0].pools", "subnets[1].subnet"} == {one.setting for one in found}

    def test_pools_side_by_side(self) -> None:
        """Two pools that touch do not overlap."""
        pools = ["192.168.1.100-192.168.1.149", "192.168.1.150-192.168.1.199"]
        assert pair(**lan(pools=pools)).settings.subnets[0].pools == tuple(pools)

    def test_a_point_to_point_subnet_has_no_edges(self) -> None:
        """In a /31 both addresses are hosts (RFC 3021)."""
        subnet = {
            "subnet": "10.0.0.0/31",
            "id": 2,
            "pools": ["10.0.0.0/31"],
            "relays": ["10.9.9.9"],
        }
        assert pair(subnets=[LAN, subnet])


class TestReservations:
    @staticmethod
    def read(tmp_path: Path, text: str) -> tuple[Pair | None, str]:
        (tmp_path / "hosts.yaml").write_text(text, encoding="utf-8")
        try:
            made = build_pair("lab", hosts({"reservations_file": "hosts.yaml"}), directory=tmp_path)
        except SettingsError as error:
            return None, str(error)
        return made, ""

    def test_entries_become_reservations(self, tmp_path: Path) -> None:
        """Every form of a MAC is one form afterwards; options may be given; text stays text."""
        made, _ = self.read(
            tmp_path,
            "- mac: 52-54-00-AA-BB-CC\n  address: 192.168.1.50\n  hostname: no\n"
            "- mac: 52:54:00:aa:bb:ce\n  address: 192.168.1.52\n  hostname:\n  options:\n"
            "- mac: 52:54:00:aa:bb:cf\n  address: 192.168.1.53\n  hostname: x\n"
            "- client_id: 01:52:54:00:aa:bb:cd\n  address: 192.168.1.51\n"
            "  options: {domain-name-servers: '192.168.1.1, 192.168.1.9'}\n",
        )
        assert made is not None
        first, bare, named, second = made.reservations

        assert named.hostname == "x"
        assert (bare.hostname, bare.options) == (None, {})
        assert (first.mac, first.hostname) == ("52:54:00:aa:bb:cc", "no")
        assert second.client_id == "01:52:54:00:aa:bb:cd"
        assert second.options == {"domain-name-servers": "192.168.1.1, 192.168.1.9"}

    def test_a_mac_of_digits_is_not_a_number(self, tmp_path: Path) -> None:
        """YAML reads 10:20:30:40:50:55 as base sixty; a client would get nothing."""
        made, _ = self.read(tmp_path, "- mac: 10:20:30:40:50:55\n  address: 192.168.1.50\n")
        assert made is not None
        assert made.reservations[0].mac == "10:20:30:40:50:55"

    def test_an_empty_file_reserves_nothing(self, tmp_path: Path) -> None:
        """Comments alone are no mistake."""
        made, _ = self.read(tmp_path, "# none yet\n")
        assert made is not None
        assert made.reservations == ()

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            ("mac: 52:54:00:00:00:01\n  address: 10.0.0.9", ["line 4: address", "192.168.1.0/24"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.1", ["line 4: address", "the router"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.2", ["address of host-1"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.255", ["broadcast"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.40", ["as in", "line 2"]),
            ("mac: 52:54:00:00:00:40\n  address: 192.168.1.41", ["line 4: mac", "as in", "line 2"]),
            ("mac: 52:54:00:00:00\n  address: 192.168.1.41", ["line 4: mac", "six pairs"]),
            ("mac: 52:54:00:00:00:01\n  address: host", ["line 4: address", "IPv4"]),
            ("address: 192.168.1.41", ["line 4", "either mac or client_id"]),
            ("client_id: '01'\n  address: 192.168.1.4", ["line 4: client_id", "2 to"]),
            ("mac: 52:54:00:00:00:01", ["line 4: address", "not given"]),
            ("mac: 52:54:00:00:00:01\n  adress: 1", ["line 4: adress", "mean address"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.41\n  hostname: a b", ["hostname"]),
            ("mac: 52:54:00:00:00:01\n  address: 192.168.1.41\n  hostname: ''", ["hostname"]),
            (
                "mac: 52:54:00:00:00:01\n  address: 192.168.1.41\n  options: {routes: 1}",
                ["line 4: options", "Did you mean routers"],
            ),
            ("mac: a\n  mac: b", ["line 4", "mac is given twice"]),
            ("mac: [a]", ["line 4", "mac is not a single value"]),
            ("mac: a\n  options: [a]", ["line 4", "options is not a map"]),
            ("mac: a\n  options: {routers: }", ["line 4", "routers has no value"]),
            ("mac: a\n  options: {routers: 1, routers: 2}", ["line 4", "routers is given twice"]),
            ("just text", ["line 4: not a map"]),
        ],
    )  # fmt: skip
    def test_a_wrong_entry_is_named_by_its_line(
        self, tmp_path: Path, entry: str, words: list[str]
    ) -> None:
        """In a file of a thousand entries the line is what helps."""
        good = "- mac: 52:54:00:00:00:40\n  address: 192.168.1.40\n"
        made, told = self.read(tmp_path, f"# head\n{good}- {entry}\n")

        assert made is None
        assert "hosts.yaml" in told
        assert all(word in told for word in words), told

    @pytest.mark.parametrize(
        ("text", "word"), [("a: 1", "not a list"), ("- [", "line 1"), ("\x00", "not YAML")]
    )
    def test_a_file_that_is_no_list_is_refused(self, tmp_path: Path, text: str, word: str) -> None:
        """With the line where YAML gives up."""
        made, told = self.read(tmp_path, text)
        assert made is None
        assert word in told

    def test_a_client_that_moves_has_one_in_each_subnet(self, tmp_path: Path) -> None:
        """The same MAC twice is a mistake within one subnet only."""
        (tmp_path / "r.yaml").write_text(
            "- {mac: 52:54:00:00:00:01, address: 192.168.1.50}\n"
            "- {mac: 52:54:00:00:00:01, address: 10.0.0.50}\n"
        )
        subnets = [LAN, {"subnet": "10.0.0.0/24", "id": 2, "relays": ["10.0.0.1"]}]
        data = hosts({"reservations_file": "r.yaml", "subnets": subnets})
        assert len(build_pair("lab", data, directory=tmp_path).reservations) == 2


class TestSeveralPairs:
    @staticmethod
    def other(**node: str) -> Pair:
        data = {
            "host-3": {**NODES["host-1"], "address": "192.168.1.4"},
            "host-4": {**NODES["host-2"], "address": "192.168.1.5", **node},
        }
        return build_pair("branch", data)

    def test_pairs_apart_are_accepted(self) -> None:
        """Server names may be the same in every pair."""
        assert check_pairs([pair(), self.other()]) == ()

    def test_an_address_belongs_to_one_pair(self) -> None:
        """Else one pair would talk to the other's server."""
        (problem,) = check_pairs([pair(), self.other(address="192.168.1.3")])
        assert (problem.setting, problem.where) == ("address", "branch")
        assert "lab" in problem.given

    def test_a_host_belongs_to_one_pair(self) -> None:
        """Its documents would be written twice in one run."""
        again = build_pair("again", hosts())
        assert {"inventory"} == {one.setting for one in check_pairs([pair(), again])}


class TestVersions:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("2.2.0-6", (2, 2, 0)),
            ("2.6.3-1+deb13u1", (2, 6, 3)),
            ("3.0.3-1~bpo13+1", (3, 0, 3)),
            ("3.2", (3, 2, 0)),
            ("1:3.0.4", (3, 0, 4)),
        ],
    )
    def test_packagers_versions_are_read(self, text: str, numbers: tuple[int, int, int]) -> None:
        """Whatever Debian or ISC put around the three numbers."""
        version = Version.parse(text)
        assert Version(*numbers) == version
        assert text == version.package

    def test_versions_compare_as_numbers(self) -> None:
        """2.10 is newer than 2.9."""
        assert Version.parse("2.10.0") > Version.parse("2.9.9")

    @pytest.mark.parametrize("text", ["", "(none)", "3", "v3.0"])
    def test_what_is_no_version_is_refused(self, text: str) -> None:
        """apt's `(none)` is not version zero."""
        with pytest.raises(ValueError, match="version"):
            Version.parse(text)

    @pytest.mark.parametrize("text", ["2.2.0-6", "2.6.3-1+deb13u1", "3.0.3", "3.0.4-2"])
    def test_the_untouched_settings_suit_every_supported_kea(self, text: str) -> None:
        """Each of these Keas can take the documented setup."""
        assert version_problems(pair(), Version.parse(text)) == ()

    @pytest.mark.parametrize(
        ("text", "data", "setting", "allowed"),
        [
            ("2.4.1", {}, "version", "2.6 (Debian 13)"),
            ("3.2.0", {"control_channel": "direct"}, "version", "3.0"),
            ("3.0.4", {"max_response_delay": 70000}, "max_response_delay", "65535"),
            ("2.6.3", {"max_ack_delay": 65536}, "max_ack_delay", "65535"),
            ("2.6.3", {"control_channel": "direct"}, "control_channel", "agent"),
            ("3.2.0", {"control_channel": "agent"}, "control_channel", "direct"),
        ],
    )  # fmt: skip
    def test_what_a_kea_cannot_take_is_refused(
        self, text: str, data: dict[str, Any], setting: str, allowed: str
    ) -> None:
        """In the same form as every other refusal."""
        assert_told(version_problems(pair(**data), Version.parse(text)), setting, "", allowed)

    def test_long_delays_are_kea_3_3s(self) -> None:
        """Only the version is refused there, not the delay."""
        data = {"max_response_delay": 70000, "control_channel": "none"}
        found = version_problems(pair(**data), Version(3, 3, 0))
        assert [one.setting for one in found] == ["Kea's version"]

    @pytest.mark.parametrize(
        ("text", "flaws"),
        [
            ("2.2.0-6", {"2026-3608", "2025-32801", "2025-32802", "2025-32803"}),
            ("2.6.3-1+deb13u1", set()),
            ("2.6.3", {"2026-3608"}),
            ("2.6.5", set()),
            ("3.0.0", {"2026-3608", "2025-40779"}),
            ("3.0.1", {"2026-3608", "2025-11232"}),
            ("3.0.4", set()),
        ],
    )
    def test_known_flaws_are_named(self, text: str, flaws: set[str]) -> None:
        """Those of this version, and no other."""
        told = "\n".join(version_warnings(pair(), Version.parse(text)))
        known = {"2026-3608", "2025-32801", "2025-32802", "2025-32803", "2025-40779", "2025-11232"}
        assert flaws == {flaw for flaw in known if f"CVE-{flaw}" in told}


def test_networks_without_a_firewall_are_pointed_out() -> None:
    """Who lists the administrators' networks believes that others are kept out."""
    networks = ["10.0.0.0/8"]

    assert "firewall" in pair_warnings(pair(admin_networks=networks))[0]
    assert pair_warnings(pair(admin_networks=networks, firewall="nftables")) == ()
