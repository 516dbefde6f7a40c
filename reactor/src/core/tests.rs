use super::*;
use crate::buffer::Sgl;
use crate::file::{File, FileDone, FileOp};
use crate::limits::CLASS_BYTES;
use crate::mesh::{Endpoint, Mesh};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use crate::net::{Listener, Ready, Stream, StreamGroup};

fn config(name: &str) -> CoreConfig {
    CoreConfig { buffer_bytes: 0, idle: IdlePolicy::Adaptive { spin_us: 50 }, ..CoreConfig::new(name) }
}

/// Answers each number with its double, to the core that sent it.
struct Doubler {
    endpoint: Endpoint<(usize, u64)>,
    inbox: Vec<(usize, u64)>,
    results: Option<mpsc::Sender<u64>>,
}

impl Poller for Doubler {
    fn name(&self) -> &'static str {
        "doubler"
    }
    fn poll(&mut self, _now: Time, budget: u32) -> Progress {
        self.endpoint.recv(&mut self.inbox, budget as usize);
        if self.inbox.is_empty() {
            return Progress::Idle;
        }
        for (from, number) in self.inbox.drain(..) {
            if let Some(results) = &self.results
                && number % 2 == 0
            {
                results.send(number).expect("the test waits");
            } else {
                let me = self.endpoint.core();
                let to = if from == me { 1 - me } else { from };
                let number = if from == me { number } else { number * 2 };
                self.endpoint.send(to, (me, number)).expect("one at a time");
            }
        }
        Progress::Busy
    }
}

#[test]
fn sleeping_cores_are_woken_by_each_other_and_by_any_thread() {
    let mut mesh = Mesh::new(2, 16);
    let control = mesh[0].control_sender();
    let (results, received) = mpsc::channel();
    let mut threads = Vec::new();
    for (index, endpoint) in mesh.drain(..).enumerate() {
        let waker = Some(endpoint.waker());
        let results = (index == 0).then(|| results.clone());
        let setup = move |_: &Core| {
            vec![Box::new(Doubler { endpoint, inbox: Vec::new(), results }) as Box<dyn Poller>]
        };
        threads.push(spawn_core(CoreConfig { waker, ..config("mesh") }, setup).expect("a core"));
    }
    for number in [1, 3, 5] {
        // Whether they sleep already or spin still, the answer comes.
        control.send((0, number)).expect("room");
        let answer = received.recv_timeout(Duration::from_secs(60)).expect("nobody overslept");
        assert_eq!(answer, number * 2);
        while threads.iter().any(|thread| thread.stats().sleeps.get() == 0) {
            std::thread::yield_now();
        }
    }
    for thread in threads {
        thread.stop();
        thread.join();
    }
}

struct Echo {
    listener: Box<dyn Listener>,
    group: Box<dyn StreamGroup>,
    streams: Vec<Box<dyn Stream>>,
    ready: Vec<Ready>,
}

impl Poller for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn poll(&mut self, _now: Time, budget: u32) -> Progress {
        let mut progress = Progress::Idle;
        while let Ok((parcel, _)) = self.listener.try_accept() {
            self.streams.push(self.group.adopt(parcel, self.streams.len() as u32).expect("connected"));
            progress = Progress::Busy;
        }
        self.ready.clear();
        self.group.take_ready(&mut self.ready, budget as usize);
        for ready in &self.ready {
            let stream = &mut self.streams[ready.token as usize];
            let mut bytes = [0; 100];
            if let Ok(count) = stream.try_recv(&mut [IoSliceMut::new(&mut bytes)])
                && count > 0
            {
                stream.try_send(&[IoSlice::new(&bytes[..count])]).expect("an empty socket has room");
                progress = Progress::Busy;
            }
        }
        progress
    }
}

fn echo() -> (CoreThread, SocketAddr) {
    let (sender, receiver) = mpsc::channel();
    let setup = move |core: &Core| {
        let listener = core.network.listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        sender.send(listener.local()).expect("the test waits");
        let group = core.network.group();
        let echo = Echo { listener, group, streams: Vec::new(), ready: Vec::new() };
        vec![Box::new(echo) as Box<dyn Poller>]
    };
    let thread = spawn_core(config("echo"), setup).expect("a core");
    (thread, receiver.recv().expect("sent in the set-up"))
}

#[test]
fn a_core_asleep_hears_its_sockets() {
    let (thread, address) = echo();
    let stats = thread.stats();
    let mut streams: Vec<_> = (0..20).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    for round in 0..5_u8 {
        let sleeps = stats.sleeps.get();
        for stream in &mut streams {
            stream.write_all(&[round; 100]).expect("connected");
        }
        for stream in &mut streams {
            let mut bytes = [9; 100];
            stream.read_exact(&mut bytes).expect("an answer");
            assert_eq!(bytes, [round; 100]);
        }
        while stats.sleeps.get() == sleeps {
            std::thread::yield_now();
        }
    }
    assert_eq!(stats.connections.get(), 20);
    assert!(stats.busy_ns.get() > 0 && stats.turns.get() > 0);
    assert_eq!(stats.pollers()[0].name, "echo");
    thread.stop();
    thread.join();
    assert_eq!(stats.connections.get(), 0);
}

/// Reads a file over and over, sleeping while the disk works.
struct Reader {
    file: Box<dyn File>,
    done: Vec<FileDone>,
    pool: BufferPool,
    left: u32,
    result: mpsc::Sender<Vec<u8>>,
}

impl Poller for Reader {
    fn name(&self) -> &'static str {
        "reader"
    }
    fn poll(&mut self, _now: Time, _budget: u32) -> Progress {
        self.file.poll(&mut self.done);
        let finished: Option<Sgl> = self.done.pop().map(|done| {
            done.result.expect("within the file");
            done.sgl
        });
        if let Some(sgl) = &finished {
            self.left -= 1;
            if self.left == 0 {
                self.result.send(sgl.to_vec()).expect("the test waits");
            }
        }
        if self.file.in_flight() > 0 || self.left == 0 {
            return if finished.is_some() { Progress::Busy } else { Progress::Idle };
        }
        let sgl = self.pool.alloc(10_000).expect("one at a time");
        self.file.submit(1, FileOp::Read { offset_bytes: 5, sgl }).expect("one at a time");
        Progress::Busy
    }
}

#[test]
fn a_core_asleep_hears_its_files() {
    let mut file = tempfile::tempfile().expect("a file");
    let bytes: Vec<u8> = (0..20_000).map(|i| (i * 3) as u8).collect();
    file.write_all(&bytes).expect("space");
    let fd = OwnedFd::from(file);
    let (result, received) = mpsc::channel();
    let setup = move |core: &Core| {
        let file = core.files.adopt(fd).expect("an open file");
        let pool = core.buffers.clone();
        vec![Box::new(Reader { file, done: Vec::new(), pool, left: 50, result }) as Box<dyn Poller>]
    };
    let thread = spawn_core(config("reader"), setup).expect("a core");
    let got = received.recv_timeout(Duration::from_secs(60)).expect("nobody overslept");
    assert_eq!(got, bytes[5..10_005]);
    thread.stop();
    thread.join();
}

/// Has nothing to do but a time to do it at.
struct Alarm {
    at: Time,
    sender: mpsc::Sender<u64>,
}

impl Poller for Alarm {
    fn name(&self) -> &'static str {
        "alarm"
    }
    fn poll(&mut self, now: Time, _budget: u32) -> Progress {
        if now < self.at {
            return Progress::Idle;
        }
        self.sender.send(now.since(self.at).as_micros() as u64).expect("the test waits");
        self.at = Time::NEVER;
        Progress::Busy
    }
    fn deadline(&self) -> Time {
        self.at
    }
}

#[test]
fn a_core_does_not_sleep_past_a_deadline() {
    let (sender, received) = mpsc::channel();
    let setup = move |core: &Core| {
        let at = core.clock.now().after(Duration::from_millis(20));
        vec![Box::new(Alarm { at, sender }) as Box<dyn Poller>]
    };
    let thread = spawn_core(config("alarm"), setup).expect("a core");
    // It came, and before the longest sleep would have ended: by far, but a loaded machine is slow.
    received.recv_timeout(Duration::from_secs(60)).expect("nobody overslept");
    assert!(thread.stats().sleeps.get() > 0);
    thread.stop();
    thread.join();
}

#[test]
fn a_processor_that_is_not_there_is_an_error() {
    let config = CoreConfig { core: Some(CoreId(1 << 9)), ..config("nowhere") };
    let error = spawn_core(config, |_| Vec::new()).expect_err("no such processor");
    assert!(matches!(error, CoreError::Pin(512)), "{error}");
    assert!(!available_cores().is_empty());
}

/// Takes a buffer in its second turn, each turn as long as gauges may be old, and tells in its fourth what they say.
struct Taker {
    core: Core,
    turn: u32,
    taken: Option<Sgl>,
    results: mpsc::Sender<u64>,
}

impl Poller for Taker {
    fn name(&self) -> &'static str {
        "taker"
    }
    fn poll(&mut self, now: Time, _budget: u32) -> Progress {
        self.turn += 1;
        if self.turn == 2 {
            self.taken = self.core.buffers.alloc(CLASS_BYTES[0]);
        }
        if self.turn == 4 {
            let _ = self.results.send(self.core.stats.buffer_available_bytes.get());
        }
        while self.core.clock.now() < now.after(GAUGE_INTERVAL) {
            std::hint::spin_loop();
        }
        Progress::Busy
    }
}

#[test]
fn gauges_of_a_core_that_never_rests_are_a_turn_old_at_most() {
    let (results, received) = mpsc::channel();
    let setup = move |core: &Core| {
        vec![Box::new(Taker { core: core.clone(), turn: 0, taken: None, results }) as Box<dyn Poller>]
    };
    let thread = spawn_core(config("gauges"), setup).expect("a core");
    let available = received.recv_timeout(Duration::from_secs(60)).expect("the core turns");
    assert_eq!(available, thread.stats().buffer_total_bytes.get() - CLASS_BYTES[0] as u64);
    thread.stop();
    thread.join();
}
