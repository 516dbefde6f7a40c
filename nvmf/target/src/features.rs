//! Features of one controller: values, defaults, what can be changed (NVMe base, section 5.1.25).

use std::collections::BTreeMap;

use nvme_spec::admin::FeatureSelect;
use nvme_spec::feature::{
    ErrorRecovery, EventConfiguration, FeatureId, HOST_IDENTIFIER_EXTENDED, HostBehaviorSupport,
    MASK_REGISTRATION_PREEMPTED, MASK_RESERVATION_PREEMPTED, MASK_RESERVATION_RELEASED, NumberOfQueues,
    PERSIST_THROUGH_POWER_LOSS, POWER_STATE, TemperatureThreshold, VWC_ENABLE,
    WRITE_ATOMICITY_DISABLE_NORMAL,
};
use nvme_spec::log::ReservationNotificationType;
use nvme_spec::{NSID_ALL, Sqe, Status};
use zerocopy::{FromBytes, IntoBytes};

const MASK_BITS: u32 = MASK_REGISTRATION_PREEMPTED | MASK_RESERVATION_RELEASED | MASK_RESERVATION_PREEMPTED;

/// What a feature may depend on.
pub(crate) struct Context<'a> {
    /// A discovery controller has few features.
    pub discovery: bool,
    pub io_queues_max: u16,
    /// The host has connected an I/O queue since the last reset.
    pub has_io_queues: bool,
    /// Some namespace has a volatile write cache.
    pub volatile_write_cache: bool,
    pub host_id: [u8; 16],
    pub keep_alive_ms: u32,
    /// Whether the reservations of a namespace survive power loss; `None` for a namespace that is not there.
    pub persistence: &'a dyn Fn(u32) -> Option<bool>,
}

/// What is left to do for a Set Features.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Dword 0 of the completion.
    Done(u32),
    /// The keep alive timer has a new period.
    KeepAlive(u32),
    /// The reservations of a namespace (or of all) change.
    Persistence { nsid: u32, survives_power_loss: bool },
}

/// The answer to a Get Features.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub dword: u32,
    pub data: Option<Vec<u8>>,
}

/// The values of one controller; a reset brings back the defaults.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    arbitration: u32,
    temperature_over_kelvins: u16,
    temperature_under_kelvins: u16,
    error_recovery: BTreeMap<u32, u32>,
    write_cache: bool,
    write_atomicity: u32,
    pub events: EventConfiguration,
    host_behavior: [u8; size_of::<HostBehaviorSupport>()],
    notification_mask: BTreeMap<u32, u32>,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            arbitration: 0,
            temperature_over_kelvins: u16::MAX,
            temperature_under_kelvins: 0,
            error_recovery: BTreeMap::new(),
            write_cache: true,
            write_atomicity: 0,
            events: EventConfiguration(0),
            host_behavior: [0; size_of::<HostBehaviorSupport>()],
            notification_mask: BTreeMap::new(),
        }
    }
}

/// The events that a controller of each kind can be told to report.
pub(crate) fn supported_events(discovery: bool) -> EventConfiguration {
    if discovery {
        EventConfiguration::DISCOVERY_LOG_CHANGE
    } else {
        EventConfiguration::NAMESPACE_ATTRIBUTE.with(EventConfiguration::ANA_CHANGE)
    }
}

/// Supported capabilities of a feature; `None` for one that there is not.
pub(crate) fn capabilities(feature: FeatureId, context: &Context<'_>) -> Option<u32> {
    const CHANGEABLE: u32 = FeatureSelect::CHANGEABLE;
    const NAMESPACE: u32 = FeatureSelect::NAMESPACE_SPECIFIC;
    match feature {
        FeatureId::KEEP_ALIVE_TIMER | FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => Some(CHANGEABLE),
        _ if context.discovery => None,
        FeatureId::ARBITRATION
        | FeatureId::POWER_MANAGEMENT
        | FeatureId::TEMPERATURE_THRESHOLD
        | FeatureId::NUMBER_OF_QUEUES
        | FeatureId::WRITE_ATOMICITY_NORMAL
        | FeatureId::IO_COMMAND_SET_PROFILE
        | FeatureId::HOST_BEHAVIOR_SUPPORT => Some(CHANGEABLE),
        FeatureId::VOLATILE_WRITE_CACHE => context.volatile_write_cache.then_some(CHANGEABLE),
        FeatureId::ERROR_RECOVERY
        | FeatureId::RESERVATION_NOTIFICATION_MASK
        | FeatureId::RESERVATION_PERSISTENCE => Some(CHANGEABLE | NAMESPACE),
        FeatureId::HOST_IDENTIFIER => Some(0),
        _ => None,
    }
}

impl Features {
    /// The host writes through: the cache is off for its commands.
    pub fn write_through(&self) -> bool {
        !self.write_cache
    }

    /// The host wants to hear of such notifications of a namespace.
    pub fn notifies(&self, nsid: u32, kind: ReservationNotificationType) -> bool {
        let bit = match kind {
            ReservationNotificationType::REGISTRATION_PREEMPTED => MASK_REGISTRATION_PREEMPTED,
            ReservationNotificationType::RESERVATION_RELEASED => MASK_RESERVATION_RELEASED,
            _ => MASK_RESERVATION_PREEMPTED,
        };
        self.notification_mask.get(&nsid).is_none_or(|mask| mask & bit == 0)
    }

    /// Bytes that a Set Features takes from the host.
    pub fn host_bytes(feature: FeatureId) -> usize {
        match feature {
            FeatureId::HOST_BEHAVIOR_SUPPORT => size_of::<HostBehaviorSupport>(),
            _ => 0,
        }
    }

    /// Set Features.
    pub fn set(&mut self, sqe: &Sqe, data: &[u8], context: &Context<'_>) -> Result<Set, Status> {
        let feature = sqe.feature_id();
        let invalid = Status::INVALID_FIELD.with_dnr();
        let capabilities = capabilities(feature, context).ok_or(invalid)?;
        if sqe.feature_save() {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
        }
        let (nsid, value) = (sqe.nsid.get(), sqe.cdw11.get());
        check_scope(capabilities, nsid, context)?;
        match feature {
            FeatureId::KEEP_ALIVE_TIMER => return Ok(Set::KeepAlive(value)),
            FeatureId::RESERVATION_PERSISTENCE => {
                return Ok(Set::Persistence {
                    nsid,
                    survives_power_loss: value & PERSIST_THROUGH_POWER_LOSS != 0,
                });
            }
            FeatureId::NUMBER_OF_QUEUES => return set_queues(value, context).map(Set::Done),
            FeatureId::HOST_IDENTIFIER => return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
            FeatureId::ARBITRATION => self.arbitration = value,
            FeatureId::POWER_MANAGEMENT if value & POWER_STATE != 0 => return Err(invalid),
            FeatureId::POWER_MANAGEMENT => {}
            FeatureId::TEMPERATURE_THRESHOLD => {
                let threshold =
                    TemperatureThreshold::of(value).filter(|t| matches!(t.sensor, 0 | 15)).ok_or(invalid)?;
                let kept = if threshold.under {
                    &mut self.temperature_under_kelvins
                } else {
                    &mut self.temperature_over_kelvins
                };
                *kept = threshold.kelvins;
            }
            FeatureId::ERROR_RECOVERY => {
                if ErrorRecovery::of(value).dulbe {
                    return Err(invalid);
                }
                put(&mut self.error_recovery, nsid, value & 0xffff);
            }
            FeatureId::VOLATILE_WRITE_CACHE => self.write_cache = value & VWC_ENABLE != 0,
            FeatureId::WRITE_ATOMICITY_NORMAL => {
                self.write_atomicity = value & WRITE_ATOMICITY_DISABLE_NORMAL
            }
            FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => {
                self.events = EventConfiguration(value & supported_events(context.discovery).0);
            }
            FeatureId::IO_COMMAND_SET_PROFILE if value & 0x1ff != 0 => {
                return Err(Status::IO_COMMAND_SET_COMBINATION_REJECTED.with_dnr());
            }
            FeatureId::IO_COMMAND_SET_PROFILE => {}
            FeatureId::HOST_BEHAVIOR_SUPPORT => self.set_host_behavior(data)?,
            FeatureId::RESERVATION_NOTIFICATION_MASK => {
                put(&mut self.notification_mask, nsid, value & MASK_BITS)
            }
            _ => return Err(invalid),
        }
        Ok(Set::Done(0))
    }

    fn set_host_behavior(&mut self, data: &[u8]) -> Result<(), Status> {
        let behavior = HostBehaviorSupport::ref_from_bytes(data)
            .map_err(|_| Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
        // Values are 0 or 1; of the rest only what the controller has can be turned on.
        if behavior.acre > 1 || behavior.etdas > 1 || behavior.lbafee != 0 || behavior.hdisns != 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.host_behavior.copy_from_slice(data);
        Ok(())
    }

    /// Get Features.
    pub fn get(&self, sqe: &Sqe, context: &Context<'_>) -> Result<Got, Status> {
        let feature = sqe.feature_id();
        let invalid = Status::INVALID_FIELD.with_dnr();
        let capabilities = capabilities(feature, context).ok_or(invalid)?;
        let nsid = sqe.nsid.get();
        let dword = |dword| Ok(Got { dword, data: None });
        match sqe.feature_select() {
            FeatureSelect::SUPPORTED_CAPABILITIES => return dword(capabilities),
            FeatureSelect::DEFAULT => {
                return Self::default().value(feature, nsid, sqe.cdw11.get(), context, true);
            }
            // Nothing is saved, so the saved values are the defaults (NVMe base, section 5.1.11).
            FeatureSelect::SAVED => {
                return Self::default().value(feature, nsid, sqe.cdw11.get(), context, true);
            }
            FeatureSelect::CURRENT => {}
            _ => return Err(invalid),
        }
        if nsid == NSID_ALL && capabilities & FeatureSelect::NAMESPACE_SPECIFIC != 0 {
            return Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
        }
        check_scope(capabilities, nsid, context)?;
        self.value(feature, nsid, sqe.cdw11.get(), context, false)
    }

    fn value(
        &self,
        feature: FeatureId,
        nsid: u32,
        cdw11: u32,
        context: &Context<'_>,
        default: bool,
    ) -> Result<Got, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let most = u32::from(context.io_queues_max);
        let dword = match feature {
            FeatureId::ARBITRATION => self.arbitration,
            FeatureId::POWER_MANAGEMENT | FeatureId::IO_COMMAND_SET_PROFILE => 0,
            FeatureId::TEMPERATURE_THRESHOLD => {
                let asked = TemperatureThreshold::of(cdw11).filter(|t| t.sensor == 0).ok_or(invalid)?;
                u32::from(if asked.under {
                    self.temperature_under_kelvins
                } else {
                    self.temperature_over_kelvins
                })
            }
            FeatureId::ERROR_RECOVERY => self.error_recovery.get(&nsid).copied().unwrap_or(0),
            FeatureId::VOLATILE_WRITE_CACHE => u32::from(self.write_cache),
            FeatureId::NUMBER_OF_QUEUES => NumberOfQueues { submission: most, completion: most }.dword(),
            FeatureId::WRITE_ATOMICITY_NORMAL => self.write_atomicity,
            FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION => self.events.0,
            FeatureId::KEEP_ALIVE_TIMER if default => 0,
            FeatureId::KEEP_ALIVE_TIMER => context.keep_alive_ms,
            FeatureId::RESERVATION_NOTIFICATION_MASK => {
                self.notification_mask.get(&nsid).copied().unwrap_or(0)
            }
            FeatureId::RESERVATION_PERSISTENCE if default => 0,
            FeatureId::RESERVATION_PERSISTENCE => u32::from((context.persistence)(nsid).unwrap_or(false)),
            FeatureId::HOST_BEHAVIOR_SUPPORT => {
                return Ok(Got { dword: 0, data: Some(self.host_behavior.as_bytes().to_vec()) });
            }
            FeatureId::HOST_IDENTIFIER => {
                if cdw11 & HOST_IDENTIFIER_EXTENDED == 0 {
                    return Err(Status::HOST_IDENTIFIER_INCONSISTENT_FORMAT.with_dnr());
                }
                return Ok(Got { dword: 0, data: Some(context.host_id.to_vec()) });
            }
            _ => return Err(invalid),
        };
        Ok(Got { dword, data: None })
    }
}

/// A feature of namespaces needs one that is there (or all); one of the controller takes none.
fn check_scope(capabilities: u32, nsid: u32, context: &Context<'_>) -> Result<(), Status> {
    let of_namespaces = capabilities & FeatureSelect::NAMESPACE_SPECIFIC != 0;
    match (of_namespaces, nsid) {
        (_, NSID_ALL) | (false, 0) => Ok(()),
        (true, _) if (context.persistence)(nsid).is_some() => Ok(()),
        (true, _) => Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr()),
        (false, _) if (context.persistence)(nsid).is_some() => {
            Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.with_dnr())
        }
        (false, _) => Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr()),
    }
}

fn put(values: &mut BTreeMap<u32, u32>, nsid: u32, value: u32) {
    let everywhere = 1..=crate::limits::NAMESPACES_PER_SUBSYSTEM_MAX;
    let range = if nsid == NSID_ALL { everywhere } else { nsid..=nsid };
    for nsid in range {
        values.insert(nsid, value);
    }
}

fn set_queues(value: u32, context: &Context<'_>) -> Result<u32, Status> {
    if value & 0xffff == 0xffff || value >> 16 == 0xffff {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if context.has_io_queues {
        return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    }
    // On Fabrics a queue is both, so there are as many of one kind as of the other.
    let asked = NumberOfQueues::of(value);
    let granted = asked.submission.min(asked.completion).min(u32::from(context.io_queues_max));
    Ok(NumberOfQueues { submission: granted, completion: granted }.dword())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(discovery: bool) -> Context<'static> {
        Context {
            discovery,
            io_queues_max: 8,
            has_io_queues: false,
            volatile_write_cache: true,
            host_id: [3; 16],
            keep_alive_ms: 5000,
            persistence: &|nsid| (nsid == 1).then_some(true),
        }
    }

    fn set(features: &mut Features, feature: FeatureId, nsid: u32, value: u32) -> Result<Set, Status> {
        features.set(&Sqe::set_features(feature, nsid, value), &[], &context(false))
    }

    fn get(features: &Features, feature: FeatureId, nsid: u32, select: FeatureSelect) -> Result<u32, Status> {
        features.get(&Sqe::get_features(feature, nsid, select), &context(false)).map(|got| got.dword)
    }

    const CURRENT: FeatureSelect = FeatureSelect::CURRENT;

    #[test]
    fn what_is_set_is_got_and_the_default_stays() {
        let mut features = Features::default();
        let cases = [
            (FeatureId::ARBITRATION, 0, 7, 7),
            (FeatureId::VOLATILE_WRITE_CACHE, 0, 0, 0),
            (FeatureId::WRITE_ATOMICITY_NORMAL, 0, 3, 1),
            (FeatureId::TEMPERATURE_THRESHOLD, 0, 350, 350),
            (FeatureId::ERROR_RECOVERY, 1, 20, 20),
            (FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, u32::MAX, 1 << 8 | 1 << 11),
            (FeatureId::RESERVATION_NOTIFICATION_MASK, 1, u32::MAX, 0b1110),
        ];
        for (feature, nsid, value, kept) in cases {
            let before = get(&features, feature, nsid, CURRENT);
            assert_eq!(set(&mut features, feature, nsid, value), Ok(Set::Done(0)), "{feature:?}");
            assert_eq!(get(&features, feature, nsid, CURRENT), Ok(kept), "{feature:?}");
            assert_eq!(get(&features, feature, nsid, FeatureSelect::DEFAULT), before, "{feature:?}");
        }
        assert!(features.write_through());
        assert!(!features.notifies(1, ReservationNotificationType::RESERVATION_RELEASED));
        assert!(features.notifies(2, ReservationNotificationType::RESERVATION_RELEASED));
    }

    #[test]
    fn nothing_can_be_saved() {
        let mut features = Features::default();
        let mut sqe = Sqe::set_features(FeatureId::ARBITRATION, 0, 1);
        sqe.cdw10.set(sqe.cdw10.get() | 1 << 31);
        let refused = features.set(&sqe, &[], &context(false));
        assert_eq!(refused, Err(Status::FEATURE_NOT_SAVEABLE.with_dnr()));
    }

    #[test]
    fn queues_are_granted_up_to_the_limit() {
        let mut features = Features::default();
        let ask = |value| NumberOfQueues { submission: value, completion: value }.dword();
        assert_eq!(set(&mut features, FeatureId::NUMBER_OF_QUEUES, 0, ask(4)), Ok(Set::Done(ask(4))));
        assert_eq!(set(&mut features, FeatureId::NUMBER_OF_QUEUES, 0, ask(100)), Ok(Set::Done(ask(8))));
        let invalid = set(&mut features, FeatureId::NUMBER_OF_QUEUES, 0, 0xffff);
        assert_eq!(invalid, Err(Status::INVALID_FIELD.with_dnr()));
    }

    #[test]
    fn the_scope_of_a_feature_is_checked() {
        let mut features = Features::default();
        let wrong = set(&mut features, FeatureId::ARBITRATION, 1, 0);
        assert_eq!(wrong, Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.with_dnr()));
        let absent = set(&mut features, FeatureId::RESERVATION_NOTIFICATION_MASK, 2, 0);
        assert_eq!(absent, Err(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr()));
        assert_eq!(get(&features, FeatureId::RESERVATION_PERSISTENCE, 1, CURRENT), Ok(1));
        let all = set(&mut features, FeatureId::RESERVATION_PERSISTENCE, NSID_ALL, 1);
        assert_eq!(all, Ok(Set::Persistence { nsid: NSID_ALL, survives_power_loss: true }));
        assert!(get(&features, FeatureId::RESERVATION_PERSISTENCE, NSID_ALL, CURRENT).is_err());
    }

    #[test]
    fn the_host_identifier_has_128_bits_and_stays() {
        let mut features = Features::default();
        let mut sqe = Sqe::get_features(FeatureId::HOST_IDENTIFIER, 0, CURRENT);
        let short = features.get(&sqe, &context(false));
        assert_eq!(short, Err(Status::HOST_IDENTIFIER_INCONSISTENT_FORMAT.with_dnr()));
        sqe.cdw11.set(1);
        assert_eq!(features.get(&sqe, &context(false)).unwrap().data, Some(vec![3; 16]));
        let changed = set(&mut features, FeatureId::HOST_IDENTIFIER, 0, 1);
        assert_eq!(changed, Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()));
    }

    /// Every feature identifier and every selector, on both kinds of controllers: a value or a refusal.
    #[test]
    fn every_identifier_is_answered() {
        for discovery in [false, true] {
            for id in 0..=255 {
                for select in 0..8 {
                    let mut features = Features::default();
                    let sqe = Sqe::get_features(FeatureId(id), 0, FeatureSelect(select));
                    let got = features.get(&sqe, &context(discovery));
                    if discovery && !matches!(id, 0x0b | 0x0f) {
                        assert_eq!(got, Err(Status::INVALID_FIELD.with_dnr()));
                    }
                    let _ =
                        features.set(&Sqe::set_features(FeatureId(id), 0, 0), &[0; 512], &context(discovery));
                }
            }
        }
    }
}
