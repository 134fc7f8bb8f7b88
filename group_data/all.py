"""Every setting of every pair, with its meaning, its unit and the template's value.

Untouched, this is the setup of ISC's template "Secure High Availability Kea DHCP with
multi-threading". Change a value here for all pairs, in group_data/PAIR.py for one pair, or for
one run with --data NAME=VALUE (JSON for lists and maps). Both hosts of a pair share them all,
except interface and own_certificates. docs/settings.md says what each one costs.
"""

# --- What is served -----------------------------------------------------------------------------

# The subnets. "id": leases are kept by it, so never change it or give it to another subnet.
# "pools": ranges or prefixes. "options": by Kea's names, values as Kea's csv-format takes them.
# "relays": the relays' addresses; a subnet with relays needs no address of the hosts in it.
# "extra": anything else for this subnet, in Kea's words, merged last.
subnets = [
    {
        "subnet": "192.168.1.0/24",
        "id": 1,
        "pools": ["192.168.1.100-192.168.1.199"],
        "options": {"routers": "192.168.1.1"},
        "relays": [],
    },
]

# A YAML file beside this project: a list of {mac or client_id, address, hostname, options}.
# None: no reservations, as in the template.
reservations_file = None

# The interface that clients are served on. None: the one that carries the host's address.
# May differ between the hosts. The template's: "enp0s8".
interface = None

# Seconds. How long a lease is good; when a client renews it with its server; when it asks any
# server. Each less than the one before.
valid_lifetime = 43200
rebind_timer = 32400
renew_timer = 21600

# --- High availability --------------------------------------------------------------------------

# The only mode of this rollout: the primary serves, the standby takes over.
mode = "hot-standby"

# How a dead partner is told. Sets the four values below together.
# "documented": the template's. After the primary's death clients get no DHCP for about a minute.
# "fast", for a LAN: heartbeat 1000, response 3000, ack 1000, unacked 0: a few seconds. Its price:
# if only the link between the servers breaks, both serve until it is mended.
failover_profile = "documented"

# Single values that win over the profile; None: from the profile.
heartbeat_delay = None  # milliseconds between heartbeats; the template's: 10000
max_response_delay = None  # milliseconds of silence that count as failure; the template's: 60000
max_ack_delay = None  # milliseconds a client has waited to count as unserved; the template's: 5000
max_unacked_clients = None  # unserved clients that it takes, and one more; the template's: 5

# Milliseconds that fetching all leases from the partner may take. More from 100 000 leases on.
sync_timeout = 60000

# The TCP port of the peers' listener, on each host's address.
ha_port = 8000

# --- Work at a time; the template assumes hosts of at least 4 CPUs ------------------------------

thread_pool_size = 4  # threads that answer clients
packet_queue_size = 64  # packets that may wait for them; the oldest is dropped first
ha_listener_threads = 4  # threads that take the partner's lease updates
ha_client_threads = 4  # threads that send lease updates to the partner

# --- Managing Kea over the network --------------------------------------------------------------

# "agent": the Control Agent, as in the template. "direct": an HTTPS socket of kea-dhcp4 itself
# (Kea 3.0 and newer). "none": nothing listens. Clients need a certificate of the API's authority.
control_channel = "agent"

# The TCP port of the control channel, on each host's address.
ca_port = 8001

# "off", or "nftables": a table of our own that drops what does not belong on ha_port (the partner
# only) and on ca_port (admin_networks only). The template has none.
firewall = "off"

# Networks whose hosts may reach ca_port, in CIDR form. []: nobody but the host itself (by ssh).
admin_networks = []

# --- Packages and identities --------------------------------------------------------------------

# "distro", "backports" (of Debian 13: Kea 3.0), or "isc" (ISC's own packages; not tried here).
package_source = "distro"

# None: keys and certificates are made by the rollout. Or files that are on each host already:
# {"key": "/…", "certificate": "/…", "anchor": "/…"}, by which the peers know each other. The paths
# may differ between hosts. What serves ca_port is always made by the rollout.
own_certificates = None

# --- Anything else, in Kea's words --------------------------------------------------------------

# {"Dhcp4": {…}, "Control-agent": {…}}, merged last: maps deeply, lists replaced.
extra = {}

# --- Reaching the hosts -------------------------------------------------------------------------

# A host whose key is not known is not spoken to. Left alone, pyinfra would trust it silently.
ssh_strict_host_key_checking = "yes"

# The ssh user becomes root by sudo, which must not ask for a password. False: it is root already.
_sudo = True
