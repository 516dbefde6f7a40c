//! Admin commands, one job after the other: the start-up, and what events and time ask for later.

use nvme_spec::admin::{GetLogPage, Identify};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::{EventConfiguration, FeatureId, NumberOfQueues, VWC_ENABLE};
use nvme_spec::identify::{Cns, CommandSet};
use nvme_spec::log::{ErrorInformation, LogPageId, SmartHealth};
use nvme_spec::queue::{DoorbellBufferConfig, completion_shadow};
use nvme_spec::{AdminOpcode, Cqe, NSID_ALL, Sqe};
use reactor::time::Time;
use zerocopy::FromBytes;

use super::{Controller, ControllerEvent, Phase, after_ms};
use crate::admin::Answer;
use crate::device::Device;
use crate::error::{Fault, Refusal, ResetCause};
use crate::info::ControllerInfo;
use crate::limits::{ERROR_ENTRIES_MAX, PAGE_BYTES, SPURIOUS_MAX};
use crate::link::Standing;

/// What an admin command is for. All but events, aborts and queues are done one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    IdentifyController,
    IdentifyCommandSet,
    NumberOfQueues,
    EventConfiguration,
    DoorbellBuffer,
    WriteCache,
    Smart,
    Firmware,
    Errors,
    ChangedNamespaces,
    NamespaceList,
    Namespace(u32),
    Descriptors(u32),
    /// Asynchronous Event Request: answered when something happens, so without a deadline.
    Event,
    Abort,
    CreateCompletionQueue(u16),
    CreateSubmissionQueue(u16),
}

impl Job {
    fn has_data(self) -> bool {
        !matches!(
            self,
            Self::NumberOfQueues
                | Self::EventConfiguration
                | Self::DoorbellBuffer
                | Self::WriteCache
                | Self::Event
                | Self::Abort
                | Self::CreateCompletionQueue(_)
                | Self::CreateSubmissionQueue(_)
        )
    }

    /// A controller without these is of no use.
    fn is_needed(self) -> bool {
        matches!(self, Self::IdentifyController | Self::NumberOfQueues | Self::NamespaceList)
    }

    fn is_in_line(self) -> bool {
        !matches!(
            self,
            Self::Event | Self::Abort | Self::CreateCompletionQueue(_) | Self::CreateSubmissionQueue(_)
        )
    }
}

fn log_page(lid: LogPageId, length_bytes: u64) -> Sqe {
    GetLogPage { lid, length_bytes, nsid: NSID_ALL, ..GetLogPage::default() }.sqe()
}

fn identify(cns: Cns, nsid: u32) -> Sqe {
    Identify { cns, nsid, ..Identify::default() }.sqe()
}

impl<D: Device> Controller<D> {
    pub(super) fn begin_starting(&mut self) {
        self.add_job(Job::IdentifyController);
    }

    /// Adds a job, unless it waits already.
    pub(super) fn add_job(&mut self, job: Job) {
        if !self.jobs.contains(&job) {
            self.jobs.push_back(job);
        }
    }

    /// Sends the next job, when the one before is over.
    pub(super) fn pump_jobs(&mut self, now: Time) {
        if self.current.is_some() {
            return;
        }
        let Some(&job) = self.jobs.front() else {
            if self.phase == Phase::Starting {
                self.become_ready(now);
            }
            return;
        };
        let sqe = self.command_of(job);
        if self.send(now, job, sqe) {
            self.jobs.pop_front();
            self.current = Some(job);
        }
    }

    fn command_of(&self, job: Job) -> Sqe {
        match job {
            Job::IdentifyController => identify(Cns::CONTROLLER, 0),
            Job::IdentifyCommandSet => {
                Identify { cns: Cns::COMMAND_SET_CONTROLLER, csi: CommandSet::NVM, ..Identify::default() }
                    .sqe()
            }
            Job::NumberOfQueues => {
                let queues = u32::from(self.queues_wanted());
                let value = NumberOfQueues { submission: queues, completion: queues }.dword();
                Sqe::set_features(FeatureId::NUMBER_OF_QUEUES, 0, value)
            }
            Job::EventConfiguration => {
                let value = self.wanted_events().0;
                Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, value)
            }
            Job::DoorbellBuffer => {
                let pages = self.shadow_pages.as_ref().expect("asked for only with pages");
                DoorbellBufferConfig { shadow: pages.0.iova(), event_index: pages.1.iova() }.sqe()
            }
            Job::WriteCache => Sqe::get_features(FeatureId::VOLATILE_WRITE_CACHE, 0, Default::default()),
            Job::Smart => log_page(LogPageId::SMART, size_of::<SmartHealth>() as u64),
            Job::Firmware => log_page(LogPageId::FIRMWARE_SLOT, 512),
            Job::Errors => {
                let entries = self.info.as_ref().map_or(1, |info| u64::from(info.error_entries));
                log_page(LogPageId::ERROR, entries.min(ERROR_ENTRIES_MAX as u64) * 64)
            }
            Job::ChangedNamespaces => log_page(LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST, PAGE_BYTES as u64),
            Job::NamespaceList => identify(Cns::ACTIVE_NAMESPACE_LIST, 0),
            Job::Namespace(nsid) => identify(Cns::NAMESPACE, nsid),
            Job::Descriptors(nsid) => identify(Cns::NAMESPACE_DESCRIPTOR_LIST, nsid),
            Job::Event => Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST),
            Job::Abort | Job::CreateCompletionQueue(_) | Job::CreateSubmissionQueue(_) => {
                unreachable!("built where they are sent")
            }
        }
    }

    /// Sends a command; false when the admin queue has no room.
    pub(super) fn send(&mut self, now: Time, job: Job, sqe: Sqe) -> bool {
        let deadline = if job == Job::Event { Time::NEVER } else { now.after(self.config.timeouts.admin) };
        let sent = self.admin().send(job, sqe, job.has_data(), deadline);
        if sent {
            self.stats.admin_commands.add(1);
        }
        sent
    }

    /// Shadow doorbells lie as far apart as the doorbells themselves, on one page.
    fn shadows_fit(&self) -> bool {
        let stride = self.abilities.map_or(0, |abilities| abilities.doorbell_stride);
        completion_shadow(self.queues_wanted(), stride) + size_of::<u32>() <= PAGE_BYTES
    }

    fn queues_wanted(&self) -> u16 {
        let fit = self.abilities.map_or(1, |abilities| abilities.queues_max);
        self.config.io_queues.clamp(1, crate::limits::IO_QUEUES_MAX).min(fit)
    }

    fn wanted_events(&self) -> EventConfiguration {
        let wanted = EventConfiguration::SMART
            .with(EventConfiguration::NAMESPACE_ATTRIBUTE)
            .with(EventConfiguration::FIRMWARE_ACTIVATION);
        let offered = self.info.as_ref().map_or(0, |info| info.events.0);
        // OAES does not speak of the critical warnings; every controller has them.
        EventConfiguration(wanted.0 & (offered | EventConfiguration::SMART.0))
    }

    pub(super) fn on_admin_spurious(&mut self, now: Time) {
        self.stats.admin_spurious.add(1);
        self.events.spurious += 1;
        if self.events.spurious >= SPURIOUS_MAX {
            self.begin_reset(now, ResetCause::Spurious);
        }
    }

    pub(super) fn on_answer(&mut self, now: Time, answer: Answer<Job>) {
        let (job, status) = (answer.purpose, answer.cqe.status());
        if !status.is_success() {
            self.stats.admin_errors.add(1);
        }
        match job {
            Job::Event => return self.on_event(now, &answer.cqe),
            Job::Abort => return self.on_abort_answer(),
            Job::CreateCompletionQueue(index) => return self.on_completion_queue(now, index, &answer.cqe),
            Job::CreateSubmissionQueue(index) => return self.on_submission_queue(index, &answer.cqe),
            _ => debug_assert!(job.is_in_line()),
        }
        // An answer that does not belong to the job under way cannot be: the admin queue checks identifiers.
        assert_eq!(self.current.take(), Some(job), "one job at a time");
        if status.is_success() {
            self.on_job(now, job, &answer);
        } else if job.is_needed() && self.phase == Phase::Starting {
            self.begin_reset(now, ResetCause::AdminStatus(status));
        } else {
            self.on_job_failed(job);
        }
    }

    fn on_job(&mut self, now: Time, job: Job, answer: &Answer<Job>) {
        match job {
            Job::IdentifyController => self.on_identify_controller(answer),
            Job::IdentifyCommandSet => {
                let data = self.admin().data(answer);
                if let Some(info) = &mut self.info {
                    info.add_command_set(&data);
                }
            }
            Job::NumberOfQueues => {
                // A count less one cannot say "none", so at least one was granted.
                let granted = NumberOfQueues::of(answer.cqe.dw0.get());
                let granted = granted.submission.min(granted.completion);
                self.queues_granted = self.queues_wanted().min(u16::try_from(granted).unwrap_or(u16::MAX));
            }
            Job::DoorbellBuffer => self.shadow_on.set(true),
            Job::WriteCache => self.on_write_cache(&answer.cqe),
            Job::Smart => self.on_smart(answer),
            Job::Firmware => self.pages.firmware = Some(self.admin().data(answer)),
            Job::Errors => self.on_errors(answer),
            // Reading it was what mattered: the list of active namespaces tells the rest.
            Job::ChangedNamespaces => self.add_job(Job::NamespaceList),
            Job::NamespaceList => self.on_namespace_list(now, answer),
            Job::Namespace(nsid) => self.on_namespace(now, nsid, answer),
            Job::Descriptors(nsid) => self.on_descriptors(now, nsid, Some(answer)),
            _ => {}
        }
    }

    fn on_job_failed(&mut self, job: Job) {
        match job {
            Job::Smart => self.check_power(None),
            Job::NamespaceList => self.scan = None,
            Job::Namespace(nsid) => self.on_namespace_failed(nsid),
            Job::Descriptors(nsid) => self.on_descriptors(Time::ZERO, nsid, None),
            // Without it, the cache is taken to be on.
            _ => {}
        }
    }

    fn on_identify_controller(&mut self, answer: &Answer<Job>) {
        let identify = self.admin().data(answer);
        let info = match ControllerInfo::new(&identify) {
            Ok(info) => info,
            Err(unsuitable) => return self.give_up(Fault::Unsuitable(unsuitable)),
        };
        self.pages.controller = Some(identify);
        if let Some(change) = self.known.as_ref().and_then(|known| info.change_since(known)) {
            return self.give_up(Fault::Changed(change));
        }
        let (cache, doorbells) = (info.volatile_write_cache, info.doorbell_buffer);
        self.info = Some(info);
        self.add_job(Job::IdentifyCommandSet);
        self.add_job(Job::NumberOfQueues);
        self.add_job(Job::EventConfiguration);
        if doorbells && self.shadow_pages.is_some() && self.shadows_fit() {
            self.add_job(Job::DoorbellBuffer);
        }
        if cache {
            self.add_job(Job::WriteCache);
        }
        for job in [Job::Smart, Job::Firmware, Job::Errors, Job::NamespaceList] {
            self.add_job(job);
        }
    }

    /// A cache that is switched off holds nothing.
    fn on_write_cache(&mut self, cqe: &Cqe) {
        if let Some(info) = &mut self.info {
            info.volatile_write_cache = cqe.dw0.get() & VWC_ENABLE != 0;
        }
    }

    fn become_ready(&mut self, now: Time) {
        self.known.get_or_insert(self.info.clone().expect("identified before it is ready"));
        self.phase = Phase::Ready;
        (self.ready_at, self.was_ready, self.lost_state) = (now, true, false);
        self.look_at = now;
        self.health_at = now.after(self.config.health_interval);
        self.power_mark = self.pages.smart.as_deref().map(power_marks);
        self.set_standing(Standing::Running);
        self.tell(ControllerEvent::Ready);
        self.events.begin(self.info.as_ref().map_or(1, |info| info.event_requests), after_ms(now, 0));
    }

    fn on_smart(&mut self, answer: &Answer<Job>) {
        let smart: Box<SmartHealth> = self.admin().data(answer);
        let small = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        let stats = &self.stats;
        stats.critical_warning.set(smart.critical_warning.into());
        stats.temperature_kelvins.set(smart.composite_temperature_kelvins.get().into());
        stats.available_spare.set(smart.available_spare.into());
        stats.available_spare_threshold.set(smart.available_spare_threshold.into());
        stats.percentage_used.set(smart.percentage_used.into());
        stats.media_errors.set(small(smart.media_errors.get()));
        stats.unsafe_shutdowns.set(small(smart.unsafe_shutdowns.get()));
        stats.power_cycles.set(small(smart.power_cycles.get()));
        let before = self.pages.smart.as_ref().map_or(0, |smart| smart.critical_warning);
        if before != smart.critical_warning {
            self.tell(ControllerEvent::CriticalWarning(smart.critical_warning));
        }
        if self.phase == Phase::Starting {
            self.check_power(Some(power_marks(&smart)));
        }
        self.pages.smart = Some(smart);
    }

    /// After a reset: did the power fail meanwhile, and with it the volatile cache? Then acknowledged writes may be gone, and a
    /// flush that succeeds now would say otherwise.
    fn check_power(&mut self, found: Option<(u128, u128)>) {
        let has_cache = self.known.as_ref().is_some_and(|known| known.volatile_write_cache);
        if self.phase != Phase::Starting || !self.was_ready || !has_cache {
            return;
        }
        let is_lost = match (self.power_mark, found) {
            (Some(before), Some(found)) => before != found,
            // Nobody counts: a controller that lost its state by itself is taken at its worst.
            _ => self.lost_state,
        };
        if is_lost {
            self.refuse_all(Refusal::CacheLost);
        }
    }

    fn on_errors(&mut self, answer: &Answer<Job>) {
        let bytes = self.admin().bytes(answer);
        let entries =
            bytes.chunks_exact(64).filter_map(|entry| ErrorInformation::read_from_bytes(entry).ok());
        self.pages.errors = entries.filter(|entry| entry.error_count.get() != 0).collect();
    }

    /// What happened (Base 5.1.2.1). Some events are told once, until their log page is read.
    pub(super) fn on_event_kind(&mut self, event: AsynchronousEvent) {
        use nvme_spec::ae::EventType;
        match event.event_type {
            EventType::ERROR => self.add_job(Job::Errors),
            EventType::SMART => self.add_job(Job::Smart),
            EventType::NOTICE => match event.lid {
                LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST => self.add_job(Job::ChangedNamespaces),
                LogPageId::FIRMWARE_SLOT => self.add_job(Job::Firmware),
                _ => {}
            },
            // Nobody here asked for others, and nothing is to be done about them.
            _ => {}
        }
    }
}

fn power_marks(smart: &SmartHealth) -> (u128, u128) {
    (smart.power_cycles.get(), smart.unsafe_shutdowns.get())
}
