//! Processes that never outlive the check that started them, and what they hold.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Context, Failure, Outcome, ensure, fail};
use crate::limits;

/// The unit of /proc is part of the kernel's interface to programs.
const TICKS_PER_SECOND: u64 = 100;

/// A running program that is killed when this value goes.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `command` with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context(&format!("starting {:?}", command.get_program()))?;
        Ok(Self { child })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill(self.pid(), signal)?)
    }

    /// Fails if the process has ended.
    pub fn ensure_alive(&mut self) -> Outcome {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => fail(format!("the target process ended: {status}")),
        }
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the end, at most `patience`.
    pub fn wait(&mut self, patience: Duration) -> Outcome<ExitStatus> {
        let mut status = None;
        eventually(patience, "the process ends", || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.ok_or_else(|| Failure::new("no exit status"))
    }

    /// What it has used of all processors.
    pub fn processor_time(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold anything, so the fields are counted from its end: utime and stime are 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        ensure(ticks.len() == 2, || format!("no processor time in {stat:?}"))?;
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / TICKS_PER_SECOND))
    }

    /// What it holds now.
    pub fn held(&self) -> Outcome<Held> {
        let pid = self.child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| Failure::new("no VmRSS line"))?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Held { descriptors, resident_kib })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Descriptors and memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open file descriptors.
    pub descriptors: usize,
    /// Resident memory.
    pub resident_kib: u64,
}

impl Held {
    /// `now` is more than this: one more descriptor is a leak, memory has its slack.
    fn is_exceeded_by(self, now: Self) -> bool {
        now.descriptors > self.descriptors
            || now.resident_kib > self.resident_kib + limits::RESIDENT_SLACK_KIB
    }

    /// Fails unless `daemon` comes back to this: no more descriptors, no more memory than slack allows.
    pub fn ensure_returned(self, daemon: &Daemon) -> Outcome {
        let mut now = daemon.held()?;
        let returned = eventually(limits::STATE_PATIENCE, "descriptors and memory return", || {
            now = daemon.held()?;
            Ok(!self.is_exceeded_by(now))
        });
        returned.map_err(|_| Failure::new(format!("leak: {self:?} before, {now:?} after")))
    }
}

/// Looks every few milliseconds until `ready` says yes; fails after `patience`.
pub fn eventually(patience: Duration, what: &str, mut ready: impl FnMut() -> Outcome<bool>) -> Outcome {
    let deadline = Instant::now() + patience;
    loop {
        if ready()? {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || format!("waited {patience:?} in vain until {what}"))?;
        std::thread::sleep(limits::LOOK_EVERY);
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output and standard error together.
    pub output: String,
}

/// Runs `command` to its end; kills it after `patience`.
pub fn run_bounded(command: &mut Command, patience: Duration) -> Outcome<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(&format!("starting {name}"))?;
    let mut readers = Vec::new();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for mut pipe in pipes.into_iter().flatten() {
        readers.push(std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }));
    }
    let mut daemon = Daemon { child };
    let status = daemon.wait(patience);
    if status.is_err() {
        daemon.kill()?;
    }
    let output = readers.into_iter().map(|reader| reader.join().unwrap_or_default()).collect::<String>();
    match status {
        Ok(status) => Ok(Finished { status, output }),
        Err(_) => fail(format!("{name} did not end within {patience:?}; it said: {}", tail(&output))),
    }
}

/// Runs `command` and fails unless it succeeds; its output.
pub fn run_well(command: &mut Command, patience: Duration) -> Outcome<String> {
    let line = format!("{command:?}");
    let finished = run_bounded(command, patience)?;
    ensure(finished.status.success(), || format!("{line}: {}: {}", finished.status, tail(&finished.output)))?;
    Ok(finished.output)
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n        ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_and_reported() {
        let outcome = run_bounded(Command::new("sleep").arg("600"), Duration::from_millis(50));
        assert!(outcome.expect_err("it cannot end").to_string().contains("did not end"));
    }

    #[test]
    fn a_failing_program_fails_the_check_with_its_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason; exit 3"]);
        let failure = run_well(&mut command, limits::COMMAND_PATIENCE).expect_err("exit code 3");
        assert!(failure.to_string().contains("reason"));
    }

    #[test]
    fn a_leak_is_seen() {
        let held = Held { descriptors: 10, resident_kib: 1000 };
        assert!(!held.is_exceeded_by(held));
        assert!(held.is_exceeded_by(Held { descriptors: 11, ..held }));
        assert!(held.is_exceeded_by(Held { resident_kib: 1001 + limits::RESIDENT_SLACK_KIB, ..held }));
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let daemon = Daemon::start(Command::new("sleep").arg("600"), log.path()).expect("sleep starts");
        assert!(daemon.held().expect("its /proc entries").resident_kib > 0);
        assert!(daemon.processor_time().expect("its /proc entries") < limits::STATE_PATIENCE, "it sleeps");
    }
}
