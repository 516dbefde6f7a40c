//! What became of namespaces that drives were asked to open: each with the number that its request was given.

use std::sync::mpsc;

use control::bridge::PlaneError;
use volume::shared::Answer;

use super::message::OpenedNamespace;

type Opened = Result<OpenedNamespace, PlaneError>;

/// The answers to one kind of request.
pub(crate) struct Inbox {
    next_number: u64,
    sender: mpsc::Sender<(u64, Opened)>,
    receiver: mpsc::Receiver<(u64, Opened)>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { next_number: 0, sender, receiver }
    }
}

impl Inbox {
    /// A number for a request; none is given twice.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Where the answer to request `number` goes.
    pub(crate) fn answer(&self, number: u64) -> Answer<Opened> {
        let sender = self.sender.clone();
        // The receiver is as old as the core.
        Box::new(move |result| drop(sender.send((number, result))))
    }

    /// The next answer, and whose it is.
    pub(crate) fn take(&self) -> Option<(u64, Opened)> {
        self.receiver.try_recv().ok()
    }
}
