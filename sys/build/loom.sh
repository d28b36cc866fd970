#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# loom.sh [FILTER...]: the driver under loom: every order of its threads' steps
# within a bound on preemptions (BPFRS_LOOM_BOUND, 2), weak memory included.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

explore_with loom "$@"
