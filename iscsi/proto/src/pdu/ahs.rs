//! Additional header segments (RFC 7143 section 11.2.2): a bounded walk over peer bytes.

/// One additional header segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahs<'a> {
    /// CDB bytes from the seventeenth on (type 1).
    ExtendedCdb(&'a [u8]),
    /// Expected bytes of the read half of a bidirectional command (type 2).
    BidirectionalReadLength(u32),
    /// A type this version does not know.
    Unknown {
        /// Its type code.
        kind: u8,
        /// Its bytes behind the type.
        bytes: &'a [u8],
    },
}

/// A malformed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AhsError {
    /// The segment does not fit what is left of the AHS area.
    #[error("an additional header segment runs past TotalAHSLength")]
    Truncated,
    /// The length is not the one its type has.
    #[error("an additional header segment has a length its type does not allow")]
    BadLength,
}

const KIND_EXTENDED_CDB: u8 = 1;
const KIND_BIDIRECTIONAL_READ_LENGTH: u8 = 2;
/// AHSLength and AHSType.
const AHS_HEADER_BYTES: usize = 3;

/// Walks the AHS area; yields an error once and then ends.
#[derive(Clone, Debug)]
pub struct AhsWalk<'a> {
    left: &'a [u8],
}

impl<'a> AhsWalk<'a> {
    /// Over the bytes between the BHS and the header digest.
    pub const fn new(area: &'a [u8]) -> Self {
        Self { left: area }
    }

    fn step(&mut self) -> Result<Ahs<'a>, AhsError> {
        let [high, low, kind, ..] = *self.left else {
            return Err(AhsError::Truncated);
        };
        // AHSLength counts what follows the type byte; the segment is padded to four bytes as a whole.
        let length_bytes = usize::from(u16::from_be_bytes([high, low]));
        let end = AHS_HEADER_BYTES + length_bytes;
        let bytes = self.left.get(AHS_HEADER_BYTES..end).ok_or(AhsError::Truncated)?;
        self.left = self.left.get(end.next_multiple_of(4)..).ok_or(AhsError::Truncated)?;
        match (kind, bytes) {
            (KIND_EXTENDED_CDB, [_reserved, cdb @ ..]) => Ok(Ahs::ExtendedCdb(cdb)),
            (KIND_BIDIRECTIONAL_READ_LENGTH, &[_reserved, a, b, c, d]) => {
                Ok(Ahs::BidirectionalReadLength(u32::from_be_bytes([a, b, c, d])))
            }
            (KIND_EXTENDED_CDB | KIND_BIDIRECTIONAL_READ_LENGTH, _) => Err(AhsError::BadLength),
            (kind, bytes) => Ok(Ahs::Unknown { kind, bytes }),
        }
    }
}

impl<'a> Iterator for AhsWalk<'a> {
    type Item = Result<Ahs<'a>, AhsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.left = &[];
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(area: &[u8]) -> Vec<Result<Ahs<'_>, AhsError>> {
        AhsWalk::new(area).collect()
    }

    #[test]
    fn extended_cdb_and_read_length_are_found() {
        // A 32-byte CDB: AHSLength = 32 - 15.
        let mut area = vec![0, 17, 1, 0];
        area.extend(16..32u8);
        area.extend([0, 5, 2, 0, 0, 0, 0x10, 0]);
        let cdb: Vec<u8> = (16..32).collect();
        assert_eq!(walk(&area), [Ok(Ahs::ExtendedCdb(&cdb)), Ok(Ahs::BidirectionalReadLength(0x1000))]);
    }

    #[test]
    fn padding_of_a_segment_is_skipped() {
        assert_eq!(
            walk(&[0, 2, 1, 0, 0x55, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 1]),
            [Ok(Ahs::ExtendedCdb(&[0x55])), Ok(Ahs::BidirectionalReadLength(1))]
        );
    }

    #[test]
    fn unknown_types_are_values() {
        assert_eq!(walk(&[0, 1, 63, 9]), [Ok(Ahs::Unknown { kind: 63, bytes: &[9] })]);
    }

    #[test]
    fn every_short_or_overlong_segment_is_an_error() {
        assert_eq!(walk(&[0, 2, 1, 0]), [Err(AhsError::Truncated)]);
        assert_eq!(walk(&[0xff, 0xff, 1, 0]), [Err(AhsError::Truncated)]);
        assert_eq!(walk(&[0, 0, 1, 0]), [Err(AhsError::BadLength)]);
        assert_eq!(walk(&[0, 4, 2, 0, 0, 0, 0, 0]), [Err(AhsError::BadLength)]);
        assert_eq!(walk(&[0, 1]), [Err(AhsError::Truncated)]);
    }

    #[test]
    fn any_bytes_end_the_walk() {
        // Every first three bytes, in the smallest and the largest area.
        for kind in 0..=255u8 {
            for length in [0u16, 1, 5, 17, 1016, 1017, 1018, u16::MAX] {
                for total in [4usize, 8, 1020] {
                    let mut area = vec![0; total];
                    area[..2].copy_from_slice(&length.to_be_bytes());
                    area[2] = kind;
                    assert!(walk(&area).len() <= 256);
                }
            }
        }
    }
}
