// SPDX-License-Identifier: BSD-2-Clause
//! What bpf adds to a packet: stock and bpfrs side by side.

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

/// How one way of listening compares with another; the medians of both.
struct Row<'a> {
    filter: &'a str,
    listeners: usize,
    stock: &'a Cost,
    bpfrs: &'a Cost,
    jit: &'a Cost,
}

fn rows(costs: &[Cost]) -> Vec<Row<'_>> {
    let find = |like: &Cost, driver| {
        costs.iter().find(|cost| {
            cost.driver == driver && cost.filter == like.filter && cost.listeners == like.listeners
        })
    };
    let stock = costs.iter().filter(|cost| cost.driver == Driver::Stock);
    stock
        .filter_map(|stock| {
            Some(Row {
                filter: &stock.filter,
                listeners: stock.listeners,
                stock,
                bpfrs: find(stock, Driver::Bpfrs)?,
                jit: find(stock, Driver::Jit)?,
            })
        })
        .collect()
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

/// Medians over all rounds. `nobody` is the row of packets that nobody listens to.
pub fn cost_table(guest: &str, costs: &[Cost]) -> Table {
    let mut table = markdown([
        guest,
        "descriptors",
        "stock, ns",
        "bpfrs, ns",
        "jit, ns",
        "bpfrs / stock",
        "jit / stock",
        "stock, packets/s",
        "bpfrs, packets/s",
        "jit, packets/s",
    ]);
    for cost in costs.iter().filter(|cost| cost.driver == Driver::Nobody) {
        let (time, rate) = (number(processor(cost)), number(rate(cost)));
        let none = String::new;
        table.add_row([
            "nobody listens".into(),
            "0".into(),
            time.clone(),
            time.clone(),
            time,
            none(),
            none(),
            rate.clone(),
            rate.clone(),
            rate,
        ]);
    }
    for row in rows(costs) {
        table.add_row([
            row.filter.to_string(),
            row.listeners.to_string(),
            number(processor(row.stock)),
            number(processor(row.bpfrs)),
            number(processor(row.jit)),
            ratio(processor(row.bpfrs), processor(row.stock)),
            ratio(processor(row.jit), processor(row.stock)),
            number(rate(row.stock)),
            number(rate(row.bpfrs)),
            number(rate(row.jit)),
        ]);
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
        let text = cost_table("plain", &costs).to_string();
        let row = text.lines().last().unwrap_or_default();
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|c| !c.is_empty()).collect();
        let rates = ["500000"; 3];
        assert_eq!(cells[..7], ["all", "4", "120", "60", "30", "0.50", "0.25"]);
        assert_eq!(cells[7..], rates);
    }

    #[test]
    fn what_was_not_measured_has_no_number() {
        assert_eq!(number(median(&[], 10)), "–");
        assert_eq!(ratio(Some(1.0), None), "–");
    }
}
