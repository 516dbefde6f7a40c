# The words of cases about NVMe/TCP; they come after those of lib.sh.

nqn=nqn.2026-11.io.vega:vm
listener=127.0.0.1
# A second way to the same node: all of 127/8 is the guest.
second_listener=127.0.0.2
hostnqn=$(cat /etc/nvme/hostnqn)
other_hostnqn=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555

# Writes the configuration with two listeners, which have tags of their own, so that their ANA states can differ.
configure_nvmf() {
    _more=$(cat)
    configure <<TOML
[[nvmf.listener]]
listen = "$listener:4420"
tag = 1
[[nvmf.listener]]
listen = "$second_listener:4420"
tag = 2
$_more
TOML
}

# load_host [PARAMETER=VALUE...]: the kernel's host, from its beginning.
load_host() {
    nvme disconnect-all 2>/dev/null || true
    wait_until "no controller is left" no_controller
    [ ! -d /sys/module/nvme_core ] || wait_until "the modules of the host are gone" unload_host
    modprobe nvme_core "$@"
    modprobe nvme_tcp
}
# Its own exit code speaks of modules below, which others use.
unload_host() {
    modprobe -r nvme_tcp
    [ ! -d /sys/module/nvme_core ]
}

# connect ADDRESS [OPTIONS]: gives up neither soon nor for ever, and tries again at once.
connect() {
    _address=$1
    shift
    nvme connect -t tcp -a "$_address" -s 4420 -n "$nqn" --reconnect-delay=1 --ctrl-loss-tmo=200 --keep-alive-tmo=30 "$@" >/tmp/connect 2>&1 || {
        cat /tmp/connect
        dmesg | tail -n 5
        return 1
    }
}

disconnect() {
    nvme disconnect -n "${1:-$nqn}" >/tmp/disconnect 2>&1 || die "disconnect: $(cat /tmp/disconnect)"
    wait_until "no controller is left" no_controller
}

no_controller() { ! ls -d /sys/class/nvme/nvme* >/dev/null 2>&1; }

# namespace NSID: its device, once it is there.
find_namespace() {
    for _path in /sys/block/nvme*n*; do
        case "$_path" in *nvme*c*n*) continue ;; esac
        [ "$(cat "$_path/nsid" 2>/dev/null)" = "$1" ] && [ -b "/dev/$(basename "$_path")" ] &&
            [ "$(cat "$_path/size")" -gt 0 ] && basename "$_path" >/tmp/namespace && return 0
    done
    return 1
}
namespace() {
    wait_until "namespace $1 is a disk" find_namespace "$1"
    echo "/dev/$(cat /tmp/namespace)"
}
no_namespace() { ! find_namespace "$1"; }

# controller ADDRESS: the one that is connected there, as nvme0.
controller() {
    for _path in /sys/class/nvme/nvme*; do
        grep -q "traddr=$1," "$_path/address" 2>/dev/null && basename "$_path" && return 0
    done
    return 1
}
is_live() { [ "$(cat "/sys/class/nvme/$1/state")" = live ]; }

# ana_state ADDRESS: of the path to the first namespace through there.
ana_state() { cat /sys/class/nvme/"$(controller "$1")"/nvme*c*n*/ana_state; }
has_ana_state() { [ "$(ana_state "$1")" = "$2" ]; }
