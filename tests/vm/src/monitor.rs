//! QEMU's monitor: what a case asks to be done to its machine from outside, such as pulling a device out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use harness::failure::{Context, Outcome, ensure};
use harness::process::eventually;

use crate::limits;

/// The way to one guest's monitor.
#[derive(Debug)]
pub struct Monitor {
    // A socket's path is short, and that of the logs may be long.
    folder: tempfile::TempDir,
    stream: Option<BufReader<UnixStream>>,
}

impl Monitor {
    /// For a guest that is yet to be started.
    pub fn new() -> Outcome<Self> {
        Ok(Self { folder: tempfile::tempdir()?, stream: None })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// What QEMU is to be started with.
    pub fn argument(&self) -> String {
        format!("unix:{},server=on,wait=off", self.socket().display())
    }

    /// Has QEMU carry out one command of QMP, and fails if it does not.
    pub fn execute(&mut self, command: &str) -> Outcome {
        if self.stream.is_none() {
            let mut stream = BufReader::new(connect(&self.socket())?);
            // Its greeting.
            line(&mut stream)?;
            answer(&mut stream, "{\"execute\":\"qmp_capabilities\"}")?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("it was connected");
        answer(stream, command).context(&format!("the monitor's command {command}"))
    }
}

fn connect(socket: &Path) -> Outcome<UnixStream> {
    let mut stream = None;
    eventually(limits::MONITOR_PATIENCE, "the monitor answers", || {
        stream = UnixStream::connect(socket).ok();
        Ok(stream.is_some())
    })?;
    let stream = stream.expect("it has answered");
    stream.set_read_timeout(Some(limits::MONITOR_PATIENCE))?;
    Ok(stream)
}

fn line(stream: &mut BufReader<UnixStream>) -> Outcome<String> {
    let mut line = String::new();
    ensure(stream.read_line(&mut line)? > 0, || "the monitor hung up".to_owned())?;
    Ok(line)
}

fn answer(stream: &mut BufReader<UnixStream>, command: &str) -> Outcome {
    stream.get_mut().write_all(format!("{command}\n").as_bytes())?;
    loop {
        // Events come between.
        let line = line(stream)?;
        if line.starts_with("{\"return\"") {
            return Ok(());
        }
        ensure(!line.starts_with("{\"error\""), || line.clone())?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn commands_are_carried_out_between_events_and_errors_are_told() {
        let mut monitor = Monitor::new().expect("a folder");
        let listener = UnixListener::bind(monitor.socket()).expect("a socket");
        let emulator = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut stream = BufReader::new(stream);
            let say = |stream: &mut BufReader<UnixStream>, words: &str| {
                stream.get_mut().write_all(words.as_bytes()).expect("a client");
            };
            say(&mut stream, "{\"QMP\": {}}\r\n");
            assert!(line(&mut stream).expect("a command").contains("qmp_capabilities"));
            say(&mut stream, "{\"return\": {}}\r\n");
            assert!(line(&mut stream).expect("a command").contains("device_del"));
            say(&mut stream, "{\"timestamp\": 1, \"event\": \"DEVICE_DELETED\"}\r\n{\"return\": {}}\r\n");
            assert!(line(&mut stream).expect("a command").contains("nonsense"));
            say(&mut stream, "{\"error\": {\"desc\": \"no such command\"}}\r\n");
        });
        monitor.execute("{\"execute\":\"device_del\"}").expect("it was carried out");
        let error = monitor.execute("{\"execute\":\"nonsense\"}").expect_err("it was not");
        assert!(error.to_string().contains("no such command"), "{error}");
        emulator.join().expect("all was asked");
    }
}
