"""The last block on the screen: for each pair the verdict, or what stopped it and what to do.

Printed when the process ends, after pyinfra's own table: pyinfra stops at the first failed
operation, and what an operator needs at that moment must not scroll away above a results table.
"""

from __future__ import annotations

import click
from pyinfra.api.host import Host

from kea_ha.foreign import shown
from kea_ha.session.learned import RUN, Failure, failed_hosts
from kea_ha.settings.model import Pair


def last_words() -> None:
    """Print, for each pair of the run, the verdict or what stopped it."""
    click.echo("", err=True)
    for pair in RUN.pairs.values():
        if any(RUN.in_scope(node.name) for node in pair.nodes):
            click.echo("\n".join(_words_for(pair)), err=True)


def _words_for(pair: Pair) -> list[str]:
    rule = "-" * 78
    warnings = [
        f"  Note  {shown(text, indent='        ')}" for text in RUN.warnings.get(pair.name, [])
    ]
    failures = _failures_of(pair)
    if RUN.interrupted:
        body = [f"{pair.name}: interrupted ({RUN.interrupted}). Run the same command again; "
                "it goes on from there. `pyinfra -y inventory.py runbook/verify.py` says how the "
                "pair stands."]  # fmt: skip
    elif failures:
        body = [f"{pair.name}: {failures[0].outcome}."]
        for failure in failures:
            body += ["", f"  Host  {', '.join(failure.hosts)}", f"  Step  {failure.step}"]
            body += _hanging("Why", failure.why) + _hanging("Do", failure.remedy)
    elif pair.name in RUN.verdicts:
        body = [f"{pair.name}: {shown(RUN.verdicts[pair.name], indent='  ')}"]
    elif RUN.dry:
        body = [f"{pair.name}: --dry: nothing was changed."]
    else:
        body = [f"{pair.name}: not accepted: the run ended before the acceptance."]
    return [rule, *body, *([""] if warnings else []), *warnings, rule]


def _hanging(label: str, text: str) -> list[str]:
    # Each line is behind the label: none of a host's stands where one of ours would.
    first, *rest = shown(text).split("\n")
    return [f"  {label:<4}  {first}", *(f"        {line}" for line in rest)]


def _failures_of(pair: Pair) -> list[Failure]:
    """What our checks said; for a host that pyinfra gave up without them, what it printed."""
    names = [node.name for node in pair.nodes]
    found = [failure for failure in RUN.failures if set(failure.hosts) & set(names)]
    for host in failed_hosts():
        if host.name not in names or host.name in RUN.stopped:
            continue
        if all(host.name not in failure.hosts for failure in found):
            found.append(_failure_of_pyinfra(host))
    return found


def _failure_of_pyinfra(host: Host) -> Failure:
    for op_hash in host.op_hash_order:
        data = host.state.ops[host].get(op_hash)
        meta = data.operation_meta if data else None
        if meta is not None and meta.is_complete() and meta.did_error():
            return Failure(
                (host.name,),
                ", ".join(host.state.get_op_meta(op_hash).names),
                "the command failed and said nothing, or was not through in its "
                "time (pyinfra's own words are above)",
                "mend what it says, or see whether the host answers; then run the same command "
                "again: it continues from here",
            )
    return Failure(
        (host.name,),
        "Connect",
        "could not be reached over ssh (pyinfra's own words are above)",
        "check that the host is up, and its name, key and user in inventory.py; ssh to it by "
        "hand tells more",
    )
