# Two paths: one becomes inaccessible under verified load, comes back, and the other goes; I/O never fails.
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
connect "$second_listener"
device=$(namespace 1)
first=$(controller "$listener")
wait_until "the first path is optimized" has_ana_state "$listener" optimized
wait_until "the second path is optimized" has_ana_state "$second_listener" optimized
start_load "$device" --depth 8
more_load 50
vega subsystem set-ana "$nqn" --listener 2 --state non-optimized >/dev/null
wait_until "the host sees it" has_ana_state "$second_listener" non-optimized
more_load 50
vega subsystem set-ana "$nqn" --listener 1 --state inaccessible >/dev/null
wait_until "the host sees it" has_ana_state "$listener" inaccessible
more_load 50
vega subsystem set-ana "$nqn" --listener 1 --state optimized >/dev/null
vega subsystem set-ana "$nqn" --listener 2 --state inaccessible >/dev/null
wait_until "the host sees it" has_ana_state "$second_listener" inaccessible
more_load 50
is_live "$first" || die "the first controller was reset"
stop_load
verify_load "$device"
disconnect
stop_node
