//! The log of a world: hashed always, printed on demand.

use reactor::time::Time;

/// Everything observable that happened, in order, as one number.
#[derive(Debug)]
pub struct Log {
    hash: u64,
    lines: u64,
    print: bool,
}

impl Log {
    /// An empty log; `print` also writes it to stderr.
    pub fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, print }
    }

    /// Something happened at `now`.
    pub fn note(&mut self, now: Time, what: std::fmt::Arguments<'_>) {
        let line = what.to_string();
        for byte in now.as_ns().to_le_bytes().iter().chain(line.as_bytes()) {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines += 1;
        if self.print {
            Self::print(now, &line);
        }
    }

    #[expect(clippy::print_stderr, reason = "asked for, to look at one seed")]
    fn print(now: Time, line: &str) {
        eprintln!("{:>14} {line}", now.as_ns() / 1000);
    }

    /// The hash of everything noted.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much was noted.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}
