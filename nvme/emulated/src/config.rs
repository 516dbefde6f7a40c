//! What a controller is: the values that a real one is built with.

use std::time::Duration;

use nvme_spec::identify::LbaFormat;
use zerocopy::little_endian::U16;

use crate::limits::{
    CACHE_BYTES_MAX, INTERRUPT_VECTORS_MAX, IO_QUEUES_MAX, MDTS_MAX, NAMESPACE_BYTES_MAX, NAMESPACES_MAX,
    QUEUE_ENTRIES_MAX, QUEUE_ENTRIES_MIN,
};

/// How long the controller takes, in the time of whoever steps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// From CC.EN = 1 to CSTS.RDY = 1. [`Duration::MAX`] is never.
    pub enable: Duration,
    /// From CC.EN = 0 to CSTS.RDY = 0.
    pub disable: Duration,
    /// From CC.SHN to CSTS.SHST = complete.
    pub shutdown: Duration,
    /// A function-level reset.
    pub function_reset: Duration,
    /// From a command's fetch to its completion; 0 completes it in the same step.
    pub command: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self { enable: zero, disable: zero, shutdown: zero, function_reset: zero, command: zero }
    }
}

/// The LBA formats of every namespace, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// 512 bytes.
    #[default]
    Block512,
    /// 4096 bytes.
    Block4096,
    /// 512 bytes and 8 of metadata.
    Block512Metadata8,
    /// 4096 bytes and 64 of metadata.
    Block4096Metadata64,
}

impl Format {
    /// All, in the order of their indexes.
    pub const ALL: [Self; 4] =
        [Self::Block512, Self::Block4096, Self::Block512Metadata8, Self::Block4096Metadata64];

    /// Its index.
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// The format of this index.
    pub fn of(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// Bytes of a block as a power of two.
    pub const fn block_bits(self) -> u32 {
        match self {
            Self::Block512 | Self::Block512Metadata8 => 9,
            Self::Block4096 | Self::Block4096Metadata64 => 12,
        }
    }

    /// Bytes of metadata with each block.
    pub const fn metadata_bytes(self) -> u16 {
        match self {
            Self::Block512 | Self::Block4096 => 0,
            Self::Block512Metadata8 => 8,
            Self::Block4096Metadata64 => 64,
        }
    }

    pub(crate) fn wire(self) -> LbaFormat {
        LbaFormat {
            metadata_bytes: U16::new(self.metadata_bytes()),
            lbads: self.block_bits() as u8,
            relative_performance: if self.block_bits() == 12 { 0 } else { 1 },
        }
    }
}

/// What a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// Its identifier, from 1.
    pub nsid: u32,
    /// Blocks.
    pub length_blocks: u64,
    /// Its format.
    pub format: Format,
    /// Namespace Optimal I/O Boundary in blocks; 0 is none.
    pub optimal_boundary_blocks: u16,
    /// Attached to the controller: an active namespace.
    pub attached: bool,
}

impl NamespaceConfig {
    /// An attached namespace of so many blocks.
    pub fn new(nsid: u32, length_blocks: u64, format: Format) -> Self {
        Self { nsid, length_blocks, format, optimal_boundary_blocks: 0, attached: true }
    }

    fn check(&self, namespaces_max: u32) -> Result<(), ConfigError> {
        let bytes = self.length_blocks.checked_mul(1 << self.format.block_bits());
        let in_range = bytes.is_some_and(|bytes| (1..=NAMESPACE_BYTES_MAX).contains(&bytes));
        if !in_range {
            return Err(ConfigError::NamespaceLength { nsid: self.nsid });
        }
        if !(1..=namespaces_max).contains(&self.nsid) {
            return Err(ConfigError::NamespaceIdentifier { nsid: self.nsid });
        }
        Ok(())
    }
}

/// Why a configuration describes no controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Entries of a queue.
    #[error("a queue has from 2 to 65536 entries, not {entries}")]
    QueueEntries {
        /// What was asked for.
        entries: u32,
    },
    /// Number of I/O queues.
    #[error("there are from 1 to {IO_QUEUES_MAX} I/O queues, not {queues}")]
    IoQueues {
        /// What was asked for.
        queues: u16,
    },
    /// Doorbell stride or page sizes.
    #[error("the doorbell stride is at most 4, page sizes ascend and are at most 64 KiB")]
    Geometry,
    /// MDTS.
    #[error("MDTS is at most {MDTS_MAX}, not {mdts}")]
    Mdts {
        /// What was asked for.
        mdts: u8,
    },
    /// Bytes of the volatile cache.
    #[error("the volatile cache has at most {CACHE_BYTES_MAX} bytes, not {bytes}")]
    Cache {
        /// What was asked for.
        bytes: usize,
    },
    /// Atomic units.
    #[error("atomic units are from 1 to 65536 blocks, and that of power fail is the smaller one")]
    AtomicUnits,
    /// Interrupt vectors.
    #[error("there are at most {INTERRUPT_VECTORS_MAX} interrupt vectors, not {vectors}")]
    Interrupts {
        /// What was asked for.
        vectors: u16,
    },
    /// The identifier of a namespace.
    #[error("namespace {nsid}: the identifier is 0, too large or not unique")]
    NamespaceIdentifier {
        /// Which.
        nsid: u32,
    },
    /// The length of a namespace.
    #[error("namespace {nsid}: the length is 0 or more than {NAMESPACE_BYTES_MAX} bytes")]
    NamespaceLength {
        /// Which.
        nsid: u32,
    },
}

/// What a controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// What a person calls it.
    pub name: String,
    /// Serial number; 20 characters are shown.
    pub serial: String,
    /// Model number; 40 characters are shown.
    pub model: String,
    /// Seed of everything that is left to chance: what survives a loss of power, which bits a corruption turns.
    pub seed: u64,
    /// Entries of the largest queue: CAP.MQES plus one.
    pub queue_entries_max: u32,
    /// I/O queue pairs.
    pub io_queues: u16,
    /// CAP.DSTRD.
    pub doorbell_stride: u8,
    /// CAP.MPSMIN.
    pub page_size_min: u8,
    /// CAP.MPSMAX.
    pub page_size_max: u8,
    /// CAP.TO, in units of 500 ms.
    pub timeout_500ms: u8,
    /// How long things take.
    pub delays: Delays,
    /// Commands are taken at the very write of the doorbell and not only in the next step: a doorbell that is written before
    /// its commands are in memory takes what was there before.
    pub eager: bool,
    /// CAP.NSSRS: NVM subsystem reset.
    pub subsystem_reset: bool,
    /// MDTS: 2 to the power of it in pages of the smallest size; 0 is no limit.
    pub mdts: u8,
    /// VWC: a volatile write cache is there.
    pub volatile_write_cache: bool,
    /// Bytes of writes that the cache holds back from the medium; 0 holds nothing back.
    pub cache_bytes: usize,
    /// Blocks that are written together or not at all beside other commands (AWUN plus one).
    pub atomic_blocks: u32,
    /// Blocks that are written together or not at all when power fails (AWUPF plus one).
    pub atomic_power_fail_blocks: u32,
    /// SGLs for the data of I/O commands.
    pub sgl: bool,
    /// Doorbell Buffer Config.
    pub shadow_doorbells: bool,
    /// Fused Compare and Write.
    pub fused: bool,
    /// Format NVM.
    pub format_nvm: bool,
    /// Compare.
    pub compare: bool,
    /// Write Zeroes.
    pub write_zeroes: bool,
    /// Dataset Management.
    pub dataset_management: bool,
    /// Verify.
    pub verify: bool,
    /// Deallocated or Unwritten Logical Block Error can be switched on.
    pub deallocated_error: bool,
    /// Interrupt vectors; 0 is a controller that is polled.
    pub interrupt_vectors: u16,
    /// The largest identifier of a namespace (NN).
    pub namespaces_max: u32,
    /// The namespaces.
    pub namespaces: Vec<NamespaceConfig>,
}

impl Default for ControllerConfig {
    /// A controller with one namespace of 1 GiB in blocks of 4 KiB, everything optional on, nothing slow.
    fn default() -> Self {
        Self {
            name: "emulated0".to_owned(),
            serial: "VEGA0000000000000001".to_owned(),
            model: "Vega Emulated NVMe Controller".to_owned(),
            seed: 1,
            queue_entries_max: 1024,
            io_queues: 16,
            doorbell_stride: 0,
            page_size_min: 0,
            page_size_max: 4,
            timeout_500ms: 20,
            delays: Delays::default(),
            eager: false,
            subsystem_reset: true,
            mdts: 8,
            volatile_write_cache: true,
            cache_bytes: 4 << 20,
            atomic_blocks: 8,
            atomic_power_fail_blocks: 1,
            sgl: true,
            shadow_doorbells: true,
            fused: true,
            format_nvm: true,
            compare: true,
            write_zeroes: true,
            dataset_management: true,
            verify: true,
            deallocated_error: true,
            interrupt_vectors: 0,
            namespaces_max: 16,
            namespaces: vec![NamespaceConfig::new(1, 1 << 18, Format::Block4096)],
        }
    }
}

impl ControllerConfig {
    /// Says what describes no controller.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(QUEUE_ENTRIES_MIN..=QUEUE_ENTRIES_MAX).contains(&self.queue_entries_max) {
            return Err(ConfigError::QueueEntries { entries: self.queue_entries_max });
        }
        if !(1..=IO_QUEUES_MAX).contains(&self.io_queues) {
            return Err(ConfigError::IoQueues { queues: self.io_queues });
        }
        let shadow_bytes = (usize::from(self.io_queues) + 1) * 2 * (4 << self.doorbell_stride.min(15));
        let strides = self.doorbell_stride <= 4 && (!self.shadow_doorbells || shadow_bytes <= 4096);
        if !strides || self.page_size_min > self.page_size_max || self.page_size_max > 4 {
            return Err(ConfigError::Geometry);
        }
        if self.mdts > MDTS_MAX || self.mdts + self.page_size_min > MDTS_MAX {
            return Err(ConfigError::Mdts { mdts: self.mdts });
        }
        if self.cache_bytes > CACHE_BYTES_MAX {
            return Err(ConfigError::Cache { bytes: self.cache_bytes });
        }
        let units = [self.atomic_blocks, self.atomic_power_fail_blocks];
        if units.iter().any(|unit| !(1..=0x1_0000).contains(unit)) || units[1] > units[0] {
            return Err(ConfigError::AtomicUnits);
        }
        if self.interrupt_vectors > INTERRUPT_VECTORS_MAX {
            return Err(ConfigError::Interrupts { vectors: self.interrupt_vectors });
        }
        if self.namespaces_max > NAMESPACES_MAX {
            return Err(ConfigError::NamespaceIdentifier { nsid: self.namespaces_max });
        }
        for (index, namespace) in self.namespaces.iter().enumerate() {
            namespace.check(self.namespaces_max)?;
            if self.namespaces[..index].iter().any(|other| other.nsid == namespace.nsid) {
                return Err(ConfigError::NamespaceIdentifier { nsid: namespace.nsid });
            }
        }
        Ok(())
    }

    pub(crate) fn check_namespace(&self, namespace: &NamespaceConfig) -> Result<(), ConfigError> {
        namespace.check(self.namespaces_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_no_controller_is_named() {
        let with = |change: fn(&mut ControllerConfig)| {
            let mut config = ControllerConfig::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|c| c.queue_entries_max = 1), Err(ConfigError::QueueEntries { entries: 1 }));
        assert_eq!(with(|c| c.io_queues = 0), Err(ConfigError::IoQueues { queues: 0 }));
        assert_eq!(with(|c| (c.io_queues, c.doorbell_stride) = (200, 3)), Err(ConfigError::Geometry));
        assert_eq!(with(|c| (c.page_size_min, c.page_size_max) = (2, 1)), Err(ConfigError::Geometry));
        assert_eq!(with(|c| c.mdts = 14), Err(ConfigError::Mdts { mdts: 14 }));
        assert_eq!(with(|c| c.atomic_power_fail_blocks = 9), Err(ConfigError::AtomicUnits));
        assert_eq!(with(|c| c.interrupt_vectors = 33), Err(ConfigError::Interrupts { vectors: 33 }));
        let twice = with(|c| c.namespaces.push(c.namespaces[0].clone()));
        assert_eq!(twice, Err(ConfigError::NamespaceIdentifier { nsid: 1 }));
        let empty = with(|c| c.namespaces[0].length_blocks = 0);
        assert_eq!(empty, Err(ConfigError::NamespaceLength { nsid: 1 }));
        assert!(with(|c| c.namespaces[0].length_blocks = u64::MAX).is_err());
    }
}
