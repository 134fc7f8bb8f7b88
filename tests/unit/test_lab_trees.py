"""A cached tree is used only for the recipe that it was made by."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import LabError
from lab.archive import sources_list
from lab.trees import Recipe, recipes

NAMES = st.lists(st.sampled_from(["curl", "openssl", "nftables"])).map(tuple)
RECIPES = st.builds(
    Recipe,
    name=st.just("hosts"),
    suite=st.sampled_from(["bookworm", "trixie"]),
    include=NAMES,
    offer=NAMES,
    backports=st.booleans(),
)


@given(RECIPES, RECIPES)
def test_equal_recipes_and_only_they_share_a_key(one: Recipe, other: Recipe) -> None:
    """Whatever differs in a recipe, another tree is made."""
    assert (one == other) == (one.key == other.key)


def test_trees_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_CACHE_HOME decides where, and `~/.cache` without it."""
    recipe = recipes("13")["hosts"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert tmp_path / "kea-ha-lab" == recipe.path.parent

    monkeypatch.delenv("XDG_CACHE_HOME")

    assert Path.home() / ".cache" / "kea-ha-lab" == recipe.path.parent


@pytest.mark.parametrize("debian", ["12", "13", "testing"])
def test_the_client_is_the_same_whatever_the_hosts_are(debian: str) -> None:
    """What probes does not change with what is probed."""
    assert recipes("13")["client"] == recipes(debian)["client"]


@pytest.mark.parametrize("debian", ["12", "13", "testing"])
def test_hosts_come_without_kea_and_without_a_dhcp_client(debian: str) -> None:
    """All that a rollout needs on a host, it has to bring itself."""
    included = recipes(debian)["hosts"].include

    assert [] == [name for name in included if "kea" in name or "dhc" in name]


def test_an_unknown_debian_is_refused_with_the_known_ones() -> None:
    """The message lists what is allowed."""
    with pytest.raises(LabError, match=r"'11'.*12, 13, testing"):
        recipes("11")


def test_backports_are_offered_where_kea_is_in_them() -> None:
    """Debian 13 alone has two versions of Kea to choose from."""
    offered = {debian: recipes(debian)["hosts"].suites for debian in ("12", "13", "testing")}

    assert {
        "12": ("bookworm",),
        "13": ("trixie", "trixie-backports"),
        "testing": ("forky",),
    } == offered
    # every changed recipe is a new tree, so this must be part of it
    assert recipes("13")["hosts"].key != replace(recipes("13")["hosts"], backports=False).key


def test_machines_install_from_inside_the_lab_alone() -> None:
    """No source leads to the network."""
    lines = sources_list(["trixie", "trixie-backports"]).splitlines()

    assert 2 == len(lines)
    assert [] == [line for line in lines if " file:/" not in line]
