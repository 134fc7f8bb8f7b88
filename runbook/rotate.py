"""Make the certificates of both hosts anew, now, without their clients noticing.

    pyinfra -y inventory.py runbook/rotate.py

For when a certificate is not to be used any longer, or before a time when nobody is at hand. Those
that are due are renewed by deploy.py, too. The keys stay on their hosts, and the CAs as they are.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
agreed = run.agreed(host)
run.renew_certificates()

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.look(pair)
    steps.decide(pair, agreed=agreed, only_live=True)
    steps.roll(pair)
    steps.accept(pair)
