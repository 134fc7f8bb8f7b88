"""Upgrade Kea on both hosts, one after the other, its partner serving all clients meanwhile.

    pyinfra -y inventory.py runbook/upgrade.py

To the version that each host's apt has from the configured package_source; so to go from a
release's Kea to that of its backports, set package_source first. The standby goes first, and the
primary right after it: while the two differ, they are not to stay.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
agreed = run.agreed(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.plan_upgrade(pair, agreed=agreed)
    steps.hold_together(pair, after="judging both hosts")
    steps.upgrade(pair)
    steps.accept(pair)
    steps.end_upgrade(pair)
