#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# cage.sh DIR: a root for chroot(8) in which unmodified programs meet bpfrs.
# libpcap opens /dev/bpf and, only when there is none, /dev/bpf0, 1, ... while
# they are busy. So /dev is a plain folder of symbolic links into a devfs that
# is mounted beside it.
set -e
cage=$1
mkdir -p "$cage/dev" "$cage/devfs" "$cage/tmp"
for folder in bin sbin lib libexec usr etc; do
	[ -d "/$folder" ] || continue
	mkdir -p "$cage/$folder"
	mount -t nullfs -o ro "/$folder" "$cage/$folder"
done
mount -t devfs devfs "$cage/devfs"
node=0
while [ $node -lt 16 ]; do
	ln -s "../devfs/bpfrs$node" "$cage/dev/bpf$node"
	node=$((node + 1))
done
ln -s ../devfs/null "$cage/dev/null"
