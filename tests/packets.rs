// SPDX-License-Identifier: BSD-2-Clause
//! Properties of packets and filters, on random ones.

use bpfrs::filter::{Packet as _, Program, validate};
use bpfrs::kpi::abi::bpf_insn;
use bpfrs::kpi::host::Chain;
use bpfrs::kpi::memory::Array;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes in pieces, some of them empty.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..9), 0..8)
}

fn chain(pieces: &[Vec<u8>], unmapped: bool) -> Chain {
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let chain = Chain::new(&pieces);
    if unmapped { chain.unmapped() } else { chain }
}

/// Every code that the validator takes.
const CODES: [u16; 49] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24,
    0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50,
    0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac,
    0xb1,
];

fn insn() -> impl Strategy<Value = bpf_insn> {
    let k = prop_oneof![3 => 0u32..40, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    (proptest::sample::select(CODES.to_vec()), 0u8..4, 0u8..4, k)
        .prop_map(|(code, jt, jf, k)| bpf_insn { code, jt, jf, k })
}

/// A valid program: what is wrong with a random one is put right.
fn program() -> impl Strategy<Value = Vec<bpf_insn>> {
    vec(insn(), 1..40).prop_map(|mut insns| {
        let len = insns.len();
        for (i, insn) in insns.iter_mut().enumerate() {
            let following = (len - i - 1) as u32;
            let (jump, scratch) = (insn.code & 7 == 5, matches!(insn.code, 0x60 | 0x61 | 2 | 3));
            if i + 1 == len || jump && following == 0 {
                insn.code = if insn.k % 2 == 0 { 0x06 } else { 0x16 };
            } else if jump {
                insn.k = if insn.code == 5 { insn.k % following } else { insn.k };
                insn.jt %= following.min(4) as u8;
                insn.jf %= following.min(4) as u8;
            } else if scratch {
                insn.k %= 16;
            } else if matches!(insn.code, 0x34 | 0x94) {
                insn.k = insn.k.max(1);
            }
        }
        insns
    })
}

fn compile(insns: &[bpf_insn]) -> Option<Program> {
    Program::new(Array::collect(insns.len(), insns.iter().copied())).ok()
}

proptest! {
    /// However a packet is split, it reads as its bytes in a row.
    #[test]
    fn a_chain_is_its_bytes(
        header in vec(any::<u8>(), 0..6),
        pieces in pieces(),
        unmapped: bool,
        offset in 0usize..80,
        len in 0usize..80,
    ) {
        let flat = [header.clone(), pieces.concat()].concat();
        chain(&pieces, unmapped).with_packet(&header, |packet| {
            assert_eq!((packet.len(), packet.is_empty()), (flat.len(), flat.is_empty()));
            let mut copy = vec![0xaa; len];
            let expected = flat.get(offset..).unwrap_or_default();
            let expected = &expected[..expected.len().min(len)];
            assert_eq!(packet.copy(offset, &mut copy), expected.len());
            assert_eq!(&copy[..expected.len()], expected);
            assert!(copy[expected.len()..].iter().all(|byte| *byte == 0xaa));
            for at in [offset as u32, u32::MAX - offset as u32] {
                assert_eq!(packet.bytes::<1>(at), flat.as_slice().bytes(at));
                assert_eq!(packet.bytes::<2>(at), flat.as_slice().bytes(at));
                assert_eq!(packet.bytes::<4>(at), flat.as_slice().bytes(at));
            }
        });
    }

    /// A valid program ends without a panic, with the same answer for a chain
    /// and for its bytes.
    #[test]
    fn a_valid_program_runs(insns in program(), header in vec(any::<u8>(), 0..6), pieces in pieces()) {
        let program = compile(&insns).expect("a valid program");
        let flat = [header.clone(), pieces.concat()].concat();
        let answer = program.run(flat.as_slice());
        for unmapped in [false, true] {
            let chain = chain(&pieces, unmapped);
            assert_eq!(chain.with_packet(&header, |packet| program.run(packet)), answer);
        }
    }

    /// Any program is refused or runs.
    #[test]
    fn any_program_is_refused_or_runs(
        insns in vec((any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>()), 0..12),
        last in insn(),
        packet in vec(any::<u8>(), 0..40),
    ) {
        let mut insns: Vec<bpf_insn> =
            insns.into_iter().map(|(code, jt, jf, k)| bpf_insn { code, jt, jf, k }).collect();
        insns.push(last);
        let valid = validate(&insns).is_ok();
        let program = compile(&insns);
        assert_eq!(program.is_some(), valid);
        if let Some(program) = program {
            program.run(packet.as_slice());
        }
    }
}
