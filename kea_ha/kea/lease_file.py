"""Kea's lease file (memfile, DHCPv4): read a set of files as Kea does, merge sets, write one file.

Pure. The columns are those of Kea's ``csv_lease_file4.cc``: a file names its own in its first row,
and a newer Kea has more of them at the end (2.2 none after ``user_context``, 2.6 and 3.0
``pool_id``). A file only grows: a later row of an address supersedes the earlier ones, and one with
``valid_lifetime`` 0 takes the lease away. What Kea escapes in a value (``&#x2c`` for a comma) stays
as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kea_ha import layout
from kea_ha.foreign import cut
from kea_ha.refusal import Refusal

#: The columns in their order, as Kea 3.0 has them; those up to ``hostname`` are in every file.
COLUMNS = (
    *("address", "hwaddr", "client_id", "valid_lifetime", "expire", "subnet_id"),
    *("fqdn_fwd", "fqdn_rev", "hostname", "state", "user_context", "pool_id"),
)
_LEAST = COLUMNS.index("hostname") + 1
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,31}")
#: Longer than any row of Kea's, in bytes: a user context is some hundreds.
_LONGEST_LINE = 1 << 16
#: Of how many addresses leases are read: each takes some 600 bytes here.
_MOST_ADDRESSES = 1_000_000
#: What Kea takes for a column that an older file lacks; the others are then empty.
_DEFAULTS = {"state": "0", "pool_id": "0"}

#: What Lease File Cleanup makes of the file, in the order in which Kea loads it. ``.completed`` is
#: the whole of ``.2`` and ``.1``, and stands in for them.
_COMPLETED, _PREVIOUS, _INPUT = (
    f"{layout.LEASES}{suffix}" for suffix in (".completed", ".2", ".1")
)
FILES = (_COMPLETED, _PREVIOUS, _INPUT, layout.LEASES)
#: What there may be besides the live file; the last two are the cleanup's own while it is at work.
BESIDES = (
    *(_COMPLETED, _PREVIOUS, _INPUT),
    *(f"{layout.LEASES}{suffix}" for suffix in (".output", ".pid")),
)


class LeaseFileError(Refusal):
    """Raised when a file is none that Kea wrote; ``what`` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            "Kea cannot read that file either: stop kea-dhcp4 there, move the file to another "
            "directory, and run the same command again",
        )


@dataclass(frozen=True)
class Row:
    """One row: the newest that is known of an address. Times are in seconds since 1970, UTC."""

    address: IPv4Address
    valid_lifetime: int
    expire: int
    subnet_id: int
    state: int
    #: Column -> the value as it stands in the file, for those that the row has.
    values: Mapping[str, str]

    @property
    def cltt(self) -> int:
        """When the client was last heard of: by this Kea tells the newer of two rows."""
        return self.expire - self.valid_lifetime

    @property
    def is_lease(self) -> bool:
        """Whether Kea has a lease by this row; otherwise it says that there is none any more."""
        return self.valid_lifetime > 0

    @property
    def in_use(self) -> bool:
        """Whether a client has the address by this row, or had it last: not declined, not over."""
        return self.is_lease and self.state == 0

    def is_of(self, subnets: Mapping[int, IPv4Network]) -> bool:
        """Whether the address is of the subnet that the row is kept under, among these by id."""
        subnet = subnets.get(self.subnet_id)
        return subnet is not None and self.address in subnet


@dataclass(frozen=True)
class LeaseSet:
    """What Kea loads from a set of files: the last row of each address."""

    #: The columns that the live file names, or the newest of the others; empty without any.
    header: tuple[str, ...]
    rows: Mapping[IPv4Address, Row]
    #: How many rows could not be read. Kea leaves such rows out, too.
    unreadable: int = 0

    @property
    def in_use(self) -> int:
        """How many addresses are in use by it."""
        return sum(row.in_use for row in self.rows.values())

    def without(self, addresses: Collection[IPv4Address]) -> LeaseSet:
        """The same set, but for what it says of these addresses."""
        kept = {address: row for address, row in self.rows.items() if address not in addresses}
        return LeaseSet(self.header, kept, self.unreadable)


def load_order(present: Collection[str]) -> tuple[str, ...]:
    """Those of the files that Kea loads, by their paths, in its order: the last one is the live."""
    stand_in = (_PREVIOUS, _INPUT) if _COMPLETED in present else ()
    return tuple(path for path in FILES if path in present and path not in stand_in)


def load(files: Mapping[str, bytes | Path]) -> LeaseSet:
    """Read a set of files, by their paths on the host, as Kea does when it starts.

    A file is given by its content, or by where it is here.

    :raises LeaseFileError: when the first row of one is not that of a lease file.
    """
    header: tuple[str, ...] = ()
    rows: dict[IPv4Address, Row] = {}
    unreadable = 0
    for columns, row in _read(files):
        header = columns or header
        if isinstance(row, Row):
            rows[row.address] = row
            _require_few(len(rows))
        else:
            unreadable += row
    return LeaseSet(header, rows, unreadable)


def count(files: Mapping[str, bytes | Path]) -> tuple[int, int]:
    """How many addresses are in use by a set of files, and how many rows could not be read.

    The same as ``load`` finds, of however many, without keeping the rows.

    :raises LeaseFileError: as ``load`` does.
    """
    in_use: set[int] = set()
    unreadable = 0
    for _, row in _read(files):
        if not isinstance(row, Row):
            unreadable += row
        elif row.in_use:
            in_use.add(int(row.address))
            _require_few(len(in_use))
        else:
            in_use.discard(int(row.address))
    return len(in_use), unreadable


def _require_few(addresses: int) -> None:
    if addresses > _MOST_ADDRESSES:
        raise LeaseFileError(f"leases of more than {_MOST_ADDRESSES} addresses are not read")


def _read(files: Mapping[str, bytes | Path]) -> Iterator[tuple[tuple[str, ...], Row | int]]:
    """Each row with its file's columns, in the order in which Kea loads them.

    In the place of a row 1 for one that cannot be read, and 0 for a file's first line.
    """
    for path in load_order(files):
        lines = _lines(files[path])
        first = next(lines, "")
        columns = tuple(first.split(",")) if first else ()
        # An empty file is one that Kea was about to begin.
        if columns and (columns[:_LEAST] != COLUMNS[:_LEAST] or not all(map(_is_column, columns))):
            raise LeaseFileError(
                f"{path} does not begin as a lease file of Kea's: {cut(first, 60)}"
            )
        yield columns, 0
        for line in lines:
            yield columns, _parse(line, columns) or 1


def is_header(line: str) -> bool:
    """Whether Kea opens a lease file that begins with this line; an empty file it does.

    A newer Kea may have more columns than we know of.
    """
    columns = tuple(line.split(","))[: len(COLUMNS)]
    return not line or columns == COLUMNS[: max(_LEAST, len(columns))]


def merge(live: Iterable[LeaseSet], saved: Iterable[LeaseSet]) -> dict[IPv4Address, Row]:
    """Of each address the newest row that any of the sets has.

    Of two that are as new, one of ``live`` wins over one of ``saved``; then the one that says that
    the lease is over, since that leaves its time as it was.
    """
    newest: dict[IPv4Address, tuple[tuple[object, ...], Row]] = {}
    for is_live, sets in ((True, live), (False, saved)):
        for one in sets:
            for address, row in one.rows.items():
                rank = _rank(row, is_live=is_live)
                if address not in newest or rank > newest[address][0]:
                    newest[address] = (rank, row)
    return {address: newest[address][1] for address in sorted(newest)}


def render(rows: Mapping[IPv4Address, Row], header: tuple[str, ...]) -> bytes:
    """One file with these rows, in these columns.

    Rows that say that a lease is over are in it: else an older row of another file would count.
    """
    lines = [",".join(header)]
    for row in rows.values():
        lines.append(",".join(row.values.get(c, _DEFAULTS.get(c, "")) for c in header))
    return ("\n".join(lines) + "\n").encode("latin-1")


def _rank(row: Row, *, is_live: bool) -> tuple[object, ...]:
    over = 2 if not row.is_lease else int(row.state != 0)
    # The rest decides nothing that matters, and makes the order of the sets not matter either. The
    # fuller row first: it stays the same one when it was written without what the other lacks.
    return (row.cltt, is_live, over, len(row.values), tuple(sorted(row.values.items())))


def _lines(content: bytes | Path) -> Iterator[str]:
    """The lines that are not empty; a last one without its end was only partly written."""
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            whole = line
            while not whole.endswith(b"\n"):  # longer than any row: the rest of it is no other one
                if len(whole) < _LONGEST_LINE:
                    return
                whole = file.readline(_LONGEST_LINE)
            # Kea escapes whatever is not printable ASCII; should there be such a byte, it is kept.
            if text := line.removesuffix(b"\n").decode("latin-1"):
                yield text


def _is_column(name: str) -> bool:
    return _COLUMN.fullmatch(name) is not None


def _parse(line: str, columns: tuple[str, ...]) -> Row | None:
    values = line.split(",")
    # A Kea that found an older file goes on in it with rows that are longer than its header, and
    # after a downgrade with shorter ones, until its next cleanup.
    is_older = len(values) > len(columns) and columns == COLUMNS[: len(columns)]
    names = COLUMNS if is_older else columns
    if not _LEAST <= len(values) <= len(names):
        return None
    named = dict(zip(names, values, strict=False))
    try:
        return Row(
            IPv4Address(named["address"]),
            _number(named["valid_lifetime"]),
            _number(named["expire"]),
            _number(named["subnet_id"]),
            _number(named.get("state", "0")),
            named,
        )
    except ValueError:
        return None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)  # int() takes more than Kea does
    return int(text)
