//! The writes that are not yet on the medium, each with what it replaced, in a ring of bytes taken once.

use std::collections::VecDeque;

use super::{Extent, Store};
use crate::limits::CACHE_RECORDS_MAX;

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) extent: Extent,
    /// It is on the medium, but the content before it, which an older record holds, is not settled.
    pub(super) durable: bool,
    /// Where what it replaced begins, counted over all bytes that were ever put in the ring.
    position: u64,
}

/// The list and the ring.
pub(super) struct Undo {
    ring: Box<[u8]>,
    records: VecDeque<Record>,
    /// All bytes ever put; those from the first record's position on are in the ring.
    end: u64,
}

impl Undo {
    pub(super) fn new(bytes: usize) -> Self {
        let records = if bytes == 0 { 0 } else { CACHE_RECORDS_MAX };
        Self { ring: vec![0; bytes].into_boxed_slice(), records: VecDeque::with_capacity(records), end: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
    }

    fn free_bytes(&self) -> u64 {
        let used = self.records.front().map_or(0, |first| self.end - first.position);
        self.ring.len() as u64 - used
    }

    /// Remembers what `extent` holds, before it is replaced. The oldest writes make room; a write that is larger than the
    /// whole ring is not remembered, and everything before it is settled with it.
    #[inline]
    pub(super) fn record(&mut self, store: &Store, extent: &Extent, durable: bool) {
        let needed = Store::captured_bytes_max(extent);
        if needed > self.ring.len() as u64 {
            return self.clear();
        }
        while self.free_bytes() < needed || self.records.len() == CACHE_RECORDS_MAX {
            self.records.pop_front();
        }
        self.settle();
        if durable && self.records.is_empty() {
            return;
        }
        let record = Record { extent: extent.clone(), durable, position: self.end };
        let mut end = self.end;
        let ring = &mut self.ring;
        store.capture(extent, |bytes| {
            let at = (end % ring.len() as u64) as usize;
            let first = bytes.len().min(ring.len() - at);
            ring[at..at + first].copy_from_slice(&bytes[..first]);
            ring[..bytes.len() - first].copy_from_slice(&bytes[first..]);
            end += bytes.len() as u64;
        });
        self.end = end;
        self.records.push_back(record);
    }

    /// A durable write with nothing unsettled before it is done with.
    fn settle(&mut self) {
        while self.records.front().is_some_and(|first| first.durable) {
            self.records.pop_front();
        }
    }

    /// Takes the list, the oldest first; the ring stays as it is until the next [`Undo::record`].
    pub(super) fn take(&mut self) -> Vec<Record> {
        self.records.drain(..).collect()
    }

    /// Brings back what the write replaced.
    pub(super) fn restore(&self, store: &mut Store, record: &Record) {
        let mut position = record.position;
        store.restore(&record.extent, |out| {
            let at = (position % self.ring.len() as u64) as usize;
            let first = out.len().min(self.ring.len() - at);
            out[..first].copy_from_slice(&self.ring[at..at + first]);
            let rest = out.len() - first;
            out[first..].copy_from_slice(&self.ring[..rest]);
            position += out.len() as u64;
        });
    }
}
