# fio finds every block as it wrote it, on the disk and in a file, without digests and with both.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "320MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
for digests in '' '--hdr-digest --data-digest'; do
    type=ext4
    [ -z "$digests" ] || type=xfs
    # shellcheck disable=SC2086 # a list of words
    connect "$listener" $digests
    device=$(namespace 1)
    verified_fio "$device" --rw=randrw --size=10M
    verified_fio "$device" --rw=randwrite --size=10M --verify_backlog=64
    # Pairs of a discard and a write of the same blocks.
    verified_fio "$device" --rw=randtrimwrite --size=1500k
    make_file_system "$type" "$device"
    verified_fio /mnt/fio --rw=randrw --size=10M --fallocate=none --fsync=64
    umount /mnt
    check_file_system "$type" "$device"
    disconnect
done
stop_node
