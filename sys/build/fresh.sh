#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# fresh.sh [TARGET...]: README's commands, or make TARGET for each, on a bare Debian
# 12: one that is made for this in TMPDIR (/var/tmp), with git, make and a clone of
# HEAD, and goes away afterwards; it takes 10 GB. What the commands print is in
# target/fresh. For root, on Debian or where mmdebstrap is.

# shellcheck source=sys/build/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=sys/build/stages.sh
. "$(dirname "$0")/stages.sh"

[ "$(id -u)" = 0 ] || die "make fresh needs root: it installs a system, and enters it"
"$root/sys/build/setup.sh" --quiet mmdebstrap
git -C "$root" diff --quiet HEAD || echo "Only what is committed is tested."
logs=$target_dir/fresh
mkdir -p "$logs"
place=$(cd "${TMPDIR:-/var/tmp}" 2>/dev/null && pwd) || die "TMPDIR=$TMPDIR is no directory"
case $place/ in
"$root"/*) die "TMPDIR=$TMPDIR is inside the repository: the clone would be, too" ;;
esac
work=$(new_dir "$place" bpfrs-fresh)
chmod 755 "$work"
debian=$work/debian
child=
leave() {
	# All that runs inside ends with it; some may write until then.
	[ -z "$child" ] || { kill -KILL "$child"; wait "$child"; } 2>/dev/null || :
	rm -rf "$work" 2>/dev/null || { sleep 2; rm -rf "$work"; }
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# alone COMMAND...: with processes and mounts of its own: no end of this script
# leaves one behind.
alone() {
	unshare --mount --pid --fork --kill-child --mount-proc "$@" &
	child=$!
	wait "$child" || return
	child=
}

# inside COMMAND...: in the new system. It sees nothing of this environment but how
# to reach the registries.
inside() {
	set -- "$@"
	for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL; do
		eval "value=\${$variable:-}"
		[ -z "$value" ] || set -- "$variable=$value" "$@"
	done
	# shellcheck disable=SC2016
	alone sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
	    mount --rbind /sys "$0/sys" && exec chroot "$0" /usr/bin/env -i HOME=/root \
	    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' "$debian" "$@"
}

# A bare system; its packages come from Debian, by the way that this host's apt takes.
# Then names, certificates and settings with which this host reaches the registries.
bootstrap() {
	apt-config dump Acquire >"$work/apt.conf"
	cat >"$work/sources.list" <<-'END'
	deb http://deb.debian.org/debian bookworm main
	deb http://deb.debian.org/debian bookworm-updates main
	deb http://deb.debian.org/debian-security bookworm-security main
	END
	alone mmdebstrap --variant=minbase --include=git,make,ca-certificates \
	    --aptopt="$work/apt.conf" bookworm "$debian" "$work/sources.list" || return
	cp -L /etc/resolv.conf /etc/hosts "$debian/etc/" &&
	    cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" \
		"$debian/usr/local/share/ca-certificates/host.crt" &&
	    inside update-ca-certificates || return
	[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$debian/etc/" || return
	cargo=${CARGO_HOME:-$HOME/.cargo}/config.toml
	[ ! -f "$cargo" ] || install -D "$cargo" "$debian/root/.cargo/config.toml"
}

clone() {
	git -C "$root" bundle create "$debian/root/bpfrs.bundle" HEAD &&
	    inside git clone /root/bpfrs.bundle /root/bpfrs
}

# stage NAME COMMAND...
stage() {
	run "$@"
	if [ "$rc" = 0 ]; then
		printf '%-24s %-8s %5d s\n' "$name" ok "$seconds"
		return
	fi
	printf '%-24s %-8s %5d s\n' "$name" FAILED "$seconds"
	fault "$log"
	# The logs that this one names go with the system.
	[ ! -d "$debian/root/bpfrs/target/ci" ] || cp -r "$debian/root/bpfrs/target/ci" "$logs/"
	exit 1
}

stage Debian bootstrap
stage clone clone
[ $# -gt 0 ] || set -- demo 'kmod check-ko' test
for targets in "$@"; do
	# The blanks of kmod check-ko part two targets.
	# shellcheck disable=SC2086
	stage "make $targets" inside make --no-print-directory -C /root/bpfrs $targets
done
# What make test counted.
tail -n 1 "$log"
