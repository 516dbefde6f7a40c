//! Inputs for the bodies of fuzz targets without a fuzzer.

/// Bytes of a small generator, always the same: unlike the seeds, and as long as one wants.
#[derive(Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// Another generator for each seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Self::default().0 ^ seed.wrapping_mul(0xff51_afd7_ed55_8ccd))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let low = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]);
        low as usize % bound
    }

    /// The next `length_bytes` of it.
    pub fn bytes(&mut self, length_bytes: usize) -> Vec<u8> {
        (0..length_bytes).map(|_| self.byte()).collect()
    }

    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u8
    }
}
