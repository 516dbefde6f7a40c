# What cannot be read or written is answered as that, with its sector, and nothing else suffers.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
to_vfio "$faulty"
vm_nvme media "$faulty" 2048 4096
