// SPDX-License-Identifier: BSD-2-Clause
//! Kinds of interfaces, and those that go while somebody listens.
mod support;

use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, Chain, File, Interface};
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

/// A descriptor that listens to an interface of that name.
fn listen_to(name: &str) -> File {
    let file = File::open(0).unwrap();
    attach(&file, name).unwrap();
    file
}

fn enxio() -> i32 {
    Errno::ENXIO.into()
}

#[test]
fn an_ethernet() {
    run(|| {
        let em0 = Interface::ethernet("em0");
        let file = listen_to("em0");
        assert_eq!(get(&file, BPFRS_BIOCGDLT, 0u32), Ok(BPFRS_DLT_EN10MB as u32));
        let frame: Vec<u8> = (0..60).collect();
        let chain = Chain::new(&[&frame]);
        em0.pass_raw(&[], &chain, true);
        em0.pass_raw(&[], &chain, false);
        // The header of the frame and that of the record end at a multiple of 8 + 14.
        let seen = read_now(&file);
        assert_eq!(seen.iter().map(|r| (r.hdrlen, r.datalen)).collect::<Vec<_>>(), [(26, 60); 2]);
        assert!(seen.iter().all(|r| r.data == frame));
        set(&file, BPFRS_BIOCSDIRECTION, BPFRS_BPF_D_IN as u32).unwrap();
        em0.pass_raw(&[], &chain, false);
        // A VLAN tag that was put back: a header in front of the rest.
        em0.pass_raw(&[7; 18], &Chain::new(&[&frame[14..]]), true);
        let seen = read_now(&file);
        assert_eq!(seen.len(), 1);
        assert_eq!((&seen[0].data[..18], &seen[0].data[18..]), (&[7; 18][..], &frame[14..]));
        // Not what another interface carries.
        host::inject("lo0", 2, &[&[1]]);
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
    });
}

#[test]
fn a_producer() {
    run(|| {
        const DLT_USER0: u32 = 147;
        let producer = Interface::producer("meter0", DLT_USER0, 3);
        let file = listen_to("meter0");
        assert_eq!(get(&file, BPFRS_BIOCGDLT, 0u32), Ok(DLT_USER0));
        assert_eq!(name(&get(&file, BPFRS_BIOCGETIF, ifreq("")).unwrap()), "meter0");
        // There is no such mode, which is no error.
        file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        producer.pass_raw(&[1, 2, 3], &Chain::new(&[&[4]]), true);
        let seen = read_now(&file);
        assert_eq!((seen[0].hdrlen, &seen[0].data[..]), (29, &[1, 2, 3, 4][..]));
        producer.depart();
        assert_eq!(file.read(&mut [0; 4096], true), Err(enxio()));
        assert_eq!(attach(&file, "meter0"), Err(enxio()));
    });
}

#[test]
fn another_kind_has_no_tap() {
    run(|| {
        let other = Interface::other("tun0");
        let file = File::open(0).unwrap();
        assert_eq!(attach(&file, "tun0"), Err(enxio()));
        assert!(!other.is_tapped());
    });
}

/// A move to another network stack ends the capture, like a departure; the
/// interface can be found there.
#[test]
fn a_move_takes_no_capture_with_it() {
    run(|| {
        let em0 = Interface::ethernet("em0");
        let file = listen_to("em0");
        file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        let sleeper = reader(&file);
        em0.move_and_return();
        assert_eq!(sleeper.join().unwrap_err(), enxio());
        assert_eq!((em0.promisc(), em0.is_tapped()), (0, false));
        em0.pass_raw(&[], &Chain::new(&[&[0; 60]]), true);
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
        attach(&file, "em0").unwrap();
        em0.pass_raw(&[], &Chain::new(&[&[0; 60]]), true);
        assert_eq!(read_now(&file).len(), 1);
    });
}

/// I7: an end that another thread has begun, and that is not detached yet,
/// does not keep the module.
#[test]
fn unload_while_another_thread_ends_an_open() {
    run(|| {
        let file = listen(64);
        let gate = Gate::at(host::Hook::Close);
        let closer = Worker::spawn(move || file.close());
        gate.wait();
        let unload = Worker::spawn(|| host::unload(true));
        gate.open();
        closer.join();
        assert_eq!(unload.join(), Ok(()));
        assert!(!Interface::named("lo0").unwrap().is_tapped());
    });
}
