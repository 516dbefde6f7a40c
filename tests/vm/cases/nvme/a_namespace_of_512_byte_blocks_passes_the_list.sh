# Everything that every volume shows, shown by a real controller with blocks of 512 bytes.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$plain"
vm_nvme identify "$plain" | tee /tmp/identify
expect "its namespace" "$(cat /tmp/identify)" '^namespace 1 blocks [0-9]+ of 512 bytes'
vm_nvme conformance "$plain" 1
