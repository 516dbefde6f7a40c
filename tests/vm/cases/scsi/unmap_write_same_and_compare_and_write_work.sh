# The commands that a file system does not send: their effect, block by block.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
uuid = "6f1c6d4e-9f0a-4c3a-8f6b-2f6f3f2b7f11"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
login
device=$(disk 0)
block() { dd if="$device" bs=512 skip="$1" count=1 iflag=direct 2>/dev/null | sha256sum | cut -c 1-16; }
zeros=$(head -c 512 /dev/zero | sha256sum | cut -c 1-16)
head -c 65536 /dev/urandom >/tmp/content
dd if=/tmp/content of="$device" bs=4096 oflag=direct 2>/dev/null
before=$(block 7)
[ "$before" != "$zeros" ] || die "nothing was written"
sg_unmap --lba=8 --num=16 --force "$device"
same "an unmapped block" "$(block 8)" "$zeros"
same "its neighbour" "$(block 7)" "$before"
expect "it is deallocated" "$(sg_get_lba_status --lba=8 "$device")" '(deallocated|unmapped)'
expect "its neighbour is mapped" "$(sg_get_lba_status --lba=0 "$device")" 'mapped'
yes pattern | head -c 512 >/tmp/pattern
sg_write_same --16 --lba=32 --num=8 --in=/tmp/pattern --xferlen=512 "$device"
same "the first repeated block" "$(block 32)" "$(sha256sum </tmp/pattern | cut -c 1-16)"
same "the last repeated block" "$(block 39)" "$(block 32)"
sg_write_same --16 --unmap --lba=32 --num=8 --in=/dev/zero --xferlen=512 "$device"
same "a block that was unmapped by WRITE SAME" "$(block 33)" "$zeros"
head -c 512 /tmp/content >/tmp/compare
cat /tmp/compare /tmp/pattern >/tmp/both
sg_compare_and_write --in=/tmp/both --lba=0 --num=1 --xferlen=1024 "$device"
same "it was equal, so it was written" "$(block 0)" "$(sha256sum </tmp/pattern | cut -c 1-16)"
refused "it is not equal any more" sg_compare_and_write --in=/tmp/both --lba=0 --num=1 --xferlen=1024 "$device"
logout
stop_node
