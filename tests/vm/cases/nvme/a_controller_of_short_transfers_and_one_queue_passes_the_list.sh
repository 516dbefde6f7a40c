# Everything that every volume shows, shown by a real controller with 8 KiB at once and one I/O queue.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$small"
vm_nvme identify "$small" | tee /tmp/identify
expect "its namespace" "$(cat /tmp/identify)" '^namespace 1 blocks [0-9]+ of 512 bytes'
vm_nvme conformance "$small" 1
