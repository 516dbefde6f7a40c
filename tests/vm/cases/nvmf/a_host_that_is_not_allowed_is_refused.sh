# An allow list admits the hosts on it and nobody else; a host that is taken off it is disconnected.
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
vega subsystem allow-host "$nqn" "$other_hostnqn" >/dev/null
refused "a stranger is not let in" connect "$listener"
vega subsystem allow-host "$nqn" "$hostnqn" >/dev/null
connect "$listener"
head -c 4096 "$(namespace 1)" >/dev/null
controller=$(controller "$listener")
vega subsystem deny-host "$nqn" "$hostnqn" >/dev/null
is_gone() { ! is_live "$controller" 2>/dev/null; }
wait_until "it is disconnected" is_gone
nvme disconnect -n "$nqn" >/dev/null
refused "a subsystem that does not exist" nvme connect -t tcp -a "$listener" -s 4420 -n nqn.2026-11.io.vega:nothing
stop_node
