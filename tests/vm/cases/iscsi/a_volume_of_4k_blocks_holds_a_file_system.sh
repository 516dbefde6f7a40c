# Logical blocks of 4 KiB: Linux takes them, and files survive a remount.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
block_size = 4096
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
same "the logical block" "$(blockdev --getss "$device")" 4096
same "the size" "$(blockdev --getsize64 "$device")" $((64 << 20))
make_file_system ext4 "$device"
fill /mnt/files
umount /mnt
drop_caches
mount -t ext4 "$device" /mnt
check_fill /mnt/files
umount /mnt
check_file_system ext4 "$device"
logout
stop_node
