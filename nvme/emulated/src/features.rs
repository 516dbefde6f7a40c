//! Set Features and Get Features (Base 5.1.11, 5.1.25).

use nvme_spec::admin::FeatureSelect;
use nvme_spec::feature::{
    COALESCING_DISABLE, ErrorRecovery, EventConfiguration, FeatureId, NumberOfQueues, POWER_STATE,
    TemperatureThreshold, VWC_ENABLE, WRITE_ATOMICITY_DISABLE_NORMAL,
};
use nvme_spec::{NSID_ALL, Sqe, Status};

use crate::controller::Controller;

/// Composite temperature from which a warning is raised, unless the host says otherwise (also WCTEMP).
pub(crate) const WARNING_KELVINS: u16 = 273 + 70;
/// Composite temperature that is critical (CCTEMP).
pub(crate) const CRITICAL_KELVINS: u16 = 273 + 80;

/// Values that the host may change; a reset brings the defaults back, nothing is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) arbitration: u32,
    pub(crate) over_kelvins: u16,
    pub(crate) under_kelvins: u16,
    pub(crate) recovery_100ms: u16,
    pub(crate) write_cache: bool,
    /// I/O queues that the host was granted: submission and completion.
    pub(crate) queues: [u16; 2],
    pub(crate) coalescing: u32,
    /// Vectors without coalescing, a bit each.
    pub(crate) uncoalesced: u32,
    pub(crate) atomicity: u32,
    pub(crate) events: EventConfiguration,
}

/// Events that the controller can report: critical warnings and changed namespaces.
pub(crate) const SUPPORTED_EVENTS: EventConfiguration =
    EventConfiguration::SMART.with(EventConfiguration::NAMESPACE_ATTRIBUTE);

impl Features {
    pub(crate) fn new(io_queues: u16, write_cache: bool) -> Self {
        Self {
            // No limit on the burst.
            arbitration: 0b111,
            over_kelvins: WARNING_KELVINS,
            under_kelvins: 0,
            recovery_100ms: 0,
            write_cache,
            queues: [io_queues; 2],
            coalescing: 0,
            uncoalesced: 0,
            atomicity: 0,
            events: SUPPORTED_EVENTS,
        }
    }
}

const INVALID: Status = Status::INVALID_FIELD.with_dnr();

impl Controller {
    fn default_features(&self) -> Features {
        Features::new(self.config.io_queues, self.config.volatile_write_cache)
    }

    /// Does this feature belong to a namespace; `None` when it is not offered.
    fn feature_scope(&self, feature: FeatureId) -> Option<bool> {
        match feature {
            FeatureId::ERROR_RECOVERY => Some(true),
            FeatureId::VOLATILE_WRITE_CACHE => self.config.volatile_write_cache.then_some(false),
            FeatureId::ARBITRATION
            | FeatureId::POWER_MANAGEMENT
            | FeatureId::TEMPERATURE_THRESHOLD
            | FeatureId::NUMBER_OF_QUEUES
            | FeatureId::INTERRUPT_COALESCING
            | FeatureId::INTERRUPT_VECTOR_CONFIGURATION
            | FeatureId::WRITE_ATOMICITY_NORMAL
            | FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => Some(false),
            _ => None,
        }
    }

    /// Checks feature and namespace: for a feature of a namespace, which namespaces.
    fn feature_namespaces(&self, sqe: &Sqe, setting: bool) -> Result<Vec<u32>, Status> {
        let is_specific = self.feature_scope(sqe.feature_id()).ok_or(INVALID)?;
        match (is_specific, sqe.nsid.get()) {
            (false, 0 | NSID_ALL) => Ok(Vec::new()),
            (false, nsid) if self.active(nsid).is_some() => {
                // A feature of the controller is not set for one namespace; to read it is allowed.
                if setting { Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.with_dnr()) } else { Ok(Vec::new()) }
            }
            (true, NSID_ALL) if setting => Ok(self.active_namespaces().collect()),
            (true, nsid) if self.active(nsid).is_some() => Ok(vec![nsid]),
            _ => Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr()),
        }
    }

    pub(crate) fn set_features(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let namespaces = self.feature_namespaces(sqe, true)?;
        if sqe.feature_save() {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
        }
        let value = sqe.cdw11.get();
        match sqe.feature_id() {
            FeatureId::ARBITRATION => self.features.arbitration = value,
            FeatureId::POWER_MANAGEMENT if value & POWER_STATE != 0 => return Err(INVALID),
            FeatureId::POWER_MANAGEMENT => {}
            FeatureId::TEMPERATURE_THRESHOLD => self.set_temperature_threshold(value)?,
            FeatureId::ERROR_RECOVERY => self.set_error_recovery(value, &namespaces)?,
            FeatureId::VOLATILE_WRITE_CACHE => self.set_write_cache(value & VWC_ENABLE != 0),
            FeatureId::NUMBER_OF_QUEUES => return self.set_number_of_queues(value),
            FeatureId::INTERRUPT_COALESCING => self.features.coalescing = value & 0xffff,
            FeatureId::INTERRUPT_VECTOR_CONFIGURATION => {
                let bit = self.vector_bit(value)?;
                let disabled = value & COALESCING_DISABLE != 0;
                self.features.uncoalesced = self.features.uncoalesced & !bit | if disabled { bit } else { 0 };
            }
            FeatureId::WRITE_ATOMICITY_NORMAL => {
                self.features.atomicity = value & WRITE_ATOMICITY_DISABLE_NORMAL;
            }
            FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => {
                if EventConfiguration(value).has(EventConfiguration(!SUPPORTED_EVENTS.0)) {
                    return Err(INVALID);
                }
                self.features.events = EventConfiguration(value);
                self.check_health();
            }
            _ => return Err(INVALID),
        }
        Ok(0)
    }

    pub(crate) fn get_features(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let namespaces = self.feature_namespaces(sqe, false)?;
        let feature = sqe.feature_id();
        match sqe.feature_select() {
            FeatureSelect::CURRENT => self.feature_value(&self.features, sqe, namespaces.first()),
            // Nothing is saved, so the saved value is the default.
            FeatureSelect::DEFAULT | FeatureSelect::SAVED => {
                self.feature_value(&self.default_features(), sqe, None)
            }
            FeatureSelect::SUPPORTED_CAPABILITIES => {
                let specific = self.feature_scope(feature) == Some(true);
                Ok(FeatureSelect::CHANGEABLE | if specific { FeatureSelect::NAMESPACE_SPECIFIC } else { 0 })
            }
            _ => Err(INVALID),
        }
    }

    fn feature_value(&self, features: &Features, sqe: &Sqe, nsid: Option<&u32>) -> Result<u32, Status> {
        let value = sqe.cdw11.get();
        Ok(match sqe.feature_id() {
            FeatureId::ARBITRATION => features.arbitration,
            FeatureId::POWER_MANAGEMENT => 0,
            FeatureId::TEMPERATURE_THRESHOLD => {
                let asked =
                    TemperatureThreshold::of(value).filter(|asked| asked.sensor == 0).ok_or(INVALID)?;
                u32::from(if asked.under { features.under_kelvins } else { features.over_kelvins })
            }
            FeatureId::ERROR_RECOVERY => {
                let dulbe = nsid.and_then(|nsid| self.active(*nsid)).is_some_and(|ns| ns.deallocated_error);
                ErrorRecovery { tler_100ms: features.recovery_100ms, dulbe }.dword()
            }
            FeatureId::VOLATILE_WRITE_CACHE => u32::from(features.write_cache),
            FeatureId::NUMBER_OF_QUEUES => {
                let [submission, completion] = features.queues.map(u32::from);
                NumberOfQueues { submission, completion }.dword()
            }
            FeatureId::INTERRUPT_COALESCING => features.coalescing,
            FeatureId::INTERRUPT_VECTOR_CONFIGURATION => {
                let bit = self.vector_bit(value)?;
                let disabled = features.uncoalesced & bit != 0;
                value & 0xffff | if disabled { COALESCING_DISABLE } else { 0 }
            }
            FeatureId::WRITE_ATOMICITY_NORMAL => features.atomicity,
            FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => features.events.0,
            _ => return Err(INVALID),
        })
    }

    /// The bit of the vector in bits 15:0. A controller without vectors has one that nobody hears.
    fn vector_bit(&self, value: u32) -> Result<u32, Status> {
        let vector = value & 0xffff;
        if vector < u32::from(self.config.interrupt_vectors.max(1)) { Ok(1 << vector) } else { Err(INVALID) }
    }

    fn set_temperature_threshold(&mut self, value: u32) -> Result<(), Status> {
        let threshold = TemperatureThreshold::of(value).ok_or(INVALID)?;
        // There is no sensor but the composite one; 15 means all there are.
        if threshold.sensor != 0 && threshold.sensor != 15 {
            return Err(INVALID);
        }
        if threshold.under {
            self.features.under_kelvins = threshold.kelvins;
        } else {
            self.features.over_kelvins = threshold.kelvins;
        }
        self.check_health();
        Ok(())
    }

    fn set_error_recovery(&mut self, value: u32, namespaces: &[u32]) -> Result<(), Status> {
        let recovery = ErrorRecovery::of(value);
        if recovery.dulbe && !self.config.deallocated_error {
            return Err(INVALID);
        }
        self.features.recovery_100ms = recovery.tler_100ms;
        for nsid in namespaces {
            if let Some(namespace) = self.active_mut(*nsid) {
                namespace.deallocated_error = recovery.dulbe;
            }
        }
        Ok(())
    }

    fn set_write_cache(&mut self, on: bool) {
        if self.features.write_cache == on {
            return;
        }
        self.features.write_cache = on;
        self.namespaces.values_mut().for_each(|namespace| namespace.media.set_caching(on));
    }

    fn set_number_of_queues(&mut self, value: u32) -> Result<u32, Status> {
        // After the first I/O queue was created the number stands (Base 5.1.25.2.1).
        if !self.queues.order.is_empty() || self.queues.completion.iter().skip(1).any(Option::is_some) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        let wanted = NumberOfQueues::of(value);
        if wanted.submission == 0x1_0000 || wanted.completion == 0x1_0000 {
            return Err(INVALID);
        }
        let granted = |wanted: u32| wanted.min(u32::from(self.config.io_queues)) as u16;
        self.features.queues = [granted(wanted.submission), granted(wanted.completion)];
        let [submission, completion] = self.features.queues.map(u32::from);
        Ok(NumberOfQueues { submission, completion }.dword())
    }
}
