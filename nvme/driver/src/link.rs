//! What a controller and its queue pairs tell each other, on one core or several: words with one writer each, no lock.
//!
//! ```text
//! controller:  Quiet ─▶ Running ─▶ Stopping ─▶ Quiet ─▶ Running …        each Stopping begins a new epoch
//!                          └──────▶ Stopping ─▶ Gone | Lost
//! queue pair:  sees Stopping: submits no more      sees Quiet: takes its buffers back, asks for its queue again
//! ```
//!
//! Only `Quiet`, `Running` and `Gone` of a later epoch prove that the controller touches nothing that an earlier epoch gave it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use reactor::wake::Waker;

use crate::limits::IO_QUEUES_MAX;

/// Where the controller stands, for its queue pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Disabled, or being set up: it touches no memory of a queue pair.
    Quiet = 0,
    /// It takes I/O.
    Running = 1,
    /// About to be disabled: nothing may be submitted, and it may still touch memory.
    Stopping = 2,
    /// Given up, and it touches no memory.
    Gone = 3,
    /// Given up, and nobody knows what it touches: what was lent to it is never used again.
    Lost = 4,
}

/// The controller's word: an epoch and where it stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) epoch: u64,
    pub(crate) standing: Standing,
}

impl Word {
    const fn pack(self) -> u64 {
        self.epoch << 3 | self.standing as u64
    }

    const fn unpack(value: u64) -> Self {
        let standing = match value & 0b111 {
            0 => Standing::Quiet,
            1 => Standing::Running,
            2 => Standing::Stopping,
            3 => Standing::Gone,
            _ => Standing::Lost,
        };
        Self { epoch: value >> 3, standing }
    }
}

/// A queue that is asked for: its rings are empty and will not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueRequest {
    pub(crate) epoch: u64,
    pub(crate) sq_iova: u64,
    pub(crate) cq_iova: u64,
    pub(crate) entries: u16,
    /// Interrupt vector, if completions shall raise one.
    pub(crate) vector: Option<u16>,
}

/// Why a queue pair wants the controller to be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    AbortTimeout = 1,
    Spurious = 2,
    InvalidCompletion = 3,
}

/// One queue pair's part. Epochs are stored plus one, so that 0 is none.
#[derive(Debug, Default)]
pub(crate) struct QueueCell {
    claimed: AtomicBool,
    // Written by the queue pair.
    sq_iova: AtomicU64,
    cq_iova: AtomicU64,
    entries_and_vector: AtomicU64,
    requested: AtomicU64,
    let_go: AtomicU64,
    /// Number of the abort in the upper bits, CID in the lower 16.
    abort: AtomicU64,
    complaint: AtomicU64,
    waker: OnceLock<Waker>,
    // Written by the controller.
    granted: AtomicU64,
    refused: AtomicU64,
    abort_taken: AtomicU64,
}

impl QueueCell {
    /// Asks for the queue in this epoch.
    pub(crate) fn request(&self, request: QueueRequest) {
        let vector = request.vector.map_or(0, |vector| u64::from(vector) + 1);
        self.sq_iova.store(request.sq_iova, Ordering::Relaxed);
        self.cq_iova.store(request.cq_iova, Ordering::Relaxed);
        self.entries_and_vector.store(u64::from(request.entries) | vector << 16, Ordering::Relaxed);
        self.requested.store(request.epoch + 1, Ordering::Release);
    }

    /// The queue that is asked for in this epoch and was neither granted nor refused.
    pub(crate) fn open_request(&self, epoch: u64) -> Option<QueueRequest> {
        let is = |cell: &AtomicU64| cell.load(Ordering::Acquire) == epoch + 1;
        if !is(&self.requested) || is(&self.granted) || is(&self.refused) {
            return None;
        }
        let packed = self.entries_and_vector.load(Ordering::Relaxed);
        Some(QueueRequest {
            epoch,
            sq_iova: self.sq_iova.load(Ordering::Relaxed),
            cq_iova: self.cq_iova.load(Ordering::Relaxed),
            entries: packed as u16,
            vector: u16::try_from(packed >> 16).ok().and_then(|vector| vector.checked_sub(1)),
        })
    }

    pub(crate) fn grant(&self, epoch: u64) {
        self.granted.store(epoch + 1, Ordering::Release);
        self.wake();
    }

    pub(crate) fn refuse(&self, epoch: u64) {
        self.refused.store(epoch + 1, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_granted(&self, epoch: u64) -> bool {
        self.granted.load(Ordering::Acquire) == epoch + 1
    }

    pub(crate) fn is_refused(&self, epoch: u64) -> bool {
        self.refused.load(Ordering::Acquire) == epoch + 1
    }

    /// The queue pair submits nothing more that belongs to an epoch before this one.
    pub(crate) fn let_go(&self, epoch: u64) {
        self.let_go.store(epoch + 1, Ordering::Release);
    }

    /// True when nobody submits on this queue any more.
    pub(crate) fn has_let_go(&self, epoch: u64) -> bool {
        !self.claimed.load(Ordering::Acquire)
            || self.requested.load(Ordering::Acquire) == 0
            || self.let_go.load(Ordering::Acquire) > epoch
    }

    /// Asks for the abort of a command. False while the one before was not taken.
    pub(crate) fn ask_abort(&self, cid: u16) -> bool {
        let number = self.abort.load(Ordering::Relaxed) >> 16;
        if self.abort_taken.load(Ordering::Acquire) != number {
            return false;
        }
        self.abort.store((number + 1) << 16 | u64::from(cid), Ordering::Release);
        true
    }

    /// The command that is to be aborted; asked for once.
    pub(crate) fn take_abort(&self) -> Option<u16> {
        let word = self.abort.load(Ordering::Acquire);
        if self.abort_taken.load(Ordering::Relaxed) == word >> 16 {
            return None;
        }
        self.abort_taken.store(word >> 16, Ordering::Release);
        Some(word as u16)
    }

    /// Asks for a reset in this epoch.
    pub(crate) fn complain(&self, epoch: u64, complaint: Complaint) {
        self.complaint.store((epoch + 1) << 2 | complaint as u64, Ordering::Release);
    }

    /// What this queue pair complains of in this epoch.
    pub(crate) fn complaint(&self, epoch: u64) -> Option<Complaint> {
        let word = self.complaint.load(Ordering::Acquire);
        if word >> 2 != epoch + 1 {
            return None;
        }
        match word & 0b11 {
            1 => Some(Complaint::AbortTimeout),
            2 => Some(Complaint::Spurious),
            3 => Some(Complaint::InvalidCompletion),
            _ => None,
        }
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        // A second queue pair of the same cell would be a bug that `claim` has excluded.
        let _ = self.waker.set(waker);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// Shared by a controller and its queue pairs.
#[derive(Debug)]
pub(crate) struct Link {
    word: AtomicU64,
    cells: [QueueCell; IO_QUEUES_MAX as usize],
    waker: Option<Waker>,
    /// Raised by a queue pair that wrote something for the controller to read.
    attention: AtomicU32,
}

impl Link {
    /// A controller that is not enabled. `waker` wakes the core that it lives on.
    pub(crate) fn new(waker: Option<Waker>) -> Self {
        Self {
            word: AtomicU64::new(Word { epoch: 0, standing: Standing::Quiet }.pack()),
            cells: std::array::from_fn(|_| QueueCell::default()),
            waker,
            attention: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    /// The controller's word changes; its queue pairs are woken to see it.
    pub(crate) fn set_word(&self, word: Word) {
        self.word.store(word.pack(), Ordering::Release);
        // The other half of `withdraw`: requests are read after this.
        fence(Ordering::SeqCst);
        self.cells.iter().for_each(QueueCell::wake);
    }

    #[inline]
    pub(crate) fn cell(&self, index: u16) -> &QueueCell {
        &self.cells[usize::from(index)]
    }

    /// Takes back what a queue pair asks for, for good; where the controller stands then. Unless that is `Running`, it will not
    /// begin to create the queue.
    pub(crate) fn withdraw(&self, index: u16) -> Word {
        self.cell(index).requested.store(0, Ordering::Relaxed);
        // The controller writes its word and then reads the request; here it is the other way round. Without a full fence on
        // both sides each could miss what the other wrote, and a queue would be created in memory that is somebody else's.
        fence(Ordering::SeqCst);
        self.word()
    }

    /// Takes the first free cell below `queues`.
    pub(crate) fn claim(&self, queues: u16) -> Option<u16> {
        let free = |index: &u16| {
            self.cell(*index)
                .claimed
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        (0..queues.min(IO_QUEUES_MAX)).find(free)
    }

    /// A queue pair wrote something into its cell.
    pub(crate) fn call(&self) {
        self.attention.fetch_add(1, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Changes whenever [`Link::call`] was called.
    #[inline]
    pub(crate) fn calls(&self) -> u32 {
        self.attention.load(Ordering::Acquire)
    }

    /// True when every queue pair has seen that `epoch` is stopping.
    pub(crate) fn all_let_go(&self, epoch: u64) -> bool {
        self.cells.iter().all(|cell| cell.has_let_go(epoch))
    }
}

const _: () = {
    const fn shared_by_cores<T: Send + Sync>() {}
    shared_by_cores::<Link>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for standing in
            [Standing::Quiet, Standing::Running, Standing::Stopping, Standing::Gone, Standing::Lost]
        {
            for epoch in [0, 1, 77, u64::MAX >> 3] {
                let word = Word { epoch, standing };
                assert_eq!(Word::unpack(word.pack()), word);
            }
        }
    }

    #[test]
    fn a_request_is_open_until_it_is_answered_in_its_epoch() {
        let link = Link::new(None);
        let index = link.claim(2).expect("two are free");
        let cell = link.cell(index);
        assert_eq!(cell.open_request(0), None);
        let request = QueueRequest { epoch: 0, sq_iova: 1, cq_iova: 2, entries: 4096, vector: Some(0) };
        cell.request(request);
        assert_eq!(cell.open_request(0), Some(request));
        assert_eq!(cell.open_request(1), None);
        cell.grant(0);
        assert!(cell.is_granted(0) && !cell.is_granted(1) && cell.open_request(0).is_none());
        cell.request(QueueRequest { epoch: 1, vector: None, ..request });
        assert_eq!(cell.open_request(1).map(|request| request.vector), Some(None));
        cell.refuse(1);
        assert!(cell.is_refused(1) && cell.open_request(1).is_none());
        assert_eq!((link.claim(2), link.claim(2)), (Some(1), None));
    }

    #[test]
    fn what_was_withdrawn_is_not_created_and_holds_nobody_up() {
        let link = Link::new(None);
        let index = link.claim(1).expect("one is free");
        let cell = link.cell(index);
        cell.request(QueueRequest { epoch: 0, sq_iova: 1, cq_iova: 2, entries: 4, vector: None });
        assert!(cell.open_request(0).is_some() && !link.all_let_go(0));
        assert_eq!(link.withdraw(index), Word { epoch: 0, standing: Standing::Quiet });
        link.set_word(Word { epoch: 0, standing: Standing::Running });
        assert!(cell.open_request(0).is_none() && link.all_let_go(0) && link.all_let_go(1));
        assert_eq!(link.withdraw(index), Word { epoch: 0, standing: Standing::Running });
    }

    #[test]
    fn an_abort_is_taken_once_and_only_one_waits() {
        let cell = QueueCell::default();
        assert_eq!(cell.take_abort(), None);
        assert!(cell.ask_abort(7) && !cell.ask_abort(8));
        assert_eq!((cell.take_abort(), cell.take_abort()), (Some(7), None));
        assert!(cell.ask_abort(0));
        assert_eq!(cell.take_abort(), Some(0));
    }

    #[test]
    fn a_queue_that_was_never_asked_for_holds_nobody_up() {
        let link = Link::new(None);
        assert!(link.all_let_go(0));
        let index = link.claim(1).expect("one is free");
        assert!(link.all_let_go(0));
        link.cell(index).request(QueueRequest { epoch: 0, sq_iova: 0, cq_iova: 0, entries: 2, vector: None });
        assert!(!link.all_let_go(1));
        link.cell(index).let_go(1);
        assert!(link.all_let_go(1) && !link.all_let_go(2));
        assert_eq!(link.cell(index).complaint(0), None);
        link.cell(index).complain(0, Complaint::Spurious);
        assert_eq!(link.cell(index).complaint(0), Some(Complaint::Spurious));
        assert_eq!(link.cell(index).complaint(1), None);
    }
}
