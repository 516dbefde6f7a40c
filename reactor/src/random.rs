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
