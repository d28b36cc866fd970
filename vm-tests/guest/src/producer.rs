// SPDX-License-Identifier: BSD-2-Clause
//! Packets of a module that hands them to bpfrs itself (`vm-tests/producer`): counted exactly.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::arguments::{Arguments, Device};
use crate::bpf::{
    self, ACCEPT, AND_K, Bpf, Instruction, JEQ_K, LD_W_ABS, REJECT, RET_K, Record, SOON, jump,
    records, statement,
};
use crate::driver;
use crate::report::{self, Reporter};
use crate::sys::{self, Errno};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal, refused};
use crate::unload::Module;

/// Where its packets are seen.
const PLACE: &str = "producer0";
const DLT_USER0: u32 = 147;
/// The link header: the packet's number.
const HEADER: usize = 4;
/// Larger than what is captured between two reads.
const BUFFER: u32 = 1 << 19;

/// Loses one packet in eight.
const SPOILED: [Instruction; 5] = [
    statement(LD_W_ABS, 0),
    statement(AND_K, 7),
    jump(JEQ_K, 0, 0, 1),
    statement(RET_K, 0),
    statement(RET_K, u32::MAX),
];

/// `producer --module BPFRS.KO --producer PRODUCER.KO`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let device = arguments.device();
    let module = |option| arguments.get(option).map(|path| Module { path, device });
    let (Some(driver), Some(producer)) = (module("--module"), module("--producer")) else {
        report::human("bpfrs-guest producer: --module PATH and --producer PATH are needed");
        return 2;
    };
    let filter: &[Instruction] = match arguments.get("--spoil") {
        None => &ACCEPT,
        Some("filter") => &SPOILED,
        Some(other) => {
            report::human(&format!("bpfrs-guest producer: --spoil {other}: filter"));
            return 2;
        }
    };
    let mut reporter = Reporter::new();
    let mut good = true;
    for (rate, length, count) in [(2_000, 64, 4_000), (10_000, 1, 20_000), (1_000, 2_048, 2_000)] {
        good &= reporter.case(&format!("producer-{rate}-a-second-of-{length}"), || {
            counted(device, filter, rate, length, count)
        });
    }
    // A spoiled listener would only hide behind the others.
    if arguments.get("--spoil").is_none() {
        good &= reporter.case("producer-as-fast-as-it-goes", || unlimited(device));
        good &= reporter.case("producer-directions", || directions(device));
        good &= reporter.case("producer-stamps", || stamps(device));
        good &= reporter.case("producer-takes-no-packets", || takes_none(device));
        good &= reporter.case("producer-goes", || goes(device, &producer));
        good &= reporter.case("driver-goes-under-a-producer", || driver_goes(device, &driver));
    }
    reporter.end();
    i32::from(!good)
}

fn set(name: &str, value: u32) -> Verdict {
    let name = format!("debug.bpfrs_producer.{name}");
    sys::set_sysctl(&name, &value.to_ne_bytes()).at(&name)
}

fn sent() -> Result<u64, Trouble> {
    driver::number("debug.bpfrs_producer.sent").at("debug.bpfrs_producer.sent")
}

/// Sends packets at a rate, in a process of its own: 0 when all of them are sent.
fn send(rate: u32, length: u32, count: u32) -> Result<Child, Trouble> {
    set("rate", rate)?;
    set("length", length)?;
    Child::start(move || {
        let sent = sys::set_sysctl("debug.bpfrs_producer.send", &count.to_ne_bytes());
        sent.err().map_or(0, |Errno(errno)| errno)
    })
}

fn listener(device: Device) -> Result<Bpf, Trouble> {
    let bpf = Bpf::open(&device.node(0)).at("open")?;
    bpf.set_buffer_length(BUFFER).at("BIOCSBLEN")?;
    bpf.attach(PLACE).at(PLACE)?;
    bpf.fd.set_nonblocking(true)?;
    Ok(bpf)
}

/// Whether a record is packet `number`, whole.
fn is_packet(record: &Record, number: u32, length: u32) -> bool {
    let payload = (0..length).map(|at| number.wrapping_add(at) as u8);
    record.length == HEADER as u32 + length
        && record.data.iter().copied().eq(number.to_be_bytes().into_iter().chain(payload))
}

/// What a listener has is what was sent: every packet, every byte, in order.
fn counted(device: Device, filter: &[Instruction], rate: u32, length: u32, count: u32) -> Verdict {
    let bpf = listener(device)?;
    equal!("link type", bpf.link_type(), Ok(DLT_USER0));
    bpf.set_filter(bpf::BIOCSETF, filter).at("BIOCSETF")?;
    let before = sent()?;
    let begin = sys::now();
    let sender = send(rate, length, count)?;
    let mut next = None;
    let mut captured = 0_u64;
    loop {
        let done = !sender.runs();
        match bpf.read() {
            Ok(bytes) => {
                for record in records(&bytes)? {
                    let head = record.data.first_chunk().copied().unwrap_or_default();
                    let number = next.unwrap_or(u32::from_be_bytes(head));
                    ensure!(
                        is_packet(&record, number, length),
                        "packet {captured}, number {number}: {} bytes, {:02x?}",
                        record.length,
                        record.data.get(..record.data.len().min(8))
                    );
                    next = Some(number.wrapping_add(1));
                    captured += 1;
                }
            }
            Err(Errno(libc::EAGAIN)) if done => break,
            Err(Errno(libc::EAGAIN)) => sys::sleep(Duration::from_millis(5)),
            Err(errno) => return Err(errno).at("read"),
        }
    }
    let took = sys::now() - begin;
    equal!("errno of the sender", sender.finish(SOON)?, 0);
    equal!("sent", sent()? - before, u64::from(count));
    equal!("captured", captured, u64::from(count));
    equal!("received and dropped", bpf.statistics(), Ok([count, 0]));
    // Emulated, it may be slower; never faster, but for what one tick of the clock lets through.
    let least = Duration::from_millis(u64::from(count - 1) * 1000 / u64::from(rate));
    ensure!(took >= least, "{count} packets at {rate} a second in {took:?}");
    Ok(())
}

/// Too fast for the buffers: nothing is counted twice, and what is lost is counted as dropped.
fn unlimited(device: Device) -> Verdict {
    const COUNT: u32 = 20_000;
    let bpf = listener(device)?;
    let mut buffer = vec![0; bpf.buffer_length()? as usize];
    let before = sent()?;
    equal!("errno of the sender", send(0, 256, COUNT)?.finish(Duration::from_secs(60))?, 0);
    equal!("sent", sent()? - before, u64::from(COUNT));
    let mut captured = 0;
    while let Ok(length) = bpf.fd.read(&mut buffer) {
        captured += records(buffer.get(..length).unwrap_or_default())?.len() as u64;
    }
    let [received, dropped] = bpf.statistics()?;
    equal!("received", received, COUNT);
    equal!("captured and dropped", captured + u64::from(dropped), u64::from(COUNT));
    ensure!(dropped > 0 && captured > 0, "{captured} captured, {dropped} dropped");
    Ok(())
}

/// Even numbers are received, odd ones sent.
fn directions(device: Device) -> Verdict {
    for (direction, rest) in [(bpf::D_IN, 0), (bpf::D_OUT, 1)] {
        let bpf = listener(device)?;
        bpf.set_direction(direction)?;
        equal!("errno of the sender", send(0, 8, 100)?.finish(SOON)?, 0);
        let records = records(&bpf.read().at("read")?)?;
        equal!("captured", records.len(), 50);
        let odd = |record: &Record| record.data.get(3).is_some_and(|last| last % 2 == rest);
        ensure!(records.iter().all(odd), "direction {direction}: another one among them");
    }
    Ok(())
}

/// Times that a card or a driver gave packets go into their records.
fn stamps(device: Device) -> Verdict {
    const SECONDS: u64 = 1_234_567;
    let bpf = listener(device)?;
    let seconds = |format: u32| -> Result<Vec<u64>, Trouble> {
        bpf.set_timestamp(format).at("BIOCSTSTAMP")?;
        equal!("errno of the sender", send(0, 8, 100)?.finish(SOON)?, 0);
        let seconds: Vec<_> =
            records(&bpf.read().at("read")?)?.iter().map(|record| record.stamp[0]).collect();
        equal!("captured", seconds.len(), 100);
        Ok(seconds)
    };
    let monotonic = bpf::T_BINTIME | bpf::T_MONOTONIC;
    set("stamp", SECONDS as u32)?;
    // Whatever is asked for: theirs is better.
    let stamped = [monotonic, monotonic | bpf::T_FAST].map(seconds);
    let of_day = seconds(bpf::T_MICROTIME);
    set("stamp", 0)?;
    for seen in stamped {
        equal!("seconds since boot", seen?, vec![SECONDS; 100]);
    }
    // The second in which the system was booted is part of those.
    let since_boot = sys::wall_clock().as_secs() - sys::now().as_secs();
    for seen in of_day? {
        let expected = since_boot + SECONDS;
        ensure!(seen.abs_diff(expected) <= 1, "time of day {seen}, not {expected}");
    }
    let begin = sys::now().as_secs();
    let without = seconds(monotonic)?;
    let time = begin..=sys::now().as_secs();
    for seen in without {
        ensure!(time.contains(&seen), "without a stamp: {seen}, not in {time:?}");
    }
    Ok(())
}

fn takes_none(device: Device) -> Verdict {
    let bpf = listener(device)?;
    equal!("write", bpf.fd.write(&[0; 64]), refused(libc::EOPNOTSUPP));
    Ok(())
}

/// Who sleeps on a producer that is unloaded reads ENXIO; the next one of its name is another.
fn goes(device: Device, producer: &Module) -> Verdict {
    for _ in 0..20 {
        let bpf = listener(device)?;
        bpf.fd.set_nonblocking(false)?;
        bpf.set_filter(bpf::BIOCSETF, &REJECT).at("BIOCSETF")?;
        let reader = Child::start(|| bpf.read().err().map_or(0, |errno| errno.0))?;
        reader.sleeps_in(&bpf::WAITING)?;
        let id = producer.load()?;
        sys::kldunload(id, false).at("kldunload")?;
        equal!("errno of read", reader.finish(SOON)?, libc::ENXIO);
        equal!("BIOCSETIF of what is gone", bpf.attach(PLACE), refused(libc::ENXIO));
        producer.load()?;
        equal!("read after the next one came", bpf.read().map(drop), refused(libc::ENXIO));
    }
    Ok(())
}

/// The driver is unloaded and loaded while packets come; the producer never notices.
fn driver_goes(device: Device, driver: &Module) -> Verdict {
    const ROUNDS: u32 = 20;
    // More than it can send until it is killed.
    const COUNT: u32 = 1_000_000_000;
    let before = sent()?;
    let sender = send(5_000, 100, COUNT)?;
    for round in 0..ROUNDS {
        let at = |what: &str| -> String { format!("round {round}: {what}") };
        let id = driver.load()?;
        let bpf = listener(device)?;
        let captured =
            driver::eventually(5 * SOON, || bpf.read().is_ok_and(|bytes| !bytes.is_empty()));
        ensure!(captured, "{}", at("nothing captured"));
        drop(bpf);
        Module::unload_unused(id).at(&at("kldunload"))?;
        ensure!(sender.runs(), "{}", at("the producer has stopped"));
    }
    sender.kill();
    ensure!(sent()? > before + u64::from(ROUNDS), "the producer stood still");
    driver.load()?;
    Ok(())
}
