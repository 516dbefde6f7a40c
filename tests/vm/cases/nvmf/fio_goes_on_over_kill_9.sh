# The node is killed under verified fio load and started again, more than once: fio sees no error, and every block as it wrote it.
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
disconnect
stop_node
