#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# controls.sh [NUMBER...]: the negative controls of tools/controls/controls.toml:
# breaks the driver, in a copy, and sees that the checks complain.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet cargo cc
cd "$root"
# shellcheck disable=SC2086
exec cargo run $progress --package bpfrs-controls -- "$@"
