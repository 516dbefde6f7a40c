# A controller that is told to write where nothing is mapped writes nothing, and the IOMMU says so.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$plain"
dmesg -c >/dev/null
vm_nvme stray-write "$plain"
dmesg >/tmp/dmesg
expect "the IOMMU's log" "$(cat /tmp/dmesg)" 'DMAR: \[DMA Write.*\[00:04\.0\] fault addr 0x666666000'
same "faults" "$(grep -c 'DMAR: .*fault addr' /tmp/dmesg)" 1
