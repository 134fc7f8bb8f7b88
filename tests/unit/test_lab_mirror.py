"""The lab takes its packages from where this machine takes its own, and from Debian alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import LabError
from lab.mirror import Index, Mirrors, choose_mirrors, parse_indexes

MAIN = Index("http://mirror.example/debian/", "bookworm", "main", "Debian")
UPDATES = Index("http://mirror.example/debian/", "bookworm-updates", "main", "Debian")
SECURITY = Index("http://mirror.example/security/", "bookworm-security", "main", "Debian")
OTHERS = [
    Index("https://vendor.example/apt/", "bookworm", "main", "Vendor"),
    Index("https://vendor.example/apt/", "bookworm-security", "main", "Vendor"),
    Index("http://mirror.example/nonfree/", "bookworm", "non-free", "Debian"),
    Index("cdrom://disk/", "bookworm", "main", "Debian"),
    Index("https://cloud.example/apt/", "cloud-bookworm", "main", "Cloud"),
]


@given(st.permutations([MAIN, UPDATES, SECURITY, *OTHERS]))
def test_debian_is_found_among_others_in_any_order(indexes: list[Index]) -> None:
    """A vendor's archive that carries a Debian release's name is never taken for Debian's."""
    assert Mirrors(MAIN.uri, SECURITY.uri) == choose_mirrors(indexes)


def test_an_archive_that_apt_has_not_read_yet_is_taken_for_debian() -> None:
    """On a machine that never ran `apt-get update`, the release's name decides."""
    unread = [Index(MAIN.uri, "trixie", "main", "$(ORIGIN)")]

    assert Mirrors(MAIN.uri, None) == choose_mirrors(unread)


def test_an_archive_known_to_be_debian_goes_before_an_unread_one() -> None:
    """What apt knows counts more than a name."""
    unread = Index("https://vendor.example/apt/", "bookworm", "main", "$(ORIGIN)")

    assert MAIN.uri == choose_mirrors([unread, MAIN]).main


@pytest.mark.parametrize("indexes", [[], OTHERS])
def test_without_a_debian_mirror_it_is_said_what_to_add(indexes: list[Index]) -> None:
    """The message names the remedy."""
    with pytest.raises(LabError, match=r"no Debian mirror .* add one"):
        choose_mirrors(indexes)


def test_what_apt_prints_is_parsed_line_by_line() -> None:
    """Lines that are not of the asked form are ignored."""
    text = "http://mirror.example/debian/|trixie|main|Debian\n\nnonsense\n"

    assert [Index("http://mirror.example/debian/", "trixie", "main", "Debian")] == parse_indexes(
        text
    )
