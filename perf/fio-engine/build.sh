#!/usr/bin/env bash
# Builds libvega_fio.so: the Rust half as a static library, the shim against the headers of the fio that is to load it.
#
#   perf/fio-engine/build.sh [OUTPUT]        prints the path of the engine, last line
#
# FIO_HEADERS names a configured fio source tree of the same version as the fio that loads the engine; without it, Debian's is
# brought by peers.sh. fio refuses an engine of another interface version.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
target="${CARGO_TARGET_DIR:-$root/target}"
output="${1:-$target/libvega_fio.so}"

if [ -z "${FIO_HEADERS:-}" ]; then
    FIO_HEADERS=$("$root/perf/peers.sh" fio-headers | sed -n 's/^FIO_HEADERS=//p')
fi
[ -e "$FIO_HEADERS/config-host.h" ] || { echo "$FIO_HEADERS is no configured fio source tree (config-host.h is missing)" >&2; exit 1; }

(cd "$root" && cargo build --release --package fio_engine >&2)
# fio's headers warn about themselves; our own file must not.
"${CC:-cc}" -std=gnu11 -O2 -g -fPIC -shared -D_GNU_SOURCE -include "$FIO_HEADERS/config-host.h" -isystem "$FIO_HEADERS" \
    -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -o "$output" "$root/perf/fio-engine/shim/vega_fio.c" \
    "$target/release/libfio_engine.a" -Wl,--gc-sections -lpthread -ldl -lm
echo "$output"
