// SPDX-License-Identifier: BSD-2-Clause
//! What bpf adds to a packet: stock and bpfrs side by side.

use std::fmt;

use bpfrs_vm_protocol::bench::{Cost, Driver};
use comfy_table::Table;

use crate::markdown;

/// The middle one of several numbers, for one packet of so many.
fn median(numbers: &[u64], packets: u64) -> Option<f64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let middle = numbers.get(numbers.len() / 2)?;
    Some(*middle as f64 / packets.max(1) as f64)
}

/// Processor time of a packet in ns.
fn processor(cost: &Cost) -> Option<f64> {
    median(&cost.processor, cost.packets)
}

/// Packets in a second.
fn rate(cost: &Cost) -> Option<f64> {
    median(&cost.elapsed, cost.packets).map(|elapsed| 1e9 / elapsed)
}

/// The three drivers with the same filter on as many descriptors.
fn rows(costs: &[Cost]) -> impl Iterator<Item = [&Cost; 3]> {
    let stock = costs.iter().filter(|cost| cost.driver == Driver::Stock);
    stock.filter_map(|stock| {
        let like = |driver| {
            let same =
                |cost: &&Cost| (&cost.filter, cost.listeners) == (&stock.filter, stock.listeners);
            costs.iter().filter(same).find(|cost| cost.driver == driver)
        };
        Some([stock, like(Driver::Bpfrs)?, like(Driver::Jit)?])
    })
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.0}"))
}

fn ratio(value: Option<f64>, of: Option<f64>) -> String {
    match (value, of) {
        (Some(value), Some(of)) if of > 0.0 => format!("{:.2}", value / of),
        _ => "–".into(),
    }
}

/// What a cost is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Processor time.
    Nanoseconds,
    /// Instructions, of a guest whose clock goes on by so many ns for each.
    Instructions(u64),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "processor time (ns)",
            Self::Instructions(_) => "instructions",
        })
    }
}

/// Medians over all rounds, first of packets that nobody listens to.
pub fn cost_table(guest: &str, costs: &[Cost], unit: Unit) -> Table {
    // A clock that counts instructions knows nothing of packets in a second.
    let (scale, rates) = match unit {
        Unit::Nanoseconds => (1, &["stock, packets/s", "bpfrs, packets/s", "jit, packets/s"][..]),
        Unit::Instructions(nanoseconds) => (nanoseconds.max(1), &[][..]),
    };
    let heads = [guest, "descriptors", "stock", "bpfrs", "jit", "bpfrs / stock", "jit / stock"];
    let mut table = markdown(heads.into_iter().chain(rates.iter().copied()));
    let mut add = |name: &str, ways: [&Cost; 3]| {
        let times = ways.map(processor);
        let ratios = [times[1], times[2]].map(|time| ratio(time, times[0]));
        let times = times.map(|time| number(time.map(|time| time / scale as f64)));
        let rates = ways.map(|cost| number(rate(cost))).into_iter().take(rates.len());
        let cells = [name.to_string(), ways[0].listeners.to_string()].into_iter();
        table.add_row(cells.chain(times).chain(ratios).chain(rates));
    };
    for nobody in costs.iter().filter(|cost| cost.driver == Driver::Nobody) {
        add("nobody listens", [nobody; 3]);
    }
    for ways in rows(costs) {
        add(&ways[0].filter, ways);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(driver: Driver, processor: &[u64]) -> Cost {
        Cost {
            driver,
            filter: "all".into(),
            listeners: 4,
            packets: 10,
            processor: processor.to_vec(),
            elapsed: vec![20_000],
            ..Cost::default()
        }
    }

    #[test]
    fn medians_are_compared() {
        let costs = [
            cost(Driver::Nobody, &[9]),
            cost(Driver::Stock, &[9_000, 1_000, 1_200]),
            cost(Driver::Bpfrs, &[600, 100, 60_000]),
            cost(Driver::Jit, &[300]),
        ];
        let last = |unit| {
            let text = cost_table("plain", &costs, unit).to_string();
            let row = text.lines().last().unwrap_or_default().split('|').map(str::trim);
            row.filter(|cell| !cell.is_empty()).map(String::from).collect::<Vec<_>>()
        };
        let times = last(Unit::Nanoseconds);
        assert_eq!(times[..7], ["all", "4", "120", "60", "30", "0.50", "0.25"]);
        assert_eq!(times[7..], ["500000"; 3]);
        let counts = last(Unit::Instructions(2));
        assert_eq!(counts, ["all", "4", "60", "30", "15", "0.50", "0.25"]);
    }

    #[test]
    fn what_was_not_measured_has_no_number() {
        assert_eq!(number(median(&[], 10)), "–");
        assert_eq!(ratio(Some(1.0), None), "–");
    }
}
