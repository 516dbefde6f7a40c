# The power of the whole machine is cut under load, twice; what was flushed is there afterwards, for both drivers.
. /vm/lib.sh
. /vm/nvme.sh

# A disk of its own, which no cache of this machine is before.
modprobe virtio_pci
modprobe virtio_blk
wait_until "the disk for the journal is there" test -b /dev/vda
journal=/dev/vda

huge_pages 32
if [ "$VM_CUTS" -gt 0 ]; then
    to_vfio "$plain"
    vm_nvme verify "$plain" 2 "$journal"
    to_kernel "$plain"
    vm_nvme verify-disk "$(kernel_disk "$plain" 2)" "$journal"
fi
if [ "$VM_CUTS" -lt 2 ]; then
    to_vfio "$plain"
    start_nvme_load "$plain" 2
    flushed_more 1500
    cut_power
fi
