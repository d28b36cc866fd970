#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# test.sh [lint]: every check that this project has, or only those that read
# the source; one line for each, its whole log in target/ci, and the log on the
# terminal when it fails. Exit code 77 of a check means: skipped.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

logs=$target_dir/ci
mkdir -p "$logs"
cd "$root"
# What is checked does not depend on what the caller builds just now.
unset FREEBSD ARCH SYSDIR KERNBUILDDIR OUT
export CARGO_TERM_COLOR=never

passed=0 failed=0 skipped=0
# stage NAME COMMAND...
stage() {
	name=$1
	shift
	log=$logs/$(printf '%s' "$name" | tr ' ' '-').log
	start=$(date +%s)
	printf '%-24s ' "$name"
	rc=0
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	case $rc in
	0)	verdict=ok passed=$((passed + 1)) ;;
	77)	verdict=SKIPPED skipped=$((skipped + 1)) ;;
	*)	verdict=FAILED failed=$((failed + 1)) ;;
	esac
	printf '%-8s %4d s' "$verdict" $(($(date +%s) - start))
	# What a test runner counted, or why it was skipped.
	case $verdict in
	ok)	awk '/^ *Summary \[/ || /^test result:/ {
			for (i = 2; i <= NF; i++)
				if ($i ~ /^passed/) n += $(i - 1)
		} END { if (n) printf "   %d tests", n }' "$log" ;;
	SKIPPED) printf '   %s' "$(tail -n 1 "$log")" ;;
	esac
	echo
	if [ "$verdict" = FAILED ]; then
		# Without progress.
		grep -Ev '^ *(Compiling|Checking|Documenting|Downloaded|Downloading|Adding|Locking|PASS) ' \
		    "$log" | sed 's/^/    | /'
		echo "    ($log)"
	fi
}

format() {
	cargo fmt --all --check &&
	    cargo fmt --check --manifest-path vm-tests/guest/Cargo.toml &&
	    cargo fmt --check --manifest-path fuzz/Cargo.toml
}
shell() {
	command -v shellcheck || { echo "no shellcheck"; return 77; }
	shellcheck -x .ci/run sys/build/*.sh vm-tests/guest/*.sh
}
# The same source makes two bodies: for the host's tests and for the kernel.
clippy_host() { cargo clippy --workspace --all-targets -- -D warnings; }
clippy_kernel() { cargo clippy -p bpfrs --lib --features kernel -- -D warnings; }
# The guest's program is built for FreeBSD, in a workspace of its own.
clippy_guest() { CARGO_TARGET_DIR=$target_dir vm-tests/guest/build.sh clippy; }
# Nobody uses this as a library: the documentation is for those who work on it.
rustdoc() {
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
	    cargo doc --workspace --no-deps --document-private-items
}
kmod() {
	FREEBSD=$1 ARCH=$2 sys/build/kmod.sh bpfrs_tap &&
	    FREEBSD=$1 ARCH=$2 sys/build/kmod.sh bpfrs &&
	    FREEBSD=$1 ARCH=$2 sys/build/check-ko.sh
}
tests() {
	sys/build/setup.sh --quiet cargo cc pcap || return
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

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
