// SPDX-License-Identifier: BSD-2-Clause
//! ioctl(2): every command, before and after it has an interface.
mod support;

use std::time::Duration;

use bpfrs::kpi::abi::{
    bpf_dltlist, bpf_iflist, bpf_insn, bpf_program, bpf_stat, bpf_version, timeval,
};
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, File, Interface, Tunable, Unmapped, errno::ESRCH};
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

fn error<T>(errno: Errno) -> Result<T, i32> {
    Err(errno.into())
}

fn pair() -> (File, File) {
    let (new, attached) = (File::open(0).unwrap(), File::open(1).unwrap());
    attach(&attached, "lo0").unwrap();
    (new, attached)
}

const NO_STAT: bpf_stat = bpf_stat { bs_recv: 0, bs_drop: 0 };
const NO_IFLIST: bpf_iflist = bpf_iflist { bi_size: 0, bi_count: 0, bi_ubuf: std::ptr::null_mut() };
const NO_TIME: timeval = timeval { tv_sec: 0, tv_usec: 0 };

#[test]
fn version() {
    run(|| {
        let file = File::open(0).unwrap();
        let version = get(&file, BPFRS_BIOCVERSION, bpf_version { bv_major: 0, bv_minor: 0 });
        assert!(matches!(version, Ok(bpf_version { bv_major: 1, bv_minor: 1 })));
    });
}

#[test]
fn buffer_sizes() {
    run(|| {
        let (new, attached) = pair();
        assert_eq!(get(&new, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
        for (wanted, granted) in [(0, 32), (31, 32), (33, 33), (0x80001, 0x80000), (65536, 65536)] {
            assert_eq!(get(&new, BPFRS_BIOCSBLEN, wanted), Ok(granted), "{wanted}");
            assert_eq!(get(&new, BPFRS_BIOCGBLEN, 0u32), Ok(granted));
        }
        assert_eq!(get(&attached, BPFRS_BIOCSBLEN, 64u32), error(Errno::EINVAL));
        attach(&new, "lo0").unwrap();
        assert_eq!(get(&new, BPFRS_BIOCGBLEN, 0u32), Ok(65536));
        host::set_tunable(Tunable::Bufsize, 100);
        assert_eq!(get(&File::open(2).unwrap(), BPFRS_BIOCGBLEN, 0u32), Ok(100));
        host::set_tunable(Tunable::Bufsize, 1);
        assert_eq!(get(&File::open(2).unwrap(), BPFRS_BIOCGBLEN, 0u32), Ok(32));
        host::set_tunable(Tunable::Maxbufsize, 64);
        assert_eq!(get(&File::open(2).unwrap(), BPFRS_BIOCSBLEN, 100u32), Ok(64));
    });
}

#[test]
fn interfaces() {
    run(|| {
        let (new, attached) = pair();
        Interface::other("gif0");
        let lo1 = Interface::loopback("lo1");
        assert_eq!(name(&get(&attached, BPFRS_BIOCGETIF, ifreq("")).unwrap()), "lo0");
        assert_eq!(get(&new, BPFRS_BIOCGETIF, ifreq("")).err(), Some(Errno::EINVAL.into()));
        for wrong in ["", "lo", "lo9", "gif0", "a-name-too-long-"] {
            assert_eq!(attach(&new, wrong), error(Errno::ENXIO), "{wrong}");
        }
        // Nothing came of these: buffers would fix the mode.
        assert_eq!(set(&new, BPFRS_BIOCSETBUFMODE, 1u32), Ok(()));
        // The same again forgets packets; another one moves.
        host::inject("lo0", 2, &[&[1]]);
        assert_eq!(get(&attached, BPFRS_FIONREAD, 0i32), Ok(33));
        attached.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        attach(&attached, "lo0").unwrap();
        assert_eq!((get(&attached, BPFRS_FIONREAD, 0i32), counts(&attached)), (Ok(0), (0, 0)));
        let lo0 = Interface::named("lo0").unwrap();
        assert_eq!(lo0.promisc(), 1);
        attach(&attached, "lo1").unwrap();
        assert_eq!((lo0.promisc(), lo0.is_tapped()), (0, false));
        assert_eq!((lo1.promisc(), lo1.is_tapped()), (0, true));
        // An unknown one changes nothing.
        assert_eq!(attach(&attached, "lo9"), error(Errno::ENXIO));
        assert_eq!(name(&get(&attached, BPFRS_BIOCGETIF, ifreq("")).unwrap()), "lo1");
        lo1.depart();
    });
}

#[test]
fn the_list_of_interfaces() {
    run(|| {
        let file = File::open(0).unwrap();
        let mut place = [b'.'; 24];
        let mut list = |bi_size, bi_count| {
            place.fill(b'.');
            let list = bpf_iflist { bi_size, bi_count, bi_ubuf: place.as_mut_ptr().cast() };
            let answer = get(&file, BPFRS_BIOCGETIFLIST, list)?;
            Ok((answer.bi_size, answer.bi_count, place))
        };
        assert_eq!(list(24, 0), Ok((24, 1, *b"lo0\0....................")));
        // What BIOCSETIF takes: none without a tap, none of another stack.
        Interface::other("gif0");
        Interface::ethernet("em0").set_visible(false);
        Interface::ethernet("em1");
        Interface::producer("usbus0", 1, 2);
        // The length that is needed, and nothing written.
        assert_eq!(list(0, 0), Ok((15, 3, [b'.'; 24])));
        assert_eq!(list(0, 2), Ok((8, 2, [b'.'; 24])));
        assert_eq!(list(15, 0), Ok((15, 3, *b"lo0\0em1\0usbus0\0.........")));
        assert_eq!(list(15, 3), list(15, 0));
        assert_eq!(list(u32::MAX, u32::MAX).unwrap().1, 3);
        assert_eq!(list(8, 2), Ok((8, 2, *b"lo0\0em1\0................")));
        for (size, count) in [(1, 0), (14, 0), (14, 3), (7, 2)] {
            assert_eq!(list(size, count), error(Errno::ENOSPC), "{size} {count}");
        }
        let nowhere = bpf_iflist { bi_size: 15, bi_count: 0, bi_ubuf: std::ptr::null_mut() };
        assert_eq!(get(&file, BPFRS_BIOCGETIFLIST, nowhere).err(), Some(Errno::EFAULT.into()));
        Interface::named("em1").unwrap().depart();
        assert_eq!(list(11, 0), Ok((11, 2, *b"lo0\0usbus0\0.............")));
    });
}

#[test]
fn promiscuous_mode_is_counted_once() {
    run(|| {
        let (new, attached) = pair();
        let lo0 = Interface::named("lo0").unwrap();
        assert_eq!(new.ioctl0(BPFRS_BIOCPROMISC), error(Errno::EINVAL));
        lo0.set_promisc_error(Errno::ENXIO.into());
        assert_eq!(attached.ioctl0(BPFRS_BIOCPROMISC), error(Errno::ENXIO));
        assert_eq!(lo0.promisc(), 0);
        attached.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        attached.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        attach(&new, "lo0").unwrap();
        new.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        assert_eq!(lo0.promisc(), 2);
        attached.close();
        assert_eq!(lo0.promisc(), 1);
        new.close();
        assert_eq!(lo0.promisc(), 0);
    });
}

#[test]
fn link_types() {
    run(|| {
        let (new, attached) = pair();
        assert_eq!(get(&new, BPFRS_BIOCGDLT, 9u32), error(Errno::EINVAL));
        assert_eq!(get(&attached, BPFRS_BIOCGDLT, 9u32), Ok(0));
        assert_eq!(set(&new, BPFRS_BIOCSDLT, 0u32), error(Errno::EINVAL));
        assert_eq!(set(&attached, BPFRS_BIOCSDLT, 0u32), Ok(()));
        assert_eq!(set(&attached, BPFRS_BIOCSDLT, 1u32), error(Errno::EINVAL));

        let mut place = [77u32; 2];
        let list = |file: &File, bfl_len, bfl_list| {
            let list = bpf_dltlist { bfl_len, bfl_list };
            get(file, BPFRS_BIOCGDLTLIST, list).map(|list| list.bfl_len)
        };
        assert_eq!(list(&new, 0, std::ptr::null_mut()), error(Errno::EINVAL));
        assert_eq!(list(&attached, 0, std::ptr::null_mut()), Ok(1));
        assert_eq!(list(&attached, 0, place.as_mut_ptr()), error(Errno::ENOMEM));
        assert_eq!(list(&attached, 2, place.as_mut_ptr()), Ok(1));
        assert_eq!(place, [0, 77]);
        let hole = Unmapped::new(&place);
        assert_eq!(list(&attached, 2, place.as_mut_ptr()), error(Errno::EFAULT));
        drop(hole);
    });
}

#[test]
fn read_timeouts() {
    run(|| {
        let file = File::open(0).unwrap();
        let time = |sec, usec| timeval { tv_sec: sec, tv_usec: usec };
        let got = || get(&file, BPFRS_BIOCGRTIMEOUT, NO_TIME).map(|t| (t.tv_sec, t.tv_usec));
        assert_eq!(got(), Ok((0, 0)));
        // A tick of the host is a millisecond; times are rounded up.
        for (set_to, is) in [
            (time(1, 500_000), (1, 500_000)),
            (time(0, 1), (0, 1000)),
            (time(0, 1001), (0, 2000)),
            (time(3600, 999_999), (3601, 0)),
            (time(0, 0), (0, 0)),
        ] {
            set(&file, BPFRS_BIOCSRTIMEOUT, set_to).unwrap();
            assert_eq!(got(), Ok(is));
        }
        set(&file, BPFRS_BIOCSRTIMEOUT, time(2, 0)).unwrap();
        for wrong in [time(-1, 0), time(0, -1), time(0, 1_000_000), time(i64::MIN, i64::MIN)] {
            assert_eq!(set(&file, BPFRS_BIOCSRTIMEOUT, wrong), error(Errno::EINVAL));
        }
        assert_eq!(got(), Ok((2, 0)));
        // Longer than ticks can count is as long as they can.
        set(&file, BPFRS_BIOCSRTIMEOUT, time(i64::MAX, 999_999)).unwrap();
        assert_eq!(got(), Ok((2_147_483, 646_000)));
    });
}

#[test]
fn settings() {
    run(|| {
        let file = File::open(0).unwrap();
        let is = |command| get(&file, command, 99u32);
        assert_eq!(is(BPFRS_BIOCGHDRCMPLT), Ok(0));
        set(&file, BPFRS_BIOCSHDRCMPLT, 7u32).unwrap();
        assert_eq!(is(BPFRS_BIOCGHDRCMPLT), Ok(1));

        assert_eq!(is(BPFRS_BIOCGDIRECTION), Ok(BPFRS_BPF_D_INOUT as u32));
        for direction in 0..=2u32 {
            set(&file, BPFRS_BIOCSDIRECTION, direction).unwrap();
            assert_eq!(is(BPFRS_BIOCGDIRECTION), Ok(direction));
        }
        assert_eq!(set(&file, BPFRS_BIOCSDIRECTION, 3u32), error(Errno::EINVAL));

        assert_eq!(is(BPFRS_BIOCGTSTAMP), Ok(0));
        for valid in [0u32, 1, 2, 3, 0x100, 0x202, 0x301] {
            set(&file, BPFRS_BIOCSTSTAMP, valid).unwrap();
            assert_eq!(is(BPFRS_BIOCGTSTAMP), Ok(valid));
        }
        for wrong in [4u32, 0x103, 0x400, u32::MAX] {
            assert_eq!(set(&file, BPFRS_BIOCSTSTAMP, wrong), error(Errno::EINVAL));
        }

        assert_eq!(is(BPFRS_BIOCGRSIG), Ok(BPFRS_SIGIO as u32));
        set(&file, BPFRS_BIOCSRSIG, 0u32).unwrap();
        set(&file, BPFRS_BIOCSRSIG, 31u32).unwrap();
        assert_eq!(is(BPFRS_BIOCGRSIG), Ok(31));
        assert_eq!(set(&file, BPFRS_BIOCSRSIG, 32u32), error(Errno::EINVAL));

        for value in [0u32, 1, 5] {
            set(&file, BPFRS_BIOCFEEDBACK, value).unwrap();
            set(&file, BPFRS_BIOCIMMEDIATE, value).unwrap();
        }
        set(&file, BPFRS_FIONBIO, 0i32).unwrap();
    });
}

#[test]
fn statistics() {
    run(|| {
        let (new, attached) = pair();
        assert_eq!((counts(&new), counts(&attached)), ((0, 0), (0, 0)));
        for _ in 0..3 {
            host::inject("lo0", 2, &[&[1; 100]]);
        }
        assert_eq!((counts(&new), counts(&attached)), ((0, 0), (3, 0)));
        // The filter rejects: received nevertheless.
        setf(&attached, BPFRS_BIOCSETFNR, &mut keep(0)).unwrap();
        host::inject("lo0", 2, &[&[1; 100]]);
        assert_eq!(counts(&attached), (4, 0));
        assert_eq!(get(&attached, BPFRS_FIONREAD, 0i32), Ok(3 * 136 - 4));
        attached.ioctl0(BPFRS_BIOCFLUSH).unwrap();
        assert_eq!(counts(&attached), (0, 0));
        assert_eq!(get(&attached, BPFRS_FIONREAD, 0i32), Ok(0));
        assert_eq!(get(&new, BPFRS_FIONREAD, 0i32), Ok(0));
    });
}

#[test]
fn filters() {
    run(|| {
        let file = listen(4096);
        for command in [BPFRS_BIOCSETF, BPFRS_BIOCSETFNR, BPFRS_BIOCSETWF] {
            let program = |bf_len, bf_insns| set(&file, command, bpf_program { bf_len, bf_insns });
            assert_eq!(program(1, std::ptr::null_mut()), error(Errno::EINVAL));
            assert_eq!(program(0, std::ptr::null_mut()), Ok(()));
            assert_eq!(program(513, keep(1).as_mut_ptr()), error(Errno::EINVAL));
            // An address that is not there is EINVAL as well.
            let mut there = keep(1);
            let hole = Unmapped::new(&there);
            assert_eq!(program(1, there.as_mut_ptr()), error(Errno::EINVAL));
            drop(hole);
            assert_eq!(program(1, there.as_mut_ptr()), Ok(()));
            assert_eq!(setf(&file, command, &mut [insn(0xff, 0, 0, 0)]), error(Errno::EINVAL));
            let mut longest = vec![insn(0, 0, 0, 1); 511];
            longest.extend(keep(8));
            assert_eq!(setf(&file, command, &mut longest), Ok(()));
        }
        host::set_tunable(Tunable::Maxinsns, 1);
        assert_eq!(
            setf(&file, BPFRS_BIOCSETF, &mut [keep(1), keep(1)].concat()),
            error(Errno::EINVAL)
        );
    });
}

/// BIOCSETF forgets, BIOCSETFNR and BIOCSETWF do not.
#[test]
fn which_filters_forget_packets() {
    run(|| {
        let file = listen(4096);
        for (command, left) in [(BPFRS_BIOCSETFNR, 1), (BPFRS_BIOCSETWF, 1), (BPFRS_BIOCSETF, 0)] {
            file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
            host::inject("lo0", 2, &[&[1; 8]]);
            setf(&file, command, &mut keep(100)).unwrap();
            assert_eq!(
                (get(&file, BPFRS_FIONREAD, 0i32), counts(&file)),
                (Ok(40 * left), (left as u32, 0))
            );
        }
    });
}

#[test]
fn signals() {
    run(|| {
        let file = listen(4096);
        let me = std::process::id().cast_signed();
        assert_eq!(get(&file, BPFRS_FIOGETOWN, 9i32), Ok(0));
        assert_eq!(set(&file, BPFRS_FIOSETOWN, 1i32), Err(ESRCH));
        set(&file, BPFRS_FIOSETOWN, me).unwrap();
        assert_eq!(get(&file, BPFRS_FIOGETOWN, 0i32), Ok(me));
        assert_eq!(get(&file, BPFRS_TIOCGPGRP, 0i32), Ok(-me));
        // Not asked for yet.
        host::inject("lo0", 2, &[&[1; 8]]);
        assert_eq!(host::signals(), []);
        set(&file, BPFRS_FIOASYNC, 1i32).unwrap();
        host::inject("lo0", 2, &[&[1; 8]]);
        set(&file, BPFRS_BIOCSRSIG, 30u32).unwrap();
        set(&file, BPFRS_TIOCSPGRP, me).unwrap();
        host::inject("lo0", 2, &[&[1; 8]]);
        assert_eq!(host::signals(), [(me, BPFRS_SIGIO), (-me, 30)]);
        set(&file, BPFRS_BIOCSRSIG, 0u32).unwrap();
        host::inject("lo0", 2, &[&[1; 8]]);
        assert_eq!(host::signals().len(), 2);
    });
}

/// The time that poll(2) starts is a reason for a signal if there is something
/// to read, and then only.
#[test]
fn signal_when_the_time_is_over() {
    run(|| {
        let file = File::open(0).unwrap();
        attach(&file, "lo0").unwrap();
        let me = std::process::id().cast_signed();
        set(&file, BPFRS_FIOSETOWN, me).unwrap();
        set(&file, BPFRS_FIOASYNC, 1i32).unwrap();
        set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 0, tv_usec: 20_000 }).unwrap();
        let poll = |time| file.poll(BPFRS_POLLIN, Some(Duration::from_millis(time)));
        assert_eq!(poll(100), Ok(0));
        assert_eq!(host::signals(), []);
        // An ioctl(2) stops the time.
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
        host::inject("lo0", 2, &[&[1; 8]]);
        assert_eq!(host::signals(), []);
        assert_eq!(poll(10_000), Ok(BPFRS_POLLIN));
        assert_eq!(host::signals(), [(me, BPFRS_SIGIO)]);
    });
}

/// Zero-copy buffers are off, as in stock by default; zerocopy.rs has them on.
#[test]
fn buffer_modes() {
    run(|| {
        let (new, attached) = pair();
        assert_eq!(get(&new, BPFRS_BIOCGETBUFMODE, 0u32), Ok(1));
        assert_eq!(set(&new, BPFRS_BIOCSETBUFMODE, 1u32), Ok(()));
        assert_eq!(set(&new, BPFRS_BIOCSETBUFMODE, 2u32), error(Errno::EINVAL));
        assert_eq!(set(&attached, BPFRS_BIOCSETBUFMODE, 1u32), error(Errno::EBUSY));
        assert_eq!(get(&new, BPFRS_BIOCGETZMAX, 0usize), error(Errno::EOPNOTSUPP));
        let zero = [0u32; 6];
        assert_eq!(get(&new, BPFRS_BIOCROTZBUF, Words(zero)).err(), Some(Errno::EOPNOTSUPP.into()));
        assert_eq!(set(&new, BPFRS_BIOCSETZBUF, Words(zero)), error(Errno::EOPNOTSUPP));
    });
}

/// `struct bpf_zbuf`, which nobody looks into.
#[derive(Clone, Copy)]
#[repr(C)]
struct Words([u32; 6]);
// SAFETY: integers without padding.
unsafe impl bpfrs::kpi::abi::Plain for Words {}

#[test]
fn unknown_commands() {
    run(|| {
        let file = File::open(0).unwrap();
        for command in [0x2000_4200, 0x2000_42ff, 0x2000_7401] {
            assert_eq!(file.ioctl0(command), error(Errno::EINVAL), "{command:#x}");
        }
        assert_eq!(set(&file, BPFRS_BIOCSETVLANPCP, 8u32), error(Errno::EINVAL));
        assert_eq!(set(&file, BPFRS_BIOCSETVLANPCP, 7u32), Ok(()));
    });
}

/// The allow-list of FreeBSD, written down independently of the driver.
#[test]
fn locked() {
    run(|| {
        let file = listen(4096);
        file.ioctl0(BPFRS_BIOCLOCK).unwrap();
        let allowed = [
            file.ioctl0(BPFRS_BIOCLOCK),
            file.ioctl0(BPFRS_BIOCFLUSH),
            set(&file, BPFRS_BIOCGBLEN, 0u32),
            set(&file, BPFRS_BIOCGDLT, 0u32),
            set(
                &file,
                BPFRS_BIOCGDLTLIST,
                bpf_dltlist { bfl_len: 0, bfl_list: std::ptr::null_mut() },
            ),
            set(&file, BPFRS_BIOCGETIF, ifreq("")),
            set(&file, BPFRS_BIOCGETIFLIST, NO_IFLIST),
            set(&file, BPFRS_BIOCGRTIMEOUT, NO_TIME),
            set(&file, BPFRS_BIOCSRTIMEOUT, NO_TIME),
            set(&file, BPFRS_BIOCGSTATS, NO_STAT),
            set(&file, BPFRS_BIOCVERSION, bpf_version { bv_major: 0, bv_minor: 0 }),
            set(&file, BPFRS_BIOCGRSIG, 0u32),
            set(&file, BPFRS_BIOCGHDRCMPLT, 0u32),
            set(&file, BPFRS_BIOCSTSTAMP, 0u32),
            set(&file, BPFRS_BIOCFEEDBACK, 0u32),
            set(&file, BPFRS_BIOCIMMEDIATE, 1u32),
            set(&file, BPFRS_FIONREAD, 0i32),
            set(&file, BPFRS_TIOCGPGRP, 0i32),
        ];
        assert_eq!(allowed, [Ok(()); 18]);
        assert_eq!(set(&file, BPFRS_BIOCROTZBUF, Words([0; 6])), error(Errno::EOPNOTSUPP));
        let mut program: [bpf_insn; 1] = keep(1);
        let refused = [
            set(&file, BPFRS_BIOCSBLEN, 64u32),
            setf(&file, BPFRS_BIOCSETF, &mut program),
            setf(&file, BPFRS_BIOCSETFNR, &mut program),
            setf(&file, BPFRS_BIOCSETWF, &mut program),
            file.ioctl0(BPFRS_BIOCPROMISC),
            attach(&file, "lo0"),
            set(&file, BPFRS_BIOCSRSIG, 1u32),
            set(&file, BPFRS_BIOCSHDRCMPLT, 1u32),
            set(&file, BPFRS_BIOCGDIRECTION, 1u32),
            set(&file, BPFRS_BIOCSDIRECTION, 1u32),
            set(&file, BPFRS_BIOCSDLT, 0u32),
            set(&file, BPFRS_BIOCGETBUFMODE, 1u32),
            set(&file, BPFRS_BIOCSETBUFMODE, 1u32),
            set(&file, BPFRS_BIOCGETZMAX, 0usize),
            set(&file, BPFRS_BIOCSETZBUF, Words([0; 6])),
            set(&file, BPFRS_BIOCGTSTAMP, 0u32),
            set(&file, BPFRS_BIOCSETVLANPCP, 0u32),
            set(&file, BPFRS_FIONBIO, 0i32),
            set(&file, BPFRS_FIOASYNC, 0i32),
            set(&file, BPFRS_FIOSETOWN, 0i32),
            set(&file, BPFRS_FIOGETOWN, 0i32),
            set(&file, BPFRS_TIOCSPGRP, 0i32),
            file.ioctl0(0x2000_42ff),
        ];
        assert_eq!(refused, [error(Errno::EPERM); 23]);
        // Only ioctl(2) is locked, and only this open.
        host::inject("lo0", 2, &[&[1]]);
        assert_eq!(read_now(&file).len(), 1);
        file.close();
        set(&File::open(0).unwrap(), BPFRS_BIOCSBLEN, 64u32).unwrap();
    });
}
