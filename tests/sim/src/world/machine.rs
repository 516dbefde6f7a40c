//! The machine under a node: disks with what is on them, and the volumes made of them.

use reactor::core::Core;
use reactor::sim::{DiskFaults, SimDisk, SimRandom, SimWorld};
use uuid::Uuid;
use volume::allocation::AllocationMap;
use volume::bdev::{BdevInfo, IoChannel};
use volume::file::FileChannel;
use volume::geometry::Geometry;
use volume::io_mode::{BufferedReason, IoMode};
use volume::limits::{METADATA_SLOT_BYTES, PAGE_BYTES};
use volume::memory::MemoryDevice;
use volume::metadata::{Loaded, SlotStore};
use volume::shared::VolumeSetup;

use crate::Violation;
use crate::limits::{SECTOR_BYTES, VOLUME_BYTES};
use crate::options::{Backing, Options};
use crate::planted::{Bug, Planted};

/// The disks of a node: data and metadata of each unit.
pub struct Machine {
    disks: Vec<(SimDisk, SimDisk)>,
    /// The bug above every back end, if any.
    bug: Option<Bug>,
}

impl Machine {
    /// New, empty disks.
    pub fn new(world: &SimWorld, options: &Options, bug: Option<Bug>) -> Self {
        let disk = |_| (world.disk(VOLUME_BYTES), world.disk(2 * METADATA_SLOT_BYTES));
        let machine = Self { disks: (0..options.luns).map(disk).collect(), bug };
        machine.set_faults(&options.disk);
        machine
    }

    /// What the data disks do wrong from now on.
    pub fn set_faults(&self, faults: &DiskFaults) {
        for (data, _) in &self.disks {
            data.set_faults(faults.clone());
        }
    }

    /// The process above was killed.
    pub fn kill(&mut self) {
        self.disks
            .iter_mut()
            .for_each(|(data, metadata)| (*data, *metadata) = (data.kill(), metadata.kill()));
    }

    /// The power failed.
    pub fn lose_power(&mut self) {
        self.disks
            .iter_mut()
            .for_each(|(data, metadata)| (*data, *metadata) = (data.crash(), metadata.crash()));
    }

    /// The set-up of unit `lun`, as control would hand it over.
    pub fn volume(&self, options: &Options, lun: usize, name: &str) -> Result<VolumeSetup, Violation> {
        let io = |error: std::io::Error| Violation::new("a disk is opened", error.to_string());
        let (data, metadata) = &self.disks[lun];
        let geometry = Geometry::new(Uuid::from_u128(lun as u128 + 1), options.block_bytes, VOLUME_BYTES);
        let geometry = geometry.map_err(|error| Violation::new("a geometry is sound", error.to_string()))?;
        let slots = metadata.peek(0, 2 * METADATA_SLOT_BYTES as usize);
        let (first, second) = slots.split_at(METADATA_SLOT_BYTES as usize);
        let loaded = Loaded::decode([first, second]);
        let loaded = loaded.ok_or_else(|| Violation::new("metadata survive", "both slots are damaged"))?;
        let reservations = loaded.blob.clone().unwrap_or_default();
        let (data_fd, metadata_fd) = (data.descriptor().map_err(io)?, metadata.descriptor().map_err(io)?);
        let (bug, seed, backing) = (self.bug, options.seed, options.backing);
        let (info, mode) = (info(geometry, options), mode(options));
        let map = allocation(data);
        let channel = move |core: &Core| -> std::io::Result<Box<dyn IoChannel>> {
            let inner: Box<dyn IoChannel> = match backing {
                Backing::Memory => Box::new(MemoryDevice::new(geometry)),
                Backing::File { .. } => {
                    let file = core.files.adopt(data_fd)?;
                    Box::new(FileChannel::over(file, info, mode, Some(map), &core.buffers))
                }
            };
            Ok(match bug {
                Some(bug) => Box::new(Planted::new(inner, bug, SimRandom::new(seed).below(u64::MAX))),
                None => inner,
            })
        };
        Ok(VolumeSetup {
            name: name.into(),
            serial: format!("{:032x}", lun + 1),
            channel: Box::new(channel),
            metadata: Box::new(move |core| {
                let file = core.files.adopt(metadata_fd)?;
                Ok(Box::new(SlotStore::over(file, 0, &loaded, &core.buffers)))
            }),
            reservations,
        })
    }
}

fn mode(options: &Options) -> IoMode {
    match options.backing {
        Backing::File { direct: true } => IoMode::Direct { align_bytes: SECTOR_BYTES },
        _ => IoMode::Buffered(BufferedReason::Asked),
    }
}

fn info(geometry: Geometry, options: &Options) -> BdevInfo {
    BdevInfo {
        logical_block_bytes: geometry.logical_block_bytes,
        physical_block_bytes: 4096,
        length_blocks: geometry.length_blocks,
        volatile_write_cache: true,
        thin: !options.disk.no_holes,
        unmap_granularity_blocks: 4096 / geometry.logical_block_bytes,
        write_unit_blocks: 1,
        atomic_write_blocks: 1,
        uuid: geometry.uuid,
    }
}

/// What a scan of the file would find: holes where it reads zeros.
pub(crate) fn allocation(data: &SimDisk) -> AllocationMap {
    let mut map = AllocationMap::empty(VOLUME_BYTES);
    let bytes = data.peek(0, VOLUME_BYTES as usize);
    for (page, content) in (0..).zip(bytes.chunks(PAGE_BYTES as usize)) {
        if content.iter().any(|&byte| byte != 0) {
            map.mark(page * PAGE_BYTES, PAGE_BYTES);
        }
    }
    map
}
