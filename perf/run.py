#!/usr/bin/env python3
"""Measures Vega beside tgt, istgt and (where SPDK_DIR names a built one) SPDK on this machine: `make perf`. README.md says how to read what it prints."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from harness import check, idle, network, nvme, plot, report
from harness.cells import Bench, Plan
from harness.process import Failure, everything_realtime, note_privileges
from harness.summary import summarise
from harness.targets import Place
from harness.targets import TARGETS as ISCSI_TARGETS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TARGETS = {**ISCSI_TARGETS, "spdk": nvme.Spdk}
RESULTS = os.path.join(HERE, "results")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some four minutes: memory only, short runs")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="cells with these words, separated by '/': memory/fio/4k-read-1, file, load, bench, idle, wake, poll, wire (repeatable)")
    parser.add_argument("--targets", help="which targets, separated by commas (default: vega,tgt,istgt,canned, and spdk when SPDK_DIR is set)")
    parser.add_argument("--rounds", type=int, help="rounds (default 3, with --quick 2)")
    parser.add_argument("--seconds", type=float, help="length of one run of fio; the own client runs for 70 %% of it")
    parser.add_argument("--check", action="store_true", help="judge by budgets.toml; exit 1 when a budget is missed")
    parser.add_argument("--vega", help="measure this binary of vega, built before (to compare two commits)")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    parser.add_argument("--realtime", action="store_true", help="real-time priority also for what spins: steady figures on a busy machine, which then stands still for its other users")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of each unit (default: %(default)s)")
    parser.add_argument("--out", default=RESULTS, help="folder for results (default: perf/results)")
    return parser.parse_args()


def programs(options, targets):
    """Paths of everything that is started; builds and fetches what is missing."""
    built = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    found = nvme.spdk_programs()
    peers = subprocess.run([os.path.join(HERE, "peers.sh")], stdout=subprocess.PIPE, text=True, check=False)
    if peers.returncode != 0:
        raise Failure("the peers are not there (see above)")
    found.update(line.split("=", 1) for line in peers.stdout.splitlines() if "=" in line)
    if not options.no_build:
        packages = ["--package", "perf"]
        if not options.vega and any(name.startswith("vega") for name in targets):
            packages += ["--package", "vega"]
        subprocess.run(["cargo", "build", "--release", *packages], cwd=ROOT, check=True)
    for name in ("load", "canned", "pingpong", "silence"):
        found[name.upper()] = os.path.join(built, "release", name)
    found["VEGA"] = os.path.abspath(options.vega) if options.vega else os.path.join(built, "release", "vega")
    return found


def plan_of(options):
    spdk = bool(nvme.spdk_programs())
    targets = options.targets.split(",") if options.targets else ["vega", "tgt", "istgt", *(["spdk"] if spdk else []), "canned"]
    unknown = [name for name in targets if name not in TARGETS]
    if unknown:
        raise Failure(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if "spdk" in targets and not spdk:
        raise Failure("the target spdk needs SPDK_DIR: a tree with build/bin/nvmf_tgt and build/bin/spdk_nvme_perf")
    if not spdk:
        print("perf: " + report.NO_SPDK, file=sys.stderr)
    seconds = options.seconds or (1.0 if options.quick else 2.0)
    return Plan(options.rounds or (2 if options.quick else 3), seconds, 0.7 * seconds, options.quick, options.only, targets, spdk)


def measure(options, plan, directory, memory_directory):
    cores = sorted(os.sched_getaffinity(0))
    target_core, client_core = cores[0], cores[-1]
    place = Place(directory, memory_directory, options.size_mib << 20, target_core, programs(options, plan.targets))
    # The peers are fetched; from here on nothing needs another network.
    network.enter()
    targets = {name: TARGETS[name](place) for name in plan.targets}
    bench = Bench(place, client_core, targets, repeats=20 if plan.quick else 60)
    idle_rows = []
    try:
        for target in targets.values():
            bench.say(f"starting {target.name}")
            target.start()
        bench.fill(plan.backings)
        bench.matrix(plan)
        if any(plan.wants(word) for word in ("idle", "wake", "poll")):
            poll = TARGETS["vega-poll"](place) if "vega" in targets else None
            idle_rows = idle.run(bench, plan, poll)
    finally:
        for target in targets.values():
            target.stop()
    return bench, idle_rows


def write(options, bench, idle_rows, versions):
    os.makedirs(options.out, exist_ok=True)
    facts = report.machine(ROOT)
    summaries = summarise(bench.results)
    notes = {name: target.notes for name, target in bench.targets.items()}
    text = report.markdown(summaries, idle_rows, notes, facts, versions)
    with open(os.path.join(options.out, "latest.md"), "w", encoding="utf-8") as file:
        file.write(text)
    report.write_json(os.path.join(options.out, "latest.json"), bench.results, summaries, idle_rows, facts)
    for backing in ("memory", "file"):
        for client in ("load", "fio", "bench"):
            picture = plot.svg(summaries, backing, client, f"{backing}-backed, client {client}")
            if picture:
                with open(os.path.join(options.out, f"latency-{backing}-{client}.svg"), "w", encoding="utf-8") as file:
                    file.write(picture)
    print(text)
    bench.say(f"written to {options.out}")
    return summaries


def versions_of(bench):
    def first_line(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().splitlines()[0] if (done.stdout or done.stderr).strip() else "unknown"

    found = bench.place.programs
    packages = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}, ", "tgt", "istgt", "libiscsi7"], capture_output=True, text=True, check=False
    ).stdout.rstrip(", ")
    spdk = f", {first_line(found['NVMF_TGT'], '--version')}" if "spdk" in bench.targets else ""
    return f"{first_line(found['FIO'], '--version')}, {packages}{spdk}"


def main():
    options = arguments()
    # Told to stop, it stops what it has started: a target left behind would spin for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    note_privileges()
    everything_realtime["on"] = options.realtime
    cache = os.environ.get("VEGA_CACHE", os.path.join(ROOT, ".cache"))
    os.makedirs(os.path.join(cache, "perf"), exist_ok=True)
    directory = tempfile.mkdtemp(prefix="run-", dir=os.path.join(cache, "perf"))
    memory_directory = tempfile.mkdtemp(prefix="vega-perf-", dir="/dev/shm")
    try:
        plan = plan_of(options)
        bench, idle_rows = measure(options, plan, directory, memory_directory)
        summaries = write(options, bench, idle_rows, versions_of(bench))
    except Failure as failure:
        print(f"perf: {failure}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(memory_directory, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)
    if not options.check:
        return 0
    verdicts = check.check(os.path.join(HERE, "budgets.toml"), summaries, idle_rows, plan)
    for text, passed in verdicts:
        print({True: "ok     ", False: "MISSED ", None: "skipped "}[passed] + text)
    return 1 if any(passed is False for _, passed in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
