//! Sense data (SPC-4 section 4.5): what went wrong, in fixed or descriptor format.

/// Sense keys that a disk uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// Cannot be reached now.
    NotReady = 0x2,
    /// The medium has lost or refused data.
    MediumError = 0x3,
    /// The device failed.
    HardwareError = 0x4,
    /// The command is wrong.
    IllegalRequest = 0x5,
    /// Something happened that the initiator has to know.
    UnitAttention = 0x6,
    /// The medium may not be written, or has no space.
    DataProtect = 0x7,
    /// The command was ended by the device.
    AbortedCommand = 0xb,
    /// The data differs.
    Miscompare = 0xe,
}

/// Which field of the CDB or of the parameter list is wrong (SPC-4 section 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB, else in the parameter list.
    pub in_cdb: bool,
    /// The byte, from the start.
    pub byte: u16,
    /// The most significant bit of the field, when it is not a whole byte.
    pub bit: Option<u8>,
}

/// One sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The category.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// The INFORMATION field: an LBA, or the offset of a miscompare.
    pub information: Option<u64>,
    /// Sense-key specific: the wrong field.
    pub field: Option<FieldPointer>,
    /// Sense-key specific of NOT READY: how much of an operation is done, in parts of 65536.
    pub progress: Option<u16>,
}

impl Sense {
    /// Nothing to report.
    pub const NONE: Self = Self::new(SenseKey::NoSense, 0, 0);
    /// 05/20/00 invalid command operation code.
    pub const INVALID_OPCODE: Self = Self::illegal(0x20, 0x00);
    /// 05/21/00 logical block address out of range.
    pub const LBA_OUT_OF_RANGE: Self = Self::illegal(0x21, 0x00);
    /// 05/24/00 invalid field in CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self::illegal(0x24, 0x00);
    /// 05/25/00 logical unit not supported.
    pub const NO_SUCH_LUN: Self = Self::illegal(0x25, 0x00);
    /// 05/26/00 invalid field in parameter list.
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self::illegal(0x26, 0x00);
    /// 05/26/04 invalid release of persistent reservation.
    pub const INVALID_RELEASE: Self = Self::illegal(0x26, 0x04);
    /// 05/1A/00 parameter list length error.
    pub const PARAMETER_LIST_LENGTH: Self = Self::illegal(0x1a, 0x00);
    /// 05/55/04 insufficient registration resources.
    pub const NO_REGISTRATION_RESOURCES: Self = Self::illegal(0x55, 0x04);
    /// 0E/1D/00 miscompare during verify operation.
    pub const MISCOMPARE: Self = Self::new(SenseKey::Miscompare, 0x1d, 0x00);
    /// 03/11/00 unrecovered read error.
    pub const READ_ERROR: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    /// 03/0C/00 write error.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    /// 07/27/07 space allocation failed write protect.
    pub const NO_SPACE: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);
    /// 07/27/02 logical unit software write protected.
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x02);
    /// 05/2c/00 command sequence error.
    pub const COMMAND_SEQUENCE_ERROR: Self = Self::illegal(0x2c, 0x00);
    /// 04/44/00 internal target failure.
    pub const INTERNAL_FAILURE: Self = Self::new(SenseKey::HardwareError, 0x44, 0x00);
    /// 02/04/02 not ready, initializing command required: the unit was stopped.
    pub const STOPPED: Self = Self::new(SenseKey::NotReady, 0x04, 0x02);
    /// 02/04/0B not accessible, target port in standby state.
    pub const STANDBY: Self = Self::new(SenseKey::NotReady, 0x04, 0x0b);
    /// 02/04/0C not accessible, target port in unavailable state.
    pub const UNAVAILABLE: Self = Self::new(SenseKey::NotReady, 0x04, 0x0c);
    /// 02/04/0A not accessible, asymmetric access state transition.
    pub const TRANSITION: Self = Self::new(SenseKey::NotReady, 0x04, 0x0a);
    /// 02/04/1B not ready, sanitize in progress.
    pub const SANITIZE_IN_PROGRESS: Self = Self::new(SenseKey::NotReady, 0x04, 0x1b);
    /// 03/31/03 sanitize command failed.
    pub const SANITIZE_FAILED: Self = Self::new(SenseKey::MediumError, 0x31, 0x03);
    /// 0B/00/00 the command was taken back before it had an effect.
    pub const ABORTED: Self = Self::new(SenseKey::AbortedCommand, 0x00, 0x00);
    /// 05/53/02 medium removal prevented.
    pub const REMOVAL_PREVENTED: Self = Self::illegal(0x53, 0x02);

    /// A sense without information.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq, information: None, field: None, progress: None }
    }

    const fn illegal(asc: u8, ascq: u8) -> Self {
        Self::new(SenseKey::IllegalRequest, asc, ascq)
    }

    /// INVALID FIELD IN CDB that names the byte.
    pub const fn cdb_byte(byte: u16) -> Self {
        let field = FieldPointer { in_cdb: true, byte, bit: None };
        Self { field: Some(field), ..Self::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN CDB that names the byte and the most significant bit of the field.
    pub const fn cdb_bit(byte: u16, bit: u8) -> Self {
        let field = FieldPointer { in_cdb: true, byte, bit: Some(bit) };
        Self { field: Some(field), ..Self::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN PARAMETER LIST that names the byte.
    pub const fn parameter_byte(byte: u16) -> Self {
        let field = FieldPointer { in_cdb: false, byte, bit: None };
        Self { field: Some(field), ..Self::INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// The same with an INFORMATION field.
    #[must_use]
    pub const fn with_information(self, information: u64) -> Self {
        Self { information: Some(information), ..self }
    }

    /// The same with a PROGRESS INDICATION field.
    #[must_use]
    pub const fn with_progress(self, progress: u16) -> Self {
        Self { progress: Some(progress), ..self }
    }

    fn key_specific(&self) -> Option<[u8; 3]> {
        if let Some(progress) = self.progress {
            let [high, low] = progress.to_be_bytes();
            return Some([0x80, high, low]);
        }
        let field = self.field?;
        let [high, low] = field.byte.to_be_bytes();
        let bit = field.bit.map_or(0, |bit| 0x08 | bit & 0x07);
        let command_data = if field.in_cdb { 0x40 } else { 0 };
        Some([0x80 | command_data | bit, high, low])
    }

    /// The bytes: response code 72h (descriptor) or 70h (fixed).
    pub fn encode(&self, descriptor_format: bool) -> Vec<u8> {
        if descriptor_format { self.encode_descriptors() } else { self.encode_fixed() }
    }

    fn encode_fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        // Four bytes hold no larger LBA; then VALID stays 0 (SPC-4 section 4.5.3).
        if let Some(Ok(information)) = self.information.map(u32::try_from) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[7] = 10;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(specific) = self.key_specific() {
            bytes[15..18].copy_from_slice(&specific);
        }
        bytes
    }

    fn encode_descriptors(&self) -> Vec<u8> {
        let mut bytes = vec![0x72, self.key as u8, self.asc, self.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.key_specific() {
            bytes.extend_from_slice(&[0x02, 0x06, 0x00, 0x00]);
            bytes.extend_from_slice(&specific);
            bytes.push(0);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_has_information_and_field_pointer_where_they_belong() {
        let sense = Sense::cdb_bit(1, 7).with_information(0x1234_5678).encode(false);
        assert_eq!(sense, [0xf0, 0, 5, 0x12, 0x34, 0x56, 0x78, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1]);
        let large = Sense::READ_ERROR.with_information(1 << 32).encode(false);
        assert_eq!(large[0], 0x70, "an LBA that does not fit is not valid");
        let progress = Sense::SANITIZE_IN_PROGRESS.with_progress(0x1234).encode(false);
        assert_eq!(
            (progress[2], &progress[12..14], &progress[15..]),
            (2, &[4, 0x1b][..], &[0x80, 0x12, 0x34][..])
        );
    }

    #[test]
    fn descriptor_format_has_a_descriptor_for_each() {
        let sense = Sense::MISCOMPARE.with_information(7).encode(true);
        assert_eq!(sense[..8], [0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12]);
        assert_eq!(sense[8..], [0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        let sense = Sense::parameter_byte(300).encode(true);
        assert_eq!(sense[8..], [2, 6, 0, 0, 0x80, 1, 44, 0]);
        assert_eq!(Sense::NONE.encode(true).len(), 8);
    }
}
