//! One state that a sector may be in.

use crate::history::OpId;

/// What the sector holds, what is still to come, and what a power loss might bring back. Writes are named by their
/// operation; 0 stands for the zeros of the beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    /// What took effect, from the last acknowledged write on, in order; the last one is the content.
    recent: Vec<OpId>,
    /// Of `recent` only the last one is known to stand in its place.
    vague: bool,
    /// What a power loss may bring back beside `recent`; sorted.
    old: Vec<OpId>,
    /// Of each flush in flight: what a power loss may bring back once it is answered; sorted.
    flushes: Vec<(OpId, Vec<OpId>)>,
    /// Writes that have not taken effect; sorted.
    open: Vec<OpId>,
    /// Reads that have not met what they saw; sorted.
    readers: Vec<OpId>,
}

fn insert(list: &mut Vec<OpId>, id: OpId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

impl State {
    /// Holds what `id` wrote, for sure, and nothing is going on.
    pub(super) fn holding(id: OpId) -> Self {
        Self {
            recent: vec![id],
            vague: false,
            old: Vec::new(),
            flushes: Vec::new(),
            open: Vec::new(),
            readers: Vec::new(),
        }
    }

    pub(super) fn content(&self) -> OpId {
        *self.recent.last().expect("a sector always holds something")
    }

    pub(super) fn open(&self) -> &[OpId] {
        &self.open
    }

    pub(super) fn is_open(&self, id: OpId) -> bool {
        self.open.contains(&id)
    }

    pub(super) fn reads(&self, id: OpId) -> bool {
        self.readers.contains(&id)
    }

    pub(super) fn with_open(mut self, id: OpId) -> Self {
        insert(&mut self.open, id);
        self
    }

    pub(super) fn without_open(mut self, id: OpId) -> Self {
        self.open.retain(|&other| other != id);
        self
    }

    pub(super) fn with_reader(mut self, id: OpId) -> Self {
        insert(&mut self.readers, id);
        self
    }

    /// The open write `id` takes effect; readers that `sees` are content.
    pub(super) fn effective(&self, id: OpId, power: bool, sees: impl Fn(OpId) -> bool) -> Self {
        let mut next = self.clone().without_open(id);
        next.readers.retain(|&reader| !sees(reader));
        if !power {
            next.recent.clear();
        }
        next.recent.push(id);
        for (_, found) in &mut next.flushes {
            insert(found, id);
        }
        next
    }

    /// The write `id`, which has taken effect, is acknowledged.
    pub(super) fn acknowledged(mut self, id: OpId, fua: bool, power: bool) -> Self {
        if !power {
            return self;
        }
        let last = self.content() == id;
        // Not found: a later write was acknowledged already.
        let found = self.recent.iter().position(|&other| other == id).filter(|_| last || !self.vague);
        if let Some(at) = found {
            let before: Vec<OpId> = self.recent.drain(..at).collect();
            self.vague &= !last;
            if fua {
                self.old.clear();
            } else {
                before.into_iter().for_each(|other| insert(&mut self.old, other));
            }
        }
        self
    }

    /// What the future of the sector depends on, but for what a power loss may bring back.
    pub(super) fn key(&self) -> (OpId, Vec<OpId>, Vec<OpId>) {
        (self.content(), self.open.clone(), self.readers.clone())
    }

    /// A state that allows what either of two with the same key allows: fewer states for less sharpness.
    pub(super) fn merge(mut self, other: Self) -> Self {
        let content = self.content();
        self.vague |= other.vague || self.recent != other.recent;
        let mut recent: Vec<OpId> = Vec::new();
        self.recent.iter().chain(&other.recent).for_each(|&id| insert(&mut recent, id));
        recent.retain(|&id| id != content);
        recent.push(content);
        self.recent = recent;
        other.old.into_iter().for_each(|id| insert(&mut self.old, id));
        for ((_, found), (_, more)) in self.flushes.iter_mut().zip(other.flushes) {
            more.into_iter().for_each(|id| insert(found, id));
        }
        self
    }

    pub(super) fn flush_begins(mut self, id: OpId) -> Self {
        let mut found = self.recent.clone();
        found.sort_unstable();
        self.flushes.push((id, found));
        self
    }

    pub(super) fn flush_ends(mut self, id: OpId) -> Self {
        if let Some(at) = self.flushes.iter().position(|(flush, _)| *flush == id) {
            let (_, found) = self.flushes.remove(at);
            // What is in `recent` is allowed in any case.
            self.old.retain(|other| found.contains(other));
        }
        self
    }

    pub(super) fn flush_fails(mut self, id: OpId) -> Self {
        self.flushes.retain(|(flush, _)| *flush != id);
        self
    }

    /// The process is gone: nothing open takes effect any more.
    pub(super) fn killed(mut self) -> Self {
        self.open.clear();
        self.readers.clear();
        self.flushes.clear();
        self
    }

    /// What may be found after a power loss.
    pub(super) fn after_power_loss(&self) -> impl Iterator<Item = OpId> + '_ {
        self.recent.iter().chain(&self.old).chain(&self.open).copied()
    }
}
