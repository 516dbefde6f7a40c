//! The commands of a namespace: a slot for each from the moment its I/O is started until it is over, wherever it is.

use nvme_spec::Sqe;
use reactor::buffer::Sgl;

use crate::command::Kind;
use crate::fused::Pair;
use crate::limits::COMMANDS_MAX;

/// Which I/O a command belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is the whole I/O with this tag.
    Whole { tag: u64 },
    /// It is a piece of a long I/O.
    Piece { long: u32, index: u32 },
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) sqe: Sqe,
    pub(super) kind: Kind,
    pub(super) owner: Owner,
    pub(super) attempts: u8,
    /// Its buffers, while no queue has them.
    pub(super) sgl: Sgl,
    /// While it is in flight as two commands.
    pub(super) pair: Option<Pair>,
    /// It waits until it can have no more effect, to be failed then.
    pub(super) in_doubt: bool,
}

impl Command {
    pub(super) fn new(sqe: Sqe, kind: Kind, owner: Owner, sgl: Sgl) -> Self {
        Self { sqe, kind, owner, attempts: 0, sgl, pair: None, in_doubt: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Command>>,
    free: Vec<u32>,
}

impl Table {
    /// Commands that can be inserted.
    pub(super) fn room(&self) -> usize {
        self.free.len() + COMMANDS_MAX - self.slots.len()
    }

    pub(super) fn insert(&mut self, command: Command) -> u32 {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(command);
            return index;
        }
        assert!(self.slots.len() < COMMANDS_MAX, "the caller asks for room first");
        self.slots.push(Some(command));
        self.slots.len() as u32 - 1
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Command {
        self.slots[index as usize].as_mut().expect("a command is in one place until it is over")
    }

    pub(super) fn remove(&mut self, index: u32) -> Command {
        let command = self.slots[index as usize].take().expect("a command ends once");
        self.free.push(index);
        command
    }
}
