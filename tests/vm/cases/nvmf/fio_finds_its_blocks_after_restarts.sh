# fio is ended in the middle and keeps what it knows; after node and session are gone it finds every block that it had written.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "256MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
connect "$listener"
device=$(namespace 1)
start_fio "$device" --rw=randwrite --size=256M --do_verify=0
more_fio "$device" 600
kill -TERM "$(pidof fio)"
wait "$fio" && die "fio ended by itself"
state=$(ls /tmp/fio/*-verify.state)
[ -s "$state" ] || die "fio kept nothing"
disconnect
stop_node

start_node
connect "$listener"
device=$(namespace 1)
verified_fio "$device" --rw=randwrite --size=256M --verify_only --verify_state_load=1
read=$(sed -n 's/^ *issued rwts: total=\([0-9]*\),.*/\1/p' /tmp/fio.log)
[ "$read" -ge 500 ] || die "fio looked at no more than $read blocks"
disconnect
stop_node
