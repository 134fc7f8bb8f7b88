"""Lease files are read as Kea reads them, and merged so that nothing newer gives way."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kea_ha.kea import lease_file
from kea_ha.kea.lease_file import COLUMNS, LeaseFileError, LeaseSet, Row
from kea_ha.layout import LEASES

KEA_2_2, KEA_2_6 = COLUMNS[:11], COLUMNS
HEADERS = [COLUMNS[:9], COLUMNS[:10], KEA_2_2, KEA_2_6]
HEADER = ",".join(KEA_2_6)
COMPLETED, SECOND, FIRST = (f"{LEASES}{suffix}" for suffix in (".completed", ".2", ".1"))


def line(
    last: int,
    *,
    cltt: int = 1000,
    lifetime: int = 500,
    host: str = "",
    state: int = 0,
    columns: tuple[str, ...] = KEA_2_6,
) -> str:
    """A row of 192.0.2.`last` as Kea writes it."""
    values = {
        "address": f"192.0.2.{last}",
        "hwaddr": "02:00:00:00:00:01",
        "valid_lifetime": str(lifetime),
        "expire": str(cltt + lifetime),
        "subnet_id": "1",
        "fqdn_fwd": "0",
        "fqdn_rev": "0",
        "hostname": host,
        "state": str(state),
        "pool_id": "0",
    }
    return ",".join(values.get(column, "") for column in columns)


def content(*lines: str, header: str = HEADER) -> bytes:
    return "".join(f"{one}\n" for one in (header, *lines)).encode()


def read(*lines: str, header: str = HEADER) -> LeaseSet:
    return lease_file.load({LEASES: content(*lines, header=header)})


def hostnames(rows: dict[IPv4Address, Row]) -> dict[str, str]:
    return {str(address): row.values["hostname"] for address, row in rows.items()}


# --- as Kea reads them ----------------------------------------------------------------------


def test_a_row_is_read_with_its_times_and_its_values_as_they_stand() -> None:
    """What Kea escapes stays escaped."""
    found = read(line(5, cltt=1000, lifetime=500, host="a&#x2cb", state=1))

    row = found.rows[IPv4Address("192.0.2.5")]
    assert (1000, 500, 1500, 1, 1) == (
        row.cltt, row.valid_lifetime, row.expire, row.subnet_id, row.state
    )  # fmt: skip
    assert "a&#x2cb" == row.values["hostname"]
    assert KEA_2_6 == found.header


def test_a_later_row_supersedes_whatever_its_time() -> None:
    """A clock that was set back makes no old row new."""
    found = read(line(5, cltt=2000, host="old"), line(5, cltt=1000, host="new"))

    assert {"192.0.2.5": "new"} == hostnames(dict(found.rows))


def test_an_address_is_in_use_until_it_is_deleted_declined_or_reclaimed() -> None:
    """Valid lifetime 0 is Kea's deletion; states 1 and 2 are declined and reclaimed."""
    found = read(
        *(line(n) for n in (1, 2, 3, 4)), line(2, lifetime=0), line(3, state=1), line(4, state=2)
    )

    assert 1 == found.in_use
    assert not found.rows[IPv4Address("192.0.2.2")].is_lease


@pytest.mark.parametrize(
    ("present", "loaded"),
    [
        ([LEASES], [LEASES]),
        ([LEASES, FIRST], [FIRST, LEASES]),
        ([LEASES, FIRST, SECOND], [SECOND, FIRST, LEASES]),
        ([LEASES, FIRST, SECOND, COMPLETED], [COMPLETED, LEASES]),
        ([FIRST, COMPLETED], [COMPLETED]),
        ([], []),
    ],
)
def test_the_files_of_a_cleanup_are_loaded_in_keas_order(
    present: list[str], loaded: list[str]
) -> None:
    """`.completed` stands in for `.2` and `.1`; the live file comes last."""
    files = {path: content(line(5, host=path)) for path in present}

    assert loaded == list(lease_file.load_order(files))
    found = lease_file.load(files)
    assert ([loaded[-1]] if loaded else []) == list(hostnames(dict(found.rows)).values())


def test_a_last_line_that_is_partly_written_is_dropped() -> None:
    """Cut anywhere, as a file is that grows while it is read."""
    whole = content(line(5, host="whole"), line(6, host="cut"))
    for cut in range(1, len(line(6, host="cut")) + 1):
        found = lease_file.load({LEASES: whole[:-cut]})
        assert {"192.0.2.5": "whole"} == hostnames(dict(found.rows)), whole[:-cut]
        assert 0 == found.unreadable


@pytest.mark.parametrize(
    "broken",
    [
        "192.0.2.6",
        "192.0.2.6,02:00:00:00:00:01,,500,1500,1,0,0",
        line(6).replace("192.0.2.6", "192.0.2.600"),
        line(6).replace(",1500,", ",soon,"),
        line(6).replace(",1500,", ",1_5,"),
        line(6) + ",one,more",
        "192.0.2.6,02:0" + line(7),
        "x" * (1 << 16) + line(6),
    ],
    ids=lambda broken: broken[:40],
)
def test_a_row_that_cannot_be_read_is_left_out_and_counted(broken: str) -> None:
    """As Kea does, which goes on with the next one."""
    found = read(broken, line(5, host="next"))

    assert {"192.0.2.5": "next"} == hostnames(dict(found.rows))
    assert 1 == found.unreadable


def test_rows_longer_or_shorter_than_the_header_are_those_of_another_kea() -> None:
    """An upgraded Kea goes on in the old file, and so does a downgraded one."""
    longer = read(line(5) + "7", header=",".join(KEA_2_2))
    assert "07" == longer.rows[IPv4Address("192.0.2.5")].values["pool_id"]
    shorter = read(line(5, columns=KEA_2_2, host="short"))
    assert {"192.0.2.5": "short"} == hostnames(dict(shorter.rows))
    assert 0 == longer.unreadable == shorter.unreadable


def test_what_is_no_lease_file_is_named() -> None:
    """Kea would not start on it."""
    with pytest.raises(LeaseFileError, match=r"kea-leases4\.csv\.2 does not begin as a lease"):
        lease_file.load({LEASES: content(), SECOND: b"address,duid,valid_lifetime\n"})


def test_an_empty_file_is_one_that_kea_was_about_to_begin() -> None:
    """The header is then that of the file before it."""
    for begun in (b"", b"address,hwa"):
        found = lease_file.load({FIRST: content(line(5)), LEASES: begun})
        assert (KEA_2_6, 1) == (found.header, len(found.rows))


def test_a_file_is_read_from_where_it_is_here_as_by_its_content(tmp_path: Path) -> None:
    """Half a million leases are not held in memory twice."""
    files = {FIRST: content(line(5), line(6)), LEASES: content(line(5, lifetime=0)) + b"192.0.2"}
    here = {}
    for number, (path, held) in enumerate(files.items()):
        here[path] = tmp_path / f"lease-file-{number}"
        here[path].write_bytes(held)

    assert lease_file.load(files) == lease_file.load(here)
    assert (1, 0) == lease_file.count(files) == lease_file.count(here)


# --- merged ---------------------------------------------------------------------------------


def one_row(last: int = 5, **values: object) -> LeaseSet:
    return read(line(last, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("live", "saved", "wins"),
    [
        ({"cltt": 1000}, {"cltt": 1001}, "saved"),
        ({"cltt": 1001}, {"cltt": 1000}, "live"),
        ({"cltt": 1000}, {"cltt": 1000}, "live"),
        ({"cltt": 1000}, {"cltt": 1000, "lifetime": 0}, "live"),
        # By when the client was heard of last, and not by when the lease ends.
        ({"cltt": 1001, "lifetime": 100}, {"cltt": 1000, "lifetime": 900}, "live"),
        # Given back, deleted or reclaimed since: not brought back to life.
        ({"cltt": 1000, "lifetime": 0}, {"cltt": 1000}, "live"),
        ({"cltt": 1001, "lifetime": 0}, {"cltt": 1000}, "live"),
        ({"cltt": 1000, "state": 2}, {"cltt": 1000}, "live"),
        ({"cltt": 1000, "state": 3, "lifetime": 0}, {"cltt": 1000}, "live"),
        # Deleted long ago, and given anew.
        ({"cltt": 1000}, {"cltt": 1001, "lifetime": 0}, "saved"),
        ({"cltt": 1000, "lifetime": 0}, {"cltt": 1001}, "saved"),
    ],
)
def test_the_newest_row_of_an_address_wins(
    live: dict[str, int], saved: dict[str, int], wins: str
) -> None:
    """Of two as new, the live one."""
    merged = lease_file.merge([one_row(host="live", **live)], [one_row(host="saved", **saved)])

    assert {"192.0.2.5": wins} == hostnames(merged)


@pytest.mark.parametrize("over", [{"lifetime": 0}, {"state": 2}])
def test_of_two_hosts_the_one_that_saw_the_end_wins(over: dict[str, int]) -> None:
    """The end of a lease leaves its time as it was; one partner may have missed it."""
    ended, running = one_row(host="ended", **over), one_row(host="running")

    for sets in ([ended, running], [running, ended]):
        assert {"192.0.2.5": "ended"} == hostnames(lease_file.merge(sets, []))
        assert {"192.0.2.5": "ended"} == hostnames(lease_file.merge([], sets))


def test_of_two_rows_that_nothing_tells_apart_it_is_always_the_same() -> None:
    """Both hosts get one file, whichever is read first."""
    one, other = one_row(host="a"), one_row(host="b")

    assert lease_file.merge([one, other], []) == lease_file.merge([other, one], [])
    assert lease_file.merge([], [one, other]) == lease_file.merge([], [other, one])


def test_addresses_of_all_sets_are_in_it() -> None:
    """In the order of addresses, as Kea's cleanup writes them."""
    merged = lease_file.merge([one_row(9), one_row(10)], [one_row(3)])

    assert ["192.0.2.3", "192.0.2.9", "192.0.2.10"] == [str(address) for address in merged]


def test_a_file_is_written_in_the_columns_that_are_wanted() -> None:
    """Other versions' columns are left out, and what is missing gets Kea's default."""
    old = read(line(5, columns=COLUMNS[:9], host="old"), header=",".join(COLUMNS[:9]))
    new = read(line(6, host="new") + "4,later", header=f"{HEADER},later")

    assert (
        f"{HEADER}\n"
        "192.0.2.5,02:00:00:00:00:01,,500,1500,1,0,0,old,0,,0\n"
        "192.0.2.6,02:00:00:00:00:01,,500,1500,1,0,0,new,0,,04\n"
    ) == lease_file.render(lease_file.merge([old], [new]), KEA_2_6).decode()
    assert (
        f"{','.join(KEA_2_2)}\n"
        "192.0.2.5,02:00:00:00:00:01,,500,1500,1,0,0,old,0,\n"
        "192.0.2.6,02:00:00:00:00:01,,500,1500,1,0,0,new,0,\n"
    ) == lease_file.render(lease_file.merge([old], [new]), KEA_2_2).decode()


def test_the_end_of_a_lease_is_written_too() -> None:
    """Else an older row in another file, or another restoration, would bring it back."""
    merged = lease_file.merge([one_row(lifetime=0)], [])

    assert line(5, lifetime=0) in lease_file.render(merged, KEA_2_6).decode()


def test_a_row_is_of_a_subnet_by_id_and_by_address() -> None:
    """An id that means another prefix now is not the lease's subnet."""
    row = one_row(5).rows[IPv4Address("192.0.2.5")]

    assert row.is_of({1: IPv4Network("192.0.2.0/24")})
    assert not row.is_of({2: IPv4Network("192.0.2.0/24")})
    assert not row.is_of({1: IPv4Network("198.51.100.0/24")})


# --- whatever the leases --------------------------------------------------------------------

# Few addresses and few moments, so that they meet.
rows = st.builds(
    line,
    st.integers(1, 3),
    cltt=st.integers(1000, 1003),
    lifetime=st.sampled_from([0, 0, 100, 200]),
    host=st.sampled_from(["", "a", "b&#x2cc"]),
    state=st.integers(0, 3),
)


@st.composite
def sets(draw: st.DrawFn) -> LeaseSet:
    """What a Kea of any version has: a file or several, each with some of the rows."""
    header = draw(st.sampled_from(HEADERS))
    present = draw(st.lists(st.sampled_from(lease_file.FILES), unique=True))
    cut = [
        [",".join(one.split(",")[: len(header)]) for one in draw(st.lists(rows, max_size=6))]
        for _ in present
    ]
    files = {
        path: content(*lines, header=",".join(header))
        for path, lines in zip(present, cut, strict=True)
    }
    return lease_file.load(files)


@given(
    st.dictionaries(
        st.sampled_from(lease_file.FILES),
        st.lists(rows | st.just("broken")).map(lambda lines: content(*lines)),
    )
)
def test_leases_are_counted_without_keeping_them(files: dict[str, bytes]) -> None:
    """As many as are found when they are kept."""
    found = lease_file.load(files)

    assert (found.in_use, found.unreadable) == lease_file.count(files)


@given(st.lists(sets(), max_size=2), st.lists(sets(), max_size=2))
def test_nothing_newer_is_ever_replaced(live: list[LeaseSet], saved: list[LeaseSet]) -> None:
    """The outcome of an address is a row that one of the sets has, and none is newer."""
    merged = lease_file.merge(live, saved)

    for address in {a for one in (*live, *saved) for a in one.rows}:
        won = merged[address]
        held_live = [one.rows[address] for one in live if address in one.rows]
        held = held_live + [one.rows[address] for one in saved if address in one.rows]
        assert any(won is one for one in held)
        assert won.cltt == max(one.cltt for one in held)
        if not any(won is one for one in held_live):
            # The backup's only when it is truly newer than what any host has.
            assert all(one.cltt < won.cltt for one in held_live)


@given(st.lists(sets(), max_size=3), st.lists(sets(), max_size=3), st.randoms())
def test_the_order_of_the_sets_does_not_matter(
    live: list[LeaseSet], saved: list[LeaseSet], shuffled: random.Random
) -> None:
    """Either host first."""
    before = lease_file.render(lease_file.merge(live, saved), KEA_2_6)
    shuffled.shuffle(live)
    shuffled.shuffle(saved)

    assert before == lease_file.render(lease_file.merge(live, saved), KEA_2_6)


@given(
    st.lists(sets(), min_size=2, max_size=2),
    st.lists(sets(), max_size=2),
    st.lists(st.sampled_from(HEADERS), min_size=2, max_size=2),
)
def test_merging_again_changes_nothing(
    live: list[LeaseSet], saved: list[LeaseSet], headers: list[tuple[str, ...]]
) -> None:
    """Not even between hosts whose files have other columns."""
    merged = lease_file.merge(live, saved)
    written = [lease_file.render(merged, header) for header in headers]

    again = lease_file.merge([lease_file.load({LEASES: one}) for one in written], saved)

    assert written == [lease_file.render(again, header) for header in headers]


@given(
    st.lists(sets(), min_size=2, max_size=2),
    st.lists(sets(), max_size=2),
    st.lists(st.sampled_from(HEADERS), min_size=2, max_size=2),
    st.integers(0, 1),
)
def test_merging_after_half_of_it_was_written_ends_the_same(
    live: list[LeaseSet],
    saved: list[LeaseSet],
    headers: list[tuple[str, ...]],
    first: int,
) -> None:
    """One host has its file, then the run is killed. A file keeps its columns, if there is one."""
    merged = lease_file.merge(live, saved)
    half = list(live)
    header = live[first].header or headers[first]
    half[first] = lease_file.load({LEASES: lease_file.render(merged, header)})

    again = lease_file.merge(half, saved)

    assert {a: (r.cltt, r.valid_lifetime) for a, r in merged.items()} == {
        a: (r.cltt, r.valid_lifetime) for a, r in again.items()
    }


@given(sets(), st.sampled_from(HEADERS), st.lists(rows, max_size=6))
def test_the_written_file_supersedes_those_that_are_moved_aside_after_it(
    live: LeaseSet, header: tuple[str, ...], others: list[str]
) -> None:
    """Killed in between, Kea loads the others first, and then the written one."""
    older = lease_file.load({FIRST: content(*others)})
    written = lease_file.render(lease_file.merge([live, older], []), header)

    both = lease_file.load({FIRST: content(*others), LEASES: written})

    assert lease_file.load({LEASES: written}).rows == both.rows
