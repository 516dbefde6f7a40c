# The node is killed while files are copied: the copy goes on after the restart, and the file system is clean.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "128MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
make_file_system ext4 "$device"
fill /tmp/files
(
    for copy in 1 2 3 4; do
        cp -r /tmp/files "/mnt/$copy"
        sync
        echo "$copy" >/tmp/copied
    done
) &
copier=$!
wait_until "the first copy is made" test -s /tmp/copied
kill_node
start_node
wait "$copier"
umount /mnt
check_file_system ext4 "$device"
mount -t ext4 "$device" /mnt
for copy in 1 2 3 4; do
    check_fill "/mnt/$copy"
done
umount /mnt
logout
stop_node
