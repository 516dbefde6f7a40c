# The power is cut under load on an iSCSI disk and on an NVMe/TCP namespace; what they had flushed, Vega's controller holds.
. /vm/lib.sh
. /vm/nvmf.sh
. /vm/nvme.sh

modprobe virtio_pci
modprobe virtio_blk
wait_until "the disks that outlive the machine are there" test -b /dev/vdb
journal=/dev/vda
huge_pages 96

# The node's own data outlives the machine as well.
mkdir -p /keep
[ "$VM_CUTS" -gt 0 ] || mkfs.ext4 -q -F /dev/vdb
mount -t ext4 /dev/vdb /keep
data=/keep/node
if [ "$VM_CUTS" = 0 ]; then
    configure_device
    cp /data/vega.toml /keep/vega.toml
    sync
else
    to_vfio "$plain"
    cp /keep/vega.toml /data/vega.toml
fi
start_node

case "$VM_CUTS" in
0)
    start_initiator
    login
    start_disk_load "$(disk 0)"
    flushed_more 1000
    cut_power
    ;;
1)
    start_initiator
    login
    vm_nvme verify-disk "$(disk 0)" "$journal"
    logout
    load_host
    connect "$listener"
    start_disk_load "$(namespace 1)"
    flushed_more 1000
    cut_power
    ;;
*)
    load_host
    connect "$listener"
    vm_nvme verify-disk "$(namespace 1)" "$journal"
    disconnect
    ;;
esac
stop_node
to_vfio "$plain"
vm_nvme verify "$plain" 2 "$journal"
