#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# life.sh [OPTION...]: the state machine of an open's life, explored completely:
# nothing for the driver as it is, --broken NAME for one that is wrong in one
# place, --controls for all of these in turn, --large for more threads.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

"$root/sys/build/setup.sh" --quiet cargo cc
cd "$root"
CARGO_TARGET_DIR=$target_dir
export CARGO_TARGET_DIR
exec cargo run --quiet --package bpfrs-proof --profile model -- life "$@"
