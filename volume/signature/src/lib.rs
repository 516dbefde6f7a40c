//! Whose data a block device holds: the marks that filesystems, partition tables and volume managers leave at fixed places.
//!
//! It is: [`recognise`], over the first and the last bytes of a device that somebody else has read; used before a device
//! is formatted, and before its controller is taken from the kernel.
//! It is not: a reader of devices, nor of the formats behind the marks.
//!
//! Reading order: the table of marks, then [`recognise`].
#![forbid(unsafe_code)]

use std::fmt;

/// What was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub what: &'static str,
    /// Where its mark lies, in bytes from the start of the device.
    pub offset_bytes: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (its mark is at byte {})", self.what, self.offset_bytes)
    }
}

/// How far from either end the marks lie.
pub const HEAD_BYTES: u64 = 1024 * 1024;
/// See [`HEAD_BYTES`]; a page more, because the label of a Vega volume begins on one.
pub const TAIL_BYTES: u64 = 1024 * 1024 + PAGE_BYTES;
const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Copy)]
enum At {
    Start(u64),
    End(u64),
}

/// Name, place, mark. Each from the format's own published description.
const MARKS: &[(&str, At, &[u8])] = &[
    ("an ext2, ext3 or ext4 filesystem", At::Start(1080), &[0x53, 0xEF]),
    ("an XFS filesystem", At::Start(0), b"XFSB"),
    ("a btrfs filesystem", At::Start(65536 + 64), b"_BHRfS_M"),
    ("a bcachefs filesystem", At::Start(4096 + 24), &BCACHEFS),
    ("a bcache device", At::Start(4096 + 24), &BCACHE),
    ("an f2fs filesystem", At::Start(1024), &[0x10, 0x20, 0xF5, 0xF2]),
    ("an NTFS filesystem", At::Start(3), b"NTFS    "),
    ("an exFAT filesystem", At::Start(3), b"EXFAT   "),
    ("a FAT32 filesystem", At::Start(82), b"FAT32   "),
    ("a FAT16 filesystem", At::Start(54), b"FAT16   "),
    ("a squashfs image", At::Start(0), b"hsqs"),
    ("an erofs image", At::Start(1024), &[0xE2, 0xE1, 0xF5, 0xE0]),
    ("an ISO 9660 image", At::Start(32769), b"CD001"),
    ("a LUKS volume", At::Start(0), b"LUKS\xBA\xBE"),
    ("a LUKS volume", At::Start(16384), b"SKUL\xBA\xBE"),
    ("an LVM physical volume", At::Start(0), b"LABELONE"),
    ("an LVM physical volume", At::Start(512), b"LABELONE"),
    ("an LVM physical volume", At::Start(1024), b"LABELONE"),
    ("an LVM physical volume", At::Start(1536), b"LABELONE"),
    ("a member of a Linux RAID", At::Start(0), &MDRAID),
    ("a member of a Linux RAID", At::Start(4096), &MDRAID),
    ("a swap area", At::Start(4086), b"SWAPSPACE2"),
    ("a swap area", At::Start(4086), b"SWAP-SPACE"),
    ("a swap area", At::Start(16374), b"SWAPSPACE2"),
    ("a swap area", At::Start(65526), b"SWAPSPACE2"),
    ("a Ceph OSD", At::Start(0), b"bluestore block device"),
    ("a DRBD device", At::End(4096 - 60), &[0x83, 0x74, 0x02, 0x6B]),
    ("a GUID partition table", At::Start(512), b"EFI PART"),
    ("a GUID partition table", At::Start(4096), b"EFI PART"),
    ("the backup of a GUID partition table", At::End(512), b"EFI PART"),
    ("the backup of a GUID partition table", At::End(4096), b"EFI PART"),
];
const VEGA_LABEL: &[u8] = b"VEGAvol1";
const VEGA_LABEL_FROM_END: u64 = 1024 * 1024;
const MDRAID: [u8; 4] = 0xA92B_4EFC_u32.to_le_bytes();
const BCACHE: [u8; 16] =
    [0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81];
const BCACHEFS: [u8; 16] =
    [0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF];

/// ZFS writes 128 uberblocks of at least 1 KiB in each label, in the writer's byte order.
const ZFS_UBERBLOCKS_START: usize = 128 * 1024;
const ZFS_UBERBLOCK_BYTES: usize = 1024;
const ZFS_LABEL_BYTES: usize = 256 * 1024;
const ZFS_MAGIC: u64 = 0x00BA_B10C;

/// The first thing recognised on a device of `length_bytes` whose first [`HEAD_BYTES`] are `head`
/// and whose last [`TAIL_BYTES`] are `tail` (both shorter on a shorter device).
pub fn recognise(head: &[u8], tail: &[u8], length_bytes: u64) -> Option<Found> {
    let vega = is_vega_volume(tail, length_bytes)
        .then(|| Found { what: "a Vega volume", offset_bytes: vega_label_at(length_bytes).unwrap_or(0) });
    marked(head, tail, length_bytes)
        .or(vega)
        .or_else(|| old_linux_raid(tail, length_bytes))
        .or_else(|| zfs(head, tail, length_bytes))
        .or_else(|| master_boot_record(head))
}

/// As [`recognise`]; and where nothing is recognised, the first byte that is not zero: somebody has written there, and nobody can
/// say what it is.
pub fn recognise_any(head: &[u8], tail: &[u8], length_bytes: u64) -> Option<Found> {
    let first = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0).map(|at| at as u64);
    let unknown = || {
        let tail_start = length_bytes.saturating_sub(tail.len() as u64);
        let offset_bytes = first(head).or_else(|| first(tail).map(|at| tail_start + at))?;
        Some(Found { what: "data of a kind that is not known", offset_bytes })
    };
    recognise(head, tail, length_bytes).or_else(unknown)
}

/// True when the last bytes of a device of `length_bytes` say that all of it is a Vega volume. Whatever else is recognised on it
/// then belongs to whoever uses that volume.
pub fn is_vega_volume(tail: &[u8], length_bytes: u64) -> bool {
    let tail_start = length_bytes.saturating_sub(tail.len() as u64);
    let at = vega_label_at(length_bytes).and_then(|at| usize::try_from(at.checked_sub(tail_start)?).ok());
    at.and_then(|at| tail.get(at..)).is_some_and(|label| label.starts_with(VEGA_LABEL))
}

/// Where the label of a volume lies that has all of a device.
fn vega_label_at(length_bytes: u64) -> Option<u64> {
    Some(length_bytes.checked_sub(VEGA_LABEL_FROM_END)? / PAGE_BYTES * PAGE_BYTES)
}

fn marked(head: &[u8], tail: &[u8], length_bytes: u64) -> Option<Found> {
    MARKS.iter().find_map(|&(what, at, mark)| {
        let (bytes, offset_bytes) = match at {
            At::Start(offset) => (head.get(usize::try_from(offset).ok()?..)?, offset),
            At::End(offset) => {
                let start = (tail.len() as u64).checked_sub(offset)?;
                (tail.get(usize::try_from(start).ok()?..)?, length_bytes.checked_sub(offset)?)
            }
        };
        bytes.starts_with(mark).then_some(Found { what, offset_bytes })
    })
}

/// Metadata 0.90 lies in the last whole 64 KiB but one, metadata 1.0 8 KiB before the end, rounded
/// down to 4 KiB.
fn old_linux_raid(tail: &[u8], length_bytes: u64) -> Option<Found> {
    let places =
        [(length_bytes & !0xFFFF).checked_sub(0x1_0000), length_bytes.checked_sub(8192).map(|at| at & !4095)];
    places.into_iter().flatten().find_map(|offset_bytes| {
        let from_end = usize::try_from(length_bytes - offset_bytes).ok()?;
        let start = tail.len().checked_sub(from_end)?;
        tail[start..].starts_with(&MDRAID).then_some(Found { what: "a member of a Linux RAID", offset_bytes })
    })
}

fn zfs(head: &[u8], tail: &[u8], length_bytes: u64) -> Option<Found> {
    let labels_end = length_bytes / ZFS_LABEL_BYTES as u64 * ZFS_LABEL_BYTES as u64;
    let last = labels_end.checked_sub(2 * ZFS_LABEL_BYTES as u64)?;
    let tail_start = length_bytes.checked_sub(tail.len() as u64)?;
    let last_in_tail = last.checked_sub(tail_start).and_then(|at| usize::try_from(at).ok());
    let labels = [
        (head.get(..ZFS_LABEL_BYTES), 0),
        (last_in_tail.and_then(|at| tail.get(at..at + ZFS_LABEL_BYTES)), last),
    ];
    labels.into_iter().find_map(|(label, label_offset)| {
        let ring = label?.get(ZFS_UBERBLOCKS_START..)?;
        let magic_of = |block: &[u8]| block.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let is_magic = |magic: u64| magic == ZFS_MAGIC || magic.swap_bytes() == ZFS_MAGIC;
        let index =
            ring.chunks(ZFS_UBERBLOCK_BYTES).position(|block| magic_of(block).is_some_and(is_magic))?;
        let offset_bytes = label_offset + (ZFS_UBERBLOCKS_START + index * ZFS_UBERBLOCK_BYTES) as u64;
        Some(Found { what: "a member of a ZFS pool", offset_bytes })
    })
}

/// The boot signature with at least one partition, or with boot code, in front of it.
fn master_boot_record(head: &[u8]) -> Option<Found> {
    let sector = head.get(..512)?;
    let signed = sector[510..] == [0x55, 0xAA];
    signed.then_some(Found { what: "a master boot record", offset_bytes: 510 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 8 * 1024 * 1024;

    fn blank() -> (Vec<u8>, Vec<u8>) {
        (vec![0; HEAD_BYTES as usize], vec![0; TAIL_BYTES as usize])
    }

    #[test]
    fn a_blank_device_holds_nothing() {
        let (head, tail) = blank();
        assert_eq!(recognise(&head, &tail, LENGTH), None);
        assert_eq!(recognise(&[], &[], 0), None);
    }

    #[test]
    fn each_mark_is_found_where_it_lies() {
        for &(what, at, mark) in MARKS {
            let (mut head, mut tail) = blank();
            let expected = match at {
                At::Start(offset) => {
                    head[offset as usize..][..mark.len()].copy_from_slice(mark);
                    offset
                }
                At::End(offset) => {
                    let start = tail.len() - offset as usize;
                    tail[start..][..mark.len()].copy_from_slice(mark);
                    LENGTH - offset
                }
            };
            assert_eq!(
                recognise(&head, &tail, LENGTH),
                Some(Found { what, offset_bytes: expected }),
                "{what}"
            );
        }
    }

    #[test]
    fn a_volume_is_one_whatever_its_user_has_put_on_it() {
        let (mut head, mut tail) = blank();
        assert!(!is_vega_volume(&tail, LENGTH) && !is_vega_volume(&[], LENGTH) && !is_vega_volume(&[], 0));
        head[..4].copy_from_slice(b"XFSB");
        let at = tail.len() - VEGA_LABEL_FROM_END as usize;
        tail[at..at + 8].copy_from_slice(VEGA_LABEL);
        assert_eq!(recognise(&head, &tail, LENGTH).map(|f| f.what), Some("an XFS filesystem"));
        assert!(is_vega_volume(&tail, LENGTH));
    }

    #[test]
    fn the_label_of_a_volume_is_found_on_a_device_that_does_not_end_on_a_page() {
        for rest in [512, 2048, 3584] {
            let (head, mut tail) = blank();
            // The label lies on a page: so much further from the end than a mebibyte.
            let at = tail.len() - (VEGA_LABEL_FROM_END + rest) as usize;
            tail[at..at + 8].copy_from_slice(VEGA_LABEL);
            let offset_bytes = LENGTH - VEGA_LABEL_FROM_END;
            assert!(is_vega_volume(&tail, LENGTH + rest), "{rest}");
            let found = recognise(&head, &tail, LENGTH + rest);
            assert_eq!(found, Some(Found { what: "a Vega volume", offset_bytes }), "{rest}");
        }
    }

    #[test]
    fn a_single_byte_that_nobody_knows_is_somebodys_data() {
        let (mut head, mut tail) = blank();
        assert_eq!(recognise_any(&head, &tail, LENGTH), None);
        tail[7] = 1;
        assert_eq!(recognise(&head, &tail, LENGTH), None);
        let found = recognise_any(&head, &tail, LENGTH).map(|found| found.offset_bytes);
        assert_eq!(found, Some(LENGTH - TAIL_BYTES + 7));
        head[5000] = 1;
        assert_eq!(recognise_any(&head, &tail, LENGTH).map(|found| found.offset_bytes), Some(5000));
        head[..4].copy_from_slice(b"XFSB");
        let found = recognise_any(&head, &tail, LENGTH).map(|found| found.what);
        assert_eq!(found, Some("an XFS filesystem"), "what is known is named");
    }

    #[test]
    fn linux_raid_at_the_end_zfs_and_boot_records_are_found() {
        let (head, mut tail) = blank();
        let at = tail.len() - 0x1_0000;
        tail[at..at + 4].copy_from_slice(&MDRAID);
        assert_eq!(recognise(&head, &tail, LENGTH).map(|f| f.offset_bytes), Some(LENGTH - 0x1_0000));

        let (mut head, tail) = blank();
        head[ZFS_UBERBLOCKS_START + 5 * 1024..][..8].copy_from_slice(&ZFS_MAGIC.to_be_bytes());
        assert_eq!(recognise(&head, &tail, LENGTH).map(|f| f.what), Some("a member of a ZFS pool"));

        let (head, mut tail) = blank();
        let at = tail.len() - 2 * ZFS_LABEL_BYTES + ZFS_UBERBLOCKS_START;
        tail[at..at + 8].copy_from_slice(&ZFS_MAGIC.to_le_bytes());
        assert_eq!(recognise(&head, &tail, LENGTH).map(|f| f.what), Some("a member of a ZFS pool"));

        let (mut head, tail) = blank();
        head[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(recognise(&head, &tail, LENGTH).map(|f| f.what), Some("a master boot record"));
    }
}
