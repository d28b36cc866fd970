// SPDX-License-Identifier: BSD-2-Clause
//! Filters that libpcap compiled, against its own interpreter.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use bpfrs_filter::{Captured, Heap, Program, validate};
use bpfrs_filters as filters;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// Packets in a capture file, a third of them cut short.
fn capture() -> File {
    let file = tempfile::tempfile().expect("a file");
    let mut writer = PcapWriter::new(file.try_clone().expect("a file")).expect("a header");
    let frames = [filters::imix(1, 400), filters::variety(2, 1600)].concat();
    for (i, frame) in frames.iter().enumerate() {
        let snaplen = if i % 3 == 0 { 24 + i % 40 } else { usize::MAX };
        let kept = &frame[..frame.len().min(snaplen)];
        let packet = PcapPacket::new(Duration::from_millis(i as u64), frame.len() as u32, kept);
        writer.write_packet(&packet).expect("a packet");
    }
    file
}

/// What is in it: the bytes, and the length on the wire.
fn packets() -> Vec<(Vec<u8>, u32)> {
    use std::io::Seek as _;
    let mut file = capture();
    file.rewind().expect("a file");
    let mut reader = PcapReader::new(file).expect("a header");
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("a packet");
        packets.push((packet.data.into_owned(), packet.orig_len));
    }
    packets
}

#[test]
fn every_expression_selects_the_same_packets() {
    let packets = packets();
    assert_eq!(packets.len(), 2000);
    let expressions = filters::expressions();
    assert!(expressions.len() >= 300, "{}", expressions.len());
    let mut kinds = BTreeMap::new();
    // Neither all nor none of the packets.
    let mut telling = 0;
    for expression in &expressions {
        for optimize in [true, false] {
            let insns = filters::compile(expression, optimize).expect(expression);
            let theirs = filters::Program::new(&insns).expect(expression);
            assert_eq!(validate(&insns), Ok(()), "{expression}");
            let ours = Program::<Heap>::new(insns.into_boxed_slice()).expect(expression);
            for kind in ours.kinds() {
                *kinds.entry(*kind).or_insert(0) += 1;
            }
            let mut selected = 0;
            for (bytes, wire_len) in &packets {
                let expected = theirs.run(bytes, *wire_len);
                let packet = Captured { bytes, wire_len: *wire_len };
                assert_eq!(ours.run_reference(&packet), expected, "{expression} on {bytes:02x?}");
                assert_eq!(ours.run(&packet), expected, "{expression} on {bytes:02x?}");
                selected += usize::from(expected != 0);
            }
            telling += usize::from(selected != 0 && selected != packets.len());
        }
    }
    let programs = 2 * expressions.len();
    println!("{programs} programs, {telling} of which select some packets: {kinds:?}");
    assert!(telling * 4 >= programs * 3, "{telling} of {programs} tell packets apart");
    assert_eq!(kinds.len(), 11, "libpcap writes steps of all kinds: {kinds:?}");
}
