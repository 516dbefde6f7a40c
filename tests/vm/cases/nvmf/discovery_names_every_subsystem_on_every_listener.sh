# nvme discover: each subsystem through each listener, and the discovery subsystem itself.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
[[subsystem]]
nqn = "nqn.2026-11.io.vega:other"
allow = ["nqn.2026-11.io.vega:nobody"]
TOML
start_node
load_host
log=$(nvme discover -t tcp -a "$listener" -s 4420)
say "$log"
expect "the subsystem" "$log" "^subnqn: *$nqn"
expect "the first listener" "$log" "^traddr: *$listener$"
expect "the second listener" "$log" "^traddr: *$second_listener$"
case "$log" in *vega:other*) die "a subsystem of others is shown" ;; esac
vega subsystem allow-host nqn.2026-11.io.vega:other "$hostnqn" >/dev/null
expect "it is shown to its hosts" "$(nvme discover -t tcp -a "$second_listener" -s 4420)" 'vega:other'
nvme connect-all -t tcp -a "$listener" -s 4420
same "connect-all connects every entry" "$(ls -d /sys/class/nvme/nvme* | wc -l)" 4
nvme disconnect-all
stop_node
