"""The matrix: which client asks which target for what, in which order.

The order is A B C, B C A, C A B …: a neighbour that takes the machine for ten seconds then spoils one round of all targets, not all rounds
of one, and what comes first in a round is another target each time. While one target is measured the others are stopped (SIGSTOP), so that
not even their timers disturb.
"""

import contextlib
import itertools
import sys
import time

from . import clients, nvme
from .process import Failure, Program, disk_takes_part, free_port, last_wait, load_average, warnings

# A run in which the target or the client waited for its core for more than this share of the time is repeated,
LOST_MAX = 0.08
# so often at most, as long as there are repeats left in the whole measurement.
ATTEMPTS = 3
# After a change of the pattern the kernel takes memory for socket buffers that had been idle. A virtual machine's host may have taken it back
# (free page reporting), so each page faults in the hypervisor, inside the kernel's copy into the socket: what runs first is down to a third of its
# speed until all of the memory has been there once, which takes about so many seconds. An uncounted run pays for that before any target is measured.
SETTLE_SECONDS = 2.0
# With --quick a part of it stays in the first figures; the rotating order gives it to another target in each round.
SETTLE_SECONDS_QUICK = 0.5


CLIENTS = {**clients.CLIENTS, **nvme.CLIENTS}
# The clients, the patterns and the raw exchange of a protocol, by the name of that exchange.
PROTOCOLS = {"pingpong": clients, "pingpong-nvme": nvme}


class Plan:
    """What is measured, and for how long."""

    def __init__(self, rounds, fio_seconds, load_seconds, quick, chosen, targets, spdk):
        self.rounds, self.fio_seconds, self.load_seconds = rounds, fio_seconds, load_seconds
        self.quick, self.chosen, self.targets = quick, chosen, targets
        # Whether SPDK's client is there; its target is one of the targets.
        self.spdk = spdk
        self.backings = ["memory"] if quick else ["memory", "file"]

    def wants(self, *words):
        """True when --only names nothing, or every word of one of its entries."""
        return not self.chosen or any(all(part in words for part in entry.split("/")) for entry in self.chosen)

    def clients_of(self, backing):
        """On disk the disk is the limit and one client for each protocol is enough; over iSCSI fio, so that anybody can repeat it."""
        if backing == "file":
            return ["fio", "bench"]
        own = ["load", "fio"] if self.quick else ["load", "fio", "iscsi-perf"]
        return [*own, "bench", *(["spdk-perf"] if self.spdk else [])]

    def runs(self, backing, client, pattern):
        """True when this client measures this pattern."""
        return pattern in self.patterns_of(backing, client) and self.wants(backing, client, pattern.name)

    def patterns_of(self, backing, client):
        """Quick: fio only for the small blocks, and nothing with digests. Neither has a disk anything to say about digests."""
        if client in nvme.CLIENTS:
            return [p for p in nvme.PATTERNS if not (p.digests and (self.quick or backing == "file"))]
        return [p for p in clients.PATTERNS if not (self.quick and client == "fio" and p.size_bytes > 4096)]

    def holds(self, backing, client, pattern, target):
        """True when this cell is to be measured."""
        if target == "wire":
            return self.wants("wire", client, pattern)
        if target not in self.targets and not (target == "disk" and "vega" in self.targets):
            return False
        return backing in self.backings and client in self.clients_of(backing) and self.wants(backing, client, pattern) \
            and any(p.name == pattern for p in self.patterns_of(backing, client))

    def seconds_of(self, client):
        return self.fio_seconds if client == "fio" else self.load_seconds

    def settle_seconds(self):
        return SETTLE_SECONDS_QUICK if self.quick else SETTLE_SECONDS


def rotated(targets, number):
    """All of them, in the order of round `number` (the first is 1): each round begins one further on."""
    first = (number - 1) % max(1, len(targets))
    return [*targets[first:], *targets[:first]]


class Bench:
    """The running targets and what has been measured so far."""

    def __init__(self, place, client_core, targets, repeats):
        self.place, self.client_core, self.targets = place, client_core, targets
        self.results = []
        self.repeats_left = repeats

    def say(self, text):
        print(f"perf: {text}", file=sys.stderr, flush=True)

    def only(self, target):
        """Lets this target run and none of the others."""
        for other in self.targets.values():
            if other is target:
                other.program.thaw()
            else:
                other.program.freeze()

    def fill(self, backings):
        """Every block of every unit is written once: no read is answered from a hole."""
        for target in self.targets.values():
            if target.name == "canned":
                continue
            self.only(target)
            for backing in backings:
                self.say(f"filling {target.name}, {backing}")
                # The units of a target and its namespaces are the same volumes.
                if backing in target.units:
                    clients.load_raw(self.place.programs, self.client_core, target.units[backing], "fill", 256 << 10, 16, 0)
                else:
                    nvme.spdk_fill(self.place.programs, self.client_core, target.namespaces[backing])

    def unit_of(self, target, backing, client):
        """What this client reaches of the target; nothing where they have no protocol or no backing in common."""
        return (target.namespaces if client in nvme.CLIENTS else target.units).get(backing)

    def run_once(self, unit, client, pattern, seconds):
        return CLIENTS[client](self.place.programs, self.client_core, unit, pattern, seconds, self.place.size_bytes)

    def cells(self, backing, client, patterns, plan, number):
        """One run of each target that this client reaches, in the order of the round: of each pattern, plain and with digests."""
        reached = [(target, self.unit_of(target, backing, client)) for target in self.targets.values()]
        reached = rotated([(target, unit) for target, unit in reached if unit is not None], number)
        if backing == "memory" and len(reached) > 1:
            for pattern in patterns:
                self.settle(*reached[0], client, pattern, plan.settle_seconds() / len(patterns))
        for target, unit in reached:
            for pattern in patterns:
                self.cell(target, unit, backing, client, pattern, plan.seconds_of(client), number)

    def settle(self, target, unit, client, pattern, seconds):
        """The uncounted run before a pattern's first cell (SETTLE_SECONDS). On disk the disk is the limit; beside no other target nothing is compared."""
        self.only(target)
        try:
            self.run_once(unit, client, pattern, seconds)
        except Failure as failure:
            # The cell that follows will fail the same way and be reported as missing.
            self.say(f"settling {target.name}, {client}, {pattern.name}: {failure}")

    def cell(self, target, unit, backing, client, pattern, seconds, number):
        """One run; repeated while the neighbours took too much of it and there are repeats left."""
        self.only(target)
        try:
            figures = self.least_disturbed(target.program, lambda: self.run_once(unit, client, pattern, seconds))
        except Failure as failure:
            self.say(f"FAILED {target.name}, {backing}, {client}, {pattern.name}: {failure}")
            warnings.add(f"a run failed and is missing: {target.name}, {backing}, {client}, {pattern.name}")
            return
        if figures is not None:
            self.note(target.name, backing, client, pattern.name, number, figures)

    def least_disturbed(self, program, measure):
        """The figures of the run in which the two programs waited least for their cores."""
        best = None
        for _ in range(ATTEMPTS):
            load_before, started, before = load_average(), time.monotonic(), program.scheduled()
            figures = measure()
            if figures is None:
                return None
            target_share = program.waited_since(before) / (time.monotonic() - started)
            figures["lost"] = max(target_share, last_wait["share"])
            figures["load_average"] = load_before
            if best is None or figures["lost"] < best["lost"]:
                best = figures
            if best["lost"] < LOST_MAX or self.repeats_left == 0:
                break
            self.repeats_left -= 1
        return best

    def note(self, target, backing, client, pattern, number, figures):
        self.results.append({
            "target": target, "backing": backing, "client": client, "pattern": pattern, "round": number, "at": round(time.time(), 1), **figures,
        })
        latency = figures["latency_us"].get("50")
        p50 = f", p50 {latency:.1f} µs" if latency else ""
        self.say(
            f"{number} {backing:6} {client:10} {pattern:13} {target:9} {figures['iops']:10.0f} IOPS{p50}, "
            f"load {figures['load_average']:.1f}, lost {100 * figures['lost']:.0f} %"
        )

    def matrix(self, plan):
        for number in range(1, plan.rounds + 1):
            for backing in plan.backings:
                programs = [target.program for target in self.targets.values()]
                with disk_takes_part(programs) if backing == "file" else contextlib.nullcontext():
                    self.backing(backing, plan, number)

    def backing(self, backing, plan, number):
        """What is compared is measured side by side: the clients of one protocol with one pattern, then what it is held against."""
        for name, protocol in PROTOCOLS.items():
            for _, group in itertools.groupby(protocol.PATTERNS, lambda pattern: pattern.plain_name):
                alike = list(group)
                for client in plan.clients_of(backing):
                    chosen = [pattern for pattern in alike if client in protocol.CLIENTS and plan.runs(backing, client, pattern)]
                    if chosen:
                        self.cells(backing, client, chosen, plan, number)
                self.limit(backing, name, alike[0], plan, number)

    def limit(self, backing, name, pattern, plan, number):
        """The raw exchange of the pattern's sizes, or the disk without a target."""
        if backing == "memory":
            self.wire(name, pattern, plan, number)
        elif PROTOCOLS[name] is nvme and "vega" in self.targets and plan.runs(backing, "bench", pattern):
            self.disk(pattern, plan.fio_seconds, number)

    def disk(self, pattern, seconds, number):
        """The file of Vega's file volume without Vega, which is stopped meanwhile, as one more target."""
        vega = self.targets["vega"]
        path = vega.file_of_blocks()
        self.freeze_all()

        def measure():
            return nvme.disk(self.place.programs, self.client_core, path, pattern, seconds, self.place.size_bytes)

        self.note("disk", "file", "bench", pattern.name, number, self.least_disturbed(vega.program, measure))

    def freeze_all(self):
        for target in self.targets.values():
            target.program.freeze()

    def wire(self, name, pattern, plan, number):
        """The raw exchange, with the sizes of either protocol, as one more target."""
        if not plan.wants("wire", name, pattern.name):
            return
        self.freeze_all()
        port = free_port()
        server = Program([self.place.programs["PINGPONG"], "serve", f"127.0.0.1:{port}"], self.place.core, False, self.place.log("pingpong"))
        try:
            server.wait_listening(port)

            def measure(seconds):
                return PROTOCOLS[name].pingpong(self.place.programs, self.client_core, f"127.0.0.1:{port}", pattern, seconds)

            # What Vega is held against must not pay for the change of the pattern either: that would flatter Vega.
            measure(plan.settle_seconds())
            self.note("wire", "memory", name, pattern.name, number, self.least_disturbed(server, lambda: measure(plan.load_seconds)))
        finally:
            server.stop()
