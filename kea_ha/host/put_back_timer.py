"""A host that puts itself back: a timer of systemd's that runs a script there, unless called off.

Pure. For what must end although whoever began it is gone: the operator's machine, or the way there.
It is gone after a reboot.
"""

from __future__ import annotations

from typing import Final

from kea_ha.foreign import quoted

#: What puts back a host that a drill has broken.
DRILL: Final = "kea-ha-drill"
#: What starts a server that was stopped for a restore, if the run that did it is cut off.
RESTORE: Final = "kea-ha-restore"


def arm(name: str, after_s: float, script: str) -> str:
    """Have ``script`` run in ``after_s`` seconds from now, and not sooner if it was armed before.

    The shell script's status is 0 if, and only if, that is sure.
    """
    return (
        f"{call_off(name)}; systemctl reset-failed {name}.service 2>/dev/null; "
        f"systemd-run --quiet --unit={name} --property=Type=oneshot --on-active={after_s:.0f} "
        f"/bin/sh -c {quoted(script)}"
    )


def run_now(name: str) -> str:
    """Have it run at once, if it is armed or runs, and be over before anything else is done."""
    return (
        f"! {{ systemctl is-active --quiet {name}.timer || "
        f"systemctl is-active {name}.service | grep -qx activating; }} || "
        f"{{ systemctl start {name}.service; {call_off(name)}; }}"
    )


def settle() -> str:
    """See that nothing which a run has left armed will start a server that is stopped now.

    What a drill has broken is put back first, or it would stay so.
    """
    return f"{run_now(DRILL)}; {call_off(RESTORE)}"


def call_off(name: str) -> str:
    """Have it not run."""
    return f"systemctl stop {name}.timer 2>/dev/null"
