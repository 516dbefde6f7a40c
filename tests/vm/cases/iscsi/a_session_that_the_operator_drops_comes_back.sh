# `vega session drop` under verified load: the initiator logs in again, and nothing is lost.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
start_load "$device" --depth 4
for round in 1 2; do
    more_load 50
    id=$(vega -o json session list | grep -o '"id": *"[^"]*"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$id" ] || die "no session is listed: $(vega -o json session list)"
    vega session drop "$id" >/dev/null
done
more_load 50
stop_load
verify_load "$device"
logout
stop_node
