# Header and data digests, each on and off: the session has what was asked for, and the data is right.
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
seed=0
for header in None CRC32C; do
    for data_digest in None CRC32C; do
        node_set 'node.conn[0].iscsi.HeaderDigest' "$header"
        node_set 'node.conn[0].iscsi.DataDigest' "$data_digest"
        login
        session=$(iscsiadm -m session -P 2)
        expect "the header digest" "$session" "HeaderDigest: $header"
        expect "the data digest" "$session" "DataDigest: $data_digest"
        seed=$((seed + 1))
        # The ledger of the round before goes on: what it wrote must still be there.
        start_load "$(disk 0)" --blocks 2048 --blocks-per-io 64 --depth 4 --seed "$seed"
        more_load 60
        stop_load
        verify_load "$(disk 0)"
        logout
    done
done
stop_node
