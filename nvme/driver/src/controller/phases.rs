//! From phase to phase: start, reset, function reset, shutdown, removal, and giving up.

use nvme_spec::register::{
    ACQ, AQA, ASQ, AdminQueueAttributes, CAP, CC, CSTS, Capabilities, Configuration, ControllerStatus,
    SHN_NORMAL, SHST_COMPLETE,
};
use reactor::time::Time;

use super::{Controller, ControllerEvent, End, Goal, Phase, after_ms};
use crate::device::{Device, DeviceError};
use crate::error::{Change, Fault, ResetCause};
use crate::info::Abilities;
use crate::limits::{
    ADMIN_QUEUE_ENTRIES, FUNCTION_RESET_TIMEOUT_MS, LET_GO_MS, READY_TIMEOUT_MS_MAX,
    RESETS_BEFORE_FUNCTION_RESET, RESETS_MAX, SHUTDOWN_TIMEOUT_MS_MAX, SHUTDOWN_TIMEOUT_MS_MIN,
};
use crate::link::Standing;

impl<D: Device> Controller<D> {
    /// Begins to bring it up; or again, after it has ended. It must be who it was, and so must its namespaces; those handed out
    /// before stay gone.
    pub fn start(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Idle | Phase::Ended(_)) {
            return;
        }
        self.goal = Goal::Run;
        self.strikes = 0;
        self.look_at = now;
        let cap = self.device.read_u64(CAP);
        if cap == u64::MAX {
            return self.on_removed(now);
        }
        match Abilities::new(Capabilities(cap), self.device.registers_bytes()) {
            Err(unsuitable) => return self.give_up(Fault::Unsuitable(unsuitable)),
            Ok(abilities) if self.abilities.is_some_and(|before| before != abilities) => {
                return self.give_up(Fault::Changed(Change::Capabilities));
            }
            Ok(abilities) => self.abilities = Some(abilities),
        }
        self.epoch += 1;
        self.disable(now);
    }

    /// Resets it. I/O that it has goes out again once it is ready.
    pub fn reset(&mut self, now: Time) {
        if matches!(self.phase, Phase::Ready) {
            // Not a strike: nothing was wrong with it.
            self.strikes = 0;
            self.begin_reset(now, ResetCause::Asked);
        }
    }

    /// Shuts it down. The owner has stopped its I/O before; what is still there ends as gone.
    pub fn shutdown(&mut self, now: Time) {
        match self.phase {
            Phase::Idle => self.end(End::ShutDown { clean: true }),
            Phase::Ended(_) => {}
            Phase::ShuttingDown { .. } => {}
            Phase::Ready | Phase::Starting => {
                self.goal = Goal::ShutDown { clean: false };
                self.let_go(now);
            }
            // On its way to be disabled or enabled: there it ends.
            _ => self.goal = Goal::ShutDown { clean: false },
        }
    }

    pub(super) fn begin_reset(&mut self, now: Time, cause: ResetCause) {
        if !matches!(self.phase, Phase::Starting | Phase::Ready | Phase::Enabling { .. }) {
            return;
        }
        self.last_cause = cause;
        self.lost_state |= matches!(cause, ResetCause::NotReady | ResetCause::TakenOver);
        self.strikes += 1;
        self.tell(ControllerEvent::Reset(cause));
        if self.strikes > RESETS_MAX {
            return self.give_up(Fault::TooManyResets { resets: RESETS_MAX, last: cause });
        }
        self.stats.resets.add(1);
        self.let_go(now);
    }

    fn let_go(&mut self, now: Time) {
        self.epoch += 1;
        self.set_standing(Standing::Stopping);
        self.phase = Phase::LettingGo { until: after_ms(now, LET_GO_MS) };
        self.look_at = now;
    }

    /// A queue pair of another core may be slow; disabling the controller stops what it does as well.
    pub(super) fn poll_letting_go(&mut self, now: Time, until: Time) {
        if !self.link.all_let_go(self.epoch) && now < until {
            self.look_at = now;
            return;
        }
        if let Goal::ShutDown { .. } = self.goal
            && self.device.read_u32(CSTS) != u32::MAX
        {
            let cc = Configuration(self.device.read_u32(CC)).with_shn(SHN_NORMAL);
            self.device.write_u32(CC, cc.0);
            let wanted_ms = self.info.as_ref().map_or(0, |info| u64::from(info.shutdown_us) / 1000);
            let timeout_ms = wanted_ms.clamp(SHUTDOWN_TIMEOUT_MS_MIN, SHUTDOWN_TIMEOUT_MS_MAX);
            self.phase = Phase::ShuttingDown { until: after_ms(now, timeout_ms) };
            self.look_at = now;
            return;
        }
        self.disable(now);
    }

    /// CC.EN to 0. From RDY 0 on the controller touches no memory.
    fn disable(&mut self, now: Time) {
        let cc = Configuration(self.device.read_u32(CC));
        self.device.write_u32(CC, cc.with_en(0).0);
        self.phase = Phase::Disabling { until: self.ready_until(now) };
        self.look_at = now;
    }

    fn ready_until(&self, now: Time) -> Time {
        let claimed_ms = self.abilities.map_or(0, |abilities| abilities.ready_timeout_ms);
        after_ms(now, claimed_ms.min(READY_TIMEOUT_MS_MAX))
    }

    pub(super) fn on_disabling(&mut self, now: Time, status: ControllerStatus, until: Time) {
        if status.rdy() == 1 {
            if now >= until {
                self.begin_function_reset(now);
            }
            return;
        }
        if self.strikes > RESETS_BEFORE_FUNCTION_RESET && self.goal == Goal::Run {
            return self.begin_function_reset(now);
        }
        self.on_quiet(now);
    }

    fn begin_function_reset(&mut self, now: Time) {
        self.stats.function_resets.add(1);
        match self.device.begin_function_reset() {
            Ok(()) => {
                self.phase = Phase::FunctionReset { until: after_ms(now, FUNCTION_RESET_TIMEOUT_MS) };
                self.look_at = now;
            }
            Err(DeviceError::Removed) => self.on_removed(now),
            Err(error) => self.give_up(Fault::Device(error)),
        }
    }

    pub(super) fn poll_function_reset(&mut self, now: Time, until: Time) {
        match self.device.poll_function_reset() {
            Some(Ok(())) => self.on_quiet(now),
            Some(Err(DeviceError::Removed)) => self.on_removed(now),
            Some(Err(error)) => self.give_up(Fault::Device(error)),
            None if now >= until => self.give_up(Fault::NotReset),
            None => {}
        }
    }

    /// The controller touches nothing: what was lent to it may be taken back, and it can be enabled.
    fn on_quiet(&mut self, now: Time) {
        self.forget_commands();
        if let Goal::ShutDown { clean } = self.goal {
            return match self.device.set_bus_master(false) {
                Ok(()) | Err(DeviceError::Removed) => self.end(End::ShutDown { clean }),
                // It is disabled, which is what matters.
                Err(_) => self.end(End::ShutDown { clean: false }),
            };
        }
        self.set_standing(Standing::Quiet);
        match self.device.set_bus_master(true) {
            Ok(()) => self.enable(now),
            Err(DeviceError::Removed) => self.on_removed(now),
            Err(error) => self.give_up(Fault::Device(error)),
        }
    }

    /// Nothing of what was sent will be answered.
    fn forget_commands(&mut self) {
        self.admin().reset();
        self.jobs.clear();
        (self.current, self.creating, self.scan) = (None, None, None);
        (self.aborts_open, self.seen_calls) = (0, None);
        self.shadow_on.set(false);
        // The doorbells of queues that are gone must not be taken for those of new ones.
        for page in self.shadow_pages.iter().flat_map(|(values, events)| [values, events]) {
            page.memory().zero(0, page.memory().len());
        }
        self.events.forget();
    }

    fn enable(&mut self, now: Time) {
        let (asq, acq) = self.admin().addresses();
        let entries = u32::from(ADMIN_QUEUE_ENTRIES) - 1;
        let aqa = AdminQueueAttributes::default().with_asqs(entries).with_acqs(entries);
        let css = self.abilities.map_or(0, |abilities| abilities.css);
        let cc = Configuration::default().with_css(css).with_iosqes(6).with_iocqes(4).with_en(1);
        if self.abilities.is_some_and(|abilities| abilities.subsystem_reset) {
            // Written as 1 it is cleared, so that the next one is seen.
            self.device.write_u32(CSTS, ControllerStatus::default().with_nssro(1).0);
        }
        self.device.write_u32(AQA, aqa.0);
        self.device.write_u64(ASQ, asq);
        self.device.write_u64(ACQ, acq);
        self.device.write_u32(CC, cc.0);
        self.phase = Phase::Enabling { until: self.ready_until(now) };
        self.look_at = now;
    }

    pub(super) fn on_enabling(&mut self, now: Time, status: ControllerStatus, until: Time) {
        if status.cfs() == 1 {
            return self.begin_reset(now, ResetCause::ControllerFatal);
        }
        if let Goal::ShutDown { .. } = self.goal {
            // Nothing was written since it was enabled, but before that perhaps: its cache was not told to go.
            self.goal = Goal::ShutDown { clean: !self.was_ready };
            return self.disable(now);
        }
        if status.rdy() == 1 {
            self.phase = Phase::Starting;
            self.ready_status = status;
            self.begin_starting();
        } else if now >= until {
            self.begin_reset(now, ResetCause::ReadyTimeout);
        }
    }

    /// A look at a controller that has our queues, or had them.
    pub(super) fn on_working(&mut self, now: Time, status: ControllerStatus) {
        if status.cfs() == 1 {
            self.begin_reset(now, ResetCause::ControllerFatal);
        } else if status.rdy() == 0 {
            self.begin_reset(now, ResetCause::NotReady);
        } else if self.is_taken_over(status) {
            self.begin_reset(now, ResetCause::TakenOver);
        }
    }

    /// Ready does not mean that it is still ours. Who resets a controller may enable it again between two looks, with queues of
    /// his own or none; a shutdown of the subsystem, asked for through another controller, leaves RDY alone; and a reset of the
    /// subsystem leaves its mark (Base 3.1.4.6, 3.6.3, 3.7).
    fn is_taken_over(&self, status: ControllerStatus) -> bool {
        let marks = |status: ControllerStatus| (status.shst(), status.nssro());
        let found = self.device.read_u64(ASQ);
        let expected = self.admin.as_ref().map(|admin| admin.addresses().0);
        // All ones: it was pulled out just now, which the next look tells.
        marks(status) != marks(self.ready_status) || found != u64::MAX && Some(found) != expected
    }

    pub(super) fn on_shutting_down(&mut self, now: Time, status: ControllerStatus, until: Time) {
        if status.shst() == SHST_COMPLETE {
            self.goal = Goal::ShutDown { clean: true };
        } else if now < until {
            return;
        }
        self.disable(now);
    }

    /// It reads all ones: pulled out, or its function does not answer any more. It is not read again.
    pub(super) fn on_removed(&mut self, _now: Time) {
        self.stats.removals.add(1);
        self.end_after_stop(End::Removed);
    }

    pub(super) fn give_up(&mut self, fault: Fault) {
        self.end_after_stop(End::Faulted(fault));
    }

    fn end_after_stop(&mut self, end: End) {
        let is_stopped = match self.device.set_bus_master(false) {
            Ok(()) | Err(DeviceError::Removed) => true,
            Err(_) => false,
        };
        self.forget_commands();
        self.epoch += 1;
        self.end_namespaces();
        self.set_standing(if is_stopped { Standing::Gone } else { Standing::Lost });
        self.phase = Phase::Ended(end);
        self.tell(ControllerEvent::Ended(end));
    }

    fn end(&mut self, end: End) {
        self.end_namespaces();
        self.set_standing(Standing::Gone);
        self.phase = Phase::Ended(end);
        self.tell(ControllerEvent::Ended(end));
    }

    /// Without waiting: disabled, and bus mastering off. True when it touches no memory any more.
    pub(super) fn stop_for_good(&mut self) -> bool {
        let cc = self.device.read_u32(CC);
        if cc != u32::MAX {
            self.device.write_u32(CC, Configuration(cc).with_en(0).0);
        }
        let is_stopped = matches!(self.device.set_bus_master(false), Ok(()) | Err(DeviceError::Removed));
        self.epoch += 1;
        self.end_namespaces();
        self.set_standing(if is_stopped { Standing::Gone } else { Standing::Lost });
        is_stopped
    }
}
