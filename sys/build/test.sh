#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# test.sh [lint]: every check that this project has, or only those that read
# the source; one line for each, its whole log in target/ci. Exit code 77 of a check
# means: skipped. Each brings what it needs: none relies on one before it.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=sys/build/stages.sh
. "$(dirname "$0")/stages.sh"

case $# in
0)	;;
*)	[ "$*" = lint ] || die 'test.sh [lint]' ;;
esac

logs=$target_dir/ci
mkdir -p "$logs"
cd "$root"
# What is checked does not depend on what the caller builds just now.
unset FREEBSD ARCH SYSDIR KERNBUILDDIR SANITIZE OUT
export CARGO_TERM_COLOR=never

passed=0 failed=0 skipped=''
# stage NAME COMMAND...
stage() {
	run "$@"
	case $rc in
	0)	verdict=ok passed=$((passed + 1)) ;;
	77)	verdict=SKIPPED skipped="$skipped$name: $(tail -n 1 "$log")
" ;;
	*)	verdict=FAILED failed=$((failed + 1)) ;;
	esac
	printf '%-24s %-8s %4d s' "$name" "$verdict" "$seconds"
	# What a test runner counted.
	[ "$verdict" != ok ] || awk '/^ *Summary \[/ || /^test result:/ {
		for (i = 2; i <= NF; i++)
			if ($i ~ /^passed/) n += $(i - 1)
	} END { if (n) printf "   %d tests", n }' "$log"
	echo
	[ "$verdict" != FAILED ] || fault "$log"
}
needs() { sys/build/setup.sh --quiet "$@"; }

format() {
	needs rustfmt || return
	for manifest in Cargo.toml vm-tests/guest/Cargo.toml fuzz/Cargo.toml; do
		cargo fmt --all --check --manifest-path "$manifest" -- --color never || return
	done
}
shell() {
	needs shellcheck &&
	    shellcheck -x .ci/run sys/build/*.sh vm-tests/guest/*.sh
}
# The same source makes two bodies: for the host's tests and for the kernel.
clippy_host() { needs clippy cc pcap && cargo clippy --workspace --all-targets -- -D warnings; }
clippy_kernel() { needs clippy cc && cargo clippy -p bpfrs --lib --features kernel -- -D warnings; }
# The guest's program is built for FreeBSD, in a workspace of its own.
clippy_guest() {
	needs kernel-clippy llvm cc &&
	    CARGO_TARGET_DIR=$target_dir vm-tests/guest/build.sh clippy
}
# Nobody uses this as a library: the documentation is for those who work on it.
rustdoc() {
	needs cargo cc pcap &&
	    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
	    cargo doc --workspace --no-deps --document-private-items
}
# The filter machine stands alone: what would be published builds by itself.
package() {
	needs cargo cc && cmp LICENSE src/filter/LICENSE &&
	    cargo package --package bpfrs-filter --allow-dirty
}
kmod() {
	FREEBSD=$1 ARCH=$2 sys/build/kmod.sh bpfrs_tap &&
	    FREEBSD=$1 ARCH=$2 sys/build/kmod.sh bpfrs &&
	    FREEBSD=$1 ARCH=$2 sys/build/check-ko.sh
}
tests() {
	needs cargo cc pcap || return
	if command -v cargo-nextest >/dev/null; then
		cargo nextest run --workspace --no-fail-fast &&
		    cargo test --workspace --doc
	else
		cargo test --workspace --no-fail-fast
	fi
}

stage rustfmt format
stage shellcheck shell
stage 'clippy host' clippy_host
stage 'clippy kernel' clippy_kernel
stage 'clippy guest' clippy_guest
stage rustdoc rustdoc
stage 'filter crate' package
if [ "${1:-}" != lint ]; then
	stage 'bindings' sys/build/bindings.sh --check
	stage 'kmod 15 amd64' kmod 15 amd64
	stage 'kmod 14 amd64' kmod 14 amd64
	stage 'kmod 15 aarch64' kmod 15 aarch64
	stage 'kmod 14 aarch64' kmod 14 aarch64
	stage 'unit tests' tests
	stage 'loom' sys/build/loom.sh
	stage 'shuttle' sys/build/shuttle.sh
	# Some of each kind; make controls tries all.
	stage 'negative controls' sys/build/controls.sh 3 13 22 28
	# Loads and unloads a hundred times; make vm-test does it a thousand times.
	stage 'vm tests' sys/build/vm.sh test --loads 100
fi

# The counts are the last line.
printf '%s' "$skipped" | fold -s -w 98
echo "$passed passed, $failed failed, $(printf '%s' "$skipped" | grep -c .) skipped"
[ "$failed" -eq 0 ]
