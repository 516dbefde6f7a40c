# `nvme reset` by the host and `vega controller drop` by the operator under verified load: it goes on, and nothing is lost.
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
controller=$(controller "$listener")
start_load "$device" --depth 8
for round in 1 2; do
    more_load 50
    nvme reset "/dev/$controller"
    more_load 50
    id=$(vega -o json controller list | grep -o '"id": *"[^"]*"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$id" ] || die "no controller is listed: $(vega -o json controller list)"
    vega controller drop "$id" >/dev/null
done
more_load 50
stop_load
verify_load "$device"
disconnect
stop_node
