# The node is killed under verified load and started again, more than once: I/O goes on, and nothing acknowledged is lost.
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
start_load "$device" --depth 16 --blocks 4096
for round in 1 2 3; do
    more_load 150
    kill_node
    before=$(acknowledged)
    start_node
    more_load 50
    say "round $round: killed after $before writes, $(acknowledged) now"
done
stop_load
verify_load "$device"
logout
stop_node
start_node
login
verify_load "$(disk 0)"
logout
stop_node
