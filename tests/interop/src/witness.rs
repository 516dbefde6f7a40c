//! A well-behaved peer on its own thread: it writes, reads back and compares without a pause while something else happens, and
//! counts. "Others are not stalled" is asserted in its completions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::failure::{Failure, Outcome, ensure};
use crate::limits;
use crate::process::eventually;

/// Slots that are written or read at once.
pub const DEPTH: usize = 8;
/// A slot.
pub const IO_BYTES: usize = 4096;
/// Slots at most.
pub const SLOTS_MAX: u64 = 1024;

/// What a slot holds after its `turn`.
pub fn content(turn: u64) -> Vec<u8> {
    turn.to_le_bytes().repeat(IO_BYTES / 8)
}

/// The thread and its counter.
#[derive(Debug)]
pub struct Witness {
    pace: Pace,
    thread: Option<JoinHandle<Outcome>>,
}

/// What the work on the thread is told, and what it tells.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    stop: Arc<AtomicBool>,
    completions: Arc<AtomicU64>,
}

impl Pace {
    /// True when nothing new is to begin.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One more I/O was right.
    pub fn completed(&self) {
        self.completions.fetch_add(1, Ordering::Relaxed);
    }
}

impl Witness {
    /// Starts `work`, which goes on until it is told that it is over.
    pub fn spawn(work: impl FnOnce(&Pace) -> Outcome + Send + 'static) -> Self {
        let pace = Pace::default();
        let theirs = pace.clone();
        Self { pace, thread: Some(std::thread::spawn(move || work(&theirs))) }
    }

    fn count(&self) -> u64 {
        self.pace.completions.load(Ordering::Relaxed)
    }

    /// True when it stopped by itself: something was wrong with its I/O.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Fails unless `more` completions come from now on.
    pub fn ensure_progress(&self, more: u64) -> Outcome {
        let goal = self.count() + more;
        eventually(limits::STATE_PATIENCE, "the witness makes progress", || {
            ensure(!self.has_ended() || self.count() >= goal, || "the witness ended".to_owned())?;
            Ok(self.count() >= goal)
        })
    }

    /// Ends the I/O; fails if anything was wrong with it.
    pub fn finish(mut self) -> Outcome {
        self.pace.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread
            .join()
            .unwrap_or_else(|_| Err(Failure::new("panicked")))
            .map_err(|failure| failure.within("the witness"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.pace.stop.store(true, Ordering::Relaxed);
    }
}
