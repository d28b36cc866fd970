#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# kmod.sh [bpfrs|bpfrs_tap|bpfrs_shifted|bpfrs_tap_shifted|legacy|producer]: builds that
# kernel module (common.sh says for what):
#   bpfrs      the Rust driver and its C shims
#   bpfrs_tap  sys/tap, plain C: what the kernel calls, and stays
#   legacy     vm-tests/legacy, plain C: the positive control of the VM tests
#   producer   vm-tests/producer, plain C: packets of its own, for these tests
#   *_shifted  with a struct ifnet that is no kernel's, which bpfrs_tap must notice
# On FreeBSD for itself with bsd.kmod.mk (sys/Makefile), elsewhere the same way
# with clang and lld.
# Output: NAME.ko, to be loaded, and NAME.ko.full with debug lines and stack
# sizes, in target/kmod/freebsdN-ARCH or in the directory named by OUT.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

name=${1:-bpfrs}
exports=/dev/null shifted=
case $name in *_shifted) shifted=-DBPFRS_SHIFTED_IFNET ;; esac
case $name in
bpfrs|bpfrs_shifted)
	exports=$root/sys/exports
	set -- "$root"/sys/*.c "$root"/sys/kpi/*.c; needs='clang llvm ck headers rust' ;;
bpfrs_tap|bpfrs_tap_shifted)
	exports=$root/sys/tap/exports
	set -- "$root"/sys/tap/*.c; needs='clang llvm ck headers' ;;
legacy|producer)
	set -- "$root/vm-tests/$name"/*.c; needs='clang llvm ck headers' ;;
*)	die "no module is called $name: bpfrs, bpfrs_tap, either with _shifted, legacy or producer" ;;
esac
[ -f "$1" ] || die "no C files for $name: $1"

choose_arch
choose_release
choose_sanitizer
choose_outdir
start=$(date +%s)

# finish: moves what was made in $work to where it belongs.
finish() {
	chmod 644 "$work/$name.ko" "$work/$name.ko.full"
	mv -f "$work/$name.ko.full" "$work/$name.ko" "$outdir/"
	echo "$outdir/$name.ko: FreeBSD $release $arch ($osversion)${sanitize:+, $sanitize}," \
	    "$(wc -c <"$outdir/$name.ko") bytes, $(($(date +%s) - start)) s"
}

if [ "$(uname -s)" = FreeBSD ] && [ -z "${FREEBSD:-}" ] && [ "$arch" = "$(uname -p)" ] &&
    [ -z "$sanitize" ]; then
	[ "${name%_shifted}" != bpfrs ] || "$root/sys/build/setup.sh" --quiet rust
	make_workdir "$outdir"
	MAKEOBJDIR=$work make -C "$root/sys" KMOD="$name" DEBUG_FLAGS=-g all >&2 ||
	    die "$name.ko does not build with bsd.kmod.mk"
	finish
	exit 0
fi
# shellcheck disable=SC2086
"$root/sys/build/setup.sh" --quiet $needs
find_clang
find_llvm
make_workdir "$outdir"

# --- C ----------------------------------------------------------------------

freebsd_cflags "$work/include" "$work/flags"
{
	# bsd.kmod.mk's and kern.mk's, in their order: code, then warnings.
	printf '%s\n' -c -O2 -g -fno-common -fno-strict-aliasing -fwrapv \
	    -fno-omit-frame-pointer -fno-asynchronous-unwind-tables \
	    -fstack-size-section -D__printf__=__freebsd_kprintf__ \
	    "-ffile-prefix-map=$root/=" "-ffile-prefix-map=$work/=" \
	    "-ffile-prefix-map=$cache/="
	case $arch in
	amd64)	printf '%s\n' -mcmodel=kernel -mno-red-zone -mno-mmx -mno-sse \
		    -mno-avx -mno-aes -msoft-float -mno-omit-leaf-frame-pointer ;;
	# A branch to what does not begin with a landing pad is a panic where
	# the processor knows them (BTI); others take a pad for a nop.
	aarch64) printf '%s\n' -mgeneral-regs-only -ffixed-x18 -fPIC \
		    -mno-outline-atomics -mbranch-protection=standard ;;
	esac
	# kern.mk's; the controls are mistakes that the kernel must report.
	if [ "$sanitize" = address ]; then
		printf '%s\n' -fsanitize=kernel-address -DSAN_NEEDS_INTERCEPTORS \
		    -DSAN_INTERCEPTOR_PREFIX=kasan -DBPFRS_SANITIZER_CONTROL
		for option in stack=true instrument-dynamic-allocas=true globals=true \
		    use-after-scope=true instrumentation-with-call-threshold=0 \
		    instrument-byval=false use-stack-safety=0 "mapping-offset=$shadow"; do
			printf '%s\n' -mllvm "-asan-$option"
		done
	fi
	printf '%s\n' -Wall -Wextra -Werror -Wredundant-decls -Wnested-externs \
	    -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	    -Wcast-qual -Wundef -Wno-pointer-sign ${shifted:+"$shifted"}
} >>"$work/flags"

# Flags are one per line: they may hold blanks.
cc() (
	IFS='
'
	set -f
	# shellcheck disable=SC2046
	exec "$clang" $(cat "$work/flags") "$@"
)
broken=
for c in "$@"; do
	cc -o "$work/$(basename "$c" .c).o" "$c" || broken="$broken ${c#"$root/"}"
done
[ -z "$broken" ] || die "does not compile for FreeBSD $release $arch:$broken"

# --- Rust -------------------------------------------------------------------

if [ "${name%_shifted}" = bpfrs ]; then
	"$root/sys/build/rust.sh" "$work/rust.ro" "$work"/*.o
	mv "$work/rust.ro" "$work/rust.o"
fi

# --- Link -------------------------------------------------------------------

link() {
	# shellcheck disable=SC2086
	"$lld" -m "$emulation" $pads "$@" || die "$name.ko does not link"
}
link -r -T "$root/sys/build/kmod.lds" -o "$work/$name.kld" "$work"/*.o

# Nothing is exported but what the list says: as kmod_syms.awk does. The
# dash stands for no symbol: an empty list would make objcopy keep them all.
{ echo -; sed 's/#.*//; /^[[:space:]]*$/d' "$exports"; } >"$work/exports"
"$objcopy" --keep-global-symbols="$work/exports" "$work/$name.kld"

case $arch in
amd64)	mv "$work/$name.kld" "$work/$name.ko.full" ;;
# All but amd64 load shared objects.
*)	link -shared -Bsymbolic -z notext -z norelro --hash-style=sysv \
	    --build-id=none -o "$work/$name.ko.full" "$work/$name.kld" ;;
esac
"$objcopy" --strip-debug --remove-section=.stack_sizes \
    --remove-section=.comment "$work/$name.ko.full" "$work/$name.ko"

finish
