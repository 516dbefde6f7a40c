//! What control asks of a core: volumes, targets, sessions, shutting down.

use std::sync::Arc;

use iscsi_proto::discovery::TargetRecords;
use iscsi_proto::session::{SendTargets, TextQuery};
use reactor::buffer::Sgl;
use reactor::stats::StatsSet;
use scsi::{LogicalUnit, LuConfig, UnitAttention, WriteCachePolicy};
use volume::bdev::{BdevInfo, Io, IoChannel, IoStatus, Op};
use volume::metadata::MetadataDone;
use volume::op_stats::OpKind;
use volume::volume::Volume;

use crate::core::TargetCore;
use crate::error::TargetError;
use crate::limits::{DRAIN_LINGER, VOLUMES_PER_CORE_MAX};
use crate::message::{Answer, CoreMessage, SessionReport};
use crate::setup::VolumeSetup;
use crate::slots::Key;
use crate::state::{Disk, Draining, Phase};
use crate::task_set::TaskSet;

/// The tag of a flush that belongs to no task: no key has this number, a table never gets that full.
pub(crate) const OWN_FLUSH_TAG: u64 = u64::MAX;

type Added = Result<(BdevInfo, Arc<StatsSet>), TargetError>;

impl TargetCore {
    /// Does what a message says and answers it.
    pub(crate) fn on_message(&mut self, message: CoreMessage) {
        match message {
            CoreMessage::AddVolume { setup, answer } => {
                let added = self.add_volume(*setup);
                answer(added);
            }
            CoreMessage::RemoveVolume { name, answer } => self.remove_volume(&name, answer),
            CoreMessage::ResizeVolume { name, length_blocks, answer } => {
                answer(self.resize_volume(&name, length_blocks));
            }
            CoreMessage::AllocatedBytes { name, answer } => {
                let disk =
                    self.disk_named(&name).map(|key| self.disks.get(key).expect("named disks are there"));
                answer(disk.map(|disk| disk.volume.allocated_bytes()));
            }
            CoreMessage::SetTarget { setup, answer } => {
                let set = self.set_target(*setup);
                answer(set);
            }
            CoreMessage::RemoveTarget { name, answer } => answer(self.remove_target(&name)),
            CoreMessage::SetDirectory(directory) => self.directory = directory,
            CoreMessage::Sessions(answer) => answer(self.session_reports()),
            CoreMessage::DropSession { tsih, answer } => {
                let found = self.sessions.iter().find(|(_, entry)| entry.tsih == tsih && !entry.ended);
                let key = found.map(|(key, _)| key);
                if let Some(key) = key {
                    self.close_session(key);
                }
                answer(key.is_some());
            }
            CoreMessage::Adopt(moved) => {
                let now = self.core.clock.now();
                self.adopt_connection(moved, now);
            }
            CoreMessage::Drain(answer) => self.begin_draining(answer),
        }
    }

    fn add_volume(&mut self, setup: VolumeSetup) -> Added {
        let VolumeSetup { name, serial, channel, metadata, reservations } = setup;
        if self.is_draining() {
            return Err(TargetError::Draining);
        }
        if self.disk_names.contains_key(&name) {
            return Err(TargetError::VolumeExists { name });
        }
        let adopt = |error: std::io::Error| TargetError::Adopt { name: name.clone(), reason: error.kind() };
        let channel = channel(&self.core).map_err(adopt)?;
        let metadata = metadata(&self.core).map_err(adopt)?;
        let volume = Volume::new(channel, &self.core.buffers)
            .map_err(|_| TargetError::NoMemory { name: name.clone() })?;
        let info = volume.info();
        let config = LuConfig {
            vendor: "VEGA".into(),
            product: "Vega volume".into(),
            revision: env!("CARGO_PKG_VERSION").into(),
            serial,
            write_cache: WriteCachePolicy::Device,
            port_groups: Vec::new(),
        };
        let stored = (!reservations.is_empty()).then_some(reservations.as_slice());
        let unit = LogicalUnit::new(config, info, stored)
            .map_err(|_| TargetError::Reservations { name: name.clone() })?;
        let stats = Arc::new(OpKind::stats_set(name.clone()));
        let disk = Disk {
            name: name.clone(),
            unit,
            volume,
            metadata,
            persisting: None,
            tasks: TaskSet::default(),
            retry: std::collections::VecDeque::new(),
            stats: stats.clone(),
            closing: None,
            busy: false,
            flushing: false,
        };
        let full = TargetError::Full { what: "volumes", limit: VOLUMES_PER_CORE_MAX };
        let key = self.disks.insert(disk).map_err(|_| full)?;
        self.disk_names.insert(name, key);
        Ok((info, stats))
    }

    pub(crate) fn disk_named(&self, name: &str) -> Result<Key, TargetError> {
        self.disk_names.get(name).copied().ok_or_else(|| TargetError::NoSuchVolume { name: name.into() })
    }

    fn remove_volume(&mut self, name: &str, answer: Answer<Result<(), TargetError>>) {
        let key = match self.disk_named(name) {
            Ok(key) => key,
            Err(error) => return answer(Err(error)),
        };
        let mapped = self.targets.iter().find(|(_, target)| target.lun_of(key).is_some());
        if let Some((_, target)) = mapped {
            let target = target.setup.name.clone();
            return answer(Err(TargetError::VolumeMapped { name: name.into(), target }));
        }
        let disk = self.disks.get_mut(key).expect("named disks are there");
        if disk.closing.is_some() {
            return answer(Err(TargetError::Closing { name: name.into() }));
        }
        disk.closing = Some(answer);
        self.flush_disk(key);
        self.close_if_idle(key);
    }

    /// Flushes a disk for ourselves; its end is seen in [`TargetCore::on_own_flush`].
    fn flush_disk(&mut self, key: Key) {
        let disk = self.disks.get_mut(key).expect("named disks are there");
        let flush = Io { tag: OWN_FLUSH_TAG, op: Op::Flush, sgl: Sgl::empty() };
        if disk.volume.submit(flush).is_none() {
            disk.flushing = true;
            self.busy_disk(key);
        }
    }

    /// A flush of our own has come home. A failed one has been counted by the volume; there is nobody to tell.
    pub(crate) fn on_own_flush(&mut self, key: Key, _: IoStatus) {
        self.disks.get_mut(key).expect("a disk outlives its I/O").flushing = false;
        self.close_if_idle(key);
    }

    /// Closes a disk that is to be closed, once nothing is in flight.
    pub(crate) fn close_if_idle(&mut self, key: Key) {
        let Some(disk) = self.disks.get(key) else { return };
        let idle = disk.tasks.is_empty() && disk.volume.is_drained() && disk.persisting.is_none();
        if disk.closing.is_none() || !idle {
            return;
        }
        let disk = self.disks.remove(key).expect("looked up above");
        self.disk_names.remove(&disk.name);
        self.busy.retain(|busy| *busy != key);
        let answer = disk.closing.expect("checked above");
        drop(disk.volume);
        answer(Ok(()));
    }

    fn resize_volume(&mut self, name: &str, length_blocks: u64) -> Result<(), TargetError> {
        let key = self.disk_named(name)?;
        let disk = self.disks.get_mut(key).expect("named disks are there");
        let current = disk.volume.info().length_blocks;
        if length_blocks < current || !disk.volume.grow(length_blocks) {
            return Err(TargetError::Shrinks { name: name.into(), current, asked: length_blocks });
        }
        if length_blocks > current {
            disk.unit.capacity_changed(disk.volume.info());
        }
        Ok(())
    }

    /// The reservations of a disk are durable, or not.
    pub(crate) fn on_persisted(&mut self, disk_key: Key, done: MetadataDone) {
        let disk = self.disks.get_mut(disk_key).expect("a disk outlives its metadata");
        let key = disk.persisting.take().expect("one change at a time");
        assert_eq!(key.to_u64(), done.tag, "the store answers what it was given");
        let response = disk.unit.persisted(done.result.is_ok());
        self.finish_persisted(key, disk_key, response);
    }

    /// Which targets an initiator may know.
    pub(crate) fn on_text(&mut self, session: Key, query: TextQuery) {
        let Some(entry) = self.sessions.get(session) else { return };
        let reached = self
            .connection_of(session, query.connection)
            .and_then(|key| self.connections.get(key))
            .map(|connection| connection.local);
        let own = entry.target.and_then(|target| self.targets.get(target)).map(|t| t.setup.name.as_str());
        let mut records = TargetRecords::new();
        for (name, visible) in self.directory.iter() {
            let asked = match &query.targets {
                SendTargets::All => true,
                SendTargets::Current => own == Some(name),
                // In a normal session only its own target may be asked for (RFC 7143 appendix C).
                SendTargets::Named(asked) => {
                    asked.eq_ignore_ascii_case(name) && own.is_none_or(|own| own == name)
                }
            };
            if !asked || !visible.allows(&entry.initiator_name) {
                continue;
            }
            records.target(name);
            for address in
                visible.advertised.iter().chain(reached.iter().filter(|_| visible.advertised.is_empty()))
            {
                records.address(*address, visible.portal_group_tag);
            }
        }
        let entry = self.sessions.get_mut(session).expect("looked up above");
        entry.session.complete_text(query.id, &records);
        self.touch_session(session);
    }

    fn session_reports(&self) -> Vec<SessionReport> {
        let live = self.sessions.iter().filter(|(_, entry)| !entry.ended);
        live.map(|(_, entry)| {
            let target = entry.target.and_then(|target| self.targets.get(target));
            let connections = entry.session.connections().filter_map(|(index, cid)| {
                let key = entry.connections[usize::from(index.0)]?;
                Some((cid, self.connections.get(key)?.peer))
            });
            SessionReport {
                tsih: entry.tsih,
                core: self.endpoint.core(),
                initiator_name: entry.initiator_name.clone(),
                isid: entry.isid.iter().map(|byte| format!("{byte:02x}")).collect(),
                target_name: target.map(|target| target.setup.name.clone()),
                connections: connections.collect(),
                tasks: entry.open_tasks,
            }
        })
        .collect()
    }

    /// The tasks of one connection that are not over.
    pub(crate) fn open_tasks_on(&self, connection: Key) -> Vec<Key> {
        let Some(Phase::Full { session, index }) = self.connections.get(connection).map(|c| &c.phase) else {
            return Vec::new();
        };
        let tasks = self.tasks.iter().filter(|(_, t)| t.session == *session && t.connection == *index);
        tasks.map(|(key, _)| key).collect()
    }

    fn begin_draining(&mut self, answer: Answer<()>) {
        self.portals.clear();
        let deadline = self.core.clock.now().after(DRAIN_LINGER);
        self.draining = Some(Draining { answer, deadline, closing: Vec::new() });
        for (key, connection) in self.connections.iter_mut() {
            // No more commands; those in flight still end and are answered.
            connection.paused = true;
            self.group.pause_recv(key.index(), true);
        }
    }

    /// Shutting down: commands in flight first, then the connections, then a flush of every volume, then the answer.
    pub(crate) fn go_on_draining(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        let late = draining.deadline <= self.core.clock.now();
        let mut closing = std::mem::take(&mut draining.closing);
        for key in self.connections.keys() {
            let full = self.connections.get(key).is_some_and(|c| matches!(c.phase, Phase::Full { .. }));
            if late || !full {
                self.lose_connection(key);
            }
        }
        for session in self.sessions.keys() {
            let idle = self.sessions.get(session).is_some_and(|entry| entry.open_tasks == 0);
            if idle && !closing.contains(&session) {
                closing.push(session);
                self.close_session(session);
            }
        }
        self.draining.as_mut().expect("looked up above").closing = closing;
        if !self.sessions.is_empty() || !self.tasks.is_empty() {
            return;
        }
        let mut open = false;
        for key in self.disks.keys() {
            let disk = self.disks.get_mut(key).expect("listed just now");
            if disk.closing.is_none() {
                disk.closing = Some(Box::new(|_| ()));
                self.flush_disk(key);
            }
            self.close_if_idle(key);
            open |= self.disks.get(key).is_some();
        }
        if !open && let Some(draining) = self.draining.take() {
            self.drained = true;
            (draining.answer)(());
        }
    }

    /// Tells the sessions of a target that its LUNs have changed.
    pub(crate) fn tell_luns_changed(&mut self, target: Key) {
        let luns = self.targets.get(target).map(|target| target.luns.clone()).unwrap_or_default();
        for (session, entry) in self.sessions.iter() {
            if entry.target != Some(target) {
                continue;
            }
            for (_, disk) in &luns {
                if let Some(disk) = self.disks.get_mut(*disk) {
                    let nexus = crate::state::nexus_of(session);
                    disk.unit.queue_unit_attention(nexus, UnitAttention::ReportedLunsChanged);
                }
            }
        }
    }
}
