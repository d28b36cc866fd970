// SPDX-License-Identifier: BSD-2-Clause
//! Properties of packets, on random ones.

use bpfrs::filter::Packet as _;
use bpfrs::kpi::host::Chain;
use bpfrs::kpi::memory::Window;
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
            assert_eq!(packet.copy(offset, Window::from(&mut copy[..])), expected.len());
            assert_eq!(&copy[..expected.len()], expected);
            assert!(copy[expected.len()..].iter().all(|byte| *byte == 0xaa));
            // With a header the window may end before the first mbuf does.
            let window = bpfrs::filter::Packet::window(packet);
            assert_eq!(window, &flat[..window.len()]);
            let first = if unmapped { 0 } else { pieces.first().map_or(0, Vec::len) };
            assert_eq!(window.len(), header.len() + first);
            for at in [offset as u32, u32::MAX - offset as u32] {
                assert_eq!(packet.bytes::<1>(at), flat.as_slice().bytes(at));
                assert_eq!(packet.bytes::<2>(at), flat.as_slice().bytes(at));
                assert_eq!(packet.bytes::<4>(at), flat.as_slice().bytes(at));
            }
        });
    }
}
