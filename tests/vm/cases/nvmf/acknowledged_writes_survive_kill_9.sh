# The node is killed under verified load and started again, more than once: I/O goes on, and nothing acknowledged is lost.
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
disconnect
stop_node
start_node
connect "$listener"
verify_load "$(namespace 1)"
disconnect
stop_node
