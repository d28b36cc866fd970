// SPDX-License-Identifier: BSD-2-Clause
//! Tables of what was counted on real interfaces.

use std::collections::BTreeMap;

use bpfrs_vm_protocol::net::{Life, Parity, Reload};
use bpfrs_vm_protocol::parity::Differences;
use comfy_table::Table;

use crate::markdown;

/// 0, or of what kind they are.
fn differences(d: &Differences) -> String {
    if d.sum() == 0 {
        return "0".into();
    }
    let kinds = [
        (d.missing, "missing"),
        (d.extra, "extra"),
        (d.reordered, "reordered"),
        (d.changed, "changed"),
    ];
    let named = kinds.iter().filter(|(number, _)| *number > 0);
    named.map(|(number, kind)| format!("{number} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Two captures on one interface.
pub fn parity_table(rows: &[(String, &Parity)]) -> Table {
    let mut table = markdown([
        "",
        "interface",
        "direction",
        "sent",
        "stock",
        "subject",
        "others",
        "stock ≠ sent",
        "subject ≠ stock",
        "dropped",
        "frames/s",
    ]);
    for (title, row) in rows {
        let rate = row.sent.saturating_mul(1000) / row.milliseconds.max(1);
        table.add_row([
            title.clone(),
            row.kind.clone(),
            row.direction.clone(),
            row.sent.to_string(),
            row.stock.to_string(),
            row.subject.to_string(),
            row.others.to_string(),
            differences(&row.from_sent),
            differences(&row.from_stock),
            row.dropped.to_string(),
            rate.to_string(),
        ]);
    }
    table
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> =
        counts.iter().map(|(name, number)| format!("{name} {number}")).collect();
    parts.join(", ")
}

/// Interfaces that came and went.
pub fn life_table(rows: &[(String, &Life)]) -> Table {
    let mut table = markdown([
        "", "what", "cycles", "attached", "packets", "revokes", "blocked", "asleep", "ends",
    ]);
    for (title, row) in rows {
        table.add_row([
            title.clone(),
            row.what.clone(),
            row.cycles.to_string(),
            row.attached.to_string(),
            row.packets.to_string(),
            row.revokes.to_string(),
            row.blocked.to_string(),
            row.asleep.to_string(),
            counts(&row.ends),
        ]);
    }
    table
}

/// Traffic while the module came and went.
pub fn reload_table(rows: &[(String, &Reload)]) -> Table {
    let mut table = markdown(["", "reloads", "captured", "requests", "lost"]);
    for (title, row) in rows {
        table.add_row([
            title.clone(),
            row.reloads.to_string(),
            row.captured.to_string(),
            counts(&row.sent),
            counts(&row.lost),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        assert_eq!(differences(&Differences::default()), "0");
        let some = Differences { missing: 3, changed: 1, ..Differences::default() };
        assert_eq!(differences(&some), "3 missing, 1 changed");
    }

    #[test]
    fn a_row_has_its_rate() {
        let row = Parity { sent: 500, milliseconds: 250, ..Parity::default() };
        let text = parity_table(&[("plain stock".into(), &row)]).to_string();
        assert!(text.contains("| 2000 "), "{text}");
    }
}
