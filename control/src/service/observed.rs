//! What the data plane said about each object, beside what is desired.

use std::collections::BTreeMap;

use super::Problems;
use crate::bridge::VolumeFacts;
use crate::model::{IscsiName, Nqn, VolumeName};

/// Answers of the data plane, newest per object.
#[derive(Default)]
pub(super) struct Observed {
    /// Volumes that are served.
    pub(super) open: BTreeMap<VolumeName, VolumeFacts>,
    /// Volumes that are not as they should be, and why.
    pub(super) volume_problems: Problems<VolumeName>,
    /// Targets that are not as they should be, and why.
    pub(super) target_problems: Problems<IscsiName>,
    /// Subsystems that are not as they should be, and why.
    pub(super) subsystem_problems: Problems<Nqn>,
    /// True when every object was tried once.
    pub(super) restored: bool,
}

impl Observed {
    pub(super) fn volume_is_open(&mut self, name: &VolumeName, facts: VolumeFacts) {
        self.volume_problems.remove(name);
        self.open.insert(name.clone(), facts);
    }

    pub(super) fn volume_is_gone(&mut self, name: &VolumeName) {
        self.volume_problems.remove(name);
        self.open.remove(name);
    }

    pub(super) fn volume_failed(&mut self, name: &VolumeName, problem: String) {
        self.volume_problems.insert(name.clone(), problem);
    }

    pub(super) fn target_is(&mut self, name: &IscsiName, problem: Option<String>) {
        match problem {
            Some(problem) => self.target_problems.insert(name.clone(), problem),
            None => self.target_problems.remove(name),
        };
    }

    pub(super) fn subsystem_is(&mut self, nqn: &Nqn, problem: Option<String>) {
        match problem {
            Some(problem) => self.subsystem_problems.insert(nqn.clone(), problem),
            None => self.subsystem_problems.remove(nqn),
        };
    }
}
