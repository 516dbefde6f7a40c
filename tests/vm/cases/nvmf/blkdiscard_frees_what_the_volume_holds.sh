# A discard of the whole namespace gives its space back, and reads return zeros; so does a zeroing.
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
held_kib() { du -sk "$data" | cut -f 1; }
empty_kib=$(held_kib)
for how in '' '--zeroout'; do
    dd if=/dev/urandom of="$device" bs=1M count=32 conv=fsync 2>/dev/null
    [ "$(held_kib)" -ge $((empty_kib + 32000)) ] || die "32 MiB were written, but the volume holds $(held_kib) KiB"
    # shellcheck disable=SC2086 # no word, or one
    blkdiscard $how "$device"
    drop_caches
    dd if="$device" bs=1M count=32 2>/dev/null | tr -d '\0' | head -c 1 >/tmp/not-zero
    [ ! -s /tmp/not-zero ] || die "a discarded block is not zero"
    [ -n "$how" ] || [ "$(held_kib)" -le $((empty_kib + 1000)) ] || die "it still holds $(held_kib) KiB"
done
disconnect
stop_node
