//! What devices do wrong, one test for each row of what the driver must withstand.

mod ladder;
mod media;
mod outside;
mod queues;
#[path = "../rig/mod.rs"]
mod rig;

use nvme::IoOp;
use nvme_emulated::Format;

use rig::{Rig, device_config, quick};

fn rig() -> Rig {
    Rig::new(device_config(Format::Block512), quick())
}

fn write_one(rig: &mut Rig, lba: u64, salt: u8) -> (u64, Vec<u8>) {
    let data = rig.pattern(lba, 8, salt);
    let sgl = rig.list(&data);
    (rig.submit(IoOp::Write { fua: false }, lba, 8, sgl), data)
}
