"""Reports of drills to try things with: what a pair with these settings answers with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from kea_ha.decide.drill_results import Figures, Report, Scenario, longest_gap
from kea_ha.decide.drill_scenarios import Implied

MADE = datetime(2026, 11, 25, 8, 30, 5, 123456, tzinfo=UTC)
NORMAL = "hot-standby"


def acks(spans: Mapping[tuple[float, float], float], seed: int = 1) -> tuple[float, ...]:
    """Moments of ACKs (s) in each span of time, so many a second."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    return tuple(
        sorted(
            round(chance.uniform(begin, end), 3)
            for (begin, end), rate in spans.items()
            for _ in range(int((end - begin) * rate))
        )
    )


def measured(scenario: Scenario) -> Scenario:
    """The scenario with the gap that its ACKs show, and as many clients as ACKs and unserved."""
    begin, until = longest_gap(scenario.acks, scenario.seconds)
    answered = sum(map(len, scenario.acks.values()))
    figures = replace(
        scenario.figures,
        longest_gap_s=round(until - begin, 3),
        clients=answered + scenario.figures.unserved,
    )
    return replace(scenario, figures=figures)


PRIMARY_KILLED = Scenario(
    name="primary-killed",
    what="Kea on the primary, host-1, is killed while clients ask, and started again afterwards.",
    findings=(),
    seconds=240.0,
    fault_s=30.0,
    repair_s=150.0,
    accepted_s=196.4,
    acks={
        "host-1": acks({(0, 30): 20, (188.2, 240): 20}),
        "host-2": acks({(84.9, 91): 60, (91, 188): 20}, seed=2),
    },
    states={
        "host-1": (
            *((0.0, NORMAL), (30.0, "no answer"), (151.2, "waiting"), (181.0, "syncing")),
            *((183.5, "ready"), (188.0, NORMAL)),
        ),
        "host-2": ((0.0, NORMAL), (84.9, "partner-down"), (188.6, NORMAL)),
    },
    figures=Figures(0, 0, 57.9, 0, 54.9, 46.4, 0, 0),
    implied=Implied(
        60.0,
        60.0,
        "The standby sends a heartbeat every 10 s (heartbeat_delay) and takes the primary for "
        "silent after 60 s without an answer (max_response_delay). Of those up to 10 s have passed "
        "before the fault. Then it counts clients that have asked for more than 10 s "
        "(max_ack_delay); with max_unacked_clients at 0 it waits for none.",
    ),
    log_ids={
        "host-1": {"DHCP4_STARTED": 1, "HA_LEASES_SYNC_COMPLETED": 1, "HA_STATE_TRANSITION": 4},
        "host-2": {
            "HA_COMMUNICATION_INTERRUPTED": 1,
            "HA_HEARTBEAT_COMMUNICATIONS_FAILED": 11,
            "HA_LEASE_UPDATE_COMMUNICATIONS_FAILED": 3,
            "HA_STATE_TRANSITION": 2,
        },
    },
)

STANDBY_KILLED = Scenario(
    name="standby-killed",
    what="Kea on the standby, host-2, is killed while clients ask, and started again afterwards.",
    findings=(),
    seconds=48.0,
    fault_s=10.0,
    repair_s=25.0,
    accepted_s=31.7,
    acks={"host-1": acks({(0, 10): 20, (12.1, 13): 80, (13, 48): 20}), "host-2": ()},
    states={
        "host-1": ((0.0, NORMAL), (12.0, "partner-down"), (30.2, NORMAL)),
        "host-2": (
            *((0.0, NORMAL), (10.1, "no answer"), (25.4, "waiting"), (28.0, "syncing")),
            *((28.9, "ready"), (30.0, NORMAL)),
        ),
    },
    figures=Figures(0, 0, 4.0, 0, 2.0, 6.7, 0, 0),
    implied=Implied(
        3.0, 3.0, "Each answer waits for the standby; after max_response_delay (3 s) no longer."
    ),
    log_ids={"host-1": {"HA_STATE_TRANSITION": 2}, "host-2": {"DHCP4_STARTED": 1}},
)

LINK_CUT = Scenario(
    name="link-cut",
    what="The way between the hosts is cut while both can still be reached by clients.",
    findings=(
        "The pair was not accepted again within 120 s of the repair: host-2 is terminated.",
        "2 addresses were given twice: 192.168.1.117, 192.168.1.131.",
    ),
    seconds=182.5,
    fault_s=20.0,
    repair_s=62.0,
    accepted_s=None,
    acks={
        "host-1": acks({(0, 20): 20, (23, 60): 14, (60, 182): 20}),
        "host-2": acks({(47, 66): 9}, seed=2),
    },
    states={
        "host-1": ((0.0, NORMAL), (23.0, "partner-down"), (64.1, "terminated")),
        "host-2": ((0.0, NORMAL), (45.0, "partner-down"), (64.4, "terminated")),
    },
    figures=Figures(0, 0, 61.8, 14, 3.0, None, 0, 2),
    implied=Implied(3.0, 3.0, "max_response_delay is 3 s, and max_unacked_clients 0."),
    log_ids={"host-1": {"HA_TERMINATED": 1}, "host-2": {"HA_TERMINATED": 1}},
)

REPORT = Report(
    made=MADE,
    pair="office",
    profile="documented",
    settings={
        "heartbeat_delay": 10000,
        "max_response_delay": 60000,
        "max_ack_delay": 10000,
        "max_unacked_clients": 0,
    },
    versions={"host-1": "2.6.3", "host-2": "2.6.3"},
    roles={"host-1": "primary", "host-2": "standby"},
    scenarios=tuple(map(measured, (PRIMARY_KILLED, STANDBY_KILLED, LINK_CUT))),
)
