# The node is killed under verified fio load and started again, more than once: fio sees no error, and every block as it wrote it.
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
start_fio "$device" --rw=randwrite --size=48M --verify_backlog=64
for round in 1 2 3; do
    more_fio "$device" 150
    kill_node
    before=$(completed "$device")
    start_node
    more_fio "$device" 50
    say "round $round: killed after $before commands, $(completed "$device") now"
done
end_fio
logout
stop_node
