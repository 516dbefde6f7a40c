# A disk of forty operations a second is waited for; with less patience it is aborted and reset, and serves again.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$slow"
vm_nvme slow "$slow"
