//! Mode parameters (SPC-4 section 7.5, SBC-4 section 6.5): what they are and MODE SENSE.

use volume::bdev::BdevInfo;

use crate::cdb::{Cdb, opcode};
use crate::sense::{Sense, SenseKey};
use crate::start::{Outcome, bytes};
use crate::unit::{LogicalUnit, WriteCachePolicy};

/// What the changeable bits of the mode pages say, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP: the medium may not be written.
    pub software_write_protect: bool,
    /// WCE: acknowledged writes may be in a volatile cache.
    pub write_cache_enabled: bool,
    /// WCE can be changed: there is a volatile cache and the operator allows it.
    pub write_cache_changeable: bool,
    /// Every write goes to the medium before it is answered, because the device has a volatile cache
    /// that is off, or is being turned off.
    pub write_through: bool,
    /// How many writes have been acknowledged out of the cache.
    pub cached_writes: u64,
}

impl Mode {
    pub fn new(info: &BdevInfo, policy: WriteCachePolicy) -> Self {
        let on = info.volatile_write_cache && policy == WriteCachePolicy::Device;
        Self {
            descriptor_sense: false,
            software_write_protect: false,
            write_cache_enabled: on,
            write_cache_changeable: on,
            write_through: info.volatile_write_cache && !on,
            cached_writes: 0,
        }
    }

    /// Acknowledged writes may be lost with the power until SYNCHRONIZE CACHE.
    pub fn cache_is_volatile(&self) -> bool {
        self.write_cache_enabled
    }

    /// Takes over the changeable bits.
    pub fn change(&mut self, new: Changeable) {
        self.descriptor_sense = new.descriptor_sense;
        self.software_write_protect = new.software_write_protect;
        if self.write_cache_changeable {
            self.write_cache_enabled = new.write_cache_enabled;
            self.write_through = !new.write_cache_enabled;
        }
    }

    pub fn changeable(&self) -> Changeable {
        Changeable {
            descriptor_sense: self.descriptor_sense,
            software_write_protect: self.software_write_protect,
            write_cache_enabled: self.write_cache_enabled,
        }
    }
}

/// The bits that MODE SELECT may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changeable {
    pub descriptor_sense: bool,
    pub software_write_protect: bool,
    pub write_cache_enabled: bool,
}

impl Changeable {
    /// These bits where they differ from `before`, else those of `current`.
    pub fn over(self, before: Self, current: Self) -> Self {
        let pick = |new: bool, before: bool, current: bool| if new == before { current } else { new };
        Self {
            descriptor_sense: pick(self.descriptor_sense, before.descriptor_sense, current.descriptor_sense),
            software_write_protect: pick(
                self.software_write_protect,
                before.software_write_protect,
                current.software_write_protect,
            ),
            write_cache_enabled: pick(
                self.write_cache_enabled,
                before.write_cache_enabled,
                current.write_cache_enabled,
            ),
        }
    }
}

/// Page control (SPC-4 table 353).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageControl {
    Current,
    Changeable,
    Default,
}

/// A mode page that there is: page code and subpage code.
pub(crate) type PageId = (u8, u8);

pub(crate) const READ_WRITE_ERROR_RECOVERY: PageId = (0x01, 0x00);
pub(crate) const CACHING: PageId = (0x08, 0x00);
pub(crate) const CONTROL: PageId = (0x0a, 0x00);
pub(crate) const CONTROL_EXTENSION: PageId = (0x0a, 0x01);
pub(crate) const INFORMATIONAL_EXCEPTIONS: PageId = (0x1c, 0x00);

/// In the order in which "all pages" returns them.
const PAGES: [PageId; 5] =
    [READ_WRITE_ERROR_RECOVERY, CACHING, CONTROL, CONTROL_EXTENSION, INFORMATIONAL_EXCEPTIONS];

const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// 39/00 saving parameters not supported.
const SAVING_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x39, 0x00);

impl LogicalUnit {
    /// A whole page with its header.
    pub(crate) fn mode_page(&self, page: PageId, control: PageControl) -> Vec<u8> {
        let mode = match control {
            PageControl::Current => self.mode,
            PageControl::Default => Mode::new(&self.info, self.config.write_cache),
            // A mask with ones where a bit can be changed.
            PageControl::Changeable => Mode {
                descriptor_sense: true,
                software_write_protect: true,
                write_cache_enabled: self.mode.write_cache_changeable,
                ..self.mode
            },
        };
        let values = control != PageControl::Changeable;
        let mut data = match page {
            READ_WRITE_ERROR_RECOVERY => header_0(0x01, 10),
            CACHING => caching(mode),
            CONTROL => control_page(mode, values),
            CONTROL_EXTENSION => control_extension(),
            INFORMATIONAL_EXCEPTIONS => header_0(0x1c, 10),
            _ => unreachable!("only pages of the table are built"),
        };
        if page == READ_WRITE_ERROR_RECOVERY && values {
            data[2] = 0xc0; // AWRE, ARRE: bad blocks are the device's own business
        }
        data
    }

    /// MODE SENSE(6) and (10) (SPC-4 sections 6.14 and 6.15).
    pub(crate) fn mode_sense(&self, cdb: &Cdb) -> Outcome {
        let long = cdb.opcode() == opcode::MODE_SENSE_10;
        let allocation_length = if long { cdb.u16(7) } else { u16::from(cdb.u8(4)) };
        let control = match cdb.u8(2) >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => return Err(SAVING_NOT_SUPPORTED.into()),
        };
        let (page, subpage) = (cdb.u8(2) & 0x3f, cdb.u8(3));
        let wanted = |&(code, sub): &PageId| {
            (page == ALL_PAGES || page == code) && (subpage == ALL_SUBPAGES || subpage == sub)
        };
        let pages: Vec<PageId> = PAGES.into_iter().filter(wanted).collect();
        if pages.is_empty() || (page == ALL_PAGES && !matches!(subpage, 0 | ALL_SUBPAGES)) {
            let byte = if PAGES.iter().any(|known| known.0 == page) { 3 } else { 2 };
            return Err(Sense::cdb_byte(byte).into());
        }
        let long_lba = long && cdb.bit(1, 4);
        let descriptor = if cdb.bit(1, 3) { Vec::new() } else { self.block_descriptor(long_lba) };
        let mut data = self.mode_header(long, long_lba, descriptor.len());
        data.extend_from_slice(&descriptor);
        for page in pages {
            data.extend_from_slice(&self.mode_page(page, control));
        }
        if long {
            let length = (data.len() - 2) as u16;
            data[..2].copy_from_slice(&length.to_be_bytes());
        } else {
            data[0] = u8::try_from(data.len() - 1).expect("all pages together are shorter than 256 bytes");
        }
        bytes(data, allocation_length)
    }

    fn mode_header(&self, long: bool, long_lba: bool, descriptor_bytes: usize) -> Vec<u8> {
        // WP, and DPOFUA: the bits of READ and WRITE are understood.
        let device_specific = u8::from(self.mode.software_write_protect) << 7 | 0x10;
        let descriptor_bytes = descriptor_bytes as u8;
        if long {
            vec![0, 0, 0, device_specific, u8::from(long_lba), 0, 0, descriptor_bytes]
        } else {
            vec![0, 0, device_specific, descriptor_bytes]
        }
    }

    /// The block descriptor, short or long (SBC-4 section 6.5.2).
    pub(crate) fn block_descriptor(&self, long_lba: bool) -> Vec<u8> {
        let blocks = self.info.length_blocks;
        let block_bytes = self.info.logical_block_bytes.to_be_bytes();
        if long_lba {
            let mut descriptor = blocks.to_be_bytes().to_vec();
            descriptor.extend_from_slice(&[0; 4]);
            descriptor.extend_from_slice(&block_bytes);
            return descriptor;
        }
        let mut descriptor = u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        descriptor.extend_from_slice(&block_bytes);
        // The short one has 24 bits for the length of a block; its top byte is reserved.
        descriptor
    }
}

/// A page of format 0 with its header, else zeros.
fn header_0(code: u8, length: u8) -> Vec<u8> {
    let mut page = vec![0; 2 + usize::from(length)];
    page[0] = code;
    page[1] = length;
    page
}

fn caching(mode: Mode) -> Vec<u8> {
    let mut page = header_0(0x08, 18);
    page[2] = u8::from(mode.write_cache_enabled) << 2;
    page
}

fn control_page(mode: Mode, values: bool) -> Vec<u8> {
    let mut page = header_0(0x0a, 10);
    page[2] = u8::from(mode.descriptor_sense) << 2;
    page[4] = u8::from(mode.software_write_protect) << 3;
    if values {
        page[2] |= 0x02; // GLTSD: no log parameters are saved
        page[3] = 0x10; // QUEUE ALGORITHM MODIFIER: simple tasks may be reordered
        page[8..10].copy_from_slice(&[0xff, 0xff]); // BUSY TIMEOUT PERIOD: unlimited
    }
    page
}

fn control_extension() -> Vec<u8> {
    let mut page = vec![0; 32];
    page[..4].copy_from_slice(&[0x4a, 0x01, 0, 28]);
    page
}
