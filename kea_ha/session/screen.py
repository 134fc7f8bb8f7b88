"""Where pyinfra's own words leave for the terminal: nothing foreign moves the cursor there.

What this project says is made safe where it is said (``foreign.shown``). pyinfra prints what hosts
say as it came: connection errors, and whatever a library logs. Its three ways to the terminal pass
here, and of control sequences they keep the colours that pyinfra itself sets.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import click
from pyinfra import logger
from pyinfra.api import output

from kea_ha.foreign import shown

# What click.style begins and ends a colour or a bold face with.
_STYLE = re.compile(r"(\x1b\[(?:0|1|3[0-7]|9[0-7])m)")


def guard() -> None:
    """Have all that pyinfra prints pass ``foreign.shown`` from now on."""
    output.set_formatter(_styled)
    output.set_echo(_echoed)
    logger.addFilter(_Filter())


def _styled(text: Any, *args: Any, **styles: Any) -> str:
    return click.style(shown(str(text)), *args, **styles)


def _echoed(message: Any = None, **options: Any) -> None:
    click.echo(_kept(str(message)) if message is not None else None, **options)


def _kept(text: str) -> str:
    """The text as it may be shown, with pyinfra's own colours in it."""
    return "".join(
        one if _STYLE.fullmatch(one) else shown(one) for one in _STYLE.split(text) if one
    )


class _Filter(logging.Filter):
    """Makes what is logged safe to show."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _kept(record.getMessage()), ()
        return True
