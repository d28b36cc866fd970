// SPDX-License-Identifier: BSD-2-Clause
//! What is sent on lo0 is what is captured: every packet, once, in order, byte by byte.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::data_path::counts;
use super::{Bench, Test, Verdict, While, common, ensure, equal};
use crate::bpf::{
    self, Bpf, Instruction, JEQ_K, LD_H_ABS, LD_W_ABS, RET_K, Record, jump, records, statement,
};
use crate::loopback::{Sender, internet_checksum, payload, silent_receiver};
use crate::sys::Address;

pub(super) const TESTS: &[Test] = &[
    common("exact-ipv4", exact_ipv4),
    common("exact-ipv6", exact_ipv6),
    common("exact-sizes", exact_sizes),
    common("truncation-to-the-buffer", truncation_to_the_buffer),
];

const FROM: u16 = 40_011;
/// The port that the packets go to.
pub(crate) const TO: u16 = 40_012;
const PACKETS: usize = 500;

/// UDP to `TO`, of the family of `address`.
fn filter(address: Address) -> [Instruction; 6] {
    let header = match address {
        Address::V4(_) => 20,
        Address::V6(_) => 40,
    };
    [
        statement(LD_W_ABS, 0),
        jump(JEQ_K, address.family().cast_unsigned().swap_bytes(), 0, 3),
        statement(LD_H_ABS, 4 + header + 2),
        jump(JEQ_K, u32::from(TO), 0, 1),
        statement(RET_K, u32::MAX),
        statement(RET_K, 0),
    ]
}

fn listen(bench: &Bench, buffer: u32, address: Address) -> Result<(Bpf, Sender), super::Trouble> {
    let sender = sender(address)?;
    let bpf = bench.open()?;
    bpf.set_buffer_length(buffer)?;
    // In this order: no packet of others is stored.
    bpf.set_filter(bpf::BIOCSETF, &filter(address))?;
    bpf.attach("lo0").at("BIOCSETIF")?;
    bpf.fd.set_nonblocking(true)?;
    Ok((bpf, sender))
}

/// Sends packets that [`check_packet`] knows, and has them received.
pub(crate) fn sender(address: Address) -> Result<Sender, super::Trouble> {
    silent_receiver(address).at("bind")?.leak();
    Sender::from_port(address, FROM).at("socket")
}

/// The packet as it must be, from its address family on. What the stack may choose (the packet's
/// id, a flow label, checksums left to the "hardware") is 0, as in what [`without_choices`] gives.
fn expected(address: Address, payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(8 + payload.len()).unwrap_or(0);
    let mut packet = Vec::from(address.family().to_ne_bytes());
    match address {
        Address::V4(_) => {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&(20 + udp_length).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        }
        Address::V6(_) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&udp_length.to_be_bytes());
            packet.extend_from_slice(&[17, 64]);
            for _ in 0..2 {
                packet.extend_from_slice(&1_u128.to_be_bytes());
            }
        }
    }
    packet.extend_from_slice(&FROM.to_be_bytes());
    packet.extend_from_slice(&TO.to_be_bytes());
    packet.extend_from_slice(&udp_length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}

/// A captured packet with those fields set to 0; an IPv4 checksum, if there is one, is checked.
fn without_choices(address: Address, data: &[u8]) -> Result<Vec<u8>, super::Trouble> {
    let mut data = data.to_vec();
    let fields: &[core::ops::Range<usize>] = match address {
        Address::V4(_) => {
            let header = data.get(4..24).unwrap_or_default();
            let checksum = header.get(10..12).unwrap_or_default();
            ensure!(
                checksum == [0, 0] || internet_checksum(header) == 0,
                "IP checksum {checksum:?} of {header:?}"
            );
            &[8..10, 14..16, 30..32]
        }
        Address::V6(_) => &[5..8, 50..52],
    };
    for field in fields {
        if let Some(bytes) = data.get_mut(field.clone()) {
            bytes.fill(0);
        }
    }
    Ok(data)
}

fn check(address: Address, number: usize, record: &Record, payload: &[u8]) -> Verdict {
    check_packet(address, number, record.length, &record.data, payload)
}

/// Whether captured data (and the length on the wire) are those of the packet that was sent.
pub(crate) fn check_packet(
    address: Address,
    number: usize,
    length: u32,
    data: &[u8],
    payload: &[u8],
) -> Verdict {
    let expected = expected(address, payload);
    equal!(format!("length of packet {number}"), length as usize, expected.len());
    let got = without_choices(address, data)?;
    if let Some(at) = got.iter().zip(&expected).position(|(a, b)| a != b) {
        let end = (at + 8).min(got.len());
        equal!(format!("packet {number} at {at}"), got[at..end], expected[at..end]);
    }
    equal!(format!("bytes of packet {number}"), got.len(), expected.len());
    Ok(())
}

fn exact_ipv4(bench: &Bench) -> Verdict {
    exact(bench, Address::V4(TO))
}

fn exact_ipv6(bench: &Bench) -> Verdict {
    exact(bench, Address::V6(TO))
}

fn exact(bench: &Bench, address: Address) -> Verdict {
    let (bpf, sender) = listen(bench, 65_536, address)?;
    let mut seen = 0;
    let mut last = [0, 0];
    for block in 0..PACKETS / 50 {
        for number in block * 50..(block + 1) * 50 {
            sender.send(&payload(number)).at("sendto")?;
        }
        for record in records(&bpf.read()?)? {
            check(address, seen, &record, &payload(seen))?;
            ensure!(record.stamp >= last, "stamp {:?} after {last:?}", record.stamp);
            last = record.stamp;
            seen += 1;
        }
        equal!("packets so far", seen, (block + 1) * 50);
    }
    equal!("more", bpf.read(), super::refused(libc::EWOULDBLOCK));
    let [received, dropped] = bpf.statistics()?;
    ensure!(counts(received, PACKETS as u32), "received {received}, expected {PACKETS}");
    equal!("dropped", dropped, 0);
    Ok(())
}

/// From one byte to the whole MTU of lo0, across many mbufs.
fn exact_sizes(bench: &Bench) -> Verdict {
    let address = Address::V4(TO);
    let (bpf, sender) = listen(bench, 65_536, address)?;
    for (number, size) in [0, 1, 3, 100, 216, 1_472, 2_048, 4_096, 9_000].into_iter().enumerate() {
        let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        sender.send(&data).at(&format!("sendto of {size} bytes"))?;
        let records = records(&bpf.read()?)?;
        equal!("records", records.len(), 1);
        for record in &records {
            check(address, number, record, &data)?;
        }
    }
    Ok(())
}

fn truncation_to_the_buffer(bench: &Bench) -> Verdict {
    let address = Address::V4(TO);
    let (bpf, sender) = listen(bench, 512, address)?;
    sender.send(&vec![7; 2000]).at("sendto")?;
    let records = records(&bpf.read()?)?;
    equal!("records", records.len(), 1);
    for record in &records {
        equal!("bh_caplen", record.data.len(), 512 - 28);
        equal!("bh_datalen", record.length, 4 + 28 + 2000);
        equal!("the data", record.data.get(32..), Some(vec![7; 512 - 28 - 32].as_slice()));
    }
    Ok(())
}
