//! Which core owns a volume and a target: plain data and rules, no message is sent here.
//!
//! The volumes of a target live on the target's core, so that an I/O takes no hop. A volume that is mapped nowhere
//! may move; one that is mapped by a target of another core may not.

use std::collections::{BTreeMap, BTreeSet};

/// What is placed, and where.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    volumes: BTreeMap<String, usize>,
    targets: BTreeMap<String, (usize, BTreeSet<String>)>,
}

/// What has to be done so that a target can be set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The target's core.
    pub core: usize,
    /// Volumes that have to move there first.
    pub moves: Vec<String>,
}

/// Why a target cannot be placed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PlacementError {
    /// The volume is not there.
    NoSuchVolume(String),
    /// The volume is served on another core through that target.
    Elsewhere { volume: String, target: String },
}

impl Placement {
    /// The core with the fewest volumes.
    pub fn least_loaded(&self, cores: usize) -> usize {
        let count = |core: usize| self.volumes.values().filter(|owner| **owner == core).count();
        (0..cores).min_by_key(|core| count(*core)).expect("a node has a core")
    }

    /// Notes that a volume lives on `core`.
    pub fn set_volume(&mut self, name: &str, core: usize) {
        self.volumes.insert(name.to_owned(), core);
    }

    /// Forgets a volume.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// The core of a volume.
    pub fn volume(&self, name: &str) -> Option<usize> {
        self.volumes.get(name).copied()
    }

    /// The core of a target.
    pub fn target(&self, name: &str) -> Option<usize> {
        self.targets.get(name).map(|(core, _)| *core)
    }

    /// Notes that a target lives on `core` and maps `volumes`.
    pub fn set_target(&mut self, name: &str, core: usize, volumes: BTreeSet<String>) {
        self.targets.insert(name.to_owned(), (core, volumes));
    }

    /// A target that maps the volume.
    pub fn user(&self, volume: &str) -> Option<&str> {
        let user = self.targets.iter().find(|(_, (_, mapped))| mapped.contains(volume));
        user.map(|(name, _)| name.as_str())
    }

    /// Forgets a target.
    pub fn remove_target(&mut self, name: &str) {
        self.targets.remove(name);
    }

    /// Where a target that maps `volumes` is to live. One that exists stays where it is.
    pub fn plan(&self, target: &str, volumes: &BTreeSet<String>) -> Result<Plan, PlacementError> {
        let mut owners = BTreeMap::new();
        for volume in volumes {
            let owner = self.volume(volume).ok_or_else(|| PlacementError::NoSuchVolume(volume.clone()))?;
            owners.insert(volume, owner);
        }
        let user = |volume: &String| {
            self.targets.iter().find(|(name, (_, mapped))| *name != target && mapped.contains(volume))
        };
        // A volume that others use decides; else the target's present core; else the first volume's.
        let bound = volumes.iter().find(|volume| user(volume).is_some()).map(|volume| owners[volume]);
        let core =
            self.target(target).or(bound).or_else(|| owners.values().next().copied()).unwrap_or_default();
        let mut moves = Vec::new();
        for (volume, owner) in owners {
            if owner == core {
                continue;
            }
            if let Some((other, _)) = user(volume) {
                return Err(PlacementError::Elsewhere { volume: volume.clone(), target: other.clone() });
            }
            moves.push(volume.clone());
        }
        Ok(Plan { core, moves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_volumes_of_a_target_come_together() {
        let mut placement = Placement::default();
        placement.set_volume("a", 0);
        placement.set_volume("b", 1);
        assert_eq!(placement.least_loaded(3), 2);
        let plan = placement.plan("t", &set(&["a", "b"])).unwrap();
        assert_eq!(plan, Plan { core: 0, moves: vec!["b".into()] });
        placement.set_target("t", 1, set(&["b"]));
        let plan = placement.plan("t", &set(&["a", "b"])).unwrap();
        assert_eq!(plan, Plan { core: 1, moves: vec!["a".into()] });
    }

    #[test]
    fn a_volume_in_use_decides_or_refuses() {
        let mut placement = Placement::default();
        placement.set_volume("a", 0);
        placement.set_volume("b", 1);
        placement.set_volume("c", 0);
        placement.set_target("u", 1, set(&["b"]));
        assert_eq!(
            placement.plan("t", &set(&["a", "b"])).unwrap(),
            Plan { core: 1, moves: vec!["a".into()] }
        );
        placement.set_target("v", 0, set(&["c"]));
        let error = placement.plan("t", &set(&["b", "c"])).unwrap_err();
        assert_eq!(error, PlacementError::Elsewhere { volume: "c".into(), target: "v".into() });
        assert_eq!(placement.plan("t", &set(&["x"])).unwrap_err(), PlacementError::NoSuchVolume("x".into()));
    }
}
