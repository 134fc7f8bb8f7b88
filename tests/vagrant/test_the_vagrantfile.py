"""The Vagrantfile describes machines that either provider takes; nothing is brought up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lab import places
from lab.pair import PAIR_FILE

# As much of VirtualBox as Vagrant asks for before it judges a Vagrantfile.
VBOXMANAGE = "#!/bin/sh\necho 7.0.20r163906\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Vagrant reads, to be changed."""
    (tmp_path / "lab").mkdir()
    for name in ("Vagrantfile", "lab/vagrant.rb", "lab/pair.yaml"):
        shutil.copy(places.PROJECT / name, tmp_path / name)
    return tmp_path


def vagrant(
    project: Path, *words: str, provider: str = "libvirt", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Vagrant in `project` with that provider as the one in use."""
    tools = project / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "VBoxManage").write_text(VBOXMANAGE)
    (tools / "VBoxManage").chmod(0o755)
    return subprocess.run(
        ["vagrant", *words],
        cwd=project,
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "VAGRANT_DEFAULT_PROVIDER": provider,
            "KEA_HA_DRIVER": "qemu",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
def test_it_is_valid(project: Path, provider: str) -> None:
    """`vagrant validate` finds nothing wrong, and finds a misspelt setting of that provider."""
    valid = vagrant(project, "validate", provider=provider)
    assert valid.returncode == 0, valid.stdout + valid.stderr

    text = (project / "Vagrantfile").read_text()
    wrong = text.replace(f"{provider}.memory", f"{provider}.memroy")
    assert wrong != text
    (project / "Vagrantfile").write_text(wrong)
    refused = vagrant(project, "validate", provider=provider)
    assert refused.returncode != 0
    assert "memroy" in refused.stdout + refused.stderr


def test_its_machines_are_those_of_the_pair(project: Path) -> None:
    """Names come from lab/pair.yaml alone."""
    renamed = PAIR_FILE.read_text().replace("host-1:", "north:")
    (project / "lab/pair.yaml").write_text(renamed)
    pair = yaml.safe_load(renamed)

    said = vagrant(project, "status", "--machine-readable").stdout

    expected = {*pair["hosts"], pair["client"]["name"]}
    assert expected == set(re.findall(r"^\d+,([^,]+),provider-name,", said, re.MULTILINE))
    assert "north" in expected
