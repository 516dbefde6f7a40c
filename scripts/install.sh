#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu misses: scripts/install.sh run|test|vm|perf|fuzz
#
# Looks first and touches nothing that is there. Packages come from the machine's own apt sources; rustup, where these have none, from
# rustup.rs into the home directory. Without root (and without sudo that needs no password) it installs no package and prints the one
# command that installs all that are missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache="${VEGA_CACHE:-$root/.cache}"

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
rust=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$root/rust-toolchain.toml")

purpose=${1:-}
case "$purpose" in
run | test | vm | perf | fuzz) ;;
*) die "usage: scripts/install.sh run|test|vm|perf|fuzz" ;;
esac

# --- packages ---------------------------------------------------------------------------------------------------------------------

installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

apt_install() {
    local missing=() package
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null || die "this machine has no apt-get; install these by hand: ${missing[*]}"
    if ! can_be_root; then
        say "these packages are missing: ${missing[*]}"
        say "run this as root, then try again:"
        die "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Whatever would take a package away to make room for another one is for a person to decide.
    local options=(-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -y -qq --no-install-recommends --no-remove)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install "${missing[@]}" >&2 ||
        { as_root apt-get -o DPkg::Lock::Timeout=300 -qq update >&2 &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install "${missing[@]}" >&2; } ||
        die "could not install ${missing[*]}; apt-get's own words are above"
}

# --- Rust -------------------------------------------------------------------------------------------------------------------------

# Cargo of the right version, in this tree. rustup's cargo is what rust-toolchain.toml names, or fails where that is not installed.
rust_is_usable() {
    local version
    version=$(cd "$root" && RUSTUP_AUTO_INSTALL=0 cargo --version 2>/dev/null | awk '{ print $2 }') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$rust" "$version" | sort -V | head -n 1)" = "$rust" ]
}

# The packages' rustup takes the place of the packages' cargo, which would have to be removed for it.
rustup_is_a_package() {
    [ -n "$(apt-cache madison rustup 2>/dev/null)" ] && ! installed cargo && ! installed rustc
}

# What has to be there before Rust can be fetched.
rust_packages() {
    if rust_is_usable || command -v rustup >/dev/null; then
        return 0
    fi
    if rustup_is_a_package; then echo rustup; else echo curl; fi
}

rust_by_hand() {
    say "$*"
    say "Vega is built with it. Install it by hand, open a new shell, and try again:"
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh      (https://rustup.rs says what that does)"
    say "    rustup toolchain install $rust --profile minimal --component rustfmt --component clippy"
    say "A machine that cannot reach rustup.rs and static.rust-lang.org needs the address of a mirror in RUSTUP_DIST_SERVER and"
    die "RUSTUP_UPDATE_ROOT, or a copy of ~/.cargo/bin and ~/.rustup from a machine that has them."
}

# Into ~/.cargo and ~/.rustup, without root; no file that a shell reads at its start is changed.
install_rustup() {
    local script
    say "installing rustup from https://sh.rustup.rs into ${CARGO_HOME:-$HOME/.cargo}"
    script=$(mktemp)
    # All of it before any of it runs; something between here and there may answer with a page of its own.
    if ! curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 20 --retry 2 -o "$script" https://sh.rustup.rs; then
        rm -f "$script"
        rust_by_hand "there is no Rust $rust here, and rustup could not be fetched: curl's own words are above"
    fi
    if [ "$(head -c 3 "$script")" != "#!/" ]; then
        rm -f "$script"
        rust_by_hand "there is no Rust $rust here, and what answers as https://sh.rustup.rs does not send rustup's script"
    fi
    if ! sh "$script" -y --quiet --no-modify-path --profile minimal --default-toolchain none >&2; then
        rm -f "$script"
        rust_by_hand "there is no Rust $rust here, and rustup could not be installed: its own words are above"
    fi
    rm -f "$script"
}

ensure_rust() {
    rust_is_usable && return 0
    command -v rustup >/dev/null || install_rustup
    say "installing Rust $rust, which rust-toolchain.toml names"
    # By name: the rustup of some releases does not take it from the file.
    rustup toolchain install "$rust" --no-self-update --profile minimal --component rustfmt --component clippy >&2 ||
        rust_by_hand "there is no Rust $rust here, and rustup could not install it: its own words are above"
    hash -r
    rust_is_usable || die "Rust $rust is installed, but $(command -v cargo || echo "no cargo") comes first in PATH; put rustup's cargo before it"
}

ensure_cargo_tool() { # command crate
    command -v "$1" >/dev/null && return 0
    say "building $2 (once)"
    cargo install --locked --quiet "$2" >&2 || return 1
}

# --- QEMU's tools with their iSCSI driver -----------------------------------------------------------------------------------------

qemu_packages() {
    [ -x "$cache/qemu/usr/bin/qemu-img" ] || command -v qemu-img >/dev/null || echo qemu-utils qemu-block-extra
}

# The driver is a module that must be of exactly the version of the tools. Where the installed pair does not fit (a backport beside the
# release, for example), one version of both is unpacked into the cache and nothing is installed.
ensure_qemu_iscsi() {
    local probe=iscsi://127.0.0.1:9/iqn.2026-01.example:probe/0
    iscsi_driver_answers() { # directory or empty
        local program=qemu-img modules=()
        if [ -n "$1" ]; then
            program="$1/usr/bin/qemu-img"
            modules=(QEMU_MODULE_DIR="$(dirname "$(find "$1/usr/lib" -name 'block-iscsi.so' | head -n 1)")")
        fi
        # Nobody listens there, so it must fail; with the driver's words if there is a driver.
        local words
        words=$(env "${modules[@]}" "$program" info "$probe" 2>&1 || true)
        grep -qi 'iscsi: failed to connect' <<<"$words"
    }
    [ -x "$cache/qemu/usr/bin/qemu-img" ] && iscsi_driver_answers "$cache/qemu" && return 0
    if command -v qemu-img >/dev/null && iscsi_driver_answers ""; then
        return 0
    fi
    local version directory
    version=$(apt-cache madison qemu-block-extra | awk -F'|' 'NR == 1 { gsub(/ /, "", $2); print $2 }')
    if [ -z "$version" ] && can_be_root; then
        as_root apt-get -qq update >&2
        version=$(apt-cache madison qemu-block-extra | awk -F'|' 'NR == 1 { gsub(/ /, "", $2); print $2 }')
    fi
    [ -n "$version" ] || die "apt knows no qemu-block-extra; install QEMU's tools with their iSCSI driver by hand"
    say "unpacking qemu-utils and qemu-block-extra $version into $cache/qemu"
    mkdir -p "$cache"
    directory=$(mktemp -d "$cache/qemu.XXXXXX")
    (cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download "qemu-utils=$version" "qemu-block-extra=$version" >&2 &&
        for package in *.deb; do dpkg -x "$package" . && rm "$package"; done) ||
        { rm -rf "$directory"; die "could not download qemu-utils and qemu-block-extra $version"; }
    # Libraries of the tools and of the driver.
    apt_install libiscsi7 liburing2 libaio1 2>/dev/null || apt_install libiscsi7 liburing2 libaio1t64
    rm -rf "$cache/qemu"
    mv "$directory" "$cache/qemu"
    iscsi_driver_answers "$cache/qemu" || die "QEMU's iSCSI driver does not start; see: $cache/qemu/usr/bin/qemu-img info $probe"
}

# --- a guest with Linux's own initiators ------------------------------------------------------------------------------------------

# Name and version of everything that these packages need, as if nothing were installed: what is unpacked then runs by itself.
package_closure() {
    apt-get -s -o Dir::State::status=/dev/null -o Debug::NoLocking=1 install --no-install-recommends "$@" 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p'
}

# Unpacks packages (name=version) into a folder of the cache, unless exactly these are there; the list of them is written last.
unpack_packages() { # folder packages...
    local folder="$cache/vm/$1" directory package
    shift
    [ "$(cat "$folder/versions" 2>/dev/null)" = "$(printf '%s\n' "$@")" ] && return 0
    say "unpacking $# packages into $folder"
    mkdir -p "$cache/vm"
    directory=$(mktemp -d "$folder.XXXXXX")
    (
        set -e
        mkdir "$directory/packages"
        cd "$directory/packages"
        apt-get -qq -o APT::Sandbox::User=root download "$@" >&2
        for package in *.deb; do dpkg -x "$package" ..; done
        cd ..
        # Most of it, and nothing that a guest without a screen asks for.
        rm -rf packages usr/share/{doc,locale,man,perl} usr/lib/{python3*,debug} usr/lib/x86_64-linux-gnu/perl*
        rm -rf lib/modules/*/kernel/{sound,drivers/{gpu,media,usb,staging,infiniband,net/{wireless,ethernet}}}
        printf '%s\n' "${@}" >versions
    ) || { rm -rf "$directory"; return 1; }
    rm -rf "$folder"
    mv "$directory" "$folder"
}

# Each kernel series of the machine's package sources, newest version of each: "6.1 linux-image-6.1.0-NN-amd64=VERSION".
kernel_packages() {
    local version
    for version in $(apt-cache madison linux-image-amd64 | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' |
        sort -rV | awk -F. '!seen[$1 "." $2]++'); do
        apt-cache show "linux-image-amd64=$version" |
            sed -n 's/^Depends: \(linux-image-\([0-9]*\.[0-9]*\)[^ ]*\) (= \([^)]*\))$/\2 \1=\3/p' | head -n 1
    done
}

prepare_vm() {
    local series package packages
    [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || die "the guest is for Debian on amd64"
    # Asking apt takes longer than booting the guest; its answers change when its lists do.
    [ "$cache/vm/checked" -nt /var/lib/apt/lists ] && [ "$cache/vm/checked" -nt "$root/scripts/install.sh" ] && return 0
    if [ -z "$(kernel_packages)" ] && can_be_root; then
        as_root apt-get -qq update >&2
    fi
    [ -n "$(kernel_packages)" ] || die "apt knows no linux-image-amd64; the guest needs Debian's kernel"
    if ! command -v qemu-system-x86_64 >/dev/null; then
        packages=$(package_closure qemu-system-x86)
        [ -n "$packages" ] || die "apt knows no qemu-system-x86"
        # shellcheck disable=SC2086 # a list of words
        unpack_packages qemu $packages || return 1
    fi
    packages=$(package_closure busybox-static kmod util-linux open-iscsi nvme-cli sg3-utils e2fsprogs xfsprogs fio)
    [ -n "$packages" ] || die "apt knows not all of open-iscsi, nvme-cli, sg3-utils, fio and what they need"
    # shellcheck disable=SC2086 # a list of words
    unpack_packages tools $packages || return 1
    while read -r series package; do
        unpack_packages "kernel-$series" "$package" || return 1
    done < <(kernel_packages)
    touch "$cache/vm/checked"
}

# --- purposes ---------------------------------------------------------------------------------------------------------------------

# All packages at once: who has no root here asks somebody who has, and does so once.
needed=(build-essential pkg-config ca-certificates)
# shellcheck disable=SC2046 # lists of words
case "$purpose" in
run)
    apt_install "${needed[@]}" $(rust_packages) $(qemu_packages)
    ensure_rust
    ensure_qemu_iscsi
    ;;
test)
    apt_install "${needed[@]}" $(rust_packages) $(qemu_packages) libiscsi-bin e2fsprogs tshark
    ensure_rust
    ensure_qemu_iscsi
    # Building it takes longer than what it checks; scripts/deny.sh checks the core of it without.
    if [ "${VEGA_NIGHTLY:-0}" = 1 ]; then
        ensure_cargo_tool cargo-deny cargo-deny || say "cargo-deny could not be built; scripts/deny.sh does its part instead"
    fi
    ;;
vm)
    apt_install "${needed[@]}" $(rust_packages) xz-utils zstd
    ensure_rust
    # prepare_vm may end this script; the lists of a machine that was not updated for long name versions that no archive has any more.
    if ! (prepare_vm) && ! { can_be_root && as_root apt-get -qq update >&2 && (prepare_vm); }; then
        [ -f "$cache/vm/checked" ] || die "could not prepare the guest; without root, run this as root, then try again:  apt-get update"
        say "going on with the guest that was prepared earlier"
    fi
    ;;
perf)
    apt_install "${needed[@]}" $(rust_packages) python3 valgrind
    ensure_rust
    ;;
fuzz)
    apt_install "${needed[@]}" $(rust_packages)
    ensure_rust
    # A nightly is not needed: scripts/fuzz.sh takes the toolchain that is there, and says which.
    ensure_cargo_tool cargo-fuzz cargo-fuzz || die "could not build cargo-fuzz"
    ;;
esac
