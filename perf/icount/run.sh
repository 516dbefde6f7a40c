#!/usr/bin/env bash
# Counts instructions of hot functions under valgrind and compares them with budgets.txt.
#
#   perf/icount/run.sh             count and judge: a case that grew by more than 3 % fails
#   perf/icount/run.sh --update    count and write budgets.txt (say in the commit why)
#   perf/icount/run.sh --only ring-one
#   perf/icount/run.sh --profile path-read-32    the functions that the instructions are in
#   … --no-build                   take the program as it is
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
budgets="$here/budgets.txt"
# What a case may grow by before it fails, in tenths of a percent.
tolerance=30

say() { printf 'icount: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

mode=check only= profile= build=1
while [ $# -gt 0 ]; do
    case $1 in
    --update) mode=update ;;
    --only) only=${2:?--only needs a case}; shift ;;
    --profile) profile=${2:?--profile needs a case}; shift ;;
    --no-build) build= ;;
    *) die "usage: run.sh [--update] [--only CASE] [--profile CASE] [--no-build]" ;;
    esac
    shift
done

if ! command -v valgrind >/dev/null; then
    command -v apt-get >/dev/null || die "valgrind is missing; install it by hand"
    say "installing valgrind"
    as_root=(); [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends valgrind >&2
fi

[ -z "$build" ] || (cd "$root" && cargo build --release --quiet --package icount)
programs="${CARGO_TARGET_DIR:-$root/target}/release"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A copy by `rep movsb` would be counted byte by byte and hide everything else: copies use vectors instead.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824

# Each case and the program that has it.
for program in icount icount-emulated; do
    "$programs/$program" list | cut -f1 | sed "s/\$/ $program/"
done >"$scratch/cases"

# Instructions of `PROGRAM CASE N` as a whole.
count() {
    local program
    program=$(awk -v name="$1" '$1 == name { print $2 }' "$scratch/cases")
    [ -n "$program" ] || die "no such case: $1"
    valgrind --tool=callgrind --callgrind-out-file="$scratch/out.$1.$2" "$programs/$program" "$1" "$2" 2>"$scratch/log" >/dev/null ||
        { cat "$scratch/log" >&2; die "$1 failed"; }
    sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p' "$scratch/log"
}

if [ -n "$profile" ]; then
    # So many that start-up hardly shows.
    count "$profile" 19200 >/dev/null
    callgrind_annotate --threshold=85 "$scratch/out.$profile.19200" >"$scratch/annotated"
    sed -n '1,60p' "$scratch/annotated"
    exit 0
fi

# One iteration: the difference of two runs, so that start-up cancels out. 960 is a multiple of every batch.
iterations=960
measured="$scratch/measured"
[ -z "$only" ] || grep -q "^$only " "$scratch/cases" || die "no such case: $only"
while read -r name _; do
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    once=$(count "$name" "$iterations")
    twice=$(count "$name" $((2 * iterations)))
    printf '%s %d\n' "$name" $(((twice - once + iterations / 2) / iterations)) >>"$measured"
done <"$scratch/cases"

if [ "$mode" = update ]; then
    {
        echo "# Instructions of one iteration, as perf/icount/run.sh counts them (valgrind, release profile, $(rustc --version | cut -d' ' -f2))."
        echo "# More than 3 % above fails. Written by run.sh --update."
        [ -z "$only" ] || grep -v -e '^#' -e "^$only " "$budgets" || true
        cat "$measured"
    } >"$scratch/new"
    mv "$scratch/new" "$budgets"
    cat "$budgets"
    exit 0
fi

[ -f "$budgets" ] || die "there is no $budgets yet: run.sh --update writes it"
failed=0
printf '%-14s %10s %10s %8s\n' case counted budget change
while read -r name counted; do
    budget=$(awk -v name="$name" '$1 == name { print $2 }' "$budgets")
    if [ -z "$budget" ]; then
        printf '%-14s %10d %10s %8s  no budget: run.sh --update --only %s\n' "$name" "$counted" - - "$name"
        failed=1
        continue
    fi
    change=$(((counted - budget) * 1000 / budget))
    verdict=
    if [ $((counted * 1000)) -gt $((budget * (1000 + tolerance))) ]; then
        verdict="GREW by more than 3 %"
        failed=1
    elif [ "$change" -lt -$tolerance ]; then
        verdict="better: lower the budget with --update --only $name"
    fi
    awk -v n="$name" -v c="$counted" -v b="$budget" -v v="$verdict" 'BEGIN { printf "%-14s %10d %10d %+7.1f%%  %s\n", n, c, b, 100 * (c - b) / b, v }'
done <"$measured"
exit $failed
