#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# check-ko.sh: checks the bpfrs.ko that kmod.sh built for the same variables.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

choose_arch
choose_release
choose_outdir
[ -f "$outdir/bpfrs.ko" ] || die "there is no $outdir/bpfrs.ko: make kmod"
cd "$root"
exec cargo run --quiet --package bpfrs-check-ko -- "$outdir/bpfrs.ko"
