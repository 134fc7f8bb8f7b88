"""Put both hosts back to the state that was accepted before the last change, unnoticed by clients.

    pyinfra -y inventory.py runbook/undo.py

Documents, drop-ins, firewall table and certificates; not packages. Of a change that was cut off,
what was accepted before it. A second undo makes the change again. The settings are yours to put
right: the next deploy.py would make the same change once more.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
agreed = run.agreed(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.survey(pair)
    steps.hold_together(pair, after="looking at both hosts")
    steps.undo(pair, agreed=agreed)
