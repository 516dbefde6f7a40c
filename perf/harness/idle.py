"""What a target costs when nothing happens, and what the first I/O after silence costs."""

import json
import statistics
import subprocess
import time

from . import clients, nvme
from .cells import rotated
from .process import Failure, Program, everything_realtime, free_port, load_average, pinned

SESSIONS = 8
PAUSE_MS = 20
# Follows the name of a target where it is asked over NVMe/TCP.
NVME_SUFFIX = ", NVMe/TCP"


def run(bench, plan, poll_target):
    """All the idle cells; a list of plain rows."""
    rows = []
    for target in bench.targets.values():
        if plan.quick and target.name not in ("vega", "canned"):
            continue
        bench.only(target)
        for protocol in (Iscsi, NvmeTcp):
            if "memory" not in protocol.places(target):
                continue
            row = {"target": target.name + protocol.suffix, "load_average": load_average()}
            # What spins has no share worth telling; of the emptiest target the wake-up shows the price of the client's own sleep.
            if plan.wants("idle") and target.name not in ("canned", "spdk"):
                row["cpu_percent"] = idle_cpu_percent(bench, target, protocol, 2.0 if plan.quick else 5.0)
            if plan.wants("wake"):
                row.update(wake(bench, target, protocol, plan))
            bench.say("idle " + json.dumps(row))
            rows.append(row)
    if plan.wants("wake"):
        rows.append(sleeper(bench, plan))
        bench.say("idle " + json.dumps(rows[-1]))
    if poll_target is not None and plan.wants("poll"):
        against_poll(bench, plan, poll_target)
    return rows


class Iscsi:
    """Eight silent sessions; a client that sleeps as the target does."""

    suffix = ""

    @staticmethod
    def places(target):
        return target.units

    @staticmethod
    def holder(bench, target, seconds):
        """A process that holds the sessions, once it does."""
        unit = target.units["memory"]
        command = [bench.place.programs["LOAD"], unit.address, unit.name, str(unit.lun), "hold", str(SESSIONS), "0", str(seconds)]
        holder = start(bench, command)
        if '"held"' not in holder.stdout.readline():
            raise Failure(f"{target.name} did not take {SESSIONS} sessions")
        return holder

    @staticmethod
    def busy(bench, target, plan):
        unit = target.units["memory"]
        return clients.load_raw(bench.place.programs, bench.client_core, unit, "randread", 4096, 1, plan.load_seconds)

    @staticmethod
    def after_silence(bench, target, seconds):
        unit = target.units["memory"]
        return clients.load_raw(bench.place.programs, bench.client_core, unit, "wake", 4096, PAUSE_MS, seconds, sleeps=True)


class NvmeTcp:
    """Eight silent hosts with an I/O queue each; a client that sleeps as the target does."""

    suffix = NVME_SUFFIX

    @staticmethod
    def places(target):
        return target.namespaces

    @staticmethod
    def command(bench, target, *words):
        place = target.namespaces["memory"]
        return [bench.place.programs["SILENCE"], f"127.0.0.1:{place.port}", place.nqn, str(place.nsid), *map(str, words)]

    @staticmethod
    def holder(bench, target, seconds):
        holder = start(bench, NvmeTcp.command(bench, target, "hold", SESSIONS, seconds))
        if '"held"' not in holder.stdout.readline():
            raise Failure(f"{target.name} did not take {SESSIONS} hosts")
        return holder

    @staticmethod
    def busy(bench, target, plan):
        return NvmeTcp.read(bench, target, 0, plan.load_seconds)

    @staticmethod
    def after_silence(bench, target, seconds):
        return NvmeTcp.read(bench, target, PAUSE_MS, seconds)

    @staticmethod
    def read(bench, target, pause_ms, seconds):
        command = NvmeTcp.command(bench, target, "read", pause_ms, seconds)
        return json.loads(clients.run(command, bench.client_core, True, seconds + 60))


def start(bench, command):
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=pinned(bench.client_core, True)
    )


def sleeper(bench, plan):
    """The same with no target: a thread that sleeps in a blocking receive and answers as many bytes. What this machine takes to wake anything."""
    port = free_port()
    bench.freeze_all()
    pingpong = bench.place.programs["PINGPONG"]
    server = Program([pingpong, "serve-asleep", f"127.0.0.1:{port}"], bench.place.core, True, bench.place.log("pingpong"))
    found = {"after_silence": [], "busy": []}
    try:
        server.wait_listening(port)
        for _ in range(plan.rounds):
            for name, pause_ms in (("busy", 0), ("after_silence", PAUSE_MS)):
                arguments = [pingpong, "wake", f"127.0.0.1:{port}", "48", "4144", str(pause_ms), str(2.5 if plan.quick else 4.0)]
                found[name].append(json.loads(clients.run(arguments, bench.client_core, True, 60)))
    finally:
        server.stop()
    row = {"target": "sleeper", "load_average": load_average()}
    row.update({f"{name}_p{p}_us": statistics.median(one[f"p{p}_us"] for one in rounds) for name, rounds in found.items() for p in (50, 99)})
    return row


def idle_cpu_percent(bench, target, protocol, seconds):
    """Processor time with silent sessions logged in, as a share of one core, in percent."""
    holder = protocol.holder(bench, target, seconds + 2)
    try:
        time.sleep(1)
        mark, start = target.program.cpu_mark(), time.monotonic()
        time.sleep(seconds)
        used, elapsed = target.program.cpu_seconds_since(mark), time.monotonic() - start
    finally:
        holder.terminate()
        holder.communicate()
    return 100 * used / elapsed


def wake(bench, target, protocol, plan):
    """One read every 20 ms against one read after the other: p50 and p99 of both, in microseconds."""
    seconds = 2.5 if plan.quick else 4.0
    found = {"after_silence": [], "busy": []}
    for _ in range(plan.rounds):
        busy = bench.least_disturbed(target.program, lambda: protocol.busy(bench, target, plan))
        # Both ends sleep most of the time now, and must not wait for their neighbours when they wake.
        if target.name != "canned":
            target.program.set_realtime(True)
        silence = protocol.after_silence(bench, target, seconds)
        target.program.set_realtime(target.sleeps or everything_realtime["on"])
        found["busy"].append(busy["latency_us"])
        found["after_silence"].append(silence["latency_us"])
    return {
        f"{name}_p{p}_us": statistics.median(one[str(p)] for one in rounds) for name, rounds in found.items() for p in (50, 99)
    }


def against_poll(bench, plan, poll_target):
    """Adaptive against never sleeping, under load: A B, B A, A B."""
    adaptive = bench.targets["vega"]
    poll_target.start()
    try:
        unit = poll_target.units["memory"]
        adaptive.program.freeze()
        clients.load_raw(bench.place.programs, bench.client_core, unit, "fill", 256 << 10, 16, 0)
        patterns = [pattern for pattern in clients.PATTERNS if pattern.direction == "randread"]
        # Neither pays for the change from writes to reads (SETTLE_SECONDS says why).
        clients.load(bench.place.programs, bench.client_core, unit, patterns[0], plan.settle_seconds(), 0)
        for number in range(1, plan.rounds + 1):
            for pattern in patterns:
                for cell, client in (("poll", clients.load), ("poll-nvme", nvme.bench)):
                    for target, name in rotated(((adaptive, "adaptive"), (poll_target, "poll")), number):
                        poll_target.program.freeze()
                        bench.only(target)
                        target.program.thaw()
                        places = target.units if client is clients.load else target.namespaces

                        def measure(client=client, unit=places["memory"], pattern=pattern):
                            return client(bench.place.programs, bench.client_core, unit, pattern, plan.load_seconds, 0)

                        bench.note(name, "memory", cell, pattern.name, number, bench.least_disturbed(target.program, measure))
    finally:
        poll_target.stop()
