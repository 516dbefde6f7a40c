# LUN reset and target reset under verified load: the load goes on, and nothing is lost.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
uuid = "6f1c6d4e-9f0a-4c3a-8f6b-2f6f3f2b7f11"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
start_load "$device" --depth 8
more_load 50
sg_reset --device "$device"
more_load 50
sg_reset --target "$device"
more_load 50
stop_load
verify_load "$device"
sg_turs "$device"
logout
stop_node
