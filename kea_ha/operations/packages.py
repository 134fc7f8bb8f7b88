"""Packages on a host: what the rollout needs, and Kea, installed and not started."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import StringCommand

from kea_ha import foreign
from kea_ha.host import daemons, desired_state
from kea_ha.host.survey import Survey
from kea_ha.session.remote import PATIENT_S, Commands, say
from kea_ha.session.surveys import changed, look_at, plan_for
from kea_ha.settings.model import Node, Pair


def prerequisites(node: Node) -> Commands:
    """Install what the rollout itself needs on a host; none of it starts a service."""
    missing = [name for name in desired_state.PREREQUISITES if name not in look_at(node).packages]
    if not missing:
        host.noop("openssl, curl and the DHCP probe are there")
        return
    say(f"    installing {', '.join(missing)}")
    yield apt_get(f"install {' '.join(missing)}")
    changed(node)


def kea(pair: Pair, node: Node) -> Commands:
    """Install Kea, masked: a package's own script would start it on the packaged example."""
    seen = look_at(node)
    wished = plan_for(pair, node)
    missing = [name for name in wished.packages if name not in seen.packages]
    if not missing:
        host.noop(f"{', '.join(wished.packages)} are there")
        return
    units = [
        one.of(pair).unit
        for one in daemons.wanted(pair.settings)
        if one.of(pair).package in missing
    ]
    if units:
        yield StringCommand("systemctl mask --quiet", *units)
    say(f"    installing {', '.join(missing)} (Kea {wished.platform.version})")
    # Beside a Kea that runs, its own version and no other: apt would upgrade both, and restart it.
    installed = desired_state.installed(pair, seen)
    pinned = [
        foreign.quoted(f"{name}={installed}") if installed and name in daemons.PACKAGES else name
        for name in missing
    ]
    yield apt_get(f"{suite_of(pair, seen)}install {' '.join(pinned)}")
    changed(node)


def suite_of(pair: Pair, seen: Survey) -> str:
    """The option by which apt takes Kea, and what it needs, from the configured source."""
    backports = pair.settings.package_source == "backports"
    return f"-t {foreign.quoted(f'{seen.codename}-backports')} " if backports else ""


def apt_get(arguments: str) -> StringCommand:
    """Call apt-get so that it asks nothing and keeps our documents."""
    # A killed run can leave dpkg half-way, or still at work: it is waited for, and mended first.
    # dpkg cannot configure what was cut off while it was unpacked; apt unpacks that again.
    return StringCommand(
        "export DEBIAN_FRONTEND=noninteractive;"
        ' [ -z "$(dpkg --audit)" ] || dpkg --configure -a;'
        " apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300"
        f" -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold {arguments} 2>&1",
        _timeout=PATIENT_S,
    )
