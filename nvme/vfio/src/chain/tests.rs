use proptest::prelude::*;

use super::*;

const PAGE_BYTES: u64 = 4096;

fn header(id: u32, next: usize) -> Vec<u8> {
    let mut bytes = (id as u16).to_ne_bytes().to_vec();
    bytes.extend(1u16.to_ne_bytes());
    bytes.extend((next as u32).to_ne_bytes());
    bytes
}

fn capability(id: u32, next: usize, list: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = header(id, next);
    bytes.extend((list.len() as u32).to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    for (a, b) in list {
        bytes.extend(a.to_ne_bytes());
        bytes.extend(b.to_ne_bytes());
    }
    bytes
}

fn region(flags: u32, size: u64, first: u32, capabilities: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [32 + capabilities.len() as u32, flags, 0, first] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(size.to_ne_bytes());
    bytes.extend(0x1_0000u64.to_ne_bytes());
    bytes.extend(capabilities);
    bytes
}

const MMAP: u32 = vfio::VFIO_REGION_INFO_FLAG_MMAP;
const CAPS: u32 = vfio::VFIO_REGION_INFO_FLAG_CAPS;
const SPARSE: u32 = vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP;
const MSIX: u32 = vfio::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;

fn mappable(bytes: &[u8]) -> u64 {
    Region::parse(bytes).expect("a whole region").mappable_bytes(PAGE_BYTES)
}

#[test]
fn a_region_is_mapped_as_far_as_the_kernel_allows() {
    assert_eq!(mappable(&region(0, 0x4000, 0, &[])), 0);
    assert_eq!(mappable(&region(MMAP, 0x4000, 0, &[])), 0x4000);
    assert_eq!(mappable(&region(MMAP, 0x4800, 0, &[])), 0x4000, "whole pages only");
    // The whole of it, the page of the MSI-X table included.
    assert_eq!(mappable(&region(MMAP | CAPS, 0x4000, 32, &header(MSIX, 0))), 0x4000);
    let sparse = |areas: &[(u64, u64)]| region(MMAP | CAPS, 0x4000, 32, &capability(SPARSE, 0, areas));
    assert_eq!(mappable(&sparse(&[(0, 0x2000), (0x3000, 0x1000)])), 0x2000, "up to the hole");
    assert_eq!(mappable(&sparse(&[(0x2000, 0x1000), (0, 0x2000)])), 0x3000, "neighbours in any order");
    assert_eq!(mappable(&sparse(&[(0x1000, 0x3000)])), 0, "not from its start");
    assert_eq!(mappable(&sparse(&[])), 0);
    assert_eq!(mappable(&sparse(&[(0, u64::MAX), (0x10, u64::MAX)])), 0x4000, "never past its end");
}

#[test]
fn a_second_capability_is_found_behind_the_first() {
    let mut capabilities = header(MSIX, 32 + 8);
    capabilities.extend(capability(SPARSE, 0, &[(0, 0x1000)]));
    assert_eq!(mappable(&region(MMAP | CAPS, 0x4000, 32, &capabilities)), 0x1000);
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    // To itself, into the fixed part, and past the end.
    for next in [32, 40, 0, 8, 4000, usize::MAX] {
        let bytes = region(MMAP | CAPS, 0x4000, 32, &header(MSIX, next));
        assert_eq!(mappable(&bytes), 0x4000, "{next}");
    }
    let endless: Vec<u8> = (1..1000).flat_map(|index| header(MSIX, 32 + index * 8)).collect();
    let bytes = region(MMAP | CAPS, 0x4000, 32, &endless);
    assert_eq!(Chain::new(&bytes, 32, 32).count(), CAPABILITIES_MAX);
}

fn space(flags: u32, capabilities: &[u8]) -> Vec<u8> {
    let mut bytes = (24 + capabilities.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(0x4020_1000u64.to_ne_bytes());
    bytes.extend(24u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(capabilities);
    bytes
}

#[test]
fn an_address_space_says_its_ranges_pages_and_entries() {
    let ranges = [(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
    let id = vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
    let mut capabilities = capability(id, 24 + 48, &ranges);
    capabilities.extend(header(vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 0));
    capabilities.extend(65_535u32.to_ne_bytes());
    let info = SpaceInfo::parse(&space(3, &capabilities)).expect("a whole answer");
    assert_eq!(info.page_sizes, 0x4020_1000);
    assert_eq!(info.ranges, Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]));
    assert_eq!(info.entries_left, Some(65_535));
    assert_eq!(SpaceInfo::parse(&space(0, &[])), Some(SpaceInfo::default()));
}

fn dependents(flags: u32, groups: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [12 + 8 * groups.len() as u32, flags, groups.len() as u32] {
        bytes.extend(word.to_ne_bytes());
    }
    for group in groups {
        bytes.extend(group.to_ne_bytes());
        // Segment, bus and function.
        bytes.extend([0, 0, 3, 0x21]);
    }
    bytes
}

#[test]
fn a_hot_reset_is_ours_when_everything_it_resets_is() {
    let ours =
        |flags, groups: &[u32]| Dependents::parse(&dependents(flags, groups)).map(|all| all.are_ours());
    assert_eq!(ours(0, &[7]), Some(true));
    assert_eq!(ours(0, &[7, 7, 7]), Some(true));
    assert_eq!(ours(0, &[7, 7, 9]), Some(false));
    assert_eq!(ours(0, &[]), Some(false));
    // With files of their own, the kernel says it.
    let (numbers, owned) = (vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID, vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);
    assert_eq!(ours(numbers, &[1, 1]), Some(false));
    assert_eq!(ours(numbers | owned, &[1, 2]), Some(true));
    let whole = dependents(0, &[7, 7]);
    assert_eq!(Dependents::parse(&whole[..whole.len() - 1]), None, "one that is cut is not taken for whole");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Some(region) = Region::parse(&bytes) {
            prop_assert!(region.mappable_bytes(PAGE_BYTES) <= region.size_bytes);
        }
        let _ = SpaceInfo::parse(&bytes);
        let _ = Dependents::parse(&bytes).map(|all| all.are_ours());
    }

    // The start is right, so that the chains and counts behind it are reached.
    #[test]
    fn any_chain_is_followed_without_harm(
        tail in proptest::collection::vec(0u8..48, 0..300),
        first in 0u32..400,
    ) {
        let region = Region::parse(&region(MMAP | CAPS, 0x4000, first, &tail)).expect("its fixed part is whole");
        prop_assert!(region.mappable_bytes(PAGE_BYTES) <= 0x4000);
        prop_assert!(SpaceInfo::parse(&space(3, &tail)).is_some());
        prop_assert!(Chain::new(&tail, 0, first).count() <= CAPABILITIES_MAX);
    }
}
