"""Does it really take over, how fast, and what was lost: make failures happen, and measure.

    pyinfra -y inventory.py runbook/drill.py
    pyinfra -y inventory.py runbook/drill.py --data scenario=primary-killed,standby-killed

Clients ask from the host in the group `probes` meanwhile. Outside the labs it costs clients what it
says beforehand, and wants --data accept_outage=true. The report is in reports/.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
agreed = run.agreed(host)
names = run.scenarios(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.survey(pair)
    steps.agree_to_drill(pair, names, agreed=agreed)
    steps.read(pair)
    steps.hold_together(pair, after="reading both hosts")
    steps.verify(pair)
    steps.hold_together(pair, after="judging the pair")
    for name in host.loop(names):
        steps.drill(pair, name)
    steps.report(pair, names)
