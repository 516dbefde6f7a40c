//! The raw limit: `pingpong serve ADDRESS` on one core, `pingpong run ADDRESS REQUEST RESPONSE DEPTH
//! SECONDS` on the other. And what a wake-up costs: `pingpong serve-asleep ADDRESS`, `pingpong wake ADDRESS REQUEST RESPONSE
//! PAUSE_MS SECONDS`. One JSON line.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a command-line program: its output is its purpose")]

use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use perf::exchange::{self, Outcome, Shape, Waiting};
use perf::program::{self, Finished};

const USAGE: &str = "usage: pingpong serve|serve-asleep ADDRESS | pingpong run ADDRESS REQUEST_BYTES RESPONSE_BYTES DEPTH SECONDS | pingpong wake ADDRESS REQUEST_BYTES RESPONSE_BYTES PAUSE_MS SECONDS";

fn main() -> ExitCode {
    program::main("pingpong", run)
}

fn run(words: &[&str]) -> Finished<String> {
    match *words {
        ["serve", address] => serve(address, Waiting::Spinning),
        ["serve-asleep", address] => serve(address, Waiting::Sleeping),
        ["run", address, request, response, depth, seconds] => {
            client(address, [request, response, depth], seconds, "0")
        }
        ["wake", address, request, response, pause_ms, seconds] => {
            client(address, [request, response, "1"], seconds, pause_ms)
        }
        _ => Err(USAGE.into()),
    }
}

/// One client after the other, without an end.
fn serve(address: &str, waiting: Waiting) -> Finished<String> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(e) = exchange::serve(stream, waiting) {
            eprintln!("pingpong: a client left: {e}");
        }
    }
}

fn client(
    address: &str,
    [request, response, depth]: [&str; 3],
    seconds: &str,
    pause_ms: &str,
) -> Finished<String> {
    let shape = Shape::checked(request.parse()?, response.parse()?, depth.parse()?)?;
    let measured = Duration::try_from_secs_f64(seconds.parse()?)?;
    let pause = Duration::from_millis(pause_ms.parse()?);
    let stream = TcpStream::connect(address)?;
    let outcome = exchange::run(stream, shape, Duration::from_millis(300), measured, pause)?;
    Ok(line(shape, &outcome))
}

fn line(shape: Shape, outcome: &Outcome) -> String {
    let mut out = format!(
        "{{\"request_bytes\":{},\"response_bytes\":{},\"depth\":{},\"iops\":{:.1}",
        shape.request_bytes,
        shape.response_bytes,
        shape.depth,
        outcome.rate()
    );
    for (name, quantile) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)] {
        if let Some(us) = outcome.round_trip_us(quantile) {
            out.push_str(&format!(",\"{name}\":{us:.2}"));
        }
    }
    out.push('}');
    out
}
