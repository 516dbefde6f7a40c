# sg_modes, sg_logs and sg_opcodes understand what the unit answers.
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
modes=$(sg_modes --all "$device" 2>&1) || die "sg_modes: $modes"
say "$modes"
expect "the caching page" "$modes" 'Caching'
expect "the control page" "$modes" 'Control'
expect "writes are allowed" "$modes" 'WP=0'
sg_modes --all --six "$device" >/tmp/modes 2>&1 || die "sg_modes --six: $(cat /tmp/modes)"
for control in 0 1 2; do
    sg_modes --page=0x08 --control=$control "$device" >/tmp/modes 2>&1 || die "page control $control: $(cat /tmp/modes)"
done
# What Linux made of it: a cache that is to be flushed, or none.
expect "the cache" "$(cat /sys/class/scsi_disk/*/cache_type)" '^write (back|through)'
logs=$(sg_logs --list "$device" 2>&1) || die "sg_logs: $logs"
say "$logs"
sg_logs --all "$device" >/tmp/logs 2>&1 || die "sg_logs --all: $(cat /tmp/logs)"
operations=$(sg_opcodes "$device" 2>&1) || die "sg_opcodes: $operations"
for name in 'Test Unit Ready' 'Inquiry' 'Read\(16\)' 'Write\(16\)' 'Unmap' 'Write same\(16\)' 'Compare and write' 'Report luns'; do
    expect "$name is supported" "$operations" "$name"
done
logout
stop_node
