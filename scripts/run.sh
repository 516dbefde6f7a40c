#!/usr/bin/env bash
# `make run`: build, start a node on ./vega-data, create a volume, serve it over iSCSI and NVMe/TCP, prove it with a real initiator, and go
# on until Ctrl-C.
#
# Everything goes through the command line that a person would use. A second run finds the data of the first and checks a mark in it.
#
# DEVICE says where the volume's blocks are: nothing, a file; "emulated", an NVMe controller in the node's memory, driven like a
# real one; a PCI address or the path of a disk, that NVMe controller (see "vega disk list" and "vega doctor").
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

cache=${VEGA_CACHE:-$root/.cache}
device=${DEVICE:-}
# A volume stays on what it was made on, so each kind of device has data of its own.
data=${VEGA_DATA:-$root/vega-data${device:+-${device//[^a-zA-Z0-9]/-}}}
portal=${VEGA_PORTAL:-127.0.0.1:3260}
listener=${VEGA_LISTENER:-127.0.0.1:4420}
volume=${VEGA_VOLUME:-demo}
target=${VEGA_TARGET:-iqn.2026-11.io.vega:demo}
subsystem=${VEGA_SUBSYSTEM:-nqn.2026-11.io.vega:demo}
size=${VEGA_SIZE:-1GiB}
api_listen=${VEGA_API_LISTEN:-127.0.0.1:9503}
device_size=${VEGA_DEVICE_SIZE:-2GiB}

say() { printf '%s\n' "$*"; }
step() { printf '\n==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# What would stop it later is asked before anything is installed or built.
must_be_free() { # address variable another
    if (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; then
        die "something already listens on $1 (another make run?). Stop it, or choose another address: $2=$3 make run"
    fi
}
must_be_free "$portal" VEGA_PORTAL 127.0.0.1:3261
must_be_free "$listener" VEGA_LISTENER 127.0.0.1:4421
must_be_free "$api_listen" VEGA_API_LISTEN 127.0.0.1:9504
if ! { mkdir -p "$data" && [ -w "$data" ] && [ -x "$data" ]; } 2>/dev/null; then
    die "$(id -un) may not write to $data. Give it that right, or choose another place: VEGA_DATA=\$HOME/vega-data make run"
fi

scripts/install.sh run

step "building (release)"
cargo build --release --quiet --package vega
vega=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/vega
[ -x "$vega" ] || die "the build left no $vega"

# --- a node -----------------------------------------------------------------------------------------------------------------------

export VEGA_API="unix:$data/vega.sock"
log="$data/node.log"

options=(--data-dir "$data" --listen "$portal" --nvmf-listen "$listener" --api-listen "$api_listen")
on_device=()
if [ -n "$device" ]; then
    case "$device" in
    emulated) place="emulated_size = \"$device_size\"" ;;
    /*) place="path = \"$device\"" ;;
    *) place="pci_address = \"$device\"" ;;
    esac
    printf '[[device]]\nname = "demo-device"\n%s\n' "$place" >"$data/run.toml"
    options+=(--config "$data/run.toml")
    on_device=(--device demo-device --namespace 1)
fi

step "starting vega node: iSCSI on $portal, NVMe/TCP on $listener, data in $data, log in $log"
# A session of its own: Ctrl-C reaches this script, which then asks the node once, instead of both.
setsid "$vega" node "${options[@]}" >"$log" 2>&1 &
node=$!

stop_node() {
    trap - EXIT INT TERM
    if kill -0 "$node" 2>/dev/null; then
        printf '\nstopping: commands in flight end, then the node does\n'
        kill -TERM "$node"
        wait "$node" || { printf 'error: the node ended with code %s; see %s\n' "$?" "$log" >&2; exit 1; }
        if [ "$device" = emulated ]; then
            say "stopped; what the emulated controller held ended with it"
        else
            say "stopped; the data stays in $data"
        fi
    fi
}
trap stop_node EXIT
trap 'exit 0' INT TERM

for _ in $(seq 300); do
    kill -0 "$node" 2>/dev/null || { tail -n 20 "$log" >&2; die "the node did not start; its last words are above"; }
    "$vega" status >/dev/null 2>&1 && ready=1 && break
    sleep 0.1
done
[ "${ready:-}" = 1 ] || { tail -n 20 "$log" >&2; die "the node does not answer on $VEGA_API"; }

# --- a volume and a target --------------------------------------------------------------------------------------------------------

fresh=
if ! "$vega" volume show "$volume" >/dev/null 2>&1; then
    fresh=1
    step "creating volume $volume ($size, thin) and target $target"
    "$vega" volume create "$volume" --size "$size" "${on_device[@]}"
fi
"$vega" target show "$target" >/dev/null 2>&1 || "$vega" target create "$target"
"$vega" target show "$target" --output json | tr -d ' \n' | grep -q "\"$volume\"" || "$vega" target lun add "$target" 0 "$volume"

"$vega" subsystem show "$subsystem" >/dev/null 2>&1 || "$vega" subsystem create "$subsystem" --namespace "1=$volume"

# --- the proof --------------------------------------------------------------------------------------------------------------------

url="iscsi://$portal/$target/0"
qemu_io() {
    if [ -x "$cache/qemu/usr/bin/qemu-io" ]; then
        QEMU_MODULE_DIR=$(dirname "$(find "$cache/qemu/usr/lib" -name block-iscsi.so | head -n 1)") \
            "$cache/qemu/usr/bin/qemu-io" "$@"
    else
        qemu-io "$@"
    fi
}
# qemu-io says "failed" in its output, not always in its exit code.
prove() {
    local output
    output=$(qemu_io -f raw -t none "$@" "$url" 2>&1) || { printf '%s\n' "$output" >&2; die "the initiator failed"; }
    case "$output" in *failed* | *rror*) printf '%s\n' "$output" >&2; die "the initiator read something else than was written" ;; esac
}

# The mark: a pattern that the previous run left in the volume (so it must hold 256 MiB), and whose number it left beside the data.
mark_file="$data/run-mark"
# What an emulated device held ended with the node that held it.
[ "$device" = emulated ] && rm -f "$mark_file"
if [ -z "$fresh" ] && [ -s "$mark_file" ]; then
    mark=$(cat "$mark_file")
    step "this data was here before: reading what the previous run left"
    prove -c "read -P $mark 128M 1M"
    say "found it: 1 MiB of pattern $mark"
else
    mark=0
fi
step "proof with a real initiator (QEMU's iSCSI driver): write, flush, read back"
prove -c "write -P 0x5a 0 64M" -c "flush" -c "read -P 0x5a 0 64M" -c "write -z 8M 8M" -c "read -P 0 8M 8M"
next=$((mark % 250 + 1))
prove -c "write -P $next 128M 1M" -c "flush"
printf '%s\n' "$next" >"$mark_file"
say "64 MiB written, flushed, read back; zeroes read as zeroes; mark $next left for the next run"

step "what it cost"
# `top` shows what happens while it looks, so something has to happen.
for _ in 1 2 3 4; do prove -c "write -P 0x5a 0 16M" -c "flush" -c "read -P 0x5a 0 16M"; done &
busy=$!
"$vega" top --once || say "(no counters)"
wait "$busy"
if [ -n "$device" ]; then
    step "the device under it"
    "$vega" disk list
    "$vega" disk show demo-device --only smart-log
fi

# --- how to use it ----------------------------------------------------------------------------------------------------------------

cat <<TEXT

==> serving $url until Ctrl-C. From another shell:

  vega="$vega"; export VEGA_API="$VEGA_API"
  \$vega volume list; \$vega session list; \$vega top

  Linux:   iscsiadm -m discovery -t sendtargets -p $portal
           iscsiadm -m node -T $target -p $portal --login
           nvme connect -t tcp -a ${listener%:*} -s ${listener##*:} -n $subsystem      (the same volume, over NVMe/TCP)
  QEMU:    qemu-img info $url
           qemu-img convert -n -O raw disk.img $url
  fio:     fio --name=demo --ioengine=libiscsi --filename=$(printf '%s' "$url" | sed 's/:/\\\\:/g') --rw=randread --bs=4k --iodepth=32 \\
               --runtime=10 --time_based        (needs a fio with the libiscsi engine: make perf builds one)
TEXT

wait "$node" && code=0 || code=$?
trap - EXIT
[ "$code" = 0 ] || { tail -n 20 "$log" >&2; die "the node ended with code $code; its last words are above"; }
