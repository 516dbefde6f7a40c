//! Asynchronous events, Abort and log pages (Base 5.1.1, 5.1.2, 5.1.12).

use std::time::Duration;

use nvme_emulated::{Delays, Health};
use nvme_spec::admin::{GetLogPage, NOT_ABORTED};
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::feature::{EventConfiguration, FeatureId, TemperatureThreshold};
use nvme_spec::log::{
    CRITICAL_WARNING_SPARE, CRITICAL_WARNING_TEMPERATURE, CommandEffects, ErrorInformation, FirmwareSlot,
    LogPageId, SmartHealth,
};
use nvme_spec::{AdminOpcode, NSID_ALL, NvmOpcode, Sqe, Status};
use zerocopy::FromBytes;

use crate::admin::log_page;
use crate::nvm::io;
use crate::rig::{Rig, config};

const REQUEST: AdminOpcode = AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST;

fn request(rig: &mut Rig) -> u16 {
    let cid = rig.submit(0, Sqe::admin(REQUEST));
    rig.step();
    cid
}

/// The event that the next admin completion reports.
fn event(rig: &mut Rig) -> Option<AsynchronousEvent> {
    rig.step();
    rig.take(0).map(|cqe| AsynchronousEvent::of(cqe.dw0.get()))
}

#[test]
fn requests_have_a_limit_and_can_be_aborted() {
    let mut rig = Rig::ready(config());
    let cids: Vec<u16> = (0..8).map(|_| request(&mut rig)).collect();
    let more: Vec<u16> = (0..8).map(|_| request(&mut rig)).collect();
    assert_eq!(rig.controller.event_requests(), 16);
    let cqe = rig.command(0, Sqe::admin(REQUEST));
    assert_eq!(cqe.status().code(), Status::AER_LIMIT_EXCEEDED);
    let abort = rig.submit(0, Sqe::abort(0, cids[3]));
    rig.step();
    let ended = rig.take(0).expect("the request ends first");
    assert_eq!((ended.cid.get(), ended.status().code()), (cids[3], Status::ABORT_REQUESTED));
    let answer = rig.take(0).expect("and the abort is answered");
    assert_eq!((answer.cid.get(), answer.dw0.get()), (abort, 0));
    assert_eq!(rig.controller.event_requests(), 15);
    // An identifier that waits for an event is in use.
    rig.pair(0).put_as_is(&Sqe { cid: more[0].into(), ..Sqe::admin(REQUEST) });
    rig.ring_tail(0);
    rig.step();
    assert_eq!(rig.take(0).map(|cqe| cqe.status().code()), Some(Status::COMMAND_ID_CONFLICT));
}

#[test]
fn health_raises_events_once_until_the_page_is_read() {
    let mut rig = Rig::ready(config());
    for _ in 0..4 {
        request(&mut rig);
    }
    let healthy = rig.controller.health();
    rig.controller.set_health(Health { spare_percent: 5, ..healthy });
    assert_eq!(event(&mut rig), Some(AsynchronousEvent::SMART_SPARE));
    rig.controller.set_health(Health { spare_percent: 5, temperature_kelvins: 400, ..healthy });
    assert_eq!(event(&mut rig), None, "the type is masked");
    let page = log_page(&mut rig, LogPageId::SMART, 512, true);
    let page = SmartHealth::read_from_bytes(&page).expect("512 bytes");
    assert_eq!(page.critical_warning, CRITICAL_WARNING_SPARE | CRITICAL_WARNING_TEMPERATURE);
    assert_eq!(event(&mut rig), None, "read with Retain");
    log_page(&mut rig, LogPageId::SMART, 512, false);
    assert_eq!(event(&mut rig), Some(AsynchronousEvent::SMART_TEMPERATURE));
    log_page(&mut rig, LogPageId::SMART, 512, false);
    rig.controller.set_health(healthy);
    let threshold = TemperatureThreshold { kelvins: 290, sensor: 0, under: false };
    rig.admin(Sqe::set_features(FeatureId::TEMPERATURE_THRESHOLD, 0, threshold.dword()));
    assert_eq!(event(&mut rig), Some(AsynchronousEvent::SMART_TEMPERATURE), "the threshold came down");
    // What the host does not want to hear it does not hear.
    log_page(&mut rig, LogPageId::SMART, 512, false);
    let namespaces = EventConfiguration::NAMESPACE_ATTRIBUTE.0;
    rig.admin(Sqe::set_features(FeatureId::ASYNCHRONOUS_EVENT_CONFIGURATION, 0, namespaces));
    rig.controller.set_health(Health { is_degraded: true, ..healthy });
    assert_eq!(event(&mut rig), None);
}

#[test]
fn namespaces_that_change_are_listed_until_the_list_is_read() {
    let mut rig = Rig::ready(config());
    for _ in 0..4 {
        request(&mut rig);
    }
    rig.controller.resize_namespace(2, 8192).expect("it is there");
    rig.controller.set_attached(1, false).expect("it is there");
    assert_eq!(event(&mut rig), Some(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED));
    assert_eq!(event(&mut rig), None);
    let page = log_page(&mut rig, LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST, 4096, false);
    assert_eq!(page[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let page = log_page(&mut rig, LogPageId::CHANGED_ATTACHED_NAMESPACE_LIST, 4096, false);
    assert_eq!(page, [0; 4096]);
    rig.controller.delete_namespace(2).expect("it is there");
    assert_eq!(event(&mut rig), Some(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED));
}

#[test]
fn a_storm_reports_for_every_request_and_nothing_else_breaks() {
    let mut rig = Rig::ready(config());
    rig.controller.set_event_storm(Some(AsynchronousEvent::SMART_TEMPERATURE));
    for _ in 0..100 {
        request(&mut rig);
        assert_eq!(rig.take(0).map(|cqe| cqe.dw0.get()), Some(AsynchronousEvent::SMART_TEMPERATURE.dword()));
    }
    rig.controller.set_event_storm(None);
    request(&mut rig);
    assert_eq!(event(&mut rig), None);
}

#[test]
fn abort_ends_a_command_that_waits_and_says_when_it_did_not() {
    let mut rig = Rig::with_io(config(), 8);
    let command = Duration::from_secs(5);
    rig.controller.set_delays(Delays { command, ..Delays::default() });
    let cid = rig.submit(1, Sqe::flush(1));
    rig.step();
    for (sqid, other) in [(1, cid + 1), (2, cid), (0, cid), (0xffff, 0xffff)] {
        assert_eq!(rig.admin(Sqe::abort(sqid, other)), NOT_ABORTED);
    }
    assert_eq!(rig.admin(Sqe::abort(1, cid)), 0);
    let cqe = rig.take(1).expect("it has ended");
    assert_eq!((cqe.cid.get(), cqe.status().code()), (cid, Status::ABORT_REQUESTED));
    assert_eq!(rig.admin(Sqe::abort(1, cid)), NOT_ABORTED);
    rig.pass(command);
    assert!(rig.take(1).is_none(), "it is completed once");
}

#[test]
fn errors_are_logged_the_newest_first() {
    let mut rig = Rig::with_io(config(), 8);
    rig.controller.spoil_reads(1, 10..12).expect("it is there");
    let read = rig.with_data(io(NvmOpcode::READ, 1, 8, 8), 0);
    let cid = rig.submit(1, read);
    rig.step();
    let cqe = rig.take(1).expect("completed");
    assert_eq!(cqe.status().code(), Status::UNRECOVERED_READ_ERROR);
    assert!(cqe.status().more(), "the log tells more");
    assert_eq!(rig.status_of(1, io(NvmOpcode::VERIFY, 9, 0, 1)), Status::INVALID_NAMESPACE_OR_FORMAT);
    let page = log_page(&mut rig, LogPageId::ERROR, 192, false);
    let entry = |index: usize| {
        ErrorInformation::read_from_bytes(&page[index * 64..(index + 1) * 64]).expect("64 bytes")
    };
    assert_eq!((entry(0).error_count.get(), entry(0).nsid.get()), (2, 9));
    let first = entry(1);
    assert_eq!((first.error_count.get(), first.sqid.get(), first.cid.get()), (1, 1, cid));
    assert_eq!((first.lba.get(), first.nsid.get()), (10, 1));
    assert_eq!(Status::from_bits(first.status.get() >> 1).code(), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(entry(2).error_count.get(), 0);
    let page = log_page(&mut rig, LogPageId::SMART, 512, false);
    let page = SmartHealth::read_from_bytes(&page).expect("512 bytes");
    assert_eq!((page.media_errors.get(), page.error_log_entries.get()), (1, 2));
}

#[test]
fn log_pages_come_in_parts_and_end_in_zeros() {
    let mut rig = Rig::ready(config());
    let page = log_page(&mut rig, LogPageId::FIRMWARE_SLOT, 512, false);
    let page = FirmwareSlot::read_from_bytes(&page).expect("512 bytes");
    assert_eq!((page.afi, &page.revision[0][..5]), (1, &env!("CARGO_PKG_VERSION").as_bytes()[..5]));
    let effects = log_page(&mut rig, LogPageId::COMMANDS_SUPPORTED_AND_EFFECTS, 4096, false);
    let page = CommandEffects::read_from_bytes(&effects).expect("4096 bytes");
    assert_eq!((page.admin[0x06].get(), page.io[0x01].get(), page.io[0x04].get()), (1, 3, 0));
    let get = GetLogPage {
        lid: LogPageId::COMMANDS_SUPPORTED_AND_EFFECTS,
        length_bytes: 16,
        offset: 1024,
        nsid: NSID_ALL,
        ..GetLogPage::default()
    };
    let sqe = rig.with_data(get.sqe(), 0);
    rig.admin(sqe);
    assert_eq!(rig.seen(0, 16), effects[1024..1040]);
    let past = GetLogPage { offset: 4092, ..get };
    rig.fill(0, &[7; 16]);
    let sqe = rig.with_data(past.sqe(), 0);
    rig.admin(sqe);
    assert_eq!(rig.seen(0, 16), [0; 16]);
    let refused = [
        (GetLogPage { offset: 4100, ..get }, Status::INVALID_FIELD),
        (GetLogPage { offset: 2, ..get }, Status::INVALID_FIELD),
        (GetLogPage { offset_is_index: true, ..get }, Status::INVALID_FIELD),
        (GetLogPage { nsid: 1, ..get }, Status::INVALID_FIELD),
        (GetLogPage { length_bytes: 4 << 30, ..get }, Status::INVALID_FIELD),
        (GetLogPage { lid: LogPageId::ANA, ..get }, Status::INVALID_LOG_PAGE),
        (GetLogPage { lid: LogPageId(0xff), ..get }, Status::INVALID_LOG_PAGE),
    ];
    for (command, status) in refused {
        let sqe = rig.with_data(command.sqe(), 0);
        assert_eq!(rig.status_of(0, sqe), status, "{command:?}");
    }
}
