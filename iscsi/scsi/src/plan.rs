//! Operations that take I/O, and what is remembered of each between its steps.

use reactor::buffer::{BufferPool, Sgl};
use volume::bdev::{Done, Extent, Io, IoStatus, Op};

use crate::cache::CacheOff;
use crate::limits::{CLEAR_STEP_BYTES, PAYLOAD_STEP_COST, STEP_BYTES, TURN_COST};
use crate::partial::{Need, PartialWrite};
use crate::response::{DataIn, Response, Step};
use crate::sense::{Sense, SenseKey};
use crate::unit::LogicalUnit;

/// What the logical unit wants to know again when the I/O of a command is done.
#[derive(Debug)]
pub struct Pending(pub(crate) Plan);

impl Pending {
    /// True for one read whose payload goes to the initiator as it is: a list that cannot be written will do.
    #[inline]
    pub fn is_read(&self) -> bool {
        matches!(self.0, Plan::Read { .. })
    }
}

#[derive(Debug)]
pub(crate) enum Plan {
    /// One read whose payload is the answer.
    Read { data_in_len: u64 },
    /// One operation whose good end is GOOD without data; `cached`: a write that may be in a volatile
    /// cache when it ends.
    Simple { data_out_len: u64, cached: bool },
    /// The flush of a MODE SELECT that turns the cache off.
    CacheOff(Box<CacheOff>),
    /// Several I/Os after each other.
    Steps(Box<Steps>),
}

/// An operation of several I/Os.
#[derive(Debug)]
pub(crate) struct Steps {
    pub task: u64,
    pub data_out_len: u64,
    pub work: Work,
    /// What the steps cost since the operation last let the core go.
    pub spent: u32,
    /// It writes, and what it has written may be in a volatile cache.
    pub cached: bool,
    /// The I/O that is out is the flush before its end.
    pub flushing: bool,
}

/// What is left to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write, then compare with the same payload, or only read back.
    WriteAndVerify { extent: Extent, compare: bool, written: bool, sgl: Sgl },
    /// Read and drop.
    Verify { left: Extent, sgl: Sgl },
    /// Write one payload again and again.
    WriteSame { left: Extent, fua: bool, sgl: Sgl },
    /// Write zeros, and with `unmap` free what can be freed.
    WriteZeroes { left: Extent, unmap: bool, fua: bool },
    /// Free a list of extents, the last one first.
    UnmapList { extents: Vec<Extent> },
    /// Write, the last block in part.
    Partial(PartialWrite),
    /// Ask for allocation states until the list is full.
    LbaStatus { left: Extent, descriptors: usize, reply: Vec<u8>, allocation_length: u64 },
}

/// The first `blocks` of an extent, and what is left.
fn split(extent: Extent, blocks: u64) -> (Extent, Extent) {
    let length_blocks = extent.length_blocks.min(blocks);
    let first = Extent { lba: extent.lba, length_blocks };
    let left =
        Extent { lba: extent.lba + length_blocks, length_blocks: extent.length_blocks - length_blocks };
    (first, left)
}

impl LogicalUnit {
    /// Goes on with a command whose I/O is done.
    pub fn resume(&mut self, pending: Pending, done: Done, buffers: &BufferPool) -> Step {
        match pending.0 {
            Plan::Read { data_in_len } if done.status == IoStatus::Good => {
                Step::Respond(Response { data_in_len, ..Response::data(DataIn::Sgl(done.sgl)) })
            }
            Plan::Simple { data_out_len, cached } if done.status == IoStatus::Good => {
                if cached && self.must_flush_cached_write() {
                    let flush = Io { tag: done.tag, op: Op::Flush, sgl: Sgl::empty() };
                    return Step::Io(flush, Pending(Plan::Simple { data_out_len, cached: false }));
                }
                Step::Respond(Response { data_out_len, ..Response::good() })
            }
            Plan::Read { .. } => Step::Respond(self.io_failed(done.status, 0)),
            Plan::Simple { data_out_len, .. } => Step::Respond(self.io_failed(done.status, data_out_len)),
            Plan::Steps(steps) => self.resume_steps(steps, done, buffers),
            Plan::CacheOff(change) => self.resume_cache_off(*change, done.status),
        }
    }

    /// Goes on after [`Step::RetryPending`].
    pub fn retry(&mut self, pending: Pending, buffers: &BufferPool) -> Step {
        match pending.0 {
            Plan::Steps(mut steps) => {
                steps.spent = 0;
                self.next_step(steps, buffers)
            }
            Plan::Read { .. } | Plan::Simple { .. } | Plan::CacheOff(_) => {
                unreachable!("only an operation of steps waits")
            }
        }
    }

    fn resume_steps(&mut self, mut steps: Box<Steps>, done: Done, buffers: &BufferPool) -> Step {
        if steps.flushing {
            return Step::Respond(match done.status {
                IoStatus::Good => steps.finish(),
                status => self.io_failed(status, steps.data_out_len),
            });
        }
        if let Work::Partial(partial) = &mut steps.work {
            return match partial.advance(done.status, done.sgl) {
                Ok(()) => self.next_step(steps, buffers),
                Err(status) => Step::Respond(self.io_failed(status, steps.data_out_len)),
            };
        }
        if let IoStatus::Mapped { mapped, length_blocks } = done.status {
            steps.work.add_status(mapped, length_blocks);
        } else if done.status != IoStatus::Good {
            return Step::Respond(self.io_failed(done.status, steps.data_out_len));
        }
        match &mut steps.work {
            Work::WriteAndVerify { sgl, written, .. } => {
                if *written {
                    return Step::Respond(Response { data_out_len: steps.data_out_len, ..Response::good() });
                }
                *written = true;
                *sgl = done.sgl;
            }
            Work::Verify { sgl, .. } | Work::WriteSame { sgl, .. } => *sgl = done.sgl,
            Work::WriteZeroes { .. } | Work::UnmapList { .. } | Work::LbaStatus { .. } | Work::Partial(_) => {
            }
        }
        self.next_step(steps, buffers)
    }

    /// Starts an operation of several I/Os.
    pub(crate) fn start_steps(
        &mut self,
        task: u64,
        data_out_len: u64,
        work: Work,
        buffers: &BufferPool,
    ) -> Step {
        let steps = Steps { task, data_out_len, work, spent: 0, cached: false, flushing: false };
        self.next_step(Box::new(steps), buffers)
    }

    /// As [`Self::start_steps`], for one that writes.
    pub(crate) fn start_writing_steps(
        &mut self,
        task: u64,
        data_out_len: u64,
        work: Work,
        fua: bool,
        buffers: &BufferPool,
    ) -> Step {
        let cached = self.goes_to_cache(fua);
        let steps = Steps { task, data_out_len, work, spent: 0, cached, flushing: false };
        self.next_step(Box::new(steps), buffers)
    }

    /// The next I/O of an operation, or its end.
    fn next_step(&mut self, mut steps: Box<Steps>, buffers: &BufferPool) -> Step {
        // Began before a sanitize operation did: nothing of it may follow that.
        if let Some(sense) = self.condition.sense() {
            return Step::Respond(Response { data_out_len: steps.data_out_len, ..self.check(sense) });
        }
        // A long operation whose I/Os are all answered on the spot lets others have the core.
        if steps.spent >= TURN_COST {
            return Step::RetryPending(Pending(Plan::Steps(steps)));
        }
        match steps.work.next(self.block_shift, buffers) {
            Next::Io(op, sgl) => {
                steps.spent += if sgl.is_empty() { 1 } else { PAYLOAD_STEP_COST };
                Step::Io(Io { tag: steps.task, op, sgl }, Pending(Plan::Steps(steps)))
            }
            Next::NoMemory => Step::RetryPending(Pending(Plan::Steps(steps))),
            Next::Finished if steps.cached && self.must_flush_cached_write() => {
                steps.flushing = true;
                let flush = Io { tag: steps.task, op: Op::Flush, sgl: Sgl::empty() };
                Step::Io(flush, Pending(Plan::Steps(steps)))
            }
            Next::Finished => Step::Respond(steps.finish()),
        }
    }

    /// The response to an I/O that did not end well.
    pub(crate) fn io_failed(&self, status: IoStatus, data_out_len: u64) -> Response {
        let sense = match status {
            IoStatus::Miscompare { offset_bytes } => Sense::MISCOMPARE.with_information(offset_bytes),
            IoStatus::ReadError { lba } => Sense::READ_ERROR.with_information(lba),
            IoStatus::WriteError { lba } => Sense::WRITE_ERROR.with_information(lba),
            IoStatus::NoSpace => Sense::NO_SPACE,
            IoStatus::Aborted => Sense::ABORTED,
            // 04/3E/01 logical unit failure.
            IoStatus::Gone => Sense::new(SenseKey::HardwareError, 0x3e, 0x01),
            IoStatus::Good | IoStatus::Mapped { .. } => {
                unreachable!("a volume answers an operation with that operation's statuses")
            }
        };
        Response { data_out_len, ..self.check(sense) }
    }
}

/// What an operation does next.
enum Next {
    Io(Op, Sgl),
    NoMemory,
    Finished,
}

impl Work {
    /// Takes the next I/O off what is left.
    fn next(&mut self, block_shift: u32, buffers: &BufferPool) -> Next {
        let clear_blocks = CLEAR_STEP_BYTES >> block_shift;
        match self {
            Self::WriteAndVerify { extent, compare, written, sgl } => {
                let op = match (*written, *compare) {
                    (false, _) => Op::Write { extent: *extent, fua: true },
                    (true, true) => Op::Compare(*extent),
                    (true, false) => Op::Read(*extent),
                };
                Next::Io(op, std::mem::take(sgl))
            }
            Self::Verify { left, sgl } => {
                let (first, rest) = split(*left, STEP_BYTES >> block_shift);
                let bytes = (first.length_blocks << block_shift) as usize;
                if bytes == 0 {
                    return Next::Finished;
                }
                if sgl.is_empty() {
                    let Some(fresh) = buffers.alloc(bytes) else { return Next::NoMemory };
                    *sgl = fresh;
                }
                *left = rest;
                sgl.truncate(bytes);
                Next::Io(Op::Read(first), std::mem::take(sgl))
            }
            Self::WriteSame { left, fua, sgl } => {
                let (extent, rest) = split(*left, (sgl.len() >> block_shift) as u64);
                if extent.length_blocks == 0 {
                    return Next::Finished;
                }
                *left = rest;
                sgl.truncate((extent.length_blocks << block_shift) as usize);
                Next::Io(Op::Write { extent, fua: *fua }, std::mem::take(sgl))
            }
            Self::WriteZeroes { left, unmap, fua } => {
                let (extent, rest) = split(*left, clear_blocks);
                if extent.length_blocks == 0 {
                    return Next::Finished;
                }
                *left = rest;
                Next::Io(Op::WriteZeroes { extent, unmap: *unmap, fua: *fua }, Sgl::empty())
            }
            Self::UnmapList { extents } => {
                let Some(whole) = extents.pop() else { return Next::Finished };
                let (extent, rest) = split(whole, clear_blocks);
                if rest.length_blocks > 0 {
                    extents.push(rest);
                }
                Next::Io(Op::Unmap(extent), Sgl::empty())
            }
            Self::Partial(partial) => match partial.next(1 << block_shift, buffers) {
                Need::Io(op, sgl) => Next::Io(op, sgl),
                Need::Memory => Next::NoMemory,
                Need::Nothing => Next::Finished,
            },
            Self::LbaStatus { left, descriptors, .. } => {
                if *descriptors == 0 || left.length_blocks == 0 {
                    return Next::Finished;
                }
                Next::Io(Op::BlockStatus(*left), Sgl::empty())
            }
        }
    }

    /// Takes over one answer about allocation.
    fn add_status(&mut self, mapped: bool, length_blocks: u64) {
        let Self::LbaStatus { left, descriptors, reply, .. } = self else {
            unreachable!("only GET LBA STATUS asks for allocation");
        };
        // The field for the number of blocks has 32 bits.
        let (known, rest) = split(*left, length_blocks.clamp(1, u64::from(u32::MAX)));
        *left = rest;
        *descriptors -= 1;
        reply.extend_from_slice(&known.lba.to_be_bytes());
        reply.extend_from_slice(&(known.length_blocks as u32).to_be_bytes());
        reply.extend_from_slice(&[u8::from(!mapped), 0, 0, 0]);
    }
}

impl Steps {
    fn finish(self) -> Response {
        match self.work {
            Work::LbaStatus { mut reply, allocation_length, .. } => {
                // PARAMETER DATA LENGTH counts what follows it.
                let length = reply.len() as u32 - 4;
                reply[..4].copy_from_slice(&length.to_be_bytes());
                Response::bytes(reply, allocation_length)
            }
            _ => Response { data_out_len: self.data_out_len, ..Response::good() },
        }
    }
}
