//! PREEMPT AND ABORT within iSCSI and between protocols: answered when the last I/O of the victims has ended.

use volume::reservation::{Change, Kind, Path};
use volume::shared::{Bell, Changing, Event, Port};

use super::*;

const EXCLUSIVE: u8 = 1;

fn other_protocol(bench: &Bench) -> (Bell, Port) {
    let bell = Bell::default();
    let port = bench.registry.get(VOLUME).expect("it is there").open_port(&bell, 0).expect("it is open");
    (bell, port)
}

fn host() -> Path {
    Path::of_host([7; 16])
}

#[test]
fn tasks_of_a_session_that_has_ended_are_waited_for() {
    let mut bench = Bench::new();
    let (mut victim, mut other) = (bench.client(1), bench.client(2));
    victim.register(&mut bench, 1);
    other.register(&mut bench, 2);
    bench.close_gate();
    victim.command(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK]));
    victim.end.reset();
    bench.turns();
    assert_eq!(bench.gate.borrow().waiting.len(), 1, "its write is with the device");
    other.reserve_out(&mut bench, 5, EXCLUSIVE, 2, 1);
    assert!(other.next().is_none(), "not before the write has ended");
    bench.open_gate();
    assert_eq!(other.answer(&mut bench)[3], 0);
}

#[test]
fn another_protocol_waits_for_our_tasks_and_we_are_fenced_at_once() {
    let mut bench = Bench::new();
    let mut victim = bench.client(1);
    victim.register(&mut bench, 1);
    let (_, port) = other_protocol(&bench);
    let register = Change::RegisterHost { new_key: 9, survives_power_loss: None };
    assert!(matches!(port.change_reservations(&host(), &register), Changing::Now(_)));
    bench.close_gate();
    victim.command(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK]));
    let preempt = Change::Preempt { key: 9, victim_key: 1, kind: Kind::WriteExclusive, abort: true };
    assert!(matches!(port.change_reservations(&host(), &preempt), Changing::Now(_)));
    // Nobody holds a reservation yet: so it is taken now.
    let reserve = Change::Reserve { key: 9, kind: Kind::WriteExclusive };
    assert!(matches!(port.change_reservations(&host(), &reserve), Changing::Now(_)));
    bench.turns();
    assert_eq!(port.next_event(), None, "its write is with the device");
    bench.open_gate();
    assert!(matches!(port.next_event(), Some(Event::AbortsDone(_))));
    assert!(victim.next().is_none(), "an aborted command is not answered");
    let sense = {
        victim.command(&mut bench, &[0; 6], Data::None);
        bench.turns();
        victim.next().expect("an answer").1
    };
    assert_eq!((sense[4] & 0x0f, sense[2 + 12], sense[2 + 13]), (6, 0x2a, 5), "registrations preempted");
    assert_eq!(victim.run(&mut bench, &write_10(0, 1), Data::Out(&[2; BLOCK])), 0x18);
}

#[test]
fn a_command_of_ours_waits_for_the_tasks_of_another_protocol() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    client.register(&mut bench, 1);
    let (_, port) = other_protocol(&bench);
    let register = Change::RegisterHost { new_key: 9, survives_power_loss: None };
    assert!(matches!(port.change_reservations(&host(), &register), Changing::Now(_)));
    client.reserve_out(&mut bench, 5, EXCLUSIVE, 1, 9);
    assert!(client.next().is_none());
    let Some(Event::ReservationsChangedElsewhere { outcome, abort: Some(ticket) }) = port.next_event() else {
        panic!("the other protocol is asked to end its tasks")
    };
    assert_eq!(outcome.abort_tasks_of, [host()]);
    port.aborted(ticket);
    assert_eq!(client.answer(&mut bench)[3], 0);
}

#[test]
fn a_change_that_finds_another_one_under_way_is_tried_again() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    let (_, port) = other_protocol(&bench);
    let lasting = Change::RegisterHost { new_key: 9, survives_power_loss: Some(true) };
    assert_eq!(port.change_reservations(&host(), &lasting), Changing::Pending);
    // Before the next poll of the store.
    let list = [0_u64.to_be_bytes(), 5_u64.to_be_bytes(), [0; 8]].concat();
    client.send_command(&[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], Data::Out(&list));
    bench.target.poll(bench.world.now(), 32);
    assert_eq!(client.answer(&mut bench)[3], 0);
    assert_eq!(port.reservations().registrants().len(), 2);
}

#[test]
fn cold_reset_ends_every_session_of_the_target() {
    let mut bench = Bench::new();
    let (mut first, mut second) = (bench.client(1), bench.client(2));
    first.manage(&mut bench, 7);
    assert_eq!(first.answer(&mut bench)[..3], [0x22, 0x80, 0], "answered first");
    for client in [&mut first, &mut second] {
        let event = client.answer(&mut bench);
        assert_eq!((event[0], event[36]), (0x32, 3), "told that all connections of the session are dropped");
        assert!(client.end.is_closed());
    }
    assert!(bench.ask(CoreMessage::Sessions).is_empty());
}
