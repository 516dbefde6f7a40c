//! A namespace as the subject of `volume::conformance`.

use std::cell::RefCell;
use std::rc::Rc;

use harness::failure::{Failure, Outcome};
use harness::report::say;
use reactor::buffer::Sgl;
use volume::bdev::{Extent, Op};
use volume::conformance::{self, Subject};
use volume::nvme::NvmeChannel;
use volume::volume::Volume;

use crate::rig::Rig;

/// Runs the whole list with blocks of `block_bytes`, which the namespace has.
pub fn run(rig: &Rc<RefCell<Rig>>, nsid: u32, block_bytes: u32) -> Outcome {
    let namespace = rig.borrow().namespace(nsid)?;
    let mut runs = 0;
    let mut failure = None;
    let pool = rig.borrow().pool().clone();
    conformance::run_with_pool(block_bytes, &pool, &mut |geometry| {
        runs += 1;
        let mut this = rig.borrow_mut();
        let channel = NvmeChannel::with_geometry(this.core(), namespace.clone(), geometry);
        let mut channel = channel.expect("the namespace is as long as the list needs");
        // What the run before has left.
        let whole = Extent { lba: 0, length_blocks: geometry.length_blocks };
        let zeros = Op::WriteZeroes { extent: whole, unmap: true, fua: false };
        if let Err(error) = this.run_well(&mut channel, zeros, Sgl::empty()) {
            failure.get_or_insert(error);
        }
        let volume = Volume::new(Box::new(channel), this.pool()).expect("the pool has the reserve");
        let rig = Rc::clone(rig);
        Subject { channel: Box::new(volume), turn: Box::new(move || rig.borrow_mut().turn()) }
    });
    say(&format!("{runs} behaviours with blocks of {block_bytes} bytes"));
    failure.map_or(Ok(()), |error: Failure| Err(error.within("zeroing the namespace")))
}
