//! Targets come, change and go while sessions use them.

use std::collections::BTreeSet;

use iscsi_proto::lun;

use crate::core::TargetCore;
use crate::error::TargetError;
use crate::limits::{LUNS_PER_TARGET_MAX, VOLUMES_PER_CORE_MAX};
use crate::setup::TargetSetup;
use crate::slots::Key;
use crate::state::{Phase, Target, nexus_of};

impl TargetCore {
    /// Creates a target or changes it. Sessions go on; those that may no longer log in are closed.
    pub(crate) fn set_target(&mut self, setup: TargetSetup) -> Result<(), TargetError> {
        if self.is_draining() {
            return Err(TargetError::Draining);
        }
        if setup.luns.len() > LUNS_PER_TARGET_MAX {
            return Err(TargetError::Full { what: "LUNs of one target", limit: LUNS_PER_TARGET_MAX });
        }
        let luns = self.open_luns(&setup)?;
        let lun_numbers = luns.iter().map(|(lun, _)| *lun).collect();
        let Some(&key) = self.target_names.get(&setup.name) else {
            let name = setup.name.clone();
            let relative_target_port_id = self.next_port_id;
            let target = Target { setup, luns, lun_numbers, relative_target_port_id };
            let full = TargetError::Full { what: "targets", limit: VOLUMES_PER_CORE_MAX };
            let key = match self.targets.insert(target) {
                Ok(key) => key,
                Err(target) => {
                    self.release_unmapped(target.luns.into_iter().map(|(_, disk)| disk));
                    return Err(full);
                }
            };
            self.next_port_id = self.next_port_id.checked_add(1).unwrap_or(1);
            self.target_names.insert(name, key);
            return Ok(());
        };
        let target = self.targets.get_mut(key).expect("named targets are there");
        let before: BTreeSet<Key> = target.luns.iter().map(|(_, disk)| *disk).collect();
        let after: BTreeSet<Key> = luns.iter().map(|(_, disk)| *disk).collect();
        let changed = target.luns != luns;
        let moved: Vec<(u64, Key)> = target.luns.iter().filter(|old| !luns.contains(old)).copied().collect();
        self.close_logins(key);
        self.clear_luns(key, &moved);
        self.move_nexuses(key, &before, &after);
        let target = self.targets.get_mut(key).expect("named targets are there");
        (target.setup, target.luns, target.lun_numbers) = (setup, luns, lun_numbers);
        if changed {
            self.tell_luns_changed(key);
        }
        self.release_unmapped(before);
        self.close_disallowed(key);
        Ok(())
    }

    /// Removes a target; its sessions end now, with their tasks.
    pub(crate) fn remove_target(&mut self, name: &str) -> Result<(), TargetError> {
        let missing = || TargetError::NoSuchTarget { name: name.into() };
        let key = *self.target_names.get(name).ok_or_else(missing)?;
        for session in self.sessions_of(key) {
            self.kill_session(session);
        }
        let target = self.targets.remove(key).expect("named targets are there");
        self.target_names.remove(name);
        self.release_unmapped(target.luns.into_iter().map(|(_, disk)| disk));
        Ok(())
    }

    /// The disks that a target shall map, by LUN in wire form.
    fn open_luns(&mut self, setup: &TargetSetup) -> Result<Vec<(u64, Key)>, TargetError> {
        let mut luns = Vec::with_capacity(setup.luns.len());
        for (number, volume) in &setup.luns {
            match self.disk_for(volume) {
                Ok(disk) => luns.push((lun::to_wire(*number), disk)),
                Err(error) => {
                    self.release_unmapped(luns.into_iter().map(|(_, disk)| disk));
                    return Err(error);
                }
            }
        }
        luns.sort_unstable();
        Ok(luns)
    }

    pub(crate) fn sessions_of(&self, target: Key) -> Vec<Key> {
        let sessions = self.sessions.iter().filter(|(_, entry)| entry.target == Some(target));
        sessions.map(|(key, _)| key).collect()
    }

    /// Sessions leave the disks that are no longer mapped, with their tasks there, and reach the new ones.
    fn move_nexuses(&mut self, target: Key, before: &BTreeSet<Key>, after: &BTreeSet<Key>) {
        for session in self.sessions_of(target) {
            let nexus = nexus_of(session);
            for disk_key in before.difference(after) {
                if let Some(disk) = self.disks.get_mut(*disk_key) {
                    disk.unit.detach(nexus);
                }
            }
            let entry = self.sessions.get(session).expect("listed just now");
            if entry.ended {
                continue;
            }
            let Some((name, _)) = &entry.nexus else { continue };
            for disk in after.difference(before) {
                let disk = self.disks.get_mut(*disk).expect("a mapped disk is there");
                assert!(disk.unit.attach(nexus, name.clone()), "sessions are fewer than nexuses");
            }
        }
    }

    /// LUNs that are about to name another volume, or none: what executes there is answered, what still collects
    /// data vanishes, so that nothing meant for the old volume reaches the new one.
    fn clear_luns(&mut self, target: Key, moved: &[(u64, Key)]) {
        for session in self.sessions_of(target) {
            self.drain_events(session);
            for (lun, disk) in moved {
                for task in self.open_tasks_of(session, |task| task.disk == *disk) {
                    self.refuse_task(task);
                }
                if let Some(entry) = self.sessions.get_mut(session) {
                    entry.session.abort_logical_unit(Some(*lun));
                }
            }
            self.drain_later(session);
            self.touch_session(session);
        }
    }

    /// Logins under way were admitted under the old rules: they begin again.
    fn close_logins(&mut self, target: Key) {
        if self.targets.get(target).is_none() {
            return;
        }
        for key in self.connections.keys() {
            let phase = self.connections.get(key).map(|connection| &connection.phase);
            if matches!(phase, Some(Phase::Login(_) | Phase::Reinstating(_))) {
                self.lose_connection(key);
            }
        }
    }

    fn close_disallowed(&mut self, key: Key) {
        for session in self.sessions_of(key) {
            let target = self.targets.get(key).expect("the target was set just now");
            let entry = self.sessions.get(session).expect("listed just now");
            if !target.setup.allows(&entry.initiator_name) {
                self.close_session(session);
            }
        }
    }
}
