# The words of cases about NVMe controllers that are driven from user space; they come after those of lib.sh.

plain=0000:00:04.0
small=0000:00:05.0
faulty=0000:00:06.0
slow=0000:00:07.0
# In the slot below 00:08.0.
loose=0000:01:00.0

sys_pci=/sys/bus/pci/devices

driver_of() { # ADDRESS: or nothing
    [ ! -e "$sys_pci/$1/driver" ] || basename "$(readlink "$sys_pci/$1/driver")"
}

# give ADDRESS DRIVER: as any program does it that moves a function between drivers.
give() {
    modprobe "$2"
    [ -z "$(driver_of "$1")" ] || echo "$1" >"$sys_pci/$1/driver/unbind"
    echo "$2" >"$sys_pci/$1/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    same "the driver of $1" "$(driver_of "$1")" "$2"
}

to_vfio() {
    modprobe vfio_iommu_type1
    give "$1" vfio-pci
}
to_kernel() { give "$1" nvme; }

# The way to user space, for programs that bind controllers themselves.
load_vfio() {
    modprobe vfio-pci
    modprobe vfio_iommu_type1
}
has_driver() { [ "$(driver_of "$1")" = "$2" ]; }

# Huge pages for buffers; taken early, while there are whole ones.
huge_pages() {
    echo "$1" >/proc/sys/vm/nr_hugepages
    same "huge pages" "$(cat /proc/sys/vm/nr_hugepages)" "$1"
}

# take ADDRESS: from whatever driver has it.
take() {
    [ -z "$(driver_of "$1")" ] || echo "$1" >"$sys_pci/$1/driver/unbind"
    echo >"$sys_pci/$1/driver_override"
}

vm_nvme() { /vm/vm_nvme "$@"; }

# Every case finds all functions without a driver, as the first one did.
modprobe -r nvme 2>/dev/null || true
for _function in "$plain" "$small" "$faulty" "$slow" "$loose"; do
    [ ! -e "$sys_pci/$_function" ] || take "$_function"
done

# kernel_disk ADDRESS NAMESPACE: the disk that the kernel's driver made of it, once it is there.
find_kernel_disk() {
    _path=$(ls -d "$sys_pci/$1"/nvme/nvme*/nvme*n"$2" 2>/dev/null | head -n 1)
    [ -n "$_path" ] && [ -b "/dev/$(basename "$_path")" ] && basename "$_path" >/tmp/disk
}
kernel_disk() {
    wait_until "namespace $2 of $1 is a disk" find_kernel_disk "$1" "$2"
    echo "/dev/$(cat /tmp/disk)"
}

# blank ADDRESS NAMESPACE: nothing is left of earlier cases; the kernel has the controller.
blank() {
    _disk=$(kernel_disk "$1" "$2")
    dd if=/dev/zero of="$_disk" bs=1M count=32 conv=fsync 2>/tmp/dd || die "$(cat /tmp/dd)"
}

# --- loads of `vega bench` --------------------------------------------------------------------------------------------------------

# bench TARGET OPTIONS...: a good one; what it told is looked at with `told`.
bench() {
    /vm/vega bench "$@" --output json >/tmp/bench 2>/tmp/bench.err || die "vega bench $*: $(cat /tmp/bench.err /tmp/bench)"
}
told() { expect "what the load told" "$(cat /tmp/bench)" "$1"; }

# --- load through the user-space driver -------------------------------------------------------------------------------------------

journal=/tmp/journal

# start_nvme_load ADDRESS NAMESPACE [resets | until-gone]
start_nvme_load() {
    rm -f /tmp/stop-load
    # Not through a function, whose number would be that of another shell.
    /vm/vm_nvme load "$1" "$2" "$journal" /tmp/stop-load ${3:+"$3"} >/tmp/load.log 2>&1 &
    echo $! >/tmp/load.pid
}

flushed() { vm_nvme flushed "$journal" 2>/dev/null || echo 0; }
load_lives() { kill -0 "$(cat /tmp/load.pid)" 2>/dev/null; }
has_flushed() { [ "$(flushed)" -ge "$1" ] || ! load_lives; }

# flushed_more N: the load goes on until so many more writes were flushed; the first ones count once every cell was written.
flushed_more() {
    _goal=$(($(flushed) + $1))
    wait_until "$1 more writes are flushed" has_flushed "$_goal"
    load_lives || die "the load ended: $(cat /tmp/load.log)"
}

# end_nvme_load: waits for the end, which must be a good one.
end_nvme_load() {
    _code=0
    wait "$(cat /tmp/load.pid)" || _code=$?
    cat /tmp/load.log
    [ "$_code" = 0 ] || die "the load failed"
}
stop_nvme_load() {
    touch /tmp/stop-load
    end_nvme_load
}

kill_nvme_load() {
    kill -KILL "$(cat /tmp/load.pid)"
    wait "$(cat /tmp/load.pid)" 2>/dev/null || true
}

# start_disk_load DISK: the same load on a disk of the kernel.
start_disk_load() {
    rm -f /tmp/stop-load
    /vm/vm_nvme load-disk "$1" "$journal" /tmp/stop-load >/tmp/load.log 2>&1 &
    echo $! >/tmp/load.pid
}

# --- a node whose volumes are on a controller -------------------------------------------------------------------------------------

# Both namespaces of the plain controller, one as a unit of a target and one as a namespace of a subsystem.
configure_device() {
    to_vfio "$plain"
    configure_nvmf <<TOML
[[device]]
name = "controller"
pci_address = "$plain"
confirm_serial = "plain"
[[volume]]
name = "unit"
size = "24MiB"
backing = { nvme = { device = "controller", namespace = 1 } }
[[volume]]
name = "namespace"
size = "24MiB"
block_size = 4096
backing = { nvme = { device = "controller", namespace = 2 } }
[[target]]
name = "$iqn"
luns = { 0 = "unit" }
[[subsystem]]
nqn = "$nqn"
namespaces = { 1 = "namespace" }
TOML
}

# --- the machine, from outside ----------------------------------------------------------------------------------------------------

machine() { echo "@@vm machine $1"; }

# Ends this guest at once; the case begins again in one with the same disks, and with VM_CUTS one higher.
cut_power() {
    echo "@@vm cut"
    while :; do sleep 1; done
}
