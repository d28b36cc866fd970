// SPDX-License-Identifier: BSD-2-Clause
//! How runs of a reproducer are judged, and shown side by side: those in a guest (`make vm-race`)
//! and those on the host (`make demo`).

pub mod behaviours;
pub mod bench;
pub mod net;

use bpfrs_vm_protocol::{AfterRevoke, Memory, Race, Times};
use clap::ValueEnum;
use comfy_table::{Row, Table, presets};
use serde::Serialize;

/// After so many revocations the positive control must be dead: a quiet machine makes them in some ten
/// seconds.
pub const LEGACY_REVOKES: u64 = 5000;

/// What is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// The positive control: must panic.
    Legacy,
    /// The kernel's own bpf(4), for comparison.
    Stock,
    /// Ours: must stand it.
    Bpfrs,
}

impl Driver {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Stock => "stock",
            Self::Bpfrs => "bpfrs",
        }
    }

    /// Its nodes: `%d` is the number of one.
    pub fn device(self) -> &'static str {
        match self {
            Self::Legacy => "/dev/legacy%d",
            Self::Stock => "/dev/bpf",
            Self::Bpfrs => "/dev/bpfrs%d",
        }
    }
}

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort it is.
    pub kind: &'static str,
    /// The line it began at, counted from where the search did.
    pub line: usize,
    /// The complaint and its backtrace, as the kernel printed them.
    pub quote: Vec<String>,
}

impl Finding {
    /// Whoever complained does not outlive it.
    pub fn is_fatal(&self) -> bool {
        self.kind == PANIC
    }
}

/// The kind of a complaint that nothing outlives.
pub const PANIC: &str = "panic";

/// One driver on one guest: a column of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Where it ran; nothing if all ran in one place.
    pub guest: String,
    /// Of which release that is.
    pub release: String,
    /// With INVARIANTS and WITNESS.
    pub debug_kernel: bool,
    /// What memguard watched.
    pub memguard: Option<&'static str>,
    /// What was put to the test.
    pub driver: Driver,
    /// From power-on to a shell, where there is one.
    pub boot_seconds: Option<f64>,
    /// Not run: what is known of the driver from its source.
    pub modelled: bool,
    /// Until the panic; nothing: survived.
    pub seconds_to_panic: Option<f64>,
    /// The patience of whoever ran it was over before the reproducer's end came.
    pub hung: bool,
    /// The last that the reproducer said of itself: at its end, or before the panic.
    pub race: Option<Race>,
    /// What went on after revoke(2).
    pub after_revoke: Option<AfterRevoke>,
    /// What the kernel complained of.
    pub findings: Vec<Finding>,
    /// Why this is not as it must be.
    pub problems: Vec<String>,
}

impl Column {
    /// One without results yet.
    pub fn new(driver: Driver) -> Self {
        Self {
            guest: String::new(),
            release: String::new(),
            debug_kernel: false,
            memguard: None,
            driver,
            boot_seconds: None,
            modelled: false,
            seconds_to_panic: None,
            hung: false,
            race: None,
            after_revoke: None,
            findings: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn title(&self) -> String {
        if self.modelled {
            return format!("{} (modelled)", self.driver.name());
        }
        if self.guest.is_empty() {
            return self.driver.name().into();
        }
        let guard = if self.memguard.is_some() { " +memguard" } else { "" };
        format!("{} on {} ({}{guard})", self.driver.name(), self.guest, self.release)
    }
}

/// What bpfrs has to keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At least so many revocations.
    pub revokes: u64,
}

/// How many of the readers that woke may have woken late: one in a hundred, and as many as the
/// machine makes late. That is told by the control: twice its share (it may need less time, and then
/// fewer halts of the machine meet it), and what chance does to a sample (three times its spread).
fn late_allowed(race: &Race) -> f64 {
    let (readers, controls) = (race.wake_time.count as f64, race.control_time.count as f64);
    let share = race.control_late as f64 / controls;
    // A sample in which it did not happen is no proof that it cannot.
    let chance = (race.control_late as f64 + 1.0) / (controls + 2.0);
    let spread = (chance * (1.0 - chance) * (1.0 / readers + 1.0 / controls)).sqrt();
    (0.01 + 2.0 * share + 3.0 * spread) * readers
}

/// Why a column is not as it must be.
pub fn problems(column: &Column, limits: Limits) -> Vec<String> {
    let mut problems = column.problems.clone();
    let mut unless = |good: bool, problem: String| {
        if !good {
            problems.push(problem);
        }
    };
    match column.driver {
        Driver::Legacy => {
            let revokes = column.race.as_ref().map_or(0, |race| race.revokes);
            unless(
                column.seconds_to_panic.is_some() && revokes <= LEGACY_REVOKES,
                format!(
                    "the positive control did not panic within {LEGACY_REVOKES} revocations ({}, {revokes} revocations): the reproducer proves nothing",
                    outcome(column)
                ),
            );
        }
        // For comparison only: what stock does is not ours to judge.
        Driver::Stock => {}
        Driver::Bpfrs => {
            unless(column.seconds_to_panic.is_none(), outcome(column));
            unless(!column.hung, "the guest hangs".into());
            unless(
                column.findings.iter().all(Finding::is_fatal),
                format!("{} reports of the kernel", column.findings.len()),
            );
            let finished = !column.hung && column.seconds_to_panic.is_none();
            match &column.race {
                Some(race) if finished => problems.extend(race_problems(race, limits)),
                Some(_) => {}
                None => problems.push("no result of the reproducer".into()),
            }
            match &column.after_revoke {
                Some(after) => problems.extend(after_problems(after)),
                None if finished => problems.push("no result of after-revoke".into()),
                None => {}
            }
        }
    }
    problems
}

fn race_problems(race: &Race, limits: Limits) -> Vec<String> {
    let driver = race.driver.clone().unwrap_or_default();
    let checks = [
        (race.opens > 0 && race.reads > 0 && race.revokes > 0, "nothing was going on".to_string()),
        (race.blocked > 0 && race.woken > 0, "no reader was blocked when a revocation came".into()),
        (
            race.revokes >= limits.revokes,
            format!("only {} revocations of {}", race.revokes, limits.revokes),
        ),
        (race.asleep == 0, format!("{} readers slept on after revoke(2)", race.asleep)),
        (race.control_time.count > 0, "the control was never woken".into()),
        (
            race.control_time.count == 0 || race.late as f64 <= late_allowed(race),
            format!(
                "{} of {} readers woke later than {} us; of the control {} of {}",
                race.late,
                race.wake_time.count,
                race.wake_limit,
                race.control_late,
                race.control_time.count
            ),
        ),
        (race.bad_records == 0, format!("{} malformed records", race.bad_records)),
        (race.stuck_processes == 0, format!("{} processes survived SIGKILL", race.stuck_processes)),
        (race.stuck_nodes == 0, format!("{} nodes stayed busy", race.stuck_nodes)),
        (race.driver.is_some(), "the driver has no counters".into()),
        (driver.live == 0, format!("{} opens live at the end", driver.live)),
        (driver.descriptors == 0, format!("{} descriptors not freed", driver.descriptors)),
        (
            driver.zero + driver.one + driver.two + driver.more == driver.opens,
            format!("opens and their closes do not add up: {driver:?}"),
        ),
        (
            race.memory_after == race.memory_before,
            format!("memory before {:?}, after {:?}", race.memory_before, race.memory_after),
        ),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, problem)| problem).collect()
}

fn after_problems(after: &AfterRevoke) -> Vec<String> {
    let checks = [
        (after.promiscuous_before, "BIOCPROMISC had no effect"),
        (!after.promiscuous_after, "promiscuous mode goes on after revoke(2)"),
        (!after.promiscuous_at_end, "promiscuous mode goes on after close"),
        (after.captures_after == Some(false), "capture goes on after revoke(2)"),
        (after.reader_woken, "the sleeping reader was not woken"),
        (after.reader_result == "ENXIO", "the sleeping reader did not get ENXIO"),
        (after.reopened, "the node could not be opened again"),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, problem)| problem.into()).collect()
}

/// How a run ended, and of what.
pub fn outcome(column: &Column) -> String {
    let panic = column.findings.iter().find(|finding| finding.is_fatal());
    match panic.and_then(|finding| finding.quote.first()) {
        Some(line) => format!("{} ({})", end(column), line.trim()),
        None => end(column),
    }
}

/// How a run ended, in a few words.
fn end(column: &Column) -> String {
    if column.modelled {
        return "-".into();
    }
    match (column.seconds_to_panic, column.hung, &column.race) {
        (Some(seconds), _, _) => format!("panic after {seconds:.1} s"),
        (None, true, _) => "hangs".into(),
        (None, false, Some(race)) => format!("survived {:.0} s", race.seconds),
        (None, false, None) => "not run".into(),
    }
}

/// An empty table, as Markdown has them.
pub fn markdown(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table
}

/// All columns side by side.
pub fn table(columns: &[Column]) -> Table {
    let mut header = vec![String::new()];
    header.extend(columns.iter().map(Column::title));
    let mut table = markdown(header);
    let mut row = |name: &str, value: &dyn Fn(&Column) -> String| {
        let values: Vec<String> = columns.iter().map(value).collect();
        // What nobody can tell here.
        if values.iter().all(|value| value == "-") {
            return;
        }
        table.add_row(std::iter::once(name.to_string()).chain(values));
    };
    row("outcome", &end);
    row("boot", &|c| c.boot_seconds.map_or_else(|| "-".into(), |s| format!("{s:.1} s")));
    row("kernel reports", &|c| match c.modelled {
        true => "-".into(),
        false => c.findings.len().to_string(),
    });
    let mut race_row = |name: &str, value: &dyn Fn(&Race) -> String| {
        row(name, &|c| c.race.as_ref().map_or_else(|| "-".into(), value));
    };
    race_row("opens (refused as busy)", &|r| format!("{} ({})", r.opens, r.opens_busy));
    race_row("reads with data", &|r| r.reads.to_string());
    race_row("revoke(2) calls", &|r| r.revokes.to_string());
    race_row("d_close per open: 0/1/2/more", &|r| {
        r.driver.as_ref().map_or_else(
            || "(stock has no d_close)".into(),
            |d| format!("{}/{}/{}/{}", d.zero, d.one, d.two, d.more),
        )
    });
    race_row("… of no open", &|r| r.driver.as_ref().map_or("-".into(), |d| d.orphan.to_string()));
    race_row("blocked readers met by a revoke", &|r| r.blocked.to_string());
    race_row("… woken dead", &|r| r.woken.to_string());
    race_row("… still asleep after 1 s", &|r| r.asleep.to_string());
    race_row("… had data, killed by us", &|r| format!("{}, {}", r.returned, r.killed));
    race_row("wake latency p50/p99/max", &|r| times(&r.wake_time));
    race_row("… of the control", &|r| times(&r.control_time));
    race_row("… later than the limit, of the control", &|r| {
        let share = |late, of| match of {
            0 => "-".into(),
            of => format!("{:.2} %", 100.0 * late as f64 / of as f64),
        };
        let shares = [(r.late, r.wake_time.count), (r.control_late, r.control_time.count)];
        shares.map(|(late, of): (u64, u64)| share(late, of)).join(", ")
    });
    race_row("revoke(2) latency p50/p99/max", &|r| times(&r.revoke_time));
    race_row("nodes stuck at the end", &|r| r.stuck_nodes.to_string());
    race_row("malloc type: before → after", &|r| {
        if r.driver.is_none() {
            return "-".into();
        }
        let show = |m: &Memory| match m.guarded {
            0 => m.allocations.to_string(),
            guarded => format!("{} ({guarded} B guarded)", m.allocations),
        };
        format!("{} → {}", show(&r.memory_before), show(&r.memory_after))
    });
    race_row("packets sent on lo0", &|r| r.sent.to_string());
    race_row("packets read, captured, dropped", &|r| {
        format!("{}, {}, {}", r.packets, r.captured, r.dropped)
    });
    race_row("runs of tcpdump", &|r| match r.tcpdump_runs {
        0 => "-".into(),
        runs => runs.to_string(),
    });
    let yes = |good: bool| if good { "yes" } else { "no" };
    let mut after_row = |name: &str, value: &dyn Fn(&AfterRevoke) -> String| {
        row(name, &|c| c.after_revoke.as_ref().map_or_else(|| "-".into(), value));
    };
    after_row("after revoke: sleeping reader", &|a| a.reader_result.clone());
    after_row("after revoke: capture goes on", &|a| a.captures_after.map_or("?", yes).into());
    after_row("after revoke: still promiscuous", &|a| yes(a.promiscuous_after).into());
    table
}

fn times(times: &Times) -> String {
    if times.count == 0 {
        return "-".into();
    }
    let ms = |micros: u64| format!("{}.{:02}", micros / 1000, micros % 1000 / 10);
    format!("{}/{}/{} ms", ms(times.p50), ms(times.p99), ms(times.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfrs_vm_protocol as protocol;

    const LIMITS: Limits = Limits { revokes: 1000 };

    fn good_race() -> Race {
        Race {
            opens: 500,
            reads: 300,
            revokes: 1000,
            blocked: 200,
            woken: 180,
            wake_time: Times { count: 180, p50: 300, p99: 9_000, max: 20_000 },
            wake_limit: 10_000,
            control_time: Times { count: 200, p50: 200, p99: 9_000, max: 20_000 },
            driver: Some(protocol::Driver {
                opens: 500,
                zero: 10,
                one: 480,
                two: 9,
                more: 1,
                ..protocol::Driver::default()
            }),
            ..Race::default()
        }
    }

    fn column(driver: Driver) -> Column {
        Column {
            guest: "debug".into(),
            release: "12.1".into(),
            debug_kernel: true,
            boot_seconds: Some(8.0),
            race: Some(good_race()),
            after_revoke: Some(AfterRevoke {
                promiscuous_before: true,
                captures_after: Some(false),
                reader_woken: true,
                reader_result: "ENXIO".into(),
                reopened: true,
                ..AfterRevoke::default()
            }),
            ..Column::new(driver)
        }
    }

    #[test]
    fn a_good_run_has_no_problems() {
        assert_eq!(problems(&column(Driver::Bpfrs), LIMITS), Vec::<String>::new());
    }

    #[test]
    fn every_defect_of_a_run_is_a_problem() {
        let defects: &[fn(&mut Race)] = &[
            |r| r.reads = 0,
            |r| r.woken = 0,
            |r| r.revokes = 999,
            |r| r.asleep = 1,
            |r| r.late = 10,
            |r| r.control_time.count = 0,
            |r| r.bad_records = 1,
            |r| r.stuck_processes = 1,
            |r| r.stuck_nodes = 1,
            |r| r.driver = None,
            |r| r.driver.as_mut().unwrap().live = 1,
            |r| r.driver.as_mut().unwrap().descriptors = 1,
            |r| r.driver.as_mut().unwrap().zero = 9,
            |r| r.memory_after.allocations = 1,
            |r| r.memory_after.guarded = 4096,
        ];
        for (number, defect) in defects.iter().enumerate() {
            let mut column = column(Driver::Bpfrs);
            defect(column.race.as_mut().unwrap());
            assert!(!problems(&column, LIMITS).is_empty(), "defect {number} goes unnoticed");
        }
    }

    #[test]
    fn readers_may_be_as_late_as_the_control() {
        let race = |late, control_late| Race {
            wake_time: Times { count: 2000, ..Times::default() },
            late,
            control_time: Times { count: 1000, ..Times::default() },
            control_late,
            ..good_race()
        };
        let is_good =
            |late, control_late| race_problems(&race(late, control_late), LIMITS).is_empty();
        // A machine that never halts: one in a hundred, and hardly more.
        assert!(is_good(20, 0) && !is_good(40, 0));
        // A busy one, of which the readers have their share, and a driver that adds to it.
        assert!(is_good(200, 100) && !is_good(600, 100));
        assert!(is_good(1000, 500) && !is_good(1000, 200));
    }

    #[test]
    fn every_defect_of_a_column_is_a_problem() {
        let defects: &[fn(&mut Column)] = &[
            |c| c.seconds_to_panic = Some(99.0),
            |c| c.hung = true,
            |c| c.race = None,
            |c| c.after_revoke = None,
            |c| c.problems.push("kldload".into()),
            |c| c.findings = vec![Finding { kind: "duplicate lock", line: 0, quote: Vec::new() }],
            |c| c.after_revoke.as_mut().unwrap().promiscuous_after = true,
            |c| c.after_revoke.as_mut().unwrap().promiscuous_at_end = true,
            |c| c.after_revoke.as_mut().unwrap().captures_after = None,
            |c| c.after_revoke.as_mut().unwrap().reader_woken = false,
            |c| c.after_revoke.as_mut().unwrap().reader_result = "0 bytes".into(),
            |c| c.after_revoke.as_mut().unwrap().reopened = false,
        ];
        for (number, defect) in defects.iter().enumerate() {
            let mut column = column(Driver::Bpfrs);
            defect(&mut column);
            assert!(!problems(&column, LIMITS).is_empty(), "defect {number} goes unnoticed");
        }
    }

    #[test]
    fn the_positive_control_must_panic_in_time() {
        let mut legacy = column(Driver::Legacy);
        assert!(!problems(&legacy, LIMITS).is_empty());
        legacy.seconds_to_panic = Some(2.0);
        assert_eq!(problems(&legacy, LIMITS), Vec::<String>::new());
        legacy.race.as_mut().unwrap().revokes = LEGACY_REVOKES + 1;
        assert!(!problems(&legacy, LIMITS).is_empty());
    }

    #[test]
    fn the_table_has_a_column_for_each() {
        let columns = [column(Driver::Legacy), column(Driver::Stock), column(Driver::Bpfrs)];
        let text = table(&columns).to_string();
        for part in
            ["legacy on debug", "bpfrs on debug", "10/480/9/1", "0.30/9.00/20.00 ms", "ENXIO"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn what_was_not_run_shows_no_figures() {
        let modelled = Column { modelled: true, race: None, ..column(Driver::Stock) };
        let text = table(&[modelled, column(Driver::Bpfrs)]).to_string();
        let calls = text.lines().find(|line| line.contains("revoke(2) calls")).unwrap();
        let cells: Vec<&str> = calls.split('|').map(str::trim).collect();
        assert_eq!(cells[2..4], ["-", "1000"], "{text}");
        assert!(text.contains("stock (modelled)"), "{text}");
        assert!(!text.contains("tcpdump"), "a row without a figure:\n{text}");
    }
}
