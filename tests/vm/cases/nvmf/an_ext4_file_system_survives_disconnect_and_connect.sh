# Files written to ext4 are there, with their sums, after the association, the node and the page cache are gone.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
connect "$listener"
device=$(namespace 1)
make_file_system ext4 "$device"
fill /mnt/files
umount /mnt
check_file_system ext4 "$device"
disconnect
stop_node

start_node
connect "$second_listener"
device=$(namespace 1)
mount -t ext4 "$device" /mnt
check_fill /mnt/files
rm -r /mnt/files/deep/er
fstrim /mnt
umount /mnt
check_file_system ext4 "$device"
disconnect
stop_node
