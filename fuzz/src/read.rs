// SPDX-License-Identifier: BSD-2-Clause
//! What read(2) returns, against queues of records.

use arbitrary::{Arbitrary, Unstructured};
use bpfrs::kpi::abi::{bpf_insn, bpf_program, bpf_stat, ifreq};
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, Chain, File, Frozen, Interface};
use bpfrs::kpi::time::Bintime;
use bpfrs_sys::bpfrs_ioc::*;

use super::{get, session, set};

#[derive(Arbitrary, Debug)]
enum Step {
    Packet { len: u16, short: bool, header: u8, cuts: [u8; 2], inbound: bool, unmapped: bool },
    Read,
    ReadOfSize(u16),
    Filter { snaplen: u32, forget: bool },
    NoFilter { forget: bool },
    Flush,
    Attach,
    Immediate(bool),
    Direction(u8),
    Tstamp(u16),
    Clock { sec: u16, frac: u64, fast: u64, boot: u64 },
}

/// A time in units of 2^-64 s, to compute in one number.
type Time = u128;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    sec: u64,
    frac: u64,
    datalen: usize,
    data: Vec<u8>,
}

/// The descriptor: what it was told, and its packets in two queues.
struct Oracle {
    size: usize,
    store: Vec<Record>,
    stored: usize,
    hold: Option<(Vec<Record>, usize)>,
    received: u32,
    dropped: u32,
    snaplen: usize,
    direction: u32,
    tstamp: u32,
    /// Uptime, the same as of the last tick, time of boot.
    clocks: [Time; 3],
}

/// `bh_hdrlen` on DLT_NULL.
const HDRLEN: usize = 28;

impl Oracle {
    fn forget(&mut self) {
        (self.store, self.stored, self.hold) = (Vec::new(), 0, None);
        (self.received, self.dropped) = (0, 0);
    }

    fn time(&self) -> (u64, u64) {
        if self.tstamp & 3 == 3 {
            return (0, 0);
        }
        let [exact, fast, boot] = self.clocks;
        let mut time = if self.tstamp & 0x100 != 0 { fast } else { exact };
        if self.tstamp & 0x200 == 0 {
            time += boot;
        }
        let (sec, frac) = ((time >> 64) as u64, time & Time::from(u64::MAX));
        match self.tstamp & 3 {
            0 => (sec, ((frac * 1_000_000) >> 64) as u64),
            1 => (sec, ((frac * 1_000_000_000) >> 64) as u64),
            _ => (sec, frac as u64),
        }
    }

    fn rotate(&mut self) {
        assert!(self.hold.is_none());
        self.hold = Some((std::mem::take(&mut self.store), std::mem::take(&mut self.stored)));
    }

    fn packet(&mut self, packet: &[u8], inbound: bool) {
        // 0 is inbound only, 2 outbound only.
        if self.direction == if inbound { 2 } else { 0 } {
            return;
        }
        self.received += 1;
        if self.snaplen == 0 {
            return;
        }
        let data = packet.len().min(self.snaplen).min(self.size - HDRLEN);
        let mut start = self.stored.div_ceil(8) * 8;
        if start + HDRLEN + data > self.size {
            if self.hold.is_some() {
                self.dropped += 1;
                return;
            }
            self.rotate();
            start = 0;
        }
        let (sec, frac) = self.time();
        let data = packet[..data].to_vec();
        self.stored = start + HDRLEN + data.len();
        self.store.push(Record { sec, frac, datalen: packet.len(), data });
    }

    /// What read(2) of exactly one buffer returns, without waiting.
    fn read(&mut self) -> Result<(Vec<Record>, usize), i32> {
        if self.hold.is_none() && self.stored != 0 {
            self.rotate();
        }
        self.hold.take().ok_or(Errno::EWOULDBLOCK.into())
    }
}

fn parse(bytes: &[u8]) -> Vec<Record> {
    let word = |at: usize, len: usize| {
        let bytes = bytes[at..at + len].iter().rev();
        bytes.fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (caplen, datalen) = (word(at + 16, 4) as usize, word(at + 20, 4) as usize);
        assert_eq!(word(at + 24, 2), HDRLEN as u64, "bh_hdrlen");
        assert_eq!(word(at + 26, 2), 0, "what fills the header up");
        let start = at + HDRLEN;
        let data = bytes[start..start + caplen].to_vec();
        records.push(Record { sec: word(at, 8), frac: word(at + 8, 8), datalen, data });
        let end = start + caplen;
        at = end.div_ceil(8) * 8;
        // The last record is not filled up.
        let gap = bytes.get(end..at).unwrap_or_default();
        assert!(gap.iter().all(|byte| *byte == 0), "what fills a record up");
        assert!(at <= bytes.len() || end == bytes.len(), "a record is cut");
    }
    records
}

/// A program that keeps `snaplen` bytes.
fn filter(file: &File, forget: bool, snaplen: Option<u32>) {
    let mut keep = [bpf_insn { code: 0x06, jt: 0, jf: 0, k: snaplen.unwrap_or(0) }];
    let program = bpf_program { bf_len: snaplen.is_some().into(), bf_insns: keep.as_mut_ptr() };
    let command = if forget { BPFRS_BIOCSETF } else { BPFRS_BIOCSETFNR };
    set(file, command, program).expect("a filter");
}

fn attach(file: &File) {
    let mut lo0 = ifreq { ifr_name: [0; 16], ifr_rest: [0; 16] };
    for (to, from) in lo0.ifr_name.iter_mut().zip(*b"lo0") {
        *to = from.cast_signed();
    }
    set(file, BPFRS_BIOCSETIF, lo0).expect("lo0");
}

fn bintime(time: Time) -> Bintime {
    Bintime { sec: (time >> 64) as i64, frac: time as u64 }
}

fn freeze([uptime, uptime_fast, boottime]: [Time; 3]) {
    let [uptime, uptime_fast, boottime] = [uptime, uptime_fast, boottime].map(bintime);
    host::freeze_clock(Some(Frozen { uptime, uptime_fast, boottime }));
}

fn step(file: &File, lo0: &Interface, oracle: &mut Oracle, number: u8, step: Step) {
    match step {
        Step::Packet { len, short, header, cuts, inbound, unmapped } => {
            let len = usize::from(if short { len % 64 } else { len % 2048 });
            let header = [0xaa; 8].split_at(usize::from(header % 8)).0;
            let data: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(7) ^ number).collect();
            let mut cuts = cuts.map(|cut| usize::from(cut).min(len));
            cuts.sort_unstable();
            let chain = Chain::new(&[&data[..cuts[0]], &data[cuts[0]..cuts[1]], &data[cuts[1]..]]);
            let chain = if unmapped { chain.unmapped() } else { chain };
            lo0.pass_raw(header, &chain, inbound);
            oracle.packet(&[header, &data].concat(), inbound);
        }
        Step::Read => {
            let mut buffer = vec![0xee; oracle.size];
            let read = file.read(&mut buffer, true);
            match oracle.read() {
                Err(error) => assert_eq!(read, Err(error)),
                Ok((records, len)) => {
                    assert_eq!(read, Ok(len));
                    assert_eq!(parse(&buffer[..len]), records);
                }
            }
        }
        Step::ReadOfSize(size) => {
            if usize::from(size) != oracle.size {
                let read = file.read(&mut vec![0; size.into()], true);
                assert_eq!(read, Err(Errno::EINVAL.into()));
            }
        }
        Step::Filter { snaplen, forget } => {
            // Half of them within a packet.
            let snaplen = if snaplen % 2 == 0 { snaplen / 2 % 128 } else { snaplen };
            filter(file, forget, Some(snaplen));
            oracle.snaplen = snaplen as usize;
            if forget {
                oracle.forget();
            }
        }
        Step::NoFilter { forget } => {
            filter(file, forget, None);
            oracle.snaplen = usize::MAX;
            if forget {
                oracle.forget();
            }
        }
        Step::Flush => {
            file.ioctl0(BPFRS_BIOCFLUSH).expect("BIOCFLUSH");
            oracle.forget();
        }
        Step::Attach => {
            attach(file);
            oracle.forget();
        }
        Step::Immediate(on) => set(file, BPFRS_BIOCIMMEDIATE, u32::from(on)).expect("immediate"),
        Step::Direction(direction) => {
            let direction = u32::from(direction % 4);
            let result = set(file, BPFRS_BIOCSDIRECTION, direction);
            assert_eq!(result.is_ok(), direction <= 2);
            if result.is_ok() {
                oracle.direction = direction;
            }
        }
        Step::Tstamp(tstamp) => {
            let tstamp = u32::from(tstamp) & 0x707;
            let known = tstamp & !0x303 == 0 && (tstamp & 3 != 3 || tstamp == 3);
            let result = set(file, BPFRS_BIOCSTSTAMP, tstamp);
            assert_eq!(result, if known { Ok(()) } else { Err(Errno::EINVAL.into()) });
            if known {
                oracle.tstamp = tstamp;
            }
        }
        Step::Clock { sec, frac, fast, boot } => {
            let sec = Time::from(sec) << 64;
            oracle.clocks = [frac, fast, boot].map(|frac| sec + Time::from(frac));
            freeze(oracle.clocks);
        }
    }
    assert_eq!(
        get(file, BPFRS_FIONREAD, 0i32),
        Ok((oracle.stored + oracle.hold.as_ref().map_or(0, |(_, len)| *len)) as i32)
    );
    let stat = get(file, BPFRS_BIOCGSTATS, bpf_stat { bs_recv: 0, bs_drop: 0 });
    let stat = stat.expect("BIOCGSTATS");
    assert_eq!((stat.bs_recv, stat.bs_drop), (oracle.received, oracle.dropped));
}

fn body(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let wanted = u32::from(u.arbitrary::<u16>()?) % 4096;
    let clocks = [3 << 63, 3 << 63, 1000 << 64];
    freeze(clocks);
    let file = File::open(0).expect("an open");
    let size = get(&file, BPFRS_BIOCSBLEN, wanted).expect("a size");
    assert_eq!(size, wanted.max(32));
    attach(&file);
    let mut oracle = Oracle {
        size: size as usize,
        store: Vec::new(),
        stored: 0,
        hold: None,
        received: 0,
        dropped: 0,
        snaplen: usize::MAX,
        direction: 1,
        tstamp: 0,
        clocks,
    };
    let lo0 = Interface::named("lo0").expect("lo0");
    for number in 0..48 {
        if u.is_empty() {
            break;
        }
        let next = u.arbitrary()?;
        super::trace(&next);
        step(&file, &lo0, &mut oracle, number, next);
    }
    // What is left, to the last byte.
    for _ in 0..3 {
        step(&file, &lo0, &mut oracle, 0, Step::Read);
    }
    assert_eq!((oracle.stored, oracle.hold), (0, None));
    Ok(())
}

/// One descriptor, its packets and its reads.
pub fn run(data: &[u8]) {
    session(data, || {
        // An input that is too short ends early.
        let _ = body(&mut Unstructured::new(data));
    });
    host::freeze_clock(None);
}
