//! The device server as a host meets it: commands on a bench, answers checked byte by byte.

mod attention;
mod cache;
mod inquiry;
mod medium;
mod mode;
mod provisioning;
mod reservation;
mod sanitize;
mod sweep;

use crate::fuzzing::{Bench, info};
use crate::response::DataIn;
use crate::{Response, Status};

/// A bench over 1 MiB with blocks of 512 bytes.
fn bench() -> Bench {
    Bench::new(info(512, 2048))
}

fn data(response: &Response) -> Vec<u8> {
    assert_eq!(response.status, Status::Good, "sense {:02x?}", response.sense);
    match &response.data_in {
        DataIn::None => Vec::new(),
        DataIn::Sgl(sgl) => sgl.to_vec(),
        DataIn::Bytes(bytes) => bytes.clone(),
    }
}

fn good(response: &Response) {
    assert_eq!(response.status, Status::Good, "sense {:02x?}", response.sense);
}

/// Sense key, additional sense code and qualifier of fixed-format sense.
#[track_caller]
fn sense(response: &Response, key: u8, asc: u8, ascq: u8) {
    assert_eq!(response.status, Status::CheckCondition);
    let sense = &response.sense;
    assert_eq!((sense[0] & 0x7f, sense[2], sense[12], sense[13]), (0x70, key, asc, ascq), "{sense:02x?}");
}

const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0);
const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);

#[track_caller]
fn refused(response: &Response, (key, asc, ascq): (u8, u8, u8)) {
    sense(response, key, asc, ascq);
}

fn write_10(lba: u32, blocks: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [0x2a, 0, a, b, c, d, 0, e, f, 0]
}

fn read_10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = write_10(lba, blocks);
    cdb[0] = 0x28;
    cdb
}

/// A 16-byte CDB with a 64-bit LBA and a 32-bit number of blocks.
fn long(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
