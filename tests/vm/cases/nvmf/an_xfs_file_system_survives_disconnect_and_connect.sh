# Files written to xfs are there, with their sums, after the association, the node and the page cache are gone.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "320MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
connect "$listener"
device=$(namespace 1)
make_file_system xfs "$device"
fill /mnt/files
umount /mnt
check_file_system xfs "$device"
disconnect
stop_node

start_node
connect "$second_listener"
device=$(namespace 1)
mount -t xfs "$device" /mnt
check_fill /mnt/files
rm -r /mnt/files/deep/er
fstrim /mnt
umount /mnt
check_file_system xfs "$device"
disconnect
stop_node
