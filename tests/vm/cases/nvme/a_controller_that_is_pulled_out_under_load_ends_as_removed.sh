# Pulled out under load, the driver ends with it and lets the kernel have the slot; put in again, it holds what was flushed.
. /vm/lib.sh
. /vm/nvme.sh

gone() { [ ! -e "$sys_pci/$loose" ]; }
here() { [ -e "$sys_pci/$loose" ]; }

huge_pages 32
for _ in 1 2; do
    to_vfio "$loose"
    start_nvme_load "$loose" 1 until-gone
    flushed_more 1000
    machine '{"execute": "device_del", "arguments": {"id": "loose"}}'
    end_nvme_load
    expect "the end" "$(cat /tmp/load.log)" '^the controller ended: Removed$'
    wait_until "the slot is empty" gone
    machine '{"execute": "device_add", "arguments": {"driver": "nvme", "id": "loose", "serial": "loose", "bus": "way-in", "drive": "loose"}}'
    wait_until "it is there again" here
    to_vfio "$loose"
    vm_nvme verify "$loose" 1 "$journal"
done
take "$loose"
to_kernel "$loose"
vm_nvme verify-disk "$(kernel_disk "$loose" 1)" "$journal"
