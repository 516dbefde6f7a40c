# A load refuses a controller with anything on it, whether the kernel has it or not, until its serial number is typed.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 64
load_vfio
to_kernel "$small"
blank "$small" 1
disk=$(kernel_disk "$small" 1)
target="trtype=pcie traddr=$small ns=1"
load() { /vm/vega bench $target --pattern randwrite --bytes 1MiB "$@"; }
said() { cat /tmp/refused; }

mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/used
mount "$disk" /mnt/used
echo kept >/mnt/used/file
refused "a mounted disk is not taken" load --overwrite-data
expect "mounted" "$(said)" "is mounted at /mnt/used"
umount /mnt/used
refused "a file system is not taken" load --overwrite-data
expect "labelled" "$(said)" "holds an ext2, ext3 or ext4 filesystem .*--confirm-serial small"
refused "another serial number is no confirmation" load --confirm-serial smal
same "the driver after refusals" "$(driver_of "$small")" nvme

# No driver of the kernel shows a disk now; what is there is there all the same.
to_vfio "$small"
refused "a file system is not written to" load --overwrite-data
expect "labelled" "$(said)" "namespace 1 holds an ext2, ext3 or ext4 filesystem .*--confirm-serial small"
refused "another serial number is no confirmation" load --confirm-serial smal
expect "another number" "$(said)" 'its serial number is "small", not "smal"'
# Reading hurts nobody.
bench $target --pattern randread --bytes 1MiB
same "the driver" "$(driver_of "$small")" vfio-pci

to_kernel "$small"
disk=$(kernel_disk "$small" 1)
mount "$disk" /mnt/used
same "the file" "$(cat /mnt/used/file)" kept
umount /mnt/used
bench $target --pattern randwrite --bytes 1MiB --confirm-serial small
same "the driver after a load" "$(driver_of "$small")" nvme

# Data without a mark takes a word, in user space as well.
disk=$(kernel_disk "$small" 1)
dd if=/dev/zero bs=1M count=32 2>/dev/null | tr '\0' 'x' | dd of="$disk" bs=1M conv=fsync 2>/tmp/dd || die "$(cat /tmp/dd)"
to_vfio "$small"
refused "unknown data is not overwritten" load
expect "unknown data" "$(said)" "holds data that is not of an earlier run .*--overwrite-data"
bench $target --pattern randwrite --bytes 1MiB --overwrite-data
