"""Two hosts of an accepted pair as they were really read, and the pair that they belong to."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from kea_ha import layout
from kea_ha.decide.client_impact import Anchors
from kea_ha.host import accepted_state, daemons, frames
from kea_ha.host.daemons import AGENT, DHCP4
from kea_ha.host.desired_state import Plan, make_plan
from kea_ha.host.mark import UnderWay, Work
from kea_ha.host.survey import UNITS, Question, RemoteFile, Survey, parse_survey
from kea_ha.pki.ca_store import Authority
from kea_ha.settings.build import build_pair
from kea_ha.settings.model import Pair

UNIT = DHCP4.debian.unit
DATA = Path(__file__).with_name("data")
HOSTS = {
    "host-1": {"role": "primary", "server_name": "server1", "address": "192.168.1.2"},
    "host-2": {"role": "standby", "server_name": "server2", "address": "192.168.1.3"},
}
SUBNETS = [
    {
        "subnet": "192.168.1.0/24",
        "id": 1,
        "pools": ["192.168.1.100-192.168.1.199"],
        "options": {"routers": "192.168.1.1"},
    }
]


def lab_pair(**settings: object) -> Pair:
    """The documented pair, with some settings changed."""
    given = {"subnets": SUBNETS, **settings}
    return build_pair("lab", {name: {**given, **host} for name, host in HOSTS.items()})


TOKEN = frames.TOKEN
QUESTIONS = {
    "host-1": Question(partner=HOSTS["host-2"]["address"]),
    "host-2": Question(partner=HOSTS["host-1"]["address"]),
}


def said_by(host: str) -> dict[str, bytes]:
    """The values that the survey's script sent from a host of the lab (Debian 13, accepted)."""
    recorded = json.loads((DATA / f"survey-{host}.json").read_text())
    # Of units that are asked for since then the host would say that they are not there.
    shown = dict(zip(RECORDED_UNITS, recorded["units"].strip("\n").split("\n\n"), strict=True))
    blocks = [shown.get(unit, "LoadState=not-found\nActiveState=inactive") for unit in UNITS]
    recorded["units"] = "\n\n".join(blocks) + "\n"
    return {name: text.encode() for name, text in recorded.items()}


#: The units that were asked for when the lab's hosts were recorded, in that order.
RECORDED_UNITS = (
    *("kea-dhcp4-server.service", "kea-ctrl-agent.service"),
    *("isc-kea-dhcp4-server.service", "isc-kea-ctrl-agent.service"),
    *(layout.FIREWALL_UNIT, layout.EXPIRY_TIMER),
    *layout.FOREIGN_UNITS,
)


def output_of(said: Mapping[str, bytes], *, end: bool = True) -> bytes:
    """The answer in which these values travel."""
    sent = [*said.items(), *([("end", b"")] if end else [])]
    return b"".join(
        f"{TOKEN} {name} {b64encode(value).decode()}\n".encode() for name, value in sent
    )


def read(host: str, /, **changed: bytes) -> Survey:
    """The survey of a host of the lab, with some of the values changed."""
    said = said_by(host) | changed
    return parse_survey(output_of(said), QUESTIONS[host])


@cache
def survey_of(host: str) -> Survey:
    """The same, as it was."""
    return read(host)


def as_planned(pair: Pair, host: str) -> Survey:
    """The survey of a host whose files, and the notes of how it was started, are as planned."""
    survey = survey_of(host)
    wished = make_plan(pair, pair.node(host), survey)
    files = dict(survey.files)
    for wanted in wished.files:
        files[wanted.path] = RemoteFile(wanted.mode, wanted.owner, wanted.sha256, wanted.content)
    started = {
        unit: {path: files[path].sha256 for path in wished_paths(wished, unit)}
        for unit in (DHCP4.debian.unit, AGENT.debian.unit)
    }
    return replace(survey, files=files, started_from=started)


def wished_paths(wished: Plan, unit: str) -> list[str]:
    """The documents that a unit's drop-in takes note of."""
    dhcp4 = unit == DHCP4.debian.unit
    document = layout.KEA_CONF if dhcp4 else layout.AGENT_CONF
    drop_in = DHCP4.debian.drop_in if dhcp4 else AGENT.debian.drop_in
    return [document, drop_in]


PAIR = lab_pair()
ANCHORS = Anchors(
    Authority.of(survey_of("host-1").certificates[layout.HA_ANCHOR]),
    Authority.of(survey_of("host-1").certificates[layout.API_ANCHOR]),
)


def accepted(host: str, **facts: Any) -> Survey:
    """A host of a pair that was accepted as it stands, and has kept that."""
    survey = as_planned(PAIR, host)
    kept = {path: file for path, file in survey.files.items() if path in daemons.KEPT}
    settings = accepted_state.settings_text(PAIR)
    names = {layout.KEPT_DIR: "second", layout.KEPT_BEFORE_DIR: "first"}
    own = {"kept": kept, "kept_settings": settings, "kept_names": names}
    return replace(survey, **{**own, **facts})


def both(of_first: Survey | None = None, of_second: Survey | None = None) -> dict[str, Survey]:
    return {
        "host-1": of_first or accepted("host-1"),
        "host-2": of_second or accepted("host-2"),
    }


def marked(survey: Survey) -> Survey:
    return with_mark(survey, under_way=UnderWay(Work.CHANGING, "today"))


def with_mark(survey: Survey, **facts: Any) -> Survey:
    """The same host, with other members of its mark."""
    return replace(survey, mark=replace(survey.mark, **facts))


def in_state(survey: Survey, state: str, scopes: list[str]) -> Survey:
    reported = survey.status
    assert reported is not None and reported.ha is not None
    local = replace(reported.ha.local, state=state, scopes=tuple(scopes))
    return replace(survey, status=replace(reported, ha=replace(reported.ha, local=local)))


def down(survey: Survey) -> Survey:
    units = {**survey.units, UNIT: replace(survey.units[UNIT], active="inactive")}
    return replace(survey, units=units, status=None, status_error="its control socket is not there")
