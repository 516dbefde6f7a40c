//! The discovery log page, read in parts while it changes.

use nvme_spec::discovery::padded_text;
use reactor::net::{Network, Ready};

use super::*;
use crate::error::EndCause;
use crate::limits::SCRATCH_BYTES;
use crate::{ControllerConfig, Discovery, DiscoveryEvent, Turn};

/// Turns until there is an event.
fn discover(records: u64, changes: u32, prepare: impl FnOnce(&mut TestTarget)) -> DiscoveryEvent {
    let world = SimWorld::new(5);
    world.set_auto_advance(false);
    let network = world.network();
    let mut target = TestTarget::new(&world, &addresses(1), 4096, 4096);
    prepare(&mut target);
    target.script(0).discovery_records = records;
    target.script(0).discovery_changes = changes;
    let mut group = network.group();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut discovery: Option<Discovery> = None;
    for _ in 0..100_000 {
        let mut ready: Vec<Ready> = Vec::new();
        group.take_ready(&mut ready, 8);
        let mut turn =
            Turn { now: world.now(), network: &network, group: &mut *group, scratch: &mut scratch };
        let discovery = discovery.get_or_insert_with(|| {
            Discovery::new(ControllerConfig::discovery(addresses(1)[0], identity()), 0, &mut turn)
        });
        for ready in ready {
            discovery.on_ready(ready, &mut turn);
        }
        discovery.poll(&mut turn);
        if let Some(event) = discovery.next_event() {
            return event;
        }
        target.poll();
        world.advance(STEP);
    }
    panic!("no event");
}

#[test]
fn all_records_of_one_generation_are_found() {
    for (records, changes) in [(0, 0), (1, 0), (8, 1), (20, 3)] {
        let DiscoveryEvent::Found(found) = discover(records, changes, |_| {}) else { panic!("not found") };
        assert_eq!(found.len() as u64, records);
        for (index, record) in found.iter().enumerate() {
            assert_eq!(record.portid.get() as usize, index);
            assert_eq!(padded_text(&record.trsvcid), Some("4420"));
        }
    }
}

#[test]
fn a_page_that_never_stands_still_or_lies_is_left() {
    let ended = |event| matches!(event, DiscoveryEvent::Ended(EndCause::Requested));
    assert!(ended(discover(3, u32::MAX, |_| {})));
    assert!(ended(discover(1 << 40, 0, |_| {})));
}

#[test]
fn a_refusal_is_told() {
    let refused = nvme_spec::Status::CONNECT_INVALID_HOST.with_dnr();
    let event = discover(1, 0, |target| target.script(0).refuse = Some(refused));
    assert!(matches!(event, DiscoveryEvent::Ended(EndCause::Refused(status)) if status == refused));
}
