#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# check-ko.sh: checks the modules that kmod.sh built for the same variables.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

choose_arch
choose_release
choose_sanitizer
choose_outdir
for name in bpfrs_tap bpfrs; do
	[ -f "$outdir/$name.ko" ] || die "there is no $outdir/$name.ko: make kmod"
done
cd "$root"
# The headers that the modules were built with.
if [ -n "${SYSDIR:-}" ]; then
	set -- --include "$SYSDIR"
else
	fetch_headers
	set -- --include "$include/$cpu-freebsd-none" --include "$include/generic-freebsd"
fi
"$root/sys/build/setup.sh" --quiet cargo cc
[ -z "$sanitize" ] || set -- "$@" --sanitizer "sys/symbols-$sanitize.txt"
check() { cargo run --quiet --package bpfrs-check-ko -- "$@"; }
good=0
check "$@" --symbols sys/tap/symbols --exports sys/tap/exports "$outdir/bpfrs_tap.ko" || good=1
check "$@" --symbols sys/symbols --exports sys/exports --provided sys/tap/exports \
    "$outdir/bpfrs.ko" || good=1
exit $good
