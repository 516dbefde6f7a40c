//! An echo server on one core and a blocking or spinning client: what the loop itself costs.
//!
//! `echo [round-trips|depth|rate|idle] [core] [client-core]` prints round-trip percentiles; requests per second
//! with 32 outstanding that are answered by 4 KiB each; round trips to a core that sleeps; or the share of a core
//! that one connected but idle stream costs.

#![allow(clippy::print_stdout, reason = "a tool prints its result")]

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reactor::core::{Core, CoreConfig, CoreId, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::net::{Listener, Ready, Stream, StreamGroup};
use reactor::poller::{Poller, Progress};
use reactor::stats::Histogram;
use reactor::time::Time;

const REQUEST_BYTES: usize = 72;
const ANSWER_BYTES: usize = 24;
const LARGE_ANSWER_BYTES: usize = 4120;
const DEPTH: usize = 32;

struct Echo {
    listener: Box<dyn Listener>,
    group: Box<dyn StreamGroup>,
    streams: Vec<Box<dyn Stream>>,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    answer_bytes: usize,
}

impl Poller for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn poll(&mut self, _now: Time, budget: u32) -> Progress {
        let mut progress = Progress::Idle;
        while let Ok((parcel, _)) = self.listener.try_accept() {
            let token = self.streams.len() as u32;
            self.streams.push(self.group.adopt(parcel, token).expect("just accepted"));
            progress = Progress::Busy;
        }
        self.ready.clear();
        self.group.take_ready(&mut self.ready, budget as usize);
        for ready in &self.ready {
            let stream = &mut self.streams[ready.token as usize];
            if let Ok(count) = stream.try_recv(&mut [IoSliceMut::new(&mut self.buffer)])
                && count > 0
            {
                self.group.note_drained(ready.token, count < self.buffer.len());
                let answer = (count / REQUEST_BYTES * self.answer_bytes).min(self.buffer.len());
                let _ = stream.try_send(&[IoSlice::new(&self.buffer[..answer])]);
                progress = Progress::Busy;
            }
        }
        progress
    }
}

fn start(
    core: Option<CoreId>,
    idle: IdlePolicy,
    answer_bytes: usize,
) -> (reactor::core::CoreThread, SocketAddr) {
    let (sender, receiver) = mpsc::channel();
    let config = CoreConfig { core, idle, ..CoreConfig::new("echo") };
    let setup = move |core: &Core| {
        let listener = core.network.listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        sender.send(listener.local()).expect("main waits");
        let echo = Echo {
            listener,
            group: core.network.group(),
            streams: Vec::new(),
            ready: Vec::new(),
            buffer: vec![0; DEPTH * LARGE_ANSWER_BYTES],
            answer_bytes,
        };
        vec![Box::new(echo) as Box<dyn Poller>]
    };
    let thread = spawn_core(config, setup).expect("a core");
    (thread, receiver.recv().expect("the set-up sends it"))
}

/// Sends one request and spins for its answer.
fn round_trip(stream: &mut TcpStream) {
    stream.write_all(&[1; REQUEST_BYTES]).expect("connected");
    let (mut answer, mut got) = ([0; ANSWER_BYTES], 0);
    while got < ANSWER_BYTES {
        match stream.read(&mut answer[got..]) {
            Ok(count) => got += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Keeps `DEPTH` requests outstanding; requests per second.
fn at_depth(stream: &mut TcpStream) -> f64 {
    const REQUESTS: usize = 1_000_000;
    let (mut sent, mut got) = (0, 0);
    let request = [1; REQUEST_BYTES * DEPTH];
    let mut answers = vec![0; DEPTH * LARGE_ANSWER_BYTES];
    let started = Instant::now();
    while got < REQUESTS * LARGE_ANSWER_BYTES {
        let room = (got / LARGE_ANSWER_BYTES + DEPTH).min(REQUESTS) - sent;
        if room > 0 {
            stream.write_all(&request[..room * REQUEST_BYTES]).expect("connected, and its buffer is large");
            sent += room;
        }
        match stream.read(&mut answers) {
            Ok(count) => got += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    REQUESTS as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    let mode = arguments.get(1).map_or("round-trips", String::as_str);
    let answer_bytes = if mode == "depth" { LARGE_ANSWER_BYTES } else { ANSWER_BYTES };
    let policy = if mode == "round-trips" { IdlePolicy::Poll } else { IdlePolicy::default() };
    let (thread, address) = start(number(2).map(CoreId), policy, answer_bytes);
    if let Some(id) = number(3) {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    let stats = thread.stats();
    if mode == "idle" {
        round_trip(&mut stream);
        std::thread::sleep(Duration::from_millis(100));
        let before = (Instant::now(), stats.asleep_ns.get(), stats.sleeps.get());
        std::thread::sleep(Duration::from_secs(10));
        let elapsed = before.0.elapsed().as_nanos() as u64;
        let asleep = stats.asleep_ns.get() - before.1;
        let awake = elapsed.saturating_sub(asleep) as f64 / elapsed as f64;
        println!("idle: awake {:.4} %, {} sleeps in 10 s", awake * 100.0, stats.sleeps.get() - before.2);
    } else if mode == "depth" {
        println!("{:.0} requests per second at depth {DEPTH}", at_depth(&mut stream));
    } else {
        let latency = Histogram::default();
        let count = if mode == "rate" { 2_000 } else { 200_000 };
        for _ in 0..count {
            if mode == "rate" {
                // Longer than the spin: every request finds the core asleep.
                std::thread::sleep(Duration::from_millis(2));
            }
            let started = Instant::now();
            round_trip(&mut stream);
            latency.record(started.elapsed().as_nanos() as u64);
        }
        let snapshot = latency.snapshot();
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let us = snapshot.value_at_quantile(quantile) as f64 / 1000.0;
            println!("p{:<5} {us:.1} us", quantile * 100.0);
        }
        println!("turns {}, sleeps {}", stats.turns.get(), stats.sleeps.get());
    }
    if let Some(memory) = stats.memory() {
        println!("{memory}");
    }
    thread.stop();
    thread.join();
}
