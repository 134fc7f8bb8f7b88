"""Where things are on a host, and what they are called.

One place for every path, unit and package name, so that documents, operations and checks agree.
The paths are the packaged ones: Debian's AppArmor profiles allow Kea no others, and Kea since
2.6.3 refuses sockets, leases and logs anywhere else (CVE-2025-32801, -32802, -32803).
"""

from __future__ import annotations

from typing import Final

CONF_DIR: Final = "/etc/kea"
KEA_CONF: Final = "/etc/kea/kea-dhcp4.conf"
AGENT_CONF: Final = "/etc/kea/kea-ctrl-agent.conf"
# Debian 13's unit of the Control Agent starts only if this file is not empty. The agent's document
# names no password, so it guards nothing here: clients are admitted by certificate.
API_PASSWORD_FILE: Final = "/etc/kea/kea-api-password"  # noqa: S105  (a path)

TLS_DIR: Final = "/etc/kea/tls"
HA_KEY: Final = f"{TLS_DIR}/ha.key"
HA_CERTIFICATE: Final = f"{TLS_DIR}/ha.crt"
HA_ANCHOR: Final = f"{TLS_DIR}/ha-ca.crt"
API_KEY: Final = f"{TLS_DIR}/api.key"
API_CERTIFICATE: Final = f"{TLS_DIR}/api.crt"
API_ANCHOR: Final = f"{TLS_DIR}/api-ca.crt"

RUN_DIR: Final = "/run/kea"
CONTROL_SOCKET: Final = f"{RUN_DIR}/kea4-ctrl-socket"
LEASE_DIR: Final = "/var/lib/kea"
LEASES: Final = f"{LEASE_DIR}/kea-leases4.csv"
LOG_DIR: Final = "/var/log/kea"
LOG: Final = f"{LOG_DIR}/kea-dhcp4.log"
AGENT_LOG: Final = f"{LOG_DIR}/kea-ctrl-agent.log"

KEA_USER: Final = "_kea"
STATE_DIR: Final = "/var/lib/kea-ha"

FIREWALL_CONF: Final = f"{STATE_DIR}/firewall.nft"
FIREWALL_UNIT: Final = "kea-ha-firewall.service"
FIREWALL_UNIT_FILE: Final = f"/etc/systemd/system/{FIREWALL_UNIT}"
FIREWALL_TABLE: Final = "inet kea_ha"

LEASE_CMDS_HOOK: Final = "libdhcp_lease_cmds.so"
HA_HOOK: Final = "libdhcp_ha.so"


# Our own state, root's alone: which server of which pair this host is, whether a rollout is under
# way, whether the pair was ever accepted.
OWNER_FILE: Final = f"{STATE_DIR}/pair"
UNFINISHED_FILE: Final = f"{STATE_DIR}/unfinished"
ACCEPTED_FILE: Final = f"{STATE_DIR}/accepted"
MAINTENANCE_FILE: Final = f"{STATE_DIR}/maintenance"
# What is true for no longer than the host runs: the lock, and the files that each running service
# was started from.
VOLATILE_DIR: Final = "/run/kea-ha"

UNIT_DIR: Final = "/etc/systemd/system"
EXPIRY_UNIT: Final = "kea-ha-certificates.service"
EXPIRY_TIMER: Final = "kea-ha-certificates.timer"

HA_FILES: Final = (HA_CERTIFICATE, HA_ANCHOR)
API_FILES: Final = (API_CERTIFICATE, API_ANCHOR)
KEYS: Final = (HA_KEY, API_KEY)

# Other DHCP servers of Debian, which would answer clients beside the pair.
FOREIGN_UNITS: Final = ("isc-dhcp-server.service", "dnsmasq.service", "udhcpd.service")

STARTED_DIR: Final = f"{VOLATILE_DIR}/started"

# The state in which the pair was last accepted, as a tree under each directory: to be put back when
# a change does not work, and to tell a hand's edit from what was written here. The second one is
# what was accepted before that.
KEPT_DIR: Final = f"{STATE_DIR}/last"
KEPT_BEFORE_DIR: Final = f"{STATE_DIR}/before"
#: The same of a backup, while its documents are put back.
RESTORED_DIR: Final = f"{STATE_DIR}/restored"
#: In each of them: the settings that it was accepted with, which of our units were enabled, and a
#: name, the same on both hosts, by which the two know one state of the pair.
KEPT_NAME: Final = "name"
KEPT_SETTINGS: Final = "settings"
KEPT_UNITS: Final = "units"
SETTINGS_FILE: Final = f"{KEPT_DIR}/{KEPT_SETTINGS}"
UNITS_FILE: Final = f"{KEPT_DIR}/{KEPT_UNITS}"
