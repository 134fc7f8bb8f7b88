"""The shell that runs on hosts: how it is given values, and that its paths are those of layout."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kea_ha import layout
from kea_ha.host import frames
from kea_ha.host.script import script

FILES = sorted(Path("files/host").glob("*.sh"))
#: What scripts have of their own below our directories, for as long as they run or for good.
THEIR_OWN = {
    *("/run/kea-ha/controls", "/run/kea-ha/listener.err", "/run/kea-ha-drill-flap"),
    *("/var/lib/kea-ha/adopted", "/var/lib/kea-ha/drill"),
}


def printed(text: str) -> str:
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_shell_and_its_paths_are_those_of_layout(path: Path) -> None:
    known = {value for value in vars(layout).values() if isinstance(value, str)} | THEIR_OWN
    known |= {f"{layout.KEPT_DIR}/{name}" for name in ("settings", "units", "name")}
    text = path.read_text()

    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    named = re.findall(r"/(?:etc|run|var/lib|var/log)/kea(?:[a-z0-9/_-]|\.(?=[a-z]))*", text)
    assert {one.rstrip("/") for one in named} <= known


@pytest.mark.parametrize("value", ["", "a  b", "'", '"$(id)`id`"', "*", "\\n", "-n", "~", "a\nb"])
def test_a_value_means_nothing_but_itself(value: str) -> None:
    assert value == printed(script(value=value) + 'printf %s "$value"')


def test_of_a_list_each_word_is_one() -> None:
    """Also one with blanks or quotes in it, and one that is the pattern of a file that is there."""
    words = ["a  b", "'", '"$HOME"', "/et*", "\\", "-e", "é "]
    loop = 'for one in $words; do printf "<%s>" "$one"; done; printf "[%s]" $words'
    expected = "".join(f"<{one}>" for one in words) + "".join(f"[{one}]" for one in words)
    assert expected == printed(script(words=words) + loop)
    assert "" == printed(script(words=()) + 'for one in $words; do echo "$one"; done')


@pytest.mark.parametrize("word", ["", "two\nlines"])
def test_a_word_that_would_be_none_or_two_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="words"):
        script(words=["a", word])


def test_a_script_that_lacks_a_value_ends() -> None:
    done = subprocess.run(["sh", "-c", script("keep_leases")], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"kept" in done.stderr


def test_a_lock_that_could_not_be_written_is_not_held(tmp_path: Path) -> None:
    """As on a full disk. Two operators would both go on, and restart both servers."""
    locking = frames.framed(script("lock")).replace("/run/kea-ha", str(tmp_path))
    (tmp_path / "lock.new").mkdir()

    done = subprocess.run(["sh", "-c", locking], input=b"anna", capture_output=True, check=False)

    assert done.returncode != 0
    assert not (tmp_path / "lock").exists()
