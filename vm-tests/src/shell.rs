// SPDX-License-Identifier: BSD-2-Clause
//! Commands in a running guest, over its console.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bpfrs_verdict::Finding;
use bpfrs_vm_protocol::{Message, Outcome, decode};
use regex::Regex;

use crate::console::{Console, Nothing};
use crate::findings;
use crate::guest::{Boot, Guest};
use crate::machine::{Environment, Hardware, Machine};

/// From power-on to a shell, on the slowest of hosts: silence tells earlier.
const BOOT_LIMIT: Duration = Duration::from_secs(1800);
/// A guest that says nothing for so long while it boots says nothing any more.
const SILENCE: Silence =
    Silence { firmware: Duration::from_secs(60), kernel: Duration::from_secs(90) };
/// A login on a slow host.
const LOGIN_LIMIT: Duration = Duration::from_secs(120);
/// The kernel prints when it likes, and may tear the line that we wait for: ask again when there
/// was none for so long.
const NUDGE: Duration = Duration::from_secs(15);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit status.
    Status(i32),
    /// It did not, in its time.
    Late,
    /// The guest died.
    Gone,
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) end: End,
    /// Lines for humans.
    pub(crate) lines: Vec<String>,
    /// Messages, in order.
    pub(crate) messages: Vec<Message>,
    /// … and all of them.
    pub(crate) complete: bool,
}

impl Output {
    /// It ended well, and everything that it said has arrived.
    pub(crate) fn is_good(&self) -> bool {
        self.end == End::Status(0)
    }

    /// The same as a result, with what it said.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.is_good() {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("{:?}: {}", self.end, self.lines.join("\n")))
        }
    }
}

/// How long nothing may be said: while firmware and loader look for a kernel, and from its first
/// line on.
#[derive(Clone, Copy)]
struct Silence {
    firmware: Duration,
    kernel: Duration,
}

/// The places where a boot gets stuck. UEFI's shell comes up when there is nothing else.
fn is_stuck(line: &str) -> bool {
    ["loader: ", "mountroot>", "panic: ", "Fatal trap "].iter().any(|text| line.starts_with(text))
        || ["No bootable device", "UEFI Interactive Shell", "can't load 'kernel'"]
            .iter()
            .any(|text| line.contains(text))
}

/// A line as it is read: firmware moves the cursor and paints.
fn without_escapes(line: &str) -> String {
    static ESCAPE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\x1b(\[[0-9;?=]*[A-Za-z]|c)").ok());
    ESCAPE.as_ref().map_or_else(|| line.into(), |escape| escape.replace_all(line, "").into_owned())
}

/// Whether the kernel has begun to speak: by its first line.
fn kernel_is_up(console: &Console) -> bool {
    console.since(0).iter().any(|line| line.text.starts_with("Copyright (c) 1992-"))
}

/// The line with which a console asks for somebody, or on which the boot is stuck.
fn wait_for_shell(console: &Console, silence: Silence, limit: Duration) -> Result<String, Nothing> {
    const LOOK: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + limit;
    let mut seen = 0;
    let mut heard = (console.heard(), Instant::now());
    loop {
        let position = console.position();
        let asked = console.wait(seen, LOOK, |line| {
            let line = line.trim_end();
            let shell = line.contains("RETURN for /bin/sh:") || line.ends_with("login:");
            (shell || is_stuck(line)).then(|| line.to_string())
        });
        let now = Instant::now();
        if console.heard() != heard.0 {
            heard = (console.heard(), now);
        }
        let patience = if kernel_is_up(console) { silence.kernel } else { silence.firmware };
        let silent = now.duration_since(heard.1) >= patience;
        if asked != Err(Nothing::Late) || silent || now >= deadline {
            return asked;
        }
        // Those were complete and have been looked at.
        seen = position;
    }
}

/// What comes of a name at "login:".
#[derive(Debug, PartialEq)]
enum Login {
    /// A shell's prompt.
    Shell,
    /// Root has a password, or may not come in here.
    Refused(String),
}

/// Waits for it. The kernel may tear a prompt: RETURN makes a new one.
fn wait_for_login(
    console: &Console,
    position: usize,
    nudge: Duration,
    limit: Duration,
    mut send_return: impl FnMut(),
) -> Result<Login, Nothing> {
    // "root@freebsd:~ # ", and what an editor of lines sends after it.
    static PROMPT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[#$%>] (\x1b\[[0-9;?]*[A-Za-z])*$").ok());
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let came = console.wait(position, left.min(nudge), |line| {
            if ["Password:", "Login incorrect", "refused"].iter().any(|no| line.contains(no)) {
                return Some(Login::Refused(line.trim().to_string()));
            }
            PROMPT.as_ref()?.is_match(line).then_some(Login::Shell)
        });
        match came {
            Err(Nothing::Late) if Instant::now() < deadline => send_return(),
            came => return came,
        }
    }
}

/// A guest with a shell.
pub(crate) struct Shell {
    pub(crate) machine: Machine,
    commands: u32,
    /// Complaints before this line are the stock kernel's own.
    judged_from: usize,
}

impl Shell {
    /// Starts the guest, waits for it to come up, and starts a shell on its console.
    ///
    /// A kernel that hangs is started once more, and that is said: nothing of ours is in it yet that
    /// could have stopped it. (12.1 was seen to, emulated, between its root and init.)
    pub(crate) fn boot(
        guest: &Guest,
        hardware: &Hardware,
        environment: Environment<'_>,
        payload: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let start = || Machine::start(guest, hardware, environment, payload, folder);
        let console = folder.join("console.log");
        let mut machine = start()?;
        let mut asked = wait_for_shell(&machine.console, SILENCE, BOOT_LIMIT);
        if asked == Err(Nothing::Late) && kernel_is_up(&machine.console) {
            let hung = folder.join("hung.log");
            eprintln!(
                "vm-tests: {} hangs while booting, after \"{}\" ({}): once more",
                guest.name,
                machine.console.last_line(),
                hung.display()
            );
            drop(machine);
            fs::rename(&console, &hung).with_context(|| format!("{}", hung.display()))?;
            machine = start()?;
            asked = wait_for_shell(&machine.console, SILENCE, BOOT_LIMIT);
        }
        let shell = Self { machine, commands: 0, judged_from: 0 };
        shell
            .prepare(guest, environment, asked)
            .with_context(|| format!("{} ({})", guest.name, console.display()))
    }

    /// From what the console asks for to a shell that is of use.
    fn prepare(
        mut self,
        guest: &Guest,
        environment: Environment<'_>,
        asked: Result<String, Nothing>,
    ) -> Result<Self> {
        match asked {
            Ok(line) if is_stuck(&line) => {
                bail!("the guest does not boot: {}", without_escapes(&line))
            }
            Ok(line) if line.ends_with("login:") => self.log_in()?,
            Ok(_) => {
                let _ = self.machine.send("\r");
            }
            Err(why) => {
                let how = if why == Nothing::Late { "hangs" } else { "ends" };
                let last = self.machine.console.last_line();
                let last = without_escapes(&last);
                bail!("the guest {how} while booting; its last line: {last}");
            }
        }
        // No editor of lines: it would tear what we type.
        let mut prepare = vec!["set +E +V; PS1=; PATH=/sbin:/bin:/usr/sbin:/usr/bin".to_string()];
        match guest.boot {
            Boot::Kernel { .. } => prepare.push("mount -u -o rw /".into()),
            // Its own loader got no environment from us.
            Boot::Image { .. } => prepare
                .extend(environment.iter().map(|(name, value)| format!("sysctl {name}={value}"))),
        }
        prepare.extend(
            [
                "ifconfig lo0 inet 127.0.0.1/8 up",
                "mount -t ufs -o ro /dev/vtbd1 /mnt",
                // Where a module that ours depends on is looked for.
                "sysctl kern.module_path=/mnt",
            ]
            .map(String::from),
        );
        for command in prepare {
            let output = self.run(&command, Duration::from_secs(60));
            if !output.is_good() {
                bail!("in the guest: {command}: {:?}: {}", output.end, output.lines.join(" / "));
            }
        }
        self.judge_from_here();
        Ok(self)
    }

    /// As root, who has no password there, and whose shell may be any: ours is sh.
    fn log_in(&mut self) -> Result<()> {
        let position = self.machine.console.position();
        let console = self.machine.console.clone();
        let _ = self.machine.send("root\r");
        let came = wait_for_login(&console, position, NUDGE, LOGIN_LIMIT, || {
            let _ = self.machine.send("\r");
        });
        match came {
            Ok(Login::Shell) => {
                let _ = self.machine.send("exec /usr/bin/env -i TERM=dumb /bin/sh +E +V\r");
                Ok(())
            }
            Ok(Login::Refused(line)) => bail!("root must be let in without a password: {line}"),
            Err(_) => bail!("no shell for root; the last line: {}", console.last_line()),
        }
    }

    /// From now on complaints of the kernel count.
    pub(crate) fn judge_from_here(&mut self) {
        self.judged_from = self.machine.console.position();
    }

    /// The kernel's complaints so far.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let lines = self.machine.console.since(self.judged_from);
        findings::find(lines.iter().map(|line| line.text.as_str()))
    }

    /// Whether there are none.
    pub(crate) fn silence(&self) -> Outcome {
        let findings = self.findings();
        if findings.is_empty() {
            return Outcome::Passed;
        }
        let quotes: Vec<String> =
            findings.iter().map(|f| format!("{}:\n{}", f.kind, f.quote.join("\n"))).collect();
        Outcome::Failed(quotes.join("\n\n"))
    }

    /// When the console first spoke of the guest's death.
    pub(crate) fn death(&self) -> Option<(Instant, Finding)> {
        let lines = self.machine.console.since(self.judged_from);
        let findings = findings::find(lines.iter().map(|line| line.text.as_str()));
        let fatal = findings.into_iter().find(Finding::is_fatal)?;
        Some((lines.get(fatal.line)?.at, fatal))
    }

    /// Runs a command, within `limit`.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Output {
        self.run_watched(command, limit, |_| {})
    }

    /// … and shows every message as it comes.
    pub(crate) fn run_watched(
        &mut self,
        command: &str,
        limit: Duration,
        mut watch: impl FnMut(&Message),
    ) -> Output {
        let position = self.machine.console.position();
        let mut end = self.execute(command, limit, &mut watch);
        let mut collected = Collected::default();
        let mut lines = Vec::new();
        for line in self.machine.console.since(position) {
            if !collected.take(&line.text) {
                lines.push(line.text);
            }
        }
        for _ in 0..3 {
            if collected.is_complete() || !collected.any() || !matches!(end, End::Status(_)) {
                break;
            }
            let position = self.machine.console.position();
            if let End::Gone = self.execute("/mnt/bpfrs-guest resend", limit, &mut |_| {}) {
                end = End::Gone;
            }
            for line in self.machine.console.since(position) {
                collected.take(&line.text);
            }
        }
        let complete = collected.is_complete() || !collected.any();
        Output { end, lines, messages: collected.messages(), complete }
    }

    fn execute(&mut self, command: &str, limit: Duration, watch: &mut dyn FnMut(&Message)) -> End {
        static STATUS: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"@status (\d+) (\d+)$").ok());
        self.commands += 1;
        let number = self.commands;
        let tell = format!("echo \"@status {number} $s\"\r");
        let deadline = Instant::now() + limit;
        let position = self.machine.console.position();
        // The echo of this line must hold what tells `findings` that it is ours.
        let typed =
            format!("{{ {command}; }} </dev/null; {} \"@status {number} $s\"\r", findings::ECHOED);
        if self.machine.send(&typed).is_err() {
            return End::Gone;
        }
        let mut seen = position;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let result = self.machine.console.wait(seen, left.min(NUDGE), |line| {
                if let Some(Ok((_, message))) = decode(line) {
                    watch(&message);
                }
                if findings::find([line]).iter().any(Finding::is_fatal) {
                    return Some(None);
                }
                let found = STATUS.as_ref()?.captures(line.trim_end())?;
                (found[1] == *number.to_string()).then(|| found[2].parse::<i32>().ok())
            });
            match result {
                Ok(Some(status)) => return End::Status(status),
                Ok(None) | Err(Nothing::Gone) => {
                    // Let it say why.
                    self.machine.wait_for_end(Duration::from_secs(30));
                    return End::Gone;
                }
                Err(Nothing::Late) if Instant::now() >= deadline => return End::Late,
                Err(Nothing::Late) => {
                    // The incomplete last line was looked at, too, but will be once more. While
                    // there are others the command runs, and our echo would tear them.
                    let silent = seen == self.machine.console.position();
                    seen = self.machine.console.position();
                    if silent {
                        let _ = self.machine.send(&tell);
                    }
                }
            }
        }
    }
}

/// Messages by their numbers.
#[derive(Default)]
struct Collected {
    by_number: BTreeMap<u64, Message>,
    torn: bool,
}

impl Collected {
    /// Whether the line was one, or a torn one.
    fn take(&mut self, line: &str) -> bool {
        match decode(line) {
            None => false,
            Some(Ok((number, message))) => {
                self.by_number.insert(number, message);
                true
            }
            Some(Err(_)) => {
                self.torn = true;
                true
            }
        }
    }

    fn any(&self) -> bool {
        self.torn || !self.by_number.is_empty()
    }

    fn is_complete(&self) -> bool {
        let Some((&last, Message::End { messages })) = self.by_number.last_key_value() else {
            return false;
        };
        last == *messages && self.by_number.len() as u64 == last + 1
    }

    fn messages(self) -> Vec<Message> {
        self.by_number.into_values().filter(|m| !matches!(m, Message::End { .. })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    use bpfrs_vm_protocol::{Case, encode};

    /// A console that says these, this long after one another, and then nothing, for ever.
    struct Says(Vec<&'static str>, Duration);

    impl Read for Says {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            std::thread::sleep(self.1);
            while self.0.is_empty() {
                std::thread::park();
            }
            let line = self.0.remove(0).as_bytes();
            buffer[..line.len()].copy_from_slice(line);
            Ok(line.len())
        }
    }

    fn console(says: &[&'static str]) -> Console {
        let says = Says(says.to_vec(), Duration::from_millis(200));
        Console::listen(says, tempfile::tempfile().unwrap())
    }

    fn asked(says: &[&'static str], silence: [u64; 2], limit: u64) -> Result<String, Nothing> {
        let [firmware, kernel] = silence.map(Duration::from_millis);
        let limit = Duration::from_millis(limit);
        wait_for_shell(&console(says), Silence { firmware, kernel }, limit)
    }

    const KERNEL: &str = "Copyright (c) 1992-2025 The FreeBSD Project.\n";

    #[test]
    fn a_slow_boot_is_waited_for_and_a_silent_one_is_not() {
        let slow = ["bios\n", KERNEL, "disk\n", "root\n", "more\n", "init\n", "login:"];
        assert_eq!(asked(&slow, [1_000; 2], 60_000), Ok("login:".into()));
        assert_eq!(asked(&slow, [60_000; 2], 500), Err(Nothing::Late));
        let begin = Instant::now();
        assert_eq!(asked(&slow[..4], [600_000, 1_000], 600_000), Err(Nothing::Late));
        assert_eq!(asked(&["bios\n", "disk...\n"], [1_000, 600_000], 600_000), Err(Nothing::Late));
        assert!(begin.elapsed() < Duration::from_secs(60));
        // A loader that shows that it works without ending its line.
        assert_eq!(
            asked(&["|", "/", "-", "|", "/", "-", "login:"], [1_000; 2], 60_000).as_deref(),
            Ok("|/-|/-login:")
        );
    }

    #[test]
    fn what_does_not_boot_is_told_at_once() {
        let patient = |says| asked(says, [600_000; 2], 600_000);
        assert_eq!(patient(&["cpu\n", "panic: no root\n"]), Ok("panic: no root".into()));
        let shell = "\x1b[2J\x1b[01;01HUEFI Interactive Shell v2.2";
        assert_eq!(patient(&["BdsDxe: starting\n", shell]), Ok(shell.into()));
        assert_eq!(without_escapes(shell), "UEFI Interactive Shell v2.2");
        assert!(is_stuck("No bootable device."));
        assert!(!is_stuck("Booting from Hard Disk..."));
    }

    fn login(says: &[&'static str]) -> (Result<Login, Nothing>, u32) {
        let mut returns = 0;
        let [nudge, limit] = [1, 3].map(Duration::from_secs);
        let came = wait_for_login(&console(says), 0, nudge, limit, || returns += 1);
        (came, returns)
    }

    #[test]
    fn a_login_ends_at_a_prompt() {
        let welcome = "Welcome to FreeBSD!\n";
        for prompt in ["root@freebsd:~ # ", "root@:~ # \x1b[K", "% ", "$ "] {
            assert_eq!(login(&[" root\n", welcome, prompt]), (Ok(Login::Shell), 0), "{prompt}");
        }
        let refused = |line: &str| (Ok(Login::Refused(line.into())), 0);
        assert_eq!(login(&[" root\n", "Password:"]), refused("Password:"));
        assert_eq!(login(&[" root\n", "Login incorrect\n"]), refused("Login incorrect"));
        // A kernel that tears the prompt: asked again, and in vain.
        let torn = [" root\n", "root@freebsd:~ # lo0: link state changed to UP\n"];
        assert_eq!(login(&torn), (Err(Nothing::Late), 2));
    }

    fn case(number: u64) -> Message {
        Message::Case(Case {
            name: format!("c{number}"),
            outcome: Outcome::Passed,
            milliseconds: 1,
        })
    }

    #[test]
    fn a_lost_line_is_noticed_and_made_good() {
        let mut collected = Collected::default();
        assert!(collected.take(&encode(0, &case(0))));
        let torn = encode(1, &case(1)).replace("milli", "mlo0: promiscuous mode enabled");
        assert!(collected.take(&torn));
        assert!(collected.take(&encode(2, &Message::End { messages: 2 })));
        assert!(!collected.is_complete());
        assert!(collected.take(&encode(1, &case(1))));
        assert!(collected.is_complete());
        assert_eq!(collected.messages(), [case(0), case(1)]);
    }

    #[test]
    fn without_an_end_nothing_is_complete() {
        let mut collected = Collected::default();
        assert!(!collected.is_complete());
        collected.take(&encode(0, &case(0)));
        assert!(!collected.is_complete() && collected.any());
        assert!(!collected.take("lo0: link state changed to UP"));
    }
}
