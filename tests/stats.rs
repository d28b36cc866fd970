// SPDX-License-Identifier: BSD-2-Clause
//! sysctl(3) `net.bpfrs.stats` and `net.bpfrs.optimize_writers`.
mod support;

use bpfrs::kpi::abi::xbpf_d;
use bpfrs::kpi::host::{self, File, Interface, Tunable};
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

fn all() -> Vec<xbpf_d> {
    host::stats(256).1
}

fn interface(of: &xbpf_d) -> String {
    let bytes = of.bd_ifname.iter().map(|byte| byte.cast_unsigned());
    String::from_utf8(bytes.take_while(|byte| *byte != 0).collect()).unwrap()
}

#[test]
fn only_those_with_an_interface() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let (one, two) = (File::open(0).unwrap(), File::open(1).unwrap());
        assert_eq!(host::stats(256).0, 0);
        attach(&one, "lo1").unwrap();
        attach(&two, "lo0").unwrap();
        let mut names: Vec<String> = all().iter().map(interface).collect();
        names.sort();
        assert_eq!(names, ["lo0", "lo1"]);
        // Less room than there are: none is written behind it.
        let (count, found) = host::stats(1);
        assert_eq!((count, found.len()), (2, 1));
        assert_eq!(host::stats(0).0, 2);
        lo1.rename("other");
        assert!(all().iter().any(|d| interface(d) == "other"));
        lo1.depart();
        assert_eq!(all().len(), 1);
        host::revoke(1).unwrap();
        assert_eq!(all().len(), 0);
    });
}

#[test]
fn as_many_as_there_are_nodes() {
    run(|| {
        let files: Vec<File> = (0..256).map(|unit| File::open(unit).unwrap()).collect();
        files.iter().for_each(|file| attach(file, "lo0").unwrap());
        assert!(File::open(256).is_err());
        assert_eq!((host::stats(300).0, all().len()), (256, 256));
    });
}

#[test]
fn what_is_said() {
    run(|| {
        let file = listen(4096);
        let new = all().remove(0);
        assert_eq!(new.bd_structsize as usize, size_of::<xbpf_d>());
        assert_eq!(new.bd_pid, std::process::id().cast_signed());
        assert_eq!((new.bd_promisc, new.bd_immediate, new.bd_locked), (0, 1, 0));
        assert_eq!((new.bd_hdrcmplt, new.bd_direction, new.bd_feedback), (0, 1, 0));
        assert_eq!((new.bd_async, new.bd_sig, new.bd_bufsize), (0, BPFRS_SIGIO, 4096));
        assert_eq!(new.bd_bufmode, BPFRS_BPF_BUFMODE_BUFFER);

        file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        for (command, value) in [
            (BPFRS_BIOCIMMEDIATE, 0),
            (BPFRS_BIOCSHDRCMPLT, 1),
            (BPFRS_BIOCSDIRECTION, 0),
            (BPFRS_BIOCFEEDBACK, 1),
            (BPFRS_FIOASYNC, 1),
            (BPFRS_BIOCSRSIG, 30u32),
        ] {
            set(&file, command, value).unwrap();
        }
        setf(&file, BPFRS_BIOCSETFNR, &mut keep(10)).unwrap();
        host::inject("lo0", 2, &[&[1; 100]]);
        setf(&file, BPFRS_BIOCSETFNR, &mut keep(0)).unwrap();
        host::inject("lo0", 2, &[&[1; 100]]);
        file.write(&[0; 3]).unwrap_err();
        file.ioctl0(BPFRS_BIOCLOCK).unwrap();
        let now = all().remove(0);
        assert_eq!((now.bd_promisc, now.bd_immediate, now.bd_locked), (1, 0, 1));
        assert_eq!((now.bd_hdrcmplt, now.bd_direction, now.bd_feedback), (1, 0, 1));
        assert_eq!((now.bd_async, now.bd_sig), (1, 30));
        assert_eq!((now.bd_rcount, now.bd_fcount, now.bd_dcount), (2, 1, 0));
        assert_eq!((now.bd_slen, now.bd_hlen), (38, 0));
        assert_eq!((now.bd_wcount, now.bd_wfcount, now.bd_wdcount), (1, 0, 1));
    });
}

/// Where lost packets went: stock has one number for it.
#[test]
fn why_packets_are_lost() {
    run(|| {
        let file = listen(64);
        let counts = || {
            let d = all().remove(0);
            [d.bd_fcount, d.bd_dcount, d.bd_copying, d.bd_cut]
        };
        host::inject("lo0", 2, &[&[1; 500]]);
        assert_eq!(counts(), [1, 0, 0, 1]);
        host::inject("lo0", 2, &[&[1; 32]]);
        assert_eq!(counts(), [2, 0, 0, 1]);
        host::inject("lo0", 2, &[&[1; 32]]);
        assert_eq!(counts(), [3, 1, 0, 1]);
        let (gate, reader) = copying(&file);
        host::inject("lo0", 2, &[&[1; 32]]);
        assert_eq!(counts(), [4, 2, 1, 1]);
        gate.open();
        assert_eq!(reader.join().unwrap().len(), 1);
        file.write(&[0; 3]).unwrap_err();
        assert_eq!(all()[0].bd_wdcount, 1);
        host::reset_stats();
        assert_eq!(counts(), [0; 4]);
        assert_eq!(all()[0].bd_wdcount, 0);
        // The packets stay.
        assert_eq!(read_now(&file).len(), 1);
    });
}

/// A jail sees what is in its own network stack.
#[test]
fn another_network_stack() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let (file, other) = (listen(4096), File::open(1).unwrap());
        attach(&other, "lo1").unwrap();
        let lo0 = Interface::named("lo0").unwrap();
        host::inject("lo0", 2, &[&[1]]);
        host::inject("lo1", 2, &[&[1]]);
        lo0.set_visible(false);
        assert_eq!(all().iter().map(interface).collect::<Vec<_>>(), ["lo1"]);
        host::reset_stats();
        assert_eq!((counts(&file), counts(&other)), ((1, 0), (0, 0)));
        lo0.set_visible(true);
        assert_eq!(all().len(), 2);
        other.close();
        lo1.depart();
    });
}

/// Stock's rules for a descriptor that was opened to write: no packets until a
/// second filter, or until one that does more than set the snaplen.
#[test]
fn writers() {
    run(|| {
        let sees = |file: &File| {
            let before = counts(file).0;
            host::inject("lo0", 2, &[&[1; 8]]);
            counts(file).0 != before
        };
        let two = || [insn(0x28, 0, 0, 0), insn(0x06, 0, 0, 100)];
        let writer = || {
            let file = File::open_to_write(0).unwrap();
            attach(&file, "lo0").unwrap();
            assert!(!sees(&file));
            file
        };
        let file = writer();
        for (command, seen) in [(BPFRS_BIOCSETWF, false), (BPFRS_BIOCSETFNR, true)] {
            setf(&file, command, &mut keep(100)).unwrap();
            assert_eq!(sees(&file), seen);
        }
        file.close();
        let file = writer();
        for seen in [false, true] {
            setf(&file, BPFRS_BIOCSETF, &mut keep(100)).unwrap();
            assert_eq!(sees(&file), seen);
        }
        // Reader it stays, until it has another interface while all are writers.
        attach(&file, "lo0").unwrap();
        assert!(sees(&file));
        file.close();
        let file = writer();
        setf(&file, BPFRS_BIOCSETF, &mut []).unwrap();
        assert!(!sees(&file));
        setf(&file, BPFRS_BIOCSETF, &mut two()).unwrap();
        assert!(sees(&file));
        file.close();

        assert!(sees(&listen(4096)));
        host::set_tunable(Tunable::OptimizeWriters, 1);
        let (file, reader) = (listen(4096), File::open(1).unwrap());
        assert!(!sees(&file));
        host::set_tunable(Tunable::OptimizeWriters, 0);
        attach(&reader, "lo0").unwrap();
        assert!(!sees(&file) && sees(&reader));
        // Writers are listed first.
        assert_eq!(all().iter().map(|d| d.bd_rcount > 0).collect::<Vec<_>>(), [false, true]);
        setf(&file, BPFRS_BIOCSETF, &mut two()).unwrap();
        assert!(sees(&file));
    });
}
