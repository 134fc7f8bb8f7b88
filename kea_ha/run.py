"""The beginning of a run of ``pyinfra``: what is judged before any host is contacted.

``before_connecting`` is the last line of every inventory. Settings, pairs, ``--limit`` and the
rest of the command line are judged there, in plain Python, and a refusal names everything at once.
"""

from __future__ import annotations

import atexit
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import click
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.inventory import make_inventory_from_files
from pyinfra_cli.util import parse_cli_arg

from kea_ha.decide import drill_scenarios, restore_plan
from kea_ha.decide.preflight import Agreed
from kea_ha.foreign import shown as shown_text
from kea_ha.host import backup_store
from kea_ha.host.backup_store import Backup, BackupError
from kea_ha.session import channel, screen
from kea_ha.session.last_block import last_words
from kea_ha.session.learned import RUN
from kea_ha.session.remote import guard
from kea_ha.settings.build import build_pair, check_pairs
from kea_ha.settings.model import Node, Pair
from kea_ha.settings.problems import Problem, SettingsError, shown

#: Arguments of each deploy script, given as ``--data NAME=VALUE``: name -> what it is for.
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "deploy.py": {
        "adopt": "true takes over a Kea or another DHCP server that is in service",
        "force": "true changes a live pair that is damaged or whose documents were edited by hand",
        "accept_outage": "true changes a live pair although no client is served for a while",
    },
    "runbook/backup.py": {},
    "runbook/drill.py": {
        "scenario": "the failures to make happen, with commas between them",
        "accept_outage": "true has them outside the labs, too",
    },
    "runbook/maintain.py": {
        "host": "the host to take out",
        "done": "true brings the host back",
    },
    "runbook/recover.py": {},
    "runbook/restore.py": {
        "from": "the backup to bring leases back from",
        "force": "true stops both servers for it, when they run; documents: although the pair is "
        "damaged, or its documents were edited by hand",
        "documents": "true brings the documents back instead, and no leases",
        "accept_outage": "true brings documents back although no client is served for a while",
    },
    "runbook/rotate.py": {
        "ca": "true changes the CAs, and so every certificate",
        "force": "true renews them although the pair is damaged",
    },
    "runbook/undo.py": {
        "force": "true undoes although the pair is damaged, or its documents were edited by hand",
        "accept_outage": "true undoes although no client is served for a while",
    },
    "runbook/upgrade.py": {"force": "true upgrades although the pair is damaged"},
    "runbook/verify.py": {},
}
#: Those of the arguments that name something; the others are switches.
_NAMES = ("host", "from", "scenario")
#: What may be run with one host of a pair left out.
_FOR_ONE_HOST = {"deploy.py", "runbook/backup.py", "runbook/verify.py"}
#: Groups that are not pairs: the hosts to probe from, and pyinfra's own.
_NOT_PAIRS = ("all", "inventory", "probes")


_loading = False


def begin(host: Host) -> Pair | None:
    """The pair of the host that a deploy script is being prepared for; None for a probe.

    :raises SettingsError: when the inventory did not judge itself, and is wrong.
    """
    if not RUN.pairs:
        RUN.pairs = {pair.name: pair for pair in load_pairs(host.inventory)}
        atexit.register(last_words)
    guard(host)
    return RUN.pair_of(host.name)


def agreed(host: Host) -> Agreed:
    """What the operator agreed to beforehand: the switches of ``deploy.py``."""
    return Agreed(**{name: bool(host.data.get(name)) for name in ARGUMENTS["deploy.py"]})


def named_node(host: Host) -> Node | None:
    """The node that ``--data host=`` names, when it is of the same pair as this host."""
    pair = RUN.pair_of(host.name)
    nodes = pair.nodes if pair else ()
    # As an attribute of its data, `host` is pyinfra's own.
    named = host.data.dict().get("host")
    return next((node for node in nodes if node.name == named), None)


def named_backup(host: Host) -> Backup:
    """The backup that ``--data from=`` names, each file as it was written.

    :raises SettingsError: when the inventory did not judge itself, and there is none to be used.
    """
    if RUN.backup is None:
        RUN.backup = _read_backup(host.data.dict().get("from"))
    return RUN.backup


def scenarios(host: Host) -> tuple[str, ...]:
    """The scenarios that ``--data scenario=`` names; the one that is usual if none is named."""
    given = host.data.get("scenario") or next(iter(drill_scenarios.KINDS))
    return tuple(str(given).split(","))


def renew_certificates() -> None:
    """Have the certificates made anew that the hosts have now, though they are not due."""
    # Certificates tell their time in whole seconds.
    RUN.renew_before = RUN.renew_before or datetime.now(UTC).replace(microsecond=0)


def before_connecting() -> None:
    """Judge everything that needs no host; to be called at the end of an inventory file.

    Outside pyinfra's command line, and for anything but this project's own deploy scripts, it does
    nothing. A refusal is printed on standard error and ends the process with status 1, before any
    connection is made.
    """
    global _loading
    context = click.get_current_context(silent=True)
    if context is None or _loading or not _scripts_of(context):
        return
    options = context.params
    RUN.scripts = _scripts_of(context)
    RUN.dry = bool(options["dry"])
    _catch_signals()
    _quiet_paramiko()
    screen.guard()
    channel.harden()
    problems = [*_unfit_options(options), *_unfit_arguments(options)]
    try:
        _loading = True
        # pyinfra merges group data, host data and --data; asking it to do so once more, for us,
        # gives exactly the values that the deploy will see.
        inventory = make_inventory_from_files(
            options["inventory"],
            override_data=_override_data(options["data"]),
            cwd=str(Path.cwd()),
            group_data_directories=options["group_data"],
        )
        RUN.limited_to = _limited_to(inventory, options, problems)
        RUN.pairs = {pair.name: pair for pair in load_pairs(inventory)}
        problems += [
            *_unfit_host(options),
            *_unfit_backup(options),
            *_unfit_scenarios(options),
            *_unfit_limit(),
            *_unfit_drill(),
        ]
        _keep_the_named_pair(options)
    except SettingsError as error:
        problems += error.problems
    finally:
        _loading = False
    if problems:
        _refuse(problems)
    _refuse_missing_lab(inventory)
    if RUN.dry:
        # pyinfra asks on the terminal whether to go on without a failed host, and ends in a
        # traceback where there is none. A dry run has nothing to ask.
        ctx_state.get().should_raise_failed_hosts = None
        ctx_config.get().FAIL_PERCENT = None
    atexit.register(last_words)


def wants_probes() -> bool:
    """Whether this run needs the hosts to probe from; a deploy must not fail because one is off."""
    context = click.get_current_context(silent=True)
    scripts = _scripts_of(context) if context else ()
    return not scripts or "runbook/drill.py" in scripts


def _scripts_of(context: click.Context) -> tuple[str, ...]:
    """This project's deploy scripts among those of the run, by their names in ``ARGUMENTS``."""
    names = []
    for given in context.params.get("operations") or ():
        parts = Path(given).parts
        names.append("/".join(parts[-2:]) if parts[-2:-1] == ("runbook",) else parts[-1])
    return tuple(name for name in names if name in ARGUMENTS)


def load_pairs(inventory: Inventory) -> list[Pair]:
    """The pairs of a pyinfra inventory, validated.

    :raises SettingsError: with every problem of every pair at once.
    """
    pairs: list[Pair] = []
    problems: list[Problem] = []
    arguments = {name for script in RUN.scripts for name in ARGUMENTS[script]}
    for name, hosts in _pair_groups(inventory).items():
        data = {host.name: host.data.dict() for host in hosts}
        try:
            pairs.append(build_pair(name, data, arguments=arguments, directory=Path.cwd()))
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
    return {name: parse_cli_arg(text) for name, _, text in (item.partition("=") for item in given)}


def _unfit_options(options: Mapping[str, Any]) -> Iterator[Problem]:
    """Options of pyinfra that would break the order, or end in a traceback."""
    for flag, given in (("--serial", options["serial"]), ("--no-wait", options["no_wait"])):
        if given:
            yield Problem(
                flag, "given", "the documented order: host by host, step by step", "leave it out"
            )
    asks = not (options["yes"] or options["dry"] or options.get("json_output"))
    if asks and not sys.stdin.isatty():
        yield Problem(
            "-y",
            "left out, and there is no terminal to ask on",
            "-y, or a terminal",
            f"run pyinfra -y {options['inventory']} {' '.join(options['operations'])}",
        )


def _unfit_arguments(options: Mapping[str, Any]) -> Iterator[Problem]:
    """An argument that is a switch, and given neither on nor off, is a mistake."""
    for item in options["data"]:
        name, _, text = item.partition("=")
        purposes = [ARGUMENTS[script][name] for script in RUN.scripts if name in ARGUMENTS[script]]
        if name not in _NAMES and purposes and not isinstance(parse_cli_arg(text), bool):
            yield Problem(f"--data {name}", text, f"true or false: {purposes[0]}", "say which")


def _unfit_host(options: Mapping[str, Any]) -> Iterator[Problem]:
    """A command for one host wants the name of one."""
    if any("host" in ARGUMENTS[script] for script in RUN.scripts):
        names = [node.name for pair in RUN.pairs.values() for node in pair.nodes]
        given = _override_data(options["data"]).get("host")
        if given not in names:
            yield Problem(
                "--data host",
                "not given" if given is None else shown(given),
                f"a host of a pair: {', '.join(names)}",
                "name one of them",
            )


def _unfit_backup(options: Mapping[str, Any]) -> Iterator[Problem]:
    """A command that uses a backup wants a whole one, of a pair that is in the run as a whole."""
    if not any("from" in ARGUMENTS[script] for script in RUN.scripts):
        return
    try:
        RUN.backup = _read_backup(_override_data(options["data"]).get("from"))
    except SettingsError as error:
        yield from error.problems
        return
    pair = RUN.pairs.get(RUN.backup.pair)
    whose = restore_plan.foreign_backup(pair, RUN.backup)
    if pair is None or whose:
        known = ", ".join(RUN.pairs)
        allowed = f"a backup of a pair of this inventory: {known}"
        yield Problem("--data from", whose, allowed, "name another one")


def _unfit_limit() -> Iterator[Problem]:
    """What is done to a live pair is done with both of its hosts in view."""
    if set(RUN.scripts) <= _FOR_ONE_HOST:
        return
    for pair in RUN.pairs.values():
        if sum(RUN.in_scope(node.name) for node in pair.nodes) == 1:
            yield Problem(
                "--limit",
                "one that leaves a host of the pair out",
                "both hosts of the pair, or neither",
                "leave it out, or name the pair",
                pair.name,
            )


def _unfit_drill() -> Iterator[Problem]:
    """The clients of a drill are those of one pair: two drills at once would spoil each other."""
    named = [p.name for p in RUN.pairs.values() if all(RUN.in_scope(n.name) for n in p.nodes)]
    if "runbook/drill.py" in RUN.scripts and len(named) > 1:
        yield Problem(
            "the drill",
            f"of {len(named)} pairs at once: {', '.join(named)}",
            "one pair in a run",
            f"name it, and the host to probe from: --limit {named[0]} --limit probes",
        )


def _read_backup(given: Any) -> Backup:
    """The backup of this name, found whole.

    :raises SettingsError: with what is wrong with it.
    """
    if given is None:
        known = ", ".join(backup_store.newest(backup_store.BACKUPS_DIR))
        problem = Problem(
            "--data from",
            "not given",
            "the directory of a backup, as backup.py names it",
            f"name one; the newest here: {known}" if known else "name one; there is none here",
        )
        raise SettingsError([problem])
    try:
        return backup_store.read(Path(str(given)))
    except BackupError as error:
        problem = Problem(
            "--data from", f"{given}, {error.what}", "a backup as it was written", error.remedy
        )
        raise SettingsError([problem]) from error


def _unfit_scenarios(options: Mapping[str, Any]) -> Iterator[Problem]:
    given = _override_data(options["data"]).get("scenario")
    wrong = [one for one in str(given).split(",") if one not in drill_scenarios.KINDS]
    if "runbook/drill.py" in RUN.scripts and given is not None and wrong:
        yield Problem(
            "--data scenario",
            ", ".join(wrong),
            f"some of {', '.join(drill_scenarios.KINDS)}",
            "name those",
        )


def _keep_the_named_pair(options: Mapping[str, Any]) -> None:
    """A command for one host, or with a backup, concerns its pair alone, also in the last block."""
    named = RUN.pair_of(str(_override_data(options["data"]).get("host")))
    if named is None and RUN.backup is not None:
        named = RUN.pairs.get(RUN.backup.pair)
    if named is not None:
        RUN.pairs = {named.name: named}


def _limited_to(
    inventory: Inventory, options: Mapping[str, Any], problems: list[Problem]
) -> frozenset[str] | None:
    """The hosts that ``--limit`` and ``--exclude`` leave; pyinfra ignores a name it cannot find."""
    names = [host.name for host in inventory]
    matched: dict[str, set[str]] = {"--limit": set(), "--exclude": set()}
    for flag, patterns in (("--limit", options["limit"]), ("--exclude", options["exclude"])):
        for pattern in patterns or ():
            group = inventory.groups.get(pattern)
            found = {h.name for h in group} if group else {n for n in names if fnmatch(n, pattern)}
            matched[flag] |= found
            if not found:
                known = ", ".join(sorted({*names, *inventory.groups} - {"inventory"}))
                allowed = f"a host or group of the inventory: {known}"
                problems.append(Problem(flag, pattern, allowed, "check the spelling"))
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


def _catch_signals() -> None:
    # pyinfra's own handler ends with status 0, as if all had been done.
    def stop(number: int, _frame: FrameType | None) -> None:
        RUN.interrupted = signal.Signals(number).name
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _quiet_paramiko() -> None:
    """Keep paramiko's tracebacks off the screen: pyinfra says in a line why a host is not reached.

    They come through its own logger, and when a ProxyCommand has ended early from its threads and
    from what it does at the end of the process.
    """
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    in_threads, elsewhere = threading.excepthook, sys.unraisablehook

    def is_its_own(raised: TracebackType | None) -> bool:
        return any(
            "paramiko" in Path(frame.filename).parts for frame in traceback.extract_tb(raised)
        )

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if not is_its_own(args.exc_traceback):
            in_threads(args)

    def unraisable(args: Any) -> None:
        if not is_its_own(args.exc_traceback):
            elsewhere(args)

    threading.excepthook, sys.unraisablehook = in_thread, unraisable


def _refuse(problems: Collection[Problem]) -> NoReturn:
    lines = [f"Refused: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the settings."]
    lines += [f"\n  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    _end("\n".join(lines) + "\n\nNo host was contacted.")


def _end(text: str) -> NoReturn:
    click.echo(f"\n{shown_text(text)}", err=True)
    sys.exit(1)
