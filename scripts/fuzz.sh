#!/usr/bin/env bash
# Runs every fuzz target for a while: scripts/fuzz.sh [SECONDS] [TARGET...]
# A crash is left in the artifacts folder of its fuzz crate; copy it into the corpus, and the plain tests replay it from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

seconds=${1:-60}
shift || true
wanted=("$@")
passed=0
failed=()
for manifest in $(find . -path ./target -prune -o -path '*/fuzz/Cargo.toml' -print | sort); do
    directory=$(dirname "$manifest")
    for target in $(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest"); do
        if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $target "* ]]; then
            continue
        fi
        printf '==> fuzz %s for %s s\n' "$target" "$seconds"
        if cargo +nightly fuzz run --fuzz-dir "$directory" "$target" -- \
            -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 2>&1 | tail -n 12; then
            passed=$((passed + 1))
        else
            failed+=("$target")
        fi
    done
done
printf 'fuzz: %s targets passed, %s failed %s\n' "$passed" "${#failed[@]}" "${failed[*]:-}"
[ "${#failed[@]}" = 0 ] && [ "$passed" -gt 0 ]
