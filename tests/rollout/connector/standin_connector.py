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
from gevent.subprocess import PIPE, Popen
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.state import BaseStateCallback
from pyinfra.connectors.local import LocalConnector

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
        self.client = Client(self.host.name)

    def disconnect(self):
        """Nothing is kept open."""


class Client:
    """What the rollout uses of paramiko's client and of its connection: sessions and tunnels."""

    def __init__(self, name):
        self._name = name
        self._holder = HOSTS[name]["holder"]

    def get_transport(self):
        """Like paramiko's."""
        return self

    def open_session(self, timeout=None):
        """A channel for one command."""
        return Session(self._name)

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


class Session:
    """A channel on which one command runs on the host; what goes in is not recorded."""

    def __init__(self, name):
        self._name = name
        self._process = None

    def settimeout(self, seconds):
        """The rollout ends what takes too long."""

    def exec_command(self, command):
        """Run it, as the ssh server would have the login shell do."""
        if "before" in STOP and STOP["before"] in command:
            os.kill(os.getpid(), signal.SIGKILL)
        record(self._name, "command", command)
        self._process = Popen(  # noqa: S604 - as the login shell of an ssh server
            shlex.join(HOSTS[self._name]["enter"]) + " -- " + command,
            shell=True,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )

    def sendall(self, data):
        """Give the command something to read."""
        self._process.stdin.write(data)

    def shutdown_write(self):
        """There is no more to read for it."""
        self._process.stdin.close()

    def recv(self, size):
        """What it prints."""
        return self._process.stdout.read(size)

    def recv_stderr(self, size):
        """What it complains of."""
        return self._process.stderr.read(size)

    def recv_exit_status(self):
        """How it ended."""
        return self._process.wait()

    def close(self):
        """Let go of it, whether it has ended or not."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()
        if self._process.poll() is None:
            self._process.kill()
