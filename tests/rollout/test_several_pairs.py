"""Several pairs in one inventory: each is a rollout of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rollout.conftest import make_operator
from tests.rollout.world import Tree, World

_NAMES = ("north", "south", "west", "east", "upper", "lower", "inner", "outer")


def test_one_pairs_failure_stops_that_pair_alone(ground: World, tree: Tree, tmp_path: Path) -> None:
    """The other two are accepted; the exit status tells that one was not."""
    pairs = {
        "north": ("oslo", "bergen.example.org"),
        "south": ("rome", "bari"),
        "west": ("w-1", "w-2"),
    }
    with World(ground) as world:
        operator = make_operator(tmp_path / "anna", world, tree, pairs)
        rome, bari = operator.pairs["south"]
        rome.sh(
            """echo 'DPkg::Pre-Invoke { "echo no space on device >&2; false"; };'"""
            " > /etc/apt/apt.conf.d/99broken"
        )

        outcome = operator.run()

        assert outcome.status == 1
        assert outcome.block_of("north").startswith("north: accepted. oslo serves")
        assert outcome.block_of("west").startswith("west: accepted. w-1 serves")
        assert outcome.block_of("south").startswith("south: stopped")
        assert "  Host  rome\n" in outcome.block_of("south")
        assert bari.traces_of_kea() == []

        rome.sh("rm /etc/apt/apt.conf.d/99broken")
        outcome = operator.run()

        assert outcome.status == 0, outcome.output
        assert outcome.block_of("south").startswith("south: accepted. rome serves")

        # The clients of two drills at once would be the same ones.
        drill = operator.run("-y", "inventory.py", "runbook/drill.py")
        assert drill.status == 1
        assert "--limit north --limit probes" in drill.output


@pytest.mark.slow
def test_eight_pairs_roll_out_side_by_side(ground: World, tree: Tree, tmp_path: Path) -> None:
    """All are accepted, in much less than eight times the time of one."""
    seconds = {}
    for count in (1, 8):
        with World(ground) as world:
            pairs = {name: (f"{name}-1", f"{name}-2") for name in _NAMES[:count]}
            operator = make_operator(tmp_path / f"anna{count}", world, tree, pairs)

            outcome = operator.run()

            assert outcome.status == 0, outcome.output
            for name in pairs:
                assert outcome.block_of(name).startswith(f"{name}: accepted.")
            seconds[count] = outcome.seconds
    print(f"one pair {seconds[1]:.1f} s, eight pairs {seconds[8]:.1f} s")
    assert seconds[8] < 6 * seconds[1]
