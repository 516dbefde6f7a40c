# Files written to xfs are there, with their sums, after the session, the node and the page cache are gone.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "320MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
make_file_system xfs "$device"
fill /mnt/files
umount /mnt
check_file_system xfs "$device"
logout
stop_node

start_node
login
device=$(disk 0)
mount -t xfs "$device" /mnt
check_fill /mnt/files
rm -r /mnt/files/deep/er
umount /mnt
check_file_system xfs "$device"
logout
stop_node
