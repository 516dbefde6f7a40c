//! What is kept per I_T_L nexus: who it is, what it may do now, what it has to be told.

use volume::reservation::{Access, Path, ReservationCell};

use crate::command::{NexusId, NexusName};
use crate::unit_attention::{Queue, UnitAttention};

#[derive(Debug)]
pub(crate) struct Nexus {
    pub id: NexusId,
    pub name: NexusName,
    pub path: Path,
    pub attention: Queue,
    /// What the persistent reservations allow; recomputed when they change.
    pub access: Access,
}

/// The path of a nexus, in the words of SPC-4 section 7.6.4.6 (lower case: names compare so). `None`: a name is too
/// long to be kept with a registration.
pub fn path_of(name: &NexusName) -> Option<Path> {
    let initiator = initiator_port_name(&name.initiator_name, name.isid);
    Path::new(initiator.as_bytes(), target_port_name(name).as_bytes())
}

/// "name,i,0xISID"
pub(crate) fn initiator_port_name(initiator_name: &str, isid: [u8; 6]) -> String {
    let isid = u64::from_be_bytes([0, 0, isid[0], isid[1], isid[2], isid[3], isid[4], isid[5]]);
    format!("{},i,0x{isid:012x}", initiator_name.to_ascii_lowercase())
}

/// "name,t,0xTPGT"
pub(crate) fn target_port_name(name: &NexusName) -> String {
    format!("{},t,0x{:04x}", name.target_name.to_ascii_lowercase(), name.portal_group_tag)
}

/// The nexuses of a logical unit, by number.
#[derive(Debug, Default)]
pub(crate) struct Nexuses {
    sorted: Vec<Nexus>,
    /// Where the last command's nexus is: most commands come by the same one as the one before.
    last: usize,
}

impl Nexuses {
    /// Adds a nexus, or replaces one of the same number.
    pub fn insert(&mut self, nexus: Nexus) {
        match self.sorted.binary_search_by_key(&nexus.id, |known| known.id) {
            Ok(at) => self.sorted[at] = nexus,
            Err(at) => self.sorted.insert(at, nexus),
        }
    }

    pub fn remove(&mut self, id: NexusId) {
        self.sorted.retain(|nexus| nexus.id != id);
        self.last = 0;
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The nexus of a command. A command of an unknown nexus is a bug of the target layer.
    #[inline]
    pub fn get(&mut self, id: NexusId) -> &mut Nexus {
        if self.sorted.get(self.last).is_none_or(|nexus| nexus.id != id) {
            let at = self.sorted.binary_search_by_key(&id, |nexus| nexus.id);
            self.last = at.expect("a command comes by an attached nexus");
        }
        &mut self.sorted[self.last]
    }

    pub fn find(&mut self, id: NexusId) -> Option<&mut Nexus> {
        let at = self.sorted.binary_search_by_key(&id, |nexus| nexus.id).ok()?;
        Some(&mut self.sorted[at])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Nexus> {
        self.sorted.iter()
    }

    /// Queues a condition for every nexus that is not `except`.
    pub fn tell_all(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        for nexus in self.sorted.iter_mut().filter(|nexus| Some(nexus.id) != except) {
            nexus.attention.push(attention);
        }
    }

    /// Queues a condition for the nexuses of these paths that are not `except`.
    pub fn tell(&mut self, paths: &[Path], attention: UnitAttention, except: Option<NexusId>) {
        for nexus in self.sorted.iter_mut().filter(|nexus| Some(nexus.id) != except) {
            if paths.contains(&nexus.path) {
                nexus.attention.push(attention);
            }
        }
    }

    /// Takes over what the reservations allow now.
    pub fn refresh_access(&mut self, reservations: &ReservationCell) {
        for nexus in &mut self.sorted {
            nexus.access = reservations.access(&nexus.path);
        }
    }
}
