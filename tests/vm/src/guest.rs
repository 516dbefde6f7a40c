//! One guest: QEMU with a prepared image, and what it says while it works through its list of cases.
//!
//! The kernel's messages go to the first serial line, and what `init` says to the second, so that neither breaks the
//! other's lines. Lines that begin with `@@vm` are for the harness.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::failure::{Context, Failure, Outcome, ensure, fail};
use harness::process::{Daemon, tail};

use crate::image::Image;
use crate::limits;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::packages;

/// What every guest's kernel is told. Its clocks need no proof, which fails when the machine lets the guest wait, and
/// nobody attacks it.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on loglevel=5";

/// How one case ended.
#[derive(Debug)]
pub struct Result {
    /// Its full name.
    pub name: String,
    /// Seconds of the guest's clock.
    pub seconds: u64,
    /// Whether it passed.
    pub outcome: Outcome,
}

/// What the guest tells the harness.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Ready,
    Begin(&'a str),
    End {
        name: &'a str,
        code: i32,
        seconds: u64,
    },
    /// Something to be done to the machine from outside.
    Machine(&'a str),
    /// Its power is to be cut, now.
    Cut,
    Over,
}

/// How a guest ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It has worked through its list.
    Over,
    /// This case had its power cut, and goes on in another guest with the same disks.
    Cut(String),
    /// It has not come to its list: an emulated machine hangs now and then before its kernel runs.
    NotBooted,
}

impl<'a> Word<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let text = line.strip_prefix("@@vm ")?;
        if let Some(command) = text.strip_prefix("machine ") {
            return Some(Self::Machine(command));
        }
        let mut words = text.split_whitespace();
        match words.next()? {
            "ready" => Some(Self::Ready),
            "begin" => Some(Self::Begin(words.next()?)),
            "end" => Some(Self::End {
                name: words.next()?,
                code: words.next()?.parse().ok()?,
                seconds: words.next()?.parse().ok()?,
            }),
            "cut" => Some(Self::Cut),
            "over" => Some(Self::Over),
            _ => None,
        }
    }
}

/// The command that starts a guest, without its serial lines.
pub fn command(
    image: &Image,
    cache: &Path,
    initrd: &Path,
    arguments: &str,
    machine: &Machine,
) -> Outcome<Command> {
    let mut command = packages::qemu(cache)?;
    let accelerator = match std::env::var("VM_ACCEL").as_deref() {
        Ok("kvm") => "kvm",
        // A /dev/kvm that opens may still be one in which guests hang.
        _ => machine.accelerator(),
    };
    let processor = if accelerator == "kvm" { "host" } else { "max,la57=off" };
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35"]);
    command.args(["-accel", accelerator, "-cpu", processor]);
    command.args(["-smp", &limits::PROCESSORS.to_string(), "-m", &limits::MEMORY_MIB.to_string()]);
    command.arg("-kernel").arg(&image.vmlinux).arg("-initrd").arg(initrd);
    command.arg("-append").arg(format!("{KERNEL_ARGUMENTS} {arguments}"));
    Ok(command)
}

/// `command`, under a parent whose death is its own, however sudden.
fn dies_with_this_process(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        bound.env(name, value.unwrap_or_default());
    }
    bound
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    daemon: Daemon,
    folder: PathBuf,
    serial: File,
    read_bytes: u64,
    unfinished: String,
    monitor: Monitor,
}

impl Guest {
    /// Starts one with its files in `folder`.
    pub fn start(
        image: &Image,
        cache: &Path,
        initrd: &Path,
        folder: &Path,
        machine: &Machine,
    ) -> Outcome<Self> {
        machine.make_images(folder)?;
        let serial_path = folder.join("serial.log");
        let serial = File::options().read(true).write(true).create(true).truncate(true).open(&serial_path)?;
        let mut command = command(image, cache, initrd, "", machine)?;
        let monitor = Monitor::new()?;
        command.arg("-qmp").arg(monitor.argument()).args(machine.arguments(folder));
        for name in ["console.log", "serial.log"] {
            command.arg("-serial").arg(format!("file:{}", folder.join(name).display()));
        }
        let daemon = Daemon::start(&mut dies_with_this_process(&command), &folder.join("qemu.log"))?;
        let (folder, unfinished) = (folder.to_owned(), String::new());
        Ok(Self { daemon, folder, serial, read_bytes: 0, unfinished, monitor })
    }

    /// Follows it until it says that it is over, or fails. A case that it was at when it failed has a result, too.
    pub fn follow(mut self, on_result: &mut dyn FnMut(Result)) -> Outcome<End> {
        let mut case: Option<String> = None;
        let mut said = String::new();
        let outcome = self.listen(&mut case, &mut said, on_result);
        match (outcome, case) {
            (Ok(End::Over | End::NotBooted), Some(_)) => fail("the guest ended in the middle of a case"),
            (Ok(end), _) => Ok(end),
            (Err(failure), None) => Err(self.explain(&failure, &said)),
            (Err(failure), Some(name)) => {
                let outcome = Err(self.explain(&failure, &said));
                on_result(Result { name, seconds: 0, outcome });
                Ok(End::Over)
            }
        }
    }

    fn listen(
        &mut self,
        case: &mut Option<String>,
        said: &mut String,
        on_result: &mut dyn FnMut(Result),
    ) -> Outcome<End> {
        let mut patience = Patience::new(&self.daemon)?;
        let mut booted = false;
        loop {
            // First whether it lives, then what it said: so its last words are not missed.
            let alive = self.daemon.ensure_alive();
            for line in self.lines()? {
                let Some(word) = Word::parse(&line) else {
                    said.push_str(&line);
                    said.push('\n');
                    continue;
                };
                patience = Patience::new(&self.daemon).unwrap_or(patience);
                match word {
                    Word::Ready => booted = true,
                    Word::Begin(name) => {
                        said.clear();
                        *case = Some(name.to_owned());
                    }
                    Word::End { name, code, seconds } => {
                        ensure(case.as_deref() == Some(name), || format!("{name} ended, but {case:?} ran"))?;
                        *case = None;
                        let outcome = if code == 0 { Ok(()) } else { fail(words_of_case(code, said)) };
                        on_result(Result { name: name.to_owned(), seconds, outcome });
                    }
                    Word::Machine(command) => self.monitor.execute(command)?,
                    Word::Cut => {
                        let name = case.take().ok_or_else(|| Failure::new("no case wants the power cut"))?;
                        self.daemon.kill()?;
                        return Ok(End::Cut(name));
                    }
                    Word::Over => return self.end().map(|()| End::Over),
                }
            }
            alive.map_err(|failure| Failure::new(failure.to_string().replace("target process", "guest")))?;
            if !booted && patience.used(&self.daemon)? > limits::BOOT_PROCESSOR_PATIENCE {
                self.daemon.kill()?;
                return Ok(End::NotBooted);
            }
            patience.check(&self.daemon)?;
            std::thread::sleep(limits::LOOK_EVERY);
        }
    }

    fn end(&mut self) -> Outcome {
        let status = self.daemon.wait(limits::POWER_OFF_PATIENCE).context("after its last word")?;
        ensure(status.success(), || format!("the emulator ended with {status}"))
    }

    /// Whole lines that came since the last call.
    fn lines(&mut self) -> Outcome<Vec<String>> {
        let mut buffer = [0; 1 << 16];
        loop {
            let count = self.serial.read_at(&mut buffer, self.read_bytes)?;
            if count == 0 {
                break;
            }
            self.read_bytes += count as u64;
            self.unfinished += &String::from_utf8_lossy(&buffer[..count]);
        }
        let Some(end) = self.unfinished.rfind('\n') else { return Ok(Vec::new()) };
        let rest = self.unfinished.split_off(end + 1);
        let whole = std::mem::replace(&mut self.unfinished, rest);
        Ok(whole.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    fn explain(&self, failure: &Failure, said: &str) -> Failure {
        let log = |name: &str| std::fs::read(self.folder.join(name)).unwrap_or_default();
        let console = String::from_utf8_lossy(&log("console.log")).into_owned();
        let emulator = String::from_utf8_lossy(&log("qemu.log")).into_owned();
        Failure::new(format!(
            "{failure}\n        guest: {}\n        kernel: {}\n        qemu: {}",
            tail(said),
            tail(&console),
            tail(&emulator)
        ))
    }
}

fn words_of_case(code: i32, said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = lines[lines.len().saturating_sub(60)..].join("\n        ");
    // 128 and SIGKILL, as the shell says it.
    let how = if code == 137 { "ran out of time" } else { "failed" };
    format!("it {how} (exit code {code}); it said:\n        {shown}")
}

/// Bounds between two words.
struct Patience {
    since: Instant,
    processor_time: Duration,
}

impl Patience {
    fn new(daemon: &Daemon) -> Outcome<Self> {
        Ok(Self { since: Instant::now(), processor_time: daemon.processor_time()? })
    }

    fn used(&self, daemon: &Daemon) -> Outcome<Duration> {
        Ok(daemon.processor_time()?.saturating_sub(self.processor_time))
    }

    fn check(&self, daemon: &Daemon) -> Outcome {
        let used = self.used(daemon)?;
        ensure(used < limits::PROCESSOR_PATIENCE, || format!("the guest used {used:?} and said nothing"))?;
        ensure(self.since.elapsed() < limits::SILENCE_PATIENCE, || {
            format!("the guest said nothing for {:?} and used {used:?}", limits::SILENCE_PATIENCE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_what_cases_say() {
        assert_eq!(Word::parse("@@vm ready"), Some(Word::Ready));
        assert_eq!(Word::parse("@@vm begin iscsi::a_b"), Some(Word::Begin("iscsi::a_b")));
        assert_eq!(
            Word::parse("@@vm end iscsi::a_b 3 17"),
            Some(Word::End { name: "iscsi::a_b", code: 3, seconds: 17 })
        );
        assert_eq!(Word::parse("@@vm over"), Some(Word::Over));
        let command = "{\"execute\": \"device_del\"}";
        assert_eq!(Word::parse(&format!("@@vm machine {command}")), Some(Word::Machine(command)));
        assert_eq!(Word::parse("@@vm cut"), Some(Word::Cut));
        for other in ["", "vm over", "@@vm", "@@vm end a x 1", "+ echo @@vm over"] {
            assert_eq!(Word::parse(other), None, "{other:?}");
        }
    }
}
