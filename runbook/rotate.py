"""Make the certificates of both hosts anew, now, without their clients noticing; or their CAs.

    pyinfra -y inventory.py runbook/rotate.py
    pyinfra -y inventory.py runbook/rotate.py --data ca=true

For when a certificate is not to be used any longer, or before a time when nobody is at hand. Those
that are due are renewed by deploy.py, too. The keys stay on their hosts.

With ca=true the CAs are changed, so that no certificate that was made before is worth anything
afterwards: both CAs are trusted first, then the new ones sign, then the old ones are dropped.
"""

from pyinfra import host

from kea_ha import run, steps
from kea_ha.pki import ca_store

pair = run.begin(host)
agreed = run.agreed(host)
changes_cas = bool(host.data.get("ca"))
if not changes_cas:
    run.renew_certificates()

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    # Whatever stands against it is said before anything is changed, here or there.
    steps.look(pair)
    steps.decide(pair, agreed=agreed, only_live=True)
    steps.hold_together(pair, after="judging both hosts")
    for stage in host.loop(ca_store.STAGES if changes_cas else ("renew",)):
        if changes_cas:
            steps.change_cas(pair, stage, agreed=agreed)
        steps.look(pair)
        steps.decide(pair, agreed=agreed, only_live=True)
        steps.roll(pair)
        steps.accept(pair)
        steps.hold_together(pair, after=stage)
    if changes_cas:
        steps.end_change_of_cas(pair)
