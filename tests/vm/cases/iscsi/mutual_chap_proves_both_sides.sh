# Mutual CHAP: the initiator refuses a target that does not know its secret, and logs in to the one that does.
. /vm/lib.sh

echo 'correct-horse-1' >/tmp/initiator-secret
echo 'battery-staple-2' >/tmp/target-secret
chmod 600 /tmp/*-secret
configure <<'TOML'
[[volume]]
name = "disk"
size = "16MiB"
[[target]]
name = "iqn.2026-11.io.vega:vm"
luns = { 0 = "disk" }
auth_method = "mutual"
[[target.user]]
name = "guest"
secret_file = "/tmp/initiator-secret"
[[target.user]]
name = "node"
role = "target"
secret_file = "/tmp/target-secret"
TOML
start_node
start_initiator
node_set node.session.auth.authmethod CHAP
node_set node.session.auth.username guest
node_set node.session.auth.password correct-horse-1
node_set node.session.auth.username_in node
node_set node.session.auth.password_in battery-stapler
refused "no login to a target with another secret" login
node_set node.session.auth.password_in battery-staple-2
login
head -c 1000000 /dev/urandom >/tmp/content
dd if=/tmp/content of="$(disk 0)" conv=fsync 2>/dev/null
drop_caches
dd if="$(disk 0)" bs=1000000 count=1 of=/tmp/back 2>/dev/null
cmp /tmp/content /tmp/back
logout
stop_node
