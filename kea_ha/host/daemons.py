"""The daemons that the project runs on its hosts, each of them one value.

Whatever installs, writes, starts, watches, keeps, puts back or takes away goes through ``DAEMONS``,
so another one is another value here, its template and its drop-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from kea_ha import layout
from kea_ha.kea import config
from kea_ha.kea.config import Platform
from kea_ha.settings.kea_versions import Version
from kea_ha.settings.model import Node, Pair, Settings


class Names(NamedTuple):
    """What a daemon's package and unit are called by whoever packages it."""

    package: str
    unit: str

    @property
    def drop_in(self) -> str:
        """The path of our drop-in for the unit."""
        return f"{layout.UNIT_DIR}/{self.unit}.d/kea-ha.conf"


class Listening(NamedTuple):
    """Where a daemon listens: ``tcp`` or ``udp``, the port, and the setting that names it."""

    protocol: str
    port: int
    setting: str


@dataclass(frozen=True)
class Daemon:
    """A daemon, where its things are, and what the settings decide of it.

    ``process``: its program, as its process is called. ``document``: what it reads, made by
    ``render`` for the interface that clients are on. ``check_flag``: how its program is asked to
    check a document without running it. ``drop_in``: the content of ours for its unit, by the
    release of Debian.
    """

    process: str
    title: str
    debian: Names
    isc: Names
    document: str
    log: str
    is_wanted: Callable[[Settings], bool]
    listens: Callable[[Settings], tuple[Listening, ...]]
    render: Callable[[Pair, Node, Platform, str], str]
    check_flag: Callable[[Version], str]
    drop_in: Callable[[str], str]

    @property
    def units(self) -> tuple[str, str]:
        """Its units, by whomever it is packaged."""
        return (self.debian.unit, self.isc.unit)

    def of(self, pair: Pair) -> Names:
        """Its names on the hosts of this pair."""
        return self.isc if pair.settings.package_source == "isc" else self.debian


def _of_dhcp4(settings: Settings) -> tuple[Listening, ...]:
    api = (Listening("tcp", settings.ca_port, "ca_port"),)
    return (
        Listening("udp", 67, "DHCP"),
        Listening("tcp", settings.ha_port, "ha_port"),
        *(api if settings.control_channel == "direct" else ()),
    )


DHCP4: Final = Daemon(
    process="kea-dhcp4",
    title="kea-dhcp4",
    debian=Names("kea-dhcp4-server", "kea-dhcp4-server.service"),
    isc=Names("isc-kea-dhcp4", "isc-kea-dhcp4-server.service"),
    document=layout.KEA_CONF,
    log=layout.LOG,
    is_wanted=lambda settings: True,
    listens=_of_dhcp4,
    render=config.render_dhcp4,
    check_flag=config.check_flag,
    drop_in=config.render_dhcp4_drop_in,
)
AGENT: Final = Daemon(
    process="kea-ctrl-agent",
    title="the Control Agent",
    debian=Names("kea-ctrl-agent", "kea-ctrl-agent.service"),
    isc=Names("isc-kea-ctrl-agent", "isc-kea-ctrl-agent.service"),
    document=layout.AGENT_CONF,
    log=layout.AGENT_LOG,
    is_wanted=lambda settings: settings.control_channel == "agent",
    listens=lambda settings: (Listening("tcp", settings.ca_port, "ca_port"),),
    render=lambda pair, node, platform, _: config.render_control_agent(pair, node, platform),
    check_flag=lambda _: "-t",
    drop_in=lambda _: config.render_agent_drop_in(),
)
#: In the order in which they are installed, configured and started.
DAEMONS: Final = (DHCP4, AGENT)


def wanted(settings: Settings) -> tuple[Daemon, ...]:
    """Those that the settings want."""
    return tuple(one for one in DAEMONS if one.is_wanted(settings))


def listening(settings: Settings) -> Iterable[tuple[Daemon, Listening]]:
    """Where each of those that are wanted listens."""
    return ((one, place) for one in wanted(settings) for place in one.listens(settings))


def _each(of: Callable[[Names], str]) -> tuple[str, ...]:
    # Debian's of all daemons, then ISC's.
    return tuple(map(of, [one.debian for one in DAEMONS] + [one.isc for one in DAEMONS]))


PACKAGES: Final = _each(lambda names: names.package)
UNITS: Final = _each(lambda names: names.unit)

#: Whatever of ours holds no secret, and may therefore be read back and compared.
DOCUMENTS: Final = (
    *(one.document for one in DAEMONS),
    *_each(lambda names: names.drop_in),
    layout.FIREWALL_CONF,
    layout.FIREWALL_UNIT_FILE,
    f"{layout.UNIT_DIR}/{layout.EXPIRY_UNIT}",
    f"{layout.UNIT_DIR}/{layout.EXPIRY_TIMER}",
)
#: What is kept of an accepted state, by where it stands when it is in use.
KEPT: Final = (*DOCUMENTS, *layout.HA_FILES, *layout.API_FILES)
#: What a backup holds of an accepted state; certificates are in none.
ACCEPTED: Final = (
    layout.SETTINGS_FILE,
    layout.UNITS_FILE,
    *(f"{layout.KEPT_DIR}{path}" for path in DOCUMENTS),
)
