# Identify, logs and features as nvme-cli reads them, and refusals where there is nothing.
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "64MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
load_host
connect "$listener"
device=$(namespace 1)
controller=/dev/$(controller "$listener")
head -c 65536 /dev/urandom >"$device"
sync

identity=$(nvme id-ctrl "$controller")
say "$identity"
expect "the model" "$identity" '^mn *: Vega volume'
expect "the name" "$identity" "^subnqn *: $nqn"
expect "a keep alive" "$identity" '^kas *: [1-9]'
expect "SGLs" "$identity" '^sgls *: 0x[0-9a-f]*[1-9a-f]'
expect "ANA" "$identity" '^anagrpmax *: [1-9]'
space=$(nvme id-ns "$device")
expect "the size" "$space" '^nsze *: 0x20000'
expect "deallocated blocks are zeros" "$space" '^dlfeat *: (1|9|17|25)$'
expect "an identity that lasts" "$space" '^nguid *: [0-9a-f]*[1-9a-f]'
expect "the same as UUID" "$(nvme ns-descs "$device")" '^uuid *: [0-9a-f-]{36}'
expect "the list of namespaces" "$(nvme list-ns "$controller")" '0x1'
smart=$(nvme smart-log "$controller")
say "$smart"
expect "no warning" "$smart" '^critical_warning[[:space:]]*: 0'
expect "what was written" "$smart" '^(host_write_commands|Host Write Commands)[[:space:]]*: [1-9]'
nvme error-log "$controller" >/tmp/out || die "error-log: $(cat /tmp/out)"
nvme fw-log "$controller" >/tmp/out || die "fw-log: $(cat /tmp/out)"
nvme effects-log "$controller" >/tmp/out || die "effects-log: $(cat /tmp/out)"
nvme ana-log "$controller" >/tmp/out || die "ana-log: $(cat /tmp/out)"
nvme changed-ns-list-log "$controller" >/tmp/out || die "changed-ns-list-log: $(cat /tmp/out)"
feature() { nvme get-feature "$controller" -f "$1" 2>&1 || die "feature $1"; }
expect "one I/O queue or more" "$(feature 0x07)" 'Number of Queues.*value: *(0x)?0*[0-9a-f]+'
expect "the keep alive that the host asked for, 30 s" "$(feature 0x0f)" '(7530|30000)'
expect "the events that Linux enables" "$(feature 0x0b)" 'value: *(0x)?0*[1-9a-f]'
refused "a log page that is not there" nvme get-log "$controller" --log-id=0xd0 --log-len=512
refused "a feature that is not there" nvme get-feature "$controller" -f 0xd0
errors=$(nvme error-log "$controller" --log-entries=2)
say "$errors"
expect "both refusals are written down" "$errors" '^error_count[[:space:]]*: *2'
expect "with their status" "$errors" '^status_field[[:space:]]*: *(0x)?[0-9a-f]*[1-9a-f]'
for property in 0x0 0x8 0x14 0x1c; do
    nvme get-property "$controller" --offset="$property" >/tmp/out 2>&1 || die "property $property: $(cat /tmp/out)"
done
expect "it is ready" "$(nvme get-property "$controller" --offset=0x1c --human-readable)" 'Ready .*Yes'
disconnect
stop_node
