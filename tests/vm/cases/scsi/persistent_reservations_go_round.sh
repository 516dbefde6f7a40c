# Register, reserve, refuse another, preempt, release and clear, by two initiators, and a reservation that survives a restart.
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
# A second session of another initiator.
iscsiadm -m iface -I other -o new >/dev/null
iscsiadm -m iface -I other -o update -n iface.initiatorname -v iqn.2026-11.io.vega:second >/dev/null
iscsiadm -m iface -I other -o update -n iface.transport_name -v tcp >/dev/null
iscsiadm -m node -T "$iqn" -p "$portal" -I other -o new >/dev/null
iscsiadm -m node -T "$iqn" -p "$portal" -I other --login >/tmp/login 2>&1 || die "the second login: $(cat /tmp/login)"
second_disk() {
    for path in /sys/class/iscsi_session/session*/device/target*/*/block/*; do
        [ "/dev/$(basename "$path")" != "$device" ] && [ -b "/dev/$(basename "$path")" ] && basename "$path" >/tmp/disk && return 0
    done
    return 1
}
wait_until "the second disk" second_disk
second=/dev/$(cat /tmp/disk)
pr() { sg_persist --out "$@" >/tmp/pr 2>&1; }

pr --register --param-sark=0x11 "$device" || die "register: $(cat /tmp/pr)"
pr --register --param-sark=0x22 "$second" || die "the second registers: $(cat /tmp/pr)"
keys=$(sg_persist --in --read-keys "$device")
expect "the first key" "$keys" '0x11'
expect "the second key" "$keys" '0x22'
pr --reserve --param-rk=0x11 --prout-type=5 "$device" || die "reserve: $(cat /tmp/pr)"
held=$(sg_persist --in --read-reservation "$second")
expect "who holds it" "$held" 'Key=0x11'
expect "how" "$held" 'Write Exclusive, registrants only'
expect "everything at once" "$(sg_persist --in --read-full-status "$second")" 'iqn.2026-11.io.vega:second'
refused "one reservation at a time" pr --reserve --param-rk=0x22 --prout-type=3 "$second"
pr --preempt --param-rk=0x22 --param-sark=0x11 --prout-type=3 "$second" || die "preempt: $(cat /tmp/pr)"
refused "the one that was preempted hears of it first" sg_turs --verbose "$device"
expect "what it hears" "$(cat /tmp/refused)" 'Registrations preempted|Reservations preempted'
expect "the new holder" "$(sg_persist --in --read-reservation "$device")" 'Key=0x22'
refused "the one that was preempted may not write" dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct
dd if=/dev/zero of="$second" bs=4096 count=1 oflag=direct 2>/dev/null

# APTPL: what is registered with it is there after a crash.
pr --register --param-rk=0x22 --param-sark=0x22 --param-aptpl "$second" || die "register with APTPL: $(cat /tmp/pr)"
kill_node
start_node
is_back() { sg_turs "$second" && sg_persist --in --read-reservation "$second" | grep -q 'Key=0x22'; }
wait_until "the reservation is there after the restart" is_back
pr --release --param-rk=0x22 --prout-type=3 "$second" || die "release: $(cat /tmp/pr)"
pr --clear --param-rk=0x22 "$second" || die "clear: $(cat /tmp/pr)"
expect "nothing is left" "$(sg_persist --in --read-keys "$second")" 'NO registered reservation keys|there are NO'
iscsiadm -m node -I other --logout >/dev/null 2>&1 || die "the second logout"
iscsiadm -m node -I other -o delete >/dev/null
iscsiadm -m iface -I other -o delete >/dev/null
logout
stop_node
