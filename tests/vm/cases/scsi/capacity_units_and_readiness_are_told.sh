# sg_readcap, sg_luns, sg_turs, sg_requests, sg_start and sg_sync: the everyday questions.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
uuid = "6f1c6d4e-9f0a-4c3a-8f6b-2f6f3f2b7f11"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
sg_turs "$device"
capacity=$(sg_readcap --16 "$device")
expect "the last block" "$capacity" 'Last LBA=131071 '
expect "the block length" "$capacity" 'Logical block length=512 bytes'
expect "thin" "$capacity" 'lbpme=1'
expect "zeros" "$capacity" 'lbprz=1'
expect "the short form" "$(sg_readcap "$device")" 'Last LBA=131071 '
units=$(sg_luns "$device")
say "$units"
expect "one unit" "$units" 'Lun list length = 8'
sg_requests "$device" >/tmp/requests || die "REQUEST SENSE: $(cat /tmp/requests)"
sg_sync "$device"
sg_sync --16 --lba=8 --count=8 "$device"
sg_start --start "$device"
refused "no read past the end" sg_read if="$(ls -d /dev/sg* | head -n 1)" skip=131072 count=1 bs=512
sg_verify --lba=0 --count=64 "$device"
logout
stop_node
