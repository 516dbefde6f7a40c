# SendTargets names each target once, with the portal that it was asked through.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "one"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "one" }
[[target]]
name = "iqn.2026-11.io.vega:other"
TOML
start_node
start_initiator
same "what is discovered" "$(sort /tmp/discovered)" "$(printf '%s,1 %s\n' "$portal" iqn.2026-11.io.vega:other "$portal" "$iqn")"
vega target delete iqn.2026-11.io.vega:other >/dev/null
iscsiadm -m discovery -t sendtargets -p "$portal" >/tmp/discovered
same "what is left" "$(cat /tmp/discovered)" "$portal,1 $iqn"
stop_node
