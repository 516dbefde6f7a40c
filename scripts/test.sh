#!/usr/bin/env bash
# `make test`: everything that proves this tree, in the order in which a failure should be seen. scripts/test.sh [--quick] [STEP...]
#
# A step that fails does not hide the others: all run, and the last line says how many tests passed and failed. Each step's output is
# kept in target/test-logs. --quick leaves out clippy's second look, loom, the release build and the long suites.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} RUST_BACKTRACE=${RUST_BACKTRACE:-1}

quick=
steps=()
for argument in "$@"; do
    case "$argument" in
    --quick) quick=1 ;;
    -*) printf 'usage: scripts/test.sh [--quick] [STEP...]\n' >&2; exit 2 ;;
    *) steps+=("$argument") ;;
    esac
done

target=${CARGO_TARGET_DIR:-target}
logs="$target/test-logs"
mkdir -p "$logs"
failed_steps=()
started=$SECONDS

# Each of these is one step. What it prints in libtest's words is counted; otherwise the step itself counts as one.
do_format() { cargo fmt --all --check; }
do_tidy() { cargo test --quiet --package vega --test tidy; }
do_clippy() { cargo clippy --quiet --workspace --all-targets -- -D warnings; }
do_unit() { cargo test --workspace --no-fail-fast; }
# Driver against emulated controller, seed by seed, with faults on: too many for the debug build.
do_nvme() {
    local seeds=10000
    [ "${VEGA_NIGHTLY:-0}" = 1 ] && seeds=100000
    VEGA_NVME_SEEDS=${VEGA_NVME_SEEDS:-$seeds} cargo test --release --package nvme --test schedules
}
# Another configuration of the same crates, so a folder of its own; optimised, because loom walks every interleaving.
do_loom() {
    RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 \
        cargo test --release --package reactor --lib --target-dir "$target/loom" -- loom
}
do_deny() { scripts/deny.sh; }
do_fuzz_build() {
    # The fuzz crates are workspaces of their own, which nothing else compiles.
    local manifest
    for manifest in $(find . -path ./target -prune -o -path '*/fuzz/Cargo.toml' -print | sort); do
        cargo check --quiet --manifest-path "$manifest" --target-dir "$target/fuzz-check" || return 1
    done
}
do_build() { cargo build --release --package vega --package interop; }
do_interop() {
    local suites=(conformance qemu restart wire hostile nvmf_hostile load nvmf_load crash) options=()
    [ -n "$quick" ] && { suites=(restart conformance); options=(--quick); }
    # A process group of its own: whatever happens inside, nothing is left behind.
    timeout --kill-after=10 2400 "$target/release/interop" --vega "$target/release/vega" "${options[@]}" "${suites[@]}"
}
# Linux's own initiators, in a guest whose programs must bring everything along.
do_vm() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile guest --package vega --package vm_load --package vm_nvme \
        --target x86_64-unknown-linux-gnu --target-dir "$target/vm" || return 1
    cargo build --release --package vm || return 1
    # For the fio of the guest, which is the one of this machine's package sources.
    perf/fio-engine/build.sh || return 1
    local programs="$target/vm/x86_64-unknown-linux-gnu/guest"
    timeout --kill-after=10 1500 "$target/release/vm" --vega "$programs/vega" --load "$programs/vm_load" \
        --nvme "$programs/vm_nvme" --fio-engine "$target/libvega_fio.so" --logs "$logs/vm" run
}
do_fuzz() { scripts/install.sh fuzz && scripts/fuzz.sh "${VEGA_FUZZ_SECONDS:-60}"; }

if [ ${#steps[@]} = 0 ]; then
    steps=(format tidy clippy unit nvme loom deny fuzz_build build interop)
    if [ -f "${VEGA_CACHE:-.cache}/vm/checked" ]; then
        steps+=(vm)
    else
        printf 'test: no guest is prepared, so Linux'"'"'s own initiators are left out; scripts/install.sh vm prepares one\n'
    fi
    [ -n "$quick" ] && steps=(format tidy unit build interop)
    [ "${VEGA_NIGHTLY:-0}" = 1 ] && steps+=(fuzz)
fi

for step in "${steps[@]}"; do
    if [ "$(type -t "do_$step")" != function ]; then
        printf 'test: no such step: %s\n' "$step" >&2
        exit 2
    fi
    printf '\n==> %s\n' "$step"
    before=$SECONDS
    if "do_$step" 2>&1 | tee "$logs/$step.log"; then
        printf '==> %s: ok (%s s)\n' "$step" $((SECONDS - before))
    else
        printf '==> %s: FAILED (%s s)\n' "$step" $((SECONDS - before))
        failed_steps+=("$step")
        # Without a binary there is nothing to put before a real peer.
        [ "$step" = build ] && break
    fi
done

# --- the sum ----------------------------------------------------------------------------------------------------------------------

passed=0
failed=0
for step in "${steps[@]}"; do
    log="$logs/$step.log"
    [ -f "$log" ] || continue
    read -r step_passed step_failed < <(
        sed -n 's/^test result: .* \([0-9][0-9]*\) passed; \([0-9][0-9]*\) failed;.*/\1 \2/p' "$log" |
            awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }'
    )
    is_failed=0
    [[ " ${failed_steps[*]:-} " == *" $step "* ]] && is_failed=1
    # Steps that do not speak libtest, and steps that broke before they could count, are one test each.
    if [ $((step_passed + step_failed)) = 0 ] || { [ "$is_failed" = 1 ] && [ "$step_failed" = 0 ]; }; then
        if [ "$is_failed" = 1 ]; then step_failed=$((step_failed + 1)); else step_passed=$((step_passed + 1)); fi
    fi
    passed=$((passed + step_passed))
    failed=$((failed + step_failed))
done

if [ ${#failed_steps[@]} -gt 0 ]; then
    printf '\nfailed steps: %s (logs in %s)\n' "${failed_steps[*]}" "$logs"
    grep -hE '^test .*\.\.\. FAILED|^error(\[|:)' "$logs"/*.log | sort -u | head -n 60
fi
printf '\n%s s\n%s passed, %s failed\n' $((SECONDS - started)) "$passed" "$failed"
[ "$failed" = 0 ] && [ ${#failed_steps[@]} = 0 ]
