//! `canned ADDRESS`: serves the emptiest possible iSCSI target to one client after the other, spinning.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a command-line program: its output is its purpose")]

use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: canned ADDRESS");
        return ExitCode::FAILURE;
    };
    match serve(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("canned: {address}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        // A client may hold several connections (one to look at the capacity, one for I/O): each has its own
        // spinning thread.
        std::thread::spawn(move || {
            if let Err(e) = perf::canned::serve(stream) {
                eprintln!("canned: a client left: {e}");
            }
        });
    }
}
