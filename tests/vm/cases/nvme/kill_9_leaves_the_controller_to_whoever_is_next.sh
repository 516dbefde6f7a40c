# After kill -9 under load, Vega's driver and the kernel's can use the controller at once, and all that was flushed is there.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
for namespace in 1 2; do
    to_vfio "$plain"
    for _ in 1 2; do
        start_nvme_load "$plain" "$namespace"
        flushed_more 1000
        kill_nvme_load
        vm_nvme verify "$plain" "$namespace" "$journal"
        # And once more, so that the kernel comes right after the kill.
        start_nvme_load "$plain" "$namespace"
        flushed_more 600
        kill_nvme_load
        to_kernel "$plain"
        vm_nvme verify-disk "$(kernel_disk "$plain" "$namespace")" "$journal"
        to_vfio "$plain"
        vm_nvme verify "$plain" "$namespace" "$journal"
    done
done
dmesg >/tmp/dmesg
refused "no write went astray" grep "DMAR: .*fault addr" /tmp/dmesg
