"""How pyinfra reaches a stand-in host, in the place of ssh: `@standin/NAME` in an inventory.

Commands run on the host as its root, as children of the pyinfra process, which stands for the ssh
session. Every connection, operation and command is recorded in the order in which it happened, and
a test can have pyinfra stop or be killed at an operation of its choice.
"""

import ctypes
import json
import os
import shlex
import signal
import socket
import time
from pathlib import Path

import gevent
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.state import BaseStateCallback
from pyinfra.connectors.local import LocalConnector
from pyinfra.connectors.util import make_unix_command_for_host, run_local_process

CLONE_NEWNET = 0x40000000
HOSTS = json.loads(os.environ.get("STANDIN_HOSTS", "{}"))
# What the test wants: {"operation": N} kills pyinfra when N operations have ended, {"before": part
# of a command} kills it when it is about to run that,
# {"after": part of an operation's name, "on": a host, "flag": a path} makes it wait there for as
# long as the file exists.
STOP = json.loads(os.environ.get("STANDIN_STOP", "{}"))


def record(host, what, text=""):
    """Add a line to the record of this run."""
    entry = {"time": time.time(), "host": host, "what": what, "text": text}
    with Path(os.environ["STANDIN_RECORD"]).open("a") as file:
        file.write(json.dumps(entry) + "\n")


class Watch(BaseStateCallback):
    """Records operations, and stops after the one that the test chose."""

    ended = 0

    @staticmethod
    def operation_host_start(state, host, op_hash):
        record(host.name, "operation", name_of(state, op_hash))

    @staticmethod
    def operation_host_success(state, host, op_hash, retry_count=0):
        name = name_of(state, op_hash)
        if "after" in STOP and STOP["after"] in name and STOP["on"] == host.name:
            Path(STOP["flag"]).touch()
            while Path(STOP["flag"]).exists():
                gevent.sleep(0.02)

    @staticmethod
    def operation_end(state, op_hash):
        Watch.ended += 1
        record("", "ended", name_of(state, op_hash))
        if Watch.ended == STOP.get("operation"):
            os.kill(os.getpid(), signal.SIGKILL)


def name_of(state, op_hash):
    """An operation as the operator reads it."""
    return ", ".join(state.get_op_meta(op_hash).names)


WATCH = Watch()


class StandInConnector(LocalConnector):
    """A host of the world that the test made."""

    @staticmethod
    def make_names_data(name=None):
        yield name, {}, []

    def connect(self):
        """Note that the host is reached for, and fail as ssh does when it is off."""
        record(self.host.name, "connect")
        if self.host.name not in HOSTS:
            raise ConnectError("Could not connect (No route to host)")
        if WATCH not in self.state.callback_handlers:
            self.state.add_callback_handler(WATCH)
        self.client = Tunnels(HOSTS[self.host.name]["holder"])

    def disconnect(self):
        """Nothing is kept open."""

    def run_shell_command(self, command, print_output=False, print_input=False, **arguments):
        """Run a command on the host; what goes in on stdin is not recorded."""
        arguments.pop("_get_pty", None)
        timeout, stdin = arguments.pop("_timeout", None), arguments.pop("_stdin", None)
        good = arguments.pop("_success_exit_codes", None) or [0]
        whole = make_unix_command_for_host(self.state, self.host, command, **arguments)
        if "before" in STOP and STOP["before"] in whole.get_raw_value():
            os.kill(os.getpid(), signal.SIGKILL)
        record(self.host.name, "command", str(whole))
        code, output = run_local_process(
            shlex.join(HOSTS[self.host.name]["enter"]) + " -- " + whole.get_raw_value(),
            stdin=stdin,
            timeout=timeout,
            print_output=print_output,
            print_prefix=self.host.print_prefix,
        )
        return code in good, output


class Tunnels:
    """The one thing of paramiko's client that the rollout uses: direct-tcpip channels."""

    def __init__(self, holder):
        self._holder = holder

    def get_transport(self):
        """Like paramiko's."""
        return self

    def open_channel(self, kind, address, source, timeout=None):
        """A connection that begins on the host: sockets belong to the network they are made in."""
        assert kind == "direct-tcpip"
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net") as here, open(f"/proc/{self._holder}/ns/net") as there:  # noqa: PTH123
            libc.setns(there.fileno(), CLONE_NEWNET)
            try:
                channel = socket.socket()
            finally:
                libc.setns(here.fileno(), CLONE_NEWNET)
        channel.settimeout(timeout)
        channel.connect(address)
        return channel
