"""Find out what is wrong with a live pair, say it and what will be done, and mend it.

    pyinfra -y inventory.py runbook/recover.py

For a pair that is in terminated, or of which both serve; a server that is down, or turned away for
its certificate; a lease file that Kea cannot open; a host that cannot be reached, so that the other
one must go on alone; and a host that is lost, whose place a fresh machine takes.
"""

from functools import partial

from pyinfra import host

from kea_ha import run, steps
from kea_ha.commands import recovery
from kea_ha.pki import ca_store

pair = run.begin(host)
agreed = run.agreed(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.look(pair)
    # No barrier before this: one host may be all that is left.
    steps.recover(pair)
    steps.hold_together(pair, after="mending")

    # What a lost machine knew must not open anything any longer: Kea knows no revocation.
    lost = partial(recovery.was_rebuilt, pair)
    for stage in host.loop(ca_store.STAGES):
        steps.change_cas(pair, stage, agreed=agreed, _if=lost)
        steps.look(pair, _if=lost)
        steps.decide(pair, agreed=agreed, only_live=True, _if=lost)
        steps.roll(pair, _if=lost)
        steps.accept(pair, _if=lost)
    steps.end_change_of_cas(pair, _if=lost)
    steps.accept(pair)
