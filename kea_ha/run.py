"""One run of ``pyinfra``: what is checked before any host is contacted, and the last words.

``before_connecting`` is the last line of every inventory: settings, pairs, ``--limit`` and the
command line are judged there, in plain Python, and a refusal names everything at once.
What the run then learns (surveys, failures, verdicts) is kept here for the length of the process,
for all hosts together, and is printed as the last block on the screen, after pyinfra's own table:
pyinfra stops at the first failed operation, and what an operator needs at that moment must not
scroll away above a results table.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.inventory import make_inventory_from_files
from pyinfra_cli.util import parse_cli_arg

from kea_ha.preflight import Seen
from kea_ha.settings import Pair, Problem, SettingsError, build_pair, check_pairs
from kea_ha.survey import Survey

#: Arguments of each deploy script, given as ``--data NAME=VALUE``: name -> what it is for.
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "deploy.py": {"adopt": "true takes over a Kea or another DHCP server that is in service"},
    "runbook/verify.py": {},
}
_WITHOUT_PROBES = ("deploy.py", "runbook/verify.py")
#: Groups that are not pairs: the hosts to probe from, and pyinfra's own.
_NOT_PAIRS = ("all", "inventory", "probes")


@dataclass(frozen=True)
class Failure:
    """Why hosts were given up: the step, what happened, and what the operator should do."""

    hosts: tuple[str, ...]
    step: str
    why: str
    remedy: str


@dataclass
class Run:
    """What this process knows. Keys are host names, or pair names where it says so."""

    script: str = "deploy.py"
    dry: bool = False
    pairs: dict[str, Pair] = field(default_factory=dict)
    limited_to: frozenset[str] | None = None
    surveys: dict[str, Survey] = field(default_factory=dict)
    #: Each host's clock less this machine's, in seconds.
    skews: dict[str, float] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    #: By pair: what to say when all went well.
    verdicts: dict[str, str] = field(default_factory=dict)
    #: By pair: what the operator should know although nothing is wrong.
    warnings: dict[str, list[str]] = field(default_factory=dict)
    #: Hosts that were held back because their partner failed: not a failure of their own.
    stopped: set[str] = field(default_factory=set)
    interrupted: str = ""

    def pair_of(self, host_name: str) -> Pair | None:
        """The pair that ``host_name`` belongs to; None for a host that is in none (a probe)."""
        for pair in self.pairs.values():
            if host_name in (node.name for node in pair.nodes):
                return pair
        return None

    def in_scope(self, host_name: str) -> bool:
        """Whether ``--limit`` and ``--exclude`` leave this host in the run."""
        return self.limited_to is None or host_name in self.limited_to

    def warn(self, pair: Pair, text: str) -> None:
        """Keep a warning for the last block, once."""
        known = self.warnings.setdefault(pair.name, [])
        if text not in known:
            known.append(text)

    def has_failed(self, host_name: str) -> bool:
        """Whether pyinfra, or one of our checks, has given up on this host."""
        if any(host_name in failure.hosts for failure in self.failures):
            return True
        return any(host.name == host_name for host in _failed_hosts())


RUN = Run()
_loading = False


def begin(host: Host) -> Pair | None:
    """The pair of the host that a deploy script is being prepared for; None for a probe.

    :raises SettingsError: when the inventory did not judge itself, and is wrong.
    """
    if not RUN.pairs:
        RUN.pairs = {pair.name: pair for pair in load_pairs(host.inventory, RUN.script)}
        atexit.register(_last_words)
    return RUN.pair_of(host.name)


def _failed_hosts() -> set[Host]:
    """The hosts that pyinfra has given up; none before it has connected."""
    if ctx_state.isset() and ctx_state.get().initialised:
        return set(ctx_state.get().failed_hosts)
    return set()


def before_connecting() -> None:
    """Judge everything that needs no host; to be called at the end of an inventory file.

    Outside pyinfra's command line (an import, a test) it does nothing. A refusal is printed on
    standard error and ends the process with status 1, before any connection is made.
    """
    global _loading
    context = click.get_current_context(silent=True)
    if context is None or _loading or "group_data" not in context.params:
        return
    options = context.params
    scripts = [name for name in options["operations"] if name.endswith(".py")]
    RUN.script = _script_name(scripts[0]) if scripts else ""
    RUN.dry = bool(options["dry"])
    _catch_signals()
    try:
        _refuse_unfit_options(options)
        _loading = True
        # pyinfra merges group data, host data and --data; asking it to do so once more, for us,
        # gives exactly the values that the deploy will see.
        inventory = make_inventory_from_files(
            options["inventory"],
            override_data=_override_data(options["data"]),
            cwd=str(Path.cwd()),
            group_data_directories=options["group_data"],
        )
        RUN.limited_to = _limit(inventory, options)
        RUN.pairs = {pair.name: pair for pair in load_pairs(inventory, RUN.script)}
        _refuse_missing_lab(inventory)
        if RUN.dry:
            # pyinfra asks on the terminal whether to go on without a failed host, and ends in a
            # traceback where there is none. A dry run has nothing to ask.
            ctx_state.get().should_raise_failed_hosts = None
            ctx_config.get().FAIL_PERCENT = None
    except SettingsError as error:
        _refuse(error.problems)
    finally:
        _loading = False
    atexit.register(_last_words)


def wants_probes() -> bool:
    """Whether this run needs the hosts to probe from; a deploy must not fail because one is off."""
    context = click.get_current_context(silent=True)
    scripts = context.params.get("operations", ()) if context else ()
    return not scripts or any(_script_name(name) not in _WITHOUT_PROBES for name in scripts)


def load_pairs(inventory: Inventory, script: str) -> list[Pair]:
    """The pairs of a pyinfra inventory, validated.

    :raises SettingsError: with every problem of every pair at once.
    """
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for name, hosts in _pair_groups(inventory).items():
        data = {host.name: host.data.dict() for host in hosts}
        try:
            pairs.append(
                build_pair(name, data, arguments=ARGUMENTS.get(script, {}), directory=Path.cwd())
            )
        except SettingsError as error:
            problems += error.problems
    problems += check_pairs(pairs)
    if not pairs and not problems:
        problems.append(
            Problem(
                "inventory",
                "no pair",
                "at least one group of two hosts, each with role, server_name and address",
                "write your hosts into inventory.py (docs/runbook.md, Your own hosts)",
            )
        )
    if problems:
        raise SettingsError(tuple(dict.fromkeys(problems)))
    return pairs


def _pair_groups(inventory: Inventory) -> dict[str, list[Host]]:
    """Groups with a host that has a ``role``; a group that only gathers whole pairs is no pair."""
    own_name = Path(click.get_current_context().params["inventory"]).stem
    groups = {
        name: list(hosts)
        for name, hosts in inventory.groups.items()
        if name not in (*_NOT_PAIRS, own_name) and any(h.data.get("role") for h in hosts)
    }

    def gathers(hosts: list[Host]) -> bool:
        inner = [g for g in groups.values() if len(g) < len(hosts) and set(g) <= set(hosts)]
        return len(inner) > 1 and {h for g in inner for h in g} == set(hosts)

    return {name: hosts for name, hosts in groups.items() if not gathers(hosts)}


def _override_data(given: Collection[str]) -> dict[str, Any]:
    bad = [item for item in given if "=" not in item]
    if bad:
        raise SettingsError(
            tuple(
                Problem("--data", item, "NAME=VALUE", "write it as --data NAME=VALUE")
                for item in bad
            )
        )
    return {name: parse_cli_arg(text) for name, _, text in (item.partition("=") for item in given)}


def _refuse_unfit_options(options: Mapping[str, Any]) -> None:
    """Options of pyinfra that would break the order, or end in a traceback."""
    problems = [
        Problem(flag, "given", "the documented order: host by host, step by step", "leave it out")
        for flag, given in (("--serial", options["serial"]), ("--no-wait", options["no_wait"]))
        if given
    ]
    asks = not (options["yes"] or options["dry"] or options.get("json_output"))
    if asks and not sys.stdin.isatty():
        problems.append(
            Problem(
                "-y",
                "left out, without a terminal to ask on",
                "-y, or a terminal",
                f"pyinfra -y {options['inventory']} {' '.join(options['operations'])}",
            )
        )
    if problems:
        raise SettingsError(tuple(problems))


def _limit(inventory: Inventory, options: Mapping[str, Any]) -> frozenset[str] | None:
    """The hosts that ``--limit`` and ``--exclude`` leave; pyinfra ignores a name it cannot find."""
    names = [host.name for host in inventory]
    matched: dict[str, set[str]] = {"--limit": set(), "--exclude": set()}
    problems = []
    for flag, patterns in (("--limit", options["limit"]), ("--exclude", options["exclude"])):
        for pattern in patterns or ():
            group = inventory.groups.get(pattern)
            found = {h.name for h in group} if group else {n for n in names if fnmatch(n, pattern)}
            matched[flag] |= found
            if not found:
                known = ", ".join(sorted({*names, *inventory.groups} - {"inventory"}))
                problems.append(
                    Problem(flag, pattern, f"a host or group of the inventory: {known}",
                            "check the spelling")
                )  # fmt: skip
    if problems:
        raise SettingsError(tuple(problems))
    if not (options["limit"] or options["exclude"]):
        return None
    return frozenset((matched["--limit"] or set(names)) - matched["--exclude"])


def _refuse_missing_lab(inventory: Inventory) -> None:
    """Hosts reached through a generated ssh_config cannot be reached before it is generated."""
    for host in inventory:
        config = host.data.get("ssh_config_file")
        if config and not Path(config).exists() and RUN.in_scope(host.name):
            _end(
                f"The lab is down ({config} is not there): bring it up with "
                "`.venv/bin/python -m lab up`, or write your own hosts into inventory.py "
                "(docs/runbook.md, Your own hosts). No host was contacted."
            )


def _script_name(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] == "runbook" else parts[-1]


def _catch_signals() -> None:
    # pyinfra's own handler ends with status 0, as if all had been done.
    def stop(number: int, _frame: FrameType | None) -> None:
        RUN.interrupted = signal.Signals(number).name
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _refuse(problems: Collection[Problem]) -> NoReturn:
    lines = [f"Refused: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the settings."]
    lines += [f"\n  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    _end("\n".join(lines) + "\n\nNo host was contacted.")


def _end(text: str) -> NoReturn:
    click.echo(f"\n{text}", err=True)
    sys.exit(1)


# The last block ------------------------------------------------------------------------------


def _last_words() -> None:
    """Print, for each pair of the run, the verdict or what stopped it."""
    if os.environ.get("KEA_HA_QUIET"):
        return
    click.echo("", err=True)
    for pair in RUN.pairs.values():
        if any(RUN.in_scope(node.name) for node in pair.nodes):
            click.echo("\n".join(_words_for(pair)), err=True)


def _words_for(pair: Pair) -> list[str]:
    rule = "-" * 78
    warnings = [f"  Note  {text}" for text in RUN.warnings.get(pair.name, [])]
    failures = _failures_of(pair)
    if RUN.interrupted:
        body = [f"{pair.name}: interrupted ({RUN.interrupted}). Run the same command again: "
                "it continues where it stopped."]  # fmt: skip
    elif failures:
        body = [f"{pair.name}: not accepted."]
        for failure in failures:
            body += ["", f"  Host  {', '.join(failure.hosts)}", f"  Step  {failure.step}"]
            body += _hanging("Why", failure.why) + _hanging("Do", failure.remedy)
    elif pair.name in RUN.verdicts:
        body = [f"{pair.name}: {RUN.verdicts[pair.name]}"]
    elif RUN.dry:
        body = [f"{pair.name}: --dry: nothing was changed."]
    else:
        body = [f"{pair.name}: not accepted: the run ended before the acceptance."]
    return [rule, *body, *([""] if warnings else []), *warnings, rule]


def _hanging(label: str, text: str) -> list[str]:
    first, *rest = text.splitlines() or [""]
    return [f"  {label:<4}  {first}", *(f"        {line}" for line in rest)]


def _failures_of(pair: Pair) -> list[Failure]:
    """What our checks said; for a host that pyinfra gave up without them, what it printed."""
    names = [node.name for node in pair.nodes]
    found = [failure for failure in RUN.failures if set(failure.hosts) & set(names)]
    for host in _failed_hosts():
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
            said = (meta.stderr_lines or meta.stdout_lines)[-8:]
            return Failure(
                (host.name,),
                ", ".join(host.state.get_op_meta(op_hash).names),
                "\n".join(said) or "the command failed and said nothing",
                "mend what it says, then run the same command again: it continues from here",
            )
    return Failure(
        (host.name,),
        "Connect",
        "could not be reached over ssh (pyinfra's own words are above)",
        "check that the host is up, and its name, key and user in inventory.py; "
        f"`pyinfra inventory.py fact server.Date --limit {host.name}` tries it alone",
    )
