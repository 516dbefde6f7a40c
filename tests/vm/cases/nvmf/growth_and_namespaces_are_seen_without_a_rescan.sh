# A volume that grows, a namespace that comes and one that goes: the host hears of it by an event, and nobody rescans.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "32MiB"
[[volume]]
name = "more"
size = "16MiB"
block_size = 4096
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
vega volume grow disk --size 96MiB >/dev/null
has_grown() { [ "$(blockdev --getsize64 "$device")" = $((96 << 20)) ]; }
wait_until "the namespace has its new size" has_grown
resize2fs "$device" >/dev/null 2>&1
check_fill /mnt/files
vega subsystem add-namespace "$nqn" more --nsid 7 >/dev/null
more=$(namespace 7)
same "the block of the new namespace" "$(blockdev --getss "$more")" 4096
head -c 65536 /dev/urandom >/tmp/content
dd if=/tmp/content of="$more" bs=65536 oflag=direct 2>/dev/null
dd if="$more" bs=65536 count=1 iflag=direct 2>/dev/null | cmp - /tmp/content
vega subsystem remove-namespace "$nqn" 7 >/dev/null
wait_until "the namespace is gone" no_namespace 7
umount /mnt
check_file_system ext4 "$device"
disconnect
stop_node
