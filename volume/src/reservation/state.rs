//! The reservation state: registrants, the reservation, and what each path may do under it.

use super::limits::{HOST_IDENTIFIER_BYTES, INITIATOR_PORT_BYTES_MAX, TARGET_PORT_BYTES_MAX};

/// A path to the volume, by the names of its two ends, in whatever bytes the protocol names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    initiator_port: Box<[u8]>,
    target_port: Box<[u8]>,
}

impl Path {
    /// `None` when a name is longer than the limits allow.
    pub fn new(initiator_port: &[u8], target_port: &[u8]) -> Option<Self> {
        let fits =
            initiator_port.len() <= INITIATOR_PORT_BYTES_MAX && target_port.len() <= TARGET_PORT_BYTES_MAX;
        fits.then(|| Self { initiator_port: initiator_port.into(), target_port: target_port.into() })
    }

    /// Every path of an NVMe host: reservations there belong to the host, not to a port of it.
    pub fn of_host(identifier: [u8; HOST_IDENTIFIER_BYTES]) -> Self {
        Self { initiator_port: identifier.into(), target_port: Box::default() }
    }

    /// The host's identifier, if this is the path of an NVMe host. (A SCSI path names its target port.)
    pub fn host_identifier(&self) -> Option<[u8; HOST_IDENTIFIER_BYTES]> {
        if self.target_port.is_empty() { (*self.initiator_port).try_into().ok() } else { None }
    }

    /// The name of the initiator port.
    pub fn initiator_port(&self) -> &[u8] {
        &self.initiator_port
    }

    /// The name of the target port.
    pub fn target_port(&self) -> &[u8] {
        &self.target_port
    }
}

/// One registered path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// Which.
    pub path: Path,
    /// Its key; never 0.
    pub key: u64,
    /// The number by which the protocol reports the target port; 0 for an NVMe host, which has none.
    pub relative_target_port: u16,
}

/// The type of a reservation. The numbers are SCSI's (SPC-4 section 6.15.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Only the holder writes.
    WriteExclusive = 1,
    /// Only the holder reads or writes.
    ExclusiveAccess = 3,
    /// Only registrants write; one of them holds it.
    WriteExclusiveRegistrantsOnly = 5,
    /// Only registrants read or write; one of them holds it.
    ExclusiveAccessRegistrantsOnly = 6,
    /// Only registrants write; all of them hold it.
    WriteExclusiveAllRegistrants = 7,
    /// Only registrants read or write; all of them hold it.
    ExclusiveAccessAllRegistrants = 8,
}

impl Kind {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type of SCSI's number.
    pub fn from_scsi(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == value)
    }

    /// Others may not even read.
    pub fn excludes_reads(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Every registrant may do what the holder may.
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Every registrant is a holder.
    pub fn held_by_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

/// What a path may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Read from the medium.
    pub read: bool,
    /// Write to the medium.
    pub write: bool,
    /// It holds the reservation, alone or with others.
    pub holder: bool,
    /// It is registered.
    pub registered: bool,
    /// Somebody holds a reservation.
    pub reserved: bool,
    /// The reservation, if any, is shared by registrants (types 5 to 8).
    pub admits_registrants: bool,
}

/// Why a change was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The path is not registered, its key is another one, or somebody else holds the reservation.
    #[error("reservation conflict")]
    Conflict,
    /// The holder released with another type.
    #[error("invalid release of a persistent reservation")]
    InvalidRelease,
    /// The parameters contradict each other.
    #[error("invalid parameters for this state")]
    InvalidParameter,
    /// The registrant table is full.
    #[error(transparent)]
    Full(#[from] Full),
}

/// The registrant table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another registrant")]
pub struct Full;

/// Which reservation there is. The holder's index is ignored for the types held by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub kind: Kind,
    pub holder: Option<Path>,
}

/// The reservations of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    pub(super) registrants: Vec<Registrant>,
    pub(super) held: Option<Held>,
    pub(super) generation: u32,
    pub(super) survives_power_loss: bool,
}

impl Reservations {
    /// Every registered path, in the order of registration.
    pub fn registrants(&self) -> &[Registrant] {
        &self.registrants
    }

    /// The registration of `path`.
    pub fn registrant(&self, path: &Path) -> Option<&Registrant> {
        self.registrants.iter().find(|registrant| registrant.path == *path)
    }

    /// The type of the reservation, if there is one.
    pub fn kind(&self) -> Option<Kind> {
        self.held.as_ref().map(|held| held.kind)
    }

    /// The key that is reported with the reservation: 0 when all registrants hold it.
    pub fn holder_key(&self) -> u64 {
        let holder = self.held.as_ref().and_then(|held| held.holder.as_ref());
        holder.and_then(|path| self.registrant(path)).map_or(0, |registrant| registrant.key)
    }

    /// True when `path` holds the reservation, alone or with others.
    pub fn is_holder(&self, path: &Path) -> bool {
        self.held.as_ref().is_some_and(|held| match &held.holder {
            Some(holder) => holder == path,
            None => self.registrant(path).is_some(),
        })
    }

    /// Counts the changes of registrations since the volume was opened.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The state is kept over a restart.
    pub fn survives_power_loss(&self) -> bool {
        self.survives_power_loss
    }

    /// What `path` may do.
    pub fn access(&self, path: &Path) -> Access {
        let registered = self.registrant(path).is_some();
        let Some(held) = &self.held else {
            return Access {
                read: true,
                write: true,
                holder: false,
                registered,
                reserved: false,
                admits_registrants: false,
            };
        };
        let holder = self.is_holder(path);
        let admits_registrants = held.kind.admits_registrants();
        let write = holder || (registered && admits_registrants);
        let read = write || !held.kind.excludes_reads();
        Access { read, write, holder, registered, reserved: true, admits_registrants }
    }

    /// `path` may read from the medium.
    pub fn may_read(&self, path: &Path) -> bool {
        self.access(path).read
    }

    /// `path` may write to the medium.
    pub fn may_write(&self, path: &Path) -> bool {
        self.access(path).write
    }
}
