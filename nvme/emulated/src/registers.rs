//! The register file: capabilities, enabling, readiness, shutdown, fatal status (Base 3.1.4, 3.5, 3.6).

use std::time::Duration;

use nvme_spec::register::{
    ACQ, AQA, ASQ, AdminQueueAttributes, CAP, CC, CRTO, CSS_NVM, CSTS, Capabilities, Configuration,
    ControllerStatus, INTMC, INTMS, NSSR, NSSR_RESET, ReadyTimeouts, SHN_NONE, SHN_NORMAL, SHST_COMPLETE,
    SHST_NONE, SHST_OCCURRING, VS, Version,
};
use reactor::time::Time;

use crate::config::{ControllerConfig, Delays};

/// What clears a fatal status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FatalUntil {
    /// CC.EN = 0.
    ControllerReset,
    /// A function-level reset or one of the subsystem.
    FunctionReset,
    /// Nothing but power.
    PowerCycle,
}

/// Where the controller is between disabled and enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Disabled,
    Enabling(Time),
    Ready,
    Disabling(Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    None,
    Occurring { until: Time, normal: bool },
    Complete,
}

/// What a write of a register asks the rest of the controller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// CC.EN went to 0.
    ControllerReset,
    /// NSSR was written.
    SubsystemReset,
    /// Interrupts were unmasked.
    Unmasked,
    /// The host did what the standard forbids, and nothing was done.
    Refused,
}

/// What time has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elapsed {
    Nothing,
    /// CSTS.RDY has become 1: the admin queue begins to exist.
    Ready,
    /// A shutdown is complete; a normal one leaves nothing in the cache.
    ShutDown {
        normal: bool,
    },
    /// Something else.
    Other,
}

pub(crate) struct Registers {
    cap: Capabilities,
    cc: Configuration,
    aqa: AdminQueueAttributes,
    asq: u64,
    acq: u64,
    interrupt_mask: u32,
    phase: Phase,
    shutdown: Shutdown,
    fatal: Option<FatalUntil>,
    subsystem_reset_occurred: bool,
}

impl Registers {
    pub(crate) fn new(config: &ControllerConfig) -> Self {
        let cap = Capabilities::default()
            .with_mqes(u64::from(config.queue_entries_max - 1))
            .with_cqr(1)
            .with_timeout_500ms(u64::from(config.timeout_500ms))
            .with_dstrd(u64::from(config.doorbell_stride))
            .with_nssrs(u64::from(config.subsystem_reset))
            .with_css(CSS_NVM)
            .with_mpsmin(u64::from(config.page_size_min))
            .with_mpsmax(u64::from(config.page_size_max))
            .with_crms(1);
        Self {
            cap,
            cc: Configuration::default(),
            aqa: AdminQueueAttributes::default(),
            asq: 0,
            acq: 0,
            interrupt_mask: 0,
            phase: Phase::Disabled,
            shutdown: Shutdown::None,
            fatal: None,
            subsystem_reset_occurred: false,
        }
    }

    /// Commands are taken and completed.
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Ready && self.fatal.is_none() && self.shutdown == Shutdown::None
    }

    /// Bytes of a memory page, from CC.MPS.
    pub(crate) fn page_bytes(&self) -> u64 {
        4096 << self.cc.mps()
    }

    pub(crate) fn configuration(&self) -> Configuration {
        self.cc
    }

    /// Addresses and entries of the admin queue pair: submission, completion.
    pub(crate) fn admin_queues(&self) -> [(u64, u32); 2] {
        [(self.asq, self.aqa.asqs() + 1), (self.acq, self.aqa.acqs() + 1)]
    }

    pub(crate) fn interrupt_mask(&self) -> u32 {
        self.interrupt_mask
    }

    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal.is_some()
    }

    pub(crate) fn fail(&mut self, until: FatalUntil) {
        self.fatal = self.fatal.max(Some(until));
    }

    fn status(&self) -> ControllerStatus {
        let ready = matches!(self.phase, Phase::Ready | Phase::Disabling(_));
        let shutdown = match self.shutdown {
            Shutdown::None => SHST_NONE,
            Shutdown::Occurring { .. } => SHST_OCCURRING,
            Shutdown::Complete => SHST_COMPLETE,
        };
        ControllerStatus::default()
            .with_rdy(u32::from(ready))
            .with_cfs(u32::from(self.fatal.is_some()))
            .with_shst(shutdown)
            .with_nssro(u32::from(self.subsystem_reset_occurred))
    }

    /// A register of 32 bits below the doorbells; what is not there reads 0.
    pub(crate) fn read(&self, offset_bytes: u32) -> u32 {
        let half =
            |value: u64, low: u32| if offset_bytes == low { value as u32 } else { (value >> 32) as u32 };
        match offset_bytes {
            CAP | 0x04 => half(self.cap.0, CAP),
            VS => Version::V2_1.0,
            INTMS | INTMC => self.interrupt_mask,
            CC => self.cc.0,
            CSTS => self.status().0,
            AQA => self.aqa.0,
            ASQ | 0x2c => half(self.asq, ASQ),
            ACQ | 0x34 => half(self.acq, ACQ),
            CRTO => {
                let timeout = self.cap.timeout_500ms() as u32;
                ReadyTimeouts::default().with_crwmt_500ms(timeout).0
            }
            _ => 0,
        }
    }

    /// Writes a register of 32 bits below the doorbells.
    pub(crate) fn write(&mut self, offset_bytes: u32, value: u32, now: Time, delays: &Delays) -> Effect {
        // Addresses are of pages: the low 12 bits are reserved.
        let low = |old: u64| old & !0xffff_ffff | u64::from(value & 0xffff_f000);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset_bytes {
            INTMS => self.interrupt_mask |= value,
            INTMC => {
                self.interrupt_mask &= !value;
                return Effect::Unmasked;
            }
            CC => return self.write_configuration(Configuration(value), now, delays),
            CSTS => {
                let clear = ControllerStatus(value).nssro() == 1;
                self.subsystem_reset_occurred &= !clear;
            }
            NSSR if value == NSSR_RESET && self.cap.nssrs() == 1 => return Effect::SubsystemReset,
            NSSR => {}
            AQA | ASQ | 0x2c | ACQ | 0x34 if self.cc.en() == 1 => return Effect::Refused,
            AQA => self.aqa = AdminQueueAttributes(value & 0x0fff_0fff),
            ASQ => self.asq = low(self.asq),
            0x2c => self.asq = high(self.asq),
            ACQ => self.acq = low(self.acq),
            0x34 => self.acq = high(self.acq),
            _ => return Effect::Refused,
        }
        Effect::None
    }

    fn write_configuration(&mut self, new: Configuration, now: Time, delays: &Delays) -> Effect {
        match (self.cc.en(), new.en()) {
            (1, 0) => {
                let was_ready = matches!(self.phase, Phase::Ready | Phase::Enabling(_));
                let until = if was_ready { now.after(delays.disable) } else { now };
                self.reset(FatalUntil::ControllerReset);
                self.phase = Phase::Disabling(until);
                Effect::ControllerReset
            }
            (0, 1) => {
                if self.phase != Phase::Disabled {
                    // To enable a controller before CSTS.RDY is 0 is undefined; this one does not hear it.
                    return Effect::Refused;
                }
                self.cc = new.with_shn(SHN_NONE);
                self.shutdown = Shutdown::None;
                self.phase = Phase::Enabling(now.after(delays.enable));
                if !self.is_configuration_valid() {
                    self.fail(FatalUntil::ControllerReset);
                    self.phase = Phase::Enabling(Time::NEVER);
                }
                Effect::None
            }
            (was_enabled, _) => {
                let old = self.cc;
                self.cc = new;
                if was_enabled == 1 {
                    // What only a disabled controller can change stays.
                    self.cc = self.cc.with_css(old.css()).with_mps(old.mps()).with_ams(old.ams());
                }
                let notified = old.shn() == SHN_NONE && new.shn() != SHN_NONE;
                if notified && self.shutdown == Shutdown::None {
                    let normal = new.shn() == SHN_NORMAL;
                    self.shutdown = Shutdown::Occurring { until: now.after(delays.shutdown), normal };
                }
                Effect::None
            }
        }
    }

    fn is_configuration_valid(&self) -> bool {
        let mps = u64::from(self.cc.mps());
        let pages = (self.cap.mpsmin()..=self.cap.mpsmax()).contains(&mps);
        let queues = self.aqa.asqs() >= 1 && self.aqa.acqs() >= 1;
        let aligned = (self.asq | self.acq).is_multiple_of(4096 << mps);
        pages && queues && aligned && self.cc.css() == 0 && self.cc.ams() == 0
    }

    /// A Controller Level Reset: all but the admin queue's registers, and a fatal status that needs more than this.
    pub(crate) fn reset(&mut self, by: FatalUntil) {
        self.cc = Configuration::default();
        self.interrupt_mask = 0;
        self.shutdown = Shutdown::None;
        self.phase = Phase::Disabled;
        self.fatal = self.fatal.filter(|until| *until > by);
        if by >= FatalUntil::FunctionReset {
            (self.aqa, self.asq, self.acq) = (AdminQueueAttributes::default(), 0, 0);
        }
    }

    pub(crate) fn set_subsystem_reset_occurred(&mut self) {
        self.subsystem_reset_occurred = true;
    }

    /// Lets time do what is due.
    pub(crate) fn elapse(&mut self, now: Time) -> Elapsed {
        match self.phase {
            Phase::Enabling(due) if due <= now && due != Time::NEVER => {
                self.phase = Phase::Ready;
                return Elapsed::Ready;
            }
            Phase::Disabling(due) if due <= now && due != Time::NEVER => {
                self.phase = Phase::Disabled;
                return Elapsed::Other;
            }
            _ => {}
        }
        match self.shutdown {
            Shutdown::Occurring { until, normal } if until <= now && until != Time::NEVER => {
                self.shutdown = Shutdown::Complete;
                Elapsed::ShutDown { normal }
            }
            _ => Elapsed::Nothing,
        }
    }

    /// When [`Registers::elapse`] has something to do.
    pub(crate) fn deadline(&self) -> Time {
        let phase = match self.phase {
            Phase::Enabling(due) | Phase::Disabling(due) => due,
            Phase::Disabled | Phase::Ready => Time::NEVER,
        };
        match self.shutdown {
            Shutdown::Occurring { until, .. } => phase.min(until),
            _ => phase,
        }
    }

    /// The longest time that CAP.TO allows CSTS.RDY to take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.cap.timeout_500ms() * 500)
    }
}
