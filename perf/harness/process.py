"""Programs on cores of their own, as undisturbed as a shared machine allows.

Every program gets its own session, so its own scheduling autogroup, at nice -20: plain nice means nothing between sessions. What sleeps
between requests also gets SCHED_RR: without it a program that wakes up waits for its neighbours' slices (milliseconds on a loaded machine).
What spins never gets it: it would starve the kernel's own threads on its core.
"""

import contextlib
import glob
import os
import signal
import socket
import subprocess
import time

warnings = set()


def pinned(core, sleeps):
    """A function for `preexec_fn` that pins and raises the priority of the program that is about to start."""

    def prepare():
        os.sched_setaffinity(0, {core})
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write("-20")
            if sleeps:
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except (PermissionError, FileNotFoundError):
            pass

    return prepare


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

    def cpu_seconds(self):
        """Time on a core of all its threads so far, from the scheduler's own counters (nanoseconds, not ticks)."""
        total_ns = 0
        for task in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with contextlib.suppress(OSError), open(task, encoding="ascii") as file:
                total_ns += int(file.read().split()[0])
        return total_ns / 1e9

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


def run(command, core, sleeps, seconds, cwd=None):
    """Runs a client to its end and returns what it printed."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, text=True,
        start_new_session=True, preexec_fn=pinned(core, sleeps),
    )
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Only what this call started: its session is its process group.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failure(f"{' '.join(command)} did not end within {seconds} s") from None
    if process.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {process.returncode}: {errors.strip()[-500:] or out.strip()[-500:]}")
    return out


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load_average():
    return os.getloadavg()[0]
