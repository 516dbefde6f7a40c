//! One job's association: requests with fio's buffers in, completions with fio's cookies out.

use std::rc::Rc;
use std::time::Duration;

use bench::driver::{Answer, Driver, Geometry, Kind, Request};
use bench::nvme::{NvmeDriver, NvmeTarget};
use bench::{BenchError, Plan, Target};
use reactor::clock::MonotonicClock;
use reactor::time::{Clock, Time};

use crate::filename::{Filename, FilenameError};
use crate::network::SpinNetwork;

/// Time to connect, and to take leave.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a job cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file name.
    #[error(transparent)]
    Filename(#[from] FilenameError),
    /// No random bytes for a host identifier.
    #[error("the system has no random bytes")]
    Random,
    /// The association.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Nothing was heard in time.
    #[error("the controller was not ready within 30 s")]
    Timeout,
}

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

/// See the module's documentation. `T` stands for fio's buffer and cookie.
pub struct Engine<T> {
    driver: NvmeDriver,
    geometry: Geometry,
    owners: Vec<Option<(T, Operation)>>,
    buffers: Vec<Vec<u8>>,
    free: Vec<u32>,
    answers: Vec<Answer>,
    broken: bool,
}

impl<T> Engine<T> {
    /// Connects, and waits until requests are taken.
    pub fn open(filename: &str, depth: u32) -> Result<Self, OpenError> {
        let name = Filename::parse(filename)?;
        let host = name.address.to_string();
        let target = Target::NvmeTcp { host, subsystem_nqn: name.subsystem_nqn.clone(), nsid: name.nsid };
        let plan = Plan {
            depth,
            client_name: name.host_nqn,
            header_digest: name.header_digest,
            data_digest: name.data_digest,
            ..Plan::new(target)
        };
        plan.check()?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| OpenError::Random)?;
        id[0] |= 1;
        let target = NvmeTarget::new(&plan, name.address, &name.subsystem_nqn, name.nsid, id);
        let start = MonotonicClock.now();
        let mut driver = NvmeDriver::new(Rc::new(SpinNetwork), start, target);
        let geometry = wait_ready(&mut driver, start)?;
        let mut owners = Vec::new();
        owners.resize_with(depth as usize, || None);
        Ok(Self {
            driver,
            geometry,
            owners,
            buffers: vec![Vec::new(); depth as usize],
            free: (0..depth).collect(),
            answers: Vec::new(),
            broken: false,
        })
    }

    /// Bytes of the namespace.
    pub fn size_bytes(&self) -> u64 {
        self.geometry.length_blocks * u64::from(self.geometry.logical_block_bytes)
    }

    /// Takes a request. `fill` fills the buffer that is handed to it with the data of a write.
    pub fn queue(
        &mut self,
        operation: Operation,
        (offset, length): (u64, u32),
        owner: T,
        fill: impl FnOnce(&T, &mut [u8]),
    ) -> Taken {
        let block_bytes = u64::from(self.geometry.logical_block_bytes);
        let has_range = operation != Operation::Flush;
        let is_multiple = |bytes: u64| bytes.is_multiple_of(block_bytes);
        let is_whole = is_multiple(offset) && is_multiple(length.into()) && length > 0;
        let moves_data = matches!(operation, Operation::Read | Operation::Write);
        let is_too_long = moves_data && u64::from(length) > self.driver.transfer_bytes_max();
        if has_range && !is_whole || is_too_long {
            return Taken::Invalid;
        }
        let Some(&tag) = self.free.last() else { return Taken::Busy };
        let (lba, length_blocks) = (offset / block_bytes, (u64::from(length) / block_bytes) as u32);
        let now = MonotonicClock.now();
        let submitted = match operation {
            Operation::Flush => self.driver.submit_flush(now, tag),
            Operation::Trim if length_blocks > 1 << 16 => return Taken::Invalid,
            Operation::Trim => self.driver.submit_deallocate(now, tag, lba, length_blocks),
            Operation::Read | Operation::Write => {
                let mut data = std::mem::take(&mut self.buffers[tag as usize]);
                data.resize(length as usize, 0);
                let kind = if operation == Operation::Write { Kind::Write } else { Kind::Read };
                if kind == Kind::Write {
                    fill(&owner, &mut data);
                }
                let request = Request { tag, kind, lba, length_blocks };
                self.driver
                    .submit(now, request, data)
                    .map_err(|data| self.buffers[tag as usize] = data)
                    .is_ok()
            }
        };
        if !submitted {
            return if self.broken { Taken::Invalid } else { Taken::Busy };
        }
        self.free.pop();
        self.owners[tag as usize] = Some((owner, operation));
        Taken::Queued
    }

    /// Sends what was queued.
    pub fn commit(&mut self) {
        self.driver.flush(MonotonicClock.now());
    }

    /// One turn: hands each request that is over to `done`, with the data of a read. How many there were.
    pub fn poll(&mut self, mut done: impl FnMut(T, Option<&[u8]>, bool)) -> usize {
        let now = MonotonicClock.now();
        self.driver.poll(now, &mut self.answers);
        self.driver.flush(now);
        self.broken |= self.driver.take_end().is_some();
        let count = self.answers.len();
        for answer in self.answers.drain(..) {
            let (owner, operation) =
                self.owners[answer.tag as usize].take().expect("a tag in flight has an owner");
            let failed = answer.failure.is_some();
            let data = (operation == Operation::Read && !failed).then_some(&answer.data[..]);
            done(owner, data, failed);
            if !answer.data.is_empty() {
                self.buffers[answer.tag as usize] = answer.data;
            }
            self.free.push(answer.tag);
        }
        count
    }

    /// True when the association has ended: nothing more will be answered.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes leave, and waits for that a little.
    pub fn close(&mut self) {
        let start = MonotonicClock.now();
        self.driver.close(start);
        let is_late = |now: Time| now.since(start) > CLOSE_TIMEOUT;
        while !self.driver.is_closed() && !is_late(MonotonicClock.now()) {
            let now = MonotonicClock.now();
            self.driver.poll(now, &mut self.answers);
            self.driver.flush(now);
        }
    }
}

fn wait_ready(driver: &mut NvmeDriver, start: Time) -> Result<Geometry, OpenError> {
    let mut none = Vec::new();
    loop {
        let now = MonotonicClock.now();
        driver.poll(now, &mut none);
        driver.flush(now);
        if let Some(error) = driver.take_end() {
            return Err(error.into());
        }
        if let Some(geometry) = driver.geometry() {
            return Ok(geometry);
        }
        if now.since(start) > START_TIMEOUT {
            return Err(OpenError::Timeout);
        }
    }
}
