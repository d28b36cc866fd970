#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# bench.sh [LAYOUTS]: what filters and the append cost, against libpcap, NetBSD's
# bpfjit and code written by hand. The same program is linked LAYOUTS times (5 if not
# given), its functions in another order each time, and these take turns. Results
# stand in target/bench: results.json, filters.svg.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

layouts=${1:-5}
"$root/sys/build/setup.sh" --quiet cargo cc pcap llvm
find_llvm
cd "$root"
out=$target_dir/bench
mkdir -p "$out"
# rustc asks the C compiler for ld.lld, by this name.
ln -sf "$lld" "$out/ld.lld"

build() {
	CARGO_TARGET_DIR=$target_dir cargo rustc --quiet --profile measure --package bpfrs-bench \
	    --bin bpfrs-bench -- -Clink-arg=-fuse-ld=lld "-Clink-arg=-B$out" "$@"
}
set --
number=0
while [ "$number" -lt "$layouts" ]; do
	number=$((number + 1))
	build "-Clink-arg=-Wl,--shuffle-sections=*=$number"
	cp "$target_dir/measure/bpfrs-bench" "$out/layout-$number"
	set -- "$@" "$out/layout-$number"
done
exec "$out/layout-1" run --out "$out" "$@"
