//! What each service action does to the state (SPC-4 section 5.13; NVM Express base section 8.1.22).
//!
//! A change is computed on a copy: the caller makes the copy durable first and then uses it, so
//! nothing is ever in force that a restart would forget.

use super::limits::REGISTRANTS_MAX;
use super::state::{Full, Held, Kind, Path, Refused, Registrant, Reservations};

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Register, change the key, or (with `new_key` 0) unregister.
    Register {
        /// The path's key now, 0 when it is not registered.
        key: u64,
        /// The key from now on; 0 unregisters.
        new_key: u64,
        /// Do not look at `key`.
        ignore_key: bool,
        /// Whether the state survives power loss from now on; not looked at when unregistering.
        survives_power_loss: bool,
        /// The number by which the protocol reports the target port.
        relative_target_port: u16,
    },
    /// Take the reservation.
    Reserve {
        /// The path's key.
        key: u64,
        /// The type.
        kind: Kind,
    },
    /// Give the reservation back.
    Release {
        /// The path's key.
        key: u64,
        /// The type it holds.
        kind: Kind,
    },
    /// Remove the reservation and every registration.
    Clear {
        /// The path's key.
        key: u64,
    },
    /// Remove other registrations, and take the reservation if they held it.
    Preempt {
        /// The path's key.
        key: u64,
        /// Whose registrations to remove.
        victim_key: u64,
        /// The type from now on.
        kind: Kind,
        /// Their commands end as well, before this is answered.
        abort: bool,
    },
    /// Register another path and hand the reservation to it.
    RegisterAndMove {
        /// The path's key.
        key: u64,
        /// The key of the other path; not 0.
        new_key: u64,
        /// The other path.
        to: Path,
        /// The number by which the protocol reports the other path's target port.
        to_relative_target_port: u16,
        /// Unregister this path.
        unregister: bool,
        /// Whether the state survives power loss from now on.
        survives_power_loss: bool,
    },
    /// Register as NVMe does: a registrant may repeat its own key and bring no other one (NVM Express
    /// base, Reservation Register, RREGA 0).
    RegisterHost {
        /// The key; not 0.
        new_key: u64,
        /// Whether the state survives power loss from now on; `None`: as before.
        survives_power_loss: Option<bool>,
    },
    /// Unregister as NVMe does: only a registrant can (RREGA 1).
    UnregisterHost {
        /// The path's key.
        key: u64,
        /// Do not look at `key`.
        ignore_key: bool,
        /// Whether the state survives power loss from now on; `None`: as before.
        survives_power_loss: Option<bool>,
    },
    /// Change the key as NVMe does (RREGA 2). With `ignore_key` it registers who is not.
    ReplaceKey {
        /// The path's key.
        key: u64,
        /// The key from now on; not 0.
        new_key: u64,
        /// Do not look at `key`, nor at whether the path is registered.
        ignore_key: bool,
        /// Whether the state survives power loss from now on; `None`: as before.
        survives_power_loss: Option<bool>,
    },
    /// Say whether the state survives power loss, and nothing else (NVMe's Set Features, Reservation
    /// Persistence). Needs no registration.
    SetPersistence {
        /// From now on.
        survives_power_loss: bool,
    },
}

/// Whom the change concerns beside the path that asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Their reservation or registration was removed by CLEAR.
    pub reservations_preempted: Vec<Path>,
    /// The reservation they relied on is gone.
    pub reservations_released: Vec<Path>,
    /// Their registration was removed by PREEMPT.
    pub registrations_preempted: Vec<Path>,
    /// Their commands must end before the change is answered (PREEMPT AND ABORT).
    pub abort_tasks_of: Vec<Path>,
}

impl Outcome {
    /// True when nobody else is concerned.
    pub fn is_empty(&self) -> bool {
        let Self { reservations_preempted, reservations_released, registrations_preempted, abort_tasks_of } =
            self;
        reservations_preempted.is_empty()
            && reservations_released.is_empty()
            && registrations_preempted.is_empty()
            && abort_tasks_of.is_empty()
    }
}

impl Reservations {
    /// The state after `change`, asked by `path`, and whom it concerns.
    pub fn apply(&self, path: &Path, change: &Change) -> Result<(Self, Outcome), Refused> {
        let mut next = self.clone();
        let mut outcome = Outcome::default();
        match change {
            Change::Register { key, new_key, ignore_key, survives_power_loss, relative_target_port } => {
                if !ignore_key && self.registrant(path).map_or(0, |registrant| registrant.key) != *key {
                    return Err(Refused::Conflict);
                }
                next.register(path, *new_key, *relative_target_port, &mut outcome)?;
                // Leaving says nothing about the others: their fence must not fall with it.
                if *new_key != 0 {
                    next.survives_power_loss = *survives_power_loss;
                }
            }
            Change::Reserve { key, kind } => {
                self.check_key(path, *key)?;
                next.reserve(path, *kind)?;
            }
            Change::Release { key, kind } => {
                self.check_key(path, *key)?;
                next.release(path, *kind, &mut outcome)?;
            }
            Change::Clear { key } => {
                self.check_key(path, *key)?;
                outcome.reservations_preempted = self.others(path);
                next.registrants.clear();
                next.held = None;
                next.generation = self.generation.wrapping_add(1);
            }
            Change::Preempt { key, victim_key, kind, abort } => {
                self.check_key(path, *key)?;
                next.preempt(path, *victim_key, *kind, &mut outcome)?;
                if *abort {
                    outcome.abort_tasks_of = outcome.registrations_preempted.clone();
                }
            }
            Change::RegisterAndMove {
                key,
                new_key,
                to,
                to_relative_target_port,
                unregister,
                survives_power_loss,
            } => {
                self.check_key(path, *key)?;
                let registrant = Registrant {
                    path: to.clone(),
                    key: *new_key,
                    relative_target_port: *to_relative_target_port,
                };
                next.move_to(path, registrant, *unregister)?;
                next.survives_power_loss = *survives_power_loss;
            }
            Change::RegisterHost { .. }
            | Change::UnregisterHost { .. }
            | Change::ReplaceKey { .. }
            | Change::SetPersistence { .. } => self.apply_host(path, change, &mut next, &mut outcome)?,
        }
        Ok((next, outcome))
    }

    /// What NVMe does otherwise than SCSI. A host has no port.
    fn apply_host(
        &self,
        path: &Path,
        change: &Change,
        next: &mut Self,
        outcome: &mut Outcome,
    ) -> Result<(), Refused> {
        let current = self.registrant(path).map(|registrant| registrant.key);
        let survives = match change {
            Change::RegisterHost { new_key, survives_power_loss } => {
                if *new_key == 0 {
                    return Err(Refused::InvalidParameter);
                }
                if current.is_some_and(|key| key != *new_key) {
                    return Err(Refused::Conflict);
                }
                next.register(path, *new_key, 0, outcome)?;
                *survives_power_loss
            }
            Change::UnregisterHost { key, ignore_key, survives_power_loss } => {
                if current.is_none_or(|current| !ignore_key && current != *key) {
                    return Err(Refused::Conflict);
                }
                next.register(path, 0, 0, outcome)?;
                *survives_power_loss
            }
            Change::ReplaceKey { key, new_key, ignore_key, survives_power_loss } => {
                if *new_key == 0 {
                    return Err(Refused::InvalidParameter);
                }
                if !ignore_key && current != Some(*key) {
                    return Err(Refused::Conflict);
                }
                next.register(path, *new_key, 0, outcome)?;
                *survives_power_loss
            }
            Change::SetPersistence { survives_power_loss } => Some(*survives_power_loss),
            _ => unreachable!("the caller hands over only these"),
        };
        next.survives_power_loss = survives.unwrap_or(self.survives_power_loss);
        Ok(())
    }

    fn check_key(&self, path: &Path, key: u64) -> Result<(), Refused> {
        match self.registrant(path) {
            Some(registrant) if registrant.key == key => Ok(()),
            _ => Err(Refused::Conflict),
        }
    }

    fn others(&self, path: &Path) -> Vec<Path> {
        let others = self.registrants.iter().filter(|registrant| registrant.path != *path);
        others.map(|registrant| registrant.path.clone()).collect()
    }

    fn put(&mut self, registrant: Registrant) -> Result<(), Full> {
        match self.registrants.iter().position(|known| known.path == registrant.path) {
            Some(index) => self.registrants[index] = registrant,
            None if self.registrants.len() < REGISTRANTS_MAX => self.registrants.push(registrant),
            None => return Err(Full),
        }
        Ok(())
    }

    fn register(
        &mut self,
        path: &Path,
        new_key: u64,
        relative_target_port: u16,
        outcome: &mut Outcome,
    ) -> Result<(), Refused> {
        if new_key != 0 {
            self.put(Registrant { path: path.clone(), key: new_key, relative_target_port })?;
            self.generation = self.generation.wrapping_add(1);
        } else if self.registrant(path).is_some() {
            self.unregister(path, outcome);
            self.generation = self.generation.wrapping_add(1);
        }
        Ok(())
    }

    /// Removes a registration; a reservation that it alone held goes with it.
    fn unregister(&mut self, path: &Path, outcome: &mut Outcome) {
        self.registrants.retain(|registrant| registrant.path != *path);
        let Some(held) = &self.held else { return };
        let released = match &held.holder {
            Some(holder) => holder == path,
            None => self.registrants.is_empty(),
        };
        if released {
            if held.kind.admits_registrants() {
                outcome.reservations_released = self.others(path);
            }
            self.held = None;
        }
    }

    fn reserve(&mut self, path: &Path, kind: Kind) -> Result<(), Refused> {
        match &self.held {
            Some(held) if held.kind == kind && self.is_holder(path) => Ok(()),
            Some(_) => Err(Refused::Conflict),
            None => {
                self.hold(path, kind);
                Ok(())
            }
        }
    }

    fn hold(&mut self, path: &Path, kind: Kind) {
        let holder = (!kind.held_by_all()).then(|| path.clone());
        self.held = Some(Held { kind, holder });
    }

    fn release(&mut self, path: &Path, kind: Kind, outcome: &mut Outcome) -> Result<(), Refused> {
        // Releasing what one does not hold is GOOD and changes nothing (SPC-4 section 5.13.11.2.2).
        let Some(held) = self.held.as_ref().filter(|_| self.is_holder(path)) else { return Ok(()) };
        if held.kind != kind {
            return Err(Refused::InvalidRelease);
        }
        if kind.admits_registrants() {
            outcome.reservations_released = self.others(path);
        }
        self.held = None;
        Ok(())
    }

    fn preempt(
        &mut self,
        path: &Path,
        victim_key: u64,
        kind: Kind,
        outcome: &mut Outcome,
    ) -> Result<(), Refused> {
        let takes_reservation = match &self.held {
            Some(held) if held.kind.held_by_all() => victim_key == 0,
            Some(_) => victim_key == self.holder_key(),
            None => false,
        };
        if victim_key == 0 && !takes_reservation {
            return Err(Refused::InvalidParameter);
        }
        let is_victim = |registrant: &Registrant| {
            let named = victim_key == 0 || registrant.key == victim_key;
            // Whoever takes the reservation keeps its own registration.
            named && !(takes_reservation && registrant.path == *path)
        };
        let (victims, remaining) = self.registrants.drain(..).partition::<Vec<_>, _>(is_victim);
        self.registrants = remaining;
        if victims.is_empty() && !takes_reservation {
            return Err(Refused::Conflict);
        }
        let victims = victims.into_iter().map(|registrant| registrant.path);
        outcome.registrations_preempted = victims.filter(|victim| victim != path).collect();
        if takes_reservation {
            if self.kind() != Some(kind) {
                outcome.reservations_released = self.others(path);
            }
            self.hold(path, kind);
        } else if self.registrants.is_empty() {
            self.held = None;
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    fn move_to(&mut self, path: &Path, to: Registrant, unregister: bool) -> Result<(), Refused> {
        let held = self.held.as_ref().ok_or(Refused::Conflict)?;
        if held.holder.as_ref() != Some(path) {
            return Err(Refused::Conflict);
        }
        if to.key == 0 || to.path == *path {
            return Err(Refused::InvalidParameter);
        }
        let kind = held.kind;
        if unregister {
            self.registrants.retain(|registrant| registrant.path != *path);
        }
        let new_holder = to.path.clone();
        self.put(to)?;
        self.hold(&new_holder, kind);
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }
}
