#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# rust.sh OUT.o SHIM.o...: compiles the driver for the kernel and links what
# the C shims reach of it into one relocatable object. Used by kmod.sh, and on
# FreeBSD by sys/Makefile.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

out=$1
shift
choose_arch
choose_sanitizer
find_rust || die "no Rust toolchain that can build for the kernel: see make setup"
find_llvm || die "no LLVM linker and tools: see make setup"

# The kernel is not position independent; calls and data of other modules are
# within reach of a direct relocation, which is all its loader knows on amd64.
flags='-Cforce-frame-pointers=yes -Zemit-stack-sizes'
case $arch in
amd64)	flags="$flags -Crelocation-model=static -Ccode-model=kernel \
	    -Cno-redzone=yes -Zdirect-access-external-data=yes -Zplt=yes" ;;
# x18 holds the address of the CPU's own data.
aarch64) flags="$flags -Crelocation-model=pic -Zfixed-x18 \
	    -Zbranch-protection=bti,pac-ret" ;;
esac
[ "$sanitize" != address ] ||
	flags="$flags -Zsanitizer=kernel-address --cfg bpfrs_sanitizer_control \
	    -Cllvm-args=-asan-mapping-offset=$shadow \
	    -Cllvm-args=-asan-instrumentation-with-call-threshold=0"

# cargo splits this variable at 0x1f only, so paths may hold blanks. The maps
# keep this machine's paths out of the module.
us=$(printf '\037')
CARGO_ENCODED_RUSTFLAGS=$(printf '%s' "$flags" | tr -s ' \t' "$us$us")
for map in "$root=." "${CARGO_HOME:-$HOME/.cargo}=cargo" \
    "$sysroot/lib/rustlib/src/rust=rust"; do
	CARGO_ENCODED_RUSTFLAGS=$CARGO_ENCODED_RUSTFLAGS$us--remap-path-prefix=$map
done
export CARGO_ENCODED_RUSTFLAGS
# Allows the -Z flags on a stable compiler.
export RUSTC_BOOTSTRAP=1
export RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir/kmod-cargo${sanitize:+-$sanitize}"

# shellcheck disable=SC2086
(cd "$root" && "$cargo" rustc ${V:---quiet} --package bpfrs --lib --release \
    --features kernel --crate-type staticlib --target "$rust_target" \
    $build_std) || die "the driver does not compile for $arch"

# The memory functions are the kernel's own, which know the CPU: those of
# Rust's compiler_builtins are hidden from the driver, and dropped below.
"$objcopy" --localize-symbol=memcpy --localize-symbol=memmove \
    --localize-symbol=memset --localize-symbol=memcmp --localize-symbol=bcmp \
    "$CARGO_TARGET_DIR/$rust_target/release/libbpfrs.a" "$out.a" ||
    die "cannot read the driver's library"

# What the shims miss is where the driver is entered; only what can be reached
# from there stays.
entries=$("$nm" -u -P "$@" |
    sed -n 's/^\(bpfrs_rs_[^ ]*\).*/--undefined=\1/p' | sort -u)
# shellcheck disable=SC2086
"$lld" -m "$emulation" $pads -r --gc-sections $entries -o "$out" "$out.a" ||
    die "the driver does not link"
rm "$out.a"

# The kernel's own memory functions are not instrumented; these look at the
# shadow first.
if [ "$sanitize" = address ]; then
	set --
	for function in memcpy memmove memset memcmp; do
		set -- "$@" "--redefine-sym=$function=kasan_$function"
	done
	"$objcopy" "$@" "$out" || die "cannot name the kernel's memory functions"
fi
