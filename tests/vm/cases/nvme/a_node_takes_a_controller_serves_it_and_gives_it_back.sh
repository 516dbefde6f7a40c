# A node refuses a controller in use, takes one by its address, holds what was written through kill -9, and gives it back.
. /vm/lib.sh
. /vm/nvme.sh
. /vm/nvmf.sh

modprobe vfio-pci
modprobe vfio_iommu_type1
to_kernel "$small"
disk=$(kernel_disk "$small" 1)
vega_disk() { /vm/vega disk "$@"; }

mkfs.ext4 -q -F "$disk"
mkdir -p /mnt/used
mount "$disk" /mnt/used
refused "a mounted disk is not taken" vega_disk bind "$small"
expect "the refusal" "$(cat /tmp/refused)" "is mounted at /mnt/used"
umount /mnt/used
refused "a file system is not taken" vega_disk bind "$small"
expect "the refusal" "$(cat /tmp/refused)" "holds an ext2, ext3 or ext4 filesystem .*--confirm-serial small"
refused "another serial number is no confirmation" vega_disk bind "$small" --confirm-serial smal
same "the driver after refusals" "$(driver_of "$small")" nvme
vega_disk bind "$small" --confirm-serial small
same "the driver" "$(driver_of "$small")" vfio-pci
vega_disk unbind "$small"
same "the driver" "$(driver_of "$small")" nvme
expect "the list" "$(vega_disk list)" "^$small +nvme "

# The other one is made blank; the kernel has it until the node comes.
to_kernel "$plain"
for namespace in 1 2; do
    dd if=/dev/zero of="$(kernel_disk "$plain" "$namespace")" bs=1M count=32 conv=fsync 2>/tmp/dd || die "$(cat /tmp/dd)"
done
configure_nvmf <<TOML
[[device]]
name = "fast"
pci_address = "$plain"
[[volume]]
name = "hot"
size = "24MiB"
backing = { nvme = { device = "fast", namespace = 1 } }
[[subsystem]]
nqn = "$nqn"
namespaces = { 1 = "hot" }
TOML
start_node
same "the driver while the node runs" "$(driver_of "$plain")" vfio-pci
expect "the list" "$(vega disk list)" "^$plain +vfio-pci +fast +plain .*this node as fast \(ready\)"
expect "identify" "$(vega disk show fast --only id-ctrl)" "^sn +: plain$"
expect "health" "$(vega disk show fast --only smart-log --output json)" '"percent_used": 0'
refused "a controller is not taken from a node" vega disk unbind "$plain"
expect "the refusal" "$(cat /tmp/refused)" "is driven by vega"

to_vfio "$small"
# Its exit code speaks of modules below, which others use.
modprobe -r nvme || true
load_host
connect "$listener"
device=$(namespace 1)
start_load "$device" --depth 8 --blocks 4096
for round in 1 2; do
    more_load 100
    kill_node
    before=$(acknowledged)
    same "the driver after kill -9" "$(driver_of "$plain")" vfio-pci
    start_node
    more_load 50
    say "round $round: killed after $before writes, $(acknowledged) now"
done
stop_load
verify_load "$device"
disconnect
stop_node
start_node
connect "$listener"
verify_load "$(namespace 1)"
disconnect
stop_node

# After kill -9 it was with vfio-pci when the node came; then it stays there, because it was given to user space by hand.
same "the driver at the end" "$(driver_of "$plain")" vfio-pci
modprobe nvme
vega_disk unbind "$plain"
same "the driver" "$(driver_of "$plain")" nvme

# Taken from the kernel, it goes back to the kernel when the node ends well.
start_node
same "the driver while the node runs" "$(driver_of "$plain")" vfio-pci
expect "the volume is found by its label" "$(vega volume show hot)" "opened .* of the namespace"
stop_node
same "the driver after the node" "$(driver_of "$plain")" nvme
expect "the log" "$(cat /data/node.log)" "$plain was given back to the kernel"
