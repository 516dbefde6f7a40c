//! Vital product data pages (SPC-4 section 7.8, SBC-4 section 6.6).

use crate::command::NexusName;
use crate::inquiry::ascii;
use crate::limits::{
    COMPARE_AND_WRITE_BLOCKS_MAX, TRANSFER_BYTES_OPTIMAL, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX,
    WRITE_SAME_BLOCKS_MAX,
};
use crate::nexus::target_port_name;
use crate::unit::LogicalUnit;

const SUPPORTED_PAGES: u8 = 0x00;
const UNIT_SERIAL_NUMBER: u8 = 0x80;
const DEVICE_IDENTIFICATION: u8 = 0x83;
const EXTENDED_INQUIRY: u8 = 0x86;
const BLOCK_LIMITS: u8 = 0xb0;
const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// In ascending order, as the page itself demands.
const PAGES: [u8; 7] = [
    SUPPORTED_PAGES,
    UNIT_SERIAL_NUMBER,
    DEVICE_IDENTIFICATION,
    EXTENDED_INQUIRY,
    BLOCK_LIMITS,
    BLOCK_DEVICE_CHARACTERISTICS,
    LOGICAL_BLOCK_PROVISIONING,
];

/// The whole page with its header, or `None` for one that is not supported.
pub(crate) fn page(unit: &LogicalUnit, name: &NexusName, page: u8) -> Option<Vec<u8>> {
    let body = match page {
        SUPPORTED_PAGES => PAGES.to_vec(),
        UNIT_SERIAL_NUMBER => serial(unit),
        DEVICE_IDENTIFICATION => device_identification(unit, name),
        EXTENDED_INQUIRY => extended_inquiry(unit),
        BLOCK_LIMITS => block_limits(unit),
        BLOCK_DEVICE_CHARACTERISTICS => block_device_characteristics(unit),
        LOGICAL_BLOCK_PROVISIONING => logical_block_provisioning(unit),
        _ => return None,
    };
    let mut data = vec![0, page];
    data.extend_from_slice(&(body.len() as u16).to_be_bytes());
    data.extend_from_slice(&body);
    Some(data)
}

fn serial(unit: &LogicalUnit) -> Vec<u8> {
    // Long enough for a UUID with its hyphens; hosts have small buffers for it.
    unit.config.serial.bytes().filter(|byte| (0x20..=0x7e).contains(byte)).take(64).collect()
}

/// What a designator is about.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Association {
    LogicalUnit = 0x00,
    TargetPort = 0x10,
}

/// How its bytes are to be read.
#[derive(Clone, Copy)]
#[repr(u8)]
enum CodeSet {
    Binary = 1,
    Ascii = 2,
    Utf8 = 3,
}

fn designator(out: &mut Vec<u8>, code_set: CodeSet, association: Association, kind: u8, bytes: &[u8]) {
    let (protocol, piv) = match association {
        Association::LogicalUnit => (0, 0),
        // PIV, and iSCSI as the protocol.
        Association::TargetPort => (0x50, 0x80),
    };
    let length = u8::try_from(bytes.len()).expect("designators are shorter than 256 bytes");
    out.extend_from_slice(&[protocol | code_set as u8, piv | association as u8 | kind, 0, length]);
    out.extend_from_slice(bytes);
}

fn device_identification(unit: &LogicalUnit, name: &NexusName) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // NAA 3 (locally assigned): 60 bits of the volume's UUID, the same on every path, for ever.
    let (high, low) = unit.info.uuid.as_u64_pair();
    let naa = 0x3 << 60 | (high ^ low.rotate_left(23)) >> 4;
    designator(&mut out, CodeSet::Binary, Association::LogicalUnit, 3, &naa.to_be_bytes());
    // T10 vendor identification: the vendor and something of its own, here the whole UUID.
    let mut t10 = ascii::<8>(&unit.config.vendor).to_vec();
    t10.extend_from_slice(unit.info.uuid.hyphenated().to_string().as_bytes());
    designator(&mut out, CodeSet::Ascii, Association::LogicalUnit, 1, &t10);
    let port = name.relative_target_port_id;
    let [high, low] = port.to_be_bytes();
    designator(&mut out, CodeSet::Binary, Association::TargetPort, 4, &[0, 0, high, low]);
    let [high, low] = unit.port_group(port).to_be_bytes();
    designator(&mut out, CodeSet::Binary, Association::TargetPort, 5, &[0, 0, high, low]);
    // SCSI name string, closed by NUL and padded to four bytes.
    let mut port_name = target_port_name(name).into_bytes();
    port_name.truncate(251);
    port_name.push(0);
    port_name.resize(port_name.len().next_multiple_of(4), 0);
    designator(&mut out, CodeSet::Utf8, Association::TargetPort, 8, &port_name);
    out
}

fn extended_inquiry(unit: &LogicalUnit) -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x07; // HEADSUP, ORDSUP, SIMPSUP
    body[2] = u8::from(unit.mode.cache_is_volatile()); // V_SUP
    body[3] = 0x01; // LUICLR
    body[9] = 0x00; // self-test is not supported
    body
}

/// A number of blocks for a field of 32 bits.
fn field(blocks: u64) -> [u8; 4] {
    u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes()
}

fn block_limits(unit: &LogicalUnit) -> Vec<u8> {
    let info = &unit.info;
    // Offsets are the page's own (SBC-4 table 255), whose header is four bytes long.
    let mut page = vec![0; 64];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(5, &[COMPARE_AND_WRITE_BLOCKS_MAX]);
    let physical_blocks = info.physical_block_bytes / info.logical_block_bytes;
    put(6, &u16::try_from(physical_blocks).unwrap_or(0).to_be_bytes());
    put(8, &field(unit.transfer_blocks_max()));
    put(12, &field(TRANSFER_BYTES_OPTIMAL >> unit.block_shift));
    if info.thin {
        put(20, &field(UNMAP_BLOCKS_MAX));
        put(24, &UNMAP_DESCRIPTORS_MAX.to_be_bytes());
        put(28, &info.unmap_granularity_blocks.to_be_bytes());
        // UGAVALID: granules start at block 0.
        put(32, &0x8000_0000_u32.to_be_bytes());
    }
    put(36, &WRITE_SAME_BLOCKS_MAX.to_be_bytes());
    put(44, &field(unit.atomic_blocks_max()));
    page.split_off(4)
}

fn block_device_characteristics(unit: &LogicalUnit) -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x01; // medium rotation rate: does not rotate
    if unit.info.thin {
        body[3] = 0x40; // WABEREQ = 1: after SANITIZE BLOCK ERASE every block can be read
    }
    body[4] = 0x02; // VBULS: VERIFY with BYTCHK 0 reports unmapped blocks as readable zeros
    body
}

fn logical_block_provisioning(unit: &LogicalUnit) -> Vec<u8> {
    if !unit.info.thin {
        return vec![0; 4];
    }
    // LBPU, LBPWS, LBPWS10, LBPRZ = 1 (unmapped blocks read zeros); thin provisioned.
    vec![0, 0xe4, 0x02, 0]
}
