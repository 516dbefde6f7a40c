# A target that requires digests refuses an initiator without them.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
header_digest = "require"
data_digest = "require"
TOML
start_node
start_initiator
node_set 'node.conn[0].iscsi.HeaderDigest' None
node_set 'node.conn[0].iscsi.DataDigest' None
refused "no login without digests" login
node_set 'node.conn[0].iscsi.HeaderDigest' CRC32C,None
node_set 'node.conn[0].iscsi.DataDigest' CRC32C,None
login
expect "the header digest" "$(iscsiadm -m session -P 2)" "HeaderDigest: CRC32C"
logout
stop_node
