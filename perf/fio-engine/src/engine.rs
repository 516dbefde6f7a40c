//! One job's way to a namespace: requests with fio's buffers in, completions with fio's cookies out.

use std::time::Duration;

use bench::driver::{Answer, Driver, Geometry, Kind, Maintenance, Payload, Request};
use reactor::clock::MonotonicClock;
use reactor::time::{Clock, Time};

/// Time to take leave of a target at a distance.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two looks at a controller that other jobs still use.
const CLOSE_PAUSE: Duration = Duration::from_millis(2);
/// Blocks that one command frees.
const TRIM_BLOCKS_MAX: u64 = 1 << 16;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fills fio's buffer.
    Read,
    /// Writes fio's buffer.
    Write,
    /// Makes durable what was acknowledged.
    Flush,
    /// Frees blocks.
    Trim,
}

/// How a request was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It will be completed.
    Queued,
    /// Not now.
    Busy,
    /// Never: it does not fit the namespace.
    Invalid,
}

/// fio's side: where the bytes of a request are, and who hears of its end. `T` stands for fio's buffer and cookie.
pub trait Mover<T> {
    /// Fills `run`, which is `offset_bytes` into the data of a write.
    fn fill(&mut self, owner: &T, offset_bytes: usize, run: &mut [u8]);

    /// Takes `run`, which is `offset_bytes` into the data of a read.
    fn drain(&mut self, owner: &T, offset_bytes: usize, run: &[u8]);

    /// A request is over.
    fn over(&mut self, owner: T, failed: bool);
}

/// An engine, whatever it drives.
pub trait Work<T> {
    /// Bytes of the namespace.
    fn size_bytes(&self) -> u64;

    /// Takes a request.
    fn queue(&mut self, operation: Operation, range: (u64, u32), owner: T, mover: &mut dyn Mover<T>)
    -> Taken;

    /// Sends what was queued.
    fn commit(&mut self);

    /// One turn.
    fn poll(&mut self, mover: &mut dyn Mover<T>);

    /// True when nothing more will be answered.
    fn is_broken(&self) -> bool;

    /// Takes leave, and waits for that a little.
    fn close(&mut self);
}

/// See the module's documentation.
pub struct Engine<D: Driver, T> {
    driver: D,
    geometry: Geometry,
    owners: Vec<Option<(T, Operation)>>,
    buffers: Vec<D::Data>,
    free: Vec<u32>,
    answers: Vec<Answer<D::Data>>,
    broken: bool,
}

impl<D: Maintenance, T> Engine<D, T> {
    /// Over a driver that takes requests.
    pub fn new(driver: D, geometry: Geometry, depth: u32) -> Self {
        let (mut owners, mut buffers) = (Vec::new(), Vec::new());
        owners.resize_with(depth as usize, || None);
        buffers.resize_with(depth as usize, D::Data::default);
        Self {
            driver,
            geometry,
            owners,
            buffers,
            free: (0..depth).collect(),
            answers: Vec::new(),
            broken: false,
        }
    }

    /// The buffer of a tag, as long as its request; what the tag had before is kept when it fits.
    fn buffer(&mut self, tag: u32, length_bytes: usize) -> Option<D::Data> {
        let kept = std::mem::take(&mut self.buffers[tag as usize]);
        if kept.length_bytes() == length_bytes {
            return Some(kept);
        }
        // First it goes back to where the new one comes from.
        drop(kept);
        self.driver.buffer(length_bytes)
    }

    /// False when there is no room now.
    fn submit_data(
        &mut self,
        now: Time,
        request: Request,
        owner: &T,
        length_bytes: usize,
        mover: &mut dyn Mover<T>,
    ) -> bool {
        let Some(mut data) = self.buffer(request.tag, length_bytes) else { return false };
        if request.kind == Kind::Write {
            let mut offset_bytes = 0;
            for run in data.runs_mut() {
                mover.fill(owner, offset_bytes, run);
                offset_bytes += run.len();
            }
        }
        let submitted = self.driver.submit(now, request, data);
        submitted.map_err(|data| self.buffers[request.tag as usize] = data).is_ok()
    }
}

impl<D: Maintenance, T> Work<T> for Engine<D, T> {
    fn size_bytes(&self) -> u64 {
        self.geometry.length_blocks * u64::from(self.geometry.logical_block_bytes)
    }

    fn queue(
        &mut self,
        operation: Operation,
        (offset, length): (u64, u32),
        owner: T,
        mover: &mut dyn Mover<T>,
    ) -> Taken {
        let block_bytes = u64::from(self.geometry.logical_block_bytes);
        let is_multiple = |bytes: u64| bytes.is_multiple_of(block_bytes);
        let is_whole = is_multiple(offset) && is_multiple(length.into()) && length > 0;
        if operation != Operation::Flush && !is_whole {
            return Taken::Invalid;
        }
        let Some(&tag) = self.free.last() else { return Taken::Busy };
        let (lba, length_blocks) = (offset / block_bytes, (u64::from(length) / block_bytes) as u32);
        let now = MonotonicClock.now();
        let submitted = match operation {
            Operation::Flush => self.driver.submit_flush(now, tag),
            Operation::Trim if u64::from(length_blocks) > TRIM_BLOCKS_MAX => return Taken::Invalid,
            Operation::Trim => self.driver.submit_deallocate(now, tag, lba, length_blocks),
            Operation::Read | Operation::Write => {
                let kind = if operation == Operation::Write { Kind::Write } else { Kind::Read };
                let request = Request { tag, kind, lba, length_blocks };
                self.submit_data(now, request, &owner, length as usize, mover)
            }
        };
        if !submitted {
            return if self.broken { Taken::Invalid } else { Taken::Busy };
        }
        self.free.pop();
        self.owners[tag as usize] = Some((owner, operation));
        Taken::Queued
    }

    fn commit(&mut self) {
        self.driver.flush(MonotonicClock.now());
    }

    fn poll(&mut self, mover: &mut dyn Mover<T>) {
        let now = MonotonicClock.now();
        self.driver.poll(now, &mut self.answers);
        self.driver.flush(now);
        self.broken |= self.driver.take_end().is_some();
        for answer in self.answers.drain(..) {
            let (owner, operation) =
                self.owners[answer.tag as usize].take().expect("a tag in flight has an owner");
            let failed = answer.failure.is_some();
            if operation == Operation::Read && !failed {
                let mut offset_bytes = 0;
                for run in answer.data.runs() {
                    mover.drain(&owner, offset_bytes, run);
                    offset_bytes += run.len();
                }
            }
            mover.over(owner, failed);
            if answer.data.length_bytes() > 0 {
                self.buffers[answer.tag as usize] = answer.data;
            }
            self.free.push(answer.tag);
        }
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    fn close(&mut self) {
        leave(&mut self.driver);
    }
}

/// Takes leave, and waits for that: a little; or, where queue pairs belong to a controller that other jobs use as well, until it
/// is shut down with the last of them, because until then it may use their memory.
pub(crate) fn leave<D: Driver>(driver: &mut D) {
    let start = MonotonicClock.now();
    let mut unheard = Vec::new();
    driver.close(start);
    let is_late = |now: Time| now.since(start) > CLOSE_TIMEOUT;
    loop {
        let now = MonotonicClock.now();
        driver.poll(now, &mut unheard);
        driver.flush(now);
        if driver.is_closed() || !driver.shares() && is_late(now) {
            return;
        }
        if driver.shares() {
            std::thread::sleep(CLOSE_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{Job, open};

    /// Stands for fio: its buffers by number.
    #[derive(Default)]
    struct Fio {
        buffers: Vec<Vec<u8>>,
        over: Vec<(usize, bool)>,
    }

    impl Mover<usize> for Fio {
        fn fill(&mut self, owner: &usize, offset_bytes: usize, run: &mut [u8]) {
            run.copy_from_slice(&self.buffers[*owner][offset_bytes..][..run.len()]);
        }

        fn drain(&mut self, owner: &usize, offset_bytes: usize, run: &[u8]) {
            self.buffers[*owner][offset_bytes..][..run.len()].copy_from_slice(run);
        }

        fn over(&mut self, owner: usize, failed: bool) {
            self.over.push((owner, failed));
        }
    }

    fn wait(work: &mut dyn Work<usize>, fio: &mut Fio) -> (usize, bool) {
        for _ in 0..1_000_000 {
            work.commit();
            work.poll(fio);
            if let Some(over) = fio.over.pop() {
                return over;
            }
        }
        panic!("a request ends");
    }

    #[test]
    fn requests_of_every_length_and_kind_go_through_an_emulated_controller() {
        let job = Job { depth: 2, request_bytes: 3 << 20, writes: true, is_thread: false };
        let mut work =
            open::<usize>("trtype=emulated size=16MiB block=512", job).expect("an emulated controller");
        assert_eq!(work.size_bytes(), 16 << 20);
        let mut fio = Fio::default();
        for (number, length) in [512_usize, 4096, 12_288, 3 << 20].into_iter().enumerate() {
            let written: Vec<u8> = (0..length).map(|at| (at / 512 + number * 7) as u8).collect();
            fio.buffers = vec![written.clone(), vec![0; length]];
            let range = (4096, length as u32);
            assert_eq!(work.queue(Operation::Write, range, 0, &mut fio), Taken::Queued);
            assert_eq!(wait(&mut *work, &mut fio), (0, false));
            assert_eq!(work.queue(Operation::Read, range, 1, &mut fio), Taken::Queued);
            assert_eq!(wait(&mut *work, &mut fio), (1, false));
            assert!(fio.buffers[1] == written, "{length} bytes");
        }
        assert_eq!(work.queue(Operation::Flush, (0, 0), 0, &mut fio), Taken::Queued);
        assert_eq!(wait(&mut *work, &mut fio), (0, false));
        assert_eq!(work.queue(Operation::Trim, (4096, 3 << 20), 0, &mut fio), Taken::Queued);
        assert_eq!(wait(&mut *work, &mut fio), (0, false));
        assert_eq!(work.queue(Operation::Read, (4096, 3 << 20), 1, &mut fio), Taken::Queued);
        assert_eq!(wait(&mut *work, &mut fio), (1, false));
        assert!(fio.buffers[1].iter().all(|byte| *byte == 0), "freed blocks read zeros");
        work.close();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_a_full_queue_says_so() {
        let job = Job { depth: 1, request_bytes: 4096, writes: true, is_thread: false };
        let mut work = open::<usize>("trtype=emulated size=1MiB", job).expect("an emulated controller");
        let mut fio = Fio { buffers: vec![vec![0; 4096]], ..Fio::default() };
        for (offset, length) in [(1, 4096), (0, 512), (0, 0)] {
            assert_eq!(work.queue(Operation::Read, (offset, length), 0, &mut fio), Taken::Invalid);
        }
        assert_eq!(work.queue(Operation::Read, (0, 4096), 0, &mut fio), Taken::Queued);
        assert_eq!(work.queue(Operation::Read, (0, 4096), 0, &mut fio), Taken::Busy);
        assert_eq!(wait(&mut *work, &mut fio), (0, false));
        // Past the end: the controller's word counts.
        assert_eq!(work.queue(Operation::Read, (1 << 20, 4096), 0, &mut fio), Taken::Queued);
        assert_eq!(wait(&mut *work, &mut fio), (0, true));
        assert!(!work.is_broken());
        work.close();
    }
}
