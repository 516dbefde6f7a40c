//! Reservation commands: from their dwords and data to a change of the volume's reservations, and the report
//! (NVMe base, sections 7.5 to 7.8 and 8.1.22).
//!
//! A registrant is a host: its path is the host identifier and no target port, so that every controller of the host
//! speaks for the same registration.

use nvme_spec::Status;
use nvme_spec::reservation::{
    AcquireAction, AcquireData, ChangePersist, RCSTS_HOLDS_RESERVATION, RegisterAction, RegisterData,
    RegisteredControllerExtended, ReleaseAction, ReleaseData, ReservationDword, ReservationReport,
    ReservationStatus, ReservationStatusExtended, ReservationType,
};
use volume::reservation::{Change, Kind, Path, Refused, Reservations};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// The path of a host; `None` for one without an identifier, which can hold no registration.
pub(crate) fn path_of(host_id: &[u8; 16]) -> Option<Path> {
    (*host_id != [0; 16]).then(|| Path::of_host(*host_id))
}

/// The status for a change that was refused.
pub(crate) fn refused(refused: Refused) -> Status {
    match refused {
        Refused::Conflict => Status::RESERVATION_CONFLICT.with_dnr(),
        Refused::InvalidRelease | Refused::InvalidParameter => Status::INVALID_FIELD.with_dnr(),
        Refused::Full(_) => Status::INSUFFICIENT_RESOURCES.with_dnr(),
    }
}

fn kind_of(kind: ReservationType) -> Result<Kind, Status> {
    Ok(match kind {
        ReservationType::WRITE_EXCLUSIVE => Kind::WriteExclusive,
        ReservationType::EXCLUSIVE_ACCESS => Kind::ExclusiveAccess,
        ReservationType::WRITE_EXCLUSIVE_REGISTRANTS_ONLY => Kind::WriteExclusiveRegistrantsOnly,
        ReservationType::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY => Kind::ExclusiveAccessRegistrantsOnly,
        ReservationType::WRITE_EXCLUSIVE_ALL_REGISTRANTS => Kind::WriteExclusiveAllRegistrants,
        ReservationType::EXCLUSIVE_ACCESS_ALL_REGISTRANTS => Kind::ExclusiveAccessAllRegistrants,
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    })
}

fn type_of(kind: Option<Kind>) -> ReservationType {
    match kind {
        None => ReservationType::NONE,
        Some(Kind::WriteExclusive) => ReservationType::WRITE_EXCLUSIVE,
        Some(Kind::ExclusiveAccess) => ReservationType::EXCLUSIVE_ACCESS,
        Some(Kind::WriteExclusiveRegistrantsOnly) => ReservationType::WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
        Some(Kind::ExclusiveAccessRegistrantsOnly) => ReservationType::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
        Some(Kind::WriteExclusiveAllRegistrants) => ReservationType::WRITE_EXCLUSIVE_ALL_REGISTRANTS,
        Some(Kind::ExclusiveAccessAllRegistrants) => ReservationType::EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
    }
}

/// Reservation Register.
pub(crate) fn register(dword: ReservationDword, data: &[u8]) -> Result<Change, Status> {
    let (data, _) =
        RegisterData::read_from_prefix(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
    let survives_power_loss = match dword.change_persist() {
        ChangePersist::NO_CHANGE => None,
        ChangePersist::CLEAR => Some(false),
        ChangePersist::SET => Some(true),
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    };
    let (key, new_key, ignore_key) = (data.crkey.get(), data.nrkey.get(), dword.ignore_existing_key());
    Ok(match dword.register_action() {
        RegisterAction::REGISTER => Change::RegisterHost { new_key, survives_power_loss },
        RegisterAction::UNREGISTER => Change::UnregisterHost { key, ignore_key, survives_power_loss },
        RegisterAction::REPLACE => Change::ReplaceKey { key, new_key, ignore_key, survives_power_loss },
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    })
}

/// Reservation Acquire.
pub(crate) fn acquire(dword: ReservationDword, data: &[u8]) -> Result<Change, Status> {
    let (data, _) =
        AcquireData::read_from_prefix(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
    if dword.ignore_existing_key() {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let kind = kind_of(dword.reservation_type())?;
    let (key, victim_key) = (data.crkey.get(), data.prkey.get());
    Ok(match dword.acquire_action() {
        AcquireAction::ACQUIRE => Change::Reserve { key, kind },
        AcquireAction::PREEMPT => Change::Preempt { key, victim_key, kind, abort: false },
        AcquireAction::PREEMPT_AND_ABORT => Change::Preempt { key, victim_key, kind, abort: true },
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    })
}

/// Reservation Release.
pub(crate) fn release(dword: ReservationDword, data: &[u8]) -> Result<Change, Status> {
    let (data, _) =
        ReleaseData::read_from_prefix(data).map_err(|_| Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
    if dword.ignore_existing_key() {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    let key = data.crkey.get();
    Ok(match dword.release_action() {
        ReleaseAction::RELEASE => Change::Release { key, kind: kind_of(dword.reservation_type())? },
        ReleaseAction::CLEAR => Change::Clear { key },
        _ => return Err(Status::INVALID_FIELD.with_dnr()),
    })
}

/// Reservation Report: as much of the status structure as the host takes. Host identifiers have 128 bits on Fabrics,
/// so only the extended structure fits them.
pub(crate) fn report(request: ReservationReport, state: &Reservations) -> Result<Vec<u8>, Status> {
    if !request.extended {
        return Err(Status::HOST_IDENTIFIER_INCONSISTENT_FORMAT.with_dnr());
    }
    let registrants = state.registrants();
    let header = ReservationStatusExtended {
        status: ReservationStatus {
            generation: U32::new(state.generation()),
            rtype: type_of(state.kind()),
            regstrnt: U16::new(registrants.len() as u16),
            ptpls: u8::from(state.survives_power_loss()),
            ..ReservationStatus::default()
        },
        ..ReservationStatusExtended::default()
    };
    let mut page = header.as_bytes().to_vec();
    for registrant in registrants {
        let holds = if state.is_holder(&registrant.path) { RCSTS_HOLDS_RESERVATION } else { 0 };
        let entry = RegisteredControllerExtended {
            // Controllers come and go with connections (dynamic model); the registrant is the host.
            cntlid: U16::new(0xffff),
            rcsts: holds,
            rkey: U64::new(registrant.key),
            hostid: host_id_of(&registrant.path),
            ..RegisteredControllerExtended::default()
        };
        page.extend_from_slice(entry.as_bytes());
    }
    page.truncate(usize::try_from(request.length_bytes).unwrap_or(usize::MAX));
    Ok(page)
}

/// The host identifier of a registrant. One of another protocol has none: its name is folded into one, so that it is
/// told apart from the others.
fn host_id_of(path: &Path) -> [u8; 16] {
    if let Some(host_id) = path.host_identifier() {
        return host_id;
    }
    let name = path.initiator_port();
    let mut folded = [0u8; 16];
    for (at, byte) in name.iter().chain(path.target_port()).enumerate() {
        folded[at % 16] = folded[at % 16].rotate_left(3) ^ byte;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> Path {
        path_of(&[number; 16]).unwrap()
    }

    fn key(crkey: u64, nrkey: u64) -> Vec<u8> {
        RegisterData { crkey: U64::new(crkey), nrkey: U64::new(nrkey) }.as_bytes().to_vec()
    }

    fn apply(state: &mut Reservations, path: &Path, change: Result<Change, Status>) -> Result<(), Status> {
        *state = state.apply(path, &change?).map_err(refused)?.0;
        Ok(())
    }

    const NONE: ChangePersist = ChangePersist::NO_CHANGE;

    fn do_register(
        state: &mut Reservations,
        path: &Path,
        (action, ignore, persist): (RegisterAction, bool, ChangePersist),
        (crkey, nrkey): (u64, u64),
    ) -> Result<(), Status> {
        apply(state, path, register(ReservationDword::register(action, ignore, persist), &key(crkey, nrkey)))
    }

    #[test]
    fn a_key_is_registered_once_replaced_and_given_up() {
        use RegisterAction as Action;
        let conflict = Err(Status::RESERVATION_CONFLICT.with_dnr());
        let mut state = Reservations::default();
        let a = host(1);
        assert_eq!(do_register(&mut state, &a, (Action::REPLACE, false, NONE), (0, 5)), conflict);
        assert_eq!(do_register(&mut state, &a, (Action::REGISTER, false, NONE), (0, 5)), Ok(()));
        assert_eq!(do_register(&mut state, &a, (Action::REGISTER, false, NONE), (0, 5)), Ok(()));
        assert_eq!(do_register(&mut state, &a, (Action::REGISTER, true, NONE), (0, 6)), conflict);
        assert_eq!(do_register(&mut state, &a, (Action::REPLACE, false, NONE), (9, 6)), conflict);
        assert_eq!(do_register(&mut state, &a, (Action::REPLACE, false, NONE), (5, 6)), Ok(()));
        assert_eq!(do_register(&mut state, &a, (Action::REPLACE, true, NONE), (0, 7)), Ok(()));
        assert_eq!(state.registrant(&a).unwrap().key, 7);
        assert_eq!(do_register(&mut state, &a, (Action::UNREGISTER, false, NONE), (6, 0)), conflict);
        assert_eq!(do_register(&mut state, &a, (Action::UNREGISTER, true, NONE), (0, 0)), Ok(()));
        assert!(state.registrants().is_empty());
        let zero = do_register(&mut state, &a, (Action::REGISTER, false, NONE), (0, 0));
        assert_eq!(zero, Err(Status::INVALID_FIELD.with_dnr()));
    }

    #[test]
    fn persistence_changes_only_when_asked() {
        use RegisterAction as Action;
        let mut state = Reservations::default();
        let (a, b) = (host(1), host(2));
        do_register(&mut state, &a, (Action::REGISTER, false, ChangePersist::SET), (0, 5)).unwrap();
        assert!(state.survives_power_loss());
        do_register(&mut state, &b, (Action::REGISTER, false, NONE), (0, 6)).unwrap();
        assert!(state.survives_power_loss());
        do_register(&mut state, &b, (Action::REGISTER, false, ChangePersist::CLEAR), (0, 6)).unwrap();
        assert!(!state.survives_power_loss());
        let reserved = do_register(&mut state, &b, (Action::REGISTER, false, ChangePersist(1)), (0, 6));
        assert_eq!(reserved, Err(Status::INVALID_FIELD.with_dnr()));
    }

    #[test]
    fn preempt_takes_the_reservation_and_says_when_to_abort() {
        let mut state = Reservations::default();
        let (a, b) = (host(1), host(2));
        for (path, number) in [(&a, 1), (&b, 2)] {
            do_register(&mut state, path, (RegisterAction::REGISTER, false, NONE), (0, number)).unwrap();
        }
        let dword = |action| ReservationDword::acquire(action, ReservationType::EXCLUSIVE_ACCESS);
        apply(&mut state, &a, acquire(dword(AcquireAction::ACQUIRE), &key(1, 0))).unwrap();
        assert!(!state.may_read(&b) && state.may_write(&a));
        let second = acquire(dword(AcquireAction::ACQUIRE), &key(2, 0));
        assert_eq!(apply(&mut state, &b, second), Err(Status::RESERVATION_CONFLICT.with_dnr()));
        let preempt = acquire(dword(AcquireAction::PREEMPT_AND_ABORT), &key(2, 1));
        assert!(matches!(preempt, Ok(Change::Preempt { abort: true, .. })));
        apply(&mut state, &b, preempt).unwrap();
        assert!(state.is_holder(&b) && state.registrant(&a).is_none());
        let ignore = ReservationDword(dword(AcquireAction::ACQUIRE).0 | 8);
        assert_eq!(acquire(ignore, &key(2, 0)), Err(Status::INVALID_FIELD.with_dnr()));
        assert_eq!(acquire(ReservationDword(7 << 8), &key(2, 0)), Err(Status::INVALID_FIELD.with_dnr()));
        let wrong = ReservationDword::release(ReleaseAction::RELEASE, ReservationType::WRITE_EXCLUSIVE);
        assert_eq!(apply(&mut state, &b, release(wrong, &key(2, 0))), Err(Status::INVALID_FIELD.with_dnr()));
        let clear = ReservationDword::release(ReleaseAction::CLEAR, ReservationType::NONE);
        apply(&mut state, &b, release(clear, &key(2, 0))).unwrap();
        assert_eq!(state.kind(), None);
    }

    #[test]
    fn the_report_is_cut_to_what_the_host_takes() {
        let mut state = Reservations::default();
        do_register(&mut state, &host(3), (RegisterAction::REGISTER, false, NONE), (0, 9)).unwrap();
        let whole = report(ReservationReport { length_bytes: 4096, extended: true }, &state).unwrap();
        assert_eq!(whole.len(), 128);
        let entry = RegisteredControllerExtended::read_from_bytes(&whole[64..]).unwrap();
        assert_eq!((entry.rkey.get(), entry.hostid, entry.rcsts), (9, [3; 16], 0));
        let part = report(ReservationReport { length_bytes: 4, extended: true }, &state).unwrap();
        assert_eq!(part, whole[..4]);
        let short = report(ReservationReport { length_bytes: 4096, extended: false }, &state);
        assert_eq!(short, Err(Status::HOST_IDENTIFIER_INCONSISTENT_FORMAT.with_dnr()));
    }

    #[test]
    fn a_host_without_an_identifier_has_no_path() {
        assert_eq!(path_of(&[0; 16]), None);
    }
}
