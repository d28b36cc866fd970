#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# tsan.sh [SECONDS]: the driver's threads under ThreadSanitizer: data races.
# Each stress test lasts SECONDS (30); they run side by side.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

stress_under thread "$@"
