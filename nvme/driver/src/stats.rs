//! What is counted: by each queue pair on its core, and by the controller on its own.

use reactor::stats::{Counter, Gauge, Histogram};

/// The counters of one queue pair. One writer: its core.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Commands written to the submission queue, repeated ones included.
    pub submitted: Counter,
    /// Completions that ended a command.
    pub completed: Counter,
    /// I/Os that ended without success.
    pub failed: Counter,
    /// Commands in flight.
    pub in_flight: Gauge,
    /// Submission queue tail doorbells written.
    pub submission_doorbells: Counter,
    /// Completion queue head doorbells written.
    pub completion_doorbells: Counter,
    /// Doorbells that the controller did not have to be told of, thanks to shadow doorbells.
    pub doorbells_saved: Counter,
    /// Completions of an earlier user of a command identifier.
    pub stale: Counter,
    /// Completions of a command that had been completed.
    pub duplicate: Counter,
    /// Completions that name no command or another queue.
    pub unknown: Counter,
    /// Commands that were not answered in time.
    pub timeouts: Counter,
    /// Aborts asked for.
    pub aborts: Counter,
    /// Commands sent again.
    pub retries: Counter,
    /// Commands that looked for the unreadable block of a failed read.
    pub probes: Counter,
    /// I/Os that were more than one command.
    pub long: Counter,
    /// Commands whose data was described by an SGL.
    pub sgl: Counter,
    /// Commands that ended because the controller was reset or lost.
    pub unanswered: Counter,
    /// From submission to completion of a command.
    pub latency: Histogram,
}

/// The counters of a controller and its health. One writer: its core.
#[derive(Debug, Default)]
pub struct ControllerStats {
    /// Admin commands.
    pub admin_commands: Counter,
    /// Admin commands that failed.
    pub admin_errors: Counter,
    /// Completions on the admin queue that no command waits for.
    pub admin_spurious: Counter,
    /// Asynchronous events.
    pub events: Counter,
    /// Events after which the next request had to wait, because there were too many.
    pub events_delayed: Counter,
    /// Abort commands sent.
    pub aborts: Counter,
    /// Controller resets.
    pub resets: Counter,
    /// Function-level resets.
    pub function_resets: Counter,
    /// Times that it was found removed.
    pub removals: Counter,
    /// Critical Warning of the health log page.
    pub critical_warning: Gauge,
    /// Composite Temperature in kelvins.
    pub temperature_kelvins: Gauge,
    /// Available Spare in percent.
    pub available_spare: Gauge,
    /// Available Spare Threshold in percent.
    pub available_spare_threshold: Gauge,
    /// Percentage Used.
    pub percentage_used: Gauge,
    /// Media and Data Integrity Errors.
    pub media_errors: Gauge,
    /// Unexpected power losses.
    pub unsafe_shutdowns: Gauge,
    /// Power cycles.
    pub power_cycles: Gauge,
}

const _: () = {
    const fn readable_by_any_thread<T: Send + Sync>() {}
    readable_by_any_thread::<QueueStats>();
    readable_by_any_thread::<ControllerStats>();
};
