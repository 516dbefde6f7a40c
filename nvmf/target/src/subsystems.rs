//! Subsystems and namespaces come, change and go while hosts use them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nvme_spec::Status;
use volume::shared::{Port, SharedVolume};

use crate::core::NvmfCore;
use crate::error::TargetError;
use crate::event::AsyncEvent;
use crate::limits::{
    ANA_GROUPS_MAX, NAMESPACES_PER_CORE_MAX, NAMESPACES_PER_SUBSYSTEM_MAX, SUBSYSTEMS_PER_CORE_MAX,
};
use crate::message::Answer;
use crate::setup::{AnaState, SubsystemSetup};
use crate::slots::Key;
use crate::state::{Namespace, Subsystem};

impl NvmfCore {
    /// Creates a subsystem or changes it. Controllers go on; those of hosts that may no longer connect are dropped.
    pub(crate) fn set_subsystem(&mut self, setup: SubsystemSetup) -> Result<(), TargetError> {
        if self.is_draining() {
            return Err(TargetError::Draining);
        }
        check(&setup)?;
        let nqn = setup.nqn.clone();
        let known = self.subsystem_names.get(&nqn).copied();
        if known
            .and_then(|key| self.subsystems.get(key))
            .is_some_and(|subsystem| subsystem.removing.is_some())
        {
            return Err(TargetError::Removing { nqn });
        }
        let old = known.and_then(|key| self.subsystems.get(key)).map(|subsystem| subsystem.setup.clone());
        let is_new = |nsid: &u32, volume: &str| {
            let before = old.as_ref().and_then(|old| old.namespaces.get(nsid));
            before.is_none_or(|before| before.volume != volume)
        };
        // Everything that may be refused comes before the first change.
        let mut fresh = Vec::new();
        for (nsid, namespace) in &setup.namespaces {
            if is_new(nsid, &namespace.volume) {
                fresh.push((*nsid, self.volume_named(&namespace.volume)?));
            }
        }
        if self.namespaces.len() + fresh.len() > NAMESPACES_PER_CORE_MAX {
            return Err(TargetError::Full { what: "namespaces", limit: NAMESPACES_PER_CORE_MAX });
        }
        let key = match known {
            Some(key) => key,
            None => self.new_subsystem(&setup)?,
        };
        let opened = self.open_namespaces(key, fresh);
        match opened {
            Ok(opened) => self.apply(key, old.as_ref(), setup, opened),
            Err(error) => {
                if known.is_none() {
                    self.subsystems.remove(key);
                    self.subsystem_names.remove(&nqn);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn volume_named(&self, name: &str) -> Result<SharedVolume, TargetError> {
        self.registry.get(name).map_err(|_| TargetError::NoSuchVolume { name: name.into() })
    }

    fn new_subsystem(&mut self, setup: &SubsystemSetup) -> Result<Key, TargetError> {
        let subsystem = Subsystem {
            setup: SubsystemSetup { namespaces: BTreeMap::new(), ..setup.clone() },
            namespaces: Vec::new(),
            epoch: 0,
            ana_changes: 0,
            group_changes: BTreeMap::new(),
            next_cntlid: *setup.controller_ids.start(),
            removing: None,
        };
        let full = TargetError::Full { what: "subsystems", limit: SUBSYSTEMS_PER_CORE_MAX };
        let key = self.subsystems.insert(subsystem).map_err(|_| full)?;
        self.subsystem_names.insert(setup.nqn.clone(), key);
        Ok(key)
    }

    /// Opens a port for each namespace; all or none.
    fn open_namespaces(
        &mut self,
        subsystem: Key,
        fresh: Vec<(u32, SharedVolume)>,
    ) -> Result<Vec<(u32, Key)>, TargetError> {
        let mut opened: Vec<(u32, Key)> = Vec::new();
        for (nsid, volume) in fresh {
            let token = self.namespaces.next_key().expect("room was checked").index();
            let Some(port) = volume.open_port(&self.bell, token) else {
                for (_, key) in opened {
                    self.namespaces.remove(key);
                }
                return Err(TargetError::Closing { name: volume.name().into() });
            };
            let namespace = new_namespace(subsystem, nsid, port, volume);
            let key = self.namespaces.insert(namespace).unwrap_or_else(|_| unreachable!("room was checked"));
            opened.push((nsid, key));
        }
        Ok(opened)
    }

    fn apply(
        &mut self,
        key: Key,
        old: Option<&SubsystemSetup>,
        setup: SubsystemSetup,
        opened: Vec<(u32, Key)>,
    ) {
        let mut changed: BTreeSet<u32> = opened.iter().map(|(nsid, _)| *nsid).collect();
        let attached: Vec<(u32, Key)> =
            self.subsystems.get(key).map_or_else(Vec::new, |subsystem| subsystem.attached().collect());
        for (nsid, namespace) in attached {
            if changed.contains(&nsid) || !setup.namespaces.contains_key(&nsid) {
                changed.insert(nsid);
                self.detach(namespace);
            }
        }
        let groups = old.map_or_else(BTreeSet::new, |old| changed_groups(old, &setup));
        if let Some(old) = old {
            let moved = setup.namespaces.iter().filter(|(nsid, namespace)| {
                old.namespaces.get(nsid).is_some_and(|before| before.ana_group != namespace.ana_group)
            });
            changed.extend(moved.map(|(nsid, _)| *nsid));
        }
        let subsystem = self.subsystems.get_mut(key).expect("made or found just now");
        subsystem.setup = setup;
        for (nsid, namespace) in opened {
            let at = nsid as usize - 1;
            if subsystem.namespaces.len() <= at {
                subsystem.namespaces.resize(at + 1, None);
            }
            subsystem.namespaces[at] = Some(namespace);
        }
        subsystem.epoch += 1;
        for nsid in changed {
            self.tell_namespace_changed(key, nsid);
        }
        self.tell_groups_changed(key, &groups);
        self.drop_disallowed(key);
    }

    /// A namespace is taken out of its subsystem: what it has under way ends, and then it is let go.
    fn detach(&mut self, key: Key) {
        let Some(namespace) = self.namespaces.get_mut(key) else { return };
        namespace.detached = true;
        namespace.port.set_in_use(false);
        let (subsystem, nsid) = (namespace.subsystem, namespace.nsid);
        if let Some(subsystem) = self.subsystems.get_mut(subsystem) {
            subsystem.namespaces[nsid as usize - 1] = None;
            subsystem.epoch += 1;
        }
        let tasks: Vec<Key> =
            self.tasks.iter().filter(|(_, task)| task.namespace == key).map(|(task, _)| task).collect();
        for task in tasks {
            self.stop_task(task, Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr());
        }
        self.forget_namespace_if_over(key);
    }

    /// A detached namespace goes when its last task has ended.
    pub(crate) fn forget_namespace_if_over(&mut self, key: Key) {
        if self.namespaces.get(key).is_some_and(|namespace| namespace.detached && namespace.open_tasks == 0) {
            let namespace = self.namespaces.remove(key).expect("looked up above");
            self.forget_subsystem_if_over(namespace.subsystem);
        }
    }

    /// Removes a subsystem; its controllers end now, with their commands.
    pub(crate) fn remove_subsystem(&mut self, nqn: &str, answer: Answer<Result<(), TargetError>>) {
        let key = self.subsystem_names.get(nqn).copied();
        let Some(subsystem) = key.and_then(|key| self.subsystems.get_mut(key)) else {
            return answer(Err(TargetError::NoSuchSubsystem { nqn: nqn.into() }));
        };
        if subsystem.removing.is_some() {
            return answer(Err(TargetError::Removing { nqn: nqn.into() }));
        }
        let key = key.expect("looked up above");
        subsystem.removing = Some(answer);
        let attached: Vec<Key> = subsystem.attached().map(|(_, namespace)| namespace).collect();
        for controller in self.controllers_of(key) {
            self.end_controller(controller);
        }
        for namespace in attached {
            self.detach(namespace);
        }
        self.forget_subsystem_if_over(key);
    }

    /// A subsystem that is being removed goes with the last of what it had.
    pub(crate) fn forget_subsystem_if_over(&mut self, key: Key) {
        if self.subsystems.get(key).is_none_or(|subsystem| subsystem.removing.is_none()) {
            return;
        }
        let has_namespaces = self.namespaces.iter().any(|(_, namespace)| namespace.subsystem == key);
        if has_namespaces || !self.controllers_of(key).is_empty() {
            return;
        }
        let subsystem = self.subsystems.remove(key).expect("looked up above");
        self.subsystem_names.remove(&subsystem.setup.nqn);
        if let Some(answer) = subsystem.removing {
            answer(Ok(()));
        }
    }

    pub(crate) fn controllers_of(&self, subsystem: Key) -> Vec<Key> {
        let of = self.controllers.iter().filter(|(_, controller)| controller.subsystem == Some(subsystem));
        of.map(|(key, _)| key).collect()
    }

    /// How a port reaches a group has changed.
    pub(crate) fn set_ana_state(
        &mut self,
        nqn: &str,
        port_id: u16,
        group: u32,
        state: AnaState,
    ) -> Result<(), TargetError> {
        let missing = || TargetError::NoSuchSubsystem { nqn: nqn.into() };
        let key = *self.subsystem_names.get(nqn).ok_or_else(missing)?;
        if !(1..=ANA_GROUPS_MAX).contains(&group) {
            return Err(TargetError::AnaGroup { nqn: nqn.into(), group, limit: ANA_GROUPS_MAX });
        }
        let subsystem = self.subsystems.get_mut(key).expect("named subsystems are there");
        if subsystem.setup.ana_state(port_id, group) == state {
            return Ok(());
        }
        subsystem.setup.ana.insert((port_id, group), state);
        self.tell_groups_changed(key, &BTreeSet::from([group]));
        Ok(())
    }

    /// The ANA page of a subsystem has changed.
    fn tell_groups_changed(&mut self, key: Key, groups: &BTreeSet<u32>) {
        if groups.is_empty() {
            return;
        }
        let subsystem = self.subsystems.get_mut(key).expect("looked up by the caller");
        subsystem.epoch += 1;
        subsystem.ana_changes += 1;
        for group in groups {
            *subsystem.group_changes.entry(*group).or_default() += 1;
        }
        for controller in self.controllers_of(key) {
            self.raise(controller, AsyncEvent::AnaChange);
        }
    }

    /// A namespace was attached, detached or changed: every controller writes it down and tells its host.
    pub(crate) fn tell_namespace_changed(&mut self, subsystem: Key, nsid: u32) {
        for key in self.controllers_of(subsystem) {
            if let Some(controller) = self.controllers.get_mut(key) {
                controller.logs.namespace_changed(nsid);
            }
            self.raise(key, AsyncEvent::NamespaceAttributes);
        }
    }

    fn drop_disallowed(&mut self, key: Key) {
        for controller in self.controllers_of(key) {
            let entry = self.controllers.get(controller).expect("listed just now");
            let subsystem = self.subsystems.get(key).expect("set just now");
            if !subsystem.setup.allow.allows(&entry.host_nqn) {
                self.end_controller(controller);
            }
        }
    }
}

fn check(setup: &SubsystemSetup) -> Result<(), TargetError> {
    let nqn = || setup.nqn.clone();
    for (nsid, namespace) in &setup.namespaces {
        if !(1..=NAMESPACES_PER_SUBSYSTEM_MAX).contains(nsid) {
            return Err(TargetError::Nsid { nqn: nqn(), nsid: *nsid, limit: NAMESPACES_PER_SUBSYSTEM_MAX });
        }
        let group = namespace.ana_group;
        if !(1..=ANA_GROUPS_MAX).contains(&group) {
            return Err(TargetError::AnaGroup { nqn: nqn(), group, limit: ANA_GROUPS_MAX });
        }
    }
    Ok(())
}

fn new_namespace(subsystem: Key, nsid: u32, port: Port, volume: SharedVolume) -> Namespace {
    Namespace {
        subsystem,
        nsid,
        info: port.info(),
        stats: volume.stats(),
        port,
        volume,
        open_tasks: 0,
        changing: None,
        changes: VecDeque::new(),
        tickets: Vec::new(),
        busy: false,
        detached: false,
    }
}

/// Groups whose state or members differ.
fn changed_groups(old: &SubsystemSetup, new: &SubsystemSetup) -> BTreeSet<u32> {
    let mut groups = BTreeSet::new();
    for (port, group) in old.ana.keys().chain(new.ana.keys()) {
        if old.ana_state(*port, *group) != new.ana_state(*port, *group) {
            groups.insert(*group);
        }
    }
    let both = [(old, new), (new, old)];
    for (one, other) in both {
        for (nsid, namespace) in &one.namespaces {
            if other.namespaces.get(nsid).is_none_or(|there| there.ana_group != namespace.ana_group) {
                groups.insert(namespace.ana_group);
            }
        }
    }
    groups
}
