//! Volumes that our targets map: a way in is opened with the first mapping and given back after the last, and what
//! other protocols do to the volume is heard here.

use std::collections::VecDeque;

use reactor::poller::Progress;
use scsi::{ChangeError, LogicalUnit, LuConfig, UnitAttention, WriteCachePolicy};
use volume::shared::{Changed, Event, Ticket};

use crate::core::TargetCore;
use crate::error::TargetError;
use crate::limits::VOLUMES_PER_CORE_MAX;
use crate::slots::Key;
use crate::state::{Barrier, Disk, TaskPhase, Then};
use crate::task_set::TaskSet;

impl TargetCore {
    /// The disk over the volume of that name, made when no target maps it yet.
    pub(crate) fn disk_for(&mut self, name: &str) -> Result<Key, TargetError> {
        let closing = || TargetError::Closing { name: name.into() };
        if let Some(&key) = self.disk_names.get(name) {
            let disk = self.disks.get_mut(key).expect("named disks are there");
            if !disk.port.set_in_use(true) {
                return Err(closing());
            }
            disk.leaving = false;
            return Ok(key);
        }
        let missing = |_| TargetError::NoSuchVolume { name: name.into() };
        let volume = self.registry.get(name).map_err(missing)?;
        let full = TargetError::Full { what: "volumes", limit: VOLUMES_PER_CORE_MAX };
        let token = self.disks.next_index().ok_or(full)?;
        let port = volume.open_port(&self.bell, token).ok_or_else(closing)?;
        let config = LuConfig {
            vendor: "VEGA".into(),
            product: "Vega volume".into(),
            revision: env!("CARGO_PKG_VERSION").into(),
            serial: volume.serial().into(),
            write_cache: WriteCachePolicy::Device,
            port_groups: Vec::new(),
        };
        let disk = Disk {
            name: name.into(),
            unit: LogicalUnit::new(config, port.info(), port.reservation_cell()),
            port,
            changing: None,
            aborting: Vec::new(),
            tasks: TaskSet::default(),
            retry: VecDeque::new(),
            stats: volume.stats(),
            leaving: false,
            busy: false,
        };
        let key = self.disks.insert(disk).unwrap_or_else(|_| unreachable!("room was checked"));
        assert_eq!(key.index(), token, "the port's token is the slot's index");
        self.disk_names.insert(name.into(), key);
        Ok(key)
    }

    /// Lets go of the disks among these that no target maps.
    pub(crate) fn release_unmapped(&mut self, disks: impl IntoIterator<Item = Key>) {
        for key in disks {
            if !self.targets.iter().any(|(_, target)| target.lun_of(key).is_some()) {
                self.leave_disk(key);
            }
        }
    }

    /// Nobody maps the disk: it goes with its last task. The volume may be closed from now on.
    pub(crate) fn leave_disk(&mut self, key: Key) {
        let Some(disk) = self.disks.get_mut(key) else { return };
        disk.leaving = true;
        disk.port.set_in_use(false);
        self.close_if_idle(key);
    }

    /// Forgets a disk that leaves, once nothing is in flight.
    pub(crate) fn close_if_idle(&mut self, key: Key) {
        let Some(disk) = self.disks.get(key) else { return };
        let idle = disk.tasks.is_empty() && disk.port.in_flight() == 0 && disk.changing.is_none();
        if disk.leaving && idle {
            let disk = self.disks.remove(key).expect("looked up above");
            self.disk_names.remove(&disk.name);
            self.busy.retain(|busy| *busy != key);
        }
    }

    /// Looks at the volumes that have something for us: answers that another protocol's poll found, and events.
    pub(crate) fn hear_volumes(&mut self) -> Progress {
        let mut progress = Progress::Idle;
        while let Some(token) = self.bell.take() {
            let Some((key, _)) = self.disks.at(token) else { continue };
            progress = Progress::Busy;
            self.busy_disk(key);
            while let Some(event) = self.disks.get(key).and_then(|disk| disk.port.next_event()) {
                self.on_volume_event(key, event);
            }
        }
        progress
    }

    fn on_volume_event(&mut self, key: Key, event: Event) {
        let disk = self.disks.get_mut(key).expect("looked up by the caller");
        match event {
            Event::Resized => disk.unit.capacity_changed(disk.port.info()),
            // It was without power: what its cache held may be lost.
            Event::Returned => disk.unit.queue_unit_attention_all(UnitAttention::PowerOn, None),
            Event::ReservationsChanged(changed) => self.on_change_stored(key, changed),
            Event::ReservationsChangedElsewhere { outcome, abort } => {
                disk.unit.reservations_changed_elsewhere(&outcome);
                if let Some(ticket) = abort {
                    let victims = self.victims(key, &outcome.abort_tasks_of, None);
                    self.abort_then(victims, Then::Return { disk: key, ticket }, None);
                }
            }
            Event::AbortsDone(ticket) => {
                let at = disk.aborting.iter().position(|(other, _)| *other == ticket);
                if let Some(at) = at {
                    let (_, barrier) = disk.aborting.swap_remove(at);
                    self.count_down(Some(barrier));
                }
            }
        }
    }

    /// The reservations are durable, or not.
    fn on_change_stored(&mut self, disk_key: Key, changed: Option<Changed>) {
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its changes");
        let key = disk.changing.take().expect("one change at a time");
        let task = self.tasks.get_mut(key).expect("a task outlives its change");
        let TaskPhase::Changing(change) = std::mem::replace(&mut task.phase, TaskPhase::Running) else {
            unreachable!("a task waits for its change");
        };
        self.finish_change(key, disk_key, &change, changed.ok_or(ChangeError::NotDurable));
    }

    /// Sets up what waits for aborts: ours and those of other protocols. `None` when there are none.
    pub(crate) fn wait_for_aborts(
        &mut self,
        disk: Key,
        victims: &[Key],
        ticket: Option<Ticket>,
        then: Then,
    ) -> Option<Key> {
        let remaining = victims.len() + usize::from(ticket.is_some());
        if remaining == 0 {
            return None;
        }
        let barrier = Barrier { remaining, then, by: None };
        let barrier =
            self.barriers.insert(barrier).unwrap_or_else(|_| unreachable!("fewer barriers than tasks"));
        if let Some(ticket) = ticket {
            let disk = self.disks.get_mut(disk).expect("a disk outlives its tasks");
            disk.aborting.push((ticket, barrier));
        }
        Some(barrier)
    }
}
