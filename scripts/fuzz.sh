#!/usr/bin/env bash
# Runs every fuzz target for a while: scripts/fuzz.sh [SECONDS] [TARGET...]
#
# With a nightly toolchain where one is installed, else with the one of rust-toolchain.toml, which is then told to take the flags of a
# nightly; VEGA_FUZZ_TOOLCHAIN=nightly|pinned chooses. With the address sanitizer where it links; the first line says what is used.
# What is found on the way is kept in target/fuzz/corpus and used by the next run; the corpus in the repository is only read.
# A crash is left in the artifacts folder of its fuzz crate; copy it into the corpus, and the plain tests replay it from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

seconds=${1:-60}
shift || true
wanted=("$@")
work="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"

toolchain=${VEGA_FUZZ_TOOLCHAIN:-}
if [ -z "$toolchain" ]; then
    if command -v rustup >/dev/null && rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
        toolchain=nightly
    else
        toolchain=pinned
    fi
fi
case "$toolchain" in
nightly) cargo=(cargo +nightly) ;;
pinned)
    cargo=(cargo)
    export RUSTC_BOOTSTRAP=1
    ;;
*)
    printf 'fuzz: no such toolchain: %s (nightly or pinned)\n' "$toolchain" >&2
    exit 2
    ;;
esac

# The sanitizer's runtime comes with some toolchains and not with others.
sanitizer=none
library=$(rustc "${cargo[@]:1}" --print target-libdir)
if compgen -G "$library/librustc-*_rt.asan.a" >/dev/null; then
    sanitizer=address
fi
printf 'fuzz: %s, %s toolchain, sanitizer: %s\n' "$("${cargo[@]}" --version)" "$toolchain" "$sanitizer"

passed=0
failed=()
for manifest in $(find . -path ./target -prune -o -path '*/fuzz/Cargo.toml' -print | sort); do
    directory=$(dirname "$manifest")
    for target in $(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest"); do
        if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $target "* ]]; then
            continue
        fi
        printf '==> fuzz %s for %s s\n' "$target" "$seconds"
        mkdir -p "$work/corpus/$target"
        if "${cargo[@]}" fuzz run --sanitizer "$sanitizer" --fuzz-dir "$directory" --target-dir "$work" "$target" \
            "$work/corpus/$target" "$directory/corpus/$target" -- \
            -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 2>&1 | tail -n 12; then
            passed=$((passed + 1))
        else
            failed+=("$target")
        fi
    done
done
printf 'fuzz: %s targets passed, %s failed %s\n' "$passed" "${#failed[@]}" "${failed[*]:-}"
[ "${#failed[@]}" = 0 ] && [ "$passed" -gt 0 ]
