"""Say whether the pair is what it should be, at any time; change nothing.

    pyinfra -y inventory.py runbook/verify.py

The same judgement as at the end of a rollout. Fit for cron: the last block is the verdict, and the
exit status is not 0 when the pair is not accepted, or cannot be judged.
"""

from pyinfra import host

from kea_ha import run, steps

if pair := run.begin(host):
    steps.read(pair)
    steps.verify(pair)
