// SPDX-License-Identifier: BSD-2-Clause
//! From a packet on lo0 to the bytes that read(2) returns.
mod support;

use bpfrs::kpi::host::{self, Chain, File, Frozen, Interface};
use bpfrs::kpi::time::Bintime;
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 28;

/// Up for 100.5 s, or 100.25 s as of the last tick; booted at 1000.75 s.
const CLOCKS: Frozen = Frozen {
    uptime: Bintime { sec: 100, frac: 1 << 63 },
    uptime_fast: Bintime { sec: 100, frac: 1 << 62 },
    boottime: Bintime { sec: 1000, frac: 3 << 62 },
};

/// What read(2) returns, byte by byte.
fn bytes(file: &File) -> Vec<u8> {
    let mut buffer = vec![0; get(file, BPFRS_BIOCGBLEN, 0u32).unwrap() as usize];
    let len = file.read(&mut buffer, true).unwrap();
    buffer.truncate(len);
    buffer
}

fn ramp(len: usize) -> Vec<u8> {
    (0..len).map(|byte| byte as u8).collect()
}

#[test]
fn a_record_byte_by_byte() {
    run(|| {
        host::freeze_clock(Some(CLOCKS));
        let file = listen(4096);
        host::inject("lo0", AF_INET, &[&[0x45, 1, 2]]);
        host::inject("lo0", AF_INET6, &[&[0x60, 1, 2, 3]]);
        #[rustfmt::skip]
        let expected = [
            // 1000.75 + 100.5 s
            1101i64.to_ne_bytes(), 250_000u64.to_ne_bytes(),
            // caplen 7, datalen 7
            [7, 0, 0, 0, 7, 0, 0, 0],
            // hdrlen 28, DLT_NULL header in host order
            [28, 0, 0, 0, 2, 0, 0, 0],
            // the packet, filled up to the next record
            [0x45, 1, 2, 0, 0, 0, 0, 0],
            1101i64.to_ne_bytes(), 250_000u64.to_ne_bytes(),
            [8, 0, 0, 0, 8, 0, 0, 0],
            [28, 0, 0, 0, 28, 0, 0, 0],
            [0x60, 1, 2, 3, 0, 0, 0, 0],
        ]
        .concat();
        // The last record is not filled up.
        assert_eq!(bytes(&file), expected[..expected.len() - 4]);
    });
}

#[test]
fn timestamp_formats() {
    run(|| {
        host::freeze_clock(Some(CLOCKS));
        let file = listen(4096);
        let stamp = |format| {
            set(&file, BPFRS_BIOCSTSTAMP, format).unwrap();
            host::inject("lo0", AF_INET, &[&[1]]);
            let record = read_now(&file).remove(0);
            assert_eq!((record.hdrlen, record.datalen), (28, 5));
            (record.sec, record.frac)
        };
        let (fast, monotonic) = (BPFRS_BPF_T_FAST as u32, BPFRS_BPF_T_MONOTONIC as u32);
        let [micro, nano, bin, none] = [0u32, 1, 2, 3];
        assert_eq!(stamp(micro), (1101, 250_000));
        assert_eq!(stamp(nano), (1101, 250_000_000));
        assert_eq!(stamp(bin), (1101, 1 << 62));
        assert_eq!(stamp(none), (0, 0));
        assert_eq!(stamp(micro | fast), (1101, 0));
        assert_eq!(stamp(micro | monotonic), (100, 500_000));
        assert_eq!(stamp(nano | monotonic), (100, 500_000_000));
        assert_eq!(stamp(bin | fast | monotonic), (100, 1 << 62));
    });
}

/// One reading of the clock for all, unless a later one wants better.
#[test]
fn every_listener_gets_the_same_time() {
    run(|| {
        let files: Vec<File> = (0..3).map(|unit| File::open(unit).unwrap()).collect();
        for file in &files {
            attach(file, "lo0").unwrap();
            set(file, BPFRS_BIOCSTSTAMP, BPFRS_BPF_T_BINTIME as u32).unwrap();
        }
        for _ in 0..20 {
            host::inject("lo0", AF_INET, &[&[1]]);
            let times: Vec<_> = files
                .iter()
                .map(|file| read_now(file).iter().map(|r| (r.sec, r.frac)).collect::<Vec<_>>())
                .collect();
            assert!(times[0].len() == 1 && times[0] == times[1] && times[1] == times[2]);
        }
    });
}

/// What a card or a driver stamped is better than any reading here, and then
/// the same for all.
#[test]
fn stamps_of_a_card() {
    run(|| {
        host::freeze_clock(Some(CLOCKS));
        let lo0 = Interface::named("lo0").unwrap();
        let stamp = Bintime { sec: 90, frac: 3 << 62 };
        let stamped = || lo0.pass(AF_INET, &Chain::new(&[&[1]]).stamped(stamp), true);
        let file = listen(4096);
        let seen = |file: &File, format: i32| {
            set(file, BPFRS_BIOCSTSTAMP, format as u32).unwrap();
            stamped();
            let record = read_now(file).remove(0);
            (record.sec, record.frac)
        };
        let nano = BPFRS_BPF_T_NANOTIME;
        // The time of boot is added where a time of day is asked for.
        let of_day = CLOCKS.boottime.plus(stamp);
        let nanoseconds = u64::from(of_day.frac_in(1_000_000_000));
        for format in [nano, nano | BPFRS_BPF_T_FAST] {
            assert_eq!(seen(&file, format), (of_day.sec as u64, nanoseconds));
        }
        for format in [BPFRS_BPF_T_BINTIME, BPFRS_BPF_T_BINTIME | BPFRS_BPF_T_FAST] {
            assert_eq!(seen(&file, format | BPFRS_BPF_T_MONOTONIC), (90, 3 << 62));
        }
        assert_eq!(seen(&file, BPFRS_BPF_T_NONE), (0, 0));
        // One that wants less comes first.
        let better = File::open(1).unwrap();
        attach(&better, "lo0").unwrap();
        for (file, format) in [(&file, BPFRS_BPF_T_FAST), (&better, 0)] {
            let format = BPFRS_BPF_T_BINTIME | BPFRS_BPF_T_MONOTONIC | format;
            set(file, BPFRS_BIOCSTSTAMP, format as u32).unwrap();
        }
        stamped();
        for file in [&file, &better] {
            assert_eq!(read_now(file)[0].sec, 90);
        }
        // The next packet has none.
        host::inject("lo0", AF_INET, &[&[1]]);
        assert_eq!(read_now(&better)[0].sec, 100);
    });
}

#[test]
fn snaplen_and_filter() {
    run(|| {
        let file = listen(4096);
        let packet = ramp(100);
        for snaplen in [1, 3, 4, 5, 50, 103, 104, 105, u32::MAX] {
            setf(&file, BPFRS_BIOCSETF, &mut keep(snaplen)).unwrap();
            host::inject("lo0", AF_INET, &[&packet]);
            let record = read_now(&file).remove(0);
            let caplen = snaplen.min(104) as usize;
            assert_eq!((record.data.len(), record.datalen), (caplen, 104));
            assert_eq!(record.data, [&AF_INET.to_ne_bytes()[..], &packet].concat()[..caplen]);
        }
        // Only AF_INET6: the family is the first word, in host order.
        let family = AF_INET6.to_be();
        let mut program = [
            insn(0x20, 0, 0, 0),
            insn(0x15, 0, 1, family),
            insn(0x06, 0, 0, u32::MAX),
            insn(0x06, 0, 0, 0),
        ];
        setf(&file, BPFRS_BIOCSETF, &mut program).unwrap();
        for af in [AF_INET, AF_INET6, AF_INET] {
            host::inject("lo0", af, &[&packet]);
        }
        assert_eq!(read_now(&file).len(), 1);
        assert_eq!(counts(&file), (3, 0));
    });
}

#[test]
fn directions() {
    run(|| {
        let file = listen(4096);
        let lo0 = Interface::named("lo0").unwrap();
        let both = |direction: i32| {
            set(&file, BPFRS_BIOCSDIRECTION, direction as u32).unwrap();
            file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
            lo0.pass(AF_INET, &Chain::new(&[&[1]]), true);
            lo0.pass(AF_INET, &Chain::new(&[&[0]]), false);
            // What has the wrong direction does not count as received.
            let got: Vec<u8> = read_now(&file).iter().map(|record| record.data[4]).collect();
            assert_eq!(counts(&file).0 as usize, got.len());
            got
        };
        assert_eq!(both(BPFRS_BPF_D_INOUT), [1, 0]);
        assert_eq!(both(BPFRS_BPF_D_IN), [1]);
        assert_eq!(both(BPFRS_BPF_D_OUT), [0]);
    });
}

/// However the packet is split, what is captured is the same.
#[test]
fn every_split_of_a_chain() {
    run(|| {
        let file = listen(4096);
        let lo0 = Interface::named("lo0").unwrap();
        let packet = ramp(24);
        // Loads words across the borders: from the header, and to the end.
        let mut program = [
            insn(0x20, 0, 0, 2),
            insn(0x07, 0, 0, 0),
            insn(0x20, 0, 0, 24),
            insn(0x0c, 0, 0, 0),
            insn(0x28, 0, 0, 11),
            insn(0x30, 0, 0, 27),
            insn(0x15, 0, 1, 23),
            insn(0x06, 0, 0, u32::MAX),
            insn(0x06, 0, 0, 0),
        ];
        setf(&file, BPFRS_BIOCSETF, &mut program).unwrap();
        let whole = [&AF_INET.to_ne_bytes()[..], &packet].concat();
        for first in 0..=packet.len() {
            for second in first..=packet.len() {
                let parts = [&packet[..first], &packet[first..second], &[], &packet[second..]];
                lo0.pass(AF_INET, &Chain::new(&parts), true);
                lo0.pass(AF_INET, &Chain::new(&parts).unmapped(), true);
                let records = read_now(&file);
                assert_eq!(records.len(), 2, "{first} {second}");
                assert!(records.iter().all(|record| record.data == whole), "{first} {second}");
            }
        }
    });
}

#[test]
fn a_packet_larger_than_the_buffer_is_cut() {
    run(|| {
        let file = listen(64);
        host::inject("lo0", AF_INET, &[&ramp(60), &ramp(1000)]);
        let record = read_now(&file).remove(0);
        assert_eq!((record.data.len(), record.datalen), (36, 1064));
        assert_eq!(record.data[4..], ramp(32));
        // Smaller than a header: nothing of the packet is left.
        file.close();
        let file = listen(32);
        host::inject("lo0", AF_INET, &[&ramp(60)]);
        assert_eq!(read_now(&file)[0].data, AF_INET.to_ne_bytes());
    });
}

#[test]
fn an_empty_packet() {
    run(|| {
        let file = listen(64);
        let lo0 = Interface::named("lo0").unwrap();
        lo0.pass_raw(&[], &Chain::new(&[]), true);
        lo0.pass(AF_INET, &Chain::new(&[]), true);
        let lens: Vec<_> = read_now(&file).iter().map(|record| record.datalen).collect();
        assert_eq!(lens, [0, 4]);
    });
}

#[test]
fn every_listener_gets_its_own() {
    run(|| {
        let (all, short, none) = (listen(4096), File::open(1).unwrap(), File::open(2).unwrap());
        for (file, snaplen) in [(&short, 6), (&none, 0)] {
            attach(file, "lo0").unwrap();
            setf(file, BPFRS_BIOCSETF, &mut keep(snaplen)).unwrap();
        }
        host::inject("lo0", AF_INET, &[&ramp(10)]);
        assert_eq!(read_now(&all)[0].data.len(), 14);
        assert_eq!(read_now(&short)[0].data.len(), 6);
        assert_eq!(get(&none, BPFRS_FIONREAD, 0i32), Ok(0));
        assert_eq!([&all, &short, &none].map(counts), [(1, 0); 3]);
        all.close();
        host::inject("lo0", AF_INET, &[&ramp(10)]);
        assert_eq!(read_now(&short).len(), 1);
    });
}

/// Each interface has its own listeners, and they can move.
#[test]
fn two_interfaces() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let lo0 = Interface::named("lo0").unwrap();
        let (file, other) = (listen(4096), File::open(1).unwrap());
        attach(&file, "lo1").unwrap();
        assert_eq!((lo0.is_tapped(), lo1.is_tapped()), (false, true));
        host::inject("lo0", AF_INET, &[&[0]]);
        host::inject("lo1", AF_INET, &[&[1]]);
        let got: Vec<u8> = read_now(&file).iter().map(|record| record.data[4]).collect();
        assert_eq!(got, [1]);
        attach(&other, "lo0").unwrap();
        other.close();
        host::inject("lo1", AF_INET, &[&[1]]);
        assert_eq!(read_now(&file).len(), 1);
        file.close();
        assert_eq!((lo0.is_tapped(), lo1.is_tapped()), (false, false));
        lo1.depart();
    });
}
