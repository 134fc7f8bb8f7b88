"""The typed model of a pair: two nodes, and the settings that they share.

Defaults equal the values of ISC's template "Secure High Availability Kea DHCP with
multi-threading", so that settings left alone are the documented setup. Each field's type says
what a single value may be; what several values must be together is in `rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kea_ha.layout import Packaging, packaging
from kea_ha.settings import single_values
from kea_ha.settings.problems import Refused

Role = Literal["primary", "standby"]
ControlChannel = Literal["agent", "direct", "none"]

PROFILES: Final[dict[str, dict[str, int]]] = {
    "documented": {
        "heartbeat_delay": 10000,
        "max_response_delay": 60000,
        "max_ack_delay": 5000,
        "max_unacked_clients": 5,
    },
    "fast": {
        "heartbeat_delay": 1000,
        "max_response_delay": 3000,
        "max_ack_delay": 1000,
        "max_unacked_clients": 0,
    },
}
"""The failure-detection values of each `failover_profile`, in milliseconds and clients."""

Address = Annotated[str, BeforeValidator(single_values.ipv4)]
HostPath = Annotated[str, BeforeValidator(single_values.host_path)]
Port = Annotated[int, BeforeValidator(single_values.port)]
Options = Annotated[dict[str, str], BeforeValidator(single_values.options)]
Extra = Annotated[dict[str, Any], BeforeValidator(single_values.mapping)]
Threads = Annotated[
    int,
    single_values.whole(
        1, 128, "threads", "The template has 4, for hosts of at least 4 CPUs; one for each CPU."
    ),
]
Seconds = Annotated[
    int,
    single_values.whole(
        1, 4294967294, "seconds", "The template has 43200 valid, 21600 renew, 32400 rebind."
    ),
]


@cache
def _network(text: str) -> IPv4Network:
    # Asked for by every reservation in turn.
    return IPv4Network(text)


def _delay(low: int, high: int, remedy: str) -> BeforeValidator:
    return single_values.whole(low, high, "milliseconds", remedy)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_A_FILE: Final = "the absolute path of a file on the host"


class OwnCertificates(_Model):
    """Files on the host: its key and certificate for its partner, the anchor of its partner's."""

    key: HostPath = Field(description=_A_FILE)
    certificate: HostPath = Field(description=_A_FILE)
    anchor: HostPath = Field(description=_A_FILE)


class NodeDraft(_Model):
    """What the inventory says of one host, as far as it was valid."""

    name: str
    role: Annotated[
        Role | None,
        single_values.one_of(
            "primary", "standby", remedy="Give one host of the pair each of the two roles."
        ),
    ] = None
    server_name: Annotated[str | None, BeforeValidator(single_values.server_name)] = None
    address: Annotated[str | None, BeforeValidator(single_values.server_address)] = None
    interface: Annotated[str | None, BeforeValidator(single_values.interface)] = None
    own_certificates: Annotated[OwnCertificates | None, BeforeValidator(single_values.mapping)] = (
        None
    )


class Node(NodeDraft):
    """One host of a pair.

    `name` is the host's name in the inventory, `server_name` what Kea calls it, `address` the
    IPv4 literal that its partner and its API clients reach. `interface` is None when it is to be
    found by the address.
    """

    role: Role
    server_name: str
    address: str


class Subnet(_Model):
    """One subnet that the pair serves.

    `relays` are the relays' addresses (giaddr), if any; `extra` is what else Kea's subnet4 entry
    is to hold, merged last.
    """

    subnet: Annotated[str, BeforeValidator(single_values.network)] = Field(
        description="an IPv4 network in CIDR form, such as 192.168.1.0/24"
    )
    id: Annotated[
        int,
        single_values.whole(
            1,
            4294967294,
            "",
            "Give each subnet its own number, and never change it: leases are kept by it.",
        ),
    ] = Field(description="a number from 1 to 4294967294, another one for each subnet")
    pools: Annotated[
        tuple[Annotated[str, BeforeValidator(single_values.pool)], ...],
        BeforeValidator(single_values.listed("pools")),
    ] = ()
    options: Options = Field(default_factory=dict)
    relays: Annotated[
        tuple[Address, ...], BeforeValidator(single_values.listed("relay addresses"))
    ] = ()
    extra: Extra = Field(default_factory=dict)

    @property
    def network(self) -> IPv4Network:
        """The subnet's prefix."""
        return _network(self.subnet)

    def holds(self, address: str) -> bool:
        """Whether the address is one of this subnet."""
        return IPv4Address(address) in self.network

    @property
    def ranges(self) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
        """First and last address of each pool."""
        return tuple(single_values.pool_bounds(pool) for pool in self.pools)

    @property
    def routers(self) -> tuple[IPv4Address, ...]:
        """The routers that clients are told, as far as they are addresses."""
        found = []
        for text in self.options.get("routers", "").split(","):
            try:
                found.append(IPv4Address(text.strip()))
            except ValueError:
                continue
        return tuple(found)


class Reservation(_Model):
    """An address kept for one client, known by its MAC address or its client identifier."""

    mac: Annotated[str | None, BeforeValidator(single_values.mac)] = None
    client_id: Annotated[str | None, BeforeValidator(single_values.client_id)] = None
    address: Address = Field(description="the IPv4 address that is kept for the client")
    hostname: Annotated[str | None, BeforeValidator(single_values.hostname)] = None
    options: Options = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_identifier(self) -> Reservation:
        if (self.mac is None) == (self.client_id is None):
            raise Refused(
                "either mac or client_id, and only one of them",
                "Say by which of the two the client is known.",
            )
        return self


TEMPLATE_SUBNET: Final = Subnet(
    subnet="192.168.1.0/24",
    id=1,
    pools=("192.168.1.100-192.168.1.199",),
    options={"routers": "192.168.1.1"},
)


class Settings(_Model):
    """All that both servers of a pair share; docs/settings.md says what each one costs."""

    subnets: Annotated[
        tuple[Annotated[Subnet, BeforeValidator(single_values.mapping)], ...],
        BeforeValidator(single_values.listed("subnets")),
    ] = (TEMPLATE_SUBNET,)
    reservations_file: Annotated[str | None, BeforeValidator(single_values.local_path)] = None

    mode: Annotated[
        Literal["hot-standby"],
        single_values.one_of(
            "hot-standby", remedy="Other modes need another design; leave it out."
        ),
    ] = "hot-standby"
    failover_profile: Annotated[
        Literal["documented", "fast"],
        single_values.one_of(
            *PROFILES, remedy="Single values can still be set beside the profile."
        ),
    ] = "documented"
    heartbeat_delay: Annotated[
        int, _delay(100, 600_000, "The template has 10000; on a LAN 1000 is gentle too.")
    ]
    max_response_delay: Annotated[
        int, _delay(200, 3_600_000, "The template has 60000, at least twice heartbeat_delay.")
    ]
    max_ack_delay: Annotated[
        int, _delay(0, 3_600_000, "The template has 5000; clients count their waiting in seconds.")
    ]
    max_unacked_clients: Annotated[
        int,
        single_values.whole(
            0,
            1000,
            "clients",
            "The template has 5: the standby takes over when more clients wait; 0 asks for none.",
        ),
    ]
    sync_timeout: Annotated[
        int, _delay(1000, 3_600_000, "The template has 60000; more for 100 000 leases and up.")
    ] = 60000

    thread_pool_size: Threads = 4
    packet_queue_size: Annotated[
        int,
        single_values.whole(
            1,
            10_000,
            "packets",
            "The template has 64. What waits longer than a client does is answered in vain.",
        ),
    ] = 64
    ha_listener_threads: Threads = 4
    ha_client_threads: Threads = 4

    valid_lifetime: Seconds = 43200
    renew_timer: Seconds = 21600
    rebind_timer: Seconds = 32400

    ha_port: Port = 8000
    ca_port: Port = 8001
    control_channel: Annotated[
        ControlChannel,
        single_values.one_of(
            "agent",
            "direct",
            "none",
            remedy="Choose none to manage Kea on the host alone.",
        ),
    ] = "agent"
    firewall: Annotated[
        Literal["off", "nftables"],
        single_values.one_of(
            "off", "nftables", remedy="Choose off to keep the firewall to yourself."
        ),
    ] = "off"
    admin_networks: Annotated[
        tuple[Annotated[str, BeforeValidator(single_values.network)], ...],
        BeforeValidator(single_values.listed("networks")),
    ] = ()

    package_source: Annotated[
        Literal["distro", "backports", "isc"],
        single_values.one_of("distro", "backports", "isc", remedy="Choose distro if unsure."),
    ] = "distro"
    extra: Extra = Field(default_factory=dict)

    def subnet_of(self, address: str) -> Subnet | None:
        """The subnet that contains this address, if any."""
        wanted = IPv4Address(address)
        return next((subnet for subnet in self.subnets if wanted in subnet.network), None)

    @model_validator(mode="before")
    @classmethod
    def _resolve_failover(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Take from the profile each failure-detection value that was not given."""
        name = given.get("failover_profile")
        profile = PROFILES.get(name if isinstance(name, str) else "", PROFILES["documented"])
        known = {key: value for key, value in given.items() if value is not None}
        return {**profile, **known}


@dataclass(frozen=True)
class Pair:
    """Two servers that back each other up, and everything that they are to be.

    `reservations` are those of `reservations_file`, each inside one of the subnets.
    """

    name: str
    primary: Node
    standby: Node
    settings: Settings
    reservations: tuple[Reservation, ...] = ()

    @property
    def nodes(self) -> tuple[Node, Node]:
        """Primary first, the order in which the pair is rolled out."""
        return (self.primary, self.standby)

    @property
    def packaging(self) -> Packaging:
        """What Kea's packages and units are called on its hosts."""
        return packaging(self.settings.package_source)

    def partner_of(self, node: Node) -> Node:
        """The other one."""
        return self.standby if node.name == self.primary.name else self.primary

    def node(self, host_name: str) -> Node:
        """The node with this name in the inventory; KeyError if the pair has none."""
        for node in self.nodes:
            if node.name == host_name:
                return node
        raise KeyError(f"{host_name} is not a host of the pair {self.name}")
