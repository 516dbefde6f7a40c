# A load over a controller from user space keeps every block, and afterwards the controller is where it was.
. /vm/lib.sh
. /vm/nvme.sh

huge_pages 64
load_vfio
to_kernel "$plain"
to_kernel "$small"
blank "$plain" 1
blank "$plain" 2
blank "$small" 1

# Every block is written once and then read and written anew; the second run finds the blocks of the first.
for namespace in 1 2; do
    target="trtype=pcie traddr=$plain ns=$namespace"
    bench $target --pattern write --block-size 64KiB --depth 4 --bytes 32MiB --verify
    told '"completed": 512,?$'
    same "the driver after a load" "$(driver_of "$plain")" nvme
    bench $target --pattern randrw --depth 16 --queues 2 --bytes 8MiB --verify
    told '"completed": 2048,?$'
    told '"unknown_blocks": 0,?$'
    told '"wrong_blocks": 0,?$'
    told '"serial": "plain",?$'
    told '"doorbells_per_command": 0?[.0-9]+'
done

# Each of two processors has a queue pair and half of the places.
bench $target --pattern randrw --depth 8 --core 0,1 --bytes 4MiB --verify
told '"cores": 2,?$'
told '"completed": 1024,?$'
told '"wrong_blocks": 0,?$'

# A controller that takes 8 KiB in one command gets eight for 64 KiB.
bench "nvme-pcie://$small" --pattern write --block-size 64KiB --depth 4 --bytes 8MiB --verify
bench "nvme-pcie://$small" --pattern read --block-size 64KiB --depth 4 --bytes 8MiB --verify
told '"commands_per_request": 8'
told '"wrong_blocks": 0,?$'

# One that was given to user space by hand stays there.
to_vfio "$plain"
bench $target --pattern randread --bytes 1MiB --verify
told '"wrong_blocks": 0,?$'
same "the driver of one that was bound by hand" "$(driver_of "$plain")" vfio-pci

# Whoever ends it early gets what was measured, and the kernel the controller.
to_kernel "$plain"
for signal in TERM INT; do
    /vm/vega bench $target --pattern randrw --depth 8 --runtime 1h --verify >/tmp/bench 2>&1 &
    load=$!
    wait_until "the load has the controller" has_driver "$plain" vfio-pci
    kill -"$signal" "$load"
    code=0
    wait "$load" || code=$?
    same "the exit code of a load that was ended early" "$code" 1
    told '[Ii]nterrupted'
    same "the driver after SIG$signal" "$(driver_of "$plain")" nvme
done
