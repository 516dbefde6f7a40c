//! The local NVMe path allocates nothing, calls the system for nothing and takes no lock for an I/O: counted.
//!
//! The path is the shipped one, from a volume to the rings, over a device without media. System calls are counted by
//! forbidding them: a process of one thread in the kernel's strict mode (`seccomp`) may only read and write, and is killed at
//! anything else; and what it reads and writes the kernel counts.

// The one thing here that is not safe is to stand in for the system's allocator.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, reason = "what a test binary says is its result")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use nvme::testing::NullDevice;
use nvme::{Config, Controller, QueuePair};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::poller::Poller;
use reactor::time::{Clock, Time};
use rustix::thread::{SecureComputingMode, set_secure_computing_mode};
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::nvme::{NvmeChannel, NvmeCore, NvmePoller};
use volume::volume::Volume;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait asks of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait asks of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const DEPTH: u64 = 32;
const ROUNDS: u64 = 2_000;
const MARK: &[u8] = b"every I/O was quiet\n";

#[derive(Default)]
struct ManualClock(Cell<u64>);

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.0.set(self.0.get() + 1_000);
        Time::from_ns(self.0.get())
    }
}

/// A volume on a namespace, with everything that its core polls.
struct Machine {
    device: NullDevice,
    controller: Controller<NullDevice>,
    poller: NvmePoller<NullDevice>,
    volume: Volume,
    clock: Rc<ManualClock>,
    done: Vec<Done>,
    lists: Vec<Sgl>,
}

impl Machine {
    fn new() -> Self {
        let device = NullDevice::new(9);
        let clock = Rc::new(ManualClock::default());
        let mut controller = Controller::new(device.clone(), Config::default(), None).expect("memory");
        controller.start(clock.now());
        let mut turns = (0..100_000).map(|_| controller.poll(clock.now()));
        turns.by_ref().for_each(drop);
        assert!(controller.is_ready(), "{controller:?}");
        let buffers = BufferPool::heap(&SizeClass::for_budget(8 << 20));
        let ticket = controller.claim_queue().expect("one is free");
        let queue = QueuePair::new(device.clone(), ticket, &buffers).expect("memory");
        let core = NvmeCore::new(queue, Rc::clone(&clock) as Rc<dyn Clock>, &buffers);
        let namespace = controller.namespace(1).expect("served").clone();
        let channel = NvmeChannel::new(&core, namespace);
        let volume = Volume::new(Box::new(channel), &buffers).expect("room for the reserve");
        let lists = (0..DEPTH).map(|_| buffers.alloc(4096).expect("room")).collect();
        let poller = NvmePoller::new(core);
        let done = Vec::with_capacity(2 * DEPTH as usize);
        Self { device, controller, poller, volume, clock, done, lists }
    }

    /// A turn of the core: everybody submits, the doorbell, the device, completions.
    fn round(&mut self, round: u64) {
        for n in 0..DEPTH {
            let extent = Extent { lba: (round * DEPTH + n) % 1_000 * 8, length_blocks: 8 };
            let op = if n % 2 == 0 { Op::Read(extent) } else { Op::Write { extent, fua: n % 8 == 1 } };
            let sgl = self.lists.pop().expect("as many as are in flight");
            assert!(self.volume.submit(Io { tag: n, op, sgl }).is_none());
        }
        while self.lists.len() < DEPTH as usize {
            let now = self.clock.now();
            self.controller.poll(now);
            self.poller.poll(now, DEPTH as u32);
            self.device.step();
            self.volume.poll(&mut self.done, DEPTH as usize);
            for done in self.done.drain(..) {
                assert_eq!(done.status, IoStatus::Good);
                self.lists.push(done.sgl);
            }
        }
    }
}

/// Reads and writes of this process so far, as the kernel counts them.
fn calls(io: &mut File) -> u64 {
    let mut bytes = [0; 256];
    let length = io.read(&mut bytes).expect("it is readable");
    let text = std::str::from_utf8(&bytes[..length]).expect("it is text");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel names it");
        line.trim().parse::<u64>().expect("a number")
    };
    value("syscr:") + value("syscw:")
}

/// Runs without any system call but reading a counter before and after; `noisy` makes one, and dies of it.
fn worker(noisy: bool) {
    let mut machine = Machine::new();
    (0..200).for_each(|round| machine.round(round));
    let open = || File::open("/proc/self/io").expect("the kernel counts");
    let (mut before, mut after) = (open(), open());
    let mut out = std::io::stdout().lock();
    out.write_all(b"\n").expect("somebody listens");
    set_secure_computing_mode(SecureComputingMode::Strict).expect("the kernel knows strict mode");
    let calls_before = calls(&mut before);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    (0..ROUNDS).for_each(|round| machine.round(round));
    if noisy {
        std::thread::yield_now();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    // The look before is a read itself.
    let extra = calls(&mut after) - calls_before - 1;
    if allocations == 0 && extra == 0 {
        out.write_all(MARK).expect("somebody listens");
    } else {
        out.write_all(b"not quiet: ").expect("somebody listens");
        let digit = |n: u64| b'0' + n.min(9) as u8;
        out.write_all(&[digit(allocations), b' ', digit(extra), b'\n']).expect("somebody listens");
    }
}

fn is_quiet(argument: &str) -> (bool, String) {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).arg(argument).output().expect("it starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.stdout.ends_with(MARK), said)
}

/// No type that locks is named anywhere on the path.
fn names_no_lock() -> Result<(), String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src/nvme"), root.join("../nvme/driver/src")];
    let mut files = vec![root.join("src/nvme.rs"), root.join("src/volume.rs"), root.join("src/range.rs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    if files.len() < 20 {
        return Err("the sources were not found".into());
    }
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        for word in ["Mutex", "RwLock", "Condvar", "parking_lot", "spin::", "thread_local!"] {
            if text.contains(word) {
                return Err(format!("{}: {word}", path.display()));
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("worker") => {
            worker(false);
            return ExitCode::SUCCESS;
        }
        Some("noisy-worker") => {
            worker(true);
            return ExitCode::SUCCESS;
        }
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let quiet = is_quiet("worker");
    let tests = [
        ("an_io_allocates_nothing_and_calls_the_system_for_nothing", quiet.0, quiet.1),
        ("a_single_system_call_would_be_seen", !is_quiet("noisy-worker").0, String::new()),
        ("no_lock_is_on_the_path", names_no_lock().is_ok(), format!("{:?}", names_no_lock())),
    ];
    let mut failed = 0;
    for (name, is_ok, said) in &tests {
        println!("test {name} ... {}", if *is_ok { "ok" } else { "FAILED" });
        if !is_ok {
            println!("{said}");
            failed += 1;
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = tests.len() - failed;
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
