# A function that is not there, not ours, or somebody else's is refused with the reason and the remedy.
. /vm/lib.sh
. /vm/nvme.sh

said() { cat /tmp/refused; }

refused "there is no such function" vm_nvme registers 0000:00:1a.0
expect "no function" "$(said)" '^vm_nvme: 0000:00:1a.0: there is no such PCI function'
refused "it has no driver" vm_nvme registers "$plain"
expect "no driver" "$(said)" 'no driver, not to vfio-pci.*vega disk bind'
to_kernel "$plain"
refused "it is the kernel's" vm_nvme registers "$plain"
expect "the kernel's" "$(said)" 'belongs to nvme, not to vfio-pci'

to_vfio "$plain"
group=/dev/vfio/$(basename "$(readlink "$sys_pci/$plain/iommu_group")")
exec 9<>"$group"
refused "another process has its group" vm_nvme registers "$plain"
expect "busy" "$(said)" "$group is in use by .*process [0-9]+\)"
exec 9>&-
vm_nvme registers "$plain" >/dev/null

# Without the module that makes tables there is no way in.
rmmod vfio_iommu_type1
refused "there are no tables" vm_nvme registers "$plain"
expect "no tables" "$(said)" 'does not offer VFIO group and container|modprobe'
modprobe vfio_iommu_type1
vm_nvme registers "$plain" >/dev/null
