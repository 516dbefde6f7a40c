# fio is ended in the middle and keeps what it knows; after node and session are gone it finds every block that it had written.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "256MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
start_fio "$device" --rw=randwrite --size=256M --do_verify=0
more_fio "$device" 600
kill -TERM "$(pidof fio)"
wait "$fio" && die "fio ended by itself"
state=$(ls /tmp/fio/*-verify.state)
[ -s "$state" ] || die "fio kept nothing"
logout
stop_node

start_node
login
device=$(disk 0)
verified_fio "$device" --rw=randwrite --size=256M --verify_only --verify_state_load=1
read=$(sed -n 's/^ *issued rwts: total=\([0-9]*\),.*/\1/p' /tmp/fio.log)
[ "$read" -ge 500 ] || die "fio looked at no more than $read blocks"
logout
stop_node
