"""The clients: what each is asked to do and how its answer is read. All return one plain figure set per run."""

import json
import os
import re

from .process import Failure, run

PERCENTILES = [1, 10, 25, 50, 90, 95, 99, 99.9, 99.99]
FIO_OUTPUT = [
    "--clat_percentiles=0", "--lat_percentiles=1", f"--percentile_list={':'.join(map(str, PERCENTILES))}", "--output-format=json+",
]


class Pattern:
    """A shape of load."""

    def __init__(self, name, direction, size_bytes, depth, digests=False):
        self.direction, self.size_bytes, self.depth, self.digests = direction, size_bytes, depth, digests
        # The same load without digests has the same plain name.
        self.plain_name, self.name = name, f"{name}-digests" if digests else name
        self.title = f"{size_bytes >> 10} KiB {direction.replace('rand', 'random ')}, depth {depth}{', digests' if digests else ''}"


PATTERNS = [
    Pattern("4k-read-1", "randread", 4 << 10, 1),
    Pattern("4k-write-1", "randwrite", 4 << 10, 1),
    Pattern("4k-read-32", "randread", 4 << 10, 32),
    Pattern("4k-write-32", "randwrite", 4 << 10, 32),
    Pattern("128k-read-32", "read", 128 << 10, 32),
    Pattern("128k-write-32", "write", 128 << 10, 32),
]


def fio(programs, core, unit, pattern, seconds, size_bytes):
    """fio with its libiscsi engine: what users of libiscsi (QEMU among them) see."""
    command = [
        programs["FIO"], "--name=perf", "--ioengine=libiscsi", f"--filename={unit.url.replace(':', chr(92) + ':')}",
        f"--rw={pattern.direction}", f"--bs={pattern.size_bytes}", f"--iodepth={pattern.depth}", "--time_based",
        f"--runtime={seconds}", "--ramp_time=0.5", f"--size={size_bytes}", "--norandommap", "--randrepeat=1",
        *FIO_OUTPUT,
    ]
    return figures_of_fio(command, core, pattern, seconds)


def figures_of_fio(command, core, pattern, seconds):
    # fio leaves state files where it runs.
    text = run(command, core, True, seconds + 30, cwd=os.environ.get("TMPDIR", "/tmp"))
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failure(f"{' '.join(command)}: fio ended with error {job['error']}")
    side = job["write" if "write" in pattern.direction else "read"]
    latency = {f"{float(key):g}": value / 1e3 for key, value in side["lat_ns"].get("percentile", {}).items()}
    return {"iops": side["iops"], "bytes_per_second": side["bw_bytes"], "latency_us": latency}


def load(programs, core, unit, pattern, seconds, _size_bytes):
    """The own client: spinning, many PDUs per system call; it is never the limit."""
    return load_raw(programs, core, unit, pattern.direction, pattern.size_bytes, pattern.depth, seconds)


def load_raw(programs, core, unit, pattern, size_bytes, depth, seconds, sleeps=False):
    command = [programs["LOAD"], unit.address, unit.name, str(unit.lun), pattern, str(size_bytes), str(depth), str(seconds)]
    figures = json.loads(run(command, core, sleeps, seconds + 60))
    if figures["failed"]:
        raise Failure(f"{figures['failed']} commands failed on {unit.url}")
    return figures


def iscsi_perf(programs, core, unit, pattern, seconds, _size_bytes):
    """libiscsi's own load program, a second opinion; it only reads."""
    if pattern.direction != "randread":
        return None
    command = [
        programs["ISCSI_PERF"], "-r", "-m", str(pattern.depth), "-b", str(pattern.size_bytes // 512), "-t", str(max(1, round(seconds))), unit.url,
    ]
    found = re.findall(r"iops average (\d+)", run(command, core, True, seconds + 30))
    if not found:
        raise Failure(f"iscsi-perf said nothing about {unit.url}")
    iops = float(found[-1])
    return {"iops": iops, "bytes_per_second": iops * pattern.size_bytes, "latency_us": {}}


def pingpong(programs, core, address, pattern, seconds):
    """The raw exchange of the same sizes: header with command one way, header with data the other way."""
    command_bytes, header_bytes = 48, 48
    request, response = command_bytes, header_bytes
    if "write" in pattern.direction:
        request += pattern.size_bytes
    else:
        response += pattern.size_bytes
    return figures_of_pingpong(programs, core, address, (request, response), pattern, seconds)


def figures_of_pingpong(programs, core, address, sizes_bytes, pattern, seconds):
    request, response = sizes_bytes
    arguments = [programs["PINGPONG"], "run", address, str(request), str(response), str(pattern.depth), str(seconds)]
    found = json.loads(run(arguments, core, False, seconds + 30))
    latency = {key: found[name] for key, name in (("50", "p50_us"), ("90", "p90_us"), ("99", "p99_us"), ("99.9", "p999_us")) if name in found}
    return {"iops": found["iops"], "bytes_per_second": found["iops"] * pattern.size_bytes, "latency_us": latency}


CLIENTS = {"load": load, "fio": fio, "iscsi-perf": iscsi_perf}
