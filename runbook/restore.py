"""Bring the leases of a backup back to both hosts of its pair.

    pyinfra -y inventory.py runbook/restore.py --data from=backups/PAIR-DATE
    pyinfra -y inventory.py runbook/restore.py --data from=backups/PAIR-DATE --data force=true

Never over a newer lease: the backup is merged with what the hosts have. Both servers have to be
stopped, or force=true stops them. Documents are not restored: deploy.py writes them.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
backup = run.named_backup(host)

if pair:
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.survey(pair)
    steps.hold_together(name="Both hosts go on", pair=pair, after="looking at both hosts")
    steps.restore(pair, backup, force=bool(host.data.get("force")))
    steps.accept(pair)
