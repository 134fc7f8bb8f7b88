"""The labs: two hosts and a client to try the rollout on.

The quick lab has containers with real systemd and sshd, up in seconds; the Vagrant lab has virtual
machines. `python -m lab --help` drives them by hand, `Lab` and `VirtualLab` from tests.
"""

from lab.base import AnyLab
from lab.errors import LabError
from lab.quick import Lab
from lab.virtual import VirtualLab

__all__ = ["AnyLab", "Lab", "LabError", "VirtualLab"]
