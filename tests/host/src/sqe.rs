//! Submission queue entries as bytes (NVMe Base 4.1.1, Fabrics 6, NVM Command Set 3.2).

/// Opcodes.
pub mod opcode {
    /// Fabrics commands.
    pub const FABRICS: u8 = 0x7f;
    /// Admin: Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Admin: Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Admin: Abort.
    pub const ABORT: u8 = 0x08;
    /// Admin: Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Admin: Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Admin: Asynchronous Event Request.
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Admin: Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// I/O: Flush.
    pub const FLUSH: u8 = 0x00;
    /// I/O: Write.
    pub const WRITE: u8 = 0x01;
    /// I/O: Read.
    pub const READ: u8 = 0x02;
    /// I/O: Compare.
    pub const COMPARE: u8 = 0x05;
    /// I/O: Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// I/O: Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}

/// Status codes with their type, without the flags.
pub mod status {
    /// Successful Completion.
    pub const SUCCESS: u16 = 0;
    /// Command Sequence Error.
    pub const SEQUENCE_ERROR: u16 = 0x0c;
    /// LBA Out of Range.
    pub const LBA_OUT_OF_RANGE: u16 = 0x80;
    /// Connect Invalid Host.
    pub const INVALID_HOST: u16 = 0x184;
}

/// 64 bytes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sqe(pub [u8; 64]);

impl Sqe {
    /// A command without data.
    pub fn new(opcode: u8, nsid: u32) -> Self {
        let mut sqe = Self([0; 64]);
        // SGLs, as Fabrics asks for (PSDT 01b).
        (sqe.0[0], sqe.0[1]) = (opcode, 0x40);
        sqe.with_u32(4, nsid)
    }

    /// A command on a run of blocks.
    pub fn blocks(opcode: u8, nsid: u32, lba: u64, count: u32) -> Self {
        let mut sqe = Self::new(opcode, nsid);
        sqe.0[40..48].copy_from_slice(&lba.to_le_bytes());
        sqe.with_u16(48, (count - 1) as u16)
    }

    /// Connect (Fabrics 3.3).
    pub fn connect(qid: u16, entries: u16, keep_alive_ms: u32) -> Self {
        Self::new(opcode::FABRICS, 1).with_u16(42, qid).with_u16(44, entries - 1).with_u32(48, keep_alive_ms)
    }

    /// Property Get; of eight bytes for CAP.
    pub fn property_get(offset: u32) -> Self {
        let mut sqe = Self::new(opcode::FABRICS, 4).with_u32(44, offset);
        sqe.0[40] = u8::from(offset == 0);
        sqe
    }

    /// Property Set of four bytes.
    pub fn property_set(offset: u32, value: u32) -> Self {
        Self::new(opcode::FABRICS, 0).with_u32(44, offset).with_u32(48, value)
    }

    /// Get Log Page: so many bytes from the start.
    pub fn log_page(lid: u8, nsid: u32, length_bytes: u32) -> Self {
        let dwords = length_bytes / 4 - 1;
        Self::new(opcode::GET_LOG_PAGE, nsid)
            .with_u32(40, u32::from(lid) | dwords << 16)
            .with_u32(44, dwords >> 16)
    }

    /// Sets two bytes.
    #[must_use]
    pub fn with_u16(mut self, at: usize, value: u16) -> Self {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets four bytes.
    #[must_use]
    pub fn with_u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// The descriptor of the command's data: in the capsule, or through the transport.
    #[must_use]
    pub fn with_sgl(self, length_bytes: u32, in_capsule: bool) -> Self {
        let mut sqe = self.with_u32(24, 0).with_u32(28, 0).with_u32(32, length_bytes).with_u32(36, 0);
        sqe.0[39] = if in_capsule { 0x01 } else { 0x5a };
        sqe
    }

    /// The command identifier.
    #[must_use]
    pub fn with_cid(self, cid: u16) -> Self {
        self.with_u16(2, cid)
    }
}
