"""`python -m lab`: the labs from the command line.

`up` brings up the quick lab and `vagrant up` the other; the rest works on whichever is up.

Exit statuses: 0 done, 1 could not be done (one sentence on stderr says why), 2 wrong usage;
`status` 3 when the lab is down; `exec` that of the command, or 255 when there was no way to run it.
"""

import argparse
import os
import sys

from lab import AnyLab, Lab, LabError, VirtualLab, box


def main(argv: list[str]) -> int:
    """Do what `argv` says; returns the exit status."""
    arguments = _parser().parse_args(argv)
    virtual = VirtualLab()
    lab = virtual if virtual.is_up() else Lab()
    try:
        match arguments.verb:
            case "up":
                Lab().up(debian=arguments.debian, report=_report)
            case "box":
                box.make(arguments.debian, _report)
            case "down":
                lab.down()
            case "kill":
                lab.kill(arguments.node)
            case "start":
                lab.start(arguments.node)
            case "replace":
                Lab().replace(arguments.node)
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
    parser = argparse.ArgumentParser(prog="python -m lab", description="The labs.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="the quick lab's machines, fresh; replaces those that run")
    up.add_argument("--debian", choices=("12", "13", "testing"), default="13")
    make_box = verbs.add_parser("box", help="make a box for the Vagrant lab, from a Debian mirror")
    make_box.add_argument("--debian", choices=("12", "13"), default="13")
    verbs.add_parser("down", help="remove the lab, leaving nothing behind")
    verbs.add_parser("status", help="what is on; exit status 0 up, 3 down")
    for verb, what in (
        ("kill", "cut a machine's power"),
        ("start", "power a machine on"),
        ("replace", "put a fresh machine in the place of one (quick lab)"),
    ):
        verbs.add_parser(verb, help=what).add_argument("node", metavar="NODE")
    run = verbs.add_parser("exec", help="run a command as root: exec NODE -- CMD…")
    run.add_argument("node", metavar="NODE")
    run.add_argument("command", nargs="+", metavar="CMD")
    return parser


def _exec(lab: AnyLab, name: str, argv: list[str]) -> None:
    """Become the command `argv` on the machine `name`."""
    command = lab.command(name, argv)
    os.umask(0o022)
    if lab.ENVIRONMENT is None:
        os.execvp(command[0], command)  # noqa: S606 wanted so
    terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    os.execve(command[0], command, {**lab.ENVIRONMENT, **terminal})  # noqa: S606 wanted so


def _report(line: str) -> None:
    print(f"lab: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
