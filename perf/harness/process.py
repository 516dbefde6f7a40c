"""Programs on cores of their own, as undisturbed as a shared machine allows.

Every program gets its own session, so its own scheduling autogroup, at nice -20: plain nice means nothing between sessions. What sleeps
between requests also gets SCHED_RR: without it a program that wakes up waits for its neighbours' slices (milliseconds on a loaded machine).
What spins does not get it unless that was asked for (`--realtime`): it leaves a twentieth of its core to everybody else.

Where a disk takes part nobody gets any of this (`disk_takes_part`): the kernel finishes direct writes in a thread of ordinary priority on the core
that the disk interrupts, and beside a program of high priority that spins there each write waits for the next tick, up to four milliseconds. Nor does
the client spin for ever there: of equals too the one that spins may keep its core to the end of its slice, three milliseconds, in every tenth batch.
"""

import contextlib
import glob
import os
import signal
import socket
import subprocess
import tempfile
import time

warnings = set()
# Whether what spins gets SCHED_RR as well.
everything_realtime = {"on": False}
# The autogroup's nice value of programs that start now.
FAVOURED, ORDINARY = "-20", "0"
favour = {"nice": FAVOURED}


def pinned(core, sleeps):
    """A function for `preexec_fn` that pins and raises the priority of the program that is about to start."""

    def prepare():
        os.sched_setaffinity(0, {core})
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write(favour["nice"])
            if favour["nice"] == FAVOURED and (sleeps or everything_realtime["on"]):
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except (PermissionError, FileNotFoundError):
            pass

    return prepare


@contextlib.contextmanager
def disk_takes_part(programs):
    """Ordinary priority for these running programs, and for all that start, until the end of the block."""
    for program in programs:
        program.set_favoured(False)
    favour["nice"] = ORDINARY
    try:
        yield
    finally:
        favour["nice"] = FAVOURED
        for program in programs:
            program.set_favoured(True)


def disk_is_part():
    """True inside a `disk_takes_part` block."""
    return favour["nice"] == ORDINARY


def note_privileges():
    """Says once what not being root costs."""
    if os.geteuid() != 0:
        warnings.add("not root: no priorities, so neighbours disturb every figure; run as root for figures worth comparing")
    if len(os.sched_getaffinity(0)) < 2:
        warnings.add("fewer than two cores: target and client share one, the figures say little")


class Program:
    """A program that runs in the background until it is stopped."""

    def __init__(self, command, core, sleeps, log, cwd=None, environment=None):
        self.log = log
        self.command = command
        self.realtime = sleeps or everything_realtime["on"]
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, env=environment,
                start_new_session=True, preexec_fn=pinned(core, sleeps),
            )

    def wait_listening(self, port, seconds=20):
        """Until somebody accepts on the port; an error with the end of the log otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failure(f"{self.command[0]} does not listen on {port}:\n{self.log_tail()}")

    def log_tail(self, length=1500):
        with open(self.log, "rb") as file:
            return file.read()[-length:].decode(errors="replace")

    def freeze(self):
        """Takes it off the core while another one is measured."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def scheduled(self):
        """Nanoseconds on a core, and nanoseconds runnable without getting one, so far, of each thread."""
        return {task: schedstat(f"{task}/schedstat") for task in glob.glob(f"/proc/{self.process.pid}/task/*")}

    def cpu_mark(self):
        """Something to give to `cpu_seconds_since` later."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]), self.scheduled()

    def cpu_seconds_since(self, mark):
        """Time on a core since the mark. The scheduler's nanoseconds, of the threads that are still there; or the process's ticks
        of ten milliseconds, which forget no thread, where they say more."""
        ticks_before, before = mark
        ticks, now = self.cpu_mark()
        threads = sum(running - before.get(task, (0, 0))[0] for task, (running, _) in now.items()) / 1e9
        return max(threads, (ticks - ticks_before - 1) / os.sysconf("SC_CLK_TCK"))

    def waited_since(self, before):
        """Seconds that its busiest thread has waited for a core since `before`, an earlier answer of `scheduled`."""
        changes = [
            (running - before.get(task, (0, 0))[0], waiting - before.get(task, (0, 0))[1]) for task, (running, waiting) in self.scheduled().items()
        ]
        return max(changes, default=(0, 0))[1] / 1e9

    def set_realtime(self, on):
        """For the time of a measurement in which it mostly sleeps; see above who never gets it."""
        policy, parameter = (os.SCHED_RR, os.sched_param(1)) if on else (os.SCHED_OTHER, os.sched_param(0))
        for task in glob.glob(f"/proc/{self.process.pid}/task/*"):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(int(os.path.basename(task)), policy, parameter)

    def set_favoured(self, on):
        """Gives it what every program starts with, or takes it away."""
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/autogroup", "w", encoding="ascii") as file:
            file.write(FAVOURED if on else ORDINARY)
        if self.realtime:
            self.set_realtime(on)

    def stop(self, patience_seconds=10):
        if self.process.poll() is not None:
            return
        self.thaw()
        self.process.terminate()
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Failure(Exception):
    """Something could not be measured; the text says what to do."""


def schedstat(path):
    """Nanoseconds running and nanoseconds waiting for a core; zeros when the thread is gone."""
    try:
        with open(path, encoding="ascii") as file:
            running, waiting, _ = file.read().split()
        return int(running), int(waiting)
    except (OSError, ValueError):
        return 0, 0


# The share of its time that the last client waited for a core.
last_wait = {"share": 0.0}


def run(command, core, sleeps, seconds, cwd=None):
    """Runs a client to its end and returns what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=cwd,
            start_new_session=True, preexec_fn=pinned(core, sleeps),
        )
        try:
            # It has ended and is not yet reaped: its counters can still be read.
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                if time.monotonic() > started + seconds:
                    raise Failure(f"{' '.join(command)} did not end within {seconds} s")
                time.sleep(0.02)
            _, waiting = schedstat(f"/proc/{process.pid}/schedstat")
            last_wait["share"] = waiting / 1e9 / (time.monotonic() - started)
        finally:
            if process.returncode is None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                # Only what this call started: its session is its process group.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        errors.seek(0)
        text, complaint = out.read(), errors.read()
    if process.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {process.returncode}: {complaint.strip()[-500:] or text.strip()[-500:]}")
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load_average():
    return os.getloadavg()[0]
