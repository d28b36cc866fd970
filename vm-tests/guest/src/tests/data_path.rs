// SPDX-License-Identifier: BSD-2-Clause
//! ioctls, filters, buffers and read(2): what every bpf(4) does, stock's being the measure.

use alloc::format;
use alloc::vec;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use core::time::Duration;

use super::{Bench, Child, Test, Trouble, Verdict, While, common, ensure, equal, own, refused};
use crate::bpf::{
    self, ACCEPT, Bpf, Instruction, JEQ_K, POLL_READ, REJECT, SOON, T_BINTIME, T_FAST, T_MICROTIME,
    T_MONOTONIC, T_NANOTIME, T_NONE, jump, records, statement, udp_to,
};
use crate::driver::eventually;
use crate::ifnet::{Cloned, Epair};
use crate::loopback::{Sender, payload, silent_receiver};
use crate::stalls::Watch;
use crate::sys::{self, Address, Errno, Fd, Shared};

pub(super) const TESTS: &[Test] = &[
    common("version", version),
    common("initial-state", initial_state),
    common("buffer-length", buffer_length),
    common("attach", attach),
    common("unattached-calls", unattached_calls),
    common("unknown-ioctl", unknown_ioctl),
    common("link-types", link_types),
    common("timeout-is-kept", timeout_is_kept),
    common("invalid-filters", invalid_filters),
    common("filter-selects", filter_selects),
    common("filter-cuts", filter_cuts),
    common("setf-resets", setf_resets),
    common("setfnr-keeps", setfnr_keeps),
    common("attach-again-resets", attach_again_resets),
    common("flush", flush),
    common("fionread", fionread),
    common("statistics", statistics),
    common("read-size", read_size),
    common("standstill-is-seen", standstill_is_seen),
    common("read-timeout", read_timeout),
    common("read-nonblocking", read_nonblocking),
    common("read-immediate", read_immediate),
    common("read-waits-for-a-full-buffer", read_waits_for_a_full_buffer),
    common("read-interrupted", read_interrupted),
    common("overflow-drops", overflow_drops),
    common("poll-and-select", poll_and_select),
    common("poll-timeout-state", poll_timeout_state),
    common("time-stamps", time_stamps),
    common("direction", direction),
    common("lock", lock),
    common("promiscuous-while-open", promiscuous_while_open),
    own("two-readers-one-descriptor", two_readers_one_descriptor),
    own("machine-code", machine_code),
    own("interface-list", interface_list),
];

/// Ports of 127.0.0.1 for test packets; others on lo0 do not matter to a filter for them.
const PORT: u16 = 40_001;
const OTHER_PORT: u16 = 40_002;

fn sender(port: u16) -> Result<Sender, Trouble> {
    match silent_receiver(Address::V4(port)) {
        Ok(receiver) => receiver.leak(),
        // One in this process is enough.
        Err(Errno(libc::EADDRINUSE)) => {}
        Err(errno) => return refused(errno.0).at("bind"),
    }
    Sender::new(Address::V4(port)).at("socket")
}

fn send(sender: &Sender, numbers: core::ops::Range<usize>) -> Verdict {
    for number in numbers {
        sender.send(&payload(number)).at("sendto")?;
    }
    Ok(())
}

/// Attached to lo0, seeing the packets to `PORT` alone.
fn listening(bench: &Bench) -> Result<Bpf, Trouble> {
    bench.listening(PORT)
}

fn version(bench: &Bench) -> Verdict {
    equal!("BIOCVERSION", bench.open()?.version()?, [1, 1]);
    Ok(())
}

fn initial_state(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    equal!("BIOCGBLEN", bpf.buffer_length()?, 4096);
    equal!("BIOCGDIRECTION", bpf.direction()?, 1);
    equal!("BIOCGTSTAMP", bpf.timestamp()?, T_MICROTIME);
    equal!("BIOCGRTIMEOUT", bpf.timeout()?, [0, 0]);
    equal!("BIOCGSTATS", bpf.statistics()?, [0, 0]);
    equal!("FIONREAD", bpf.readable()?, 0);
    Ok(())
}

fn buffer_length(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    for (asked, granted) in [
        (0, 32),
        (1, 32),
        (32, 32),
        (33, 33),
        (8192, 8192),
        (0x8_0000, 0x8_0000),
        (u32::MAX, 0x8_0000),
    ] {
        equal!(format!("BIOCSBLEN {asked}"), bpf.set_buffer_length(asked)?, granted);
        equal!("BIOCGBLEN", bpf.buffer_length()?, granted);
    }
    bpf.attach("lo0").at("BIOCSETIF")?;
    equal!("BIOCSBLEN when attached", bpf.set_buffer_length(4096), refused(libc::EINVAL));
    equal!("BIOCGBLEN afterwards", bpf.buffer_length()?, 0x8_0000);
    Ok(())
}

fn attach(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    equal!("BIOCSETIF nosuch0", bpf.attach("nosuch0"), refused(libc::ENXIO));
    equal!("BIOCSETIF without a name", bpf.attach(""), refused(libc::ENXIO));
    equal!("BIOCGETIF before", bpf.interface(), refused(libc::EINVAL));
    bpf.attach("lo0").at("BIOCSETIF lo0")?;
    equal!("BIOCGETIF", bpf.interface()?, "lo0");
    equal!("BIOCSETIF nosuch0 when attached", bpf.attach("nosuch0"), refused(libc::ENXIO));
    equal!("BIOCGETIF after that", bpf.interface()?, "lo0");
    Ok(())
}

fn unattached_calls(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    equal!("BIOCPROMISC", bpf.promiscuous(), refused(libc::EINVAL));
    equal!("BIOCGDLT", bpf.link_type(), refused(libc::EINVAL));
    equal!("BIOCSDLT", bpf.set_link_type(0), refused(libc::EINVAL));
    equal!("BIOCGDLTLIST", bpf.fd.ioctl_null_list(bpf::BIOCGDLTLIST, 0), refused(libc::EINVAL));
    equal!("BIOCGETIF", bpf.interface(), refused(libc::EINVAL));
    equal!("read", bpf.read(), refused(libc::ENXIO));
    let mut short = [0; 100];
    equal!("read of another size", bpf.fd.read(&mut short), refused(libc::EINVAL));
    let asked = POLL_READ | libc::POLLOUT | libc::POLLWRNORM;
    equal!("poll", bpf.fd.poll(asked, None)? & POLL_READ, POLL_READ);
    equal!("select", bpf.fd.select(None)?, true);
    Ok(())
}

fn unknown_ioctl(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    equal!("_IO('B', 200)", bpf.fd.ioctl_none(0x2000_42c8), refused(libc::EINVAL));
    // BIOCSDLT's number with another size is another command.
    equal!("_IOW('B', 120, u64)", bpf.fd.ioctl(0x8008_4278, &mut 0_u64), refused(libc::EINVAL));
    Ok(())
}

fn link_types(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    equal!("BIOCGDLT", bpf.link_type()?, 0);
    equal!("count of BIOCGDLTLIST", bpf.fd.ioctl_null_list(bpf::BIOCGDLTLIST, 0)?, 1);
    let mut list = [77_u32; 4];
    equal!("BIOCGDLTLIST", bpf.fd.ioctl_list(bpf::BIOCGDLTLIST, &mut list)?, 1);
    equal!("the list", list, [0, 77, 77, 77]);
    let mut none = [77_u32; 1];
    equal!(
        "BIOCGDLTLIST without room",
        bpf.fd.ioctl_list(bpf::BIOCGDLTLIST, &mut none[..0]),
        refused(libc::ENOMEM)
    );
    equal!("BIOCSDLT 0", bpf.set_link_type(0), Ok(()));
    equal!("BIOCSDLT 1", bpf.set_link_type(1), refused(libc::EINVAL));
    equal!("BIOCGDLT after that", bpf.link_type()?, 0);
    Ok(())
}

fn timeout_is_kept(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    for micros in [250_000_i64, 1_000_000, 2_500_000] {
        bpf.set_timeout([micros / 1_000_000, micros % 1_000_000]).at("BIOCSRTIMEOUT")?;
        let [seconds, rest] = bpf.timeout()?;
        let kept = seconds * 1_000_000 + rest;
        // A tick of the clock is 10 ms at the coarsest.
        ensure!((kept - micros).abs() <= 10_000, "set {micros} us, got {kept} us");
    }
    equal!("usec too great", bpf.set_timeout([0, 1_000_000]), refused(libc::EINVAL));
    equal!("negative", bpf.set_timeout([-1, 0]), refused(libc::EINVAL));
    Ok(())
}

fn invalid_filters(bench: &Bench) -> Verdict {
    const LD_MEM: u16 = 0x60;
    const ST: u16 = 0x02;
    const JA: u16 = 0x05;
    const DIV_K: u16 = 0x34;
    const MOD_K: u16 = 0x94;
    let bpf = bench.attached()?;
    let accept = ACCEPT[0];
    let programs: &[(&str, &[Instruction])] = &[
        ("no RET at the end", &[statement(bpf::LD_W_ABS, 0)]),
        ("RET|X", &[statement(0x0e, 0)]),
        ("an unknown opcode", &[statement(0xff, 0), accept]),
        ("an opcode above 0xff", &[statement(0x106, 0)]),
        ("a jump past the end", &[statement(JA, 1), accept]),
        ("a backward jump", &[accept, statement(JA, u32::MAX), accept]),
        ("a true branch past the end", &[jump(JEQ_K, 0, 1, 0), accept]),
        ("a false branch past the end", &[jump(JEQ_K, 0, 0, 1), accept]),
        ("a load from M[16]", &[statement(LD_MEM, 16), accept]),
        ("a store to M[16]", &[statement(ST, 16), accept]),
        ("a division by 0", &[statement(DIV_K, 0), accept]),
        ("a remainder by 0", &[statement(MOD_K, 0), accept]),
    ];
    bpf.set_filter(bpf::BIOCSETF, &REJECT).at("BIOCSETF of a good one")?;
    for command in [bpf::BIOCSETF, bpf::BIOCSETFNR, bpf::BIOCSETWF] {
        for (what, program) in programs {
            let result = bpf.set_filter(command, program);
            equal!(format!("{command:#x} with {what}"), result, refused(libc::EINVAL));
        }
        let long = vec![accept; 513];
        equal!("513 instructions", bpf.set_filter(command, &long), refused(libc::EINVAL));
        equal!("512 instructions", bpf.set_filter(command, &vec![REJECT[0]; 512]), Ok(()));
        equal!(
            "NULL program of length 1",
            bpf.fd.ioctl_null_list(command, 1),
            refused(libc::EINVAL)
        );
    }
    // The last good one, which rejects all, is still there.
    bpf.set_timeout_ms(100)?;
    send(&sender(PORT)?, 0..3)?;
    equal!("bytes through the filter", bpf.read()?.len(), 0);
    equal!("removing the filter", bpf.fd.ioctl_null_list(bpf::BIOCSETF, 0), Ok(0));
    send(&sender(OTHER_PORT)?, 0..1)?;
    ensure!(!bpf.read()?.is_empty(), "no packet without a filter");
    Ok(())
}

fn filter_selects(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    bpf.set_timeout_ms(200)?;
    let (wanted, unwanted) = (sender(PORT)?, sender(OTHER_PORT)?);
    for number in 0..10 {
        send(&wanted, number..number + 1)?;
        send(&unwanted, 100 + number..101 + number)?;
    }
    let records = records(&bpf.read()?)?;
    equal!("records", records.len(), 10);
    for (number, record) in records.iter().enumerate() {
        equal!("payload", record.data.get(4 + 28..), Some(payload(number).as_slice()));
    }
    Ok(())
}

/// Filters of all lengths become machine code, and their pages go to others: to buffers, to filters.
fn machine_code(bench: &Bench) -> Verdict {
    let switch = format!("{}.jit", bench.prefix);
    let turn = |on: i32| sys::set_sysctl(&switch, &on.to_ne_bytes());
    match turn(1) {
        Err(Errno(libc::ENOENT)) => return Err(Trouble::NotHere("no machine code here".into())),
        other => other.at(&switch)?,
    }
    let (wanted, unwanted) = (sender(PORT)?, sender(OTHER_PORT)?);
    let rounds = || -> Verdict {
        for round in 0..100 {
            let bpf = bench.open()?;
            bpf.set_buffer_length(4096 << (round % 8))?;
            bpf.attach("lo0").at("BIOCSETIF")?;
            bpf.set_immediate(true)?;
            bpf.set_timeout_ms(1000)?;
            for length in [round * 5, 500 - round * 5] {
                let mut program = vec![statement(bpf::LD_W_LEN, 0); length];
                program.extend(udp_to(PORT, u32::MAX));
                bpf.set_filter(bpf::BIOCSETF, &program).at("BIOCSETF")?;
            }
            send(&unwanted, 0..2)?;
            send(&wanted, round..round + 1)?;
            let records = records(&bpf.read().at("read")?)?;
            equal!("records", records.len(), 1);
            let data = records.first().and_then(|record| record.data.get(4 + 28..));
            equal!("payload", data, Some(payload(round).as_slice()));
        }
        Ok(())
    };
    let result = rounds();
    turn(0).at(&switch)?;
    result
}

fn filter_cuts(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, 40))?;
    bpf.set_immediate(true)?;
    send(&sender(PORT)?, 90..91)?;
    let records = records(&bpf.read()?)?;
    equal!("records", records.len(), 1);
    for record in &records {
        equal!("bh_caplen", record.data.len(), 40);
        equal!("bh_datalen", record.length as usize, 4 + 28 + payload(90).len());
    }
    Ok(())
}

/// Three packets lie in the store buffer.
fn with_three_packets(bench: &Bench) -> Result<(Bpf, Sender), Trouble> {
    let bpf = listening(bench)?;
    let sender = sender(PORT)?;
    send(&sender, 0..3)?;
    ensure!(bpf.readable()? > 0, "nothing captured");
    Ok((bpf, sender))
}

/// None of the three is there, nor counted. What there is comes from others: they may send, too.
fn without_three_packets(bpf: &Bpf) -> Verdict {
    let [received, dropped] = bpf.statistics()?;
    ensure!(received < 3, "BIOCGSTATS: {received} packets received");
    equal!("BIOCGSTATS: dropped", dropped, 0);
    bpf.fd.set_nonblocking(true)?;
    let bytes = match bpf.read() {
        Err(Errno(libc::EWOULDBLOCK)) => vec![],
        bytes => bytes.at("read")?,
    };
    for record in records(&bytes)? {
        for number in 0..3 {
            ensure!(!record.data.ends_with(&payload(number)), "packet {number} is still there");
        }
    }
    Ok(bpf.fd.set_nonblocking(false)?)
}

fn setf_resets(bench: &Bench) -> Verdict {
    let (bpf, _sender) = with_three_packets(bench)?;
    bpf.set_filter(bpf::BIOCSETF, &ACCEPT)?;
    without_three_packets(&bpf)
}

fn setfnr_keeps(bench: &Bench) -> Verdict {
    let (bpf, sender) = with_three_packets(bench)?;
    let (bytes, [received, dropped]) = (bpf.readable()?, bpf.statistics()?);
    bpf.set_filter(bpf::BIOCSETFNR, &REJECT)?;
    equal!("FIONREAD", bpf.readable()?, bytes);
    // Others may send on lo0 meanwhile, which counts, too.
    let [now, lost] = bpf.statistics()?;
    ensure!(now >= received, "BIOCGSTATS: {now} packets received, before {received}");
    equal!("dropped", lost, dropped);
    send(&sender, 3..6)?;
    equal!("FIONREAD under the new filter", bpf.readable()?, bytes);
    Ok(())
}

fn attach_again_resets(bench: &Bench) -> Verdict {
    let (bpf, _sender) = with_three_packets(bench)?;
    bpf.attach("lo0").at("BIOCSETIF lo0 again")?;
    equal!("BIOCGETIF", bpf.interface()?, "lo0");
    without_three_packets(&bpf)
}

fn flush(bench: &Bench) -> Verdict {
    let (bpf, sender) = with_three_packets(bench)?;
    bpf.flush()?;
    without_three_packets(&bpf)?;
    bpf.set_timeout_ms(100)?;
    send(&sender, 3..4)?;
    let records = records(&bpf.read()?)?;
    equal!("records after BIOCFLUSH", records.len(), 1);
    Ok(())
}

fn fionread(bench: &Bench) -> Verdict {
    let (bpf, _sender) = with_three_packets(bench)?;
    let readable = bpf.readable()? as usize;
    bpf.set_timeout_ms(50)?;
    equal!("length of read(2)", bpf.read()?.len(), readable);
    equal!("FIONREAD afterwards", bpf.readable()?, 0);
    Ok(())
}

/// Whether `received` packets can be the `sent` ones: the system sends a few of its own on lo0 now and
/// then, more of them the longer the sending takes, and what the filter refuses is counted, too.
/// Nothing is nothing.
pub(super) fn counts(received: u32, sent: u32) -> bool {
    if sent == 0 { received == 0 } else { (sent..sent + 3 + sent / 20).contains(&received) }
}

fn statistics(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
    send(&sender(PORT)?, 0..7)?;
    // What the filter rejects was received all the same.
    let [received, dropped] = bpf.statistics()?;
    ensure!(counts(received, 7), "received {received}, expected 7");
    equal!("dropped", dropped, 0);
    equal!("FIONREAD", bpf.readable()?, 0);
    Ok(())
}

fn read_size(bench: &Bench) -> Verdict {
    let (bpf, _sender) = with_three_packets(bench)?;
    bpf.set_timeout_ms(50)?;
    for length in [1, 4095, 4097, 8192] {
        let mut buffer = vec![0; length];
        let result = bpf.fd.read(&mut buffer);
        equal!(format!("read of {length} bytes"), result, refused(libc::EINVAL));
    }
    equal!("records afterwards", records(&bpf.read()?)?.len(), 3);
    Ok(())
}

/// The control of those that measure times.
fn standstill_is_seen(_: &Bench) -> Verdict {
    let watch = Watch::start()?;
    let limit = Duration::from_millis(100);
    let mut tries = 0;
    watch.undisturbed(limit, || {
        tries += 1;
        if tries < 3 {
            watch.stall(2 * limit);
        }
        Ok(())
    })?;
    ensure!(tries >= 3, "a processor stood still for {:?}, unseen in {tries} tries", 2 * limit);
    Ok(())
}

fn read_timeout(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    bpf.set_timeout_ms(200)?;
    let waited = Watch::start()?.undisturbed(Duration::from_millis(100), || {
        let begin = sys::now();
        equal!("read without a packet", bpf.read()?.len(), 0);
        Ok(sys::now() - begin)
    })?;
    ensure!(
        (Duration::from_millis(150)..Duration::from_millis(400)).contains(&waited),
        "a timeout of 200 ms took {waited:?}"
    );
    send(&sender(PORT)?, 0..2)?;
    let begin = sys::now();
    equal!("records at the timeout", records(&bpf.read()?)?.len(), 2);
    let waited = sys::now() - begin;
    ensure!(waited >= Duration::from_millis(150), "did not wait for more: {waited:?}");
    Ok(())
}

fn read_nonblocking(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    let sender = sender(PORT)?;
    bpf.fd.set_nonblocking(true).at("fcntl O_NONBLOCK")?;
    equal!("read without a packet", bpf.read(), refused(libc::EWOULDBLOCK));
    send(&sender, 0..2)?;
    equal!("records", records(&bpf.read()?)?.len(), 2);
    equal!("read once more", bpf.read(), refused(libc::EWOULDBLOCK));
    bpf.fionbio(false).at("FIONBIO off")?;
    bpf.set_timeout_ms(100)?;
    equal!("blocking again", bpf.read()?.len(), 0);
    bpf.fionbio(true).at("FIONBIO on")?;
    equal!("read after FIONBIO", bpf.read(), refused(libc::EWOULDBLOCK));
    drop(bpf);
    let fd = Fd::open(&bench.path(), libc::O_RDWR | libc::O_NONBLOCK).at("open O_NONBLOCK")?;
    let bpf = Bpf { fd };
    bpf.attach("lo0")?;
    bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
    equal!("read of one opened so", bpf.read(), refused(libc::EWOULDBLOCK));
    Ok(())
}

/// Sends one packet after a while, from another process.
fn packet_in(delay: Duration, number: usize) -> Result<Child, Trouble> {
    let sender = sender(PORT)?;
    Child::start(move || {
        sys::sleep(delay);
        i32::from(sender.send(&payload(number)).is_err())
    })
}

fn read_immediate(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    // If it were not, the read would never end.
    bpf.set_immediate(true)?;
    let child = packet_in(Duration::from_millis(100), 5)?;
    let records = records(&bpf.read()?)?;
    equal!("the sender", child.finish(SOON)?, 0);
    equal!("records", records.len(), 1);
    Ok(())
}

fn read_waits_for_a_full_buffer(bench: &Bench) -> Verdict {
    const PACKETS: usize = 40;
    /// A buffer takes 9 of the largest of them, and 14 of the smallest.
    const AHEAD: usize = 14;
    let bpf = bench.open()?;
    bpf.set_buffer_length(1024)?;
    bpf.attach("lo0")?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX))?;
    let sender = sender(PORT)?;
    let read: Shared<AtomicUsize> = Shared::new().at("shared memory")?;
    let child = Child::start(|| {
        sys::sleep(Duration::from_millis(50));
        // Never more than two buffers hold, so that nothing is dropped.
        for number in 0..PACKETS {
            while number > read.load(SeqCst) + AHEAD {
                sys::sleep(Duration::from_millis(1));
            }
            let _ = sender.send(&payload(number));
            sys::sleep(Duration::from_millis(5));
        }
        0
    })?;
    let mut seen = 0;
    // A buffer is 1024 bytes and a packet with its header 60 to 160: the rest stays in store.
    while seen < PACKETS - 20 {
        let bytes = bpf.read()?;
        ensure!(bytes.len() <= 1024, "{} bytes out of a buffer of 1024", bytes.len());
        ensure!(bytes.len() > 1024 - 160, "woken for {} bytes, far from full", bytes.len());
        for record in records(&bytes)? {
            equal!("payload", record.data.get(32..), Some(payload(seen).as_slice()));
            seen += 1;
            read.store(seen, SeqCst);
        }
    }
    // The rest of them the buffers hold.
    read.store(PACKETS, SeqCst);
    equal!("the sender", child.finish(SOON)?, 0);
    equal!("dropped", bpf.statistics()?[1], 0);
    Ok(())
}

fn read_interrupted(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    sys::alarm(Duration::from_millis(100)).at("setitimer")?;
    equal!("read", bpf.read(), refused(libc::EINTR));
    equal!("the signal", sys::caught(), Some(libc::SIGALRM));
    // And nothing is broken by it.
    send(&sender(PORT)?, 0..1)?;
    bpf.set_timeout_ms(50)?;
    equal!("records afterwards", records(&bpf.read()?)?.len(), 1);
    Ok(())
}

fn overflow_drops(bench: &Bench) -> Verdict {
    const PACKETS: usize = 200;
    let bpf = bench.open()?;
    bpf.set_buffer_length(1024)?;
    bpf.attach("lo0")?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX))?;
    send(&sender(PORT)?, 0..PACKETS)?;
    let [received, dropped] = bpf.statistics()?;
    ensure!(counts(received, PACKETS as u32), "received {received}, expected {PACKETS}");
    ensure!(dropped > 0, "200 packets fitted into two buffers of 1024 bytes");
    bpf.fd.set_nonblocking(true)?;
    let mut kept = 0;
    for _ in 0..2 {
        for record in records(&bpf.read()?)? {
            // The oldest are kept, in order.
            equal!("payload", record.data.get(32..), Some(payload(kept).as_slice()));
            kept += 1;
        }
    }
    equal!("kept and dropped", kept + dropped as usize, PACKETS);
    Ok(())
}

fn poll_and_select(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    let sender = sender(PORT)?;
    let short = Some(Duration::from_millis(50));
    bpf.set_immediate(true)?;
    equal!("poll without a packet", bpf.fd.poll(POLL_READ, short)?, 0);
    equal!("select without a packet", bpf.fd.select(short)?, false);
    equal!("poll for writing", bpf.fd.poll(libc::POLLOUT, short)?, libc::POLLOUT);
    let child = packet_in(Duration::from_millis(100), 1)?;
    equal!("poll", bpf.fd.poll(POLL_READ, Some(SOON))?, POLL_READ);
    equal!("the sender", child.finish(SOON)?, 0);
    equal!("select", bpf.fd.select(short)?, true);
    equal!("records", records(&bpf.read()?)?.len(), 1);
    equal!("poll when read", bpf.fd.poll(POLL_READ, short)?, 0);
    // Not immediate: what lies in the store buffer is not yet there for a reader.
    bpf.set_immediate(false)?;
    send(&sender, 2..3)?;
    equal!("poll with a half-full buffer", bpf.fd.poll(POLL_READ, short)?, 0);
    Ok(())
}

fn poll_timeout_state(bench: &Bench) -> Verdict {
    // poll(2) with a read timeout set: the packet is reported when the timeout is over.
    let bpf = listening(bench)?;
    bpf.set_timeout_ms(200)?;
    let sender = sender(PORT)?;
    let [polled, read] = Watch::start()?.undisturbed(Duration::from_millis(100), || {
        bpf.flush()?;
        send(&sender, 0..1)?;
        let begin = sys::now();
        equal!("poll", bpf.fd.poll(POLL_READ, Some(SOON))?, POLL_READ);
        let middle = sys::now();
        // No ioctl in between: it would make the driver forget that the time is over.
        let mut buffer = vec![0; 4096];
        let length = bpf.fd.read(&mut buffer)?;
        equal!("records", records(&buffer[..length])?.len(), 1);
        Ok([middle - begin, sys::now() - middle])
    })?;
    ensure!(
        (Duration::from_millis(100)..Duration::from_millis(400)).contains(&polled),
        "reported after {polled:?}, with a timeout of 200 ms"
    );
    ensure!(read < Duration::from_millis(150), "read after poll took {read:?}");
    Ok(())
}

fn time_stamps(bench: &Bench) -> Verdict {
    let sender = sender(PORT)?;
    for invalid in [4, 5, T_NONE | T_FAST, T_NONE | T_MONOTONIC, 0x400, 0xffff_ffff] {
        let result = bench.open()?.set_timestamp(invalid);
        equal!(format!("BIOCSTSTAMP {invalid:#x}"), result, refused(libc::EINVAL));
    }
    for format in [T_MICROTIME, T_NANOTIME, T_BINTIME] {
        for flags in [0, T_FAST, T_MONOTONIC, T_FAST | T_MONOTONIC] {
            time_stamp(bench, &sender, format, flags)?;
        }
    }
    let bpf = listening(bench)?;
    bpf.set_timestamp(T_NONE)?;
    bpf.set_immediate(true)?;
    send(&sender, 0..1)?;
    for record in records(&bpf.read()?)? {
        equal!("stamp of BPF_T_NONE", record.stamp, [0, 0]);
        equal!("bh_hdrlen of BPF_T_NONE", record.header, 28);
    }
    Ok(())
}

fn time_stamp(bench: &Bench, sender: &Sender, format: u32, flags: u32) -> Verdict {
    let what = format!("format {format} flags {flags:#x}");
    let bpf = listening(bench)?;
    bpf.set_timestamp(format | flags).at(&what)?;
    equal!(what, bpf.timestamp()?, format | flags);
    bpf.set_immediate(true)?;
    let clock = || if flags & T_MONOTONIC == 0 { sys::wall_clock() } else { sys::now() };
    let before = clock();
    send(sender, 0..1)?;
    let after = clock();
    let records = records(&bpf.read()?)?;
    equal!(format!("{what}: records"), records.len(), 1);
    for record in &records {
        equal!(format!("{what}: bh_hdrlen"), record.header, 28);
        let [seconds, fraction] = record.stamp;
        let nanos = match format {
            T_MICROTIME => fraction * 1000,
            T_NANOTIME => fraction,
            _ => ((u128::from(fraction) * 1_000_000_000) >> 64) as u64,
        };
        ensure!(nanos < 1_000_000_000, "{what}: fraction {fraction}");
        let stamp = Duration::new(seconds, nanos as u32);
        // FAST may be a tick old, MICROTIME is rounded down.
        let slack = Duration::from_millis(if flags & T_FAST == 0 { 1 } else { 50 });
        ensure!(
            stamp + slack >= before && stamp <= after + Duration::from_millis(1),
            "{what}: stamp {stamp:?} not within {before:?} and {after:?}"
        );
    }
    Ok(())
}

fn direction(bench: &Bench) -> Verdict {
    const IN: u32 = 0;
    const INOUT: u32 = 1;
    const OUT: u32 = 2;
    let bpf = listening(bench)?;
    let sender = sender(PORT)?;
    equal!("BIOCSDIRECTION 3", bpf.set_direction(3), refused(libc::EINVAL));
    // The loopback interface taps a packet as received by itself.
    for (direction, expected) in [(IN, 3), (INOUT, 3), (OUT, 0)] {
        bpf.set_direction(direction)?;
        equal!("BIOCGDIRECTION", bpf.direction()?, direction);
        bpf.flush()?;
        send(&sender, 0..3)?;
        let received = bpf.statistics()?[0];
        ensure!(
            counts(received, expected),
            "received with direction {direction}: {received}, expected {expected}"
        );
    }
    Ok(())
}

fn lock(bench: &Bench) -> Verdict {
    let eperm = || refused::<()>(libc::EPERM);
    let bpf = listening(bench)?;
    bpf.lock().at("BIOCLOCK")?;
    equal!("BIOCSETF", bpf.set_filter(bpf::BIOCSETF, &ACCEPT), eperm());
    equal!("BIOCSETFNR", bpf.set_filter(bpf::BIOCSETFNR, &ACCEPT), eperm());
    equal!("BIOCSETWF", bpf.set_filter(bpf::BIOCSETWF, &ACCEPT), eperm());
    equal!("BIOCSBLEN", bpf.set_buffer_length(4096), refused(libc::EPERM));
    equal!("BIOCSETIF", bpf.attach("lo0"), eperm());
    equal!("BIOCPROMISC", bpf.promiscuous(), eperm());
    equal!("BIOCSDLT", bpf.set_link_type(0), eperm());
    equal!("BIOCSDIRECTION", bpf.set_direction(1), eperm());
    equal!("an unknown ioctl", bpf.fd.ioctl_none(0x2000_42c8), eperm());
    equal!("fcntl O_NONBLOCK", bpf.fd.set_nonblocking(true), eperm());
    equal!("BIOCGBLEN", bpf.buffer_length()?, 4096);
    equal!("BIOCGETIF", bpf.interface()?, "lo0");
    equal!("BIOCGDLT", bpf.link_type()?, 0);
    equal!("BIOCGDLTLIST", bpf.fd.ioctl_null_list(bpf::BIOCGDLTLIST, 0)?, 1);
    equal!("BIOCSRTIMEOUT", bpf.set_timeout_ms(100), Ok(()));
    equal!("BIOCIMMEDIATE", bpf.set_immediate(true), Ok(()));
    equal!("BIOCSTSTAMP", bpf.set_timestamp(T_MICROTIME), Ok(()));
    equal!("BIOCVERSION", bpf.version()?, [1, 1]);
    equal!("BIOCFLUSH", bpf.flush(), Ok(()));
    equal!("BIOCLOCK again", bpf.lock(), Ok(()));
    send(&sender(PORT)?, 0..1)?;
    equal!("records when locked", records(&bpf.read()?)?.len(), 1);
    Ok(())
}

fn promiscuous_while_open(bench: &Bench) -> Verdict {
    let promiscuous = || bpf::is_promiscuous("lo0");
    equal!("lo0 promiscuous before", promiscuous()?, false);
    let bpf = bench.attached()?;
    equal!("… attached", promiscuous()?, false);
    bpf.promiscuous().at("BIOCPROMISC")?;
    bpf.promiscuous().at("BIOCPROMISC again")?;
    equal!("… after BIOCPROMISC", promiscuous()?, true);
    bpf.fd.close()?;
    ensure!(eventually(SOON, || promiscuous() == Ok(false)), "lo0 promiscuous after close");
    Ok(())
}

fn two_readers_one_descriptor(bench: &Bench) -> Verdict {
    const PACKETS: usize = 300;
    const READERS: usize = 3;
    let bpf = listening(bench)?;
    bpf.set_immediate(true)?;
    bpf.set_timeout_ms(500)?;
    let (result, collector) = sys::socket_pair()?;
    let mut children = vec![];
    for _ in 0..READERS {
        children.push(Child::start(|| {
            // Reads until a timeout; passes on the number of each packet.
            loop {
                match bpf.read() {
                    Ok(bytes) if bytes.is_empty() => return 0,
                    Ok(bytes) => {
                        let Ok(records) = records(&bytes) else { return 2 };
                        for record in records {
                            let number = record.data.get(32..40).unwrap_or_default();
                            if result.write(number) != Ok(8) {
                                return 3;
                            }
                        }
                    }
                    Err(Errno(_)) => return 4,
                }
            }
        })?);
    }
    let sender = sender(PORT)?;
    for number in 0..PACKETS {
        sender.send(&payload(number)).at("sendto")?;
        if number % 10 == 0 {
            sys::sleep(Duration::from_millis(5));
        }
    }
    let mut seen = vec![0; PACKETS];
    for _ in 0..PACKETS {
        let mut number = [0; 8];
        let come = collector.poll(libc::POLLIN, Some(SOON))?;
        ensure!(come != 0, "{} packets missing", seen.iter().filter(|&&n| n == 0).count());
        collector.read(&mut number)?;
        let number = u64::from_be_bytes(number) as usize;
        *seen.get_mut(number).ok_or_else(|| format!("packet {number}"))? += 1;
    }
    for child in children {
        equal!("a reader's end", child.finish(SOON)?, 0);
    }
    ensure!(seen.iter().all(|&n| n == 1), "packets read twice");
    Ok(())
}

/// BIOCGETIFLIST: what BIOCSETIF takes, and no other interface.
fn interface_list(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    let pair = Epair::new(42)?;
    let tunnel = Cloned::new("gif42").at("gif42")?;
    let names = bpf.interfaces(0)?;
    for name in ["lo0", &pair.a, &pair.b] {
        ensure!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
    }
    ensure!(!names.iter().any(|name| name == tunnel.name()), "a tunnel is in {names:?}");
    for name in &names {
        bpf.attach(name).at(name)?;
    }
    equal!("the first two", bpf.interfaces(2)?, names[..2]);
    let length: usize = names.iter().map(|name| name.len() + 1).sum();
    equal!("too little room", bpf.interfaces_in(0, length - 1), refused(libc::ENOSPC));
    bpf.lock()?;
    equal!("locked, with more room", bpf.interfaces_in(0, length + 9)?, names);
    drop(pair);
    equal!("interfaces without a pair", bpf.interfaces(0)?.len(), names.len() - 2);
    Ok(())
}
