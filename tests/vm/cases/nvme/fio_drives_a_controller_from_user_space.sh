# fio verifies what it wrote over a controller that its engine drives from user space, and refuses what is in use.
. /vm/lib.sh
. /vm/nvme.sh

[ -e /vm/libvega_fio.so ] || die "no engine was built for fio: perf/fio-engine/build.sh"
huge_pages 64
load_vfio
to_kernel "$plain"
blank "$plain" 1
blank "$plain" 2
# fio takes a colon for the end of a file name.
place="trtype=PCIe traddr=$(echo "$plain" | tr : .)"
engine_fio() {
    # Commands that overlap have no order among them.
    fio --ioengine=external:/vm/libvega_fio.so --serialize_overlap=1 --randseed=7 --size=8m --bs=4k --verify=crc32c --verify_fatal=1 --do_verify=1 "$@" \
        >/tmp/fio.log 2>&1
}
good_fio() {
    engine_fio "$@" || die "fio: $(tail -n 40 /tmp/fio.log)"
    expect "what fio says" "$(cat /tmp/fio.log)" 'err= 0'
}

for namespace in 1 2; do
    good_fio --name=a --thread --filename="$place ns=$namespace" --rw=randwrite --bsrange=4k-32k --iodepth=16
    same "the driver after fio" "$(driver_of "$plain")" nvme
done
# Two jobs share the controller, each with a queue pair and a namespace of its own.
good_fio --thread --rw=randrw --iodepth=8 --name=a --filename="$place ns=1" --name=b --filename="$place ns=2" --bs=16k
same "the driver after two jobs" "$(driver_of "$plain")" nvme
# The kernel finds what fio has written from user space.
good_fio --name=a --thread --filename="$place ns=1" --rw=write --verify_pattern=0xdeadbeef --verify=pattern
kernel=$(kernel_disk "$plain" 1)
same "the first bytes" "$(dd if="$kernel" bs=4 count=1 2>/dev/null | hexdump -v -e '4/1 "%02x"')" deadbeef

refused "processes cannot share a controller" engine_fio --name=a --filename="$place ns=1" --rw=randread
expect "processes" "$(cat /tmp/fio.log)" 'add --thread'
mkfs.ext4 -q -F "$kernel"
refused "a file system is not taken" engine_fio --name=a --thread --filename="$place ns=1" --rw=randwrite
expect "labelled" "$(cat /tmp/fio.log)" "holds an ext2, ext3 or ext4 filesystem"
same "the driver after refusals" "$(driver_of "$plain")" nvme
to_vfio "$plain"
refused "a file system is not written to" engine_fio --name=a --thread --filename="$place ns=1" --rw=randwrite
expect "labelled" "$(cat /tmp/fio.log)" "namespace 1 holds an ext2, ext3 or ext4 filesystem"
good_fio --name=a --thread --filename="$place ns=1 confirm_serial=plain" --rw=randwrite
same "the driver of one that was bound by hand" "$(driver_of "$plain")" vfio-pci
