#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# bench.sh [LAYOUTS]: what filters and the append cost, against libpcap, NetBSD's
# bpfjit and code written by hand. The same program is linked LAYOUTS times (5 if not
# given), its functions in another order each time, and these take turns. Results
# stand in target/bench: results.json, with what each filter is and where this ran, and
# filters.svg.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

layouts=${1:-5}
number LAYOUTS "$layouts"
"$root/sys/build/setup.sh" --quiet cargo cc pcap llvm
find_llvm
cd "$root"
out=$target_dir/bench
mkdir -p "$out"
# rustc asks the C compiler for ld.lld, by this name.
ln -sf "$lld" "$out/ld.lld"

build() {
	# shellcheck disable=SC2086
	CARGO_TARGET_DIR=$target_dir cargo rustc $progress --profile measure --package bpfrs-bench \
	    --bin bpfrs-bench -- -Clink-arg=-fuse-ld=lld "-Clink-arg=-B$out" "$@"
}
set --
n=0
while [ "$n" -lt "$layouts" ]; do
	n=$((n + 1))
	echo "Building layout $n of $layouts" >&2
	build "-Clink-arg=-Wl,--shuffle-sections=*=$n"
	cp "$target_dir/measure/bpfrs-bench" "$out/layout-$n"
	set -- "$@" "$out/layout-$n"
done
exec "$out/layout-1" run --out "$out" --date "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$@"
