"""The quick lab: two hosts and a client with real systemd and sshd, up in seconds.

`python -m lab --help` drives it by hand, `Lab` from tests.
"""

from lab.errors import LabError
from lab.quick import Lab

__all__ = ["Lab", "LabError"]
