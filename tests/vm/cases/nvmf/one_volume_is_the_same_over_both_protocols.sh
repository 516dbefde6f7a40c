# A unit of a target and a namespace of a subsystem are one volume: what one writes the other reads.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
start_initiator
login
connect "$listener"
unit=$(disk 0)
namespace=$(namespace 1)
same "the size" "$(blockdev --getsize64 "$unit")" "$(blockdev --getsize64 "$namespace")"
for way in "$unit $namespace" "$namespace $unit"; do
    head -c 1048576 /dev/urandom >/tmp/content
    dd if=/tmp/content of="${way% *}" bs=1M oflag=direct 2>/dev/null
    dd if="${way#* }" bs=1M count=1 iflag=direct 2>/dev/null | cmp - /tmp/content
done
disconnect
logout
stop_node
