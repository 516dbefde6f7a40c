# Controller resets in the middle of writes are not seen by whoever writes, and every block holds what it must.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$plain"
for namespace in 1 2; do
    start_nvme_load "$plain" "$namespace" resets
    flushed_more 2000
    stop_nvme_load
    vm_nvme verify "$plain" "$namespace" "$journal"
done
