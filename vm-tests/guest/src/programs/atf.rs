// SPDX-License-Identifier: BSD-2-Clause
//! The systems' own tests of bpf(4), unmodified: every atf(7) test program under /usr/tests of the
//! guest, case by case, as kyua(1) runs them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::{Cage, PATIENCE};
use crate::arguments::Arguments;
use crate::driver;
use crate::report::{self, Reporter};
use crate::sys;
use crate::tests::{Trouble, Verdict, While, ensure};

const TESTS: &str = "/usr/tests";
/// What such a program answers to -l begins so.
const LIST: &str = "Content-Type: application/X-atf-tp;";
/// For one case; the longest of them sleeps for ten seconds.
const LIMIT: Duration = Duration::from_secs(90);

/// Programs that have nothing to do with a device, by their last name.
const ELSEWHERE: &[(&str, &str)] = &[(
    "t_mbuf",
    "it calls functions of NetBSD's kernel itself, with its mbufs; it opens no device",
)];

/// Cases that FreeBSD's own bpf(4) does not pass, either: what they say, and why.
const OTHERWISE: &[(&str, &str, &str)] = &[
    (
        "bpfwritetrunc",
        "Expected errno 40, got 22",
        "devfs refuses a write of 4 GB with EINVAL before any driver sees it",
    ),
    (
        "bpfilterbadmem",
        "send_bpf_prog(\"bpfilterbadmem\", &prog) == -1",
        "bpf_validate() accepts a program that loads from memory to which it has not stored",
    ),
];

/// Cases whose read has a timeout of 500 us. Where that is less than a tick, it is none.
const SHORT: &[&str] = &["bpfiltercontig", "bpfiltermchain"];
const SHORT_TICKS: u64 = 2000;

/// `atf`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let cage = Cage { root: arguments.or("--chroot", "/"), device: arguments.device() };
    let mut reporter = Reporter::new();
    let mut programs = Vec::new();
    find(TESTS, &mut programs);
    let mut good = true;
    let mut any = false;
    for program in &programs {
        let short = program.strip_prefix(TESTS).unwrap_or(program).trim_start_matches('/');
        let last = short.rsplit('/').next().unwrap_or(short);
        if let Some((_, why)) = ELSEWHERE.iter().find(|(name, _)| *name == last) {
            any = true;
            good &= reporter.case(short, || Err(Trouble::NotHere((*why).into())));
            continue;
        }
        for case in list(&cage, program) {
            any = true;
            let name = format!("{short}:{}", case.name);
            good &= reporter.case(&name, || case.judge(case.run(&cage, program)));
        }
    }
    if !any {
        let why = format!("the guest has no atf(7) test programs under {TESTS}");
        good &= reporter.case("atf", || Err(Trouble::NotHere(why)));
    }
    reporter.end();
    i32::from(!good)
}

/// Programs in a folder and below it, in order.
fn find(folder: &str, programs: &mut Vec<String>) {
    const FORMAT: u32 = 0o170_000;
    const DIRECTORY: u32 = 0o040_000;
    const FILE: u32 = 0o100_000;
    const EXECUTE: u32 = 0o111;
    let mut names = sys::entries(folder).unwrap_or_default();
    names.sort();
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        let path = format!("{folder}/{name}");
        match sys::stat(&path) {
            Ok(node) if node.mode & FORMAT == DIRECTORY => find(&path, programs),
            Ok(node) if node.mode & FORMAT == FILE && node.mode & EXECUTE != 0 => {
                programs.push(path);
            }
            _ => {}
        }
    }
}

/// A case of a test program.
struct Case {
    name: String,
    has_cleanup: bool,
}

/// The cases of a program; none if it is a helper of others.
fn list(cage: &Cage, program: &str) -> Vec<Case> {
    let Ok(said) = cage.finish(program, &["-l"]) else { return Vec::new() };
    // atf-c warns on stderr that it is not run by kyua.
    let Some(at) = said.find(LIST) else { return Vec::new() };
    let mut cases: Vec<Case> = Vec::new();
    for line in said[at..].lines() {
        if let Some(name) = line.strip_prefix("ident: ") {
            cases.push(Case { name: name.trim().to_string(), has_cleanup: false });
        } else if let ("has.cleanup: true", Some(case)) = (line.trim(), cases.last_mut()) {
            case.has_cleanup = true;
        }
    }
    cases
}

impl Case {
    /// A case of [`OTHERWISE`] must fail as said there, and is told with its reason.
    fn judge(&self, verdict: Verdict) -> Verdict {
        let Some((_, says, why)) = OTHERWISE.iter().find(|(name, ..)| *name == self.name) else {
            return verdict;
        };
        match verdict {
            Err(Trouble::Wrong(said)) if said.contains(says) => {
                Err(Trouble::NotHere(format!("not on FreeBSD: {why}")))
            }
            Ok(()) => Err(Trouble::Wrong(format!("it passes, though {why}"))),
            other => other,
        }
    }

    fn run(&self, cage: &Cage, program: &str) -> Verdict {
        if SHORT.contains(&self.name.as_str()) && driver::number("kern.hz")? < SHORT_TICKS {
            return Err(Trouble::NotHere(format!(
                "a read of it has 500 us, less than a tick: it needs kern.hz={SHORT_TICKS}"
            )));
        }
        let folder = format!("/tmp/atf.{}", sys::Pid::current().number());
        let _ = sys::mkdir(&cage.outside(&folder));
        let result = format!("{folder}.result");
        cage.create(&result)?;
        let before = opens(cage)?;
        let ended = self.part(cage, program, &self.name, &folder, &result, LIMIT);
        let said = cage.said(SHELL);
        let after = opens(cage)?;
        if self.has_cleanup {
            let cleanup = format!("{}:cleanup", self.name);
            if let Err(Trouble::Wrong(why)) =
                self.part(cage, program, &cleanup, &folder, "/dev/null", PATIENCE)
            {
                report::human(&format!("{cleanup}: {why}"));
            }
        }
        let result = String::from_utf8_lossy(&cage.read(&result).at("its result")?).into_owned();
        if result.is_empty() {
            ended?;
            return Err(Trouble::Wrong(format!("no result: {said}")));
        }
        let (outcome, why) = result.trim().split_once(": ").unwrap_or((result.trim(), ""));
        match outcome {
            "passed" | "expected_failure" | "expected_exit" | "expected_signal"
            | "expected_death" => {
                ended?;
                ensure!(
                    cage.is_stock() || after > before,
                    "it passes without having opened bpfrs: {said}"
                );
                Ok(())
            }
            "skipped" => Err(Trouble::NotHere(why.into())),
            _ => Err(Trouble::Wrong(format!("{}: {said}", result.trim()))),
        }
    }

    /// Its body or its cleanup, in a folder of its own, as both may expect.
    fn part(
        &self,
        cage: &Cage,
        program: &str,
        part: &str,
        folder: &str,
        result: &str,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let source = program.rsplit_once('/').map_or("/", |(source, _)| source);
        let command = format!("cd {folder} && exec {program} -s {source} -r {result} {part}");
        let child = cage.start(SHELL, &["-c", &command])?;
        let all = child.pid().group();
        let ended = child.finish(limit);
        // Some leave a flood of pings behind.
        all.signal(libc::SIGKILL);
        // What it says of itself is in its result.
        ended.map(drop)
    }
}

const SHELL: &str = "/bin/sh";

/// How often bpfrs was opened. Of stock nobody knows; nothing else can be behind its name.
fn opens(cage: &Cage) -> Result<u64, Trouble> {
    if cage.is_stock() {
        return Ok(0);
    }
    Ok(driver::counters("net.bpfrs").at("net.bpfrs")?.opens)
}
