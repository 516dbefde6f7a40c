# Header and data digests, each on and off: what was written with one is read with the next.
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
seed=0
for digests in '' '--hdr-digest' '--data-digest' '--hdr-digest --data-digest'; do
    # shellcheck disable=SC2086 # a list of words
    connect "$listener" $digests
    device=$(namespace 1)
    [ "$seed" = 0 ] || verify_load "$device"
    seed=$((seed + 1))
    start_load "$device" --blocks 2048 --blocks-per-io 64 --depth 4 --seed "$seed"
    more_load 60
    stop_load
    verify_load "$device"
    disconnect
done
stop_node
