// SPDX-License-Identifier: BSD-2-Clause
//! One process: every machine on every filter, in turn.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use bpfrs::kpi::code::Code;
use bpfrs_filter::{Heap, Program};
use serde::{Deserialize, Serialize};

use crate::filters::Filter;
use crate::{append, filters};

/// The seed of the packets, and how many.
const SEED: u64 = 2008;
const PACKETS: usize = 10_000;
/// Rounds over all machines; the best of each counts. Each round has packets of
/// its own: a processor that sees the same ones again remembers where branches
/// led, as it never does with traffic.
const ROUNDS: u64 = 5;

/// A machine, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Machine {
    Libpcap,
    Bpfjit,
    Reference,
    Threaded,
    Jit,
    ByHand,
}

/// What was measured: ns for each packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) filters: Vec<FilterCost>,
    pub(crate) append: Vec<append::Cost>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FilterCost {
    pub(crate) name: String,
    pub(crate) small: bool,
    pub(crate) insns: usize,
    /// Packets that it accepts.
    pub(crate) accepted: usize,
    pub(crate) ns: BTreeMap<Machine, f64>,
}

type Run<'f> = Box<dyn Fn(&[Vec<u8>]) -> u64 + 'f>;

/// A loop over the packets with the machine inlined; the sum of what it says.
fn sweep<'f>(machine: impl Fn(&[u8]) -> u32 + 'f) -> Run<'f> {
    Box::new(move |packets| {
        packets.iter().map(|packet| u64::from(machine(black_box(packet)))).sum()
    })
}

fn filter(filter: &Filter, traffic: &[Vec<Vec<u8>>]) -> FilterCost {
    let insns = &filter.insns;
    let libpcap = bpfrs_filters::Program::new(insns).expect("a valid program");
    let program = Program::<Heap>::new(insns.clone().into()).expect("a valid program");
    let code = Code::new(&program);
    let opcodes = insns.iter().map(|i| bpfjit_sys::Opcode(i.code, i.jt, i.jf, i.k));
    let bpfjit = bpfjit_sys::BpfJit::raw(&opcodes.collect::<Vec<_>>());

    let mut machines: Vec<(Machine, Run<'_>)> = vec![
        (Machine::Libpcap, sweep(|packet| libpcap.run(packet, packet.len() as u32))),
        (Machine::Reference, sweep(|packet| program.run_reference(packet))),
        (Machine::Threaded, sweep(|packet| program.run(packet))),
    ];
    if let Ok(bpfjit) = &bpfjit {
        machines.push((Machine::Bpfjit, sweep(|packet| bpfjit.value(packet))));
    }
    if let Some(code) = &code {
        let run = |packet: &[u8]| {
            code.run(packet, packet.len() as u32).unwrap_or_else(|| program.run(packet))
        };
        machines.push((Machine::Jit, sweep(run)));
    }
    if let Some(by_hand) = filter.by_hand {
        // Each has a loop of its own, as if it was written there.
        machines.push((
            Machine::ByHand,
            Box::new(move |packets| {
                packets.iter().map(|packet| u64::from(by_hand(black_box(packet)))).sum()
            }),
        ));
    }

    let mut ns = BTreeMap::new();
    for packets in traffic {
        let expected =
            packets.iter().map(|packet| u64::from(program.run_reference(&packet[..]))).sum::<u64>();
        for (machine, run) in &machines {
            let start = Instant::now();
            let sum = run(packets);
            let cost = start.elapsed().as_nanos() as f64 / packets.len() as f64;
            assert_eq!(sum, expected, "{machine:?} says something else of {}", filter.name);
            let best = ns.entry(*machine).or_insert(f64::MAX);
            *best = cost.min(*best);
        }
    }
    let accepted = traffic[0].iter().filter(|packet| program.run(&packet[..]) != 0).count();
    let (name, small) = (filter.name.clone(), filter.small);
    FilterCost { name, small, insns: insns.len(), accepted, ns }
}

pub(crate) fn all() -> Measurement {
    let traffic: Vec<_> =
        (0..ROUNDS).map(|round| bpfrs_filters::imix(SEED + round, PACKETS)).collect();
    let filters = filters::all().iter().map(|one| filter(one, &traffic)).collect();
    Measurement { filters, append: append::all(&traffic[0]) }
}

impl Measurement {
    /// All figures of several measurements, put together one by one.
    fn combine(all: &[Measurement], mut how: impl FnMut(&mut Vec<f64>) -> f64) -> Measurement {
        let mut result = all[0].clone();
        for (i, filter) in result.filters.iter_mut().enumerate() {
            for (machine, ns) in &mut filter.ns {
                *ns = how(&mut all.iter().map(|m| m.filters[i].ns[machine]).collect());
            }
        }
        for (i, append) in result.append.iter_mut().enumerate() {
            append.limit = how(&mut all.iter().map(|m| m.append[i].limit).collect());
            append.bpfrs = how(&mut all.iter().map(|m| m.append[i].bpfrs).collect());
        }
        result
    }

    pub(crate) fn better(&self, other: &Measurement) -> Measurement {
        Self::combine(&[self.clone(), other.clone()], |values| {
            values.iter().copied().fold(f64::MAX, f64::min)
        })
    }

    /// # Panics
    /// If there is none.
    pub(crate) fn median(all: &[Measurement]) -> Measurement {
        Self::combine(all, |values| {
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            if values.len() % 2 == 1 {
                values[middle]
            } else {
                (values[middle - 1] + values[middle]) / 2.0
            }
        })
    }
}
