"""`python -m lab`: the quick lab from the command line.

Exit statuses: 0 done, 1 could not be done (one sentence on stderr says why), 2 wrong usage;
`status` 3 when the lab is down; `exec` that of the command, or 255 when there was no way to run it.
"""

import argparse
import os
import sys

from lab import machine
from lab.errors import LabError
from lab.quick import Lab


def main(argv: list[str]) -> int:
    """Do what `argv` says; returns the exit status."""
    arguments = _parser().parse_args(argv)
    lab = Lab()
    try:
        match arguments.verb:
            case "up":
                lab.up(debian=arguments.debian, report=_report)
            case "down":
                lab.down()
            case "kill":
                lab.kill(arguments.node)
            case "start":
                lab.start(arguments.node)
            case "exec":
                _exec(lab, arguments.node, arguments.command)
            case "status":
                print("\n".join(lab.describe()))
                return 0 if lab.is_up() else 3
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 255 if arguments.verb == "exec" else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="The quick lab.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="fresh machines; on a running lab: replaces them")
    up.add_argument("--debian", choices=("12", "13", "testing"), default="13")
    verbs.add_parser("down", help="remove the lab, leaving nothing behind")
    verbs.add_parser("status", help="what is on; exit status 0 up, 3 down")
    for verb, what in (("kill", "cut a machine's power"), ("start", "power a machine on")):
        verbs.add_parser(verb, help=what).add_argument("node", metavar="NODE")
    run = verbs.add_parser("exec", help="run a command as root: exec NODE -- CMD…")
    run.add_argument("node", metavar="NODE")
    run.add_argument("command", nargs="+", metavar="CMD")
    return parser


def _exec(lab: Lab, name: str, argv: list[str]) -> None:
    """Become the command `argv` on the machine `name`."""
    node = lab.node(name)
    command = machine.command(node, argv)
    os.umask(0o022)
    os.execve(command[0], command, machine.ENVIRONMENT | _terminal())  # noqa: S606 wanted so


def _terminal() -> dict[str, str]:
    return {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}


def _report(line: str) -> None:
    print(f"lab: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
