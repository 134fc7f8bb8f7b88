"""Roll out a secure, highly available Kea DHCPv4 pair, in the documented order.

    pyinfra -y inventory.py deploy.py

Read it as a runbook: each line is a step, docs/runbook.md has a section for each. pyinfra runs
this file once for every host; the loop takes the hosts of a pair one after the other.
"""

from pyinfra import host

from kea_ha import run, steps

pair = run.begin(host)
agreed = run.agreed(host)

if pair:
    # 0. Pre-flight: both hosts, changing nothing; then who they are to each other.
    for node in host.loop(pair.nodes):
        if host.name == node.name:
            steps.take_lock(pair, node)
    steps.look(pair)
    steps.decide(pair, agreed=agreed)

    # A live pair that has to change: one server after the other, its partner serving meanwhile.
    # The steps below then find it as described. Of a first rollout nothing happens here.
    steps.roll(pair)

    steps.identify(pair, agreed=agreed)
    steps.hold_together(pair, after="0 Identities")

    for node in host.loop(pair.nodes):
        # 5. Repeat 1 to 4 on host-2: the loop's second round.
        if host.name == node.name:
            steps.install(pair, node)  # 1
            steps.configure(pair, node)  # 2
            steps.verify_link(pair, node)  # 3
            steps.verify_opposite(pair, node)  # 4
        steps.hold_together(pair, after=node.name, name=f"The {node.role} is done")

    # 6. Both directions in their strict form, and the verdict in words.
    steps.accept(pair)
