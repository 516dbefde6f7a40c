//! Which commands there are: one table that dispatch, reservations and REPORT SUPPORTED OPERATION
//! CODES agree on.

use volume::bdev::BdevInfo;

use crate::cdb::{Cdb, opcode};

/// What a command does, as far as reservations and write protection care (SPC-4 table 66, SBC-4
/// table 13, SPC-2 table 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// INQUIRY, REPORT LUNS, REQUEST SENSE: always, and no unit attention is reported.
    Always,
    /// Reads nothing of the medium and changes nothing.
    Information,
    /// As `Information`, but a legacy reservation of another nexus forbids it.
    Own,
    /// Reads the medium.
    Read,
    /// Writes the medium.
    Write,
    /// Changes or reveals settings: forbidden like a write, allowed on a write-protected medium.
    Setting,
    /// PERSISTENT RESERVE OUT and RESERVE(6): they check reservations themselves.
    ReserveOut,
}

impl Class {
    pub fn reports_attention_itself(self) -> bool {
        self == Self::Always
    }
}

/// On which devices a command is supported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Thin,
    Atomic,
}

/// One command.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub opcode: u8,
    pub service_action: Option<u8>,
    pub class: Class,
    when: When,
    /// CDB usage data: a bit for each bit that is looked at (SPC-4 section 6.35.3).
    pub usage: &'static [u8],
}

const fn entry(class: Class, usage: &'static [u8]) -> Entry {
    Entry { opcode: usage[0], service_action: None, class, when: When::Always, usage }
}

const fn service(service_action: u8, class: Class, usage: &'static [u8]) -> Entry {
    Entry { service_action: Some(service_action), ..entry(class, usage) }
}

const fn when(when: When, entry: Entry) -> Entry {
    Entry { when, ..entry }
}

use Class::{Always, Information, Own, Read, ReserveOut, Setting, Write};

/// Control byte: only NACA is looked at.
const C: u8 = 0x04;
const F: u8 = 0xff;

/// Every command, in the order of operation code and service action.
#[rustfmt::skip]
pub(crate) const ENTRIES: &[Entry] = &[
    entry(Own, &[0x00, 0, 0, 0, 0, C]),
    entry(Always, &[0x03, 0x01, 0, 0, F, C]),
    entry(Read, &[0x08, 0x1f, F, F, F, C]),
    entry(Write, &[0x0a, 0x1f, F, F, F, C]),
    entry(Always, &[0x12, 0x01, F, F, F, C]),
    entry(Setting, &[0x15, 0x11, 0, 0, F, C]),
    entry(ReserveOut, &[0x16, 0x11, 0, 0, 0, C]),
    entry(Information, &[0x17, 0x11, 0, 0, 0, C]),
    entry(Setting, &[0x1a, 0x08, F, F, F, C]),
    entry(Information, &[0x1b, 0x01, 0, 0x0f, 0xf7, C]),
    entry(Information, &[0x1e, 0, 0, 0, 0x03, C]),
    entry(Information, &[0x25, 0, F, F, F, F, 0, 0, 0, C]),
    entry(Read, &[0x28, 0xf8, F, F, F, F, 0, F, F, C]),
    entry(Write, &[0x2a, 0xf8, F, F, F, F, 0, F, F, C]),
    entry(Write, &[0x2e, 0xf6, F, F, F, F, 0, F, F, C]),
    entry(Read, &[0x2f, 0xf6, F, F, F, F, 0, F, F, C]),
    entry(Read, &[0x34, 0x02, F, F, F, F, 0, F, F, C]),
    entry(Setting, &[0x35, 0x02, F, F, F, F, 0, F, F, C]),
    entry(Read, &[0x37, 0, 0x1f, 0, 0, 0, 0, F, F, C]),
    entry(Write, &[0x41, 0xf8, F, F, F, F, 0, F, F, C]),
    when(When::Thin, entry(Write, &[0x42, 0x01, 0, 0, 0, 0, 0, F, F, C])),
    service(0x01, Write, &[0x48, 0xbf, 0, 0, 0, 0, 0, F, F, C]),
    when(When::Thin, service(0x02, Write, &[0x48, 0xbf, 0, 0, 0, 0, 0, F, F, C])),
    service(0x1f, Write, &[0x48, 0xbf, 0, 0, 0, 0, 0, F, F, C]),
    entry(Information, &[0x4d, 0x01, F, F, 0, 0, 0, F, F, C]),
    entry(Setting, &[0x55, 0x11, 0, 0, 0, 0, 0, F, F, C]),
    entry(Setting, &[0x5a, 0x18, F, F, 0, 0, 0, F, F, C]),
    service(0, Own, &[0x5e, 0x1f, 0, 0, 0, 0, 0, F, F, C]),
    service(1, Own, &[0x5e, 0x1f, 0, 0, 0, 0, 0, F, F, C]),
    service(2, Own, &[0x5e, 0x1f, 0, 0, 0, 0, 0, F, F, C]),
    service(3, Own, &[0x5e, 0x1f, 0, 0, 0, 0, 0, F, F, C]),
    service(0, ReserveOut, &[0x5f, 0x1f, 0, 0, 0, F, F, F, F, C]),
    service(1, ReserveOut, &[0x5f, 0x1f, F, 0, 0, F, F, F, F, C]),
    service(2, ReserveOut, &[0x5f, 0x1f, F, 0, 0, F, F, F, F, C]),
    service(3, ReserveOut, &[0x5f, 0x1f, 0, 0, 0, F, F, F, F, C]),
    service(4, ReserveOut, &[0x5f, 0x1f, F, 0, 0, F, F, F, F, C]),
    service(5, ReserveOut, &[0x5f, 0x1f, F, 0, 0, F, F, F, F, C]),
    service(6, ReserveOut, &[0x5f, 0x1f, 0, 0, 0, F, F, F, F, C]),
    service(7, ReserveOut, &[0x5f, 0x1f, 0, 0, 0, F, F, F, F, C]),
    entry(Read, &[0x88, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0x89, 0xf8, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0, C]),
    entry(Write, &[0x8a, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0x8b, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0x8e, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Read, &[0x8f, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Read, &[0x90, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Setting, &[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0x93, 0xf9, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    when(When::Atomic, entry(Write, &[0x9c, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C])),
    service(0x10, Information, &[0x9e, 0x1f, F, F, F, F, F, F, F, F, F, F, F, F, 0x01, C]),
    service(0x12, Read, &[0x9e, 0x1f, F, F, F, F, F, F, F, F, F, F, F, F, 0, C]),
    entry(Always, &[0xa0, 0, F, 0, 0, 0, F, F, F, F, 0, C]),
    service(0x0a, Information, &[0xa3, 0xff, 0, 0, 0, 0, F, F, F, F, 0, C]),
    service(0x0c, Information, &[0xa3, 0x1f, 0x87, F, F, F, F, F, F, F, 0, C]),
    service(0x0d, Information, &[0xa3, 0x1f, 0x80, 0, 0, 0, F, F, F, F, 0, C]),
    entry(Read, &[0xa8, 0xf8, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0xaa, 0xf8, F, F, F, F, F, F, F, F, 0, C]),
    entry(Write, &[0xae, 0xf6, F, F, F, F, F, F, F, F, 0, C]),
    entry(Read, &[0xaf, 0xf6, F, F, F, F, F, F, F, F, 0, C]),
    entry(Read, &[0xb7, 0x1f, F, F, F, F, F, F, F, F, 0, C]),
];

/// First entry of each operation code; `NONE` where there is none.
const NONE: u8 = u8::MAX;
const FIRST: [u8; 256] = {
    let mut first = [NONE; 256];
    let mut index = ENTRIES.len();
    while index > 0 {
        index -= 1;
        first[ENTRIES[index].opcode as usize] = index as u8;
    }
    first
};

const _: () = assert!(ENTRIES.len() < NONE as usize);

impl Entry {
    pub fn is_supported(&self, info: &BdevInfo) -> bool {
        match self.when {
            When::Always => true,
            When::Thin => info.thin,
            When::Atomic => info.atomic_write_blocks > 1,
        }
    }
}

/// The entries of one operation code that the device supports.
pub(crate) fn entries_of(opcode: u8, info: &BdevInfo) -> impl Iterator<Item = &'static Entry> {
    let first = usize::from(FIRST[usize::from(opcode)]).min(ENTRIES.len());
    let same = ENTRIES[first..].iter().take_while(move |entry| entry.opcode == opcode);
    same.filter(|entry| entry.is_supported(info))
}

/// What kind of command this is, or `None` for an operation code that is not supported. An unknown
/// service action of a known code is of the kind of its first one: the command itself refuses it.
#[inline]
pub(crate) fn class_of(cdb: &Cdb, info: &BdevInfo) -> Option<Class> {
    let entry = ENTRIES.get(usize::from(FIRST[usize::from(cdb.opcode())]))?;
    if entry.when != When::Always && !entry.is_supported(info) {
        return None;
    }
    Some(match cdb.opcode() {
        opcode::SERVICE_ACTION_IN_16 if cdb.service_action() == 0x12 => Class::Read,
        // Stopping, and preventing removal, is a change; the rest of these two is harmless.
        opcode::START_STOP_UNIT if cdb.u8(4) & 0xf1 != 1 => Class::Setting,
        opcode::PREVENT_ALLOW if cdb.u8(4) & 0x03 != 0 => Class::Setting,
        _ => entry.class,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_their_usage_has_the_length_of_the_cdb() {
        for pair in ENTRIES.windows(2) {
            assert!((pair[0].opcode, pair[0].service_action) < (pair[1].opcode, pair[1].service_action));
        }
        for entry in ENTRIES {
            assert_eq!(entry.usage.len(), Cdb::new(entry.usage).length(), "{:#x}", entry.opcode);
            assert_eq!(entry.usage[0], entry.opcode);
        }
    }
}
