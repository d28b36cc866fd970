# SPDX-License-Identifier: BSD-2-Clause
#
# The one front door, for GNU make and BSD make alike: every target calls a
# script or cargo. What stands on make's command line (FREEBSD=14 ...) reaches
# them through the environment.

.POSIX:
.PHONY: help demo setup kmod legacy producer shifted check-ko bindings check-bindings lint \
	test fresh bench loom shuttle life controls tsan asan fuzz soak vm-test vm-race vm-net \
	vm-diff vm-bench load unload install clean

help:
	@echo "make demo            the revoke(2) race on this host: the 2008 pattern, then bpfrs"
	@echo "make setup           install what is needed (Debian, root), or name it"
	@echo "make kmod            build bpfrs.ko, and bpfrs_tap.ko, which it needs"
	@echo "make check-ko        check the finished bpfrs.ko"
	@echo "make test            everything that needs no guest, then vm-test if one is there"
	@echo "make fresh           README's three commands on a bare Debian 12, made for it (root)"
	@echo "make vm-test         the device's tests in a FreeBSD guest"
	@echo "make vm-race         the revoke(2) reproducer in a FreeBSD guest"
	@echo "make vm-net          real interfaces in a FreeBSD guest, beside stock; hours under emulation"
	@echo "make vm-diff         what can be seen of bpfrs beside stock, and a storm of operations"
	@echo "make vm-bench        what stock and bpfrs add to a packet on lo0, in a FreeBSD guest"
	@echo "make loom, shuttle   the driver under a model checker: see docs/proof.md"
	@echo "make life            the state machine of an open's life, explored"
	@echo "make controls        break the driver on purpose and see it caught"
	@echo "make tsan, asan      the driver on threads under a sanitizer, SECONDS=30 each test"
	@echo "make fuzz            libFuzzer: TARGET=ops|filter|read SECONDS=60 or SECONDS=1000000x (runs)"
	@echo "make soak            all of these, and more of the models: MINUTES=120 in all"
	@echo "make bench           what filters and the append cost, against libpcap and others: LAYOUTS=5"
	@echo "make lint            clippy, rustfmt, rustdoc, shellcheck"
	@echo "make bindings        generate sys/src/bindings.rs again"
	@echo "make check-bindings  fail if that would change it"
	@echo "make load, unload, install   on FreeBSD, as root"
	@echo "make clean           remove target/"
	@echo
	@echo "FREEBSD=15|14  ARCH=amd64|aarch64   what kmod and check-ko are for"
	@echo "SYSDIR=/path/to/sys  KERNBUILDDIR=/path/to/obj   build against a source tree (12.1 and later)"
	@echo "SANITIZE=address     instrumented, for a kernel with KASAN"
	@echo "OUT=dir              where kmod puts bpfrs.ko (target/kmod/freebsdN-ARCH)"
	@echo "BPFRS_GUEST=dir      what vm-* boot: see vm-tests/README.md"

demo:
	@sys/build/demo.sh

setup:
	@sys/build/setup.sh

kmod:
	@sys/build/kmod.sh bpfrs_tap
	@sys/build/kmod.sh bpfrs

legacy producer:
	@sys/build/kmod.sh $@

# For vm-test: modules that must not load.
shifted:
	@sys/build/kmod.sh bpfrs_tap_shifted
	@sys/build/kmod.sh bpfrs_shifted

check-ko:
	@sys/build/check-ko.sh

bindings:
	@sys/build/bindings.sh

check-bindings:
	@sys/build/bindings.sh --check

lint:
	@sys/build/test.sh lint

test:
	@sys/build/test.sh

fresh:
	@sys/build/fresh.sh $(TARGETS)

loom:
	@sys/build/loom.sh

shuttle:
	@sys/build/shuttle.sh

life:
	@sys/build/life.sh

controls:
	@sys/build/controls.sh

tsan:
	@sys/build/tsan.sh $(SECONDS)

asan:
	@sys/build/asan.sh $(SECONDS)

fuzz:
	@sys/build/fuzz.sh "$(TARGET)" $(SECONDS)

bench:
	@sys/build/bench.sh $(LAYOUTS)

soak:
	@sys/build/soak.sh $(MINUTES)

vm-test:
	@sys/build/vm.sh test

vm-race:
	@sys/build/vm.sh race

vm-net:
	@sys/build/vm.sh net

vm-diff:
	@sys/build/vm.sh diff

vm-bench:
	@sys/build/vm.sh bench

# Not with load first: GNU make has a directive of that name.
install load unload:
	@sys/build/freebsd.sh $@

clean:
	rm -rf target
