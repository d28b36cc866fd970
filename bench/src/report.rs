// SPDX-License-Identifier: BSD-2-Clause
//! Tables, the plot, and JSON.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use plotters::prelude::*;
use serde::Serialize;

use crate::measure::{FilterCost, Machine, Measurement};

/// What was measured, where and how: results.json.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) host: Host,
    /// The compiler.
    pub(crate) rustc: &'static str,
    /// The version of what was measured.
    pub(crate) bpfrs: &'static str,
    pub(crate) unit: &'static str,
    /// The program was linked so often, its functions in another order each time: medians
    /// over these, and of each the best of so many turns.
    pub(crate) layouts: usize,
    pub(crate) turns: usize,
    #[serde(flatten)]
    pub(crate) measured: Measurement,
}

#[derive(Serialize)]
pub(crate) struct Host {
    cpu: String,
    cpus: usize,
    system: String,
}

impl Host {
    /// The one that this runs on, as far as it says what it is.
    pub(crate) fn this() -> Self {
        let said = |command: &str, arguments: &[&str]| {
            let output = Command::new(command).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        let linux = || {
            let info = fs::read_to_string("/proc/cpuinfo").ok()?;
            let model = info.lines().find(|line| line.starts_with("model name"))?;
            Some(model.split_once(':')?.1.trim().to_owned())
        };
        Host {
            cpu: linux().or_else(|| said("sysctl", &["-n", "hw.model"])).unwrap_or_default(),
            cpus: available_parallelism().map_or(1, NonZero::get),
            system: said("uname", &["-srm"]).unwrap_or_default(),
        }
    }
}

const MACHINES: [(Machine, &str); 6] = [
    (Machine::Libpcap, "libpcap"),
    (Machine::Bpfjit, "bpfjit"),
    (Machine::Reference, "reference"),
    (Machine::Threaded, "threaded"),
    (Machine::Jit, "jit"),
    (Machine::ByHand, "by hand"),
];

/// How many times as fast, of those that both did.
fn ratios(filters: &[&FilterCost], of: Machine, to: Machine) -> Vec<f64> {
    filters.iter().filter_map(|f| Some(f.ns.get(&of)? / f.ns.get(&to)?)).collect()
}

fn geomean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// A goal: what was reached, and what should be.
struct Goal {
    what: &'static str,
    reached: f64,
    wanted: f64,
    at_least: bool,
}

fn goals(measured: &Measurement) -> Vec<Goal> {
    let all: Vec<_> = measured.filters.iter().collect();
    let small: Vec<_> = all.iter().copied().filter(|filter| filter.small).collect();
    let hosts: Vec<_> = all.iter().copied().filter(|f| f.name.starts_with("200 hosts")).collect();
    let least = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
    let mean = |of, to| geomean(&ratios(&small, of, to));
    let more = |what, reached, wanted| Goal { what, reached, wanted, at_least: true };
    let less = |what, reached, wanted| Goal { what, reached, wanted, at_least: false };
    use Machine::{Bpfjit, ByHand, Jit, Libpcap, Threaded};
    let mut goals = vec![
        more("libpcap / threaded, mean of small filters", mean(Libpcap, Threaded), 1.6),
        more("libpcap / threaded, the worst of all", least(&ratios(&all, Libpcap, Threaded)), 1.0),
        more("libpcap / threaded, 200 hosts", least(&ratios(&hosts, Libpcap, Threaded)), 15.0),
        more("libpcap / jit, mean of small filters", mean(Libpcap, Jit), 4.0),
        more("bpfjit / jit, mean of small filters", mean(Bpfjit, Jit), 1.2),
        less("jit / by hand, mean", mean(Jit, ByHand), 1.4),
    ];
    for append in &measured.append {
        let (what, wanted) = match append.snaplen {
            64 => ("append / header and memcpy, snaplen 64", 1.3),
            _ => ("append / header and memcpy, whole packets", 1.15),
        };
        goals.push(less(what, append.bpfrs / append.limit, wanted));
    }
    // A machine that is not there has no ratio.
    goals.retain(|goal| goal.reached.is_finite());
    goals
}

fn table(header: Vec<&str>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    // What fits a terminal.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(100);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn print(Results { unit, layouts, turns, measured, .. }: &Results) {
    println!("{unit}; medians over {layouts} link layouts, the best of {turns} turns each");
    println!();
    let names = MACHINES.map(|(_, name)| name);
    let mut costs = table([&["filter"][..], &names].concat());
    for filter in &measured.filters {
        let ns = |machine| filter.ns.get(&machine).map_or("-".to_owned(), |ns| format!("{ns:.1}"));
        costs.add_row(
            std::iter::once(filter.name.clone()).chain(MACHINES.map(|(machine, _)| ns(machine))),
        );
    }
    println!("{costs}\n");
    let mut appends = table(vec!["append", "header and memcpy", "bpfrs"]);
    for append in &measured.append {
        let snaplen = match append.snaplen {
            u32::MAX => "whole packets".to_owned(),
            snaplen => format!("snaplen {snaplen}"),
        };
        appends.add_row([snaplen, format!("{:.1}", append.limit), format!("{:.1}", append.bpfrs)]);
    }
    println!("{appends}\n");
    let mut summary = table(vec!["ratio", "measured", "goal", ""]);
    for Goal { what, reached, wanted, at_least } in goals(measured) {
        let met = if at_least { reached >= wanted } else { reached <= wanted };
        let sign = if at_least { '≥' } else { '≤' };
        summary.add_row([
            what.to_owned(),
            format!("{reached:.2}"),
            format!("{sign} {wanted}"),
            if met { "met" } else { "missed" }.to_owned(),
        ]);
    }
    println!("{summary}");
}

/// results.json and filters.svg.
pub(crate) fn write(results: &Results, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("results.json"), serde_json::to_string_pretty(results)?)?;
    plot(&results.measured.filters, &out.join("filters.svg"))?;
    println!("\n{}/results.json, filters.svg", out.display());
    Ok(())
}

/// A dot for each machine and filter; costs by powers of ten.
fn plot(filters: &[FilterCost], path: &Path) -> Result<()> {
    let rows = filters.len();
    let size = (1000, 120 + 26 * rows as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let most = filters.iter().flat_map(|f| f.ns.values()).copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption("Filters: ns for each packet", ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(340)
        .build_cartesian_2d((1.0..most * 1.3).log_scale(), -1.0..rows as f64)?;
    let name = |y: &f64| {
        let row = rows as f64 - 1.0 - y;
        let on_row = (row - row.round()).abs() < 0.01 && row > -0.5;
        filters
            .get(row.round() as usize)
            .filter(|_| on_row)
            .map_or(String::new(), |f| f.name.clone())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows + 2)
        .y_label_formatter(&name)
        .x_desc("ns")
        .draw()?;
    for (number, (machine, label)) in MACHINES.into_iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let dots = filters.iter().enumerate().filter_map(|(row, filter)| {
            let ns = *filter.ns.get(&machine)?;
            Some(Circle::new((ns, (rows - 1 - row) as f64), 5, color.filled()))
        });
        chart
            .draw_series(dots)?
            .label(label)
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
