# A discard of the whole disk gives its space back to the file system below, and reads return zeros.
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
held_kib() { du -sk "$data" | cut -f 1; }
empty_kib=$(held_kib)
dd if=/dev/urandom of="$device" bs=1M count=32 conv=fsync 2>/dev/null
[ "$(held_kib)" -ge $((empty_kib + 32000)) ] || die "32 MiB were written, but the volume holds $(held_kib) KiB"
blkdiscard "$device"
[ "$(held_kib)" -le $((empty_kib + 1000)) ] || die "it still holds $(held_kib) KiB"
drop_caches
dd if="$device" bs=1M count=32 2>/dev/null | tr -d '\0' | head -c 1 >/tmp/not-zero
[ ! -s /tmp/not-zero ] || die "a discarded block is not zero"

make_file_system ext4 "$device"
fill /mnt/files
dd if=/dev/urandom of=/mnt/large bs=1M count=24 conv=fsync 2>/dev/null
full_kib=$(held_kib)
rm /mnt/large
# What the journal may still need is not trimmed.
sync
fstrim /mnt
[ "$(held_kib)" -le $((full_kib - 20000)) ] || die "fstrim freed too little: $(held_kib) of $full_kib KiB"
check_fill /mnt/files
umount /mnt
check_file_system ext4 "$device"
logout
stop_node
