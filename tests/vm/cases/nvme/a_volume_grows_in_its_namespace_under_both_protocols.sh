# A volume on a namespace grows into its room while it is used: hosts hear of it, initiators rescan, and the label knows it afterwards.
. /vm/lib.sh
. /vm/nvmf.sh
. /vm/nvme.sh

huge_pages 96
configure_device
start_node
start_initiator
login
unit=$(disk 0)
make_file_system ext4 "$unit"
fill /mnt/files
load_host
connect "$listener"
device=$(namespace 1)
dd if=/dev/zero of="$device" bs=1M count=8 oflag=direct 2>/dev/null
start_load "$device" --blocks 2048 --block-bytes 4096
more_load 200
refused "there is no more room than the namespace has" vega volume grow namespace --size 32MiB
expect "the refusal" "$(cat /tmp/refused)" "namespace 2 has room for a volume of 32505856 bytes"
vega volume grow namespace --size 30MiB >/dev/null
has_grown() { [ "$(blockdev --getsize64 "$device")" = $((30 << 20)) ]; }
wait_until "the host has the new size" has_grown
more_load 200
stop_load
verify_load "$device"
vega volume grow unit --size 31MiB >/dev/null
iscsiadm -m session --rescan >/dev/null
unit_has_grown() { [ "$(blockdev --getsize64 "$unit")" = $((31 << 20)) ]; }
wait_until "the disk has its new size" unit_has_grown
umount /mnt
check_file_system ext4 "$unit"
dd if=/dev/urandom of="$device" bs=4096 seek=7679 count=1 oflag=direct 2>/dev/null
last=$(dd if="$device" bs=4096 skip=7679 count=1 iflag=direct 2>/dev/null | sha256sum)
kill_node
start_node
expect "the volume" "$(vega volume show namespace)" "31457280 bytes"
expect "the other" "$(vega volume show unit)" "32505856 bytes"
same "the last block" "$(dd if="$device" bs=4096 skip=7679 count=1 iflag=direct 2>/dev/null | sha256sum)" "$last"
verify_load "$device"
mount -t ext4 "$unit" /mnt
check_fill /mnt/files
umount /mnt
disconnect
logout
stop_node
