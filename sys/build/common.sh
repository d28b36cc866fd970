# SPDX-License-Identifier: BSD-2-Clause
#
# Sourced by the scripts beside it: finds the repository, the tools and the
# FreeBSD headers for the release and architecture that were asked for.
#
# From the environment (make passes on what stands on its command line):
#   FREEBSD       14 or 15 (default): headers out of the PyPI package ziglang
#   ARCH          amd64 (default) or aarch64
#   SYSDIR        a FreeBSD source tree's sys/ instead of FREEBSD
#   KERNBUILDDIR  with SYSDIR: that kernel's build directory (its opt_*.h)
#   SANITIZE      address: instrumented, for a kernel with KASAN (14 and later)
#   CLANG, RUSTC  the compilers, instead of the first good ones found
# shellcheck shell=sh disable=SC2034

set -eu
# What is not there must not be matched, and locales must not sort.
export LC_ALL=C

die() {
	printf 'bpfrs: %s\n' "$*" >&2
	exit 1
}

# number NAME VALUE: refuses what is none.
number() {
	case $2 in
	''|0*|*[!0-9]*) die "$1=$2 is not a number from 1 on" ;;
	esac
}

case $0 in
*/*)	root=$(cd "$(dirname "$0")/../.." && pwd) ;;
*)	root=$(cd ../.. && pwd) ;;
esac
target_dir=$root/target
# The oldest Rust that will do: 1.$rust_minor.
rust_minor=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' "$root/Cargo.toml")
# cargo draws its progress for who watches; others get a line before it begins.
progress=--quiet
[ ! -t 2 ] || progress=
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/bpfrs

# On FreeBSD the machine itself is what is built for, unless said otherwise.
if [ "$(uname -s)" = FreeBSD ]; then
	: "${ARCH:=$(uname -p)}"
	[ -n "${FREEBSD:-}" ] || : "${SYSDIR:=/usr/src/sys}"
fi

# --- what was asked for -----------------------------------------------------

# Sets arch, machine (FreeBSD's name for the headers), the targets' names, and
# what the linker must be told of landing pads: to refuse objects without.
choose_arch() {
	arch=${ARCH:-amd64} pads=
	case $arch in
	amd64)
		machine=amd64 cpu=x86_64 emulation=elf_x86_64_fbsd
		rust_target=x86_64-unknown-none ;;
	aarch64)
		machine=arm64 cpu=aarch64 emulation=aarch64elf
		pads='-z bti-report=error'
		rust_target=aarch64-unknown-none-softfloat ;;
	*)	die "ARCH=$arch is not known: amd64 or aarch64" ;;
	esac
}

# Sets sanitize, and shadow: what makes the shadow's address of an address that
# is shifted right by 3; sys/conf/kern.mk, and LLVM for amd64.
choose_sanitizer() {
	sanitize=${SANITIZE:-} shadow=
	case $sanitize-$arch in
	-*)	;;
	address-amd64) shadow=0xdffff7c000000000 ;;
	address-aarch64) shadow=0xdfff208000000000 ;;
	*)	die "SANITIZE=$sanitize is not known: address" ;;
	esac
	[ -z "$sanitize" ] || [ -z "${KERNBUILDDIR:-}" ] ||
	    grep -q '^#define[[:space:]]*KASAN[[:space:]]' "$KERNBUILDDIR/opt_global.h" ||
	    die "SANITIZE=$sanitize: KERNBUILDDIR=$KERNBUILDDIR is of a kernel without KASAN"
}

# Sets osversion (__FreeBSD_version), release (its major number), and for
# FREEBSD= the package with the headers and its checksum. The checksum is that
# of one wheel, whatever the host: the headers are the same in all of them.
choose_release() {
	if [ -n "${SYSDIR:-}" ]; then
		for f in sys/param.h conf/newvers.sh tools/vnode_if.awk kern/vnode_if.src; do
			[ -f "$SYSDIR/$f" ] ||
			    die "SYSDIR=$SYSDIR is not a FreeBSD sys tree: it has no $f"
		done
		SYSDIR=$(cd "$SYSDIR" && pwd)
		osversion=$(sed -n \
		    's/^#define[[:space:]]*__FreeBSD_version[[:space:]]*\([0-9]*\).*/\1/p' \
		    "$SYSDIR/sys/param.h")
		[ "${osversion:-0}" -ge 1201000 ] ||
		    die "SYSDIR=$SYSDIR is FreeBSD version ${osversion:-unknown}: 1201000 (12.1) is the oldest supported"
		if [ -n "${KERNBUILDDIR:-}" ]; then
			[ -f "$KERNBUILDDIR/opt_global.h" ] ||
			    die "KERNBUILDDIR=$KERNBUILDDIR is not a kernel build directory: it has no opt_global.h"
			KERNBUILDDIR=$(cd "$KERNBUILDDIR" && pwd)
		fi
	else
		[ -z "${KERNBUILDDIR:-}" ] || die "KERNBUILDDIR needs SYSDIR"
		case ${FREEBSD:-15} in
		14)	osversion=1403000 headers=0.15.2
			sha256=806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130 ;;
		15)	osversion=1500068 headers=0.16.0
			sha256=9fcda73f62b851dd72a54b710ad40a209896db14cfb13649e62191243556342b ;;
		*)	die "FREEBSD=$FREEBSD is not known: 14 or 15 (any release from 12.1 on: SYSDIR=/path/to/its/sys)" ;;
		esac
	fi
	release=$((osversion / 100000))
}

# Sets outdir; relative to where make was started, and not yet created.
choose_outdir() {
	outdir=${OUT:-$target_dir/kmod/freebsd$release-$arch${sanitize:+-$sanitize}}
	case $outdir in /*) ;; *) outdir=$PWD/$outdir ;; esac
	# A mistyped path is not made.
	[ -z "${OUT:-}" ] || [ -d "$(dirname "$outdir")" ] ||
	    die "OUT=$OUT: there is no directory $(dirname "$outdir")"
}

# make_workdir DIR: sets work, a directory in DIR that goes away however this
# script ends, and DIR with it if nothing else came to stand there.
make_workdir() {
	work=$(new_dir "$1" .work)
	fetch=
	trap 'rm -rf "$work" ${fetch:+"$fetch"}; rmdir "${work%/*}" 2>/dev/null || :' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

new_dir() {
	hint=
	case $1 in "$cache"*) hint=' (XDG_CACHE_HOME=dir: where to cache instead)' ;; esac
	mkdir -p "$1" 2>/dev/null || die "cannot create $1$hint"
	mktemp -d "$1/$2.XXXXXX" 2>/dev/null || die "cannot write to $1$hint"
}

# --- tools ------------------------------------------------------------------

# First of the names given that can be run.
first_command() {
	for c in "$@"; do
		command -v "$c" 2>/dev/null && return 0
	done
	return 1
}

find_clang() {
	for c in ${CLANG:-clang-19 clang-20 clang-21 clang-22 clang}; do
		major=$("$c" -dumpversion 2>/dev/null) || continue
		[ "${major%%.*}" -ge 19 ] || continue
		clang=$(command -v "$c")
		return 0
	done
	return 1
}

# The LLVM tools need not match clang's version.
find_llvm() {
	lld=$(first_command ld.lld-19 ld.lld-20 ld.lld-21 ld.lld-22 ld.lld) || return 1
	if [ "$(uname -s)" = FreeBSD ]; then
		nm=nm objcopy=objcopy
		return 0
	fi
	nm=$(first_command llvm-nm-19 llvm-nm-20 llvm-nm-21 llvm-nm-22 llvm-nm) &&
	    objcopy=$(first_command llvm-objcopy-19 llvm-objcopy-20 \
		llvm-objcopy-21 llvm-objcopy-22 llvm-objcopy)
}

# The kernel needs a core compiled for it: a toolchain that has the library
# sources. A core that came compiled does for amd64, since link-time
# optimisation compiles it again with the kernel's code model; on aarch64 it
# would not keep off x18, and a sanitizer must see it, too.
find_rust() {
	for sort in sources compiled; do
		for rustc in ${RUSTC:-rustc /usr/bin/rustc /usr/local/bin/rustc}; do
			rustc=$(command -v "$rustc") || continue
			cargo=$(dirname "$rustc")/cargo
			[ -x "$cargo" ] || continue
			sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
			minor=$("$rustc" --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
			[ "$minor" -ge "$rust_minor" ] 2>/dev/null || continue
			case $sort in
			sources)
				build_std=-Zbuild-std=core
				[ -d "$sysroot/lib/rustlib/src/rust/library/core" ] ;;
			compiled)
				build_std=
				[ "$arch" = amd64 ] && [ -z "${sanitize:-}" ] &&
				    [ -d "$sysroot/lib/rustlib/$rust_target/lib" ] ;;
			esac && return 0
		done
	done
	return 1
}

# explore_with loom|shuttle [FILTER...]: the driver's tests under a model checker.
explore_with() {
	"$root/sys/build/setup.sh" --quiet cargo cc
	cd "$root"
	checker=$1
	shift
	CARGO_TARGET_DIR=$target_dir/$checker
	RUSTFLAGS="${RUSTFLAGS:-} --cfg bpfrs_$checker"
	export CARGO_TARGET_DIR RUSTFLAGS
	# shellcheck disable=SC2086
	exec cargo test $progress --package bpfrs --profile model --test "$checker" -- \
	    --nocapture "$@"
}

# find_sanitizer address|thread: a Rust that can instrument programs of the host.
# Its runtime comes with rustup's toolchain, or with clang. ThreadSanitizer takes
# every lock that it does not see for none: it needs the library's sources, too.
find_sanitizer() {
	sanitized_target=$(uname -m)-unknown-linux-gnu
	runtime=$(printf '%csan' "$1")
	for rustc in ${RUSTC:-rustc /usr/bin/rustc}; do
		rustc=$(command -v "$rustc") || continue
		cargo=$(dirname "$rustc")/cargo
		[ -x "$cargo" ] || continue
		sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
		build_std=
		if [ "$1" = thread ]; then
			[ -d "$sysroot/lib/rustlib/src/rust/library/std" ] || continue
			build_std=-Zbuild-std
		fi
		sanitizer_flags="-Zsanitizer=$1 --cfg bpfrs_sanitizer"
		[ "$1" != thread ] ||
		    sanitizer_flags="$sanitizer_flags -Cunsafe-allow-abi-mismatch=sanitizer"
		for library in "$sysroot/lib/rustlib/$sanitized_target/lib"/librustc-*_rt."$runtime".a; do
			[ ! -e "$library" ] || return 0
		done
		find_clang || continue
		library=$("$clang" --rtlib=compiler-rt -print-libgcc-file-name)
		[ -e "${library%/*}/libclang_rt.$runtime-$(uname -m).a" ] || continue
		sanitizer_flags="$sanitizer_flags -Zexternal-clangrt -Clinker=$clang"
		sanitizer_flags="$sanitizer_flags -Clink-arg=-fsanitize=$1"
		return 0
	done
	return 1
}

# use_sanitizer address|thread: after it, "$cargo" instruments what it builds for
# $sanitized_target.
use_sanitizer() {
	"$root/sys/build/setup.sh" --quiet "$1" cc
	find_sanitizer "$1" || die "no Rust that can instrument for the $1 sanitizer"
	CARGO_TARGET_DIR=$target_dir/$1
	RUSTFLAGS="${RUSTFLAGS:-} $sanitizer_flags"
	RUSTC=$rustc
	# Allows the -Z flags on a stable compiler.
	RUSTC_BOOTSTRAP=1
	# The first report ends a program; a report in a child process fails it.
	TSAN_OPTIONS=halt_on_error=1:${TSAN_OPTIONS:-}
	export CARGO_TARGET_DIR RUSTFLAGS RUSTC RUSTC_BOOTSTRAP TSAN_OPTIONS
}

# stress_under address|thread [SECONDS]: the whole driver on threads, and the tests
# of single calls.
stress_under() {
	number SECONDS "${2:-30}"
	use_sanitizer "$1"
	BPFRS_STRESS_SECONDS=${2:-30}
	RUST_TEST_THREADS=3
	export BPFRS_STRESS_SECONDS RUST_TEST_THREADS
	cd "$root"
	for tests in '--test stress' '--test life --test read --test capture --test poll'; do
		# shellcheck disable=SC2086
		"$cargo" test $build_std --quiet --package bpfrs --profile model \
		    --target "$sanitized_target" $tests -- --show-output || return
		# The others do not last.
		unset BPFRS_STRESS_SECONDS RUST_TEST_THREADS
	done
}

# bindgen's library; its directory, not its name, is what bindgen asks for.
find_libclang() {
	for dir in ${LIBCLANG_PATH:-/usr/lib/llvm-19/lib /usr/lib/llvm-2?/lib}; do
		[ -e "$dir/libclang.so" ] && libclang=$dir && return 0
	done
	return 1
}

find_ck() {
	for ck in ${CKDIR:-/usr/include /usr/local/include}; do
		[ -f "$ck/ck_epoch.h" ] && return 0
	done
	return 1
}

find_pip() {
	for python in python3 /usr/bin/python3; do
		"$python" -m pip --version >/dev/null 2>&1 && return 0
	done
	return 1
}

# --- FreeBSD headers and C flags --------------------------------------------

# Downloads the headers of $release once, keeps only what the build reads.
fetch_headers() {
	include=$cache/ziglang-$headers
	[ ! -d "$include" ] || return 0
	find_pip || die "no python3 with pip: apt-get install python3-pip"
	command -v unzip >/dev/null || die "no unzip: apt-get install unzip"
	fetch=$(new_dir "$cache" .fetch)
	echo "ziglang==$headers --hash=sha256:$sha256" >"$fetch/requirements"
	echo "Fetching FreeBSD $release headers (PyPI: ziglang $headers, 90 MB, once)"
	if ! "$python" -m pip download --quiet --no-deps --require-hashes \
	    --only-binary=:all: --platform manylinux_2_12_x86_64 \
	    --dest "$fetch" --requirement "$fetch/requirements" >"$fetch/log" 2>&1 ||
	    ! unzip -q "$fetch/ziglang-*.whl" \
		'ziglang/lib/libc/include/*-freebsd*/*' -d "$fetch" >>"$fetch/log" 2>&1
	then
		die "cannot fetch the FreeBSD $release headers (PyPI: ziglang $headers):" \
		    "$(grep -v '^[[:space:]]*$' "$fetch/log" | tail -n 1)"
	fi
	mkdir "$fetch/include"
	for d in generic-freebsd x86_64-freebsd-none aarch64-freebsd-none; do
		mv "$fetch/ziglang/lib/libc/include/$d" "$fetch/include/"
	done
	# Another build may have been faster.
	[ -d "$include" ] || mv "$fetch/include" "$include"
	rm -rf "$fetch"
}

# stand_alone_headers DIR: what config(8) and a kernel's own build would have
# generated, as bsd.kmod.mk makes it for a module built without a kernel.
stand_alone_headers() {
	printf '#define\tSMP 1\n#define\tMAC 1\n#define\tVIMAGE 1\n' >"$1/opt_global.h"
	# Its header is not installed for aarch64, where the driver does not use it.
	[ "$arch" != amd64 ] || printf '#define\tCOMPAT_FREEBSD32 1\n' >>"$1/opt_global.h"
	[ "${sanitize:-}" != address ] || printf '#define\tKASAN 1\n' >>"$1/opt_global.h"
	printf '#define\tDEV_BPF 1\n' >"$1/opt_bpf.h"
	printf '#define\tINET 1\n' >"$1/opt_inet.h"
	printf '#define\tINET6 1\n' >"$1/opt_inet6.h"
}

# ck_headers DIR: Concurrency Kit's headers alone, for its directory holds the
# host's C library too. ck_md.h is the one that is configured for a system.
ck_headers() {
	find_ck || die "no Concurrency Kit headers (ck_epoch.h): apt-get install libck-dev"
	ln -s "$ck"/ck_*.h "$ck/gcc" "$1/"
	rm "$1/ck_md.h"
	cat >"$1/ck_md.h" <<-'END'
	#ifndef CK_MD_H
	#define	CK_MD_H
	#define	CK_MD_CACHELINE		64
	#define	CK_MD_PAGESIZE		4096
	#define	CK_MD_RTM_DISABLE
	#define	CK_MD_LSE_DISABLE
	#define	CK_MD_POINTER_PACK_DISABLE
	#define	CK_MD_VMA_BITS_UNKNOWN
	#define	CK_PR_DISABLE_DOUBLE
	#define	CK_MD_CC_BUILTIN_DISABLE 1
	#ifdef __amd64__
	#define	CK_MD_TSO
	#else
	#define	CK_MD_RMO
	#endif
	#endif
	END
}

# freebsd_cflags DIR FILE: makes the generated headers in DIR and writes the
# flags that find the FreeBSD headers to FILE, one per line.
freebsd_cflags() {
	mkdir -p "$1"
	{
		echo "--target=$cpu-unknown-freebsd$release.$((osversion / 1000 % 100))"
		printf '%s\n' -std=gnu11 -D_KERNEL -DKLD_MODULE -nostdinc \
		    -ffreestanding "-I$root/sys"
		if [ -z "${SYSDIR:-}" ]; then
			fetch_headers >&2
			stand_alone_headers "$1"
			ck_headers "$1"
			# Its source is not among installed headers; no
			# shim calls a vnode operation.
			: >"$1/vnode_if.h"
			printf '%s\n' "-D__FreeBSD_version=$osversion" \
			    -include "$1/opt_global.h" -isystem "$1" \
			    -isystem "$include/$cpu-freebsd-none" \
			    -isystem "$include/generic-freebsd"
		else
			ln -s "$SYSDIR/$machine/include" "$1/machine"
			[ "$arch" != amd64 ] || ln -s "$SYSDIR/x86/include" "$1/x86"
			opts=${KERNBUILDDIR:-$1}
			[ -n "${KERNBUILDDIR:-}" ] || stand_alone_headers "$1"
			for opt in -h -p -q; do
				(cd "$1" && awk -f "$SYSDIR/tools/vnode_if.awk" \
				    "$SYSDIR/kern/vnode_if.src" $opt)
			done
			printf '%s\n' -DHAVE_KERNEL_OPTION_HEADERS \
			    -include "$opts/opt_global.h" -isystem "$opts" \
			    -isystem "$1" -isystem "$SYSDIR" \
			    -isystem "$SYSDIR/contrib/ck/include"
		fi
	} >"$2"
}
