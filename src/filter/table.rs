// SPDX-License-Identifier: BSD-2-Clause
//! Sets of numbers: open addressing, at most a quarter full. Before the slots
//! stands the number that marks the free ones, which is no key.

/// How many words a set of so many keys takes.
pub(crate) fn words(keys: usize) -> usize {
    slots(keys).saturating_add(1)
}

fn slots(keys: usize) -> usize {
    keys.saturating_mul(4).next_power_of_two()
}

/// What [`contains`] asks for: the top bits of a product choose the slot.
pub(crate) fn shift(keys: usize) -> u32 {
    // At least four slots, and fewer than 2^32.
    u32::BITS.saturating_sub(slots(keys).trailing_zeros())
}

/// 2^32 divided by the golden ratio, odd.
pub(crate) const FACTOR: u32 = 0x9e37_79b1;

/// Where a key is looked for first, and where next.
fn slots_for(key: u32, shift: u32) -> impl Iterator<Item = usize> {
    let last = u32::MAX.wrapping_shr(shift);
    let first = key.wrapping_mul(FACTOR).wrapping_shr(shift);
    (0..=last).map(move |step| (first.wrapping_add(step) & last) as usize)
}

/// The smallest number that is no key.
fn free<I: Iterator<Item = u32>>(keys: impl Fn() -> I, slots: &mut [u32]) -> u32 {
    // There are more slots than keys, so it is below that.
    slots.fill(0);
    for key in keys() {
        if let Some(seen) = slots.get_mut(key as usize) {
            *seen = 1;
        }
    }
    slots.iter().position(|seen| *seen == 0).unwrap_or_default() as u32
}

/// Makes a set in `set`, which has [`words()`] for them.
pub(crate) fn fill<I: Iterator<Item = u32>>(set: &mut [u32], keys: impl Fn() -> I, shift: u32) {
    let Some((free, slots)) = set.split_first_mut() else { return };
    *free = self::free(&keys, slots);
    slots.fill(*free);
    for key in keys() {
        let mut places = slots_for(key, shift);
        let place = places.find(|slot| slots.get(*slot).is_some_and(|it| it == free || *it == key));
        if let Some(slot) = place.and_then(|slot| slots.get_mut(slot)) {
            *slot = key;
        }
    }
}

/// Whether the set that begins there has the key.
#[inline(always)]
pub(crate) fn contains(set: &[u32], shift: u32, key: u32) -> bool {
    let Some((free, slots)) = set.split_first() else { return false };
    for slot in slots_for(key, shift) {
        match slots.get(slot) {
            Some(it) if it != free && *it != key => {}
            Some(it) => return it != free,
            None => break,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn a_set_has_its_keys_and_no_others() {
        // Small numbers are in the way of the mark; multiples of a power of two
        // fall on one slot.
        for step in [1, 3, 1 << 16, 1 << 24, FACTOR] {
            for len in [1u32, 2, 3, 4, 17, 200] {
                let keys: Vec<u32> = (0..len).map(|i| i.wrapping_mul(step)).collect();
                let shift = shift(keys.len());
                let mut set = vec![7; words(keys.len())];
                fill(&mut set, || keys.iter().copied(), shift);
                for key in (0..2000u32).chain((0..2 * len).map(|i| i.wrapping_mul(step))) {
                    assert_eq!(contains(&set, shift, key), keys.contains(&key), "{key} {step}");
                }
            }
        }
    }
}
