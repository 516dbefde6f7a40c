# fio finds every block as it wrote it, on the disk and in a file, without digests and with both.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "320MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
for digest in None CRC32C; do
    type=ext4
    [ "$digest" = None ] || type=xfs
    node_set 'node.conn[0].iscsi.HeaderDigest' "$digest"
    node_set 'node.conn[0].iscsi.DataDigest' "$digest"
    login
    session=$(iscsiadm -m session -P 2)
    expect "the header digest" "$session" "HeaderDigest: $digest"
    expect "the data digest" "$session" "DataDigest: $digest"
    device=$(disk 0)
    verified_fio "$device" --rw=randrw --size=10M
    verified_fio "$device" --rw=randwrite --size=10M --verify_backlog=64
    # Pairs of a discard and a write of the same blocks.
    verified_fio "$device" --rw=randtrimwrite --size=1500k
    make_file_system "$type" "$device"
    verified_fio /mnt/fio --rw=randrw --size=10M --fallocate=none --fsync=64
    umount /mnt
    check_file_system "$type" "$device"
    logout
done
stop_node
