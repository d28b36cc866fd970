#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# freebsd.sh load|unload|install: what is done with the modules on FreeBSD.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

[ "$(uname -s)" = FreeBSD ] ||
    die "make $1 is for FreeBSD; copy the modules there and: kldload ./bpfrs_tap.ko ./bpfrs.ko"
[ "$(id -u)" = 0 ] || die "make $1 needs root"
choose_arch
choose_release
choose_sanitizer
choose_outdir
tap=$outdir/bpfrs_tap.ko ko=$outdir/bpfrs.ko
for file in "$tap" "$ko"; do
	[ "$1" = unload ] || [ -f "$file" ] || die "there is no $file: make kmod"
done
case $1 in
load)	# The first one stays once it has seen a packet.
	kldstat -q -m bpfrs_tap || kldload "$tap"
	kldload "$ko" ;;
unload)	kldunload bpfrs ;;
install) install -o root -g wheel -m 555 "$tap" "$ko" /boot/modules/ && kldxref /boot/modules ;;
*)	die "freebsd.sh: load, unload or install" ;;
esac
