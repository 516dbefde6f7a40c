//! Turning the write cache off (SBC-4 section 6.5.5): what was acknowledged out of the cache is on the
//! medium before WCE is 0, and nothing is acknowledged out of it any more.
//!
//! From the moment a MODE SELECT asks for it, new writes go through to the medium. Then the cache is
//! flushed. A write that was sent into the cache before and ends while the flush runs may not be
//! covered by it, so such acknowledgements are counted, and the flush is repeated until it has seen
//! none; and one that ends even later is flushed before it is answered.
//!
//! When the flush fails, or the command is aborted, WCE stays 1. Writes then go on being written
//! through until the next change of the mode page or the next reset: slower than they need to be, and
//! never less safe than reported.

use reactor::buffer::Sgl;
use volume::bdev::{Io, IoStatus, Op};

use crate::command::NexusId;
use crate::mode::Changeable;
use crate::plan::{Pending, Plan};
use crate::response::{Response, Step};
use crate::sense::Sense;
use crate::unit::LogicalUnit;
use crate::unit_attention::UnitAttention;

/// How often the flush is repeated before the command gives up.
const FLUSHES_MAX: u32 = 8;

/// A MODE SELECT that waits for a flush.
#[derive(Debug)]
pub(crate) struct CacheOff {
    task: u64,
    nexus: NexusId,
    data_out_len: u64,
    /// What was changeable when the command came, and what it shall be.
    before: Changeable,
    after: Changeable,
    /// Acknowledgements out of the cache when the flush began.
    acknowledged: u64,
    flushes_left: u32,
}

impl LogicalUnit {
    /// Starts what ends with WCE = 0.
    pub(crate) fn turn_cache_off(
        &mut self,
        task: u64,
        nexus: NexusId,
        data_out_len: u64,
        after: Changeable,
    ) -> Step {
        let before = self.mode.changeable();
        self.flush_for(CacheOff {
            task,
            nexus,
            data_out_len,
            before,
            after,
            acknowledged: 0,
            flushes_left: FLUSHES_MAX,
        })
    }

    fn flush_for(&mut self, mut change: CacheOff) -> Step {
        self.mode.write_through = true;
        change.acknowledged = self.mode.cached_writes;
        change.flushes_left -= 1;
        let io = Io { tag: change.task, op: Op::Flush, sgl: Sgl::empty() };
        Step::Io(io, Pending(Plan::CacheOff(Box::new(change))))
    }

    /// The flush has ended.
    pub(crate) fn resume_cache_off(&mut self, change: CacheOff, status: IoStatus) -> Step {
        let data_out_len = change.data_out_len;
        if status != IoStatus::Good {
            return Step::Respond(self.io_failed(status, data_out_len));
        }
        if change.acknowledged != self.mode.cached_writes {
            if change.flushes_left > 0 {
                return self.flush_for(change);
            }
            return Step::Respond(Response { data_out_len, ..self.check(Sense::ABORTED) });
        }
        // Other bits may have been changed by somebody else while the flush ran: those stay.
        let new = change.after.over(change.before, self.mode.changeable());
        self.change_mode(new, change.nexus);
        Step::Respond(Response { data_out_len, ..Response::good() })
    }

    /// Takes over changeable bits, and tells the others.
    pub(crate) fn change_mode(&mut self, new: Changeable, by: NexusId) {
        if new != self.mode.changeable() {
            self.mode.change(new);
            self.nexuses.tell_all(UnitAttention::ModeParametersChanged, Some(by));
        }
    }

    /// A write without FUA may be acknowledged out of a volatile cache.
    #[inline]
    pub(crate) fn goes_to_cache(&self, fua: bool) -> bool {
        self.info.volatile_write_cache && !fua
    }

    /// A write that went to the cache has ended well. True: the cache has been turned off since, so a
    /// flush comes before the answer.
    #[inline]
    pub(crate) fn must_flush_cached_write(&mut self) -> bool {
        if !self.mode.write_through {
            self.mode.cached_writes += 1;
        }
        self.mode.write_through
    }
}
