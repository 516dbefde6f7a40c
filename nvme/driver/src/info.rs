//! What Identify says, checked: nothing that a controller or a namespace claims is used before it has passed here.

use nvme_spec::feature::EventConfiguration;
use nvme_spec::identify::controller::{
    ControllerType, ONCS_COMPARE, ONCS_DATASET_MANAGEMENT, ONCS_VERIFY, ONCS_WRITE_ZEROES, VWC_PRESENT,
};
use nvme_spec::identify::{IdentifyController, IdentifyControllerNvm};
use nvme_spec::register::{CSS_IO_COMMAND_SETS, CSS_NVM, Capabilities, completion_doorbell};

use crate::error::{Change, Unsuitable};
use crate::limits::{ABORTS_MAX, EVENT_REQUESTS_MAX, PAGE_BYTES, TRANSFER_BYTES_MAX};

/// CAP, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Longest queue.
    pub(crate) entries_max: u16,
    /// CAP.DSTRD.
    pub(crate) doorbell_stride: u32,
    /// I/O queues whose doorbells the register space holds.
    pub(crate) queues_max: u16,
    /// CC.CSS to select.
    pub(crate) css: u32,
    /// CAP.TO.
    pub(crate) ready_timeout_ms: u64,
    /// CAP.NSSRS: CSTS.NSSRO means something.
    pub(crate) subsystem_reset: bool,
}

impl Abilities {
    /// Checks what CAP says of a controller with so many bytes of registers.
    pub(crate) fn new(cap: Capabilities, registers_bytes: u32) -> Result<Self, Unsuitable> {
        if cap.mpsmin() != 0 {
            return Err(Unsuitable::PageSize { bytes: 1 << (12 + cap.mpsmin()) });
        }
        let css = match cap.css() {
            // A controller may offer both; the plain NVM command set needs nothing else.
            css if css & CSS_NVM != 0 => 0,
            css if css & CSS_IO_COMMAND_SETS != 0 => 6,
            _ => return Err(Unsuitable::CommandSet),
        };
        if cap.mqes() == 0 {
            return Err(Unsuitable::QueueLength);
        }
        let doorbell_stride = cap.dstrd() as u32;
        let fits = |qid: &u16| completion_doorbell(*qid, doorbell_stride) + 4 <= registers_bytes;
        // The admin queue's must be there, and those of at least one I/O queue.
        let queues_max = (1..=u16::from(u8::MAX)).take_while(fits).last().ok_or(Unsuitable::Registers)?;
        Ok(Self {
            entries_max: u16::try_from(cap.mqes() + 1).unwrap_or(u16::MAX),
            doorbell_stride,
            queues_max,
            css,
            ready_timeout_ms: cap.timeout_500ms().max(1) * 500,
            subsystem_reset: cap.nssrs() == 1,
        })
    }
}

/// Who a controller is: what must be the same after a reset or a re-insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerIdentity {
    /// Serial Number.
    pub serial: String,
    /// Model Number.
    pub model: String,
}

/// A controller, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Who it is.
    pub identity: ControllerIdentity,
    /// Firmware revision; may change.
    pub firmware: String,
    /// Controller Identifier.
    pub cntlid: u16,
    /// Most bytes of one command's data.
    pub transfer_bytes_max: u64,
    /// Most bytes of one Write Zeroes, if it is limited.
    pub zero_bytes_max: Option<u64>,
    /// Most bytes of one Verify, if it is limited.
    pub verify_bytes_max: Option<u64>,
    /// Most blocks of one range of Dataset Management, if they are limited.
    pub dsm_blocks_max: Option<u64>,
    /// Takes SGLs on its I/O queues.
    pub sgl: bool,
    /// A volatile write cache is there.
    pub volatile_write_cache: bool,
    /// Compare is supported.
    pub compare: bool,
    /// Verify is supported.
    pub verify: bool,
    /// Write Zeroes is supported.
    pub write_zeroes: bool,
    /// Dataset Management is supported.
    pub dataset_management: bool,
    /// Doorbell Buffer Config is supported.
    pub doorbell_buffer: bool,
    /// AWUPF: blocks that are written all or nothing across a power failure.
    pub atomic_write_blocks: u32,
    /// Events that it can report.
    pub events: EventConfiguration,
    /// Asynchronous Event Requests that are kept with it.
    pub event_requests: u8,
    /// Aborts that are under way at once.
    pub aborts: u8,
    /// Entries of its error log page.
    pub error_entries: u16,
    /// RTD3 Entry Latency: how long a shutdown may take, in microseconds; 0 is not reported.
    pub shutdown_us: u32,
}

/// OACS: Doorbell Buffer Config.
const OACS_DOORBELL_BUFFER: u16 = 1 << 8;

/// A size in units of the smallest memory page, as a power of two; 0 is no limit.
fn limit_bytes(exponent: u8) -> Option<u64> {
    // What is beyond 2^31 pages is no limit.
    (1..32).contains(&exponent).then(|| (PAGE_BYTES as u64) << exponent)
}

impl ControllerInfo {
    /// Checks what Identify Controller said.
    pub(crate) fn new(identify: &IdentifyController) -> Result<Self, Unsuitable> {
        if ![ControllerType::IO, ControllerType::NOT_REPORTED].contains(&identify.cntrltype) {
            return Err(Unsuitable::ControllerType);
        }
        // The least that it needs in the low half, the most that it takes in the high one.
        let fits = |sizes: u8, exponent: u8| sizes & 0x0f <= exponent && sizes >> 4 >= exponent;
        if !fits(identify.sqes, 6) || !fits(identify.cqes, 4) {
            return Err(Unsuitable::EntrySize);
        }
        let oncs = identify.oncs.get();
        Ok(Self {
            identity: ControllerIdentity { serial: text(&identify.sn), model: text(&identify.mn) },
            firmware: text(&identify.fr),
            cntlid: identify.cntlid.get(),
            transfer_bytes_max: limit_bytes(identify.mdts).unwrap_or(u64::MAX).min(TRANSFER_BYTES_MAX),
            // Until the command set says otherwise, MDTS holds for Verify; Write Zeroes moves no data.
            zero_bytes_max: None,
            verify_bytes_max: limit_bytes(identify.mdts),
            dsm_blocks_max: None,
            // 01b without and 10b with dword granularity: buffers begin on pages and hold whole blocks.
            sgl: matches!(identify.sgls.get() & 0b11, 0b01 | 0b10),
            volatile_write_cache: identify.vwc & VWC_PRESENT != 0,
            compare: oncs & ONCS_COMPARE != 0,
            verify: oncs & ONCS_VERIFY != 0,
            write_zeroes: oncs & ONCS_WRITE_ZEROES != 0,
            dataset_management: oncs & ONCS_DATASET_MANAGEMENT != 0,
            doorbell_buffer: identify.oacs.get() & OACS_DOORBELL_BUFFER != 0,
            atomic_write_blocks: u32::from(identify.awupf.get().min(identify.awun.get())) + 1,
            events: EventConfiguration(identify.oaes.get()),
            event_requests: identify.aerl.saturating_add(1).min(EVENT_REQUESTS_MAX),
            aborts: identify.acl.saturating_add(1).min(ABORTS_MAX),
            error_entries: u16::from(identify.elpe) + 1,
            shutdown_us: identify.rtd3e.get(),
        })
    }

    /// Adds what the NVM command set says of itself.
    pub(crate) fn add_command_set(&mut self, identify: &IdentifyControllerNvm) {
        self.zero_bytes_max = limit_bytes(identify.wzsl);
        self.verify_bytes_max = limit_bytes(identify.vsl);
        let no_zero = |value: u64| (value > 0).then_some(value);
        let range = no_zero(identify.dmrsl_blocks.get().into());
        let whole = no_zero(identify.dmsl_blocks.get());
        self.dsm_blocks_max = range.into_iter().chain(whole).min();
    }

    /// What must not have changed since `before`, and has.
    pub(crate) fn change_since(&self, before: &Self) -> Option<Change> {
        if self.identity.serial != before.identity.serial {
            Some(Change::Serial)
        } else if self.identity.model != before.identity.model {
            Some(Change::Model)
        } else if self.transfer_bytes_max != before.transfer_bytes_max {
            Some(Change::TransferSize)
        } else if self.sgl != before.sgl {
            Some(Change::Capabilities)
        } else {
            None
        }
    }
}

/// A field of ASCII, without its padding.
pub(crate) fn text(field: &[u8]) -> String {
    let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    field.iter().map(printable).collect::<String>().trim_end_matches([' ', '?']).to_owned()
}

#[cfg(test)]
mod tests {
    use zerocopy::little_endian::U32;

    use super::*;

    fn cap() -> Capabilities {
        Capabilities::default().with_mqes(1023).with_css(CSS_NVM).with_timeout_500ms(2)
    }

    #[test]
    fn a_controller_that_cannot_be_driven_is_refused_by_reason() {
        let new = |cap| Abilities::new(cap, 0x4000);
        let abilities = new(cap()).expect("an ordinary controller");
        assert_eq!((abilities.entries_max, abilities.css, abilities.ready_timeout_ms), (1024, 0, 1000));
        assert_eq!(new(cap().with_mpsmin(1)), Err(Unsuitable::PageSize { bytes: 8192 }));
        assert_eq!(new(cap().with_css(1 << 7)), Err(Unsuitable::CommandSet));
        assert_eq!(new(cap().with_css(CSS_IO_COMMAND_SETS)).map(|abilities| abilities.css), Ok(6));
        assert_eq!(new(cap().with_mqes(0)), Err(Unsuitable::QueueLength));
        assert_eq!(new(cap().with_mqes(0xffff)).map(|abilities| abilities.entries_max), Ok(u16::MAX));
        assert_eq!(Abilities::new(cap(), 0x1008), Err(Unsuitable::Registers));
        assert_eq!(Abilities::new(cap(), 0x1010).map(|abilities| abilities.queues_max), Ok(1));
        let wide = Abilities::new(cap().with_dstrd(15), 0x4000);
        assert_eq!(wide, Err(Unsuitable::Registers));
    }

    fn identify() -> IdentifyController {
        IdentifyController { sqes: 0x66, cqes: 0x44, mdts: 3, ..IdentifyController::default() }
    }

    #[test]
    fn limits_are_those_of_the_controller_and_of_this_driver() {
        let info = ControllerInfo::new(&identify()).expect("an ordinary controller");
        assert_eq!((info.transfer_bytes_max, info.verify_bytes_max), (32 << 10, Some(32 << 10)));
        let unlimited = ControllerInfo::new(&IdentifyController { mdts: 0, ..identify() }).expect("ordinary");
        assert_eq!(unlimited.transfer_bytes_max, TRANSFER_BYTES_MAX);
        let absurd = ControllerInfo::new(&IdentifyController { mdts: 255, ..identify() }).expect("ordinary");
        assert_eq!(absurd.transfer_bytes_max, TRANSFER_BYTES_MAX);
        let mut info = info;
        let nvm = IdentifyControllerNvm {
            wzsl: 1,
            dmrsl_blocks: U32::new(100),
            ..IdentifyControllerNvm::default()
        };
        info.add_command_set(&nvm);
        assert_eq!(
            (info.zero_bytes_max, info.dsm_blocks_max, info.verify_bytes_max),
            (Some(8192), Some(100), None)
        );
    }

    #[test]
    fn other_entries_and_other_types_are_refused() {
        let refused = |identify| ControllerInfo::new(&identify).err();
        assert_eq!(refused(IdentifyController { sqes: 0x77, ..identify() }), Some(Unsuitable::EntrySize));
        assert_eq!(refused(IdentifyController { cqes: 0x33, ..identify() }), Some(Unsuitable::EntrySize));
        let cntrltype = ControllerType::ADMINISTRATIVE;
        assert_eq!(refused(IdentifyController { cntrltype, ..identify() }), Some(Unsuitable::ControllerType));
    }

    #[test]
    fn what_must_not_change_is_compared() {
        let before = ControllerInfo::new(&identify()).expect("an ordinary controller");
        assert_eq!(before.change_since(&before), None);
        let with = |change: fn(&mut IdentifyController)| {
            let mut identify = identify();
            change(&mut identify);
            ControllerInfo::new(&identify).expect("still ordinary").change_since(&before)
        };
        assert_eq!(with(|identify| identify.sn = *b"another serial      "), Some(Change::Serial));
        assert_eq!(with(|identify| identify.mn[0] = b'x'), Some(Change::Model));
        assert_eq!(with(|identify| identify.mdts = 2), Some(Change::TransferSize));
        assert_eq!(with(|identify| identify.sgls = U32::new(1)), Some(Change::Capabilities));
        assert_eq!(with(|identify| identify.fr = *b"2.0     "), None, "firmware may change");
    }
}
