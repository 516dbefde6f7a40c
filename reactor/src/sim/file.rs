//! An open file of a simulated disk.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::{SimDisk, SimWorld};
use crate::file::{File, FileDone, FileOp, FileSystem};

/// The files of one simulated core.
#[derive(Clone, Debug)]
pub struct SimFiles {
    world: SimWorld,
}

impl SimFiles {
    pub(super) fn new(world: &SimWorld) -> Self {
        Self { world: world.clone() }
    }
}

impl FileSystem for SimFiles {
    /// Opens the disk that a [`SimDisk::descriptor`] stands for.
    fn adopt(&self, fd: OwnedFd) -> io::Result<Box<dyn File>> {
        let mut number = [0; 8];
        std::fs::File::from(fd).read_exact_at(&mut number, 0)?;
        let number = u64::from_le_bytes(number) as usize;
        if number >= self.world.inner.disks.borrow().len() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(SimDisk { world: self.world.clone(), number }.open()))
    }
}

/// One open file.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    /// Tells the files open on one disk apart.
    handle: u64,
    in_flight: usize,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk) -> Self {
        let handle = disk.with(super::disk::State::open);
        Self { disk, handle, in_flight: 0 }
    }

    fn take_done(&self, out: &mut Vec<FileDone>) -> usize {
        let before = out.len();
        let world = &self.disk.world;
        // Every disk moves on with the clock, polled or not.
        world.inner.disks.borrow_mut().iter_mut().for_each(|state| state.run(world));
        self.disk.with(|state| {
            let (mine, others) =
                std::mem::take(&mut state.done).into_iter().partition(|(handle, _)| *handle == self.handle);
            state.done = others;
            let mine: std::collections::VecDeque<_> = mine;
            out.extend(mine.into_iter().map(|(_, done)| done));
        });
        out.len() - before
    }
}

impl File for SimFile {
    fn submit(&mut self, tag: u64, op: FileOp) -> Result<(), FileOp> {
        let world = &self.disk.world;
        let (queue_depth, (min_us, max_us)) =
            self.disk.with(|state| (state.faults.queue_depth, state.faults.latency_us));
        if self.in_flight >= queue_depth {
            return Err(op);
        }
        let due = world.delay(min_us, max_us);
        self.disk.with(|state| state.begin(self.handle, due, tag, op));
        self.in_flight += 1;
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<FileDone>) {
        let world = self.disk.world.clone();
        let mut count = self.take_done(out);
        if count == 0 && self.in_flight > 0 && world.inner.auto_advance.get() {
            let next = self.disk.with(|state| state.next_due_of(self.handle));
            if next != crate::time::Time::NEVER {
                world.advance_to(next);
                count = self.take_done(out);
            }
        }
        self.in_flight -= count;
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // What is in flight goes on without us, as in the kernel; nobody collects it.
        self.disk.with(|state| state.close(self.handle));
    }
}
