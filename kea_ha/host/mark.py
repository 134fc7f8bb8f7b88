"""Our mark on a host: whose it is, whether the pair was accepted, what is under way, is it out.

It stands in four files of root's under /var/lib/kea-ha, each written by a rename and taken away by
a removal, so that whenever a run was cut off a later one finds a mark, whole. What it finds is one
of these:

- no owner: the host is not ours;
- a rollout or an adoption under way, never accepted: the next ``deploy.py`` goes on with it;
- accepted, nothing under way: a live pair;
- accepted, a change under way: the host is as it was accepted, or partly as it is to become, and
  the mark tells which accepted state it goes back to. ``deploy.py`` goes on with any change;
- out for maintenance, whatever else: nothing is done to the pair until it is brought back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from kea_ha import layout
from kea_ha.foreign import ForeignError, state_name


class Work(Enum):
    """What may be under way on a host, in the word that its mark begins with."""

    ROLLING_OUT = "rolling out"
    ADOPTING = "adopting"
    CHANGING = "changing"
    UNDOING = "changing (undoing)"
    RESTORING = "changing (restoring)"
    UPGRADING = "changing (upgrading)"

    @property
    def is_change(self) -> bool:
        """Whether a live pair is being changed, so that there is a state to go back to."""
        return self not in (Work.ROLLING_OUT, Work.ADOPTING)


#: By what is found under way, the work that goes on with it: the mark stays as it is, and with it
#: the state to go back to. Any other work that begins there puts its own mark in its place (that it
#: may begin at all is decided elsewhere).
#: A rollout never makes less of a mark than it finds. ``deploy.py`` may end an undo, a restore or
#: an upgrade as it may end a change.
GOES_ON: Mapping[Work, frozenset[Work]] = {
    Work.ROLLING_OUT: frozenset({Work.ROLLING_OUT}),
    Work.ADOPTING: frozenset({Work.ROLLING_OUT, Work.ADOPTING}),
    Work.CHANGING: frozenset({Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING}),
    Work.UNDOING: frozenset({Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING, Work.UNDOING}),
    Work.RESTORING: frozenset({Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING, Work.RESTORING}),
    Work.UPGRADING: frozenset({Work.ROLLING_OUT, Work.ADOPTING, Work.CHANGING, Work.UPGRADING}),
}


@dataclass(frozen=True)
class UnderWay:
    """Work that has begun and not ended: which, ``since`` when (the host's clock, as text).

    ``back_to`` is the name of the accepted state that a change goes back to; empty: not known.
    """

    work: Work
    since: str
    back_to: str = ""

    @classmethod
    def parse(cls, text: str) -> UnderWay:
        """What a mark says; of one that is not whole, how it begins."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            begun = [one for one in Work if text.startswith(one.value)]
            return cls(begun[-1] if begun else Work.ROLLING_OUT, _UNKNOWN)
        try:
            back_to = state_name(found["back_to"] or "")
        except ForeignError:
            back_to = ""  # nothing is called so, and nothing is put back by it
        return cls(Work(found["work"]), found["since"], back_to)

    def text(self) -> str:
        """The mark as it is written on the host."""
        back_to = f"{_BACK_TO}{self.back_to}" if self.work.is_change else ""
        return f"{self.work.value} since {self.since}{back_to}"


_BACK_TO = ", back to "
_TEXT = re.compile(
    rf"(?P<work>{'|'.join(re.escape(one.value) for one in Work)}) since (?P<since>[^\n]*?)"
    rf"(?:{_BACK_TO}(?P<back_to>[^\n]*))?"
)


@dataclass(frozen=True)
class Mark:
    """All of it. ``owner``: the pair and the server that this host is, by name; empty: not ours.

    ``out_since``: since when it is out for maintenance; empty when it is not.
    """

    owner: str = ""
    accepted: bool = False
    under_way: UnderWay | None = None
    out_since: str = ""

    @classmethod
    def parse(cls, files: Mapping[str, str]) -> Mark:
        """From the content of those of the files that there are, by path."""
        unfinished, out = map(files.get, (layout.UNFINISHED_FILE, layout.MAINTENANCE_FILE))
        return cls(
            owner=files.get(layout.OWNER_FILE, ""),
            accepted=layout.ACCEPTED_FILE in files,
            under_way=UnderWay.parse(unfinished) if unfinished is not None else None,
            out_since=(out.strip() or _UNKNOWN) if out is not None else "",
        )

    @property
    def work(self) -> Work | None:
        """What is under way."""
        return self.under_way.work if self.under_way else None

    @property
    def is_changing(self) -> bool:
        """Whether a change of a live pair was begun here and has not ended."""
        return self.work is not None and self.work.is_change

    def goes_on(self, work: Work) -> bool:
        """Whether this work goes on with what is under way, under the mark that is there."""
        return self.under_way is not None and work in GOES_ON[self.under_way.work]


_UNKNOWN = "an unknown time"


def back_to(marks: Iterable[Mark]) -> str:
    """The accepted state that a change of the pair goes back to; empty when they do not agree."""
    names = {one.under_way.back_to for one in marks if one.under_way and one.is_changing}
    return names.pop() if len(names) == 1 else ""
