#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# demo.sh [OPTION...]: builds bpfrs.ko, then shows on this host what revoke(2)
# does to the 2008 pattern and to bpfrs. Options are those of bpfrs-demo.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet clang llvm ck headers rust cargo cc
echo "Building the kernel module (1 of 2)"
"$root/sys/build/kmod.sh" bpfrs
echo "Building the same driver for this host (2 of 2; the first time a minute or two)"
cd "$root"
# shellcheck disable=SC2086
cargo build $progress --package bpfrs-demo
echo "Running the race: some seconds with legacy, 30 with bpfrs"
cargo run --quiet --package bpfrs-demo -- "$@"
echo
guest=${BPFRS_GUEST:-$HOME/.cache/bpfrs/guest}
if [ -e "$guest" ]; then
	echo "The same on a real kernel ($guest): make vm-race"
else
	echo "The same on a real kernel: make vm-race, which says how to get a FreeBSD image"
fi
