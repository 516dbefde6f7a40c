//! Gathers a text that goes on over several PDUs (C bit), up to a total.

use super::TextError;

/// Text so far. A pair may be cut anywhere, so nothing is parsed before the PDU without the C bit.
#[derive(Clone, Debug)]
pub struct TextAccumulator {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl TextAccumulator {
    /// Takes up to `bytes_max` bytes per text.
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Adds the data segment of one PDU.
    pub fn push(&mut self, segment: &[u8]) -> Result<(), TextError> {
        let total = self.bytes.len().checked_add(segment.len()).ok_or(TextError::TextTooLong)?;
        if total > self.bytes_max {
            return Err(TextError::TextTooLong);
        }
        self.bytes.extend_from_slice(segment);
        Ok(())
    }

    /// The complete text; the next one starts empty.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_gives_the_same_text() {
        let text = b"InitiatorName=iqn.a\0SessionType=Normal\0";
        for cut in 0..=text.len() {
            let mut accumulator = TextAccumulator::new(text.len());
            accumulator.push(&text[..cut]).expect("fits");
            accumulator.push(&text[cut..]).expect("fits");
            assert_eq!(accumulator.take(), text);
            assert!(accumulator.is_empty());
        }
    }

    #[test]
    fn the_total_is_bounded_however_small_the_pieces() {
        let mut accumulator = TextAccumulator::new(10);
        for _ in 0..10 {
            assert_eq!(accumulator.push(b"x"), Ok(()));
        }
        assert_eq!(accumulator.push(b"x"), Err(TextError::TextTooLong));
        assert_eq!(accumulator.len(), 10);
        assert_eq!(accumulator.push(b""), Ok(()), "a continuation without data is harmless");
    }
}
