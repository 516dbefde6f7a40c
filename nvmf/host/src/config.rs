//! What a host is told: who it is, whom it talks to, and how long it waits.

use std::net::SocketAddr;
use std::time::Duration;

use nvme_spec::{DISCOVERY_NQN, NQN_BYTES_MAX};

use crate::error::ConfigError;
use crate::limits::{
    ADMIN_TIMEOUT_MS_DEFAULT, CONNECT_TIMEOUT_MS_DEFAULT, CONTROLLER_LOSS_MS_DEFAULT,
    IO_QUEUE_ENTRIES_DEFAULT, IO_QUEUES_MAX, IO_TIMEOUT_MS_DEFAULT, KEEP_ALIVE_MS_DEFAULT,
    NO_PATH_TIMEOUT_MS_DEFAULT, QUIESCE_UNREPORTED_MS_DEFAULT, TRANSFER_BYTES,
};

/// Who a host is. All its associations use the same, so that a target knows them as one host (Base 5.1.25.1.28, 4.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Host NQN.
    pub nqn: String,
    /// Host Identifier.
    pub id: [u8; 16],
}

/// Digests of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// Not asked for.
    #[default]
    Off,
    /// Asked for; a controller that declines ends the attempt.
    Required,
}

/// Who compares ([`Op::Compare`](volume::bdev::Op::Compare), [`Op::CompareAndWrite`](volume::bdev::Op::CompareAndWrite)). What a
/// controller compares it compares towards all its hosts; what the volume above builds of reads and writes is atomic towards what
/// comes through that volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// The controllers, as far as they offer it; the volume above does the rest.
    #[default]
    WhereOffered,
    /// The controllers: one that does not compare, or whose fused compare and write is shorter, is not used.
    Required {
        /// Blocks of a compare and write.
        blocks: u32,
    },
}

/// How long is waited, and how often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Stream, ICResp and the answer to Connect.
    pub connect: Duration,
    /// An admin command.
    pub admin: Duration,
    /// An I/O command on one path; then the path is reset.
    pub io: Duration,
    /// I/O without any path, counted from the loss of the last one: it fails then, and what comes later fails soon, until a
    /// path is back.
    pub no_path: Duration,
    /// Keep Alive Timeout.
    pub keep_alive: Duration,
    /// Added to the controller's keep-alive expiry when it does not report its Command Quiesce Time.
    pub quiesce_unreported: Duration,
    /// A path without association; then it is given up.
    pub controller_loss: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            connect: ms(CONNECT_TIMEOUT_MS_DEFAULT),
            admin: ms(ADMIN_TIMEOUT_MS_DEFAULT),
            io: ms(IO_TIMEOUT_MS_DEFAULT),
            no_path: ms(NO_PATH_TIMEOUT_MS_DEFAULT),
            keep_alive: ms(KEEP_ALIVE_MS_DEFAULT.into()),
            quiesce_unreported: ms(QUIESCE_UNREPORTED_MS_DEFAULT),
            controller_loss: ms(CONTROLLER_LOSS_MS_DEFAULT),
        }
    }
}

/// One association: a controller of a subsystem, reached at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// NQN of the subsystem; [`DISCOVERY_NQN`] makes it an association with a discovery controller.
    pub subsystem_nqn: String,
    /// Who we are.
    pub host: HostIdentity,
    /// I/O queues to ask for; fewer may be granted.
    pub io_queues: u16,
    /// Entries of an I/O submission queue; the controller may have fewer.
    pub io_queue_entries: u16,
    /// The longest transfer that the owner asks for in one command; a controller whose MDTS is below it cannot be used.
    pub transfer_bytes: u64,
    /// Header digests.
    pub header_digest: Digest,
    /// Data digests.
    pub data_digest: Digest,
    /// How long is waited.
    pub timeouts: Timeouts,
}

impl ControllerConfig {
    /// The defaults: one I/O queue of 128 entries, commands of up to 1 MiB, no digests.
    pub fn new(address: SocketAddr, subsystem_nqn: impl Into<String>, host: HostIdentity) -> Self {
        Self {
            address,
            subsystem_nqn: subsystem_nqn.into(),
            host,
            io_queues: 1,
            io_queue_entries: IO_QUEUE_ENTRIES_DEFAULT,
            transfer_bytes: TRANSFER_BYTES,
            header_digest: Digest::Off,
            data_digest: Digest::Off,
            timeouts: Timeouts::default(),
        }
    }

    /// An association with the discovery controller at `address`.
    pub fn discovery(address: SocketAddr, host: HostIdentity) -> Self {
        Self { io_queues: 0, ..Self::new(address, DISCOVERY_NQN, host) }
    }

    /// True when the subsystem is a discovery subsystem.
    pub fn is_discovery(&self) -> bool {
        self.subsystem_nqn == DISCOVERY_NQN
    }

    /// Checks every bound that is documented.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_nqn(&self.subsystem_nqn)?;
        check_nqn(&self.host.nqn)?;
        if self.host.id == [0; 16] {
            return Err(ConfigError::HostIdentifier);
        }
        let least_queues = u16::from(!self.is_discovery());
        if !(least_queues..=IO_QUEUES_MAX).contains(&self.io_queues)
            || !(2..=1024).contains(&self.io_queue_entries)
        {
            return Err(ConfigError::Queues);
        }
        let timeouts = &self.timeouts;
        let all = [timeouts.connect, timeouts.admin, timeouts.io, timeouts.no_path, timeouts.keep_alive];
        let is_odd = |timeout: &Duration| timeout.is_zero() || timeout.as_millis() > u128::from(u32::MAX);
        if all.iter().any(is_odd) { Err(ConfigError::Timeout) } else { Ok(()) }
    }
}

fn check_nqn(nqn: &str) -> Result<(), ConfigError> {
    if nqn.is_empty() || nqn.len() > NQN_BYTES_MAX || nqn.contains('\0') {
        Err(ConfigError::Nqn)
    } else {
        Ok(())
    }
}
