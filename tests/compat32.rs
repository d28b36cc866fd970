// SPDX-License-Identifier: BSD-2-Clause
//! 32-bit processes: their forms of ioctl(2), and of records.
mod support;

use bpfrs::kpi::abi::{Plain, bpf_dltlist32, bpf_iflist32, bpf_program32, timeval32};
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, File, SharedMemory, as_ilp32};
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

const NO_TIME: timeval32 = timeval32 { tv_sec: 0, tv_usec: 0 };
const NO_IFLIST: bpf_iflist32 = bpf_iflist32 { bi_size: 0, bi_count: 0, bi_ubuf: 0 };
const NO_LIST: bpf_dltlist32 = bpf_dltlist32 { bfl_len: 0, bfl_list: 0 };
const NO_PROGRAM: bpf_program32 = bpf_program32 { bf_len: 0, bf_insns: 0 };

fn address(memory: &SharedMemory) -> u32 {
    u32::try_from(memory.address()).unwrap()
}

/// A record as `bpf_hdr32` begins it: the words of its header, its length, and
/// the packet.
fn record32(bytes: &[u8]) -> ([u32; 4], u16, &[u8]) {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let hdrlen = u16::from_ne_bytes(bytes[16..18].try_into().unwrap());
    let start = usize::from(hdrlen);
    ([word(0), word(4), word(8), word(12)], hdrlen, &bytes[start..start + word(8) as usize])
}

fn read_bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0xff; 4096];
    let len = file.read(&mut bytes, true).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn filters() {
    run(|| {
        let file = listen(4096);
        let low = SharedMemory::low();
        let program = [6, 0, 0, 0, 5, 0, 0, 0];
        low.write(0, &program);
        let there = bpf_program32 { bf_len: 1, bf_insns: address(&low) };
        for (command, left) in
            [(BPFRS_BIOCSETFNR32, 33), (BPFRS_BIOCSETWF32, 33), (BPFRS_BIOCSETF32, 0)]
        {
            file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
            setf(&file, BPFRS_BIOCSETFNR, &mut []).unwrap();
            setf(&file, BPFRS_BIOCSETWF, &mut []).unwrap();
            host::inject("lo0", 2, &[&[1]]);
            set(&file, command, there).unwrap();
            assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(left));
            let nowhere = bpf_program32 { bf_insns: 0, ..there };
            assert_eq!(set(&file, command, nowhere), Err(Errno::EINVAL.into()));
            low.write(0, &[0xff]);
            assert_eq!(set(&file, command, there), Err(Errno::EINVAL.into()));
            low.write(0, &program);
            if command != BPFRS_BIOCSETWF32 {
                file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
                host::inject("lo0", 2, &[&[1; 10]]);
                assert_eq!(read_now(&file)[0].data.len(), 5);
            }
        }
        // The write filter lets out what is not rejected.
        low.write(0, &[6, 0, 0, 0, 0, 0, 0, 0]);
        set(&file, BPFRS_BIOCSETWF32, there).unwrap();
        assert_eq!(file.write(&[2, 0, 0, 0, 1]), Err(Errno::EPERM.into()));
    });
}

#[test]
fn lists_and_timeouts() {
    run(|| {
        let (new, file) = (File::open(0).unwrap(), File::open(1).unwrap());
        attach(&file, "lo0").unwrap();
        let low = SharedMemory::low();
        low.write(0, &[9; 8]);
        let list = |file, bfl_len, bfl_list| {
            let list = bpf_dltlist32 { bfl_len, bfl_list };
            get(file, BPFRS_BIOCGDLTLIST32, list).map(|list| (list.bfl_len, list.bfl_list))
        };
        let at = address(&low);
        assert_eq!(list(&new, 0, 0), Err(Errno::EINVAL.into()));
        assert_eq!(list(&file, 0, 0), Ok((1, 0)));
        assert_eq!(list(&file, 0, at), Err(Errno::ENOMEM.into()));
        assert_eq!(list(&file, 2, at), Ok((1, at)));
        assert_eq!(low.read()[..8], [0, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!(list(&file, 2, 16), Err(Errno::EFAULT.into()));

        let names = |bi_size, bi_ubuf| {
            let list = bpf_iflist32 { bi_size, bi_count: 0, bi_ubuf };
            get(&new, BPFRS_BIOCGETIFLIST32, list).map(|list| (list.bi_size, list.bi_count))
        };
        low.write(0, &[9; 8]);
        assert_eq!(names(0, 0), Ok((4, 1)));
        assert_eq!(names(3, at), Err(Errno::ENOSPC.into()));
        assert_eq!(names(5, at), Ok((5, 1)));
        assert_eq!(low.read()[..8], *b"lo0\0\x09\x09\x09\x09");
        assert_eq!(names(4, 16), Err(Errno::EFAULT.into()));

        let time = |tv_sec, tv_usec| timeval32 { tv_sec, tv_usec };
        let got = || get(&file, BPFRS_BIOCGRTIMEOUT32, NO_TIME).map(|t| (t.tv_sec, t.tv_usec));
        set(&file, BPFRS_BIOCSRTIMEOUT32, time(3, 1)).unwrap();
        assert_eq!(got(), Ok((3, 1000)));
        for wrong in [time(-1, 0), time(0, -1), time(0, 1_000_000)] {
            assert_eq!(set(&file, BPFRS_BIOCSRTIMEOUT32, wrong), Err(Errno::EINVAL.into()));
        }
        assert_eq!(got(), Ok((3, 1000)));
    });
}

/// A 32-bit process is known by its ioctl(2)s; its records are then for it.
#[test]
fn records() {
    run(|| {
        let file = listen(4096);
        let packets = || host::inject("lo0", 2, &[&[1; 3], &[2; 8]]);
        // Only being one is not enough, and neither is only calling like one.
        as_ilp32(|| set(&file, BPFRS_BIOCIMMEDIATE, 1u32)).unwrap();
        set(&file, BPFRS_BIOCSETF32, NO_PROGRAM).unwrap();
        packets();
        assert_eq!(read_now(&file)[0].hdrlen, 28);

        as_ilp32(|| set(&file, BPFRS_BIOCSRTIMEOUT32, NO_TIME)).unwrap();
        packets();
        let bytes = read_bytes(&file);
        let ([sec, usec, caplen, datalen], hdrlen, data) = record32(&bytes);
        assert!(sec > 1_500_000_000 && usec < 1_000_000);
        assert_eq!((caplen, datalen, hdrlen), (15, 15, 20));
        assert_eq!(data[..4], 2u32.to_ne_bytes());
        assert_eq!(data[4..], [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(bytes.len(), 35);

        // The next record begins at a multiple of 4, here one of no 8.
        packets();
        packets();
        let bytes = read_bytes(&file);
        assert_eq!((bytes.len(), bytes[35]), (36 + 35, 0));
        assert_eq!(record32(&bytes[36..]).2.len(), 15);

        // bpf_xhdr has no form of its own, but begins there, too.
        set(&file, BPFRS_BIOCSTSTAMP, BPFRS_BPF_T_NANOTIME as u32).unwrap();
        packets();
        packets();
        let bytes = read_bytes(&file);
        let hdrlen = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!((hdrlen(24), hdrlen(44 + 24), bytes.len()), (28, 28, 44 + 43));
        // And no way back.
        set(&file, BPFRS_BIOCSTSTAMP, BPFRS_BPF_T_NONE as u32).unwrap();
        packets();
        assert_eq!(record32(&read_bytes(&file)).0, [0, 0, 15, 15]);
    });
}

fn errors<T: Plain>(file: &File, command: u64, value: T) -> Option<i32> {
    set(file, command, value).err()
}

/// BIOCLOCK knows the 32-bit forms of what it allows, and no other.
#[test]
fn locked() {
    run(|| {
        let file = listen(4096);
        file.ioctl0(BPFRS_BIOCLOCK).unwrap();
        assert_eq!(errors(&file, BPFRS_BIOCGDLTLIST32, NO_LIST), None);
        assert_eq!(errors(&file, BPFRS_BIOCGETIFLIST32, NO_IFLIST), None);
        assert_eq!(errors(&file, BPFRS_BIOCGRTIMEOUT32, NO_TIME), None);
        assert_eq!(errors(&file, BPFRS_BIOCSRTIMEOUT32, NO_TIME), None);
        for command in [BPFRS_BIOCSETF32, BPFRS_BIOCSETFNR32, BPFRS_BIOCSETWF32] {
            assert_eq!(errors(&file, command, NO_PROGRAM), Some(Errno::EPERM.into()));
        }
    });
}

/// A kernel without them does not know their ioctl(2)s.
#[test]
fn no_32_bit_processes() {
    run(|| {
        let file = listen(4096);
        host::set_compat32(false);
        for command in [BPFRS_BIOCSETF32, BPFRS_BIOCSETFNR32, BPFRS_BIOCSETWF32] {
            assert_eq!(errors(&file, command, NO_PROGRAM), Some(Errno::EINVAL.into()));
        }
        assert_eq!(errors(&file, BPFRS_BIOCGDLTLIST32, NO_LIST), Some(Errno::EINVAL.into()));
        assert_eq!(errors(&file, BPFRS_BIOCGETIFLIST32, NO_IFLIST), Some(Errno::EINVAL.into()));
        assert_eq!(errors(&file, BPFRS_BIOCGRTIMEOUT32, NO_TIME), Some(Errno::EINVAL.into()));
    });
}
