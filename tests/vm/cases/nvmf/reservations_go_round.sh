# Register, acquire, refuse another host, preempt, release; and a reservation that survives a crash (PTPL).
. /vm/lib.sh
. /vm/nvmf.sh

configure_nvmf <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[subsystem]]
nqn = "nqn.2026-11.io.vega:vm"
namespaces = { 1 = "disk" }
TOML
start_node
# Without multipath each host's controller has a device of its own.
load_host multipath=N
connect "$listener"
first=/dev/$(controller "$listener")n1
connect "$second_listener" --hostnqn="$other_hostnqn" --hostid=11111111-2222-4333-8444-555555555555
second=/dev/$(controller "$second_listener")n1
wait_until "both namespaces" test -b "$first" -a -b "$second"
pr() { nvme "$@" >/tmp/pr 2>&1; }

pr resv-register "$first" -n 1 --nrkey=0x11 --rrega=0 --cptpl=3 || die "register: $(cat /tmp/pr)"
pr resv-register "$second" -n 1 --nrkey=0x22 --rrega=0 || die "the second registers: $(cat /tmp/pr)"
pr resv-acquire "$first" -n 1 --crkey=0x11 --rtype=1 --racqa=0 || die "acquire: $(cat /tmp/pr)"
report=$(nvme resv-report "$second" -n 1 --eds)
say "$report"
expect "two registrants" "$report" 'regctl *: *2'
expect "write exclusive" "$report" 'rtype *: *1'
refused "the other host may not write" dd if=/dev/zero of="$second" bs=4096 count=1 oflag=direct
dd if=/dev/zero of="$first" bs=4096 count=1 oflag=direct 2>/dev/null
refused "one reservation at a time" pr resv-acquire "$second" -n 1 --crkey=0x22 --rtype=1 --racqa=0
kill_node
start_node
is_back() { nvme resv-report "$second" -n 1 --eds | grep -Eq 'rtype *: *1'; }
wait_until "the reservation is there after the restart" is_back
pr resv-acquire "$second" -n 1 --crkey=0x22 --prkey=0x11 --rtype=1 --racqa=1 || die "preempt: $(cat /tmp/pr)"
refused "the one that was preempted may not write" dd if=/dev/zero of="$first" bs=4096 count=1 oflag=direct
dd if=/dev/zero of="$second" bs=4096 count=1 oflag=direct 2>/dev/null
pr resv-release "$second" -n 1 --crkey=0x22 --rtype=1 --rrela=0 || die "release: $(cat /tmp/pr)"
dd if=/dev/zero of="$first" bs=4096 count=1 oflag=direct 2>/dev/null
pr resv-register "$second" -n 1 --crkey=0x22 --rrega=1 || die "unregister: $(cat /tmp/pr)"
expect "nothing is left" "$(nvme resv-report "$first" -n 1 --eds)" 'regctl *: *0'
disconnect
load_host
stop_node
