//! A host over NVMe/TCP that sleeps: what silence costs a target, and what the first I/O after it takes. One JSON line.
//!
//! `silence ADDRESS NQN NSID hold HOSTS SECONDS`: hosts with an I/O queue each that are connected and silent;
//! `silence ADDRESS NQN NSID read PAUSE_MS SECONDS`: one read of 4 KiB after every pause, or with 0 one after the other.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command-line program: its output is its purpose")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nvme_host::sqe::opcode;
use nvme_host::{Association, Command, Digests, Identity, Sqe};
use perf::program::{self, Finished};

const USAGE: &str = "usage: silence ADDRESS NQN NSID hold|read HOSTS|PAUSE_MS SECONDS";
const QUANTILES: [f64; 6] = [0.01, 0.5, 0.9, 0.95, 0.99, 1.0];
const WARM_UP: Duration = Duration::from_millis(500);
const READ_BYTES: u32 = 4096;
/// Reads go to places this many apart, so that nothing is near the one before.
const STRIDE: u64 = 7919;

fn main() -> ExitCode {
    program::main("silence", run)
}

fn run(words: &[&str]) -> Finished<String> {
    let &[address, nqn, nsid, verb, number, seconds] = words else { return Err(USAGE.into()) };
    let (address, nsid): (SocketAddr, u32) = (address.parse()?, nsid.parse()?);
    let time = Duration::try_from_secs_f64(seconds.parse()?)?;
    match verb {
        "hold" => hold(address, nqn, number.parse()?, time),
        "read" => read(address, nqn, nsid, Duration::from_millis(number.parse()?), time),
        _ => Err(USAGE.into()),
    }
}

/// Without a keep alive timeout, so that nothing has to be said.
fn begin(address: SocketAddr, nqn: &str, number: u16) -> Finished<Association> {
    Ok(Association::begin(address, nqn, &Identity::numbered(number), Digests::default(), 0)?)
}

fn hold(address: SocketAddr, nqn: &str, hosts: u16, time: Duration) -> Finished<String> {
    let mut held = Vec::new();
    for number in 1..=hosts {
        let association = begin(address, nqn, number)?;
        let queue = association.io(1)?;
        held.push((association, queue));
    }
    println!("{{\"held\":{hosts}}}");
    std::thread::sleep(time);
    Ok(format!("{{\"released\":{}}}", held.len()))
}

fn read(address: SocketAddr, nqn: &str, nsid: u32, pause: Duration, time: Duration) -> Finished<String> {
    let mut association = begin(address, nqn, 1)?;
    let page = association.identify(0, nsid)?;
    let blocks = u64::from_le_bytes(page[..8].try_into()?);
    let per_read = READ_BYTES >> page[130];
    let places = blocks / u64::from(per_read);
    let mut queue = association.io(1)?;
    let mut latencies_ns = Vec::new();
    let begun = Instant::now();
    for number in 0u64.. {
        std::thread::sleep(pause);
        let lba = number * STRIDE % places * u64::from(per_read);
        let command = Command::read(Sqe::blocks(opcode::READ, nsid, lba, per_read), READ_BYTES as usize);
        let start = Instant::now();
        queue.execute(command)?.good()?;
        let elapsed = start.elapsed();
        if begun.elapsed() >= WARM_UP + time {
            break;
        }
        if begun.elapsed() >= WARM_UP {
            latencies_ns.push(elapsed.as_nanos() as u64);
        }
    }
    association.end()?;
    Ok(line(latencies_ns, time))
}

fn line(mut latencies_ns: Vec<u64>, time: Duration) -> String {
    latencies_ns.sort_unstable();
    let rate = latencies_ns.len() as f64 / time.as_secs_f64();
    let latency_us = |quantile: f64| {
        let rank = (quantile * latencies_ns.len() as f64).ceil() as usize;
        latencies_ns.get(rank.saturating_sub(1)).map(|ns| *ns as f64 / 1000.0)
    };
    program::figures(rate, READ_BYTES, 0, &QUANTILES, latency_us)
}
