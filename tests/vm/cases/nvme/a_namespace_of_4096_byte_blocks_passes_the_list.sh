# Everything that every volume shows, shown by a real controller with blocks of 4096 bytes.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$plain"
vm_nvme identify "$plain" | tee /tmp/identify
expect "its namespace" "$(cat /tmp/identify)" '^namespace 2 blocks [0-9]+ of 4096 bytes'
vm_nvme conformance "$plain" 2
