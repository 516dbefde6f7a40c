# The words that cases are written in. A case is `set -eu` from here on: a command that fails ends it.
set -eu

data=/data/node
api=127.0.0.1:9503
portal=127.0.0.1:3260
iqn=iqn.2026-11.io.vega:vm
initiator=$(sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi)

# The shell prefers its own applets to programs of the same name, whatever PATH says.
blkdiscard() { /usr/local/bin/blkdiscard "$@"; }
fstrim() { /usr/local/bin/fstrim "$@"; }

say() { echo "$*"; }
die() {
    echo "FAILED: $*"
    exit 1
}

# wait_until WORDS COMMAND...: looks until the command succeeds. The bound is for what hangs: a guest on a busy machine may be slow.
wait_until() {
    _words=$1
    shift
    _end=$(($(cut -d. -f1 /proc/uptime) + 150))
    until "$@" >/dev/null 2>&1; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$_end" ] || die "waited 150 s in vain until $_words"
        sleep 0.1
    done
}

# refused WORDS COMMAND...: the command must fail.
refused() {
    _words=$1
    shift
    if "$@" >/tmp/refused 2>&1; then
        cat /tmp/refused
        die "$_words, but it succeeded"
    fi
}

# expect WORDS TEXT PATTERN: some line of the text matches the extended regular expression.
expect() {
    printf '%s\n' "$2" | grep -Eq -- "$3" || {
        printf '%s\n' "$2"
        die "$1: nothing matches /$3/"
    }
}

same() { # same WORDS GOT WANTED
    [ "$2" = "$3" ] || die "$1: $2 instead of $3"
}

# --- the node ---------------------------------------------------------------------------------------------------------------------

vega() { /vm/vega --api "unix:$data/vega.sock" "$@"; }

# Writes the configuration: the settings every case has, then standard input (further tables).
configure() {
    rm -rf "$data" /data/node.log /tmp/ledger /tmp/files /tmp/fio
    mkdir -p "$data"
    {
        printf '[node]\ndata_dir = "%s"\n[reactor]\nbuffer_bytes = "64MiB"\n[api]\nlisten = "%s"\n' "$data" "$api"
        printf '[[iscsi.portal]]\nlisten = "%s"\n[log]\nformat = "pretty"\n' "$portal"
        cat
    } >/data/vega.toml
}

node_lives() { kill -0 "$(cat /data/node.pid)" 2>/dev/null; }
node_is_ready() { wget -q -O /dev/null "http://$api/readyz" || ! node_lives; }

start_node() {
    rm -f "$data/vega.sock"
    /vm/vega node --config /data/vega.toml >>/data/node.log 2>&1 &
    echo $! >/data/node.pid
    wait_until "the node is ready" node_is_ready
    node_lives || die "the node ended at its start"
}

# kill -9: nothing of it can tidy up.
kill_node() {
    kill -KILL "$(cat /data/node.pid)"
    wait "$(cat /data/node.pid)" 2>/dev/null || true
    rm -f /data/node.pid
}

# Ends it well: it must say so itself.
stop_node() {
    _pid=$(cat /data/node.pid)
    kill -TERM "$_pid"
    _code=0
    wait "$_pid" || _code=$?
    rm -f /data/node.pid
    [ "$_code" = 0 ] || die "the node ended with code $_code"
    refused "the node's log has no panic" grep -a "panicked" /data/node.log
}

# --- open-iscsi -------------------------------------------------------------------------------------------------------------------

start_initiator() {
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets /var/lib/iscsi/*
    [ -n "$(pidof iscsid)" ] || iscsid
    wait_until "iscsid runs" pidof iscsid
    iscsiadm -m discovery -t sendtargets -p "$portal" >/tmp/discovered || die "discovery: $(cat /tmp/discovered)"
}

# node_set NAME VALUE: a setting of the record of the target, before login.
node_set() { iscsiadm -m node -T "$iqn" -p "$portal" -o update -n "$1" -v "$2"; }

login() {
    iscsiadm -m node -T "$iqn" -p "$portal" --login >/tmp/login 2>&1 || {
        cat /tmp/login
        return 1
    }
}

logout() {
    iscsiadm -m node -T "$iqn" -p "$portal" --logout >/tmp/logout 2>&1 || die "logout: $(cat /tmp/logout)"
    wait_until "the session is gone" no_session
}

no_session() { ! ls -d /sys/class/iscsi_session/session* >/dev/null 2>&1; }

session() { basename "$(ls -d /sys/class/iscsi_session/session* | head -n 1)"; }

# disk LUN: the device of a unit, once it is there.
find_disk() {
    _path=$(ls -d /sys/class/iscsi_session/"$(session)"/device/target*/*:*:*:"$1"/block/* 2>/dev/null | head -n 1)
    [ -n "$_path" ] && [ -b "/dev/$(basename "$_path")" ] && [ "$(cat "$_path/size")" -gt 0 ] && basename "$_path" >/tmp/disk
}
disk() {
    wait_until "unit $1 is a disk" find_disk "$1"
    echo "/dev/$(cat /tmp/disk)"
}

# --- file systems -----------------------------------------------------------------------------------------------------------------

make_file_system() { # TYPE DEVICE
    case "$1" in
    ext4) mkfs.ext4 -q -F "$2" ;;
    xfs) mkfs.xfs -q -f "$2" ;;
    esac
    mount -t "$1" "$2" /mnt
}

# Files of many sizes with content that depends on nothing but their names, and their sums.
fill() { # FOLDER
    mkdir -p "$1/deep/er"
    for _size in 1 511 4096 65537 1000000 5000000; do
        yes "$1 $_size" | head -c "$_size" >"$1/deep/$_size"
        head -c "$_size" /dev/urandom >"$1/deep/er/$_size"
    done
    (cd "$1" && find . -type f ! -name sums -exec sha256sum {} + >sums)
}

check_fill() { (cd "$1" && sha256sum -c sums >/tmp/sums 2>&1) || die "files changed: $(grep -v OK /tmp/sums)"; }

check_file_system() { # TYPE DEVICE, not mounted
    case "$1" in
    ext4) e2fsck -f -n "$2" >/tmp/fsck 2>&1 ;;
    xfs) xfs_repair -n "$2" >/tmp/fsck 2>&1 ;;
    esac || die "the file system is not clean: $(cat /tmp/fsck)"
}

drop_caches() { sync && echo 3 >/proc/sys/vm/drop_caches; }

# --- verified load ----------------------------------------------------------------------------------------------------------------

start_load() { # DEVICE OPTIONS...
    rm -f /tmp/acknowledged /tmp/stop-load
    _device=$1
    shift
    /vm/vm_load write "$_device" --ledger /tmp/ledger --progress /tmp/acknowledged --until /tmp/stop-load \
        --writes 1000000 "$@" >/tmp/load.log 2>&1 &
    echo $! >/tmp/load.pid
}

acknowledged() { cat /tmp/acknowledged 2>/dev/null || echo 0; }
has_acknowledged() { [ "$(acknowledged)" -ge "$1" ] || ! kill -0 "$(cat /tmp/load.pid)"; }

# more_load N: the load goes on until so many more writes were acknowledged.
more_load() {
    _goal=$(($(acknowledged) + $1))
    wait_until "$1 more writes are acknowledged" has_acknowledged "$_goal"
    kill -0 "$(cat /tmp/load.pid)" || die "the load ended: $(cat /tmp/load.log)"
}

stop_load() {
    touch /tmp/stop-load
    _code=0
    wait "$(cat /tmp/load.pid)" || _code=$?
    cat /tmp/load.log
    [ "$_code" = 0 ] || die "the load failed"
}

verify_load() { /vm/vm_load verify "$1" --ledger /tmp/ledger || die "acknowledged writes were lost"; }

# --- fio --------------------------------------------------------------------------------------------------------------------------

# run_fio PLACE OPTIONS...: a job that writes blocks with their sums, reads all of them back, and ends with the first that is wrong. What
# it knows when it is ended early is kept.
run_fio() {
    _place=$1
    shift
    mkdir -p /tmp/fio
    fio --name=verified --filename="$_place" --ioengine=libaio --direct=1 --iodepth=16 --thread --randseed=7 --bsrange=4k-32k \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --aux-path=/tmp/fio "$@" >/tmp/fio.log 2>&1
}

verified_fio() {
    run_fio "$@" || die "fio: $(tail -n 40 /tmp/fio.log)"
    expect "what fio says" "$(cat /tmp/fio.log)" 'err= 0'
}

start_fio() {
    run_fio "$@" &
    fio=$!
}

# What a disk has completed since it is there: reads and writes. Of an NVMe namespace only the paths count them.
completed() {
    cat "/sys/block/$(basename "$1")/stat" /sys/block/nvme*c*n*/stat 2>/dev/null | awk '{ sum += $1 + $5 } END { print sum }'
}
has_completed() { [ "$(completed "$1")" -ge "$2" ] || ! kill -0 "$fio"; }

# more_fio DEVICE N: fio goes on until the disk has completed so many more commands.
more_fio() {
    _goal=$(($(completed "$1") + $2))
    wait_until "$2 more commands of fio are completed" has_completed "$1" "$_goal"
    kill -0 "$fio" 2>/dev/null || die "fio ended: $(tail -n 40 /tmp/fio.log)"
}

end_fio() {
    wait "$fio" || die "fio: $(tail -n 40 /tmp/fio.log)"
    expect "what fio says" "$(cat /tmp/fio.log)" 'err= 0'
}
