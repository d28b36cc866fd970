// SPDX-License-Identifier: BSD-2-Clause
//! `test`: the device's own tests, programs of libpcap's, load and unload, in every guest.

use std::process::ExitCode;

use anyhow::Result;

use crate::TestOptions;
use crate::controls;
use crate::group::{Boot, Group};
use crate::guest::{self, Guest, Sanitizer};
use crate::machine::Hardware;
use crate::payload::{self, Module};
use crate::tap::Tap;

pub(crate) fn run(
    guests: &[Guest],
    hardware: &Hardware,
    options: &TestOptions,
) -> Result<ExitCode> {
    let mut tap = Tap::default();
    for guest in guests {
        for (number, basis) in guest.bases(&options.modules).into_iter().enumerate() {
            tap.begin(guest, basis);
            let modules = [Module::Bpfrs, Module::Producer, Module::Shifted];
            let payload = payload::make(guest, basis, &modules)?;
            let boot = Boot { series: "test", guest, basis, hardware, payload: &payload };
            let (parts, tests): (Vec<_>, Vec<_>) =
                options.tests.iter().map(String::as_str).partition(|t| PARTS.contains(t));
            let mut groups = match (tests.is_empty(), parts.is_empty()) {
                (true, true) => all(options.loads),
                (true, false) => vec![],
                (false, _) => vec![some(&tests)],
            };
            if number > 0 {
                // Stock is the same whatever ours is built from, and so is what controls show.
                groups.retain(|group| group.loads() && !group.must_fail);
            }
            for group in groups {
                group.run(&boot, &mut tap)?;
            }
            let wanted = |part| number == 0 && (options.tests.is_empty() || parts.contains(&part));
            if wanted(ATF) {
                // Two of their cases read with a timeout that must be a tick at least. An image's
                // loader cannot be told.
                let ticks = [("kern.hz", "2000")];
                let environment = match guest.boot {
                    guest::Boot::Kernel { .. } => &ticks[..],
                    guest::Boot::Image { .. } => &[],
                };
                for group in atf() {
                    group.run_with(&boot, environment, &mut tap)?;
                }
            }
            if wanted(LAYOUT) {
                controls::layout(&boot, &mut tap)?;
            }
            if wanted(SANITIZER) && guest.sanitizer == Some(Sanitizer::Address) {
                controls::sanitizer(&boot, &mut tap)?;
            }
        }
    }
    println!("# consoles: {}/test-*/console.log", payload::work_folder().display());
    Ok(if tap.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can be asked for alone, as tests of the device can.
const ATF: &str = "atf";
const LAYOUT: &str = "layout";
const SANITIZER: &str = "sanitizer-control";
const PARTS: [&str; 3] = [ATF, LAYOUT, SANITIZER];

/// These tests of the device alone.
fn some(tests: &[&str]) -> Group {
    Group {
        name: "bpfrs".into(),
        setup: driver_and_cage(),
        guarded: true,
        must_fail: false,
        commands: vec![(format!("/mnt/bpfrs-guest test {}", tests.join(" ")), 900)],
    }
}

fn all(loads: u64) -> Vec<Group> {
    let mut groups = vec![
        // Stock first: these tests must be true of the original, or they measure nothing.
        Group {
            name: "stock".into(),
            setup: vec![],
            guarded: false,
            must_fail: false,
            commands: vec![
                ("/mnt/bpfrs-guest test all --stock --device /dev/bpf".into(), 300),
                ("/mnt/bpfrs-guest programs --chroot / --device /dev/bpf".into(), 120),
            ],
        },
        Group {
            name: "negative-control".into(),
            setup: vec![],
            guarded: false,
            must_fail: true,
            commands: vec![(
                format!("/mnt/bpfrs-guest test --device /dev/bpf {BEYOND_STOCK}"),
                300,
            )],
        },
        Group {
            name: "bpfrs".into(),
            setup: driver_and_cage(),
            guarded: true,
            must_fail: false,
            commands: vec![
                ("/mnt/bpfrs-guest test all".into(), 900),
                ("/mnt/bpfrs-guest programs --chroot /tmp/cage".into(), 120),
                // The cage's devfs knows the nodes; unloading is another group.
            ],
        },
        Group {
            name: "programs-control".into(),
            setup: driver_and_cage(),
            guarded: true,
            must_fail: true,
            commands: vec![(
                "/mnt/bpfrs-guest programs --chroot /tmp/cage --spoil frame".into(),
                120,
            )],
        },
        Group {
            name: "unload".into(),
            setup: driver(),
            // memguard's counters are none of malloc(9)'s, which show the leaks.
            guarded: false,
            must_fail: false,
            commands: vec![(
                format!("/mnt/bpfrs-guest unload --module /mnt/bpfrs.ko --count {loads}"),
                300 + loads,
            )],
        },
    ];
    for (name, must_fail, spoil) in
        [("producer", false, ""), ("producer-control", true, " --spoil filter")]
    {
        groups.push(Group {
            name: name.into(),
            setup: vec![Module::Bpfrs.load(), Module::Producer.load()],
            guarded: true,
            must_fail,
            commands: vec![(
                format!(
                    "/mnt/bpfrs-guest producer --module /mnt/bpfrs.ko \
                     --producer /mnt/producer.ko{spoil}"
                ),
                300,
            )],
        });
    }
    groups
}

/// Tests of what bpfrs promises beyond the stock driver, and the stock driver does not keep: run
/// there they must fail, or they can not fail at all.
const BEYOND_STOCK: &str = "second-open-is-busy killed-in-read revoke-read \
    revoke-read-with-timeout revoke-poll revoke-select revoke-kqueue revoke-many-readers \
    revoke-ends-promiscuous-mode busy-through-another-mount revoke-through-another-mount \
    open-through-another-mount forced-unmount-with-an-open";

/// The systems' own tests: on stock, on bpfrs, and without any bpf(4), where all must fail.
fn atf() -> Vec<Group> {
    // A node is the only /dev/bpf: libpcap would take it for that, so the other tests' cage has none.
    let caged = |node| {
        format!(
            "ln -s ../devfs/{node} /tmp/cage/dev/bpf && /mnt/bpfrs-guest atf --chroot /tmp/cage"
        )
    };
    let group = |name: &str, setup, must_fail, command| Group {
        name: name.into(),
        setup,
        guarded: true,
        must_fail,
        commands: vec![(command, 1800)],
    };
    vec![
        group("atf-stock", vec![], false, "/mnt/bpfrs-guest atf --chroot /".into()),
        group("atf", driver_and_cage(), false, caged("bpfrs0")),
        group("atf-control", driver_and_cage(), true, caged("null")),
    ]
}

/// What a group does first: the driver, and the cage in which unmodified programs meet it.
fn driver() -> Vec<String> {
    vec![Module::Bpfrs.load()]
}

fn driver_and_cage() -> Vec<String> {
    vec![Module::Bpfrs.load(), "sh /mnt/cage.sh /tmp/cage".into()]
}
