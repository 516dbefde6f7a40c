#!/usr/bin/env bash
# Brings the peers that `make perf` compares with: tgt, istgt, iscsi-perf, and fio with its libiscsi engine.
#
# Idempotent: a second run finds everything and says so in a second. Packages come from the machine's own apt sources; fio, whose Debian
# package lacks the libiscsi engine, is built once from Debian's own source package into .cache/perf/fio-VERSION.
# Prints `KEY=PATH` lines on stdout (for run.py), everything else on stderr.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache="${VEGA_CACHE:-$root/.cache}/perf"
mkdir -p "$cache"

say() { printf 'peers: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Two runs at once (two work trees, one machine) would fight over dpkg's lock and over the build folder.
exec 9>"$cache/lock"
flock 9

export DEBIAN_FRONTEND=noninteractive
apt_wait=(-o DPkg::Lock::Timeout=300)

install_missing() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    # A package that starts its daemon on installation would take port 3260 and a core: policy-rc.d says no for the length of this call.
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=1
    fi
    local result=0
    as_root apt-get "${apt_wait[@]}" install -y --no-install-recommends "${missing[@]}" >&2 9>&- ||
        { as_root apt-get "${apt_wait[@]}" update >&2 9>&- &&
            as_root apt-get "${apt_wait[@]}" install -y --no-install-recommends "${missing[@]}" >&2 9>&-; } || result=$?
    [ -n "$ours" ] && as_root rm -f "$policy"
    [ "$result" = 0 ] || die "could not install ${missing[*]}: install them by hand, then run this again"
}

# The machine's own Debian or Ubuntu sources once more, as sources of source packages, in a private apt state: the machine's lists stay as
# they are. Copying the entries keeps their Signed-By.
private_source_lists() {
    local state=$1 origin entry file
    rm -rf "$state" && mkdir -p "$state/lists/partial" "$state/sources.list.d"
    apt-get indextargets --format '$(ORIGIN)|$(SOURCESENTRY)' 'Created-By: Packages' | sort -u | while IFS='|' read -r origin entry; do
        case $origin in Debian | Ubuntu) ;; *) continue ;; esac
        file=${entry%:*}
        case $file in
            *.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$state/sources.list.d/${file##*/}" ;;
            *.list) sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$state/sources.list.d/${file##*/}" ;;
        esac
    done
    [ -n "$(ls "$state/sources.list.d")" ] || die "apt knows no Debian or Ubuntu source on this machine: cannot fetch fio's source"
}

# fio's source package, unpacked into a folder.
fetch_fio() {
    local version=$1 build=$2
    local state="$cache/apt"
    private_source_lists "$state"
    rm -rf "$build" && mkdir -p "$build"
    local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$state/sources.list.d" -o "Dir::State::lists=$state/lists" -o APT::Sandbox::User=root)
    say "fetching fio $version (source)"
    apt-get "${options[@]}" update >&2 || die "apt-get update of the source lists failed"
    (cd "$build" && apt-get "${options[@]}" source --download-only "fio=$version" >&2 &&
        dpkg-source -x fio_*.dsc fio >&2) || die "fio's source package could not be fetched"
}

build_fio() {
    local version=$1 target=$2
    local build="$cache/build"
    install_missing gcc make pkg-config dpkg-dev libaio-dev zlib1g-dev libiscsi-dev
    fetch_fio "$version" "$build"
    say "building fio with the libiscsi engine"
    (cd "$build/fio" && ./configure --enable-libiscsi --disable-native >configure.log 2>&1 && grep -q '^iscsi engine  *yes' configure.log &&
        make -j"$(nproc)" fio >make.log 2>&1) || die "fio did not build: see $build/fio/configure.log and make.log"
    mkdir -p "$(dirname "$target")"
    install -m 755 "$build/fio/fio" "$target.new"
    mv "$target.new" "$target"
    rm -rf "$build"
}

# `peers.sh fio-headers` only brings fio's source, configured: what an engine of our own is compiled against.
if [ "${1:-}" = fio-headers ]; then
    version=$(apt-cache policy fio | awk '/Candidate:/ { print $2 }')
    headers="$cache/fio-headers-${version//[^A-Za-z0-9._-]/_}"
    if [ ! -e "$headers/config-host.h" ]; then
        # What an engine needs of the headers needs no library.
        install_missing gcc make dpkg-dev
        fetch_fio "$version" "$headers.new"
        (cd "$headers.new/fio" && ./configure --disable-native >configure.log 2>&1) || die "fio's source could not be configured"
        rm -rf "$headers" && mv "$headers.new/fio" "$headers" && rm -rf "$headers.new"
    fi
    printf 'FIO_HEADERS=%s\n' "$headers"
    exit 0
fi

command -v apt-get >/dev/null || die "needs a Debian or Ubuntu machine (apt-get); elsewhere put tgtd, istgt, iscsi-perf and a fio with libiscsi on PATH and set VEGA_FIO"

install_missing tgt istgt libiscsi-bin

fio=${VEGA_FIO:-}
if [ -z "$fio" ]; then
    version=$(apt-cache policy fio | awk '/Candidate:/ { print $2 }')
    [ -n "$version" ] && [ "$version" != '(none)' ] || die "apt has no candidate for fio"
    fio="$cache/fio-${version//[^A-Za-z0-9._-]/_}/fio"
    [ -x "$fio" ] || build_fio "$version" "$fio"
fi
"$fio" --enghelp 2>/dev/null | grep -qw libiscsi || die "$fio has no libiscsi engine"

say "ready: $("$fio" --version), tgt $(dpkg-query -W -f '${Version}' tgt), istgt $(dpkg-query -W -f '${Version}' istgt), libiscsi $(dpkg-query -W -f '${Version}' libiscsi7)"
printf 'FIO=%s\nTGTD=%s\nTGTADM=%s\nISTGT=%s\nISCSI_PERF=%s\n' "$fio" "$(command -v tgtd)" "$(command -v tgtadm)" "$(command -v istgt)" "$(command -v iscsi-perf)"
