//! Background operations of logical units: SANITIZE, step by step beside everything else.
//!
//! An operation belongs to its logical unit. It is driven here, one I/O at a time and no faster than
//! [`BACKGROUND_BYTES_PER_SECOND`], so that the other volumes of the core and of the disk below hardly
//! notice. While it runs its way into the volume is the only one, so that another protocol neither meets half of it nor
//! loses a write to it. It ends early only with its volume (removed, or the core shuts down): then nobody is told
//! that it has ended.

use std::time::Duration;

use reactor::poller::Progress;
use reactor::time::Time;
use scsi::{Background, Response};
use volume::bdev::{Done, Op};

use crate::core::TargetCore;
use crate::limits::{
    BACKGROUND_BYTES_PER_SECOND, BACKGROUND_PAUSE, BACKGROUND_STEPS_PER_TURN, BACKGROUND_UNMAP_COST_BYTES,
};
use crate::slots::Key;
use crate::state::TaskPhase;

/// The tag of a background I/O: no key has this number, a table never gets that full.
pub(crate) const BACKGROUND_TAG: u64 = (1 << 56) - 1;

/// The background operation of one disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackgroundRun {
    disk: Key,
    /// Its next step does not come before.
    at: Time,
    io_is_out: bool,
}

impl TargetCore {
    /// The logical unit of a disk has begun an operation.
    pub(crate) fn begin_background(&mut self, disk: Key) {
        assert!(self.background.iter().all(|run| run.disk != disk), "a unit has one operation at a time");
        self.background.push(BackgroundRun { disk, at: self.core.clock.now(), io_is_out: false });
    }

    /// Goes on with every operation whose time has come.
    pub(crate) fn run_background(&mut self, now: Time) -> Progress {
        let mut progress = Progress::Idle;
        let mut index = 0;
        while let Some(run) = self.background.get(index).copied() {
            if run.io_is_out {
                index += 1;
                continue;
            }
            let disk = self.disks.get(run.disk);
            if disk.is_none_or(|disk| disk.leaving) || self.is_draining() {
                self.background.swap_remove(index);
                continue;
            }
            if run.at <= now {
                progress = Progress::Busy;
                if self.step_background(index, now) {
                    // Another one is at this place now.
                    continue;
                }
            }
            index += 1;
        }
        progress
    }

    /// When the next step of an operation is due.
    pub(crate) fn background_deadline(&self) -> Time {
        let waiting = self.background.iter().filter(|run| !run.io_is_out);
        waiting.map(|run| run.at).min().unwrap_or(Time::NEVER)
    }

    /// The background I/O of a disk has come home.
    pub(crate) fn on_background_io(&mut self, disk_key: Key, done: Done) {
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its I/O");
        disk.unit.background_done(done);
        let run = self.background.iter_mut().find(|run| run.disk == disk_key);
        run.expect("an operation stays in the list while its I/O is out").io_is_out = false;
    }

    /// Takes the next steps of an operation, as many as one turn may take. True when it has ended.
    fn step_background(&mut self, index: usize, now: Time) -> bool {
        let disk_key = self.background[index].disk;
        for _ in 0..BACKGROUND_STEPS_PER_TURN {
            let disk = self.disks.get_mut(disk_key).expect("looked up by the caller");
            let io = match disk.unit.background(BACKGROUND_TAG, &self.core.buffers) {
                Background::Io(io) => io,
                Background::Wait => {
                    self.background[index].at = now.after(BACKGROUND_PAUSE);
                    return false;
                }
                Background::End(answer) => {
                    disk.port.let_others_in();
                    self.background.swap_remove(index);
                    if let Some((task, response)) = answer {
                        self.end_background_task(Key::from_u64(task), response);
                    }
                    return true;
                }
            };
            let pause = pause_after(&io.op, io.sgl.len() as u64);
            self.background[index].at = now.after(pause);
            match disk.port.submit(io) {
                Some(done) => disk.unit.background_done(done),
                None => {
                    self.background[index].io_is_out = true;
                    self.busy_disk(disk_key);
                    return false;
                }
            }
            if pause > Duration::ZERO {
                return false;
            }
        }
        false
    }

    /// Answers the command that waited for the end, unless it was aborted.
    fn end_background_task(&mut self, key: Key, response: Response) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        assert!(matches!(task.phase, TaskPhase::Background), "the task waits for this");
        task.phase = TaskPhase::Running;
        self.send_response(key, response);
    }
}

/// How long an operation pauses after an I/O, so that it keeps its speed.
fn pause_after(op: &Op, payload_bytes: u64) -> Duration {
    let cost_bytes = match op {
        Op::Unmap(_) => BACKGROUND_UNMAP_COST_BYTES,
        _ => payload_bytes,
    };
    Duration::from_nanos(cost_bytes * 1_000_000_000 / BACKGROUND_BYTES_PER_SECOND)
}
