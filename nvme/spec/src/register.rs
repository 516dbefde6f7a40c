//! Controller properties: the registers of a PCIe controller, reached on Fabrics by Property Get and Set (Base 3.1.4).

/// Declares a register value with a getter and a setter for each bit field: `getter, setter: first bit, number of bits;`.
macro_rules! bit_fields {
    ($(#[$meta:meta])* pub struct $name:ident($kind:ty) {
        $($(#[$field_meta:meta])* $get:ident, $with:ident: $low:literal, $width:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub $kind);

        impl $name {
            $(
                $(#[$field_meta])*
                pub const fn $get(self) -> $kind {
                    self.0 >> $low & ((1 << $width) - 1)
                }

                /// This value with the field replaced; bits of the argument beyond the field are dropped.
                #[must_use]
                pub const fn $with(self, value: $kind) -> Self {
                    let mask: $kind = (1 << $width) - 1;
                    Self(self.0 & !(mask << $low) | (value & mask) << $low)
                }
            )*
        }
    };
}

/// Offset of Controller Capabilities (8 bytes).
pub const CAP: u32 = 0x00;
/// Offset of Version.
pub const VS: u32 = 0x08;
/// Offset of Interrupt Mask Set (not on Fabrics).
pub const INTMS: u32 = 0x0c;
/// Offset of Interrupt Mask Clear (not on Fabrics).
pub const INTMC: u32 = 0x10;
/// Offset of Controller Configuration.
pub const CC: u32 = 0x14;
/// Offset of Controller Status.
pub const CSTS: u32 = 0x1c;
/// Offset of NVM Subsystem Reset.
pub const NSSR: u32 = 0x20;
/// Offset of Admin Queue Attributes (not on Fabrics).
pub const AQA: u32 = 0x24;
/// Offset of Admin Submission Queue Base Address (8 bytes, not on Fabrics).
pub const ASQ: u32 = 0x28;
/// Offset of Admin Completion Queue Base Address (8 bytes, not on Fabrics).
pub const ACQ: u32 = 0x30;
/// Offset of Controller Memory Buffer Location.
pub const CMBLOC: u32 = 0x38;
/// Offset of Controller Memory Buffer Size.
pub const CMBSZ: u32 = 0x3c;
/// Offset of Boot Partition Information.
pub const BPINFO: u32 = 0x40;
/// Offset of NVM Subsystem Shutdown.
pub const NSSD: u32 = 0x64;
/// Offset of Controller Ready Timeouts.
pub const CRTO: u32 = 0x68;
/// Offset of the first doorbell of a PCIe controller.
pub const DOORBELLS: u32 = 0x1000;

/// Value that starts an NVM subsystem reset when written to NSSR: "NVMe".
pub const NSSR_RESET: u32 = 0x4e56_4d65;

/// Value that starts a normal shutdown of the subsystem when written to NSSD: "Nrml".
pub const NSSD_NORMAL: u32 = 0x4e72_6d6c;

/// Bytes of the property at this offset, if it is one of those above.
pub const fn size_bytes(offset: u32) -> Option<u32> {
    match offset {
        CAP | ASQ | ACQ => Some(8),
        VS | INTMS | INTMC | CC | CSTS | NSSR | AQA | CMBLOC | CMBSZ | BPINFO | NSSD | CRTO => Some(4),
        _ => None,
    }
}

/// Offset of the tail doorbell of submission queue `qid`; `stride` is CAP.DSTRD.
pub const fn submission_doorbell(qid: u16, stride: u32) -> u32 {
    DOORBELLS + 2 * qid as u32 * (4 << stride)
}

/// Offset of the head doorbell of completion queue `qid`; `stride` is CAP.DSTRD.
pub const fn completion_doorbell(qid: u16, stride: u32) -> u32 {
    DOORBELLS + (2 * qid as u32 + 1) * (4 << stride)
}

bit_fields! {
    /// Controller Capabilities.
    pub struct Capabilities(u64) {
        /// Maximum Queue Entries Supported, less one.
        mqes, with_mqes: 0, 16;
        /// Contiguous Queues Required; 1 on Fabrics.
        cqr, with_cqr: 16, 1;
        /// Arbitration Mechanism Supported.
        ams, with_ams: 17, 2;
        /// Timeout: worst time that CSTS.RDY takes to follow CC.EN, in units of 500 ms.
        timeout_500ms, with_timeout_500ms: 24, 8;
        /// Doorbell Stride: 2 to the power of (2 + value) bytes.
        dstrd, with_dstrd: 32, 4;
        /// NVM Subsystem Reset Supported.
        nssrs, with_nssrs: 36, 1;
        /// Command Sets Supported: bits [`CSS_NVM`], [`CSS_IO_COMMAND_SETS`], [`CSS_ADMIN_ONLY`].
        css, with_css: 37, 8;
        /// Boot Partition Support.
        bps, with_bps: 45, 1;
        /// Controller Power Scope.
        cps, with_cps: 46, 2;
        /// Memory Page Size Minimum: 2 to the power of (12 + value) bytes.
        mpsmin, with_mpsmin: 48, 4;
        /// Memory Page Size Maximum: 2 to the power of (12 + value) bytes.
        mpsmax, with_mpsmax: 52, 4;
        /// Persistent Memory Region Supported.
        pmrs, with_pmrs: 56, 1;
        /// Controller Memory Buffer Supported.
        cmbs, with_cmbs: 57, 1;
        /// NVM Subsystem Shutdown Supported.
        nsss, with_nsss: 58, 1;
        /// Controller Ready Modes Supported: bit 0 with media, bit 1 independent of media.
        crms, with_crms: 59, 2;
        /// NVM Subsystem Shutdown Enhancements Supported.
        nsses, with_nsses: 61, 1;
    }
}

/// Bit of CAP.CSS: the NVM Command Set.
pub const CSS_NVM: u64 = 1 << 0;
/// Bit of CAP.CSS: I/O command sets are listed by Identify (CNS 1Ch).
pub const CSS_IO_COMMAND_SETS: u64 = 1 << 6;
/// Bit of CAP.CSS: no I/O command set.
pub const CSS_ADMIN_ONLY: u64 = 1 << 7;

bit_fields! {
    /// Version; also VER of Identify Controller.
    pub struct Version(u32) {
        /// Tertiary.
        tertiary, with_tertiary: 0, 8;
        /// Minor.
        minor, with_minor: 8, 8;
        /// Major.
        major, with_major: 16, 16;
    }
}

impl Version {
    /// 1.3.0.
    pub const V1_3: Self = Self(0x0001_0300);
    /// 1.4.0.
    pub const V1_4: Self = Self(0x0001_0400);
    /// 2.0.0.
    pub const V2_0: Self = Self(0x0002_0000);
    /// 2.1.0.
    pub const V2_1: Self = Self(0x0002_0100);
}

bit_fields! {
    /// Controller Configuration.
    pub struct Configuration(u32) {
        /// Enable.
        en, with_en: 0, 1;
        /// I/O Command Set Selected: 0 NVM, 6 all supported, 7 admin only.
        css, with_css: 4, 3;
        /// Memory Page Size: 2 to the power of (12 + value) bytes.
        mps, with_mps: 7, 4;
        /// Arbitration Mechanism Selected: 0 round robin.
        ams, with_ams: 11, 3;
        /// Shutdown Notification: [`SHN_NONE`], [`SHN_NORMAL`], [`SHN_ABRUPT`].
        shn, with_shn: 14, 2;
        /// I/O Submission Queue Entry Size as a power of two: 6.
        iosqes, with_iosqes: 16, 4;
        /// I/O Completion Queue Entry Size as a power of two: 4.
        iocqes, with_iocqes: 20, 4;
        /// Controller Ready Independent of Media Enable.
        crime, with_crime: 24, 1;
    }
}

/// CC.SHN: no notification.
pub const SHN_NONE: u32 = 0b00;
/// CC.SHN: normal shutdown.
pub const SHN_NORMAL: u32 = 0b01;
/// CC.SHN: abrupt shutdown.
pub const SHN_ABRUPT: u32 = 0b10;

bit_fields! {
    /// Controller Status.
    pub struct ControllerStatus(u32) {
        /// Ready.
        rdy, with_rdy: 0, 1;
        /// Controller Fatal Status.
        cfs, with_cfs: 1, 1;
        /// Shutdown Status: [`SHST_NONE`], [`SHST_OCCURRING`], [`SHST_COMPLETE`].
        shst, with_shst: 2, 2;
        /// NVM Subsystem Reset Occurred.
        nssro, with_nssro: 4, 1;
        /// Processing Paused.
        pp, with_pp: 5, 1;
        /// Shutdown Type: 1 when the shutdown is one of the subsystem.
        st, with_st: 6, 1;
    }
}

/// CSTS.SHST: no shutdown was asked for.
pub const SHST_NONE: u32 = 0b00;
/// CSTS.SHST: shutdown occurs.
pub const SHST_OCCURRING: u32 = 0b01;
/// CSTS.SHST: shutdown is complete.
pub const SHST_COMPLETE: u32 = 0b10;

bit_fields! {
    /// Admin Queue Attributes.
    pub struct AdminQueueAttributes(u32) {
        /// Admin Submission Queue Size, less one.
        asqs, with_asqs: 0, 12;
        /// Admin Completion Queue Size, less one.
        acqs, with_acqs: 16, 12;
    }
}

bit_fields! {
    /// Controller Ready Timeouts, in units of 500 ms.
    pub struct ReadyTimeouts(u32) {
        /// Controller Ready With Media Timeout.
        crwmt_500ms, with_crwmt_500ms: 0, 16;
        /// Controller Ready Independent of Media Timeout.
        crimt_500ms, with_crimt_500ms: 16, 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_register_do_not_touch_each_other() {
        let cap = Capabilities::default()
            .with_mqes(127)
            .with_cqr(1)
            .with_timeout_500ms(30)
            .with_css(CSS_NVM | CSS_IO_COMMAND_SETS)
            .with_crms(1);
        assert_eq!(cap.0, 127 | 1 << 16 | 30 << 24 | 1 << 37 | 1 << 43 | 1 << 59);
        assert_eq!((cap.mqes(), cap.timeout_500ms(), cap.mpsmax()), (127, 30, 0));
        let cc = Configuration::default().with_en(1).with_iosqes(6).with_iocqes(4);
        assert_eq!(cc.0, 0x0046_0001);
        assert_eq!(cc.with_shn(SHN_NORMAL).0, 0x0046_4001);
        assert_eq!(cc.with_en(2).en(), 0);
        assert_eq!(ControllerStatus(0x09).shst(), SHST_COMPLETE);
        assert_eq!((Version::V2_1.major(), Version::V2_1.minor()), (2, 1));
    }

    #[test]
    fn doorbells_alternate() {
        assert_eq!((submission_doorbell(0, 0), completion_doorbell(0, 0)), (0x1000, 0x1004));
        assert_eq!((submission_doorbell(1, 4), completion_doorbell(1, 4)), (0x1080, 0x10c0));
        assert_eq!((size_bytes(CAP), size_bytes(CC), size_bytes(0x18)), (Some(8), Some(4), None));
    }
}
