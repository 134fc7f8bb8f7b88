"""What is known of the hosts: read once, and again only after something has changed.

One survey of a host answers every question of a step, so a step costs one remote command. Whoever
changes something on a host says so (``changed``), and the next question reads it anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from pyinfra import inventory
from pyinfra.api.host import Host

from kea_ha import layout
from kea_ha.decide.client_impact import Anchors
from kea_ha.foreign import ForeignError
from kea_ha.host import desired_state, file_transfer, survey
from kea_ha.host.daemons import DHCP4
from kea_ha.host.desired_state import Plan
from kea_ha.host.survey import Question, Survey
from kea_ha.kea import lease_file
from kea_ha.pki import ca_store
from kea_ha.pki.certificates import PkiError
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.remote import AGAIN, AS_ROOT, ask
from kea_ha.settings.model import Node, Pair

PKI_DIR = Path("pki")
#: The remedy where the CAs of a pair that was rolled out are not on this machine.
COPY_PKI = "copy it from the machine that rolled this pair out (docs/runbook.md, Keep pki/)"
#: How long the files of a host may be on their way, in seconds: a million leases are some 20 MB.
COPYING_S = 600


#: The remedy when a host answers, and not as its programs would.
_STRANGE = (
    "run the same command again; if it answers so once more, see who has changed programs there "
    "(docs/security.md, What a host may do)"
)


def host_of(node: Node) -> Host:
    """pyinfra's host for a node of a pair, also when ``--limit`` leaves it out."""
    return inventory.get_host(node.name)


def unit_of(pair: Pair) -> str:
    """The unit of kea-dhcp4 on the hosts of this pair."""
    return DHCP4.of(pair).unit


def look_at(node: Node, *, anew: bool = False) -> Survey:
    """The survey of a host: the one at hand, unless something changed there since.

    :raises Refusal: when the host does not answer, or not in full.
    """
    if anew or node.name not in RUN.surveys:
        before = time.time()
        found = read(node)
        RUN.surveys[node.name] = found
        # The script reads the clock first, so its answer is nearer to the start.
        RUN.skews[node.name] = found.epoch - before
    return RUN.surveys[node.name]


def read(node: Node, kept: str = layout.KEPT_DIR) -> Survey:
    """Survey a host; ``kept`` is the accepted state that it is to tell of.

    :raises Refusal: when the host does not answer, or not in full.
    """
    pair = RUN.pair_of(node.name)
    partner = pair.partner_of(node).address if pair else ""
    question = Question(node.own_certificates, kept, partner)
    for last in (False, True):  # a file may be replaced at the very moment
        answer = ask(host_of(node), survey.build_script(question))
        try:
            return survey.parse_survey(answer.stdout, question)
        except ForeignError as error:
            if not answer.ok:
                why = f"{node.name} could not be read: {error}: {answer.words}"
                raise Refusal(why, AS_ROOT) from error
            if last:
                raise Refusal(f"{node.name} could not be read: {error}", _STRANGE) from error
    raise AssertionError("a loop that ends by returning or raising")


def files_of(node: Node, plain: Sequence[str]) -> dict[str, bytes | Path]:
    """These files of a host, and the set of its lease files, by their paths.

    Lease files are on this machine's disk for as long as the run goes on.

    :raises Refusal: when the host does not answer, or not in full.
    """
    script = file_transfer.read_script(plain, lease_file.FILES)
    try:
        directory = Path(mkdtemp(dir=RUN.room()))
        with (directory / "answer").open("wb") as file:
            answer = ask(
                host_of(node),
                script,
                timeout_s=COPYING_S,
                most=file_transfer.MOST,
                sink=file.write,
            )
        if not answer.ok:
            raise Refusal(f"{node.name} could not be read: {answer.words}", AS_ROOT)
        found = file_transfer.unpack(directory / "answer", directory, plain, lease_file.FILES)
        (directory / "answer").unlink()
    except ForeignError as error:
        raise Refusal(f"{node.name} could not be read: {error}", AS_ROOT) from error
    except OSError as error:
        raise Refusal(
            f"what {node.name} sent could not be kept here: {error.strerror}",
            "see to room on this machine, then run the same command again",
        ) from error
    return found


def plan_for(pair: Pair, node: Node) -> Plan:
    """What the host should be like, by what it is known to be."""
    try:
        return desired_state.make_plan(pair, node, look_at(node))
    except ValueError as error:
        raise Refusal(f"{node.name} cannot be planned for: {error}", AGAIN) from error


def changed(node: Node) -> None:
    """What was known of the host no longer holds."""
    RUN.surveys.pop(node.name, None)


def store_for(pair: Pair) -> ca_store.Store:
    """The pair's CAs on this machine, made when they are not there.

    :raises PkiError: when they are damaged, or locked by a passphrase that was not given.
    """
    store = ca_store.Store.open(
        PKI_DIR / pair.name, pair.name, os.environ.get(ca_store.PASSPHRASE_VARIABLE)
    )
    if note := store.passphrase_note():
        RUN.warn(pair, note)
    return store


def authorities_at_hand(pair: Pair) -> ca_store.Store:
    """The pair's CAs on this machine; nothing is made, or written.

    :raises PkiError: when there are none.
    """
    directory = PKI_DIR / pair.name
    if not ca_store.Store.exists(directory):
        raise PkiError(
            f"there is no {directory}/ here",
            COPY_PKI,
        )
    return ca_store.Store(directory, pair.name, os.environ.get(ca_store.PASSPHRASE_VARIABLE))


def anchors_for(pair: Pair) -> Anchors:
    """The pair's CAs as they are on this machine; nothing is made.

    :raises PkiError: when they are damaged.
    """
    if not ca_store.Store.exists(PKI_DIR / pair.name):
        return Anchors(renew_before=RUN.renew_before)
    store = ca_store.Store(PKI_DIR / pair.name, pair.name)
    return Anchors(store.peers, store.api, RUN.renew_before)


def change_of_cas(pair: Pair) -> str | None:
    """How far a change of this pair's CAs has come; None when none is under way.

    :raises PkiError: when that cannot be read.
    """
    return ca_store.Store(PKI_DIR / pair.name, pair.name).stage
