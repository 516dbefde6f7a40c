# nvme connect, list, list-subsys; the node lists the controller; after disconnect nothing is left on either side.
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
same "the size" "$(blockdev --getsize64 "$device")" $((64 << 20))
expect "nvme list" "$(nvme list)" "^$device .*Vega volume"
expect "nvme list-subsys" "$(nvme list-subsys)" "$nqn"
expect "the node's list" "$(vega controller list)" "$hostnqn"
lsblk "$device"
disconnect
no_hosts() { ! vega controller list | grep -q "$hostnqn"; }
wait_until "the node forgets the controller" no_hosts
stop_node
