# SPDX-License-Identifier: BSD-2-Clause
#
# Sourced by scripts that run one check after another: a line for each, its whole
# output in a log, and of a failed one what tells the fault.
# shellcheck shell=sh disable=SC2034

# run NAME COMMAND...: sets rc, seconds and log, which stands in $logs. What takes
# long shows that it lives: on a terminal by its seconds, elsewhere by its name.
run() {
	name=$1
	shift
	log=${logs:?}/$(printf '%s' "$name" | tr ' ' '-').log
	start=$(date +%s)
	clock=
	if [ -t 1 ]; then
		tick &
		clock=$!
	else
		echo "$name ..."
	fi
	rc=0
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	if [ -n "$clock" ]; then
		kill "$clock"
		wait "$clock" 2>/dev/null || :
		printf '\r\033[K'
	fi
	seconds=$(($(date +%s) - start))
}

# In the background nothing hears ^C: it ends when its script does.
tick() {
	while kill -0 $$ 2>/dev/null; do
		printf '\r%-24s %13d s' "$name" $(($(date +%s) - start))
		sleep 1
	done
}

# fault LOG: its errors, each up to a blank line; the end of it if it has none that
# are known. Not what cargo tells of its progress and of build scripts' environment.
fault() {
	awk '
	/^ *(Compiling|Checking|Documenting|Download(ed|ing)|Updating|Adding|Locking|Blocking|PASS) / ||
	    /^ *cargo::?[a-z]/ || /^ *[A-Za-z0-9_-]+ = (Some|None|")/ { next }
	{ line = length($0) > 160 ? substr($0, 1, 157) "..." : $0; last[n++ % 15] = line }
	/(^|[^A-Za-z_])error(\[E[0-9]+\])?: / && !/^warning: / || /panicked at / || /^bpfrs[a-z-]*: / || /^Diff in / ||
	    /^In .* line [0-9]+:/ || /^ *(FAIL|SIG[A-Z]+|TIMEOUT) \[/ || /^test .* FAILED$/ ||
	    /^ *--- stderr/ || /^ *error occurred/ || /^not ok / || /^E: / { left = 12 }
	/^$/ || /^ *stack backtrace:/ { left = 0 }
	left > 0 && shown < 30 && !seen[line]++ { print "    | " line; left--; shown++ }
	END {
		if (!shown)
			for (i = n > 15 ? n - 15 : 0; i < n; i++) print "    | " last[i % 15]
		if (shown == 30) print "    | ..."
	}' "$1"
	echo "    ($1)"
}
