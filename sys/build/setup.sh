#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# setup.sh [--quiet] [THING...]: makes sure that these things are there; without
# arguments all that make demo, kmod, check-ko and test need. On Debian as root it
# installs what is missing; elsewhere it names it and fails. What is there already,
# from wherever, is left alone.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

quiet=
[ "${1:-}" != --quiet ] || { quiet=yes; shift; }
[ $# -gt 0 ] || set -- clang llvm ck headers rust kernel-clippy cargo clippy rustfmt cc pcap \
    libclang make shellcheck
choose_arch
choose_sanitizer

# Debian 12 has a current Rust under the names of its own browsers' build. (A machine
# that never fetched a list of packages knows neither.)
web() {
	if apt-cache show rustc-web >/dev/null 2>&1 || ! apt-cache show rustc >/dev/null 2>&1; then
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
		package="$(web 'rustc-web cargo-web rust-web-src' 'rustc cargo rust-src') ca-certificates"
		find_rust ;;
	# The guest's program has a core of its own, and its compiler need not be the host's.
	kernel-clippy)
		what='clippy of the Rust that has library sources (rustup component add rust-src clippy)'
		package=$(web 'rust-web-src rust-web-clippy' 'rust-src rust-clippy')
		find_rust && [ -x "${rustc%/*}/clippy-driver" ] ;;
	cargo)	what=cargo package="$(web cargo-web cargo) ca-certificates"
		cargo --version ;;
	clippy)	what='cargo clippy' package="$(web 'cargo-web rust-web-clippy' 'cargo rust-clippy') ca-certificates"
		cargo clippy --version ;;
	rustfmt) what='cargo fmt' package=$(web 'cargo-web rustfmt-web' 'cargo rustfmt')
		cargo fmt --version ;;
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
	mmdebstrap) what=mmdebstrap package=mmdebstrap
		command -v mmdebstrap ;;
	vm-arm64) what='QEMU for arm64 and its UEFI firmware'
		package='qemu-system-arm qemu-efi-aarch64'
		command -v qemu-system-aarch64 && {
			[ -e /usr/share/qemu-efi-aarch64/QEMU_EFI.fd ] ||
			    [ -e /usr/local/share/edk2-qemu/QEMU_UEFI-aarch64.fd ]
		} ;;
	libclang) what='libclang 19 or newer' package=libclang-19-dev
		find_libclang ;;
	*)	die "setup.sh: unknown thing $1" ;;
	esac >/dev/null 2>&1
}

# look THING...: sets missing, a list to be read, and packages that bring it.
look() {
	missing='' packages=''
	for thing in "$@"; do
		have "$thing" && continue
		case $thing in
		clang)	[ -z "${CLANG:-}" ] || die "CLANG=$CLANG is not $what" ;;
		rust)	[ -z "${RUSTC:-}" ] || die "RUSTC=$RUSTC is not $what" ;;
		esac
		missing="$missing${missing:+; }$what"
		for name in $package; do
			case " $packages " in *" $name "*) ;; *) packages="$packages $name" ;; esac
		done
	done
}

look "$@"
if [ -z "$missing" ]; then
	[ -n "$quiet" ] || echo "Everything is there."
	exit 0
fi

[ -f /etc/debian_version ] || die "missing: $missing"
[ "$(id -u)" = 0 ] || die "missing: $missing (as root: apt-get install$packages)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# apt COMMAND...: what it says only if it fails.
apt() {
	"$@" >"$log" 2>&1 || die "$*: $(grep -E '^(E|dpkg):' "$log" | head -n 1)"
}
# An installation may have been interrupted.
apt dpkg --configure -a
apt apt-get update
# Which of two names a package has can be asked only now.
look "$@"
echo "Installing$packages"
# shellcheck disable=SC2086
apt apt-get install -y --no-install-recommends $packages
look "$@"
[ -z "$missing" ] || die "installed$packages, but still missing: $missing"
