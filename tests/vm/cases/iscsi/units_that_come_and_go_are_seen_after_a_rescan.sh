# Several units are several disks; one that is mapped later appears, and one that is unmapped is gone for I/O.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "one"
size = "16MiB"
[[volume]]
name = "two"
size = "24MiB"
backing = "memory"
[[volume]]
name = "three"
size = "32MiB"
block_size = 4096
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "one", 1 = "two" }
TOML
start_node
start_initiator
login
one=$(disk 0)
two=$(disk 1)
same "the first size" "$(blockdev --getsize64 "$one")" $((16 << 20))
same "the second size" "$(blockdev --getsize64 "$two")" $((24 << 20))
vega target lun add "$iqn" 7 three >/dev/null
iscsiadm -m session --rescan >/dev/null
three=$(disk 7)
same "the third size" "$(blockdev --getsize64 "$three")" $((32 << 20))
for device in "$one" "$two" "$three"; do
    echo "$device" | dd of="$device" conv=sync,fsync bs=4096 count=1 2>/dev/null
done
drop_caches
for device in "$one" "$two" "$three"; do
    same "the mark" "$(head -c 4096 "$device" | tr -d '\0')" "$device"
done
vega target lun remove "$iqn" 1 >/dev/null
drop_caches
refused "no I/O to a unit that is gone" dd if="$two" of=/dev/null bs=4096 count=1 iflag=direct
same "the mark of its neighbour" "$(head -c 4096 "$one" | tr -d '\0')" "$one"
logout
stop_node
