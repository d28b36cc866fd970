#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# bindings.sh [--check]: generates sys/src/bindings.rs, or fails if it is not
# what would be generated. In both cases the bindings must be the same for
# every release and architecture whose headers can be had (and for SYSDIR).

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet cargo cc libclang ck headers
find_libclang
make_workdir "$target_dir/bindings"

# flags_for NAME: the flags of what FREEBSD, ARCH and SYSDIR say.
flags_for() {
	choose_arch
	choose_release
	freebsd_cflags "$work/$1" "$work/$1.flags"
}
[ -z "${SYSDIR:-}" ] || flags_for "SYSDIR-${ARCH:-amd64}"
unset SYSDIR KERNBUILDDIR
for FREEBSD in 15 14; do
	for ARCH in amd64 aarch64; do
		flags_for "freebsd$FREEBSD-$ARCH"
	done
done

cd "$root"
LIBCLANG_PATH=$libclang cargo run --quiet --package bpfrs-bindings -- "$@" \
    --header sys/kpi.h --allow sys/bindings.allow \
    --output sys/src/bindings.rs "$work"/*.flags
