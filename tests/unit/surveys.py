"""Two hosts of an accepted pair as they were really read, and the pair that they belong to."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from kea_ha import layout
from kea_ha.plan import Plan, make_plan
from kea_ha.settings import Pair, build_pair
from kea_ha.survey import RemoteFile, Survey, parse_survey

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


def output_of(host: str) -> list[str]:
    """What the survey's script printed on a host of the lab (Debian 13, accepted)."""
    return (DATA / f"survey-{host}.txt").read_text().splitlines()


@cache
def survey_of(host: str) -> Survey:
    """The same, parsed."""
    return parse_survey(output_of(host))


def as_planned(pair: Pair, host: str) -> Survey:
    """The survey of a host whose files, and the notes of how it was started, are as planned."""
    survey = survey_of(host)
    wished = make_plan(pair, pair.node(host), survey)
    files = dict(survey.files)
    for wanted in wished.files:
        files[wanted.path] = RemoteFile(wanted.mode, wanted.owner, wanted.sha256, wanted.content)
    started = {
        unit: "\n".join(f"{files[path].sha256}  {path}" for path in wished_paths(wished, unit))
        for unit in (wished.packaging.dhcp4_unit, wished.packaging.agent_unit)
    }
    return replace(survey, files=files, started_from=started)


def wished_paths(wished: Plan, unit: str) -> list[str]:
    """The documents that a unit's drop-in takes note of."""
    dhcp4 = unit == wished.packaging.dhcp4_unit
    document = layout.KEA_CONF if dhcp4 else layout.AGENT_CONF
    drop_in = wished.packaging.dhcp4_dropin if dhcp4 else wished.packaging.agent_dropin
    return [document, drop_in]
