#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# soak.sh [MINUTES]: the long part of the checks, in MINUTES (120): more of the
# model checkers' orders, all negative controls, threads under the sanitizers,
# the fuzzers. A line for each part, its whole log in target/soak.

# The dollars are awk's.
# shellcheck disable=SC2016
# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"

minutes=${1:-120}
case $minutes in
''|0*|*[!0-9]*) die 'soak.sh [MINUTES]' ;;
esac
logs=$target_dir/soak
mkdir -p "$logs"
begin=$(date +%s)

passed=0 failed=0
# part NAME FIGURES COMMAND...: FIGURES is an awk program that finds them in the log.
part() {
	log=$logs/$1.log figures=$2
	start=$(date +%s)
	printf '%-12s ' "$1"
	shift 2
	rc=0
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	# As timeout(1) says it.
	case $rc in
	0)	verdict=ok passed=$((passed + 1)) ;;
	124)	verdict='NOT DONE' failed=$((failed + 1)) ;;
	*)	verdict=FAILED failed=$((failed + 1)) ;;
	esac
	printf '%-8s %5d s   %s\n' "$verdict" $(($(date +%s) - start)) \
	    "$(awk "$figures" "$log")"
	[ "$verdict" != FAILED ] || { tail -n 40 "$log" | sed 's/^/    | /'; echo "    ($log)"; }
}

# Orders, not time: they take what they take, up to half of it each.
most=$((minutes * 30))
part loom 'match($0, /[0-9]+ executions/) { n += substr($0, RSTART) }
    END { print n + 0 " executions" }' timeout "$most" env BPFRS_LOOM_BOUND="${BPFRS_LOOM_BOUND:-3}" \
    "$root/sys/build/loom.sh"
part shuttle 'match($0, /[0-9]+ random/) { n += substr($0, RSTART) }
    match($0, /[0-9]+ by/) { n += substr($0, RSTART) }
    END { print n + 0 " schedules" }' timeout "$most" env \
    BPFRS_SCHEDULES="${BPFRS_SCHEDULES:-20000}" "$root/sys/build/shuttle.sh"

part controls '/passed/' "$root/sys/build/controls.sh"

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
