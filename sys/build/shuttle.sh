#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# shuttle.sh [FILTER...]: the driver under shuttle: BPFRS_SCHEDULES (1000) random
# orders of each scenario, and as many by random priorities.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet cargo cc
cd "$root"
CARGO_TARGET_DIR=$target_dir/shuttle
RUSTFLAGS="${RUSTFLAGS:-} --cfg bpfrs_shuttle"
export CARGO_TARGET_DIR RUSTFLAGS
exec cargo test --quiet --package bpfrs --profile model --test shuttle -- --nocapture "$@"
