//! The one source of chance: the operating system's, or the simulator's seed.

/// Unpredictable bytes in production, reproducible bytes in a simulation.
pub trait Random {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);

    /// A random number over the whole range.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

const BATCH_BYTES: usize = 256;

/// The operating system's generator, fetched 256 bytes at a time: small requests seldom cost a
/// system call. Used bytes are wiped, so a later leak of memory does not reveal a challenge.
pub struct OsRandom {
    batch: [u8; BATCH_BYTES],
    used_bytes: usize,
}

impl OsRandom {
    /// A generator with nothing fetched yet.
    pub const fn new() -> Self {
        Self { batch: [0; BATCH_BYTES], used_bytes: BATCH_BYTES }
    }
}

impl Default for OsRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for OsRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OsRandom")
    }
}

fn fetch(out: &mut [u8]) {
    // Without randomness there is no safe authentication: nothing can go on.
    getrandom::fill(out).expect("the operating system has a random generator");
}

impl Random for OsRandom {
    fn fill(&mut self, out: &mut [u8]) {
        if out.len() > BATCH_BYTES {
            return fetch(out);
        }
        if BATCH_BYTES - self.used_bytes < out.len() {
            fetch(&mut self.batch);
            self.used_bytes = 0;
        }
        let from = &mut self.batch[self.used_bytes..self.used_bytes + out.len()];
        out.copy_from_slice(from);
        from.fill(0);
        self.used_bytes += out.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_not_given_twice_and_every_length_is_filled() {
        let mut random = OsRandom::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..500 {
            assert!(seen.insert(random.next_u64()));
        }
        for length in [1, 255, 256, 257, 10_000] {
            let mut out = vec![0; length];
            random.fill(&mut out);
            assert!(length < 16 || out.iter().any(|&byte| byte != 0));
        }
        random.fill(&mut []);
    }
}
