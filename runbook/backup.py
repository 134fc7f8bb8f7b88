"""Back a pair up to this machine: documents, settings and leases of both hosts.

    pyinfra -y inventory.py runbook/backup.py

The servers go on serving, and nothing is changed on the hosts. It is written to
backups/PAIR-DATE/, readable by you alone. No key is in it: pki/ is kept separately. Fit for cron:
the exit status is not 0 when anything is missing.
"""

from pyinfra import host

from kea_ha import run, steps

if pair := run.begin(host):
    steps.back_up(pair)
