# One queue or many, shallow or deep, write and poll queues beside the others.
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
for queues in '--nr-io-queues=1 --queue-size=16' '--nr-io-queues=2 --queue-size=128' '--nr-io-queues=1 --nr-write-queues=1' '--nr-io-queues=1 --nr-poll-queues=1'; do
    # shellcheck disable=SC2086 # a list of words
    connect "$listener" $queues
    device=$(namespace 1)
    seed=$((seed + 1))
    start_load "$device" --blocks 2048 --blocks-per-io 8 --depth 8 --seed "$seed"
    more_load 60
    stop_load
    verify_load "$device"
    disconnect
done
stop_node
