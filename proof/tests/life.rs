// SPDX-License-Identifier: BSD-2-Clause
//! The state machine of an open's life: the driver keeps I1 to I5 and I7, and
//! every broken one is caught by the invariant that it breaks.

use clap::ValueEnum;

use bpfrs_proof::life::{Broken, STANDARD, Scene, explore};

fn scenes() -> Vec<&'static Scene> {
    STANDARD.iter().collect()
}

#[test]
fn the_driver_keeps_its_invariants() {
    let outcome = explore(&scenes(), None);
    if let Some((invariant, trace)) = outcome.broken {
        panic!("{invariant}\n{trace}");
    }
    for (name, trace) in outcome.sights {
        assert!(trace.is_some(), "never seen: {name}");
    }
}

#[test]
fn every_broken_driver_is_caught() {
    for control in Broken::value_variants() {
        let outcome = explore(&scenes(), Some(*control));
        let Some((invariant, trace)) = outcome.broken else { panic!("{control} is not caught") };
        assert_eq!(invariant, control.breaks(), "{control}, in vain:\n{trace}");
    }
}

/// What Bruce Evans saw: d_close frees what a reader sleeps on.
#[test]
fn the_panic_of_2008() {
    let outcome = explore(&scenes(), Some(Broken::Legacy));
    let (_, trace) = outcome.broken.expect("a panic");
    let at = |step: &str| {
        let place = trace.steps.iter().position(|line| line.contains(step));
        place.unwrap_or_else(|| panic!("no step {step:?} in\n{trace}"))
    };
    let (sleeps, frees) = (at("sleeps on bpf_d 0"), at("d_close frees bpf_d 0"));
    let (wakes, dies) = (at("ends the sleep"), at("touches freed memory"));
    assert!(sleeps < frees && frees < wakes && wakes < dies, "{trace}");
}
