# Files written to ext4 are there, with their sums, after the session, the node and the page cache are gone.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
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
umount /mnt
check_file_system ext4 "$device"
logout
stop_node

start_node
login
device=$(disk 0)
mount -t ext4 "$device" /mnt
check_fill /mnt/files
rm -r /mnt/files/deep/er
umount /mnt
check_file_system ext4 "$device"
logout
stop_node
