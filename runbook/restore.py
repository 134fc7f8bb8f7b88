"""Bring the leases of a backup back to both hosts of its pair, or its documents.

    pyinfra -y inventory.py runbook/restore.py --data from=backups/PAIR-DATE
    pyinfra -y inventory.py runbook/restore.py --data from=backups/PAIR-DATE --data documents=true

Leases never over a newer one: the backup is merged with what the hosts have. Both servers have to
be stopped, or force=true stops them. Documents are put back as undo.py does it: one server after
the other, unnoticed by clients.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
backup = run.named_backup(host)
agreed = run.agreed(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.survey(pair)
    steps.hold_together(pair, after="looking at both hosts")
    if host.data.get("documents"):
        steps.restore_documents(pair, backup, agreed=agreed)
    else:
        steps.restore(pair, backup, force=agreed.force)
        steps.accept(pair)
