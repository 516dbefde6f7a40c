# Registers, memory, interrupts and a reset work without a driver, and the kernel's driver has the function back afterwards.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 32
for address in "$plain" "$small"; do
    to_vfio "$address"
    vm_nvme registers "$address" | tee /tmp/registers
    expect "registers" "$(cat /tmp/registers)" '^CAP [0-9a-f]{16} VS 00010[0-9a-f]00$'
    expect "memory" "$(cat /tmp/registers)" '^16 MiB of buffers in 2 MiB huge pages$'
    # Again at once: nothing of the process before it is left.
    vm_nvme registers "$address" >/dev/null
done
to_kernel "$plain"
same "blocks of namespace 1" "$(blockdev --getss "$(kernel_disk "$plain" 1)")" 512
same "blocks of namespace 2" "$(blockdev --getss "$(kernel_disk "$plain" 2)")" 4096
