#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# asan.sh [SECONDS]: the driver's threads under AddressSanitizer: uses
# of freed memory, which the host's heap leaves to it.
# Each stress test lasts SECONDS (30); they run side by side.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

stress_under address "$@"
