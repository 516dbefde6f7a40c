//! The properties of a controller: what a host reads, and what its writes set going (NVMe base, section 3.1.4).

use nvme_spec::Status;
use nvme_spec::fabrics::{PROPERTY_4_BYTES, PROPERTY_8_BYTES};
use nvme_spec::register::{
    CAP, CC, CRTO, CSS_IO_COMMAND_SETS, CSS_NVM, CSTS, Capabilities, Configuration, ControllerStatus, NSSR,
    ReadyTimeouts, SHN_NONE, SHST_COMPLETE, SHST_NONE, SHST_OCCURRING, VS, Version,
};

/// The version that the controller follows.
pub(crate) const VERSION: Version = Version::V2_1;

/// How long CSTS.RDY may take to follow CC.EN: the commands of a reset controller end first.
const READY_TIMEOUT_500MS: u32 = 60;

/// What a write to a property sets going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// CC.EN went from 1 to 0: commands end, then [`Registers::reset_done`].
    Reset,
    /// A shutdown was asked for: commands end, then [`Registers::shutdown_done`].
    Shutdown,
}

/// The properties of one controller.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    capabilities: Capabilities,
    configuration: Configuration,
    status: ControllerStatus,
    discovery: bool,
}

impl Registers {
    pub fn new(queue_entries_max: u16, discovery: bool) -> Self {
        let capabilities = Capabilities::default()
            .with_mqes(u64::from(queue_entries_max) - 1)
            .with_cqr(1)
            .with_timeout_500ms(u64::from(READY_TIMEOUT_500MS))
            .with_css(CSS_NVM | if discovery { 0 } else { CSS_IO_COMMAND_SETS })
            .with_crms(1);
        Self {
            capabilities,
            configuration: Configuration::default(),
            status: ControllerStatus::default(),
            discovery,
        }
    }

    /// Commands other than Fabrics ones are taken.
    pub fn is_enabled(&self) -> bool {
        self.configuration.en() == 1
    }

    /// Property Get.
    pub fn get(&self, attrib: u8, offset: u32) -> Result<u64, Status> {
        let size = attrib & 0b111;
        let value = match offset {
            CAP if size == PROPERTY_8_BYTES => self.capabilities.0,
            VS if size == PROPERTY_4_BYTES => u64::from(VERSION.0),
            CC if size == PROPERTY_4_BYTES => u64::from(self.configuration.0),
            CSTS if size == PROPERTY_4_BYTES => u64::from(self.status.0),
            NSSR if size == PROPERTY_4_BYTES => 0,
            CRTO if size == PROPERTY_4_BYTES => {
                u64::from(ReadyTimeouts::default().with_crwmt_500ms(READY_TIMEOUT_500MS).0)
            }
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        Ok(value)
    }

    /// Property Set. Only CC can be written.
    pub fn set(&mut self, attrib: u8, offset: u32, value: u64) -> Result<Effect, Status> {
        if offset != CC || attrib & 0b111 != PROPERTY_4_BYTES {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let old = self.configuration;
        // The upper half is reserved for a property of four bytes.
        let new = Configuration(value as u32);
        self.configuration = new;
        if new.en() == 0 && old.en() == 1 {
            return Ok(Effect::Reset);
        }
        if new.en() == 1 && old.en() == 0 {
            self.enable();
        }
        if new.shn() != SHN_NONE && old.shn() == SHN_NONE {
            self.status = self.status.with_shst(SHST_OCCURRING);
            return Ok(Effect::Shutdown);
        }
        if new.shn() == SHN_NONE && old.shn() != SHN_NONE {
            self.status = self.status.with_shst(SHST_NONE);
        }
        Ok(Effect::None)
    }

    /// What the host has chosen must be what there is; else the controller says so by CSTS.CFS.
    fn enable(&mut self) {
        let chosen = self.configuration;
        let sizes_fit = self.discovery || (chosen.iosqes() == 6 && chosen.iocqes() == 4);
        let set_fits = chosen.css() == 0 || (chosen.css() == 6 && !self.discovery);
        let fits = sizes_fit && set_fits && chosen.mps() == 0 && chosen.ams() == 0;
        self.status = ControllerStatus::default().with_rdy(u32::from(fits)).with_cfs(u32::from(!fits));
    }

    /// The last command of a controller that was reset has ended.
    pub fn reset_done(&mut self) {
        self.status = ControllerStatus::default();
        if self.configuration.en() == 1 {
            // It was enabled again meanwhile.
            self.enable();
        }
    }

    /// The last command of a controller that shuts down has ended.
    pub fn shutdown_done(&mut self) {
        if self.status.shst() == SHST_OCCURRING {
            self.status = self.status.with_shst(SHST_COMPLETE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: u64 = 1 | 6 << 16 | 4 << 20;

    fn ready(registers: &Registers) -> u64 {
        registers.get(PROPERTY_4_BYTES, CSTS).unwrap()
    }

    #[test]
    fn a_controller_is_enabled_reset_and_shut_down() {
        let mut registers = Registers::new(1024, false);
        assert_eq!(ready(&registers), 0);
        assert_eq!(registers.set(0, CC, GOOD), Ok(Effect::None));
        assert!(registers.is_enabled());
        assert_eq!(ready(&registers), 1);
        assert_eq!(registers.set(0, CC, GOOD | 1 << 14), Ok(Effect::Shutdown));
        assert_eq!(ready(&registers), 1 | u64::from(SHST_OCCURRING) << 2);
        registers.shutdown_done();
        assert_eq!(ready(&registers), 1 | u64::from(SHST_COMPLETE) << 2);
        assert_eq!(registers.set(0, CC, 0), Ok(Effect::Reset));
        assert!(!registers.is_enabled());
        // Ready until the last command has ended.
        assert_eq!(ready(&registers) & 1, 1);
        registers.reset_done();
        assert_eq!(ready(&registers), 0);
    }

    #[test]
    fn a_choice_that_there_is_not_is_fatal() {
        for wrong in [GOOD | 1 << 7, GOOD | 1 << 11, GOOD | 1 << 4, 1 | 7 << 16 | 4 << 20, 1] {
            let mut registers = Registers::new(1024, false);
            assert_eq!(registers.set(0, CC, wrong), Ok(Effect::None));
            assert_eq!(ready(&registers), 2, "{wrong:x}");
        }
        let mut discovery = Registers::new(128, true);
        discovery.set(0, CC, 1).unwrap();
        assert_eq!(ready(&discovery), 1);
        let mut all_sets = Registers::new(1024, false);
        all_sets.set(0, CC, GOOD | 6 << 4).unwrap();
        assert_eq!(ready(&all_sets), 1);
    }

    /// Reliability list, scenario 100.
    #[test]
    fn properties_that_are_not_there_are_refused() {
        let mut registers = Registers::new(1024, false);
        let invalid = Status::INVALID_FIELD.with_dnr();
        for (attrib, offset) in
            [(0, CAP), (1, VS), (1, CC), (0, 0x04), (0, 0x24), (1, 0x28), (0, u32::MAX), (7, CC)]
        {
            assert_eq!(registers.get(attrib, offset), Err(invalid), "get {offset:x}");
        }
        for (attrib, offset) in [(1, CAP), (0, VS), (1, CC), (0, CSTS), (0, NSSR), (0, u32::MAX)] {
            assert_eq!(registers.set(attrib, offset, 1), Err(invalid), "set {offset:x}");
        }
        let capabilities = Capabilities(registers.get(PROPERTY_8_BYTES, CAP).unwrap());
        assert_eq!((capabilities.mqes(), capabilities.cqr(), capabilities.mpsmin()), (1023, 1, 0));
    }
}
