# An allow list admits the names on it and nobody else, at discovery and at login, and a change of it counts at once.
. /vm/lib.sh

configure <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
TOML
start_node
start_initiator
vega target allow add "$iqn" iqn.2026-11.io.vega:somebody-else >/dev/null
refused "a stranger is not let in" login
vega target allow add "$iqn" "$initiator" >/dev/null
login
disk 0
logout
vega target allow remove "$iqn" "$initiator" >/dev/null
refused "it is a stranger again" login
stop_node
