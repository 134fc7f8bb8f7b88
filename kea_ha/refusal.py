"""The one error of this project: what cannot go on, and what the operator should do about it.

Whatever finds out raises it, or a kind of it that says more; it passes unchanged through whoever
cannot mend it, and becomes a failed host, with these words, where pyinfra runs a piece of work
(``session.operation``).
"""

from __future__ import annotations


class Refusal(Exception):
    """Raised when something cannot go on: ``what`` is wrong, and the ``remedy`` for the operator.

    Neither ever holds a key or a passphrase. ``hosts`` names those that it concerns, when they are
    others than the one that found out; ``outcome`` is what it means for the pair, in a word or two.
    """

    def __init__(
        self, what: str, remedy: str, hosts: tuple[str, ...] = (), outcome: str = "stopped"
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.hosts = hosts
        self.outcome = outcome
