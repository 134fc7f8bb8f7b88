"""Give a host its certificates: its key is made there and never leaves."""

from __future__ import annotations

from pyinfra import host, state
from pyinfra.api import StringCommand
from pyinfra.api.command import QuoteString

from kea_ha import foreign, layout
from kea_ha.host import accepted_state, desired_state
from kea_ha.host.script import script
from kea_ha.host.survey import Survey
from kea_ha.operations.files import rename, write
from kea_ha.pki import ca_store, certificates
from kea_ha.refusal import Refusal
from kea_ha.session.learned import RUN
from kea_ha.session.remote import Commands, ask, need, say
from kea_ha.session.surveys import COPY_PKI, PKI_DIR, changed, look_at, store_for
from kea_ha.settings.model import Node, OwnCertificates, Pair


def identity(pair: Pair, node: Node, *, which: str) -> Commands:
    """Give the host one of its identities: ``ha`` towards its partner, ``api`` on the CA's port.

    The key is made on the host and stays there; a signing request comes out, and the certificate
    and the anchor go in.
    """
    if which == "api" and pair.settings.control_channel == "none":
        host.noop("nothing listens for API clients")
        return
    if which == "ha" and node.own_certificates is not None:
        yield from _own_identity(node, node.own_certificates)
        return
    if not state.is_executing and not ca_store.Store.exists(PKI_DIR / pair.name):
        yield StringCommand("true")  # listing changes must not make a CA
        return
    # An anchor that the operator brought came from no `pki/`.
    ours = {layout.API_ANCHOR} if node.own_certificates else {layout.HA_ANCHOR, layout.API_ANCHOR}
    if not ca_store.Store.exists(PKI_DIR / pair.name) and ours & look_at(node).certificates.keys():
        raise Refusal(
            f"there is no {PKI_DIR / pair.name}/ here, and {node.name} has certificates of it",
            COPY_PKI,
        )
    store = store_for(pair)
    authority = store.peers if which == "ha" else store.api
    findings = desired_state.identity_findings(
        node, look_at(node), which, authority, RUN.renew_before
    )
    if not findings:
        host.noop("valid, and of this pair's CA")
        return
    say(f"    {'; '.join(findings)}")
    base = f"{layout.TLS_DIR}/{which}"
    key = f"{base}.key"
    held = look_at(node).certificates.get(f"{base}.crt")
    # Beside a certificate of another CA is a key from before. A CA is changed since a key may be
    # known to others, so a new one signs only new keys.
    if another := held is not None and not certificates.chains(held, authority.issuer):
        key = f"{key}.new"
        yield StringCommand("rm -f", key)  # of a run that was cut off, who knows when
    yield StringCommand(script(*_CLOSE, "make_key", key=key))
    request = need(
        host,
        f"openssl req -new -key {key} -subj {foreign.quoted(f'/CN={node.server_name}')}",
        what="no signing request could be made",
        remedy=f"check {key} on {node.name}; removing it makes a new one",
    )
    sign = store.sign_peer if which == "ha" else store.sign_api_server
    certificate = sign(request, name=node.name, address=node.address)
    owner, mode = _identity_owner(look_at(node))
    # The anchor first: a certificate without its anchor would be taken for a stranger's.
    yield write(f"{base}-ca.crt", authority.trusted, mode=mode, owner=owner)
    yield write(f"{base}.crt", certificate, mode=mode, owner=owner)
    yield rename(f"{base}-ca.crt")
    if another:
        yield StringCommand(accepted_state.keep_key_script(f"{base}.key"))
    # One after the other at once: Kea that starts in between would not.
    yield rename(*((f"{base}.key",) if another else ()), f"{base}.crt")
    changed(node)


_CLOSE = ("as_kea", "closing", "close_identities")


def _identity_owner(seen: Survey) -> tuple[str, str]:
    installed = any(name in seen.packages for name in ("kea-common", "isc-kea-dhcp4"))
    return ("root:_kea", "640") if installed else ("root:root", "600")


def _own_identity(node: Node, own: OwnCertificates) -> Commands:
    """Copy, on the host, an identity that the operator keeps there, to where Kea may read it."""
    copies = [
        (own.key, layout.HA_KEY),
        (own.certificate, layout.HA_CERTIFICATE),
        (own.anchor, layout.HA_ANCHOR),
    ]
    same = " && ".join(f"cmp -s {foreign.quoted(source)} {target}" for source, target in copies)
    if ask(host, same).ok:
        host.noop("the host's own certificates are in use")
        return
    owner, mode = _identity_owner(look_at(node))
    yield StringCommand(script(*_CLOSE))
    yield StringCommand(accepted_state.keep_key_script(layout.HA_KEY))
    for source, target in copies:
        yield StringCommand(
            "umask 077; cat", QuoteString(source), f">{target}.new",
            f"&& chown {owner} {target}.new && chmod {mode} {target}.new",
        )  # fmt: skip
    for _, target in copies:
        yield rename(target)
    changed(node)
