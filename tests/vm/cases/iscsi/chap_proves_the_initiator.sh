# One-way CHAP: no name, a wrong secret and a right secret; only the last logs in.
. /vm/lib.sh

echo 'correct-horse-1' >/tmp/secret
chmod 600 /tmp/secret
configure <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
auth_method = "chap"
[[target.user]]
name = "guest"
secret_file = "/tmp/secret"
TOML
start_node
start_initiator
refused "no login without CHAP" login
node_set node.session.auth.authmethod CHAP
node_set node.session.auth.username guest
node_set node.session.auth.password wrong-horse-12
refused "no login with a wrong secret" login
node_set node.session.auth.password correct-horse-1
login
start_load "$(disk 0)" --blocks 1024
more_load 100
stop_load
verify_load "$(disk 0)"
logout
stop_node
refused "no secret in the log" grep -a horse /data/node.log
