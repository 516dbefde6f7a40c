# read, write, compare, write-zeroes, dsm, flush and verify, one by one.
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
head -c 4096 /dev/urandom >/tmp/content
head -c 4096 /dev/zero >/tmp/zeros
io() { nvme "$@" >/tmp/io 2>&1; }
io write "$device" --start-block=8 --block-count=7 --data-size=4096 --data=/tmp/content || die "write: $(cat /tmp/io)"
io write "$device" --start-block=16 --block-count=7 --data-size=4096 --data=/tmp/content --force-unit-access || die "FUA: $(cat /tmp/io)"
io read "$device" --start-block=8 --block-count=7 --data-size=4096 --data=/tmp/back || die "read: $(cat /tmp/io)"
cmp /tmp/content /tmp/back
io compare "$device" --start-block=8 --block-count=7 --data-size=4096 --data=/tmp/content || die "compare: $(cat /tmp/io)"
refused "a comparison with something else" io compare "$device" --start-block=8 --block-count=7 --data-size=4096 --data=/tmp/zeros
io write-zeroes "$device" --start-block=8 --block-count=7 || die "write-zeroes: $(cat /tmp/io)"
io compare "$device" --start-block=8 --block-count=7 --data-size=4096 --data=/tmp/zeros || die "zeros: $(cat /tmp/io)"
io compare "$device" --start-block=16 --block-count=7 --data-size=4096 --data=/tmp/content || die "its neighbour: $(cat /tmp/io)"
io dsm "$device" --ad --slbs=16 --blocks=8 || die "dsm: $(cat /tmp/io)"
io compare "$device" --start-block=16 --block-count=7 --data-size=4096 --data=/tmp/zeros || die "deallocated: $(cat /tmp/io)"
io flush "$device" || die "flush: $(cat /tmp/io)"
refused "a read past the end" io read "$device" --start-block=131072 --block-count=7 --data-size=4096 --data=/tmp/back
disconnect
stop_node
