# Pulled out under a running node, a controller is let go, so the kernel can empty the slot; put in again, both protocols go on.
. /vm/lib.sh
. /vm/nvmf.sh
. /vm/nvme.sh

gone() { [ ! -e "$sys_pci/$loose" ]; }
here() { [ -e "$sys_pci/$loose" ]; }
volume_is() { vega volume show hot | grep -Eq "^State: +$1"; }
pull_out() { machine '{"execute": "device_del", "arguments": {"id": "loose"}}'; }
put_in() {
    machine '{"execute": "device_add", "arguments": {"driver": "nvme", "id": "loose", "serial": "'"$1"'", "bus": "way-in", "drive": "loose"}}'
    wait_until "something is in the slot" here
}
empty() {
    wait_until "the slot is empty" gone
    node_lives || die "the node ended with its device"
}

huge_pages 96
to_vfio "$loose"
configure_nvmf <<TOML
[[device]]
name = "loose"
pci_address = "$loose"
confirm_serial = "loose"
[[volume]]
name = "hot"
size = "24MiB"
backing = { nvme = { device = "loose", namespace = 1 } }
[[target]]
name = "$iqn"
luns = { 0 = "hot" }
[[subsystem]]
nqn = "$nqn"
namespaces = { 1 = "hot" }
TOML
start_node
start_initiator
login
unit=$(disk 0)
modprobe -r nvme || true
load_host
connect "$listener"
device=$(namespace 1)
dd if=/dev/zero of="$device" bs=1M count=8 oflag=direct 2>/dev/null
start_load "$device" --blocks 2048
for round in 1 2; do
    more_load 200
    pull_out
    empty
    wait_until "the volume is shown as failed" volume_is failed
    expect "the volume" "$(vega volume show hot)" "device loose: .*removed"
    expect "the device" "$(vega disk show loose)" "removed"
    refused "a device that is not there is not read" dd if="$unit" of=/dev/null bs=4096 count=1 skip=512 iflag=direct
    # The first time no driver is there for it when it comes back; then the kernel's own is faster than the node.
    [ "$round" = 1 ] || modprobe nvme
    put_in loose
    wait_until "the volume is served again" volume_is online
    same "who has the controller" "$(driver_of "$loose")" vfio-pci
    more_load 200
    dd if="$unit" of=/dev/null bs=4096 count=64 iflag=direct 2>/tmp/dd || dd if="$unit" of=/dev/null bs=4096 count=64 iflag=direct
    say "round $round: $(acknowledged) writes"
done
stop_load
drop_caches
verify_load "$device"
verify_load "$unit"

# Another controller in its place stays with the kernel, and its place with the volume's answers.
pull_out
empty
put_in other
wait_until "the stranger is told of" grep -q "serial number other" /data/node.log
same "who has the other controller" "$(driver_of "$loose")" nvme
volume_is failed || die "a volume is served from another device: $(vega volume show hot)"
pull_out
empty
put_in loose
wait_until "the volume is served again" volume_is online
verify_load "$device"
nvme disconnect -n "$nqn" >/dev/null
logout
stop_node
# The kernel had it last, and gets it back.
same "the driver after the node" "$(driver_of "$loose")" nvme
verify_load "$(kernel_disk "$loose" 1)"
take "$loose"
