"""Starts and keeps the services of a stand-in host as their unit files say.

Knows what the units of this project and of Kea's packages use, and complains about nothing else:
the sandboxing, the dependencies and the limits of systemd are left to the lab. One keeper process
for each running service restarts it, counts that, and notes the state for `systemctl show`.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATES = Path("/run/standin/units")
JOURNAL = Path("/run/standin/journal")
RELOADED = Path("/run/standin/reloaded")
PLACES = ("/etc/systemd/system", "/usr/lib/systemd/system")
DIRECTORIES = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "LogsDirectory": "/var/log",
}


def read_unit(unit):
    """The settings of a unit and its drop-ins: name -> values, an empty one forgets the former."""
    found = {}
    file = next((f for p in PLACES if (f := Path(p, unit)).exists()), None)
    if file is None:
        raise SystemExit(f"Failed to start {unit}: Unit {unit} not found.")
    if file.resolve() == Path("/dev/null"):
        raise SystemExit(f"Failed to start {unit}: Unit {unit} is masked.")
    for part in (file, *sorted(Path(PLACES[0], f"{unit}.d").glob("*.conf"))):
        text = part.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            name, separator, value = line.partition("=")
            if separator and not line.startswith(("#", ";")):
                if value.strip():
                    found.setdefault(name.strip(), []).append(value.strip())
                else:
                    found[name.strip()] = []
    return found


def is_outdated(unit):
    """Whether systemd would not start it from what is on disk now, until it is reloaded."""
    # Masks come and go with a change of the folder.
    parts = [Path(PLACES[0]), Path(PLACES[0], unit), *Path(PLACES[0], f"{unit}.d").glob("*.conf")]
    return RELOADED.exists() and any(
        part.exists() and part.stat().st_mtime_ns > RELOADED.stat().st_mtime_ns for part in parts
    )


class Service:
    """One unit: how to prepare it, how to run its commands, and what to note of it."""

    def __init__(self, unit):
        self.unit, self.settings = unit, read_unit(unit)

    def last(self, name, default=""):
        """The value of a setting that counts."""
        return (self.settings.get(name) or [default])[-1]

    def note(self, active, pid=0, restarts=0):
        """Leave the state for `systemctl show`, whole at any time."""
        STATES.mkdir(parents=True, exist_ok=True)
        new = STATES / f".{self.unit}.{os.getpid()}"
        new.write_text(f"{active} {pid} {restarts}\n")
        new.rename(STATES / self.unit)

    def command(self, line):
        """The argument list of an ExecStart line, as the service's own user where it has one."""
        plain = line.lstrip("+-!:@")
        signs = line[: len(line) - len(plain)]
        words = shlex.split(plain.replace("%n", self.unit).replace("%%", "%"))
        argv = [word.replace("$$", "$") for word in words]
        user = self.last("User")
        if user and "+" not in signs:
            given = ",".join(
                f"+{name.removeprefix('CAP_').lower()}"
                for name in self.last("AmbientCapabilities").split()
            )
            capabilities = [f"--inh-caps={given}", f"--ambient-caps={given}"] if given else []
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
                    *capabilities, "--", *argv]  # fmt: skip
        return argv, "-" in signs

    def spawn(self, line):
        """Start one command; what it prints goes to the journal."""
        JOURNAL.mkdir(parents=True, exist_ok=True)
        argv, _ = self.command(line)
        environment = dict(os.environ)
        for item in self.settings.get("Environment", ()):
            name, _, value = item.strip('"').partition("=")
            environment[name] = value
        with (JOURNAL / self.unit).open("a") as journal:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                env=environment,
                umask=int(self.last("UMask", "0022"), 8),
                start_new_session=True,
            )

    def prepare(self):
        """Make its directories and run what comes before; whether that went well."""
        for setting, place in DIRECTORIES.items():
            for name in self.last(setting).split():
                directory = Path(place, name)
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(int(self.last(f"{setting}Mode", "0755"), 8))
                shutil.chown(directory, self.last("User", "root"), self.last("User", "root"))
        for line in self.settings.get("ExecStartPre", ()):
            if self.spawn(line).wait() and not self.command(line)[1]:
                return False
        return True

    def keep(self, report):
        """Run the service, again and again if it is to be restarted, until it is stopped.

        Says through the pipe ``report`` whether the first start went as far as the program.
        """
        restarts = 0
        while True:
            started = self.prepare()
            if started:
                process = self.spawn(self.settings["ExecStart"][-1])
                self.note("active", process.pid, restarts)
                if report is not None:
                    os.write(report, b"started")
                    os.close(report)
                    report = None
                stopping = []

                def stop(*_, process=process, stopping=stopping):
                    stopping.append(True)
                    process.terminate()

                signal.signal(signal.SIGTERM, stop)
                code = process.wait()
                if stopping or code == 0:
                    self.note("inactive")
                    return
            again = self.last("Restart") == "on-failure"
            restarts += 1
            self.note(*(("activating", 0, restarts) if again else ("failed",)))
            if report is not None:
                os.close(report)
                report = None
            if not again:
                return
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(float(self.last("RestartSec", "0.1")))


def start(unit):
    """Start a unit, and say whether that went as systemd would have it."""
    if keeper_of(unit):
        return True
    if is_outdated(unit):
        raise SystemExit(f"Failed to start {unit}: changed on disk. Run 'systemctl daemon-reload'.")
    if unit.endswith(".timer"):
        service = Service(unit)
        service.note("active")
        return True
    service = Service(unit)
    wanted = service.last("ConditionFileNotEmpty")
    if wanted and not (Path(wanted).exists() and Path(wanted).stat().st_size):
        return True  # a condition that does not hold is no failure
    if service.last("Type") == "oneshot":
        done = service.prepare() and all(
            service.spawn(line).wait() == 0 for line in service.settings["ExecStart"]
        )
        service.note("active" if done else "failed")
        return done
    service.note("activating")
    listening, report = os.pipe()
    if os.fork() == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.dup2(report, 3)
        os.closerange(4, 256)  # no lock and no pipe of whoever asked
        Path(f"/run/standin/{unit}.keeper").write_text(str(os.getpid()))
        service.keep(3)
        os._exit(0)
    os.close(report)
    if os.read(listening, 7):
        return True  # as systemd says of a simple service, also when it ends at once
    print(f'Job for {unit} failed. See "journalctl -xeu {unit}".', file=sys.stderr)
    return False


def keeper_of(unit):
    """The id of the process that keeps a running unit; 0 if there is none."""
    note = Path(f"/run/standin/{unit}.keeper")
    if not note.exists():
        return 0
    pid = int(note.read_text() or 0)
    try:
        # Process ids are used again.
        own = b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return 0
    return pid if own and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() else 0


def stop(unit):
    """Stop a unit and wait until it has ended."""
    if pid := keeper_of(unit):
        os.kill(pid, signal.SIGTERM)
        while keeper_of(unit):
            time.sleep(0.005)
        Path(f"/run/standin/{unit}.keeper").unlink()
    for line in Service(unit).settings.get("ExecStop", ()) if Path(STATES, unit).exists() else ():
        Service(unit).spawn(line).wait()
    (STATES / unit).unlink(missing_ok=True)
    return True


def main(verb, *units):
    done = True
    for unit in units:
        if verb in ("stop", "restart"):
            done = stop(unit) and done
        if verb in ("start", "restart"):
            done = start(unit) and done
        if verb == "reset-failed" and not keeper_of(unit):
            (STATES / unit).unlink(missing_ok=True)
    return 0 if done else 1


sys.exit(main(*sys.argv[1:]))
