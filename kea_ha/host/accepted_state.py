"""The state that a host was last accepted in: kept there, and put back when a change does not work.

Documents, drop-ins, our firewall table, certificates, and which of our units were enabled; packages
are not kept. Keys are not either, since a new certificate is made for the old key; but a key that
the operator brings may change with its certificate. It stays on the host, root's alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from kea_ha import layout
from kea_ha.host import daemons
from kea_ha.host.daemons import DHCP4
from kea_ha.host.script import script
from kea_ha.host.survey import RemoteFile, Survey
from kea_ha.settings.model import Node, Pair


def is_kept(survey: Survey) -> bool:
    """Whether what is kept is what stands on the host now."""
    return bool(survey.kept) and not differing(survey, daemons.KEPT)


def is_of(pair: Pair, survey: Survey) -> bool:
    """Whether what is kept was accepted with these settings."""
    return survey.kept_settings.strip() == settings_text(pair)


def name_of(pair: Pair, surveys: Iterable[Survey]) -> str:
    """What the state that stands on both hosts is called, if one of them has kept it already.

    The other one has not come so far: it keeps another state, by another name.
    """
    names = [one.kept_names.get(layout.KEPT_DIR, "") for one in surveys]
    done = [n for n, s in zip(names, surveys, strict=True) if is_kept(s) and is_of(pair, s)]
    return done[0] if len(done) == 1 and len(set(names)) > 1 else ""


def next_name(first: str, surveys: Iterable[Survey]) -> str:
    """A name for a state that is accepted now; ``first`` is that of the first one in this run.

    A change of CAs has several. Hosts that are judged by the same surveys get the same name.
    """
    kept = [one.kept_names.get(layout.KEPT_DIR, "").partition("+") for one in surveys]
    numbers = [int(number or 0) for name, _, number in kept if name == first]
    return f"{first}+{max(numbers) + 1}" if numbers else first


def settings_text(pair: Pair) -> str:
    """The pair's settings as one line, to compare a later run's with."""
    return json.dumps(pair.settings.model_dump(mode="json"), sort_keys=True)


def hand_edits(survey: Survey) -> tuple[str, ...]:
    """The documents that are not as this project last left them; nothing if none is kept yet."""
    return differing(survey, daemons.DOCUMENTS) if survey.kept else ()


def differing(survey: Survey, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of these files that are not as what is kept."""

    def digest(files: Mapping[str, RemoteFile], path: str) -> str:
        return files[path].sha256 if path in files else "nothing"

    return tuple(p for p in paths if digest(survey.files, p) != digest(survey.kept, p))


def keep_script(node: Node, name: str) -> str:
    """Keep what stands on the host now under this name; what was kept before stays once more.

    The name is that of a state of the pair, the same on both hosts. The script reads the settings
    that it was accepted with. The kept state is complete under its directory's name, or not there:
    it takes that by a rename.
    """
    files = (*daemons.KEPT, *((layout.HA_KEY,) if node.own_certificates else ()))
    return script("keep", name=name, files=files, units=ALL_UNITS)


def put_back_script(kept: str = layout.KEPT_DIR) -> str:
    """Put back what is kept, file by file: the last accepted state, or another one."""
    return script("put_back", kept=kept, documents=daemons.DOCUMENTS)


def restart_script(units: Collection[str], kept: str = layout.KEPT_DIR) -> str:
    """Run, on what was put back, those of these units that were enabled then; stop the others."""
    return script("restart", kept=kept, units=units)


#: Our units but kea-dhcp4: no DHCP client notices when they are restarted.
OTHER_UNITS = (
    *(unit for unit in daemons.UNITS if unit not in DHCP4.units),
    layout.FIREWALL_UNIT,
    layout.EXPIRY_TIMER,
)
ALL_UNITS = (*DHCP4.units, *OTHER_UNITS)


def keep_key_script(path: str) -> str:
    """Keep a key beside its kept certificate, before both are replaced.

    It goes with the state that it belongs to. Where only a certificate is made anew, its key stays.
    """
    kept = f"{layout.KEPT_DIR}{path}"
    beside = f"{kept.removesuffix('.key')}.crt"
    new = f"{kept}.new"
    return (
        f"[ ! -e {beside} ] || [ -e {kept} ] || [ ! -e {path} ] || "
        f"{{ rm -f {new} && cp -a {path} {new} && sync {new} && mv {new} {kept}; }}"
    )
