//! Fields of the admin commands that have no structure of their own (Base 5.1).

use zerocopy::little_endian::U32;

use crate::feature::FeatureId;
use crate::identify::{Cns, CommandSet};
use crate::log::LogPageId;
use crate::{AdminOpcode, Sqe};

/// Fields of Identify (Base 5.1.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identify {
    /// Controller or Namespace Structure: what is asked for.
    pub cns: Cns,
    /// Controller Identifier, where the structure has one.
    pub cntid: u16,
    /// CNS Specific Identifier.
    pub cnssid: u16,
    /// Command Set Identifier.
    pub csi: CommandSet,
    /// Namespace Identifier.
    pub nsid: u32,
}

impl Identify {
    /// Bytes of the data of every Identify.
    pub const DATA_BYTES: u32 = 4096;

    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Self {
            cns: Cns(cdw10 as u8),
            cntid: (cdw10 >> 16) as u16,
            cnssid: cdw11 as u16,
            csi: CommandSet((cdw11 >> 24) as u8),
            nsid: sqe.nsid.get(),
        }
    }

    /// The command without data pointer.
    pub fn sqe(&self) -> Sqe {
        Sqe {
            opcode: AdminOpcode::IDENTIFY.0,
            nsid: U32::new(self.nsid),
            cdw10: U32::new(u32::from(self.cns.0) | u32::from(self.cntid) << 16),
            cdw11: U32::new(u32::from(self.cnssid) | u32::from(self.csi.0) << 24),
            ..Sqe::default()
        }
    }
}

/// Fields of Get Log Page (Base 5.1.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetLogPage {
    /// Log Page Identifier.
    pub lid: LogPageId,
    /// Log Specific Parameter (7 bits).
    pub lsp: u8,
    /// Retain Asynchronous Event: reading does not clear the event.
    pub retain_event: bool,
    /// Bytes that the host takes: (NUMD + 1) dwords.
    pub length_bytes: u64,
    /// Log Specific Identifier.
    pub lsi: u16,
    /// Log Page Offset: bytes, or an index when `offset_is_index`.
    pub offset: u64,
    /// Offset Type.
    pub offset_is_index: bool,
    /// Command Set Identifier.
    pub csi: CommandSet,
    /// Namespace Identifier.
    pub nsid: u32,
}

impl GetLogPage {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let (cdw10, cdw11, cdw14) = (sqe.cdw10.get(), sqe.cdw11.get(), sqe.cdw14.get());
        let numd = u64::from(cdw10 >> 16) | u64::from(cdw11 & 0xffff) << 16;
        Self {
            lid: LogPageId(cdw10 as u8),
            lsp: (cdw10 >> 8) as u8 & 0x7f,
            retain_event: cdw10 & 1 << 15 != 0,
            length_bytes: (numd + 1) * 4,
            lsi: (cdw11 >> 16) as u16,
            offset: u64::from(sqe.cdw12.get()) | u64::from(sqe.cdw13.get()) << 32,
            offset_is_index: cdw14 & 1 << 23 != 0,
            csi: CommandSet((cdw14 >> 24) as u8),
            nsid: sqe.nsid.get(),
        }
    }

    /// The command without data pointer.
    ///
    /// # Panics
    /// When `length_bytes` is not a number of dwords from 1 to 2 to the power of 32.
    pub fn sqe(&self) -> Sqe {
        assert!(self.length_bytes.is_multiple_of(4) && self.length_bytes > 0, "a log page is read in dwords");
        let numd = u32::try_from(self.length_bytes / 4 - 1).expect("a length that fits the number of dwords");
        let cdw10 = u32::from(self.lid.0)
            | u32::from(self.lsp & 0x7f) << 8
            | u32::from(self.retain_event) << 15
            | (numd & 0xffff) << 16;
        Sqe {
            opcode: AdminOpcode::GET_LOG_PAGE.0,
            nsid: U32::new(self.nsid),
            cdw10: U32::new(cdw10),
            cdw11: U32::new(numd >> 16 | u32::from(self.lsi) << 16),
            cdw12: U32::new(self.offset as u32),
            cdw13: U32::new((self.offset >> 32) as u32),
            cdw14: U32::new(u32::from(self.offset_is_index) << 23 | u32::from(self.csi.0) << 24),
            ..Sqe::default()
        }
    }
}

/// Fields of Format NVM (Base 5.1.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatNvm {
    /// LBA Format: its index, 6 bits.
    pub lbaf: u8,
    /// Metadata Settings: metadata is transferred with the data; else in a buffer of its own.
    pub extended: bool,
    /// Protection Information (3 bits): 0 is none.
    pub protection: u8,
    /// Protection Information Location: at the start of the metadata.
    pub protection_first: bool,
    /// Secure Erase Settings (3 bits): 0 none, 1 user data, 2 cryptographic.
    pub secure_erase: u8,
    /// Namespace Identifier.
    pub nsid: u32,
}

impl FormatNvm {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self {
            lbaf: (cdw10 & 0x0f | (cdw10 >> 12 & 0b11) << 4) as u8,
            extended: cdw10 & 1 << 4 != 0,
            protection: (cdw10 >> 5) as u8 & 0b111,
            protection_first: cdw10 & 1 << 8 != 0,
            secure_erase: (cdw10 >> 9) as u8 & 0b111,
            nsid: sqe.nsid.get(),
        }
    }

    /// The command.
    pub fn sqe(&self) -> Sqe {
        let lbaf = u32::from(self.lbaf);
        let cdw10 = lbaf & 0x0f
            | u32::from(self.extended) << 4
            | u32::from(self.protection & 0b111) << 5
            | u32::from(self.protection_first) << 8
            | u32::from(self.secure_erase & 0b111) << 9
            | (lbaf >> 4 & 0b11) << 12;
        Sqe { nsid: U32::new(self.nsid), cdw10: U32::new(cdw10), ..Sqe::admin(AdminOpcode::FORMAT_NVM) }
    }
}

/// What Get Features returns (SEL, Base 5.1.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSelect(pub u8);

impl FeatureSelect {
    /// The current value.
    pub const CURRENT: Self = Self(0);
    /// The default value.
    pub const DEFAULT: Self = Self(1);
    /// The saved value.
    pub const SAVED: Self = Self(2);
    /// Capabilities of the feature: bits [`Self::SAVEABLE`], [`Self::NAMESPACE_SPECIFIC`], [`Self::CHANGEABLE`].
    pub const SUPPORTED_CAPABILITIES: Self = Self(3);

    /// Bit of the supported capabilities: saveable.
    pub const SAVEABLE: u32 = 1 << 0;
    /// Bit of the supported capabilities: namespace specific.
    pub const NAMESPACE_SPECIFIC: u32 = 1 << 1;
    /// Bit of the supported capabilities: changeable.
    pub const CHANGEABLE: u32 = 1 << 2;
}

impl Sqe {
    /// The feature of Set Features and Get Features.
    pub fn feature_id(&self) -> FeatureId {
        FeatureId(self.cdw10.get() as u8)
    }

    /// Get Features: which value.
    pub fn feature_select(&self) -> FeatureSelect {
        FeatureSelect((self.cdw10.get() >> 8) as u8 & 0b111)
    }

    /// Set Features: Save, so that the value survives power cycles and resets.
    pub fn feature_save(&self) -> bool {
        self.cdw10.get() & 1 << 31 != 0
    }

    /// Set Features, without data pointer; `value` is dword 11.
    pub fn set_features(feature: FeatureId, nsid: u32, value: u32) -> Self {
        Self {
            opcode: AdminOpcode::SET_FEATURES.0,
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(feature.0)),
            cdw11: U32::new(value),
            ..Self::default()
        }
    }

    /// Get Features, without data pointer.
    pub fn get_features(feature: FeatureId, nsid: u32, select: FeatureSelect) -> Self {
        Self {
            opcode: AdminOpcode::GET_FEATURES.0,
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(feature.0) | u32::from(select.0 & 0b111) << 8),
            ..Self::default()
        }
    }

    /// Abort: the submission queue and the identifier of the command that is meant (Base 5.1.1).
    pub fn abort_of(&self) -> (u16, u16) {
        let cdw10 = self.cdw10.get();
        (cdw10 as u16, (cdw10 >> 16) as u16)
    }

    /// Abort of a command, by its submission queue and identifier.
    pub fn abort(sqid: u16, cid: u16) -> Self {
        Self {
            opcode: AdminOpcode::ABORT.0,
            cdw10: U32::new(u32::from(sqid) | u32::from(cid) << 16),
            ..Self::default()
        }
    }

    /// An admin command that is all opcode: Keep Alive, Asynchronous Event Request.
    pub fn admin(opcode: AdminOpcode) -> Self {
        Self { opcode: opcode.0, ..Self::default() }
    }
}

/// Bit of dword 0 of an Abort completion: the command was not aborted.
pub const NOT_ABORTED: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_page_longer_than_64_ki_dwords_uses_both_halves() {
        let get = GetLogPage {
            lid: LogPageId::DISCOVERY,
            lsp: 0x7f,
            retain_event: true,
            length_bytes: 0x4_0004 * 4,
            lsi: 7,
            offset: 0x1_0000_0004,
            offset_is_index: true,
            csi: CommandSet::ZNS,
            nsid: 5,
        };
        let sqe = get.sqe();
        assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0x0003_ff70, 0x0007_0004));
        assert_eq!((sqe.cdw12.get(), sqe.cdw13.get(), sqe.cdw14.get()), (4, 1, 0x0280_0000));
        assert_eq!(GetLogPage::of(&sqe), get);
    }

    #[test]
    fn a_format_keeps_its_fields_apart() {
        let format = FormatNvm {
            lbaf: 0x31,
            extended: true,
            protection: 5,
            protection_first: true,
            secure_erase: 2,
            nsid: 4,
        };
        assert_eq!(format.sqe().cdw10.get(), 0x35b1);
        assert_eq!(FormatNvm::of(&format.sqe()), format);
    }

    #[test]
    fn identify_features_and_abort_round_trip() {
        let identify =
            Identify { cns: Cns::CONTROLLER_LIST, cntid: 3, cnssid: 4, csi: CommandSet::KEY_VALUE, nsid: 9 };
        assert_eq!(Identify::of(&identify.sqe()), identify);
        let sqe = Sqe::get_features(FeatureId::KEEP_ALIVE_TIMER, 0, FeatureSelect::SUPPORTED_CAPABILITIES);
        assert_eq!((sqe.feature_id(), sqe.feature_select().0), (FeatureId::KEEP_ALIVE_TIMER, 3));
        assert!(!sqe.feature_save());
        assert_eq!(Sqe::abort(1, 0x8001).abort_of(), (1, 0x8001));
    }
}
