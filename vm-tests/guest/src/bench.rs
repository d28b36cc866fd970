// SPDX-License-Identifier: BSD-2-Clause
//! What bpf adds to a datagram through lo0: nobody, stock and bpfrs take turns in one system.
//!
//! One process sends and reads, so that its processor time has all of bpf's work in it: a tap runs in
//! whoever sends, a copy in whoever reads.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::bench::{Cost, Driver, FILTERS, LISTENERS};

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, ACCEPT, Bpf, Instruction, STOCK, jump, statement};
use crate::loopback::{Sender, silent_receiver};
use crate::net;
use crate::report;
use crate::sys::{self, Address, Errno, Fd};
use crate::tests::{Trouble, Verdict, While, ensure, equal};

/// The port of the datagrams.
const PORT: u16 = 40_017;
/// An address that sends nothing, and the one that does.
const STRANGER: u32 = 0xc000_0201;
const LOCALHOST: u32 = 0x7f00_0001;
/// Datagrams between two looks into the buffers, which have room for so many.
const BATCH: u64 = 64;
const BUFFER: u32 = 1 << 17;
/// What the IP packets of 40, 576 and 1500 bytes carry, 7 to 4 to 1.
const IMIX: [usize; 12] = [12, 548, 12, 12, 548, 12, 1472, 12, 548, 12, 548, 12];

/// `bench`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let numbers = (arguments.number("--frames", 4_096), arguments.number("--count", 7));
    let (Ok(packets), Ok(rounds)) = numbers else {
        report::human(&format!("bpfrs-guest bench: {numbers:?}"));
        return 2;
    };
    let spoiled = match arguments.get("--spoil") {
        None => false,
        Some("snaplen") => true,
        Some(other) => {
            report::human(&format!("bpfrs-guest bench: --spoil {other}: snaplen"));
            return 2;
        }
    };
    let subject = Subject { device: arguments.device(), spoiled };
    net::command("bench", |reporter| {
        let mut good = reporter.case("filters-are-run", || filters_are_run(subject));
        let mut costs = costs(packets.next_multiple_of(BATCH));
        good &= reporter.case("measured", || measure(subject, rounds, &mut costs));
        for cost in costs {
            reporter.message(&Message::Cost(cost));
        }
        good
    })
}

/// bpfrs.
#[derive(Clone, Copy)]
struct Subject {
    device: Device,
    /// What should accept whole packets cuts them.
    spoiled: bool,
}

/// Everything that is to be measured.
fn costs(packets: u64) -> Vec<Cost> {
    let mut costs = vec![Cost { packets, ..Cost::default() }];
    for filter in FILTERS.map(ToString::to_string) {
        for listeners in LISTENERS {
            for driver in [Driver::Stock, Driver::Bpfrs, Driver::Jit] {
                let filter = filter.clone();
                costs.push(Cost { driver, filter, listeners, packets, ..Cost::default() });
            }
        }
    }
    costs
}

/// A filter by its name. All but the first look at every instruction and reject, unless `address` is
/// that of the packets.
fn program(filter: &str, address: u32) -> Vec<Instruction> {
    match filter {
        "all" => ACCEPT.to_vec(),
        "udp port" => {
            let stranger = u16::from(address == STRANGER);
            bpf::udp_to(PORT + stranger, u32::MAX).to_vec()
        }
        "100 hosts" => addresses(100, None, address),
        _ => addresses(40, Some(0xffff_ff00), address),
    }
}

/// What libpcap makes of addresses or networks or'ed, `last` the last of them: they are looked up as
/// the source, then as the destination.
fn addresses(count: u32, mask: Option<u32>, last: u32) -> Vec<Instruction> {
    let family = u32::swap_bytes(libc::AF_INET.cast_unsigned());
    let mut program = vec![statement(bpf::LD_W_ABS, 0), jump(bpf::JEQ_K, family, 0, 0)];
    for place in [4 + 12, 4 + 16] {
        let load = statement(bpf::LD_W_ABS, place);
        if mask.is_none() {
            program.push(load);
        }
        for number in 1..=count {
            if let Some(mask) = mask {
                program.extend([load, statement(bpf::AND_K, mask)]);
            }
            let address = if number == count { last } else { 0x0a00_0001 | number << 8 };
            program.push(jump(bpf::JEQ_K, address & mask.unwrap_or(u32::MAX), 0, 0));
        }
    }
    // Another family is rejected, an address that is listed accepted.
    let end = program.len();
    for (at, instruction) in program.iter_mut().enumerate().filter(|(_, i)| i.code == bpf::JEQ_K) {
        let distance = u8::try_from(end - at).unwrap_or(u8::MAX);
        if at == 1 {
            instruction.jump_false = distance - 1;
        } else {
            instruction.jump_true = distance;
        }
    }
    program.extend([statement(bpf::RET_K, 0), statement(bpf::RET_K, u32::MAX)]);
    program
}

/// Descriptors that listen on lo0.
fn listen(subject: Subject, cost: &Cost, address: u32) -> Result<Vec<Bpf>, Trouble> {
    let mut program = program(&cost.filter, address);
    if matches!(cost.driver, Driver::Bpfrs | Driver::Jit) {
        let on = u32::from(cost.driver == Driver::Jit);
        sys::set_sysctl("net.bpfrs.jit", &on.to_ne_bytes()).at("net.bpfrs.jit")?;
        if subject.spoiled && cost.filter == FILTERS[0] {
            program = vec![statement(bpf::RET_K, 60)];
        }
    }
    let listeners = (0..cost.listeners).map(|number| {
        let path = match cost.driver {
            Driver::Nobody | Driver::Stock => STOCK.to_string(),
            Driver::Bpfrs | Driver::Jit => subject.device.node(number),
        };
        let bpf = Bpf::open(&path).at(&path)?;
        bpf.set_buffer_length(BUFFER).at("BIOCSBLEN")?;
        bpf.set_filter(bpf::BIOCSETF, &program).at("BIOCSETF")?;
        bpf.attach("lo0").at("BIOCSETIF lo0")?;
        bpf.fd.set_nonblocking(true)?;
        Ok(bpf)
    });
    listeners.collect()
}

/// Datagrams on lo0.
struct Traffic {
    sender: Sender,
    _receiver: Fd,
    payload: Vec<u8>,
    /// What is read goes here.
    buffer: Vec<u8>,
}

impl Traffic {
    fn new() -> Result<Self, Trouble> {
        let address = Address::V4(PORT);
        let (sender, receiver) = (Sender::new(address).at("socket")?, silent_receiver(address));
        let (payload, buffer) = (vec![0x5a; 1472], vec![0; BUFFER as usize]);
        Ok(Self { sender, _receiver: receiver.at("bind")?, payload, buffer })
    }

    /// Sends so many, reading in between; how many bytes.
    fn run(&mut self, packets: u64, listeners: &[Bpf]) -> Result<u64, Trouble> {
        let mut bytes = 0;
        for _ in 0..packets / BATCH {
            for size in IMIX.iter().cycle().take(BATCH as usize) {
                self.sender.send(&self.payload[..*size]).at("sending")?;
            }
            for bpf in listeners {
                loop {
                    match bpf.fd.read(&mut self.buffer) {
                        Ok(length) => bytes += length as u64,
                        Err(Errno(libc::EAGAIN)) => break,
                        Err(errno) => return Err(errno).at("read"),
                    }
                }
            }
        }
        Ok(bytes)
    }
}

/// What is measured really is the filter: with the packets' own address in the place of the last one
/// it accepts them all.
fn filters_are_run(subject: Subject) -> Verdict {
    let mut traffic = Traffic::new()?;
    let mut whole = None;
    for filter in FILTERS {
        for driver in [Driver::Stock, Driver::Bpfrs, Driver::Jit] {
            let cost = Cost { driver, filter: filter.to_string(), listeners: 1, ..Cost::default() };
            let bytes = traffic.run(BATCH, &listen(subject, &cost, LOCALHOST)?)?;
            let whole = *whole.get_or_insert(bytes);
            ensure!(bytes > 0, "{filter}: {driver:?} captures nothing");
            equal!(format!("{filter}: bytes captured by {driver:?}"), bytes, whole);
        }
    }
    Ok(())
}

fn measure(subject: Subject, rounds: u64, costs: &mut [Cost]) -> Verdict {
    let mut traffic = Traffic::new()?;
    for round in 0..rounds {
        let mut accepted = 0;
        for cost in &mut *costs {
            let name = format!("round {round}, {cost:?}");
            let listeners = listen(subject, cost, STRANGER)?;
            // Caches and pages are warm.
            traffic.run(BATCH, &listeners)?;
            let before = listeners.iter().map(Bpf::statistics).collect::<Result<Vec<_>, _>>()?;
            let (processor, begin) = (sys::processor_time(), sys::now());
            cost.bytes = traffic.run(cost.packets, &listeners)?;
            let spent = (sys::processor_time() - processor, sys::now() - begin);
            cost.processor.push(u64::try_from(spent.0.as_nanos()).unwrap_or(u64::MAX));
            cost.elapsed.push(u64::try_from(spent.1.as_nanos()).unwrap_or(u64::MAX));
            for (bpf, before) in listeners.iter().zip(before) {
                let [received, dropped] = bpf.statistics()?;
                let seen = [u64::from(received - before[0]), u64::from(dropped)];
                equal!(format!("{name}: received and dropped"), seen, [cost.packets, 0]);
            }
            // The first way that accepts is stock's.
            let each = cost.bytes / cost.listeners.max(1) as u64;
            if cost.filter == FILTERS[0] {
                accepted = if accepted == 0 { each } else { accepted };
                ensure!(accepted > 0, "{name}: nothing captured");
                equal!(format!("{name}: bytes"), each, accepted);
            } else {
                equal!(format!("{name}: bytes"), each, 0);
            }
        }
    }
    Ok(())
}
