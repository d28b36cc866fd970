// SPDX-License-Identifier: BSD-2-Clause
//! bpfrsstat on the bytes that a driver gives.

use std::process::Command;

use bpfrs::kpi::abi::xbpf_d;
use bpfrsstat::{Descriptor, Malformed, ZERO, parse, table};
use zerocopy::{FromZeros, IntoBytes};

fn descriptor() -> Descriptor {
    let mut d = Descriptor::new_zeroed();
    d.structsize = 168;
    d.pid = 1234;
    d.ifname[..3].copy_from_slice(b"lo0");
    d.direction = 1;
    d.bufmode = 1;
    d
}

/// Each field is where the driver has it. (That there is nothing between the
/// fields, and so nothing of the kernel's in it, IntoBytes has checked.)
#[test]
fn the_layout_is_the_drivers() {
    macro_rules! same {
        ($($ours:ident = $theirs:ident,)*) => {
            $(assert_eq!(
                std::mem::offset_of!(Descriptor, $ours),
                std::mem::offset_of!(xbpf_d, $theirs),
                stringify!($ours)
            );)*
        };
    }
    assert_eq!(size_of::<Descriptor>(), size_of::<xbpf_d>());
    same! {
        structsize = bd_structsize, promisc = bd_promisc, immediate = bd_immediate,
        pad = bd_pad, pad1 = bd_pad1, pad2 = bd_pad2, spare = bd_spare, hdrcmplt = bd_hdrcmplt, direction = bd_direction, feedback = bd_feedback,
        asynchronous = bd_async, received = bd_rcount, dropped = bd_dcount,
        matched = bd_fcount, sig = bd_sig, stored = bd_slen, held = bd_hlen,
        bufsize = bd_bufsize, pid = bd_pid, ifname = bd_ifname, locked = bd_locked,
        written = bd_wcount, write_matched = bd_wfcount, write_dropped = bd_wdcount,
        zerocopy = bd_zcopy, bufmode = bd_bufmode, copying = bd_copying,
        detached = bd_detached, cut = bd_cut,
    }
}

#[test]
fn parses_what_is_whole() {
    let mut second = descriptor();
    second.received = u64::MAX;
    let bytes = [descriptor().as_bytes(), second.as_bytes()].concat();
    assert_eq!(parse(&bytes), Ok(vec![descriptor(), second]));
    assert_eq!(parse(&[]), Ok(vec![]));
    assert_eq!(parse(&bytes[1..]), Err(Malformed::Length(335)));
    assert_eq!(parse(&ZERO), Err(Malformed::Size(0)));
    second.structsize = 128;
    let bytes = [descriptor().as_bytes(), second.as_bytes()].concat();
    assert_eq!(parse(&bytes), Err(Malformed::Size(128)));
}

#[test]
fn flags() {
    let mut d = descriptor();
    assert_eq!(d.flags(), "--fs---");
    d.direction = 0;
    d.hdrcmplt = 1;
    assert_eq!(d.flags(), "-------");
    (d.promisc, d.immediate, d.hdrcmplt) = (1, 1, 0);
    (d.direction, d.feedback, d.asynchronous, d.locked) = (2, 1, 1, 1);
    assert_eq!(d.flags(), "pifobal");
}

/// The format of netstat -B, to the blank.
#[test]
fn as_netstat_prints_it() {
    let mut d = descriptor();
    (d.received, d.dropped, d.matched, d.stored, d.held) = (12, 3, 10, 88, 4096);
    let command = |pid| (pid == 1234).then(|| "tcpdump".into());
    assert_eq!(
        table(&[d], false, command),
        "  Pid  Netif   Flags      Recv      Drop     Match Sblen Hblen Command\n\
         \u{20}1234    lo0 --fs---        12         3        10    88  4096 tcpdump\n"
    );
    d.pid = 1;
    d.received = u64::MAX;
    assert_eq!(
        table(&[d], false, command),
        "  Pid  Netif   Flags                 Recv      Drop     Match Sblen Hblen Command\n\
         \u{20}   1    lo0 --fs--- 18446744073709551615         3        10    88  4096 ??????\n"
    );
}

#[test]
fn what_netstat_hides() {
    let mut d = descriptor();
    (d.dropped, d.copying, d.detached, d.cut, d.bufsize) = (10, 3, 1, 5, 65536);
    (d.written, d.write_matched, d.write_dropped, d.zerocopy) = (8, 7, 2, 0);
    let text = table(&[d], true, |_| None);
    let rows: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().skip(8).collect()).collect();
    assert_eq!(
        rows[0].join(" "),
        "Blen Mode Full Copying Gone Cut Write Wmatch Wdrop Zcopy Command"
    );
    assert_eq!(rows[1].join(" "), "65536 copy 6 3 1 5 8 7 2 0 ??????");
}

fn bpfrsstat(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bpfrsstat")).args(arguments).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats");
    let mut other = descriptor();
    other.ifname[..3].copy_from_slice(b"em0");
    std::fs::write(&path, [descriptor().as_bytes(), other.as_bytes()].concat()).unwrap();
    let file = path.to_str().unwrap();
    let (ok, text) = bpfrsstat(&["--file", file]);
    assert!(ok && text.lines().count() == 3, "{text}");
    let (ok, text) = bpfrsstat(&["--file", file, "-I", "em0", "--all"]);
    assert!(ok && text.lines().count() == 2 && text.contains("em0"), "{text}");
    std::fs::write(&path, [0; 100]).unwrap();
    let (ok, text) = bpfrsstat(&["--file", file]);
    assert!(!ok && text.contains("100 bytes are no multiple of 168"), "{text}");
    let (ok, text) = bpfrsstat(&["--file", "/nowhere"]);
    assert!(!ok && text.contains("/nowhere"), "{text}");
    let (ok, _) = bpfrsstat(&["--zero", "--file", file]);
    assert!(!ok);
}

/// Only its exact name does it: it is no answer to a mistyped option, and has no letter.
#[test]
fn nothing_leads_to_zero_by_mistake() {
    let (ok, text) = bpfrsstat(&["--version"]);
    assert!(ok && text.starts_with("bpfrsstat 0.1.0"), "{text}");
    for mistyped in ["--zer", "--zeros", "--ero", "-z"] {
        let (ok, text) = bpfrsstat(&[mistyped]);
        assert!(!ok && text.contains(mistyped) && !text.contains("'--zero'"), "{text}");
        assert!(!text.contains("Usage: bpfrsstat --zero"), "{text}");
    }
    // Others are.
    let (ok, text) = bpfrsstat(&["--interfaces"]);
    assert!(!ok && text.contains("'--interface'"), "{text}");
    // This one means it: where there are no counters, it says so.
    if cfg!(not(target_os = "freebsd")) {
        let (ok, text) = bpfrsstat(&["--zero"]);
        assert!(!ok && text.contains("net.bpfrs.stats"), "{text}");
    }
}
