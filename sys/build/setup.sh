#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# setup.sh [--quiet] [THING...]: makes sure that these things are there; without
# arguments all but what only the tests in a guest need (vm). On Debian as root
# it installs what is missing; elsewhere it names it and fails. What is there
# already, from wherever, is left alone.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

quiet=
[ "${1:-}" != --quiet ] || { quiet=yes; shift; }
[ $# -gt 0 ] || set -- clang llvm ck headers rust cargo cc pcap libclang make shellcheck
choose_arch

# Debian 12 has a current Rust under the names of its own browsers' build.
web() {
	if apt-cache show rustc-web >/dev/null 2>&1; then
		echo "$1"
	else
		echo "$2"
	fi
}

# have THING: sets what it is and the Debian package, and looks for it.
have() {
	case $1 in
	clang)	what='clang 19 or newer' package=clang-19
		find_clang ;;
	llvm)	what='ld.lld, llvm-nm and llvm-objcopy' package='lld-19 llvm-19'
		find_llvm ;;
	ck)	what="Concurrency Kit's headers (ck_epoch.h)" package=libck-dev
		[ -n "${SYSDIR:-}" ] || find_ck ;;
	headers) what='python3 with pip, and unzip, for the FreeBSD headers'
		package='python3-pip unzip'
		[ -n "${SYSDIR:-}" ] || { find_pip && command -v unzip; } ;;
	rust)	what="Rust 1.$rust_minor or newer with its library sources (rustup component add rust-src)"
		# With clippy: it checks the guest's program, which has a core of its own.
		package=$(web 'rustc-web cargo-web rust-web-src rust-web-clippy' 'rustc cargo rust-src rust-clippy')
		find_rust ;;
	cargo)	what='cargo with clippy and rustfmt'
		package=$(web 'cargo-web rust-web-clippy rustfmt-web' 'cargo rust-clippy rustfmt')
		cargo clippy --version && cargo fmt --version ;;
	make|shellcheck) what=$1 package=$1
		command -v "$1" ;;
	cc)	what='a C compiler for the host' package='gcc libc6-dev'
		command -v cc ;;
	address|thread)
		what="Rust with the $1 sanitizer (rustup component add rust-src)"
		package="$(web 'rustc-web cargo-web rust-web-src' 'rustc cargo rust-src') clang-19 libclang-rt-19-dev"
		find_sanitizer "$1" ;;
	pcap)	what="libpcap's library and headers" package=libpcap-dev
		printf 'int main(void) { return 0; }' | cc -x c -o /dev/null - -lpcap ;;
	cxx)	what='a C++ compiler for the host' package=g++
		command -v c++ ;;
	vm)	what='QEMU (or bhyve) and makefs' package='qemu-system-x86 makefs'
		first_command qemu-system-x86_64 bhyve && command -v makefs ;;
	libclang) what='libclang 19 or newer' package=libclang-19-dev
		find_libclang ;;
	*)	die "setup.sh: unknown thing $1" ;;
	esac >/dev/null 2>&1
}

missing='' packages=''
for thing in "$@"; do
	have "$thing" && continue
	case $thing in
	clang)	[ -z "${CLANG:-}" ] || die "CLANG=$CLANG is not $what" ;;
	rust)	[ -z "${RUSTC:-}" ] || die "RUSTC=$RUSTC is not $what" ;;
	esac
	missing="$missing${missing:+; }$what"
	packages="$packages $package"
done
if [ -z "$missing" ]; then
	[ -n "$quiet" ] || echo "Everything is there."
	exit 0
fi

[ -f /etc/debian_version ] || die "missing: $missing"
[ "$(id -u)" = 0 ] || die "missing: $missing (as root: apt-get install$packages)"
echo "Installing$packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
{ apt-get update && apt-get install -y --no-install-recommends $packages; } \
    >"$log" 2>&1 || die "apt-get install$packages: $(sed -n '/^E:/{p;q;}' "$log")"
for thing in "$@"; do
	have "$thing" || die "installed$packages, but still missing: $what"
done
