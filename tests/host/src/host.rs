//! An association: the admin queue of a controller that is enabled, and its I/O queues.

use std::net::SocketAddr;

use crate::limits;
use crate::pdu::Digests;
use crate::queue::{Command, Queue};
use crate::sqe::{Sqe, opcode};
use crate::wire::WireError;

/// The name of the discovery subsystem.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// Controller Configuration.
pub const CC: u32 = 0x14;
/// Controller Status.
pub const CSTS: u32 = 0x1c;
/// Enabled, with the entry sizes of the NVM command set.
pub const CC_ENABLED: u32 = 1 | 6 << 16 | 4 << 20;

/// Who a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Host NQN.
    pub nqn: String,
    /// Host Identifier.
    pub id: [u8; 16],
}

impl Identity {
    /// Host number so-and-so of the harness.
    pub fn numbered(number: u16) -> Self {
        let mut id = [0x77; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Self { nqn: format!("nqn.2026-11.io.vega:host-{number}"), id }
    }
}

/// A controller that is enabled, seen from its host.
#[derive(Debug)]
pub struct Association {
    /// Its admin queue.
    pub admin: Queue,
    /// Its identifier.
    pub cntlid: u16,
    /// Where it listens.
    pub address: SocketAddr,
    subsystem_nqn: String,
    host: Identity,
    digests: Digests,
}

impl Association {
    /// Connects and enables; `keep_alive_ms` 0 is none.
    pub fn begin(
        address: SocketAddr,
        subsystem_nqn: &str,
        host: &Identity,
        digests: Digests,
        keep_alive_ms: u32,
    ) -> Result<Self, WireError> {
        let mut admin = Queue::open(address, digests)?;
        let data = Queue::connect_data(subsystem_nqn, host, 0xffff);
        let cntlid = admin.connect(Sqe::connect(0, limits::ADMIN_ENTRIES, keep_alive_ms), data)?;
        let (subsystem_nqn, host) = (subsystem_nqn.to_owned(), host.clone());
        let mut association = Self { admin, cntlid, address, subsystem_nqn, host, digests };
        association.set_property(CC, CC_ENABLED)?;
        association.wait_ready(true)?;
        Ok(association)
    }

    /// An I/O queue.
    pub fn io(&self, qid: u16) -> Result<Queue, WireError> {
        self.io_at(self.address, qid, limits::IO_ENTRIES)
    }

    /// An I/O queue of so many entries, through this address.
    pub fn io_at(&self, address: SocketAddr, qid: u16, entries: u16) -> Result<Queue, WireError> {
        let mut queue = Queue::open(address, self.digests)?;
        let data = Queue::connect_data(&self.subsystem_nqn, &self.host, self.cntlid);
        queue.connect(Sqe::connect(qid, entries, 0), data)?;
        Ok(queue)
    }

    /// Property Get.
    pub fn property(&mut self, offset: u32) -> Result<u64, WireError> {
        Ok(self.admin.execute(Command::bare(Sqe::property_get(offset)))?.good()?.result)
    }

    /// Property Set.
    pub fn set_property(&mut self, offset: u32, value: u32) -> Result<(), WireError> {
        self.admin.execute(Command::bare(Sqe::property_set(offset, value)))?.good()?;
        Ok(())
    }

    /// Waits until CSTS.RDY is as wanted.
    pub fn wait_ready(&mut self, ready: bool) -> Result<(), WireError> {
        for _ in 0..limits::READY_LOOKS_MAX {
            if (self.property(CSTS)? & 1 != 0) == ready {
                return Ok(());
            }
            std::thread::sleep(limits::READY_LOOK_EVERY);
        }
        Err(WireError::TimedOut)
    }

    /// Resets the controller: when this returns, nothing of it goes on.
    pub fn reset(&mut self) -> Result<(), WireError> {
        self.set_property(CC, 0)?;
        self.wait_ready(false)
    }

    /// An Identify page.
    pub fn identify(&mut self, cns: u8, nsid: u32) -> Result<Vec<u8>, WireError> {
        let sqe = Sqe::new(opcode::IDENTIFY, nsid).with_u32(40, cns.into());
        Ok(self.admin.execute(Command::read(sqe, 4096))?.good()?.data)
    }

    /// A log page.
    pub fn log_page(&mut self, lid: u8, length_bytes: u32) -> Result<Vec<u8>, WireError> {
        let sqe = Sqe::log_page(lid, 0xffff_ffff, length_bytes);
        Ok(self.admin.execute(Command::read(sqe, length_bytes as usize))?.good()?.data)
    }

    /// Takes leave in good order: a normal shutdown, then the end of the connection.
    pub fn end(mut self) -> Result<(), WireError> {
        self.set_property(CC, CC_ENABLED | 1 << 14)?;
        for _ in 0..limits::READY_LOOKS_MAX {
            if self.property(CSTS)? >> 2 & 3 == 2 {
                return Ok(());
            }
            std::thread::sleep(limits::READY_LOOK_EVERY);
        }
        Err(WireError::TimedOut)
    }
}
