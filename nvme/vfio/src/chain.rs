//! What the kernel answers about regions, address spaces and hot resets: a fixed part, then a chain of capabilities.
//!
//! Everything here reads a plain slice of bytes and believes none of its offsets and counts.

use std::ops::RangeInclusive;

use vfio_bindings::bindings::vfio;

use crate::limits::CAPABILITIES_MAX;

const HEADER_BYTES: usize = 8;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// One capability: its number, and the answer from its header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capability<'a> {
    id: u32,
    bytes: &'a [u8],
}

/// The capabilities of an answer. It ends at the first one that does not lie behind the one before it.
#[derive(Debug)]
struct Chain<'a> {
    bytes: &'a [u8],
    /// Where the previous part ended; offsets only grow, so no chain is a ring.
    end: usize,
    next: usize,
    left: usize,
}

impl<'a> Chain<'a> {
    fn new(bytes: &'a [u8], fixed_bytes: usize, first: u32) -> Self {
        Self { bytes, end: fixed_bytes, next: first as usize, left: CAPABILITIES_MAX }
    }
}

impl<'a> Iterator for Chain<'a> {
    type Item = Capability<'a>;

    fn next(&mut self) -> Option<Capability<'a>> {
        if self.next < self.end || self.left == 0 {
            return None;
        }
        let bytes = self.bytes.get(self.next..).filter(|bytes| bytes.len() >= HEADER_BYTES)?;
        let id = u32::from(u16_at(bytes, 0)?);
        self.end = self.next + HEADER_BYTES;
        self.next = u32_at(bytes, 4)? as usize;
        self.left -= 1;
        Some(Capability { id, bytes })
    }
}

/// Pairs of 64 bits behind a count at 8 and a reserved word at 12. A count that promises more than there is, is not believed.
fn pairs(bytes: &[u8]) -> Vec<(u64, u64)> {
    let count = u32_at(bytes, 8).unwrap_or(0) as usize;
    let pair = |index: usize| Some((u64_at(bytes, 16 + index * 16)?, u64_at(bytes, 24 + index * 16)?));
    (0..count).map_while(pair).collect()
}

/// One region of a device: a BAR, or the configuration space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region {
    flags: u32,
    /// Its length; 0 for one that is not there.
    pub(crate) size_bytes: u64,
    /// Where it begins in the device's file.
    pub(crate) offset_bytes: u64,
    /// The parts that may be mapped, as offset and length, when not all of it may.
    sparse: Option<Vec<(u64, u64)>>,
}

impl Region {
    /// Reads `struct vfio_region_info`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let flags = u32_at(bytes, 4)?;
        let mut region =
            Self { flags, size_bytes: u64_at(bytes, 16)?, offset_bytes: u64_at(bytes, 24)?, sparse: None };
        if flags & vfio::VFIO_REGION_INFO_FLAG_CAPS != 0 {
            for capability in Chain::new(bytes, size_of::<vfio::vfio_region_info>(), u32_at(bytes, 12)?) {
                if capability.id == vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP {
                    region.sparse = Some(pairs(capability.bytes));
                }
            }
        }
        Some(region)
    }

    /// How many bytes from its start on can be mapped, in whole pages; 0 when none can.
    ///
    /// Kernels before 4.16 leave out the page of the MSI-X table; what lies behind such a hole is not used.
    pub(crate) fn mappable_bytes(&self, page_bytes: u64) -> u64 {
        if self.flags & vfio::VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return 0;
        }
        let end =
            match &self.sparse {
                None => self.size_bytes,
                Some(areas) => {
                    let mut areas = areas.clone();
                    areas.sort_unstable();
                    areas.iter().fold(0, |end, &(offset, length)| {
                        if offset <= end { end.max(offset.saturating_add(length)) } else { end }
                    })
                }
            };
        let end = end.min(self.size_bytes);
        end - end % page_bytes
    }
}

/// What an address space of type 1 offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpaceInfo {
    /// A bit for each page size; 0 where the kernel does not say.
    pub(crate) page_sizes: u64,
    /// The addresses that may be mapped; `None` where the kernel does not say.
    pub(crate) ranges: Option<Vec<RangeInclusive<u64>>>,
    /// How many more mappings there may be.
    pub(crate) entries_left: Option<u32>,
}

impl SpaceInfo {
    /// Reads `struct vfio_iommu_type1_info`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let flags = u32_at(bytes, 4)?;
        let mut info = Self::default();
        if flags & vfio::VFIO_IOMMU_INFO_PGSIZES != 0 {
            info.page_sizes = u64_at(bytes, 8)?;
        }
        if flags & vfio::VFIO_IOMMU_INFO_CAPS != 0 {
            for capability in Chain::new(bytes, size_of::<vfio::vfio_iommu_type1_info>(), u32_at(bytes, 16)?)
            {
                if capability.id == vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE {
                    info.ranges =
                        Some(pairs(capability.bytes).into_iter().map(|(start, last)| start..=last).collect());
                } else if capability.id == vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL {
                    info.entries_left = u32_at(capability.bytes, 8);
                }
            }
        }
        Some(info)
    }
}

/// The functions that a hot reset resets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependents {
    flags: u32,
    /// The group of each; of functions with files of their own, their numbers.
    groups: Vec<u32>,
}

impl Dependents {
    /// Reads `struct vfio_pci_hot_reset_info`; `None` when it is not whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let count = u32_at(bytes, 8)? as usize;
        // Each is a group or number, and eight bytes with where it is.
        let group = |index: usize| {
            let entry = bytes.get(index.checked_mul(8)?.checked_add(12)?..)?.get(..8)?;
            u32_at(entry, 0)
        };
        Some(Self { flags: u32_at(bytes, 4)?, groups: (0..count).map(group).collect::<Option<_>>()? })
    }

    /// Whether they are all this process's, when one of them is.
    pub(crate) fn are_ours(&self) -> bool {
        if self.flags & vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0 {
            return self.flags & vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED != 0;
        }
        // A group has one owner.
        !self.groups.is_empty() && self.groups.iter().all(|group| *group == self.groups[0])
    }
}

#[cfg(test)]
mod tests;
