// SPDX-License-Identifier: BSD-2-Clause
#![doc = include_str!("../README.md")]
#![no_std]
#![no_main]

extern crate alloc;

mod after_revoke;
mod arguments;
mod behaviours;
mod bench;
mod bpf;
mod driver;
mod ifnet;
mod loopback;
mod net;
mod producer;
mod programs;
mod race;
mod report;
mod stalls;
mod stat;
mod storm;
mod sys;
mod tests;
mod unload;

use alloc::format;

use arguments::Arguments;

const USAGE: &str = "\
usage: bpfrs-guest COMMAND [OPTION …]
  race          readers, packets and revoke(2) all at once     --device PATTERN --prefix SYSCTL --type MALLOC-TYPE
                --nodes N --readers N --seconds N --revokes N --limit SECONDS --pause-us N --wake-limit-us N
                --tcpdump CHROOT-DIR --ping PATH
  after-revoke  what goes on after revoke(2)                   --device PATTERN
  test          the device's own tests: NAME … or all          --device PATTERN --prefix SYSCTL --stock --list
  unload        kldunload with sleepers, then load and unload  --module PATH --device PATTERN --count N
  programs      tcpdump, bittwist, netstat, unmodified       --chroot DIR --device PATTERN --spoil frame
  atf           the systems' own tests in /usr/tests         --chroot DIR
  producer      packets of a module, counted exactly         --module PATH --producer PATH --device PATTERN --spoil filter
  net-parity    two drivers on one interface: KIND …         --device PATTERN --stock --frames N --spoil size|snaplen
  net-life      interfaces come, go and move: CASE …         --device PATTERN --stock --cycles N --moves N --spoil stop
  net-reload    traffic while the module is loaded again     --device PATTERN --stock --module PATH --count N --spoil down
  bench         what bpf adds to a packet on lo0             --device PATTERN --frames N --count N --spoil snaplen
  stat          the driver's descriptors, as bpfrsstat --all      --prefix SYSCTL
  behaviours    what can be seen of bpf(4): FAMILY …          --device PATTERN --prefix SYSCTL --stock --spoil immediate
  storm         random operations by many processes          --device PATTERN --prefix SYSCTL --processes N --operations N --seed N --spoil leave
  resend        the messages of the command before, once more
A PATTERN is a path; %d in it stands for the number of the node.";

/// Runs the program; its exit status.
fn run(arguments: &[&'static str]) -> i32 {
    let (Some(command), options) = (arguments.get(1), arguments.get(2..).unwrap_or_default())
    else {
        report::human(USAGE);
        return 2;
    };
    let arguments = match Arguments::parse(options) {
        Ok(arguments) => arguments,
        Err(problem) => {
            report::human(&format!("bpfrs-guest: {problem}\n{USAGE}"));
            return 2;
        }
    };
    match *command {
        "race" => race::run(&arguments),
        "after-revoke" => after_revoke::run(&arguments),
        "test" => tests::run(&arguments),
        "programs" => programs::run(&arguments),
        "atf" => programs::atf::run(&arguments),
        "unload" => unload::run(&arguments),
        "producer" => producer::run(&arguments),
        "net-parity" => net::parity(&arguments),
        "net-life" => net::life(&arguments),
        "net-reload" => net::reload(&arguments),
        "bench" => bench::run(&arguments),
        "stat" => stat::run(&arguments),
        "behaviours" => behaviours::run(&arguments),
        "storm" => storm::run(&arguments),
        "resend" => report::resend(),
        other => {
            report::human(&format!("bpfrs-guest: no command {other}\n{USAGE}"));
            2
        }
    }
}
