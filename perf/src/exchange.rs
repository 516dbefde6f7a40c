//! The raw exchange: requests of one size one way, responses of another size the other way, a fixed number
//! of them under way.
//!
//! Nothing is parsed, no block is touched: what is left is the kernel's TCP and two spinning cores. A target
//! cannot be faster than this, so its distance to this is what there is to win.

use std::io::{Error, ErrorKind, Result};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::spin;

/// The largest message either way; a peer that asks for more is refused.
pub const MESSAGE_MAX_BYTES: u32 = 4 << 20;
/// The largest number of requests under way.
pub const DEPTH_MAX: u32 = 1024;
/// Messages of this size and more leave one by one, all of them from the same memory: many at once would push each other out of
/// the processor's cache, and the limit would be that of a slower program.
const LARGE_BYTES: usize = 64 << 10;
const HELLO_BYTES: usize = 12;
/// One receive takes at most this much, so that a batch of small messages is one call.
const RECEIVE_BYTES: usize = 1 << 20;
/// Latencies kept: enough for 60 s of round trips of 10 µs.
const SAMPLES_MAX: usize = 8 << 20;

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a request.
    pub request_bytes: u32,
    /// Bytes of a response.
    pub response_bytes: u32,
    /// Requests under way at any time.
    pub depth: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Exchanges that were completed in the measured time.
    pub exchanges: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Round trips in nanoseconds, ascending; only of depth 1, where a round trip is not a queue.
    pub round_trips_ns: Vec<u32>,
}

impl Shape {
    /// Checks a shape that came over the wire or the command line.
    pub fn checked(request_bytes: u32, response_bytes: u32, depth: u32) -> Result<Self> {
        let sizes = 1..=MESSAGE_MAX_BYTES;
        if sizes.contains(&request_bytes)
            && sizes.contains(&response_bytes)
            && (1..=DEPTH_MAX).contains(&depth)
        {
            Ok(Self { request_bytes, response_bytes, depth })
        } else {
            Err(Error::from(ErrorKind::InvalidInput))
        }
    }

    fn hello(self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[..4].copy_from_slice(&self.request_bytes.to_be_bytes());
        out[4..8].copy_from_slice(&self.response_bytes.to_be_bytes());
        out[8..].copy_from_slice(&self.depth.to_be_bytes());
        out
    }

    fn from_hello(hello: [u8; HELLO_BYTES]) -> Result<Self> {
        let word = |at: usize| u32::from_be_bytes([hello[at], hello[at + 1], hello[at + 2], hello[at + 3]]);
        Self::checked(word(0), word(4), word(8))
    }
}

/// Messages to send: many small ones by one call.
#[derive(Debug)]
struct Messages {
    bytes: Vec<u8>,
    message_bytes: usize,
}

impl Messages {
    fn new(message_bytes: u32, depth: u32) -> Self {
        let message_bytes = message_bytes as usize;
        let together = if message_bytes >= LARGE_BYTES { 1 } else { depth as usize };
        Self { bytes: vec![0; message_bytes * together], message_bytes }
    }

    fn send(&self, stream: &mut TcpStream, count: usize) -> Result<()> {
        let mut left_bytes = count * self.message_bytes;
        while left_bytes > 0 {
            let part = &self.bytes[..left_bytes.min(self.bytes.len())];
            spin::write_all(stream, part)?;
            left_bytes -= part.len();
        }
        Ok(())
    }
}

/// Counts whole messages in a byte stream, whatever its cuts.
#[derive(Debug)]
struct Counter {
    message_bytes: usize,
    partial_bytes: usize,
}

impl Counter {
    fn new(message_bytes: u32) -> Self {
        Self { message_bytes: message_bytes as usize, partial_bytes: 0 }
    }

    /// `received` more bytes have come: how many messages they complete.
    fn take(&mut self, received: usize) -> usize {
        self.partial_bytes += received;
        let whole = self.partial_bytes / self.message_bytes;
        self.partial_bytes %= self.message_bytes;
        whole
    }
}

/// How the answering side waits for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It asks again and again.
    Spinning,
    /// It sleeps in the kernel: what a wake-up costs.
    Sleeping,
}

/// Answers one client until it closes; a client may close with messages under way.
pub fn serve(stream: TcpStream, waiting: Waiting) -> Result<()> {
    match answer_until_closed(stream, waiting) {
        Err(e) if spin::is_closed(&e) => Ok(()),
        other => other,
    }
}

fn answer_until_closed(mut stream: TcpStream, waiting: Waiting) -> Result<()> {
    spin::prepare(&stream)?;
    let mut hello = [0; HELLO_BYTES];
    spin::read_exact(&mut stream, &mut hello)?;
    let shape = Shape::from_hello(hello)?;
    let mut into = vec![0; RECEIVE_BYTES];
    let responses = Messages::new(shape.response_bytes, shape.depth);
    let mut requests = Counter::new(shape.request_bytes);
    stream.set_nonblocking(waiting == Waiting::Spinning)?;
    loop {
        let Some(received) = spin::try_read(&mut stream, &mut into)? else {
            std::hint::spin_loop();
            continue;
        };
        let owed = requests.take(received).min(shape.depth as usize);
        responses.send(&mut stream, owed)?;
    }
}

/// Exchanges for `warm_up` unmeasured and then for `measured`. With a `pause`, which takes a depth of 1, this side sleeps before
/// each request, so that the other side falls asleep, too.
pub fn run(
    mut stream: TcpStream,
    shape: Shape,
    warm_up: Duration,
    measured: Duration,
    pause: Duration,
) -> Result<Outcome> {
    assert!(pause.is_zero() || shape.depth == 1, "a pause is between one exchange and the next");
    spin::prepare(&stream)?;
    spin::write_all(&mut stream, &shape.hello())?;
    let mut into = vec![0; RECEIVE_BYTES];
    let requests = Messages::new(shape.request_bytes, shape.depth);
    let mut responses = Counter::new(shape.response_bytes);
    let mut outcome = Outcome { exchanges: 0, elapsed: Duration::ZERO, round_trips_ns: Vec::new() };

    let warm_until = Instant::now() + warm_up;
    let mut started = None;
    let mut sent_at = Instant::now();
    requests.send(&mut stream, shape.depth as usize)?;
    loop {
        let Some(received) = spin::try_read(&mut stream, &mut into)? else {
            std::hint::spin_loop();
            continue;
        };
        let completed = responses.take(received);
        if completed == 0 {
            continue;
        }
        let now = Instant::now();
        if let Some(start) = started {
            outcome.exchanges += completed as u64;
            if shape.depth == 1 && outcome.round_trips_ns.len() < SAMPLES_MAX {
                outcome
                    .round_trips_ns
                    .push(u32::try_from(now.duration_since(sent_at).as_nanos()).unwrap_or(u32::MAX));
            }
            outcome.elapsed = now.duration_since(start);
            if outcome.elapsed >= measured {
                outcome.round_trips_ns.sort_unstable();
                return Ok(outcome);
            }
        } else if now >= warm_until {
            started = Some(now);
        }
        sent_at = now;
        if !pause.is_zero() {
            std::thread::sleep(pause);
            sent_at = Instant::now();
        }
        requests.send(&mut stream, completed)?;
    }
}

impl Outcome {
    /// Exchanges a second.
    pub fn rate(&self) -> f64 {
        self.exchanges as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The round trip that a share `quantile` (0 to 1) does not exceed, in microseconds; `None` without
    /// samples.
    pub fn round_trip_us(&self, quantile: f64) -> Option<f64> {
        let last = self.round_trips_ns.len().checked_sub(1)?;
        let index = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        Some(f64::from(self.round_trips_ns[index]) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn exchange(shape: Shape, waiting: Waiting, pause: Duration) -> Outcome {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || serve(listener.accept().expect("one client").0, waiting));
        let stream = TcpStream::connect(address).expect("the server listens");
        let outcome =
            run(stream, shape, Duration::ZERO, Duration::from_millis(1), pause).expect("the exchange runs");
        server.join().expect("no panic").expect("the client closed in order");
        outcome
    }

    #[test]
    fn small_requests_large_responses() {
        let outcome =
            exchange(Shape::checked(72, 4120, 1).expect("valid"), Waiting::Spinning, Duration::ZERO);
        assert!(outcome.exchanges > 0 && outcome.exchanges as usize == outcome.round_trips_ns.len());
        assert!(outcome.round_trip_us(0.0) <= outcome.round_trip_us(0.5));
    }

    #[test]
    fn deep_and_larger_than_one_receive() {
        let outcome =
            exchange(Shape::checked(3 << 20, 48, 3).expect("valid"), Waiting::Spinning, Duration::ZERO);
        assert!(outcome.exchanges > 0 && outcome.round_trips_ns.is_empty());
    }

    #[test]
    fn a_sleeper_is_woken_by_each_request() {
        let shape = Shape::checked(48, 4144, 1).expect("valid");
        let outcome = exchange(shape, Waiting::Sleeping, Duration::from_micros(100));
        assert!(outcome.exchanges > 0 && outcome.exchanges as usize == outcome.round_trips_ns.len());
    }

    #[test]
    fn shapes_out_of_bounds_are_refused() {
        for (request, response, depth) in
            [(0, 1, 1), (1, 0, 1), (1, 1, 0), (MESSAGE_MAX_BYTES + 1, 1, 1), (1, 1, DEPTH_MAX + 1)]
        {
            assert!(Shape::checked(request, response, depth).is_err());
        }
    }

    #[test]
    fn messages_are_counted_over_any_cut() {
        let mut counter = Counter::new(10);
        assert_eq!((counter.take(9), counter.take(1), counter.take(35), counter.take(5)), (0, 1, 3, 1));
    }
}
