"""The world of each test, and the operator in it. What hosts have in common is made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rollout.operator import Operator
from tests.rollout.world import StandIn, Tree, World, bake

Rollout = Callable[..., Operator]


@pytest.fixture(scope="session")
def ground() -> Iterator[World]:
    """Where the layers are kept that all hosts share."""
    if os.geteuid() != 0:
        pytest.fail("stand-in hosts are made of namespaces and mounts: run these tests as root")
    with World() as world:
        yield world


@pytest.fixture(scope="session")
def tree(ground: World) -> Tree:
    """What a fresh host is: Debian 13 without Kea."""
    return bake(ground)


def make_operator(
    directory: Path, world: World, tree: Tree, pairs: dict[str, tuple[str, str]]
) -> Operator:
    """An operator with these pairs of fresh hosts."""
    hosts: dict[str, list[StandIn]] = {}
    number = 0
    for pair, names in pairs.items():
        hosts[pair] = []
        for name in names:
            number += 1
            hosts[pair].append(StandIn(world, tree, name, f"192.0.2.{1 + number}", number))
    return Operator(directory, world, hosts)


@pytest.fixture
def operator(ground: World, tree: Tree, tmp_path: Path) -> Iterator[Operator]:
    """An operator with one pair of fresh hosts, `office`: dhcp-a (primary) and dhcp-b."""
    with World(ground) as world:
        yield make_operator(tmp_path / "anna", world, tree, {"office": ("dhcp-a", "dhcp-b")})
