#!/usr/bin/env python3
"""What the user-space NVMe driver costs: `python3 perf/driver.py`.

Beside each other: the copy of 4 KiB, which is the limit of an emulated controller; the driver over a device without media; the
driver over an emulated controller, as a bare loop and as `vega bench` runs it. Of each the nanoseconds and instructions of one I/O, and of whole
runs the rate of a core, the doorbells and the latency. `--pcie ADDRESS` adds reads from a controller of this machine.
"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)

from harness.process import Failure, load_average, note_privileges, run, warnings  # noqa: E402

# What: the case of icount.
CASES = [
    ("copy of 4 KiB: the limit of the emulated rows", "emulated-copy"),
    ("driver, device without media, depth 1", "driver-1"),
    ("driver, device without media, depth 32", "driver-32"),
    ("… the device's part of that", "driver-device-32"),
    ("… the caller's part of that", "driver-shell-32"),
    ("driver and emulated controller, read, depth 1", "emulated-read-1"),
    ("driver and emulated controller, read, depth 32", "emulated-read-32"),
    ("driver and emulated controller, write, depth 32", "emulated-write-32"),
]
# Pattern and depth of the runs of `vega bench`. A controller in memory is written to as well: what was never written is read without a copy.
EMULATED = "nvme-emulated://4MiB"
LOADS = [("randrw", 1), ("randrw", 32), ("randrw", 128), ("randwrite", 32)]
READS = [("randread", 1), ("randread", 32), ("randread", 128)]
COLUMNS = ["", "ns per I/O", "instructions", "IOPS per core", "doorbells per I/O", "p50 µs", "p99 µs"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vega", default=os.path.join(ROOT, "target", "release", "vega"), help="the program [target/release/vega]")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the processor that spins [the last]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run [2]")
    parser.add_argument("--rounds", type=int, default=3, help="of each run, of which the median is told [3]")
    parser.add_argument("--pcie", metavar="ADDRESS", help="a controller of this machine, which is only read")
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    parser.add_argument("--no-instructions", action="store_true", help="leave valgrind out")
    parser.add_argument("--out", help="write everything here as JSON")
    return parser.parse_args()


def instructions(case):
    """As perf/icount/run.sh counts them; its verdict on the budget is not the question here."""
    done = subprocess.run([os.path.join(HERE, "icount", "run.sh"), "--no-build", "--only", case], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        words = line.split()
        if words and words[0] == case:
            return int(words[1])
    raise Failure(f"perf/icount/run.sh --only {case}: {done.stderr.strip()[-500:]}")


def case_rows(options):
    programs = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
    for what, case in CASES:
        program = os.path.join(programs, "icount-emulated" if case.startswith("emulated-") else "icount")
        nanoseconds = float(run([program, "time", case], options.core, False, 300))
        yield {"what": what, "case": case, "ns": nanoseconds, "instructions": None if options.no_instructions else instructions(case)}


def load(options, target, pattern, depth):
    command = [
        options.vega, "bench", target, "--output", "json", "--core", str(options.core), "--pattern", pattern, "--depth", str(depth),
        "--runtime", f"{int(1000 * options.seconds)}ms", "--warm-up", "300ms",
    ]
    runs = [json.loads(run(command, options.core, False, 60 + 4 * options.seconds)) for _ in range(options.rounds)]
    runs.sort(key=lambda one: one["total"]["requests_per_second"])
    return runs[len(runs) // 2]


def load_rows(options):
    targets = [(EMULATED, pattern, depth) for pattern, depth in LOADS]
    if options.pcie:
        targets += [(f"nvme-pcie://{options.pcie}", pattern, depth) for pattern, depth in READS]
    for target, pattern, depth in targets:
        told = load(options, target, pattern, depth)
        total, percentiles = told["total"], {one["percent"]: one["us"] for one in told["total"]["latency"]["percentiles"]}
        yield {
            "what": f"vega bench {target}, {pattern}, depth {depth}",
            "ns": total["core_ns_per_request"],
            "iops_per_core": total["requests_per_second_per_core"],
            "doorbells": told["controller"]["doorbells_per_command"],
            "p50_us": percentiles[50.0],
            "p99_us": percentiles[99.0],
        }


def cells(row):
    def shown(name, form):
        return form.format(row[name]) if row.get(name) is not None else "–"

    # A bare loop on one core: its rate is what its time allows.
    rate = row.get("iops_per_core", 1e9 / row["ns"] if row["ns"] > 0 else None)
    return [
        row["what"], f"{row['ns']:.0f}", shown("instructions", "{:,}"), f"{rate:,.0f}" if rate else "–", shown("doorbells", "{:.3f}"),
        shown("p50_us", "{:.1f}"), shown("p99_us", "{:.1f}"),
    ]


def main():
    options = arguments()
    note_privileges()
    try:
        if not options.no_build:
            subprocess.run(["cargo", "build", "--release", "--quiet", "--package", "vega", "--package", "icount"], cwd=ROOT, check=True)
        rows = [*case_rows(options), *load_rows(options)]
    except (Failure, subprocess.CalledProcessError) as failure:
        print(f"driver: {failure}", file=sys.stderr)
        return 2
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(cells(row)) + " |")
    by_case = {row.get("case"): row["ns"] for row in rows}
    share = by_case["emulated-copy"] / by_case["emulated-read-32"]
    print(f"\nThe copy is {share:.0%} of an emulated read at depth 32. Load average {load_average():.1f}.")
    for warning in sorted(warnings):
        print(f"Note: {warning}.")
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
