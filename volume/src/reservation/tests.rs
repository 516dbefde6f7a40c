//! The rules as tables, the bound of the registrant table, and the durable form cut and bent.

use super::limits::{INITIATOR_PORT_BYTES_MAX, REGISTRANTS_MAX, TARGET_PORT_BYTES_MAX};
use super::*;

fn path(name: &str) -> Path {
    Path::new(name.as_bytes(), b"target").unwrap()
}

fn register(key: u64, new_key: u64) -> Change {
    Change::Register { key, new_key, ignore_key: false, survives_power_loss: true, relative_target_port: 1 }
}

fn with(registrants: &[(&str, u64)]) -> Reservations {
    registrants.iter().fold(Reservations::default(), |state, (name, key)| {
        state.apply(&path(name), &register(0, *key)).unwrap().0
    })
}

fn reserved(registrants: &[(&str, u64)], holder: &str, kind: Kind) -> Reservations {
    let state = with(registrants);
    let key = state.registrant(&path(holder)).unwrap().key;
    state.apply(&path(holder), &Change::Reserve { key, kind }).unwrap().0
}

#[test]
fn access_is_the_table_of_the_standard() {
    // SPC-4 table 66: read and write of the holder, a registrant, and anybody else.
    use Kind::*;
    let table = [
        (WriteExclusive, [(true, true), (true, false), (true, false)]),
        (ExclusiveAccess, [(true, true), (false, false), (false, false)]),
        (WriteExclusiveRegistrantsOnly, [(true, true), (true, true), (true, false)]),
        (ExclusiveAccessRegistrantsOnly, [(true, true), (true, true), (false, false)]),
        (WriteExclusiveAllRegistrants, [(true, true), (true, true), (true, false)]),
        (ExclusiveAccessAllRegistrants, [(true, true), (true, true), (false, false)]),
    ];
    for (kind, expected) in table {
        let state = reserved(&[("a", 1), ("b", 2)], "a", kind);
        for (name, (read, write)) in ["a", "b", "c"].into_iter().zip(expected) {
            assert_eq!(state.may_read(&path(name)), read, "{kind:?} {name}");
            assert_eq!(state.may_write(&path(name)), write, "{kind:?} {name}");
        }
    }
    let free = with(&[("a", 1)]);
    assert!(free.may_write(&path("anybody")));
}

#[test]
fn the_same_initiator_by_another_port_is_another_path() {
    let state = reserved(&[("a", 1)], "a", Kind::WriteExclusive);
    let other_port = Path::new(b"a", b"other").unwrap();
    assert!(!state.may_write(&other_port));
}

#[test]
fn registering_checks_the_key_unless_told_to_ignore_it() {
    let state = with(&[("a", 1)]);
    assert_eq!(state.apply(&path("a"), &register(2, 3)), Err(Refused::Conflict));
    assert_eq!(state.apply(&path("b"), &register(1, 3)), Err(Refused::Conflict));
    let (next, _) = state.apply(&path("a"), &register(1, 3)).unwrap();
    assert_eq!((next.registrants()[0].key, next.generation()), (3, 2));
    let ignore = Change::Register {
        key: 77,
        new_key: 4,
        ignore_key: true,
        survives_power_loss: true,
        relative_target_port: 1,
    };
    let (next, _) = state.apply(&path("a"), &ignore).unwrap();
    assert_eq!(next.registrants()[0].key, 4);
    // Unregistering what is not registered does nothing at all.
    let (same, _) = state.apply(&path("z"), &register(0, 0)).unwrap();
    assert_eq!(same, state);
}

#[test]
fn leaving_releases_what_only_the_leaver_held() {
    for kind in Kind::ALL {
        let state = reserved(&[("a", 1), ("b", 2)], "a", kind);
        let (next, outcome) = state.apply(&path("a"), &register(1, 0)).unwrap();
        assert_eq!(next.kind().is_some(), kind.held_by_all(), "{kind:?}");
        let told = kind.admits_registrants() && !kind.held_by_all();
        assert_eq!(outcome.reservations_released, if told { vec![path("b")] } else { vec![] }, "{kind:?}");
        if kind.held_by_all() {
            let (last, _) = next.apply(&path("b"), &register(2, 0)).unwrap();
            assert_eq!(last.kind(), None);
        }
    }
}

#[test]
fn reserving_twice_is_fine_and_everything_else_conflicts() {
    for kind in Kind::ALL {
        let state = reserved(&[("a", 1), ("b", 2)], "a", kind);
        let again = state.apply(&path("a"), &Change::Reserve { key: 1, kind });
        assert_eq!(again.unwrap().0, state);
        let other = state.apply(&path("b"), &Change::Reserve { key: 2, kind });
        assert_eq!(other.is_ok(), kind.held_by_all(), "{kind:?}");
        let other_kind =
            if kind == Kind::WriteExclusive { Kind::ExclusiveAccess } else { Kind::WriteExclusive };
        let changed = state.apply(&path("a"), &Change::Reserve { key: 1, kind: other_kind });
        assert_eq!(changed, Err(Refused::Conflict));
        let stranger = state.apply(&path("c"), &Change::Reserve { key: 0, kind });
        assert_eq!(stranger, Err(Refused::Conflict));
    }
}

#[test]
fn releasing_needs_the_right_type_and_tells_registrants() {
    let kind = Kind::WriteExclusiveRegistrantsOnly;
    let state = reserved(&[("a", 1), ("b", 2)], "a", kind);
    let wrong = state.apply(&path("a"), &Change::Release { key: 1, kind: Kind::WriteExclusive });
    assert_eq!(wrong, Err(Refused::InvalidRelease));
    let not_holder = state.apply(&path("b"), &Change::Release { key: 2, kind }).unwrap();
    assert_eq!(not_holder, (state.clone(), Outcome::default()));
    let (next, outcome) = state.apply(&path("a"), &Change::Release { key: 1, kind }).unwrap();
    assert_eq!((next.kind(), next.generation()), (None, state.generation()));
    assert_eq!(outcome.reservations_released, [path("b")]);
}

#[test]
fn clear_removes_everything_and_tells_the_others() {
    let state = reserved(&[("a", 1), ("b", 2), ("c", 3)], "a", Kind::ExclusiveAccess);
    assert_eq!(state.apply(&path("b"), &Change::Clear { key: 9 }), Err(Refused::Conflict));
    let (next, outcome) = state.apply(&path("b"), &Change::Clear { key: 2 }).unwrap();
    assert!(next.registrants().is_empty() && next.kind().is_none());
    assert_eq!(next.generation(), state.generation() + 1);
    assert_eq!(outcome.reservations_preempted, [path("a"), path("c")]);
}

#[test]
fn preempting_the_holder_takes_the_reservation() {
    let state = reserved(&[("a", 1), ("b", 2), ("c", 3)], "a", Kind::WriteExclusive);
    let change = Change::Preempt { key: 2, victim_key: 1, kind: Kind::ExclusiveAccess, abort: false };
    let (next, outcome) = state.apply(&path("b"), &change).unwrap();
    assert!(next.is_holder(&path("b")));
    assert_eq!(next.kind(), Some(Kind::ExclusiveAccess));
    assert_eq!(outcome.registrations_preempted, [path("a")]);
    // The type changed: whoever stays registered is told.
    assert_eq!(outcome.reservations_released, [path("c")]);
    assert_eq!(next.generation(), state.generation() + 1);
}

#[test]
fn preempting_another_registrant_leaves_the_reservation() {
    let state = reserved(&[("a", 1), ("b", 2), ("c", 3)], "a", Kind::WriteExclusive);
    let change = Change::Preempt { key: 2, victim_key: 3, kind: Kind::WriteExclusive, abort: false };
    let (next, outcome) = state.apply(&path("b"), &change).unwrap();
    assert!(next.is_holder(&path("a")));
    assert_eq!(outcome.registrations_preempted, [path("c")]);
    let nobody = Change::Preempt { key: 2, victim_key: 99, kind: Kind::WriteExclusive, abort: false };
    assert_eq!(state.apply(&path("b"), &nobody), Err(Refused::Conflict));
    let zero = Change::Preempt { key: 2, victim_key: 0, kind: Kind::WriteExclusive, abort: false };
    assert_eq!(state.apply(&path("b"), &zero), Err(Refused::InvalidParameter));
}

#[test]
fn preempting_all_registrants_needs_key_zero() {
    let state = reserved(&[("a", 1), ("b", 2), ("c", 3)], "a", Kind::WriteExclusiveAllRegistrants);
    let change = Change::Preempt { key: 2, victim_key: 0, kind: Kind::WriteExclusive, abort: false };
    let (next, outcome) = state.apply(&path("b"), &change).unwrap();
    assert_eq!(next.registrants().len(), 1);
    assert!(next.is_holder(&path("b")));
    assert_eq!(outcome.registrations_preempted, [path("a"), path("c")]);
    let one = Change::Preempt { key: 2, victim_key: 3, kind: Kind::WriteExclusive, abort: false };
    let (next, _) = state.apply(&path("b"), &one).unwrap();
    assert_eq!(next.kind(), Some(Kind::WriteExclusiveAllRegistrants));
}

#[test]
fn moving_hands_the_reservation_over() {
    let state = reserved(&[("a", 1), ("b", 2)], "a", Kind::ExclusiveAccess);
    let to = |name: &str, new_key, unregister| Change::RegisterAndMove {
        key: 1,
        new_key,
        to: path(name),
        to_relative_target_port: 1,
        unregister,
        survives_power_loss: true,
    };
    let (next, _) = state.apply(&path("a"), &to("c", 7, true)).unwrap();
    assert!(next.is_holder(&path("c")) && next.registrant(&path("a")).is_none());
    let (next, _) = state.apply(&path("a"), &to("b", 7, false)).unwrap();
    assert_eq!((next.registrants().len(), next.holder_key()), (2, 7));
    assert_eq!(state.apply(&path("a"), &to("c", 0, false)), Err(Refused::InvalidParameter));
    assert_eq!(state.apply(&path("a"), &to("a", 5, false)), Err(Refused::InvalidParameter));
    assert_eq!(with(&[("a", 1)]).apply(&path("a"), &to("c", 5, false)), Err(Refused::Conflict));
    let all = reserved(&[("a", 1)], "a", Kind::WriteExclusiveAllRegistrants);
    assert_eq!(all.apply(&path("a"), &to("c", 5, false)), Err(Refused::Conflict));
}

#[test]
fn the_table_holds_exactly_its_limit_and_its_blob_is_kept_whole() {
    let name = |index: usize| format!("{index:0>width$}", width = INITIATOR_PORT_BYTES_MAX);
    let target = [b't'; TARGET_PORT_BYTES_MAX];
    let long = |index: usize| Path::new(name(index).as_bytes(), &target).unwrap();
    let mut state = Reservations::default();
    for index in 0..REGISTRANTS_MAX {
        state = state.apply(&long(index), &register(0, 1 + index as u64)).unwrap().0;
    }
    let one_more = state.apply(&long(REGISTRANTS_MAX), &register(0, 1));
    assert_eq!(one_more, Err(Refused::Full(Full)));
    // A registrant may still change its key, and the blob of the full table comes back whole.
    state = state.apply(&long(0), &register(1, 500)).unwrap().0;
    let back = Reservations::decode(&state.encode()).unwrap();
    assert_eq!(back.registrants(), state.registrants());
    assert!(Path::new(&[0; INITIATOR_PORT_BYTES_MAX + 1], b"").is_none());
}

#[test]
fn the_durable_form_keeps_the_state_only_if_it_was_asked_to() {
    for kind in Kind::ALL {
        let state = reserved(&[("a", 1), ("b", 2)], "b", kind);
        let back = Reservations::decode(&state.encode()).unwrap();
        assert_eq!((back.kind(), back.registrants()), (Some(kind), state.registrants()));
        assert_eq!(back.is_holder(&path("a")), kind.held_by_all());
        assert_eq!((back.generation(), back.survives_power_loss()), (0, true));
    }
    let volatile = Change::Register {
        key: 0,
        new_key: 9,
        ignore_key: false,
        survives_power_loss: false,
        relative_target_port: 1,
    };
    let (state, _) = with(&[("a", 1)]).apply(&path("b"), &volatile).unwrap();
    assert_eq!(Reservations::decode(&state.encode()).unwrap(), Reservations::default());
    // One that leaves does not take the others' durability with it.
    let leave = Change::Register {
        key: 1,
        new_key: 0,
        ignore_key: false,
        survives_power_loss: false,
        relative_target_port: 1,
    };
    let (state, _) = with(&[("a", 1), ("b", 2)]).apply(&path("a"), &leave).unwrap();
    assert_eq!(Reservations::decode(&state.encode()).unwrap().registrants().len(), 1);
}

#[test]
fn every_cut_and_every_bent_byte_of_the_blob_is_noticed() {
    let blob = reserved(&[("a", 1), ("b", 2)], "b", Kind::WriteExclusive).encode();
    for cut in 0..blob.len() {
        assert!(Reservations::decode(&blob[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..blob.len() {
        let mut bent = blob.clone();
        bent[at] ^= 0x40;
        assert!(Reservations::decode(&bent).is_err(), "byte {at}");
    }
    assert_eq!(Reservations::decode(b"what is this, some other file?"), Err(DecodeError::Foreign));
}

mod host {
    //! What NVMe asks of the same state (NVM Express base, Reservation Register and Set Features).

    use super::*;

    fn host(number: u8) -> Path {
        Path::of_host([number; 16])
    }

    fn register_host(new_key: u64) -> Change {
        Change::RegisterHost { new_key, survives_power_loss: None }
    }

    #[test]
    fn a_host_registers_its_own_key_as_often_as_it_likes_and_no_other() {
        let state = with(&[("a", 7)]);
        let (state, _) = state.apply(&host(1), &register_host(5)).unwrap();
        assert_eq!(state.registrant(&host(1)).unwrap().key, 5);
        let (again, _) = state.apply(&host(1), &register_host(5)).unwrap();
        assert_eq!((again.registrants(), again.generation()), (state.registrants(), state.generation() + 1));
        assert_eq!(state.apply(&host(1), &register_host(6)), Err(Refused::Conflict));
        assert_eq!(state.apply(&host(2), &register_host(0)), Err(Refused::InvalidParameter));
    }

    #[test]
    fn replacing_and_leaving_look_at_the_key_unless_told_not_to() {
        let (state, _) = Reservations::default().apply(&host(1), &register_host(5)).unwrap();
        let replace = |key, new_key, ignore_key| Change::ReplaceKey {
            key,
            new_key,
            ignore_key,
            survives_power_loss: None,
        };
        let leave = |key, ignore_key| Change::UnregisterHost { key, ignore_key, survives_power_loss: None };
        assert_eq!(state.apply(&host(1), &replace(4, 6, false)), Err(Refused::Conflict));
        assert_eq!(state.apply(&host(1), &replace(5, 0, false)), Err(Refused::InvalidParameter));
        assert_eq!(state.apply(&host(2), &replace(0, 6, false)), Err(Refused::Conflict));
        for (who, change) in [(host(1), replace(5, 6, false)), (host(2), replace(0, 6, true))] {
            let (next, _) = state.apply(&who, &change).unwrap();
            assert_eq!(next.registrant(&who).unwrap().key, 6);
        }
        assert_eq!(state.apply(&host(1), &leave(4, false)), Err(Refused::Conflict));
        assert_eq!(state.apply(&host(2), &leave(5, true)), Err(Refused::Conflict));
        for change in [leave(5, false), leave(0, true)] {
            assert!(state.apply(&host(1), &change).unwrap().0.registrants().is_empty());
        }
    }

    #[test]
    fn persistence_is_said_with_a_registration_or_alone_and_is_kept_without_registrants() {
        let said = Change::SetPersistence { survives_power_loss: true };
        let (state, outcome) = Reservations::default().apply(&host(1), &said).unwrap();
        assert!(state.survives_power_loss() && outcome.is_empty());
        assert!(Reservations::decode(&state.encode()).unwrap().survives_power_loss());
        let (state, _) = state.apply(&host(1), &register_host(5)).unwrap();
        let back = Reservations::decode(&state.encode()).unwrap();
        assert_eq!(back.registrants()[0].path.host_identifier(), Some([1; 16]));
        let off = Change::RegisterHost { new_key: 5, survives_power_loss: Some(false) };
        let (state, _) = state.apply(&host(1), &off).unwrap();
        assert_eq!(Reservations::decode(&state.encode()).unwrap(), Reservations::default());
    }

    #[test]
    fn preempt_and_abort_names_whose_tasks_end() {
        let state = reserved(&[("a", 1), ("b", 2), ("c", 3)], "a", Kind::WriteExclusive);
        let change = Change::Preempt { key: 2, victim_key: 1, kind: Kind::WriteExclusive, abort: true };
        let (_, outcome) = state.apply(&path("b"), &change).unwrap();
        assert_eq!(outcome.abort_tasks_of, [path("a")]);
        assert_eq!(path("a").host_identifier(), None);
    }
}
