#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# soak.sh [MINUTES]: the long part of the checks, in MINUTES (120): all negative
# controls, threads under the sanitizers, the fuzzers; from 120 on more of the model
# checkers' orders than make test tries. A line for each part, its whole log in
# target/soak.

# The dollars are awk's.
# shellcheck disable=SC2016
# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=sys/build/stages.sh
. "$(dirname "$0")/stages.sh"

minutes=${1:-120}
number MINUTES "$minutes"
# Each of the first four parts gets half of it, each of the others a fifth of what is left.
[ "$minutes" -ge 30 ] ||
    die "MINUTES=$minutes is too little for all negative controls: at least 30"
logs=$target_dir/soak
mkdir -p "$logs"
begin=$(date +%s)

passed=0 failed=0
# part NAME FIGURES COMMAND...: FIGURES is an awk program that finds them in the log.
part() {
	name=$1 figures=$2
	shift 2
	run "$name" "$@"
	# As timeout(1) says it.
	case $rc in
	0)	verdict=ok passed=$((passed + 1)) ;;
	124)	verdict='NOT DONE' failed=$((failed + 1)) ;;
	*)	verdict=FAILED failed=$((failed + 1)) ;;
	esac
	printf '%-12s %-8s %5d s   %s\n' "$name" "$verdict" "$seconds" "$(awk "$figures" "$log")"
	case $verdict in
	FAILED)	fault "$log" ;;
	'NOT DONE') echo "    | ended after half of MINUTES=$minutes: give it more"
		echo "    ($log)" ;;
	esac
}

# Orders, not time: they take what they take, up to half of it each.
most=$((minutes * 30))
if [ "$minutes" -ge 120 ]; then
	: "${BPFRS_LOOM_BOUND:=3}" "${BPFRS_SCHEDULES:=20000}"
	export BPFRS_LOOM_BOUND BPFRS_SCHEDULES
fi
part loom 'match($0, /[0-9]+ executions/) { n += substr($0, RSTART) }
    END { print n + 0 " executions" }' timeout "$most" "$root/sys/build/loom.sh"
part shuttle 'match($0, /[0-9]+ random/) { n += substr($0, RSTART) }
    match($0, /[0-9]+ by/) { n += substr($0, RSTART) }
    END { print n + 0 " schedules" }' timeout "$most" "$root/sys/build/shuttle.sh"

part controls '/passed/' timeout "$most" "$root/sys/build/controls.sh"

# A billion answers of filters, compared.
cd "$root"
part filters '/ answers of /' timeout "$most" nice cargo test --quiet --profile measure \
    --test filters -- --ignored --nocapture

# What is left is for these five; a minute each if there is nothing.
share=$(((minutes * 60 - $(date +%s) + begin) / 5))
[ "$share" -ge 60 ] || share=60
figures='match($0, /opens [0-9]+, revokes [0-9]+/) { printf "%s, ", substr($0, RSTART, RLENGTH) }
    match($0, /unloads [0-9]+/) { printf "%s, ", substr($0, RSTART, RLENGTH) }
    /^test result:/ { n += $4 > 1 ? $4 : 0 }
    END { print n + 0 " tests" }'
part tsan "$figures" "$root/sys/build/tsan.sh" "$share"
part asan "$figures" "$root/sys/build/asan.sh" "$share"
figures='/^stat::number_of_executed_units/ { printf "%d executions", $2 }
    /^stat::average_exec_per_sec/ { printf ", %d a second\n", $2 }'
for target in ops filter read; do
	part "fuzz $target" "$figures" "$root/sys/build/fuzz.sh" "$target" "$share"
done

echo "$passed passed, $failed failed, $((($(date +%s) - begin) / 60)) minutes"
[ "$failed" -eq 0 ]
