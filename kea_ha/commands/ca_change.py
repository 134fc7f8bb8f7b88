"""Change the CAs themselves, on the operator's machine.

What hosts are to have follows from the stage of the change; they get it by the rolling change that
comes after each stage. See ``ca_store.STAGES``.
"""

from __future__ import annotations

from pyinfra import host, state

from kea_ha import layout
from kea_ha.decide import acceptance
from kea_ha.operations import host_marks
from kea_ha.pki import ca_store
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.operation import CHANGED, Outcome
from kea_ha.session.remote import say
from kea_ha.session.surveys import PKI_DIR, change_of_cas, look_at, store_for
from kea_ha.settings.model import Pair

_SAID = {
    ca_store.TRUST_BOTH: "there are new CAs; both hosts are to trust them beside the old ones",
    ca_store.SIGN_NEW: "from here on the new CAs sign; both hosts are to get certificates of "
    "theirs",
    ca_store.TRUST_NEW: "both hosts are to trust the new CAs alone",
}


def change_cas(pair: Pair, *, stage: str, force: bool) -> Outcome:
    """Go on to the next stage of a change of CAs, once both hosts have reached the one before."""
    if host.name != pair.primary.name or not state.is_executing:
        return "done once for the pair"
    if not ca_store.Store.exists(PKI_DIR / pair.name):
        raise Refusal(
            f"there is no {PKI_DIR / pair.name}/ here to change",
            "copy it from the machine that rolled this pair out (docs/runbook.md, Keep pki/)",
        )
    reached = change_of_cas(pair)
    if reached is not None and ca_store.STAGES.index(reached) >= ca_store.STAGES.index(stage):
        return "it is there, or beyond"
    found = acceptance.health_findings(pair, {n.name: look_at(n, anew=True) for n in pair.nodes})
    if found and not force:
        listed = "\n".join(found)
        raise Refusal(
            f"the CAs of a damaged pair are not changed:\n{listed}",
            "mend it first: pyinfra -y inventory.py runbook/recover.py says how",
        )
    store_for(pair).change_cas(stage)
    say(f"    {_SAID[stage]}")
    return CHANGED


def end_change(pair: Pair) -> Outcome:
    """Keep the new CAs alone, on the operator's machine."""
    if host.name != pair.primary.name or not state.is_executing:
        return "done once for the pair"
    store_for(pair).end_change()
    RUN.warn(
        pair,
        f"the pair has new CAs: copy {PKI_DIR / pair.name}/ anew to wherever a copy of it is kept "
        "or used (docs/runbook.md, Keep pki/)",
    )
    return CHANGED


def forget_before(pair: Pair) -> Outcome:
    """Remove what could bring the old CAs back.

    Where no API clients are served, also what is left for them: it is of the old CA.
    """
    left = (*layout.API_FILES, layout.API_KEY) if pair.settings.control_channel == "none" else ()
    also = [f"{place}{path}" for place in ("", layout.KEPT_DIR) for path in left]
    return host_marks.forget_before(pair, also)
