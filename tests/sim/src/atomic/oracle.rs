//! What each sector may hold after a cut.

use volume::bdev::{IoStatus, Op};

use crate::Violation;

struct Entry {
    op: Op,
    /// What it leaves in its sectors; no two writes leave the same.
    value: u8,
    /// When it ended.
    ended: Option<u64>,
    /// Of a flush: when it began.
    began: u64,
}

/// The history so far.
pub(super) struct Oracle {
    sectors_per_block: u64,
    entries: Vec<Entry>,
    now: u64,
}

impl Oracle {
    pub(super) fn new(sectors_per_block: u64) -> Self {
        Self { sectors_per_block, entries: Vec::new(), now: 0 }
    }

    /// The tag of an operation and the value that it writes.
    pub(super) fn begin(&mut self, op: Op) -> (u64, u8) {
        self.now += 1;
        let writes = matches!(op, Op::Write { .. } | Op::AtomicWrite { .. });
        let value = if writes { self.entries.len() as u8 + 1 } else { 0 };
        self.entries.push(Entry { op, value, ended: None, began: self.now });
        (self.entries.len() as u64 - 1, value)
    }

    /// With `may_fail`, what has failed may have had its effect, in part even, or none; an atomic write only as a whole.
    pub(super) fn end(&mut self, tag: u64, status: IoStatus, may_fail: bool) -> Result<(), Violation> {
        self.now += 1;
        let entry = &mut self.entries[tag as usize];
        if status == IoStatus::Good {
            entry.ended = Some(self.now);
            return Ok(());
        }
        if may_fail {
            return Ok(());
        }
        Err(Violation::new("nothing fails on good disks", format!("{:?} ended with {status:?}", entry.op)))
    }

    fn sectors(&self, op: &Op) -> std::ops::Range<u64> {
        let extent = op.extent().map_or(0..0, |extent| extent.lba..extent.end());
        extent.start * self.sectors_per_block..extent.end * self.sectors_per_block
    }

    /// True when what `entry` did survives the cut.
    fn survives(&self, entry: &Entry, power: bool) -> bool {
        let Some(ended) = entry.ended else { return false };
        let forced = match entry.op {
            Op::Write { fua, .. } | Op::WriteZeroes { fua, .. } => fua,
            // One of a single sector is a write like any other.
            Op::AtomicWrite { fua, extent } => fua || extent.length_blocks * self.sectors_per_block > 1,
            _ => false,
        };
        let flushed = |flush: &Entry| flush.op == Op::Flush && flush.ended.is_some() && flush.began > ended;
        !power || forced || self.entries.iter().any(flushed)
    }

    /// Compares what was found in each sector; `power` when it had failed.
    pub(super) fn check(
        &self,
        found: &[u8],
        power: bool,
        story: impl Fn() -> String,
    ) -> Result<(), Violation> {
        for (sector, &value) in (0..).zip(found) {
            let here: Vec<&Entry> =
                self.entries.iter().filter(|entry| self.sectors(&entry.op).contains(&sector)).collect();
            let floor = here.iter().rposition(|entry| self.survives(entry, power));
            let mut allowed = here[floor.unwrap_or(0)..].iter().map(|entry| entry.value);
            if !(allowed.any(|allowed| allowed == value) || floor.is_none() && value == 0) {
                let expected = floor.map_or(0, |floor| here[floor].value);
                let detail = format!("sector {sector} holds {value}, not {expected} or later; {}", story());
                return Err(Violation::new("what was acknowledged is there", detail));
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if matches!(entry.op, Op::AtomicWrite { .. }) {
                self.check_atomic(index, found, &story)?;
            }
        }
        Ok(())
    }

    /// All of its sectors hold what it wrote or what came later, or none holds what it wrote.
    fn check_atomic(&self, index: usize, found: &[u8], story: &impl Fn() -> String) -> Result<(), Violation> {
        let entry = &self.entries[index];
        let sectors = self.sectors(&entry.op);
        let holds = |sector: u64| found[sector as usize] == entry.value;
        let is_later = |sector: u64| {
            let mut later = self.entries[index + 1..].iter();
            later.any(|later| {
                self.sectors(&later.op).contains(&sector) && later.value == found[sector as usize]
            })
        };
        let torn =
            sectors.clone().any(holds) && !sectors.clone().all(|sector| holds(sector) || is_later(sector));
        if !torn {
            return Ok(());
        }
        let content = &found[sectors.start as usize..sectors.end as usize];
        let detail = format!("{:?} of {} left {content:?}; {}", entry.op, entry.value, story());
        Err(Violation::new("an atomic write is there as a whole or not at all", detail))
    }
}
