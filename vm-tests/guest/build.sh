#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds the guest program for ARCH, amd64 (default) or aarch64; prints its path as the last line.
# build.sh clippy checks it instead (exit status 77: the toolchain has no clippy).
#
# It needs a Rust toolchain with its library sources: the program brings its own core and its own
# memcpy, since the ready-made ones expect FreeBSD's libc.
set -eu
cd "$(dirname "$0")"
fail() { echo "vm-tests/guest/build.sh: $*" >&2; exit 1; }
case ${ARCH:-amd64} in
amd64) target=x86_64-unknown-freebsd ;;
aarch64) target=aarch64-unknown-freebsd ;;
*) fail "ARCH=$ARCH is not known: amd64 or aarch64" ;;
esac

lld=
for name in ld.lld ld.lld-22 ld.lld-21 ld.lld-20 ld.lld-19 ld.lld-18 ld.lld-17 ld.lld-16; do
    if command -v "$name" >/dev/null; then lld=$name; break; fi
done
[ -n "$lld" ] || fail "no ld.lld found; on Debian: apt-get install lld"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../target}/guest"
export CARGO_BUILD_TARGET="$target"
export CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER="$lld"
export CARGO_TARGET_AARCH64_UNKNOWN_FREEBSD_LINKER="$lld"

has_sources() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core" ]; }

# Building core is an unstable option of cargo, so a stable one must be told to allow it.
with_core() {
    command=$1
    shift
    RUSTC_BOOTSTRAP=1 "$cargo" "$command" --release -Zbuild-std=core,alloc \
        -Zbuild-std-features=compiler-builtins-mem "$@" >&2
}

for bin in "${RUSTC:-rustc}" /usr/bin/rustc; do
    if ! command -v "$bin" >/dev/null || ! has_sources "$bin"; then continue; fi
    cargo=cargo
    if [ "$bin" = /usr/bin/rustc ] && [ -x /usr/bin/cargo ]; then
        cargo=/usr/bin/cargo
        # Or cargo would take rustup's clippy for another rustc.
        PATH=/usr/bin:$PATH
    fi
    export RUSTC="$bin"
    if [ "${1:-}" = clippy ]; then
        [ -x "$(dirname "$(command -v "$bin")")/clippy-driver" ] || { echo "no clippy for $bin"; exit 77; }
        with_core clippy -- -D warnings
    else
        with_core build
        echo "$(cd "$CARGO_TARGET_DIR" && pwd)/$target/release/bpfrs-guest"
    fi
    exit 0
done
fail "no Rust toolchain with library sources: 'rustup component add rust-src', or on Debian: apt-get install rustc-web cargo-web rust-web-src"
