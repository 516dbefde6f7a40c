//! What hosts did and saw, in the order in which they did and saw it.

use crate::content::Value;

/// The number of an operation in its world, from 1; it is also what the operation writes.
pub type OpId = u32;

/// What an operation does to blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes its number.
    Write {
        /// Force unit access.
        fua: bool,
    },
    /// Makes blocks read zeros.
    Zero,
    /// Writes its number where the sectors have these values.
    CompareAndWrite {
        /// What each sector must hold.
        expected: Vec<Value>,
    },
    /// Makes everything acknowledged before durable.
    Flush,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// Who.
    pub host: usize,
    /// The unit.
    pub lun: u8,
    /// First sector; 0 for a flush.
    pub sector: u64,
    /// Number of sectors; 0 for a flush.
    pub sectors: u64,
    /// What.
    pub kind: Kind,
    /// What a good read saw, by sector.
    pub seen: Vec<Value>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Op {
    /// True when it can change blocks.
    pub fn changes(&self) -> bool {
        matches!(self.kind, Kind::Write { .. } | Kind::Zero | Kind::CompareAndWrite { .. })
    }

    /// True when it names `sector`.
    pub fn covers(&self, sector: u64) -> bool {
        (self.sector..self.sector + self.sectors).contains(&sector)
    }

    /// What a sector holds once it took effect.
    pub fn writes(&self, id: OpId) -> Value {
        if self.kind == Kind::Zero { 0 } else { id }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered as done.
    Good,
    /// It was answered with an error, or fenced without an answer: what it had not done by then, it never does.
    Ended,
    /// It was refused before it had any effect.
    Refused,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host began an operation.
    Begin(OpId),
    /// A host learned its end.
    End(OpId),
    /// The power failed: volatile caches were lost.
    PowerLoss,
    /// The process was killed.
    Kill,
}

/// The history of one world.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// When (in events) somebody reset each unit, and who.
    pub resets: Vec<(usize, u8, usize)>,
    /// Such requests that are not answered: unit, and host with its request's tag.
    pub resetting: Vec<(u8, (usize, u32))>,
}

impl History {
    /// An operation.
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[id as usize - 1]
    }

    /// How many operations there were.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// True before the first operation.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The number of the next operation.
    pub fn next_id(&self) -> OpId {
        self.ops.len() as OpId + 1
    }

    /// An operation begins.
    pub fn begin(&mut self, op: Op) -> OpId {
        self.ops.push(op);
        let id = self.ops.len() as OpId;
        self.events.push(Event::Begin(id));
        id
    }

    /// An operation ends; only its first end counts, unless a late answer says that it was done after all.
    pub fn end(&mut self, id: OpId, outcome: Outcome, seen: Vec<Value>) {
        let op = &mut self.ops[id as usize - 1];
        match op.outcome {
            None => {
                (op.outcome, op.seen) = (Some(outcome), seen);
                self.events.push(Event::End(id));
            }
            // Answered on another connection than the one that said that it was aborted: the answer came first.
            Some(Outcome::Ended) if outcome == Outcome::Good && op.changes() => {
                op.outcome = Some(Outcome::Good)
            }
            Some(_) => {}
        }
    }

    /// The writes to `sector` of `lun` that have not ended.
    pub fn open_writes(&self, open: &[OpId], lun: u8, sector: u64, sectors: u64) -> usize {
        let overlaps = |op: &Op| op.sector < sector + sectors && sector < op.sector + op.sectors;
        open.iter().map(|&id| self.op(id)).filter(|op| op.changes() && op.lun == lun && overlaps(op)).count()
    }
}
