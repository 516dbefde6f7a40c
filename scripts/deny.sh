#!/usr/bin/env bash
# Licences, bans and sources of the dependency tree (deny.toml). Uses cargo-deny where it is installed; elsewhere it checks the two
# rules that protect the design with cargo alone: every licence is on the list, and no data-plane crate pulls in the runtime.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v cargo-deny >/dev/null; then
    cargo deny --workspace check bans licenses sources
    # The advisory database is fetched; a machine without it still has the other three.
    cargo deny --workspace check advisories 2>&1 | tail -n 20 || printf 'deny: advisories were not checked or found something, see above\n'
    exit 0
fi

allowed=$(sed -n '/^allow = \[/,/^\]/s/^ *"\(.*\)",*$/\1/p' deny.toml)
on_list() { printf '%s\n' "$allowed" | grep -qxF "$1"; }

# "A OR B": one of them is enough. "A AND B": each is needed.
acceptable() {
    local expression part option found
    expression=$(printf '%s' "$1" | tr -d '()' | sed 's| */ *| OR |g')
    while IFS= read -r part; do
        found=
        while IFS= read -r option; do
            on_list "$option" && found=1
        done < <(printf '%s\n' "$part" | sed 's/ OR /\n/g')
        [ -n "$found" ] || return 1
    done < <(printf '%s\n' "$expression" | sed 's/ AND /\n/g')
}

bad=0
while IFS='|' read -r name licence; do
    [ -n "$licence" ] || { printf 'deny: %s has no licence\n' "$name" >&2; bad=1; continue; }
    acceptable "$licence" || { printf 'deny: %s: licence %s is not on the list of deny.toml\n' "$name" "$licence" >&2; bad=1; }
done < <(cargo tree --workspace --edges normal,build --prefix none --format '{p}|{l}' | sed 's/ (\*)$//' | grep '|' | sort -u)

for crate in reactor volume iscsi_proto scsi iscsi_target nvme nvme_emulated nvme_pci vfio; do
    if cargo tree --package "$crate" --edges normal --prefix none | grep -E '^(tokio|axum|hyper|tower|reqwest|openssl)[ -]'; then
        printf 'deny: %s pulls in the crates above\n' "$crate" >&2
        bad=1
    fi
done

if grep -n '^source = ' Cargo.lock | grep -v '"registry+' >&2; then
    printf 'deny: a source that is no registry\n' >&2
    bad=1
fi
[ "$bad" = 0 ] && printf 'deny: licences, bans and sources are as deny.toml wants them\n'
exit "$bad"
