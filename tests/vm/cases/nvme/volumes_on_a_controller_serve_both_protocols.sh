# The kernel's initiator and host use volumes whose blocks Vega writes to a controller itself; kill -9 of the node loses nothing.
. /vm/lib.sh
. /vm/nvmf.sh
. /vm/nvme.sh

huge_pages 96
configure_device
start_node
same "who has the controller" "$(driver_of "$plain")" vfio-pci
start_initiator
login
unit=$(disk 0)
make_file_system ext4 "$unit"
fill /mnt/files
umount /mnt
load_host
connect "$listener"
# A ledger begins with zeros; other cases have used this controller.
dd if=/dev/zero of="$(namespace 1)" bs=1M count=8 oflag=direct 2>/dev/null
start_load "$(namespace 1)" --blocks 2048 --block-bytes 4096
for _ in 1 2; do
    more_load 300
    kill_node
    start_node
    more_load 300
done
stop_load
drop_caches
verify_load "$(namespace 1)"
mount -t ext4 "$unit" /mnt
check_fill /mnt/files
umount /mnt
check_file_system ext4 "$unit"
disconnect
logout
stop_node
# Whoever is next finds it free, and everything on it.
to_kernel "$plain"
verify_load "$(kernel_disk "$plain" 2)"
