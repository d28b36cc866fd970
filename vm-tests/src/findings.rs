// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel complains of on its console: panics, traps, reports of WITNESS, memguard and
//! malloc(9) and the sanitizers, each quoted with its backtrace.

use std::sync::LazyLock;

use bpfrs_verdict::{Finding, PANIC};
use bpfrs_vm_protocol::decode;
use regex::Regex;

/// Text in a line → kind of complaint.
const PATTERNS: &[(&str, &str)] = &[
    (r"panic: ", PANIC),
    (r"Fatal (trap|double fault|data abort)", PANIC),
    (r"^KDB: enter: ", PANIC),
    (r"lock order reversal", "lock order reversal"),
    (r"acquiring duplicate lock of same type", "duplicate lock"),
    (r"with the following (non-)?sleepable locks held", "sleeping with locks held"),
    (r"Sleeping (thread|on) .*non-sleepable", "sleeping with locks held"),
    (r"(shared|exclusive) lock of .* while (share|exclusive)ly locked", "lock misuse"),
    (r"[Ww]itness.*(exhausted|out of|disabl)", "WITNESS gave up"),
    (r"lock .* (already|not) (owned|unlocked|initialized)", "lock misuse"),
    (r"spin lock .* held .*too long", "spin lock held too long"),
    (r"kernel trap \d+ with interrupts disabled", "trap with interrupts disabled"),
    (r"(?i)memguard\b.*(fault|corrupt|freed|overrun|invalid)", "memguard"),
    (r"Memory modified after free|modified after being freed", "use after free"),
    (r"memory type .* leaked memory on destroy", "leaked memory"),
    (r"[Dd]uplicate free|free of unallocated", "double free"),
    (r"Expensive (timeout|callout)", "expensive callout"),
    (
        r"malloc\(M_WAITOK\) (of|in|with)|uma_zalloc_arg: .* with the following",
        "sleeping allocation",
    ),
    (r"Unable to stop|deadlkres: possible deadlock", "deadlock"),
    (r"ASan: Invalid access", "KASAN"),
    (r"MSan: [Uu]ninitialized ", "KMSAN"),
    (r"CSan: Racy Access ", RACE),
    (r"link_elf(_obj)?: symbol \S+ undefined", "undefined symbol"),
];

/// Of these the stock kernel has many of its own.
const RACE: &str = "KCSAN";

static SEARCH: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    // The patterns are constants; a test compiles them all.
    PATTERNS.iter().filter_map(|(text, kind)| Some((Regex::new(text).ok()?, *kind))).collect()
});

/// A lock order reversal that the stock kernel has by itself.
struct Known {
    first: &'static str,
    second: &'static str,
    /// A function that must be in the backtrace; "" where any will do.
    within: &'static str,
    #[expect(dead_code, reason = "for the reader of this table")]
    why: &'static str,
}

/// Only reversals between these pairs of locks are forgiven, and only without our module in the
/// backtrace. Each one was seen on a kernel that had never loaded a module of ours.
const KNOWN: &[Known] = &[
    Known {
        first: "ufs",
        second: "devfs",
        within: "",
        why: "mounting devfs on a directory of UFS: a path is locked top down, a mount from below",
    },
    Known { first: "tmpfs", second: "devfs", within: "", why: "the same on tmpfs" },
    Known {
        first: "filedesc structure",
        second: "devfs",
        within: "",
        why: "poll(2) of a revoked descriptor asks the dead vnode, with the table of descriptors locked",
    },
    Known {
        first: "bpf global lock",
        second: "iflib ctx lock",
        within: "",
        why: "stock bpf(4) ends promiscuous mode of a card that attached itself to bpf with its lock held",
    },
    Known {
        first: "vlan_sx",
        second: "iflib ctx lock",
        within: "",
        why: "the same with vlan(4), and its way back",
    },
    Known {
        first: "dev mtx",
        second: "umareclaim",
        within: "sysctl_devctl_queue",
        why: "15's devctl(4) destroys its zone with its mutex held, when devd is turned off",
    },
];

/// A part of every command that the runner types.
pub(crate) const ECHOED: &str = "s=$?; echo";

/// A frame of our module in a backtrace, "#1 0xffffffff82a1f311 at bpfrs_close+0x101", or a place in
/// it that KCSAN names: "PC=0xffffffff82a1f311<bpfrs_close>".
static OUR_FRAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^#\d+ \S+ at [\w.$]*bpfrs|PC=\w+<[\w.$]*bpfrs").ok());

/// Lines that a complaint may quote.
const QUOTE: usize = 70;

/// All complaints in some console lines.
pub(crate) fn find<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Finding> {
    let lines: Vec<&str> = lines.into_iter().collect();
    let mut findings: Vec<Finding> = Vec::new();
    let mut covered = 0;
    for (number, line) in lines.iter().enumerate() {
        if number < covered || is_ours(line) {
            continue;
        }
        let Some((_, kind)) = SEARCH.iter().find(|(pattern, _)| pattern.is_match(line)) else {
            continue;
        };
        let quote = quote(&lines[number..]);
        covered = number + quote.len();
        let finding = Finding { kind, line: number, quote };
        if !is_known(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// What the terminal echoed of our commands, or our own program printed, is no complaint of the
/// kernel. (A message that the kernel has torn may hold one.)
fn is_ours(line: &str) -> bool {
    line.contains(ECHOED) || matches!(decode(line), Some(Ok(_)))
}

fn quote(lines: &[&str]) -> Vec<String> {
    let end = |line: &str| is_ours(line) || line.trim().is_empty() || line.starts_with("Uptime: ");
    let mut quote = Vec::new();
    let mut frames = false;
    for (number, line) in lines.iter().take(QUOTE).enumerate() {
        // "Fatal trap" is followed by an empty line before its registers, on some releases.
        if number > 2 && end(line) {
            break;
        }
        // WITNESS' backtraces are numbered, and what follows them is something else; but where it
        // knows where the other order was established, there are two.
        let frame = line.starts_with('#');
        if frames && !frame && !line.starts_with("lock order ") {
            break;
        }
        frames = frame;
        quote.push((*line).to_string());
    }
    quote
}

fn is_known(finding: &Finding) -> bool {
    let is_ours = |line: &String| OUR_FRAME.as_ref().is_none_or(|frame| frame.is_match(line));
    let ours = finding.quote.iter().any(is_ours);
    if finding.kind == RACE {
        return !ours;
    }
    if finding.kind != "lock order reversal" || ours {
        return false;
    }
    let lock = |ordinal: &str| {
        // " 1st 0xfffff80003b8e240 ufs (ufs) @ /usr/src/sys/kern/vfs_mount.c:1276"; the echo of
        // what we type may stand before it.
        let lock = finding.quote.iter().find_map(|line| line.split_once(ordinal))?.1;
        let (name, _) = lock.split_once(' ')?.1.split_once(" (")?;
        Some(name)
    };
    let (Some(first), Some(second)) = (lock(" 1st 0x"), lock(" 2nd 0x")) else {
        return false;
    };
    let within = |function: &str| {
        let frame = format!(" at {function}+0x");
        function.is_empty() || finding.quote.iter().any(|line| line.contains(&frame))
    };
    KNOWN.iter().any(|known| known.first == first && known.second == second && within(known.within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> Vec<Finding> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded/");
        let text = std::fs::read_to_string(format!("{path}{name}")).unwrap();
        find(text.lines())
    }

    fn kinds(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|f| f.kind).collect()
    }

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(SEARCH.len(), PATTERNS.len());
    }

    #[test]
    fn a_clean_boot_has_none() {
        assert_eq!(recorded("clean-boot.txt"), []);
    }

    #[test]
    fn a_trap_is_one_panic_with_its_backtrace() {
        let findings = recorded("page-fault.txt");
        assert_eq!(kinds(&findings), [PANIC]);
        assert!(findings[0].is_fatal());
        let quote = findings[0].quote.join("\n");
        assert!(quote.contains("fault virtual address"), "{quote}");
        assert!(quote.contains("legacy_read() at legacy_read+0xf0"), "{quote}");
        assert!(!quote.contains("Rebooting"), "{quote}");
    }

    #[test]
    fn a_witness_panic() {
        let findings = recorded("destroyed-mutex.txt");
        assert_eq!(kinds(&findings), [PANIC]);
        assert!(findings[0].quote[0].contains("mtx_lock() of destroyed mutex"));
    }

    #[test]
    fn a_panic_after_a_prompt() {
        assert_eq!(
            kinds(&find(["# panic: Assertion mtx_unowned(m) failed", "cpuid = 1"])),
            [PANIC]
        );
    }

    #[test]
    fn a_panic_line_torn_by_our_output_is_still_one() {
        let torn = ["@bpfrs 12 9f0c1a2b {\"Prog", "lo0: linkpanic: page fault", "cpuid = 0"];
        assert_eq!(kinds(&find(torn)), [PANIC]);
        let torn = ["@bpfrs 12 9f0c1a2b {\"Progpanic: page fault", "cpuid = 0"];
        assert_eq!(kinds(&find(torn)), [PANIC]);
    }

    fn reversal(first: &str, second: &str, frame: &str) -> Vec<String> {
        vec![
            "lock order reversal:".into(),
            format!(" 1st 0xfffff80003b8e240 {first} ({first}) @ /sys/kern/vfs_mount.c:1276"),
            format!(" 2nd 0xfffff80003b8e9a8 {second} ({second}) @ /sys/kern/vfs_subr.c:2600"),
            "stack backtrace:".into(),
            "#0 0xffffffff80c1f5c3 at witness_debugger+0x73".into(),
            format!("#1 0xffffffff80c1f311 at {frame}+0x101"),
            "lo0: link state changed to UP".into(),
        ]
    }

    fn find_owned(lines: &[String]) -> Vec<Finding> {
        find(lines.iter().map(String::as_str))
    }

    #[test]
    fn lock_order_reversals() {
        let unknown = reversal("bpfrs", "process lock", "bpfrs_close");
        assert_eq!(kinds(&find_owned(&unknown)), ["lock order reversal"]);
        assert_eq!(find_owned(&unknown)[0].quote, unknown[..6]);
        assert_eq!(find_owned(&reversal("ufs", "devfs", "vfs_mount")), []);
        assert_eq!(find_owned(&reversal("filedesc structure", "devfs", "vn_poll")), []);
        // Known locks, but on our account.
        assert_eq!(find_owned(&reversal("ufs", "devfs", "bpfrs_clone")).len(), 1);
        assert_eq!(find_owned(&reversal("ufs", "devfs", "_ZN5bpfrs3dev4open")).len(), 1);
        // Torn by output of ours that has our name in it.
        let mut torn = reversal("ufs", "devfs", "sys_pol{\"device\":\"/dev/bpfrs%d");
        torn[0].insert_str(0, "@bpfrs 7 00");
        assert_eq!(find_owned(&torn), []);
        // Torn by the echo of what we type.
        let mut torn = reversal("filedesc structure", "devfs", "vn_poll");
        torn[1].insert_str(0, "echo \"@status 8 ");
        torn.insert(2, "$s\"".into());
        assert_eq!(find_owned(&torn), []);
        let mut torn = reversal("bpfrs", "devfs", "vn_poll");
        torn[1].insert_str(0, "echo \"@status 8 ");
        assert_eq!(find_owned(&torn).len(), 1);
        // Known locks, but the other way round for one of them.
        assert_eq!(find_owned(&reversal("devfs", "tmpfs", "vfs_mount")).len(), 1);
    }

    /// Where the other order was established stands before where it was attempted: there we may be.
    #[test]
    fn the_second_backtrace_of_a_reversal_counts() {
        let mut lines = reversal("ufs", "devfs", "vfs_mount");
        lines[3] = "lock order ufs -> devfs established at:".into();
        let end = lines.pop().unwrap();
        lines.push("lock order devfs -> ufs attempted at:".into());
        lines.push("#0 0xffffffff80c1f311 at bpfrs_read+0x101".into());
        lines.push(end);
        assert_eq!(kinds(&find_owned(&lines)), ["lock order reversal"]);
        assert_eq!(find_owned(&lines)[0].quote, lines[..8]);
        lines[7] = "#0 0xffffffff80c1f311 at ufs_lookup+0x101".into();
        assert_eq!(find_owned(&lines), []);
    }

    #[test]
    fn reports_of_kasan() {
        let findings = recorded("kasan-reports.txt");
        assert_eq!(kinds(&findings), ["KASAN"; 3]);
        for (finding, function) in findings.iter().zip([
            "bpfrs_rs_control_beyond",
            "bpfrs_rs_control_freed",
            "bpfrs_control_beyond",
        ]) {
            assert!(finding.quote[2].contains(function), "{:?}", finding.quote);
            assert_eq!(finding.quote.len(), 10);
        }
        // With debug.kasan.panic_on_violation, its default, it is the end.
        let panic = find([
            "panic: ASan: Invalid access, 1-byte read at 0xfffffe004dd4a4e4, RedZonePartial(4)",
        ]);
        assert_eq!(kinds(&panic), [PANIC]);
    }

    #[test]
    fn devctl_of_15_reverses_by_itself() {
        assert_eq!(recorded("devctl-reversal.txt"), []);
        let text = include_str!("../recorded/devctl-reversal.txt");
        let elsewhere = text.replace("sysctl_devctl_queue", "sysctl_devctl_other");
        let findings = find(elsewhere.lines());
        assert_eq!(kinds(&findings), ["lock order reversal"]);
        let quote = findings[0].quote.join("\n");
        assert!(quote.ends_with("fast_syscall_common+0xf8"), "{quote}");
        let ours = text.replace("#2 0xffffffff807c26dd at uma_zdestroy", "#2 0x1 at bpfrs_close");
        assert_eq!(find(ours.lines()).len(), 1);
    }

    #[test]
    fn a_reversal_is_known_within_its_function_only() {
        let within = |function| find_owned(&reversal("dev mtx", "umareclaim", function));
        assert_eq!(within("sysctl_devctl_queue"), []);
        assert_eq!(within("devctl_init").len(), 1);
        let back = reversal("umareclaim", "dev mtx", "sysctl_devctl_queue");
        assert_eq!(find_owned(&back).len(), 1);
    }

    #[test]
    fn races_count_where_our_module_has_a_part() {
        let race = |symbol: &str| {
            format!(
                "CSan: Racy Access [Cpu0 Write Addr=0xfffff80003b8e240 Size=8 PC=0xffffffff80c1f5c3<tdq_add>] \
                 [Cpu1 Read Addr=0xfffff80003b8e240 Size=8 PC=0xffffffff82a1f311<{symbol}>]"
            )
        };
        assert_eq!(find([race("sched_idletd").as_str()]), []);
        assert_eq!(kinds(&find([race("bpfrs_append").as_str()])), ["KCSAN"]);
        assert_eq!(kinds(&find([race("_ZN5bpfrs3dev4open").as_str()])), ["KCSAN"]);
        let frame = "#3 0xffffffff82a1f311 at bpfrs_close+0x101";
        assert_eq!(kinds(&find([race("sched_idletd").as_str(), frame])), ["KCSAN"]);
    }

    #[test]
    fn other_complaints() {
        for (line, kind) in [
            (
                "Sleeping on \"bpfrs\" with the following non-sleepable locks held:",
                "sleeping with locks held",
            ),
            (
                "Sleeping thread (tid 100066, pid 11) owns a non-sleepable lock",
                "sleeping with locks held",
            ),
            (
                "Warning: memory type bpfrs leaked memory on destroy (2 allocations, 8192 bytes leaked).",
                "leaked memory",
            ),
            (
                "Memory modified after free 0xfffff80003e5e000(4088) val=0 @ 0xfffff80003e5e000",
                "use after free",
            ),
            ("acquiring duplicate lock of same type: \"bpfrs\"", "duplicate lock"),
            (
                "ASan: Invalid access, 8-byte read at 0xfffffe0011223344, UMAUseAfterFree(fd)",
                "KASAN",
            ),
            ("MSan: Uninitialized UMA memory in copyout, offset 4", "KMSAN"),
            ("Fatal data abort:", PANIC),
        ] {
            assert_eq!(kinds(&find([line])), [kind], "{line}");
        }
    }

    #[test]
    fn what_we_said_ourselves_does_not_count() {
        assert_eq!(
            find([
                r#"{ echo panic: no; } </dev/null; s=$?; echo "@status 1 $s""#,
                "kern.panic_reboot_wait_time: 0",
                "MEMGUARD map base: 0xfff"
            ]),
            []
        );
    }
}
