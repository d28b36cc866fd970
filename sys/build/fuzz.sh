#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# fuzz.sh TARGET [SECONDS | RUNSx]: libFuzzer on one of ops, filter, read, with
# AddressSanitizer, for 60 seconds, or for that many runs (1000000x). New inputs
# stay in target/fuzz; one that fails goes there as crash-*: to keep it as a test,
# give it a name in fuzz/regressions/TARGET.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

target=${1:-}
[ -f "$root/fuzz/fuzz_targets/$target.rs" ] ||
    die 'fuzz.sh TARGET [SECONDS | RUNSx]: TARGET is ops, filter or read'
amount=${2:-60}
case $amount in
*x)	number RUNS "${amount%x}"
	limit=-runs=${amount%x} ;;
*)	number SECONDS "$amount"
	limit=-max_total_time=$amount ;;
esac

"$root/sys/build/setup.sh" --quiet cxx
use_sanitizer address
# Coverage, as libFuzzer wants it. Level 4 would add indirect calls, whose table
# costs more than the runs.
RUSTFLAGS="$RUSTFLAGS --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
CARGO_TARGET_DIR=$target_dir/fuzz
cd "$root"
echo "Building the target $target with AddressSanitizer (the first time some minutes)" >&2
# shellcheck disable=SC2086
"$cargo" build $progress --release --manifest-path fuzz/Cargo.toml \
    --target "$sanitized_target" --bin "$target"

# Leaks are the targets' own business: they count what is left.
# A stack that is used after its function returned is none of safe Rust's faults;
# to look for it, and to note long stacks of each allocation, costs a third.
ASAN_OPTIONS=detect_stack_use_after_return=0:malloc_context_size=4:${ASAN_OPTIONS:-}
export ASAN_OPTIONS

corpus=$target_dir/fuzz/corpus/$target
mkdir -p "$corpus"
exec "$target_dir/fuzz/$sanitized_target/release/$target" "$limit" -max_len=512 -timeout=20 \
    -rss_limit_mb=4096 -print_final_stats=1 -print_funcs=0 -entropic=0 \
    -detect_leaks=0 -artifact_prefix="$target_dir/fuzz/crash-$target-" \
    "$corpus" "fuzz/regressions/$target"
