//! Set Features and Get Features (Base 5.1.11, 5.1.25, NVM 4.1.3).

use nvme_emulated::ControllerConfig;
use nvme_spec::admin::FeatureSelect;
use nvme_spec::feature::{
    COALESCING_DISABLE, ErrorRecovery, EventConfiguration, FeatureId, TemperatureThreshold,
};
use nvme_spec::register::CC;
use nvme_spec::{NSID_ALL, NvmOpcode, Sqe, Status};

use crate::nvm::io;
use crate::rig::{Rig, config};
use nvme::device::Device;

fn get(rig: &mut Rig, feature: FeatureId, nsid: u32, select: FeatureSelect) -> Result<u32, Status> {
    let cqe = rig.command(0, Sqe::get_features(feature, nsid, select));
    if cqe.status().is_success() { Ok(cqe.dw0.get()) } else { Err(cqe.status().code()) }
}

fn current(rig: &mut Rig, feature: FeatureId) -> Result<u32, Status> {
    get(rig, feature, 0, FeatureSelect::CURRENT)
}

#[test]
fn values_are_set_read_and_gone_with_a_reset() {
    let mut rig = Rig::ready(config());
    let recovery = ErrorRecovery { tler_100ms: 5, dulbe: false };
    let cases = [
        (FeatureId::ARBITRATION, 0x0102_0303, 0x7),
        (FeatureId::POWER_MANAGEMENT, 0, 0),
        (FeatureId::VOLATILE_WRITE_CACHE, 0, 1),
        (FeatureId::INTERRUPT_COALESCING, 0x1234, 0),
        (FeatureId::WRITE_ATOMICITY_NORMAL, 1, 0),
        (FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0x102, 0x1ff),
        (FeatureId::INTERRUPT_VECTOR_CONFIGURATION, COALESCING_DISABLE, 0),
    ];
    for (feature, value, default) in cases {
        assert_eq!(current(&mut rig, feature), Ok(default), "{feature:?}");
        rig.admin(Sqe::set_features(feature, 0, value));
        assert_eq!(current(&mut rig, feature), Ok(value), "{feature:?}");
        assert_eq!(get(&mut rig, feature, 0, FeatureSelect::DEFAULT), Ok(default));
        assert_eq!(get(&mut rig, feature, 0, FeatureSelect::SAVED), Ok(default));
        let capabilities = get(&mut rig, feature, 0, FeatureSelect::SUPPORTED_CAPABILITIES);
        assert_eq!(capabilities, Ok(FeatureSelect::CHANGEABLE));
        assert_eq!(get(&mut rig, feature, 0, FeatureSelect(4)), Err(Status::INVALID_FIELD));
        let mut saved = Sqe::set_features(feature, 0, value);
        saved.cdw10 |= zerocopy::little_endian::U32::new(1 << 31);
        assert_eq!(rig.status_of(0, saved), Status::FEATURE_NOT_SAVEABLE);
        let one = Sqe::set_features(feature, 1, value);
        assert_eq!(rig.status_of(0, one), Status::FEATURE_NOT_NAMESPACE_SPECIFIC);
    }
    rig.admin(Sqe::set_features(FeatureId::ERROR_RECOVERY, 1, recovery.dword()));
    rig.device.write_u32(CC, 0);
    rig.step();
    rig.set_up_admin(8);
    rig.enable();
    for (feature, _, default) in cases {
        assert_eq!(current(&mut rig, feature), Ok(default), "{feature:?}");
    }
}

#[test]
fn what_is_not_offered_or_not_possible_is_refused() {
    let mut rig = Rig::ready(config());
    for feature in [FeatureId::HOST_MEMORY_BUFFER, FeatureId::TIMESTAMP, FeatureId(0), FeatureId(0xc0)] {
        assert_eq!(current(&mut rig, feature), Err(Status::INVALID_FIELD));
        assert_eq!(rig.status_of(0, Sqe::set_features(feature, 0, 0)), Status::INVALID_FIELD);
    }
    let refused = [
        (FeatureId::POWER_MANAGEMENT, 1),
        (FeatureId::INTERRUPT_VECTOR_CONFIGURATION, 1),
        (FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, EventConfiguration::ANA_CHANGE.0),
        (FeatureId::TEMPERATURE_THRESHOLD, 0b10 << 20),
        (FeatureId::TEMPERATURE_THRESHOLD, 3 << 16),
    ];
    for (feature, value) in refused {
        assert_eq!(rig.status_of(0, Sqe::set_features(feature, 0, value)), Status::INVALID_FIELD);
    }
    let unknown = get(&mut rig, FeatureId::ARBITRATION, 7, FeatureSelect::CURRENT);
    assert_eq!(unknown, Err(Status::INVALID_NAMESPACE_OR_FORMAT));
    let plain = ControllerConfig { volatile_write_cache: false, deallocated_error: false, ..config() };
    let mut rig = Rig::ready(plain);
    assert_eq!(current(&mut rig, FeatureId::VOLATILE_WRITE_CACHE), Err(Status::INVALID_FIELD));
    let dulbe = ErrorRecovery { tler_100ms: 0, dulbe: true }.dword();
    let set = Sqe::set_features(FeatureId::ERROR_RECOVERY, 1, dulbe);
    assert_eq!(rig.status_of(0, set), Status::INVALID_FIELD);
}

#[test]
fn temperature_thresholds_have_two_sides() {
    let mut rig = Rig::ready(config());
    let threshold = |kelvins, under| TemperatureThreshold { kelvins, sensor: 0, under }.dword();
    for (kelvins, under) in [(300, false), (280, true)] {
        rig.admin(Sqe::set_features(FeatureId::TEMPERATURE_THRESHOLD, 0, threshold(kelvins, under)));
        let mut sqe = Sqe::get_features(FeatureId::TEMPERATURE_THRESHOLD, 0, FeatureSelect::CURRENT);
        sqe.cdw11 = zerocopy::little_endian::U32::new(threshold(0, under));
        assert_eq!(rig.admin(sqe), u32::from(kelvins));
    }
}

#[test]
fn without_its_cache_every_write_is_on_the_medium() {
    let mut rig = Rig::with_io(config(), 8);
    let write = rig.with_data(io(NvmOpcode::WRITE, 1, 0, 1), 0);
    assert!(rig.status_of(1, write).is_success());
    assert_eq!(rig.controller.unflushed(1), Ok(1));
    rig.admin(Sqe::set_features(FeatureId::VOLATILE_WRITE_CACHE, 0, 0));
    assert_eq!(rig.controller.unflushed(1), Ok(0), "what was in the cache is on the medium");
    assert!(rig.status_of(1, write).is_success());
    assert_eq!(rig.controller.unflushed(1), Ok(0));
    rig.admin(Sqe::set_features(FeatureId::VOLATILE_WRITE_CACHE, NSID_ALL, 1));
    assert!(rig.status_of(1, write).is_success());
    assert_eq!(rig.controller.unflushed(1), Ok(1));
}

#[test]
fn deallocated_blocks_are_an_error_where_that_is_asked_for() {
    let mut rig = Rig::with_io(config(), 8);
    let dulbe = ErrorRecovery { tler_100ms: 0, dulbe: true }.dword();
    let specific = get(&mut rig, FeatureId::ERROR_RECOVERY, 1, FeatureSelect::SUPPORTED_CAPABILITIES);
    assert_eq!(specific, Ok(FeatureSelect::CHANGEABLE | FeatureSelect::NAMESPACE_SPECIFIC));
    rig.admin(Sqe::set_features(FeatureId::ERROR_RECOVERY, 1, dulbe));
    assert_eq!(get(&mut rig, FeatureId::ERROR_RECOVERY, 1, FeatureSelect::CURRENT), Ok(dulbe));
    assert_eq!(get(&mut rig, FeatureId::ERROR_RECOVERY, 2, FeatureSelect::CURRENT), Ok(0));
    let read = |rig: &mut Rig, nsid, first, count| {
        let sqe = rig.with_data(io(NvmOpcode::READ, nsid, first, count), 0);
        rig.status_of(1, sqe)
    };
    assert_eq!(read(&mut rig, 1, 0, 1), Status::DEALLOCATED_OR_UNWRITTEN_LOGICAL_BLOCK);
    assert_eq!(read(&mut rig, 2, 0, 1), Status::SUCCESS);
    assert!(rig.status_of(1, io(NvmOpcode::WRITE_ZEROES, 1, 0, 4)).is_success());
    assert_eq!(read(&mut rig, 1, 0, 4), Status::SUCCESS, "they were written, with zeros");
    assert_eq!(read(&mut rig, 1, 0, 5), Status::DEALLOCATED_OR_UNWRITTEN_LOGICAL_BLOCK);
    rig.admin(Sqe::set_features(FeatureId::ERROR_RECOVERY, NSID_ALL, 0));
    assert_eq!(read(&mut rig, 1, 0, 5), Status::SUCCESS);
}
