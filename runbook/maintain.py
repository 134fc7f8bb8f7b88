"""Take one host of a pair out for maintenance, its partner serving all clients; bring it back.

    pyinfra -y inventory.py runbook/maintain.py --data host=NAME
    pyinfra -y inventory.py runbook/maintain.py --data host=NAME --data done=true

While it is out, its kea-dhcp4 does not start at boot, and deploy.py changes nothing of the pair.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
node = run.named_node(host)

if pair and node:
    for one in host.loop(pair.nodes):
        if host.name == one.name:
            steps.take_lock(pair, one)
    steps.survey(pair)
    steps.hold_together(pair, after="looking at both hosts")
    if not host.data.get("done"):
        steps.take_out(pair, node)
    else:
        steps.bring_back(pair, node)
        steps.accept(pair)
