#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# shuttle.sh [FILTER...]: the driver under shuttle: BPFRS_SCHEDULES (1000) random
# orders of each scenario, and as many by random priorities.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

explore_with shuttle "$@"
