"""From a Pair to the documents of one of its hosts, for the Kea that runs there.

The values are built here as plain data; the templates lay them out, section by section, with
comments for the person who opens the file on the host. What Kea reads is therefore the data and
nothing else: `parse_document` of a rendered document gives it back. The documents of the two
hosts differ in what must be each host's own, and `pair_differences` finds anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from kea_ha import layout
from kea_ha.kea.templates import Sections, render
from kea_ha.settings.extra import merged
from kea_ha.settings.kea_versions import DIRECT_SOCKET, NEW_NAMES, Version
from kea_ha.settings.model import Node, Pair, Reservation, Subnet

#: Releases whose systemd cannot filter a service's system calls without NoNewPrivileges (252).
NO_FILTERS: Final = ("bookworm",)

FILES: Final = Path(__file__).resolve().parents[2] / "files"


@dataclass(frozen=True)
class Platform:
    """The Kea of one host: its version, and the directory that its hook libraries are in."""

    version: Version
    hooks_directory: str

    def hook(self, library: str) -> str:
        """How this Kea wants a hook library named: in full before 3.0, by its bare name since."""
        if self.version >= NEW_NAMES:
            return library
        return f"{self.hooks_directory.rstrip('/')}/{library}"


@lru_cache(maxsize=64)  # of thousands of reservations it takes a third of a second
def render_dhcp4(pair: Pair, node: Node, platform: Platform, interface: str) -> str:
    """kea-dhcp4.conf of this node; `interface` is where its address is and clients are served."""
    document = dhcp4_document(pair, node, platform, interface)
    return render("kea-dhcp4.conf.j2", pair=pair.name, sections=Sections(document["Dhcp4"]))


def render_control_agent(pair: Pair, node: Node, platform: Platform) -> str:
    """kea-ctrl-agent.conf of this node, for `control_channel` agent."""
    document = agent_document(pair, node, platform)
    return render(
        "kea-ctrl-agent.conf.j2", pair=pair.name, sections=Sections(document["Control-agent"])
    )


def render_dhcp4_drop_in(codename: str) -> str:
    """The drop-in for the unit of kea-dhcp4 on a release of Debian."""
    filtered = "" if codename in NO_FILTERS else read_file("kea-dhcp4-server.seccomp.conf")
    return read_file("kea-dhcp4-server.drop-in.conf") + filtered


def render_agent_drop_in() -> str:
    """The drop-in for the unit of the Control Agent, the same on every host."""
    return read_file("kea-ctrl-agent.drop-in.conf")


def render_firewall(pair: Pair, node: Node) -> str:
    """Our nftables table; loading it replaces an older one of ours in one step.

    It only drops: what another table of the host drops stays dropped. With no `admin_networks`
    nobody but the host itself reaches the control channel (through ssh, say).
    """
    settings = pair.settings
    return render(
        "firewall.nft.j2",
        pair=pair.name,
        table=layout.FIREWALL_TABLE,
        address=node.address,
        partner=pair.partner_of(node).address,
        ha_port=settings.ha_port,
        ca_port=None if settings.control_channel == "none" else settings.ca_port,
        admin_networks=settings.admin_networks,
    )


def read_file(name: str) -> str:
    """A file of `files/` that goes to the hosts as it is."""
    return (FILES / name).read_text(encoding="utf-8")


def check_flag(version: Version) -> str:
    """How this Kea is asked to check a document without running it.

    `-T` loads the hooks and so checks the HA parameters too, but fails with the HA hook before
    Kea 3.0; `-t` never looks into hooks. Neither opens a socket; `-T` reads the leases.
    """
    return "-T" if version >= NEW_NAMES else "-t"


def dhcp4_document(pair: Pair, node: Node, platform: Platform, interface: str) -> dict[str, Any]:
    """What kea-dhcp4.conf of this node says, as data."""
    settings = pair.settings
    dhcp4: dict[str, Any] = {
        "interfaces-config": {
            "interfaces": [interface],
            # Without it a Kea that starts before its link is up runs on, deaf to all clients.
            "service-sockets-require-all": True,
        },
        **_control_sockets(pair, node, platform),
        "multi-threading": {
            "enable-multi-threading": True,
            "thread-pool-size": settings.thread_pool_size,
            "packet-queue-size": settings.packet_queue_size,
        },
        "lease-database": {"type": "memfile", "persist": True, "name": layout.LEASES},
        "valid-lifetime": settings.valid_lifetime,
        "renew-timer": settings.renew_timer,
        "rebind-timer": settings.rebind_timer,
        "expired-leases-processing": {
            "reclaim-timer-wait-time": 3600,
            "hold-reclaimed-time": 172800,
            "max-reclaim-leases": 0,
            "max-reclaim-time": 0,
        },
        "hooks-libraries": [
            {"library": platform.hook(layout.LEASE_CMDS_HOOK)},
            {
                "library": platform.hook(layout.HA_HOOK),
                "parameters": {"high-availability": [_high_availability(pair, node)]},
            },
        ],
        "subnet4": _subnets(pair, interface),
        "loggers": [_logger("kea-dhcp4", layout.LOG, platform)],
    }
    return {"Dhcp4": merged(dhcp4, settings.extra.get("Dhcp4", {}))}


def agent_document(pair: Pair, node: Node, platform: Platform) -> dict[str, Any]:
    """What kea-ctrl-agent.conf of this node says, as data."""
    agent: dict[str, Any] = {
        "http-host": node.address,
        "http-port": pair.settings.ca_port,
        **_api_identity(),
        "control-sockets": {"dhcp4": _unix_socket()},
        "loggers": [_logger("kea-ctrl-agent", layout.AGENT_LOG, platform)],
    }
    return {"Control-agent": merged(agent, pair.settings.extra.get("Control-agent", {}))}


def _control_sockets(pair: Pair, node: Node, platform: Platform) -> dict[str, Any]:
    if platform.version < NEW_NAMES and pair.settings.control_channel != "direct":
        return {"control-socket": _unix_socket()}
    sockets: list[dict[str, Any]] = [_unix_socket()]
    if pair.settings.control_channel == "direct":
        if platform.version < DIRECT_SOCKET:
            raise ValueError(f"Kea {platform.version} has no HTTPS socket of its own")
        sockets.append(
            {
                "socket-type": "https",
                "socket-address": node.address,
                "socket-port": pair.settings.ca_port,
                **_api_identity(),
            }
        )
    return {"control-sockets": sockets}


def _unix_socket() -> dict[str, Any]:
    return {"socket-type": "unix", "socket-name": layout.CONTROL_SOCKET}


def _api_identity() -> dict[str, Any]:
    return {
        "trust-anchor": layout.API_ANCHOR,
        "cert-file": layout.API_CERTIFICATE,
        "key-file": layout.API_KEY,
        "cert-required": True,
    }


def _high_availability(pair: Pair, node: Node) -> dict[str, Any]:
    settings = pair.settings
    return {
        "this-server-name": node.server_name,
        "mode": settings.mode,
        "heartbeat-delay": settings.heartbeat_delay,
        "max-response-delay": settings.max_response_delay,
        "max-ack-delay": settings.max_ack_delay,
        "max-unacked-clients": settings.max_unacked_clients,
        "send-lease-updates": True,
        "sync-leases": True,
        "sync-timeout": settings.sync_timeout,
        "multi-threading": {
            "enable-multi-threading": True,
            "http-dedicated-listener": True,
            "http-listener-threads": settings.ha_listener_threads,
            "http-client-threads": settings.ha_client_threads,
        },
        "trust-anchor": layout.HA_ANCHOR,
        "cert-file": layout.HA_CERTIFICATE,
        "key-file": layout.HA_KEY,
        "require-client-certs": True,
        "restrict-commands": True,
        "peers": [
            {
                "name": peer.server_name,
                "url": f"https://{peer.address}:{settings.ha_port}/",
                "role": peer.role,
                "auto-failover": True,
            }
            for peer in pair.nodes
        ],
    }


def _subnets(pair: Pair, interface: str) -> list[dict[str, Any]]:
    settings = pair.settings
    kept: dict[int, list[dict[str, Any]]] = {subnet.id: [] for subnet in settings.subnets}
    for reservation in pair.reservations:
        home = settings.subnet_of(reservation.address)
        if home is not None:
            kept[home.id].append(_reservation(reservation))
    entries = []
    for subnet in settings.subnets:
        entry = _subnet(pair, subnet, interface)
        entry["reservations"] = kept[subnet.id]
        entries.append(merged(entry, subnet.extra))
    return entries


def _subnet(pair: Pair, subnet: Subnet, interface: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"subnet": subnet.subnet, "id": subnet.id}
    if _holds_servers(pair, subnet):
        entry["interface"] = interface
    if subnet.relays:
        entry["relay"] = {"ip-addresses": list(subnet.relays)}
    entry["pools"] = [{"pool": pool} for pool in subnet.pools]
    entry["option-data"] = _option_data(subnet.options)
    return entry


def _holds_servers(pair: Pair, subnet: Subnet) -> bool:
    return all(subnet.holds(node.address) for node in pair.nodes)


def _reservation(reservation: Reservation) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if reservation.mac is not None:
        entry["hw-address"] = reservation.mac
    if reservation.client_id is not None:
        entry["client-id"] = reservation.client_id
    entry["ip-address"] = reservation.address
    if reservation.hostname is not None:
        entry["hostname"] = reservation.hostname
    if reservation.options:
        entry["option-data"] = _option_data(reservation.options)
    return entry


def _option_data(options: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "data": data} for name, data in options.items()]


def _logger(name: str, output: str, platform: Platform) -> dict[str, Any]:
    options = "output-options" if platform.version >= NEW_NAMES else "output_options"
    return {
        "name": name,
        options: [{"output": output, "maxsize": 2048000, "maxver": 4}],
        "severity": "INFO",
        "debuglevel": 0,
    }
