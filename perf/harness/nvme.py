"""NVMe/TCP: the clients, the patterns, and SPDK as a peer where a built one is there.

Nothing here brings SPDK: `SPDK_DIR` names a tree in which `build/bin/nvmf_tgt` and `build/bin/spdk_nvme_perf` were built by hand. Without it
the rows of Vega are measured all the same and those that need SPDK are left out, which the report says.
"""

import json
import os
import re
import subprocess

from .clients import PATTERNS as SMALL_AND_LARGE
from .clients import FIO_OUTPUT, Pattern, figures_of_fio, figures_of_pingpong
from .process import Failure, Program, disk_is_part, free_port, run
from .targets import NQN, QUEUE_ENTRIES, Namespace, Target, make_file



def with_digests(pattern):
    """The pattern and, right behind it, the same with digests."""
    return [pattern, Pattern(pattern.name, pattern.direction, pattern.size_bytes, pattern.depth, digests=True)]


# Depth 128 is where batching shows. With digests, at the depth where they cost most beside everything else.
PATTERNS = [
    *SMALL_AND_LARGE[:2],
    *(each for pattern in SMALL_AND_LARGE[2:4] for each in with_digests(pattern)),
    Pattern("4k-read-128", "randread", 4 << 10, 128),
    Pattern("4k-write-128", "randwrite", 4 << 10, 128),
    *(each for pattern in SMALL_AND_LARGE[4:] for each in with_digests(pattern)),
]

# Its client names no host by itself, which is no valid Connect.
HOST_NQN = "nqn.2026-01.io.vega:perf-host"
# What SPDK's memory device needs beside its blocks, and what its client needs.
SPDK_TARGET_EXTRA_MIB, SPDK_CLIENT_MIB = 640, 512
HUGE_PAGE_MIB = 2


# How long `vega bench` spins without an answer where a disk takes part: see `process`.
SPIN_BESIDE_DISK_US = 100


def bench(programs, core, unit, pattern, seconds, _size_bytes):
    """`vega bench`: spinning, many commands per system call."""
    command = [
        programs["VEGA"], "bench", unit.url, "--output", "json", "--overwrite-data", "--core", str(core), "--warm-up", "500ms",
        "--pattern", pattern.direction, "--block-size", str(pattern.size_bytes), "--depth", str(pattern.depth), "--runtime", f"{seconds}s",
    ]
    if pattern.digests:
        command += ["--header-digest", "--data-digest"]
    if disk_is_part():
        command += ["--spin-us", str(SPIN_BESIDE_DISK_US)]
    total = json.loads(run(command, core, False, seconds + 60))["total"]
    if total["failed"]:
        raise Failure(f"{total['failed']} requests failed on {unit.url}")
    latency = {f"{point['percent']:g}": point["us"] for point in total["latency"]["percentiles"]}
    return {"iops": total["requests_per_second"], "bytes_per_second": total["bytes_per_second"], "latency_us": latency}


def spdk_perf(programs, core, unit, pattern, seconds, _size_bytes):
    """SPDK's own client; only whole seconds."""
    whole = max(1, round(seconds))
    command = spdk_perf_command(programs, core, unit, pattern.direction, pattern.size_bytes, pattern.depth)
    command += ["-t", str(whole), "-a", "1", "-L"]
    if pattern.digests:
        command += ["-H", "-I"]
    return spdk_perf_figures(run(command, core, False, whole + 60), pattern)


def spdk_perf_command(programs, core, unit, direction, size_bytes, depth):
    return [
        programs["SPDK_NVME_PERF"], "-r", f"trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:{unit.port} subnqn:{unit.nqn} ns:{unit.nsid} hostnqn:{HOST_NQN}",
        "-c", hex(1 << core), "-w", direction, "-o", str(size_bytes), "-q", str(depth), *spdk_memory(SPDK_CLIENT_MIB),
    ]


def spdk_perf_figures(text, pattern):
    """The line of totals and the percentiles, which are for the one namespace and core that there is."""
    total = re.search(r"^Total\s*:\s*([\d.]+)", text, re.MULTILINE)
    if not total:
        raise Failure(f"spdk_nvme_perf said nothing: {text.strip()[-300:]}")
    latency = {f"{float(share):g}": float(us) for share, us in re.findall(r"^\s*([\d.]+)%\s*:\s*([\d.]+)us", text, re.MULTILINE)}
    iops = float(total[1])
    return {"iops": iops, "bytes_per_second": iops * pattern.size_bytes, "latency_us": latency}


def spdk_fill(programs, core, unit):
    """Writes every block once."""
    run(spdk_perf_command(programs, core, unit, "write", 128 << 10, 16) + ["-t", "600", "-d", "100%"], core, False, 660)


def disk(programs, core, path, pattern, seconds, size_bytes):
    """fio's own io_uring on the file of the volume, without a target: what the disk gives at all."""
    command = [
        programs["FIO"], "--name=perf", "--ioengine=io_uring", f"--filename={path}", "--direct=1", f"--rw={pattern.direction}",
        f"--bs={pattern.size_bytes}", f"--iodepth={pattern.depth}", "--time_based", f"--runtime={seconds}", "--ramp_time=0.5",
        f"--size={size_bytes}", "--norandommap", "--randrepeat=1", *FIO_OUTPUT,
    ]
    return figures_of_fio(command, core, pattern, seconds)


def pingpong(programs, core, address, pattern, seconds):
    """The raw exchange of the sizes of NVMe/TCP: a command capsule one way; a data PDU or a response capsule the other way."""
    command_bytes, data_header_bytes, response_bytes = 72, 24, 24
    writes = "write" in pattern.direction
    request = command_bytes + (pattern.size_bytes if writes else 0)
    response = response_bytes if writes else data_header_bytes + pattern.size_bytes
    return figures_of_pingpong(programs, core, address, (request, response), pattern, seconds)


CLIENTS = {"bench": bench, "spdk-perf": spdk_perf}


def spdk_programs():
    """Paths of SPDK's programs by name, nothing without SPDK_DIR."""
    directory = os.environ.get("SPDK_DIR")
    if not directory:
        return {}
    found = {name.upper(): os.path.join(directory, "build", "bin", name) for name in ("nvmf_tgt", "spdk_nvme_perf")}
    missing = [path for path in found.values() if not os.access(path, os.X_OK)]
    if missing:
        raise Failure(f"SPDK_DIR is set, but {missing[0]} is not there: build it or unset SPDK_DIR")
    return found


def spdk_memory(size_mib):
    """Huge pages where enough are free, else ordinary memory: they are worth 10 to 30 % to it."""
    return ["-s", str(size_mib), *([] if free_huge_mib() >= size_mib and hugetlbfs() else ["--no-huge"])]


def free_huge_mib():
    with open("/proc/meminfo", encoding="ascii") as file:
        return HUGE_PAGE_MIB * next(int(line.split()[1]) for line in file if line.startswith("HugePages_Free"))


def hugetlbfs():
    """Where a file system of huge pages is mounted; SPDK takes them from nowhere else."""
    with open("/proc/mounts", encoding="utf-8") as file:
        return next((fields[1] for fields in map(str.split, file) if fields[2] == "hugetlbfs"), None)


class Spdk(Target):
    """SPDK's NVMe/TCP target: memory (malloc) and aio device, one core, spinning as it always does."""

    name = "spdk"
    sleeps = False
    notes = {"memory": "malloc device", "file": "aio device, past the page cache"}
    mounted = None

    def start(self):
        port = free_port()
        file = make_file(os.path.join(self.place.directory, "spdk.img"), self.place.size_bytes)
        config = os.path.join(self.place.directory, "spdk.json")
        with open(config, "w", encoding="ascii") as out:
            json.dump(self.configuration(port, file), out)
        size_mib = (self.place.size_bytes >> 20) + SPDK_TARGET_EXTRA_MIB
        self.mount(size_mib)
        memory = spdk_memory(size_mib)
        self.notes = {**self.notes, "memory": f"malloc device, {'ordinary memory' if '--no-huge' in memory else 'huge pages'}"}
        self.program = Program(
            [self.place.programs["NVMF_TGT"], "-m", hex(1 << self.place.core), "-c", config, "--no-rpc-server", "--no-pci", "--disable-cpumask-locks", *memory],
            self.place.core, self.sleeps, self.place.log(self.name), cwd=self.place.directory,
        )
        self.program.wait_listening(port)
        self.namespaces = {"memory": Namespace(port, NQN, 1), "file": Namespace(port, NQN, 2)}

    def mount(self, size_mib):
        """Free huge pages without a file system to take them from: mounts one for the length of the measurement."""
        if free_huge_mib() >= size_mib + SPDK_CLIENT_MIB and not hugetlbfs() and os.geteuid() == 0:
            self.mounted = os.path.join(self.place.directory, "huge")
            os.mkdir(self.mounted)
            subprocess.run(["mount", "-t", "hugetlbfs", "nodev", self.mounted], check=True)

    def stop(self):
        super().stop()
        if self.mounted:
            subprocess.run(["umount", self.mounted], check=False)
            self.mounted = None

    def configuration(self, port, file):
        def call(method, **parameters):
            return {"method": method, "params": parameters}

        blocks = self.place.size_bytes // 512
        devices = [
            call("bdev_malloc_create", name="memory", num_blocks=blocks, block_size=512),
            call("bdev_aio_create", name="file", filename=file, block_size=512),
        ]
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
        target = [
            call("nvmf_create_transport", trtype="TCP", max_queue_depth=QUEUE_ENTRIES),
            call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True, serial_number="1"),
            call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 1, "bdev_name": "memory"}),
            call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 2, "bdev_name": "file"}),
            call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=address),
        ]
        return {"subsystems": [{"subsystem": "bdev", "config": devices}, {"subsystem": "nvmf", "config": target}]}
