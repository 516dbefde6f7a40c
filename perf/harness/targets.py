"""The targets that are compared: how each is started with a memory-backed and a file-backed unit of the same size."""

import os
import subprocess
import time

from .process import Failure, Program, free_port

NAME = "iqn.2026-01.io.vega:perf"
NQN = "nqn.2026-01.io.vega:perf"
# Entries of an NVMe/TCP I/O queue, on every target: depth 128 is then really under way (a queue of 128 entries holds 127).
QUEUE_ENTRIES = 256


class Unit:
    """Where a client of iSCSI finds the blocks."""

    def __init__(self, port, name, lun):
        self.port, self.name, self.lun = port, name, lun

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"iscsi://{self.address}/{self.name}/{self.lun}"


class Namespace:
    """Where a client of NVMe/TCP finds them."""

    def __init__(self, port, nqn, nsid):
        self.port, self.nqn, self.nsid = port, nqn, nsid

    @property
    def url(self):
        return f"nvme-tcp://127.0.0.1:{self.port}/{self.nqn}?nsid={self.nsid}"


class Target:
    """Base: a name, what its backings are, whether it sleeps between requests."""

    name = ""
    sleeps = True
    notes = {}

    def __init__(self, place):
        self.place = place
        self.program = None
        # By backing: what it serves over iSCSI and over NVMe/TCP.
        self.units = {}
        self.namespaces = {}

    def start(self):
        raise NotImplementedError

    def stop(self):
        if self.program:
            self.program.stop()


def make_file(path, size_bytes):
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    return path


class Place:
    """Folders, sizes, programs and the core of the targets."""

    def __init__(self, directory, memory_directory, size_bytes, core, programs):
        self.directory, self.memory_directory = directory, memory_directory
        self.size_bytes, self.core, self.programs = size_bytes, core, programs

    def log(self, name):
        return os.path.join(self.directory, f"{name}.log")

    def backing_files(self, name):
        """A file in memory and one on disk, both with all their blocks allocated."""
        return {
            "memory": make_file(os.path.join(self.memory_directory, name), self.size_bytes),
            "file": make_file(os.path.join(self.directory, name), self.size_bytes),
        }


class Vega(Target):
    """One reactor on the targets' core; memory volume and file volume as LUN 0 and 1 and as namespaces 1 and 2."""

    name = "vega"
    # Under load it spins; it sleeps only when nothing comes.
    sleeps = False
    idle = "adaptive"
    notes = {"memory": "memory volume", "file": "file volume, past the page cache"}

    def start(self):
        port, nvme_port = free_port(), free_port()
        self.data = os.path.join(self.place.directory, f"{self.name}-data")
        config = os.path.join(self.place.directory, f"{self.name}.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(self.configuration(port, nvme_port, self.data))
        self.program = Program(
            [self.place.programs["VEGA"], "node", "--config", config], self.place.core, self.sleeps, self.place.log(self.name)
        )
        self.program.wait_listening(port)
        self.program.wait_listening(nvme_port)
        self.units = {"memory": Unit(port, NAME, 0), "file": Unit(port, NAME, 1)}
        self.namespaces = {"memory": Namespace(nvme_port, NQN, 1), "file": Namespace(nvme_port, NQN, 2)}
        self.wait_login(self.units["memory"])

    def wait_login(self, unit):
        """The portal may accept before the units are there: until a login succeeds."""
        command = [self.place.programs["LOAD"], unit.address, unit.name, str(unit.lun), "hold", "1", "0", "0"]
        end = time.monotonic() + 20
        while subprocess.run(command, capture_output=True, timeout=20, check=False).returncode != 0:
            if time.monotonic() > end or self.program.process.poll() is not None:
                raise Failure(f"{self.name} takes no login:\n{self.program.log_tail()}")
            time.sleep(0.05)

    def file_of_blocks(self):
        """The file behind the file volume: the one of its size."""
        for folder, _, names in os.walk(self.data):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.getsize(path) == self.place.size_bytes:
                    return path
        raise Failure(f"no file of {self.place.size_bytes} bytes in {self.data}")

    def configuration(self, port, nvme_port, data):
        size = self.place.size_bytes
        return f"""[node]
data_dir = "{data}"
[reactor]
cores = [{self.place.core}]
idle = "{self.idle}"
[[iscsi.portal]]
listen = "127.0.0.1:{port}"
[[nvmf.listener]]
listen = "127.0.0.1:{nvme_port}"
[nvmf.limits]
queue_depth = {QUEUE_ENTRIES}
[api]
listen = ""
[[volume]]
name = "memory"
size = {size}
backing = "memory"
[[volume]]
name = "file"
size = {size}
backing = "file"
[[target]]
name = "{NAME}"
luns = {{ 0 = "memory", 1 = "file" }}
[[subsystem]]
nqn = "{NQN}"
namespaces = {{ 1 = "memory", 2 = "file" }}
"""


class VegaPoll(Vega):
    """The same, never sleeping."""

    name = "vega-poll"
    idle = "poll"


class Tgt(Target):
    """tgtd; LUN 0 is its controller, the units are LUN 1 and 2. On disk it gets direct I/O, as Vega has."""

    name = "tgt"
    notes = {"memory": "file in /dev/shm", "file": "bstype aio, past the page cache"}

    def start(self):
        port = free_port()
        files = self.place.backing_files("tgt.img")
        # tgtd's management socket is named by a number: the port is as free as the port.
        self.control = str(port % 32768)
        self.program = Program(
            [self.place.programs["TGTD"], "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{port}"],
            self.place.core, self.sleeps, self.place.log(self.name),
        )
        self.program.wait_listening(port)
        self.admin("--mode", "target", "--op", "new", "--tid", "1", "-T", NAME)
        for lun, (backing, kind) in enumerate((("memory", "rdwr"), ("file", "aio")), 1):
            self.admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", str(lun), "--bstype", kind, "-b", files[backing])
            self.units[backing] = Unit(port, NAME, lun)
        self.admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")

    def stop(self):
        # It ignores SIGTERM while it has a target; it holds nothing that is worth an orderly end.
        if self.program:
            self.program.stop(patience_seconds=0)

    def admin(self, *arguments):
        command = [self.place.programs["TGTADM"], "-C", self.control, "--lld", "iscsi", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise Failure(f"{' '.join(command)}: {done.stderr.strip()}")


class Istgt(Target):
    """istgt; it has no direct I/O, so its file on disk is served from the page cache."""

    name = "istgt"
    notes = {"memory": "file in /dev/shm", "file": "through the page cache: it has no direct I/O"}

    def start(self):
        port, control = free_port(), free_port()
        files = self.place.backing_files("istgt.img")
        config = os.path.join(self.place.directory, "istgt.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(self.configuration(port, control, files))
        with open(os.path.join(self.place.directory, "istgt.auth"), "w", encoding="ascii"):
            pass
        self.program = Program(
            [self.place.programs["ISTGT"], "-D", "-c", config], self.place.core, self.sleeps, self.place.log(self.name)
        )
        self.program.wait_listening(port)
        self.units = {"memory": Unit(port, NAME, 0), "file": Unit(port, NAME, 1)}

    def configuration(self, port, control, files):
        directory, size = self.place.directory, f"{self.place.size_bytes >> 20}MB"
        base, _, name = NAME.partition(":")
        # InitialR2T=No is a value it refuses to start with.
        return f"""[Global]
  NodeBase "{base}"
  PidFile {directory}/istgt.pid
  AuthFile {directory}/istgt.auth
  MediaDirectory {directory}
  LogFacility "local7"
  Timeout 30
  NopInInterval 0
  DiscoveryAuthMethod None
  MaxSessions 32
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  Portal UC1 127.0.0.1:{control}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal DA1 127.0.0.1:{port}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 127.0.0.0/8
[LogicalUnit1]
  TargetName {name}
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  UseDigest Auto
  UnitType Disk
  UnitInquiry "PERF" "VOLUME" "0" "10000001"
  QueueDepth 128
  LUN0 Storage {files["memory"]} {size}
  LUN1 Storage {files["file"]} {size}
"""


class Canned(Target):
    """The emptiest target of the crate `perf`: no target is faster with the same client."""

    name = "canned"
    sleeps = False
    notes = {"memory": "emptiest target: answers zeros, keeps nothing"}

    def start(self):
        port = free_port()
        self.program = Program(
            [self.place.programs["CANNED"], f"127.0.0.1:{port}"], self.place.core, self.sleeps, self.place.log(self.name)
        )
        self.program.wait_listening(port)
        self.units = {"memory": Unit(port, NAME, 0)}


TARGETS = {target.name: target for target in (Vega, VegaPoll, Tgt, Istgt, Canned)}
