#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# vm.sh test|race|net|diff|bench [OPTION...]: runs the tests that need a FreeBSD guest. What
# they need beyond the runner's own build is asked for only if there is a guest.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet cargo cc
if [ -e "${BPFRS_GUEST:-$HOME/.cache/bpfrs/guest}" ]; then
	"$root/sys/build/setup.sh" --quiet clang llvm ck headers rust vm
fi
cd "$root"
# What cannot be listed is told below.
case $(cargo run --quiet --package bpfrs-vm-tests -- list 2>/dev/null) in
*' aarch64, '*) "$root/sys/build/setup.sh" --quiet vm-arm64 ;;
esac
exec cargo run --quiet --package bpfrs-vm-tests -- "$@"
