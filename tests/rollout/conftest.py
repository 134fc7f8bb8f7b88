"""The world of each test, and the operator in it. What hosts have in common is made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.host import daemons
from kea_ha.host.daemons import AGENT, DHCP4
from tests.rollout.operators import Operator, Outcome
from tests.rollout.world import StandIn, Tree, World, bake


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


@dataclass(frozen=True)
class Accepted:
    """A pair that was rolled out and accepted, and the outcome of that first rollout."""

    operator: Operator
    first: Outcome


@pytest.fixture(scope="session")
def _accepted(
    ground: World, tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Accepted]:
    with World(ground) as world:
        directory = tmp_path_factory.mktemp("accepted") / "anna"
        operator = make_operator(directory, world, tree, {"office": ("dhcp-a", "dhcp-b")})
        yield Accepted(operator, operator.run())


@pytest.fixture
def accepted(_accepted: Accepted) -> Iterator[Accepted]:
    """A live pair. Tests share it: each must leave it as it is, which is seen to here."""
    assert _accepted.first.status == 0, _accepted.first.output
    hosts = _accepted.operator.pairs["office"]
    before = [state_of(host) for host in hosts]
    yield _accepted
    assert before == [state_of(host) for host in hosts]


def state_of(host: StandIn) -> dict[str, object]:
    """What a run that changes nothing leaves alone: processes, and files to the very inode."""
    found: dict[str, object] = {
        unit: host.main_pid(unit) for unit in (DHCP4.debian.unit, AGENT.debian.unit)
    }
    for path in (*daemons.DOCUMENTS, *layout.KEYS, *layout.HA_FILES, *layout.API_FILES):
        file = host.path(path)
        if file.exists():
            found[path] = (file.stat().st_ino, file.read_bytes())
    return found | {"files": host.snapshot()}
