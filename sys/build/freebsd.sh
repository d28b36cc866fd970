#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# freebsd.sh load|unload|install: what is done with bpfrs.ko on FreeBSD.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

[ "$(uname -s)" = FreeBSD ] ||
    die "make $1 is for FreeBSD; copy bpfrs.ko there and: kldload ./bpfrs.ko"
[ "$(id -u)" = 0 ] || die "make $1 needs root"
choose_arch
choose_release
choose_outdir
ko=$outdir/bpfrs.ko
[ "$1" = unload ] || [ -f "$ko" ] || die "there is no $ko: make kmod"
case $1 in
load)	kldload "$ko" ;;
unload)	kldunload bpfrs ;;
install) install -o root -g wheel -m 555 "$ko" /boot/modules/ && kldxref /boot/modules ;;
*)	die "freebsd.sh: load, unload or install" ;;
esac
