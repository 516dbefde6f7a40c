# A volume that grows under a mounted file system: the disk has the new size after a rescan, and the file system follows.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "32MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
make_file_system ext4 "$device"
fill /mnt/files
vega volume grow disk --size 96MiB >/dev/null
iscsiadm -m session --rescan >/dev/null
has_grown() { [ "$(blockdev --getsize64 "$device")" = $((96 << 20)) ]; }
wait_until "the disk has its new size" has_grown
resize2fs "$device" >/dev/null 2>&1
[ "$(df -k /mnt | awk 'NR == 2 { print $2 }')" -gt 80000 ] || die "the file system did not grow: $(df -k /mnt)"
check_fill /mnt/files
fill /mnt/more
umount /mnt
check_file_system ext4 "$device"
mount -t ext4 "$device" /mnt
check_fill /mnt/files
check_fill /mnt/more
umount /mnt
logout
stop_node
