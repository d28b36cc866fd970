// SPDX-License-Identifier: BSD-2-Clause
//! Buffers that a process shares with the kernel (BPF_BUFMODE_ZBUF).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ioctl::{BIOCGETBUFMODE, PROBES};
use super::{Lab, Look, Place, Seen, done, look, number, told};
use crate::bpf::{self, BIOCGETZMAX, BIOCROTZBUF, BIOCSETBUFMODE, BIOCSETZBUF, Bpf};
use crate::sys::{self, SharedBuffer};
use crate::tests::{Trouble, While};

const ZBUF: u32 = 2;
const PAGE: usize = 4096;

/// Buffers of this kind are allowed while `body` runs; what it sees, or why they are not.
fn allowed(lab: &Lab, body: impl FnOnce() -> Seen) -> Seen {
    let name = format!("{}.zerocopy_enable", lab.prefix);
    if let Err(errno) = sys::set_sysctl(&name, &1_i32.to_ne_bytes()) {
        return Ok(format!("zerocopy_enable {errno}"));
    }
    let seen = body();
    sys::set_sysctl(&name, &0_i32.to_ne_bytes()).at(&name)?;
    seen
}

/// A descriptor in that mode.
fn open(lab: &Lab) -> Result<Bpf, Trouble> {
    let bpf = lab.open()?;
    bpf.fd.ioctl(BIOCSETBUFMODE, &mut { ZBUF }).at("BIOCSETBUFMODE")?;
    Ok(bpf)
}

/// … with buffers of that many bytes, on the Ethernet.
fn shared(lab: &Lab, length: usize) -> Result<(Bpf, [SharedBuffer; 2]), Trouble> {
    let bpf = open(lab)?;
    let buffers = bpf.fd.share_buffers(BIOCSETZBUF, length).at("BIOCSETZBUF")?;
    lab.attach(&bpf, Place::Ethernet, u32::MAX)?;
    Ok((bpf, buffers))
}

/// The headers: generation, length, the user's generation.
fn headers(buffers: &[SharedBuffer; 2]) -> String {
    let texts = buffers.each_ref().map(|b| format!("{}/{}/{}", b.word(0), b.word(1), b.word(2)));
    texts.join(" ")
}

/// BIOCROTZBUF: the buffer as its number, and the length.
fn rotated(bpf: &Bpf) -> String {
    let mut zbuf = [0_u64; 3];
    told(bpf.fd.ioctl(BIOCROTZBUF, &mut zbuf), |()| {
        format!("{} {}", if zbuf[0] == 0 { "no buffer" } else { "a buffer" }, zbuf[2])
    })
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    // Every ioctl in this mode, without buffers and with them.
    for probe in PROBES {
        for with_buffers in [false, true] {
            // Stock resets what is not there, and panics.
            let resets = ["BIOCSETF-", "BIOCSETF32", "BIOCFLUSH"];
            if !with_buffers && resets.iter().any(|name| probe.name.starts_with(name)) {
                continue;
            }
            let state = if with_buffers { "shared" } else { "unshared" };
            looks.push(look(format!("{state}/{}", probe.name), move || {
                allowed(lab, || {
                    let (bpf, _buffers) = if with_buffers {
                        let (bpf, buffers) = shared(lab, 2 * PAGE)?;
                        (bpf, Some(buffers))
                    } else {
                        (open(lab)?, None)
                    };
                    let result = probe.apply(&bpf);
                    Ok(format!("{result}; {}", number(bpf.buffer_length())))
                })
            }));
        }
    }
    for length in [0, 1, 24, 4095, PAGE, PAGE + 1, 2 * PAGE, 512 * PAGE, 513 * PAGE] {
        looks.push(look(format!("length/{length}"), move || {
            allowed(lab, || {
                let bpf = open(lab)?;
                let set = done(bpf.fd.share_buffers(BIOCSETZBUF, length).map(drop));
                let again = done(bpf.fd.share_buffers(BIOCSETZBUF, PAGE).map(drop));
                let attached = done(bpf.attach("lo0"));
                Ok(format!("{set}; {again}; {attached}; {}", number(bpf.buffer_length())))
            })
        }));
    }
    for state in ["fresh", "sized", "lo0"] {
        for mode in 0..4 {
            looks.push(look(format!("mode/{state}/{mode}"), move || {
                allowed(lab, || {
                    let (bpf, _) = super::ioctl::in_state(lab, state)?;
                    let set = done(bpf.fd.ioctl(BIOCSETBUFMODE, &mut { mode }));
                    let mut now = 0_u32;
                    let now = told(bpf.fd.ioctl(BIOCGETBUFMODE, &mut now), |()| format!("{now}"));
                    let mut most = 0_u64;
                    let most = told(bpf.fd.ioctl(BIOCGETZMAX, &mut most), |()| format!("{most}"));
                    Ok(format!("{set}; {now}; {most}"))
                })
            }));
        }
    }
    looks.push(look("packets".into(), || {
        allowed(lab, || {
            let (bpf, buffers) = shared(lab, PAGE)?;
            let source = lab.source(Place::Ethernet)?;
            let mut seen = Vec::from([headers(&buffers)]);
            source.fill(&bpf, 0..2, 100)?;
            seen.push(headers(&buffers));
            seen.push(rotated(&bpf));
            seen.push(headers(&buffers));
            seen.push(rotated(&bpf));
            // One buffer is the user's, and the other is filled until there is no room.
            source.fill(&bpf, 2..60, 100)?;
            seen.push(headers(&buffers));
            seen.push(told(bpf.statistics(), |counts| format!("{counts:?}")));
            for buffer in &buffers {
                buffer.give_back();
            }
            source.fill(&bpf, 60..62, 100)?;
            seen.push(headers(&buffers));
            seen.push(number(bpf.readable()));
            Ok(seen.join("; "))
        })
    }));
    looks.push(look("ready".into(), || {
        allowed(lab, || {
            let (bpf, buffers) = shared(lab, PAGE)?;
            let source = lab.source(Place::Ethernet)?;
            let now = Some(core::time::Duration::ZERO);
            let poll = || number(bpf.fd.poll(bpf::POLL_READ, now));
            let mut seen = Vec::from([poll()]);
            source.fill(&bpf, 0..2, 100)?;
            seen.push(poll());
            seen.push(rotated(&bpf));
            seen.push(poll());
            for buffer in &buffers {
                buffer.give_back();
            }
            seen.push(poll());
            bpf.set_immediate(true)?;
            source.fill(&bpf, 2..3, 100)?;
            seen.push(poll());
            seen.push(number(bpf.fd.read(&mut [0; PAGE])));
            Ok(seen.join("; "))
        })
    }));
    looks.push(look("flush".into(), || {
        allowed(lab, || {
            let (bpf, buffers) = shared(lab, PAGE)?;
            lab.source(Place::Ethernet)?.fill(&bpf, 0..2, 100)?;
            let rotated = rotated(&bpf);
            let flushed = done(bpf.flush());
            Ok(format!("{rotated}; {flushed}; {}; {}", headers(&buffers), number(bpf.readable())))
        })
    }));
    looks
}
