// SPDX-License-Identifier: BSD-2-Clause
//! write(2): sizes, errors, filters, link headers, and what happens while the
//! packet is copied (I4 of docs/design.md).
mod support;

use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{File, Flags, Hook, Interface, Sent, Unmapped, errno, revoke, write_counts};
use bpfrs_sys::bpfrs_const::{BPFRS_BPF_D_IN, BPFRS_BPF_D_INOUT, BPFRS_BPF_D_OUT, BPFRS_DLT_NULL};
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

/// An IPv4 packet for lo0, as far as anybody looks.
const PACKET: &[u8] = &[2, 0, 0, 0, 0x45, 1, 2, 3];

const US: [u8; 6] = Interface::ADDRESS;
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    [&to[..], &from, &[8, 0], b"payload"].concat()
}

fn refused<T>(error: Errno) -> Result<T, i32> {
    Err(error.into())
}

fn lo0() -> Interface {
    Interface::named("lo0").expect("lo0")
}

/// An Ethernet interface, and a descriptor of it.
fn ethernet(unit: i32) -> (Interface, File) {
    let em0 = Interface::named("em0").unwrap_or_else(|| Interface::ethernet("em0"));
    let file = File::open(unit).expect("an open");
    attach(&file, "em0").expect("an attachment");
    (em0, file)
}

fn data(file: &File) -> Vec<Vec<u8>> {
    match get(file, BPFRS_FIONREAD, 0i32) {
        Ok(0) => Vec::new(),
        _ => read_now(file).into_iter().map(|record| record.data).collect(),
    }
}

fn frames(interface: &Interface) -> Vec<Vec<u8>> {
    interface.sent().into_iter().map(|sent| sent.bytes).collect()
}

#[test]
fn goes_out_and_is_captured() {
    run(|| {
        let (writer, other) = (listen(4096), File::open(1).unwrap());
        attach(&other, "lo0").unwrap();
        assert_eq!(writer.write(PACKET), Ok(PACKET.len()));
        assert_eq!(frames(&lo0()), [PACKET]);
        assert_eq!(data(&other), [PACKET]);
        assert_eq!(data(&writer), [PACKET]);
        assert_eq!(write_counts(&writer), Some([1, 1, 0]));
        assert_eq!(write_counts(&other), Some([0, 0, 0]));
        writer.ioctl0(BPFRS_BIOCFLUSH).unwrap();
        assert_eq!(write_counts(&writer), Some([0, 0, 0]));
    });
}

#[test]
fn without_an_interface() {
    run(|| {
        let file = File::open(0).unwrap();
        assert_eq!(file.write(PACKET), refused(Errno::ENXIO));
        assert_eq!(file.write(&[]), refused(Errno::ENXIO));
        assert_eq!(write_counts(&file), Some([2, 0, 2]));
    });
}

#[test]
fn an_interface_that_is_down() {
    run(|| {
        let file = listen(4096);
        lo0().set_up(false);
        assert_eq!(file.write(PACKET), refused(Errno::ENETDOWN));
        assert_eq!(file.write(&[]), refused(Errno::ENETDOWN));
        assert_eq!(write_counts(&file), Some([2, 0, 2]));
        lo0().set_up(true);
        assert_eq!(file.write(PACKET), Ok(PACKET.len()));
        assert_eq!(frames(&lo0()), [PACKET]);
    });
}

/// It succeeds, but for the counters.
#[test]
fn of_nothing() {
    run(|| {
        let file = listen(4096);
        assert_eq!(file.write(&[]), Ok(0));
        assert_eq!(write_counts(&file), Some([1, 0, 1]));
        assert_eq!(lo0().sent(), []);
    });
}

#[test]
fn sizes() {
    run(|| {
        let file = listen(4096);
        let mut packet = vec![0; 20000];
        packet[0] = 2;
        // A header, an MTU of 16384, and an mbuf of no more.
        for (len, error) in [
            (3, Errno::EMSGSIZE),
            (16385, Errno::EIO),
            (16388, Errno::EIO),
            (16389, Errno::EMSGSIZE),
        ] {
            assert_eq!(file.write(&packet[..len]), refused(error), "{len}");
        }
        assert_eq!(lo0().sent(), []);
        for len in [4, 5, 16384] {
            assert_eq!(file.write(&packet[..len]), Ok(len));
        }
        assert_eq!(frames(&lo0()).iter().map(Vec::len).collect::<Vec<_>>(), [4, 5, 16384]);
        assert_eq!(write_counts(&file), Some([7, 3, 4]));

        let (em0, file) = ethernet(1);
        for (len, result) in [
            (13, refused(Errno::EMSGSIZE)),
            (14, Ok(14)),
            (1514, Ok(1514)),
            (1515, refused(Errno::EMSGSIZE)),
        ] {
            assert_eq!(file.write(&packet[..len]), result, "{len}");
        }
        assert_eq!(em0.sent().len(), 2);
    });
}

#[test]
fn frames_of_other_kinds() {
    run(|| {
        // Nobody takes what is written to a producer.
        let producer = Interface::producer("meter0", BPFRS_DLT_NULL as u32, 4);
        let file = File::open(0).unwrap();
        attach(&file, "meter0").unwrap();
        assert_eq!(file.write(PACKET), refused(Errno::EOPNOTSUPP));
        assert_eq!(file.write(&[]), refused(Errno::EOPNOTSUPP));
        assert_eq!(producer.sent(), []);
    });
}

#[test]
fn what_the_interface_says() {
    run(|| {
        let file = listen(4096);
        let mut appletalk = PACKET.to_vec();
        appletalk[0] = 16;
        assert_eq!(file.write(&appletalk), Err(errno::EAFNOSUPPORT));
        // ENOBUFS.
        lo0().set_output_error(55);
        assert_eq!(file.write(PACKET), Err(55));
        assert_eq!(write_counts(&file), Some([2, 2, 2]));
        assert_eq!(lo0().sent(), []);
        assert_eq!(data(&file).len(), 0);
    });
}

#[test]
fn a_fault() {
    run(|| {
        let file = listen(4096);
        let packet = PACKET.to_vec();
        let hole = Unmapped::new(&packet);
        assert_eq!(file.write(&packet), refused(Errno::EFAULT));
        drop(hole);
        assert_eq!(write_counts(&file), Some([1, 0, 1]));
        assert_eq!(lo0().sent(), []);
        assert_eq!(file.write(&packet), Ok(packet.len()));
    });
}

#[test]
fn the_write_filter() {
    run(|| {
        let file = listen(4096);
        // Accepts what has 0x45 behind the link header, in any length.
        let mut program =
            [insn(0x30, 0, 0, 4), insn(0x15, 0, 1, 0x45), insn(0x06, 0, 0, 1), keep(0)[0]];
        setf(&file, BPFRS_BIOCSETWF, &mut program).unwrap();
        let mut wrong = PACKET.to_vec();
        wrong[4] = 0x46;
        assert_eq!(file.write(PACKET), Ok(PACKET.len()));
        assert_eq!(file.write(&wrong), refused(Errno::EPERM));
        // A load beyond the packet rejects it.
        assert_eq!(file.write(&PACKET[..4]), refused(Errno::EPERM));
        assert_eq!(write_counts(&file), Some([3, 1, 2]));
        // BIOCLOCK is there to keep it.
        file.ioctl0(BPFRS_BIOCLOCK).unwrap();
        assert_eq!(setf(&file, BPFRS_BIOCSETWF, &mut keep(1)), refused(Errno::EPERM));
        assert_eq!(file.write(&wrong), refused(Errno::EPERM));
        assert_eq!(file.write(PACKET), Ok(PACKET.len()));
        assert_eq!(frames(&lo0()), [PACKET, PACKET]);
        // It is not the read filter.
        assert_eq!(data(&file).len(), 2);
    });
}

#[test]
fn without_a_write_filter_again() {
    run(|| {
        let file = listen(4096);
        setf(&file, BPFRS_BIOCSETWF, &mut keep(0)).unwrap();
        assert_eq!(file.write(PACKET), refused(Errno::EPERM));
        setf(&file, BPFRS_BIOCSETWF, &mut []).unwrap();
        assert_eq!(file.write(PACKET), Ok(PACKET.len()));
    });
}

#[test]
fn the_source_address() {
    run(|| {
        let (em0, file) = ethernet(0);
        assert_eq!(file.write(&frame(PEER, OTHER)), Ok(21));
        assert_eq!(frames(&em0), [frame(PEER, US)]);
        set(&file, BPFRS_BIOCSHDRCMPLT, 1u32).unwrap();
        assert_eq!(file.write(&frame(PEER, OTHER)), Ok(21));
        assert_eq!(frames(&em0), [frame(PEER, OTHER)]);
        assert_eq!(data(&file), [frame(PEER, US), frame(PEER, OTHER)]);
        // The filter sees what was written.
        set(&file, BPFRS_BIOCSHDRCMPLT, 0u32).unwrap();
        let mut others =
            [insn(0x30, 0, 0, 11), insn(0x15, 0, 1, 0x99), insn(0x06, 0, 0, 1), keep(0)[0]];
        setf(&file, BPFRS_BIOCSETWF, &mut others).unwrap();
        assert_eq!(file.write(&frame(PEER, US)), refused(Errno::EPERM));
        assert_eq!(file.write(&frame(PEER, OTHER)), Ok(21));
        assert_eq!(frames(&em0), [frame(PEER, US)]);
    });
}

#[test]
fn broadcast_multicast_priority() {
    run(|| {
        let (em0, file) = ethernet(0);
        let none = Flags::default();
        for (to, flags) in [
            (PEER, none),
            ([0xff; 6], Flags { broadcast: true, ..none }),
            ([1, 0, 0x5e, 0, 0, 1], Flags { multicast: true, ..none }),
            ([0xff, 0xff, 0xff, 0xff, 0xff, 0xfd], Flags { multicast: true, ..none }),
        ] {
            file.write(&frame(to, US)).unwrap();
            assert_eq!(em0.sent(), [Sent { bytes: frame(to, US), flags, input: false }]);
        }
        set(&file, BPFRS_BIOCSETVLANPCP, 5u32).unwrap();
        assert_eq!(set(&file, BPFRS_BIOCSETVLANPCP, 8u32), refused(Errno::EINVAL));
        file.write(&frame(PEER, US)).unwrap();
        assert_eq!(em0.sent()[0].flags, Flags { pcp: 5, ..none });
    });
}

/// BIOCFEEDBACK: by the direction that the writer wants, both are seen, or the
/// copy that comes in.
#[test]
fn feedback() {
    run(|| {
        let (em0, file) = ethernet(0);
        let (_, other) = ethernet(1);
        set(&file, BPFRS_BIOCFEEDBACK, 1u32).unwrap();
        let sent = frame(PEER, US);
        for (direction, own, others) in
            [(BPFRS_BPF_D_INOUT, 1, 1), (BPFRS_BPF_D_IN, 1, 2), (BPFRS_BPF_D_OUT, 1, 2)]
        {
            set(&file, BPFRS_BIOCSDIRECTION, direction as u32).unwrap();
            file.write(&frame(PEER, OTHER)).unwrap();
            let once = direction == BPFRS_BPF_D_INOUT;
            let none = Flags::default();
            assert_eq!(
                em0.sent(),
                [
                    Sent {
                        bytes: sent.clone(),
                        flags: Flags { unseen: once, ..none },
                        input: false
                    },
                    Sent { bytes: sent.clone(), flags: none, input: true },
                ]
            );
            assert_eq!(data(&file), vec![sent.clone(); own], "direction {direction}");
            assert_eq!(data(&other), vec![sent.clone(); others], "direction {direction}");
        }
        // The copy that INOUT saw came in.
        set(&file, BPFRS_BIOCSDIRECTION, BPFRS_BPF_D_INOUT as u32).unwrap();
        set(&other, BPFRS_BIOCSDIRECTION, BPFRS_BPF_D_OUT as u32).unwrap();
        file.write(&sent).unwrap();
        assert_eq!((data(&file).len(), data(&other).len()), (1, 0));
        // No copy of what did not leave.
        em0.sent();
        em0.set_output_error(55);
        assert_eq!(file.write(&sent), Err(55));
        assert_eq!(em0.sent(), []);
        assert_eq!(data(&file).len(), 0);
    });
}

/// lo(4) throws the copy away, and shows what comes back in any case.
#[test]
fn feedback_on_loopback() {
    run(|| {
        let file = listen(4096);
        set(&file, BPFRS_BIOCFEEDBACK, 1u32).unwrap();
        file.write(PACKET).unwrap();
        assert_eq!(data(&file), [PACKET]);
    });
}

/// A writer that is held before the first byte is copied.
fn writing(file: &File) -> (Gate, Worker<Result<usize, i32>>) {
    let gate = Gate::at(Hook::Copy);
    let file = file.clone();
    let writer = Worker::spawn(move || file.write(PACKET));
    gate.wait();
    (gate, writer)
}

/// I4: nothing is sent after the end, which does not wait for the writer.
#[test]
fn the_end_of_the_open_during_the_copy() {
    run(|| {
        let file = listen(4096);
        let (gate, writer) = writing(&file);
        revoke(0).unwrap();
        assert!(!lo0().is_tapped());
        gate.open();
        assert_eq!(writer.join(), refused(Errno::ENXIO));
        assert_eq!(lo0().sent(), []);
        assert_eq!(write_counts(&file), Some([1, 0, 1]));
        assert_eq!(file.write(PACKET), Err(errno::EIO));
    });
}

/// … nor by the node's next open.
#[test]
fn the_next_open_during_the_copy() {
    run(|| {
        let file = listen(4096);
        let (gate, writer) = writing(&file);
        revoke(0).unwrap();
        let next = listen(4096);
        gate.open();
        assert_eq!(writer.join(), refused(Errno::ENXIO));
        assert_eq!(lo0().sent(), []);
        assert_eq!(write_counts(&next), Some([0, 0, 0]));
    });
}

#[test]
fn departure_during_the_copy() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let file = listen(4096);
        attach(&file, "lo1").unwrap();
        let (gate, writer) = writing(&file);
        lo1.depart();
        gate.open();
        assert_eq!(writer.join(), refused(Errno::ENXIO));
        assert_eq!(lo1.sent(), []);
        assert_eq!(file.write(PACKET), refused(Errno::ENXIO));
    });
}

/// Another interface was not meant, the same one again is.
#[test]
fn an_attachment_during_the_copy() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let file = listen(4096);
        let (gate, writer) = writing(&file);
        attach(&file, "lo1").unwrap();
        gate.open();
        assert_eq!(writer.join(), refused(Errno::ENXIO));
        assert_eq!((lo0().sent(), lo1.sent()), (vec![], vec![]));

        let (gate, writer) = writing(&file);
        attach(&file, "lo1").unwrap();
        gate.open();
        assert_eq!(writer.join(), Ok(PACKET.len()));
        assert_eq!(frames(&lo1), [PACKET]);
    });
}

/// The filter and the settings are those of the moment when it is sent.
#[test]
fn settings_during_the_copy() {
    run(|| {
        let file = listen(4096);
        let (gate, writer) = writing(&file);
        setf(&file, BPFRS_BIOCSETWF, &mut keep(0)).unwrap();
        gate.open();
        assert_eq!(writer.join(), refused(Errno::EPERM));
        assert_eq!(lo0().sent(), []);
    });
}
