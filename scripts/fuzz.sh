#!/usr/bin/env bash
# Runs fuzzers one after the other, each for so many minutes, and prints what came of it:
#   scripts/fuzz.sh [MINUTES [TARGET…]]        FUZZ_SANITIZER=address: also for faults of memory, at half the speed
# A finding stays in fuzz/artifacts, and the exit code is 1. New inputs go to fuzz/grown, where the next run begins.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_FUZZ_VERSION=0.13.2
MINUTES=${1:-30}
[ $# -eq 0 ] || shift
SANITIZER=${FUZZ_SANITIZER:-none}

# The stable compiler has what instruments, but for nightly alone unless it is told so.
export RUSTC_BOOTSTRAP=1
export PATH="$PWD/.tools/cargo-fuzz/bin:$PATH"
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.runtime/libonnxruntime.so}

if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $CARGO_FUZZ_VERSION" ]; then
    echo "fuzz: installing cargo-fuzz $CARGO_FUZZ_VERSION into .tools" >&2
    cargo install cargo-fuzz --locked --quiet --version "$CARGO_FUZZ_VERSION" --root .tools/cargo-fuzz
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz/corpus && ls)
for target in "${targets[@]}"; do
    cargo fuzz build --sanitizer "$SANITIZER" "$target" >&2
done

# What targets write is short-lived: in memory, where there is such a folder, and gone at the end.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch

found=0
printf '%-14s %12s %10s %10s %8s  %s\n' target executions edges new inputs findings
for target in "${targets[@]}"; do
    log=$scratch/log
    mkdir -p "fuzz/grown/$target" "fuzz/artifacts/$target"
    before=$(find "fuzz/artifacts/$target" -type f | wc -l)
    # Not longer than a photo of some pixels or a small archive: what is wrong shows in little.
    nice -n 10 cargo fuzz run --sanitizer "$SANITIZER" "$target" "fuzz/grown/$target" "fuzz/corpus/$target" -- \
        -max_total_time=$((MINUTES * 60)) -max_len=32768 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        >"$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    at_first=$(sed -n 's/.*INITED cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    at_last=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    inputs=$(sed -n 's/^stat::new_units_added: *//p' "$log")
    findings=$(($(find "fuzz/artifacts/$target" -type f | wc -l) - before))
    # A run that did not come to its end is a finding, whatever it left.
    if [ $findings -gt 0 ] || [ -z "$executions" ]; then
        found=1
        tail -n 40 "$log" >&2
    fi
    printf '%-14s %12s %10s %10s %8s  %s\n' "$target" "${executions:-?}" "${at_last:-?}" \
        "$((${at_last:-0} - ${at_first:-0}))" "${inputs:-?}" "$findings"
done
exit $found
