"""A change of a pair's CAs: at each stage hosts of it and of the one before accept each other."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from kea_ha.pki.ca_store import STAGES, Store
from kea_ha.pki.certificates import CLIENT_AUTH, PkiError, are_the_same, check_identity
from tests.unit.identities import csr, new_key

ROOT = Path(__file__).parents[2]
PASSPHRASE = "correct horse battery staple"  # noqa: S105
TRUST_BOTH, SIGN_NEW, TRUST_NEW = STAGES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "pki" / "lab"


def leaf(store: Store) -> str:
    """A certificate of a host, as the store signs it now."""
    return store.sign_peer(csr(new_key()), name="host-1", address="192.168.1.2")


def host(store: Store) -> tuple[str, str]:
    """Anchor and certificate of a host that is as the store wants it now."""
    return store.peers.trusted, leaf(store)


def test_hosts_of_neighbouring_stages_accept_each_other(directory: Path) -> None:
    """Whatever is changed first: the pair is one at every moment of the change."""
    store = Store.open(directory, "lab")
    hosts = [host(store)]
    for stage in STAGES:
        store.change_cas(stage)
        hosts.append(host(store))
    store.end_change()
    hosts.append(host(store))
    for before, after in pairwise(hosts):
        for (anchor, _), (_, certificate) in ((before, after), (after, before)):
            assert check_identity(certificate, anchor) == ()


def test_afterwards_the_old_ca_is_worth_nothing_and_gone(directory: Path) -> None:
    store = Store.open(directory, "lab")
    anchor, certificate = host(store)
    client = store.client_certificate().certificate.read_text()
    key = store.client_certificate().key.read_text()
    for stage in STAGES:
        store.change_cas(stage)
    assert check_identity(certificate, store.peers.trusted) != ()
    store.end_change()
    new = Store.open(directory, "lab")
    assert check_identity(certificate, new.peers.trusted) != ()
    assert check_identity(leaf(new), anchor) != ()
    assert not new.peers.knows(anchor)
    mine = new.client_certificate().certificate.read_text()
    assert check_identity(mine, new.api.trusted, purposes={CLIENT_AUTH}) == ()
    assert check_identity(client, new.api.trusted, purposes={CLIENT_AUTH}) != ()
    assert key != new.client_certificate().key.read_text()
    assert "next" not in "".join(path.name for path in directory.iterdir())


def test_the_api_client_is_known_at_every_stage(directory: Path) -> None:
    """By hosts of the stage, and by those that have not reached it yet."""
    store = Store.open(directory, "lab")
    trusted = [store.api.trusted]
    for stage in STAGES:
        store.change_cas(stage)
        trusted.append(store.api.trusted)
        mine = store.client_certificate().certificate.read_text()
        for anchor in trusted[-2:]:
            assert check_identity(mine, anchor, purposes={CLIENT_AUTH}) == ()


def test_a_host_that_was_left_behind_by_a_stage_is_taken_along(directory: Path) -> None:
    """And not for a stranger's."""
    store = Store.open(directory, "lab")
    before = store.peers.trusted
    for stage in STAGES:
        store.change_cas(stage)
        assert store.peers.knows(before)
        assert store.peers.knows(store.peers.trusted)
        before = store.peers.trusted


def copy_of(store: Store, to: Path) -> Store:
    shutil.copytree(store.directory, to)
    return Store(to, store.pair)


def test_a_copy_of_an_earlier_stage_tells_that_hosts_have_gone_further(tmp_path: Path) -> None:
    """A second operator's pki/ must not take the pair back to what was dropped."""
    store = Store.open(tmp_path / "pki" / "lab", "lab")
    copies = [copy_of(store, tmp_path / "steady")]
    for stage in STAGES:
        store.change_cas(stage)
        copies.append(copy_of(store, tmp_path / stage))
    for number, stage in enumerate(STAGES):
        # What hosts have when they are two stages further than the copy, or three.
        for later in copies[number + 2 :]:
            anchor, certificate = host(later)
            behind = copies[number].peers
            assert not behind.knows(anchor) or behind.is_behind(certificate), stage
    store.end_change()
    anchor, _ = host(store)
    assert [False, False, False, True] == [one.peers.knows(anchor) for one in copies]


def test_a_stage_is_reached_once_and_none_is_skipped(directory: Path) -> None:
    store = Store.open(directory, "lab")
    with pytest.raises(PkiError, match="not at the stage before"):
        store.change_cas(SIGN_NEW)
    assert store.stage is None
    store.change_cas(TRUST_BOTH)
    before = store.peers
    store.change_cas(TRUST_BOTH)
    assert store.peers == before
    with pytest.raises(PkiError, match="trust-both only"):
        store.end_change()
    with pytest.raises(PkiError, match="not at the stage before"):
        store.change_cas(TRUST_NEW)
    store.change_cas(SIGN_NEW)
    store.change_cas(TRUST_BOTH)
    assert store.stage == SIGN_NEW


def test_both_old_and_new_keys_are_encrypted(directory: Path) -> None:
    store = Store.open(directory, "lab", PASSPHRASE)
    store.change_cas(TRUST_BOTH)
    keys = list(directory.glob("*-ca*.key"))
    assert 4 == len(keys)
    for key in keys:
        assert load_ssh_private_key(key.read_bytes(), PASSPHRASE.encode())
        with pytest.raises((TypeError, ValueError)):
            load_ssh_private_key(key.read_bytes(), None)
    with pytest.raises(PkiError, match="no passphrase was given"):
        Store(directory, "lab").change_cas(SIGN_NEW)
    store.change_cas(SIGN_NEW)
    assert check_identity(leaf(store), store.peers.issuer) == ()


def test_keys_that_are_not_here_stop_the_change_before_anything(directory: Path) -> None:
    store = Store.open(directory, "lab")
    (directory / "api-ca.key").unlink()
    with pytest.raises(PkiError, match="is not here"):
        store.change_cas(TRUST_BOTH)
    assert store.stage is None


KILLED = """
import os, signal, sys
from pathlib import Path
from kea_ha.pki.ca_store import STAGES, Store
moment = int(sys.argv[2])
def killed(function):
    def wrapped(*given, **named):
        global moment
        moment -= 1
        if moment < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    return wrapped
Path.replace, Path.unlink, os.fsync = map(killed, (Path.replace, Path.unlink, os.fsync))
store = Store.open(Path(sys.argv[1]), "lab")
for stage in STAGES:
    store.change_cas(stage)
store.end_change()
"""


def test_a_change_that_was_killed_goes_on_from_there(tmp_path: Path) -> None:
    """At any moment the store is whole, signs, and comes to its end when it is run again."""
    for moment in range(200):
        directory = tmp_path / str(moment) / "lab"
        before = Store.open(directory, "lab").peers.trusted
        script = [sys.executable, "-c", KILLED, str(directory), str(moment)]
        status = subprocess.run(script, cwd=ROOT, check=False).returncode
        store = Store.open(directory, "lab")
        assert check_identity(leaf(store), store.peers.issuer) == ()
        assert check_identity(leaf(store), store.peers.trusted) == ()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if store.stage is not None or are_the_same(store.peers.trusted, before):
            for stage in STAGES:
                store.change_cas(stage)
            store.end_change()
        assert store.stage is None
        assert not store.peers.knows(before)
    assert moment > 10, "the moments were not found"
