"""Who: the hosts of each pair. What they are to be is in group_data/all.py.

A pair is a group of two hosts; the group's name is the pair's name. Each host has a role, the
server name that Kea knows it by, and the IPv4 address at which its partner reaches it. Your own
pair looks like this; how to reach it over ssh comes from your ~/.ssh/config and known_hosts:

    office = [
        ("dhcp-a", {"role": "primary", "server_name": "server1", "address": "192.0.2.2"}),
        ("dhcp-b", {"role": "standby", "server_name": "server2", "address": "192.0.2.3"}),
    ]

Shipped is the lab's pair, whose names and addresses stand in lab/pair.yaml.
"""

from pathlib import Path

import yaml

from kea_ha.run import before_connecting, wants_probes

_lab = yaml.safe_load(Path("lab/pair.yaml").read_text())
_lab_ssh = {"ssh_config_file": ".lab/ssh_config", "ssh_known_hosts_file": ".lab/known_hosts"}

lab = [
    (name, {key: host[key] for key in ("role", "server_name", "address")} | _lab_ssh)
    for name, host in _lab["hosts"].items()
]
# Hosts to probe from; they belong to no pair.
probes = [(_lab["client"]["name"], _lab_ssh)] if wants_probes() else []

# Settings, pairs and options are judged here, before any host is contacted. Keep this line last.
before_connecting()
