// SPDX-License-Identifier: BSD-2-Clause
//! Stack frames. A kernel stack has 16 KiB, and interrupts and the network
//! stack want most of it.

use std::collections::BTreeMap;

use crate::module::Module;
use crate::report::Finding;

/// Bytes that one frame may have.
pub(crate) const MAX_FRAME: u64 = 2048;

pub(crate) fn check(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    let Some(frames) = frames(&module.stack_sizes) else {
        finding.violations.push(".stack_sizes cannot be read".to_owned());
        return finding;
    };
    if frames.is_empty() {
        finding.violations.push(".stack_sizes is missing or empty: frames are unknown".to_owned());
        return finding;
    }
    for (&address, &size) in &frames {
        if size > MAX_FRAME {
            finding.violations.push(format!("{}: {size} bytes", module.function(address)));
        }
    }
    // The compiler leaves out functions whose frames it cannot know.
    for symbol in module.all_symbols.iter().filter(|symbol| symbol.function) {
        if let Some(address) = symbol.address
            && !frames.contains_key(&address)
        {
            finding.violations.push(format!(
                "{}: frame unknown (alloca, or compiled without stack sizes)",
                module.function(address)
            ));
        }
    }
    if let Some((&address, size)) = frames.iter().max_by_key(|&(_, size)| size) {
        finding.summary = format!(
            "{} frames, the largest {size} bytes of at most {MAX_FRAME}: {}",
            frames.len(),
            module.function(address)
        );
    }
    finding
}

/// Function address to frame size: each an address and a ULEB128 number.
fn frames(mut bytes: &[u8]) -> Option<BTreeMap<u64, u64>> {
    let mut frames = BTreeMap::new();
    while !bytes.is_empty() {
        let (address, rest) = bytes.split_first_chunk()?;
        let end = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (digits, rest) = rest.split_at(end);
        let size = digits.iter().rev().try_fold(0_u64, |size, &digit| {
            Some(size.checked_mul(0x80)? | u64::from(digit & 0x7f))
        })?;
        frames.insert(u64::from_le_bytes(*address), size);
        bytes = rest;
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_uleb128() {
        let mut bytes = 0x1000_u64.to_le_bytes().to_vec();
        bytes.extend([0x80, 0x10]);
        bytes.extend(0x1010_u64.to_le_bytes());
        bytes.push(0x7f);
        let expected = BTreeMap::from([(0x1000, 2048), (0x1010, 127)]);
        assert_eq!(frames(&bytes), Some(expected));
    }

    #[test]
    fn a_cut_section_is_refused() {
        let mut bytes = 0x1000_u64.to_le_bytes().to_vec();
        assert_eq!(frames(&bytes), None);
        bytes.push(0x80);
        assert_eq!(frames(&bytes), None);
        assert_eq!(frames(&bytes[..5]), None);
    }
}
