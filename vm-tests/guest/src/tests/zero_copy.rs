// SPDX-License-Identifier: BSD-2-Clause
//! Zero-copy buffers: pages that this process and the driver share.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;

use zerocopy::FromZeros;

use super::{
    Bench, Child, Test, Trouble, Verdict, While, common, ensure, equal, own, refused, send_to,
};
use crate::bpf::{self, Bpf, POLL_READ, records, udp_to};
use crate::driver;
use crate::loopback::payload;
use crate::sys::{self, Fd};

pub(super) const TESTS: &[Test] = &[
    common("zero-copy", zero_copy),
    common("zero-copy-refused", zero_copy_refused),
    common("zero-copy-of-a-process-that-ended", zero_copy_of_a_process_that_ended),
    common("zero-copy-pages-are-given-back", zero_copy_pages_are_given_back),
    own("zero-copy-revoked", zero_copy_revoked),
];

const PORT: u16 = 40_061;
/// struct bpf_zbuf_header.
const HEADER: usize = 32;

/// A page, as words.
#[derive(FromZeros)]
#[repr(C)]
struct Page([AtomicU32; 1024]);

/// Both buffers and a page behind them.
#[derive(FromZeros)]
#[repr(C)]
struct Buffers([Page; 3]);

const PAGE: u64 = size_of::<Page>() as u64;

impl Page {
    fn address(&self) -> u64 {
        ptr::from_ref(self).expose_provenance() as u64
    }

    fn word(&self, at: usize) -> u32 {
        self.0.get(at).map_or(0, |word| word.load(SeqCst))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.load(SeqCst).to_ne_bytes()).collect()
    }

    /// The payloads of the packets that are there.
    fn payloads(&self) -> Result<Vec<Vec<u8>>, Trouble> {
        let end = HEADER + self.word(1) as usize;
        let all = self.bytes();
        let records = records(all.get(HEADER..end).unwrap_or_default())?;
        Ok(records.into_iter().map(|r| r.data.into_iter().skip(4 + 20 + 8).collect()).collect())
    }

    /// Gives it back.
    fn acknowledge(&self) {
        let [kernel, _, user, ..] = &self.0;
        user.store(kernel.load(SeqCst), SeqCst);
    }
}

/// An open in zero-copy mode.
fn open(bench: &Bench) -> Result<Bpf, Trouble> {
    sys::set_sysctl(&bench.sysctl("zerocopy_enable"), &1_u32.to_ne_bytes()).at("sysctl")?;
    let bpf = bench.open()?;
    bpf.fd.ioctl(bpf::BIOCSETBUFMODE, &mut 2_u32).at("BIOCSETBUFMODE")?;
    Ok(bpf)
}

fn offer(fd: &Fd, a: u64, b: u64, length: u64) -> sys::Result<()> {
    fd.ioctl(bpf::BIOCSETZBUF, &mut [a, b, length])
}

fn rotate(fd: &Fd) -> Result<[u64; 3], Trouble> {
    let mut zbuf = [0; 3];
    fd.ioctl(bpf::BIOCROTZBUF, &mut zbuf).at("BIOCROTZBUF")?;
    Ok(zbuf)
}

/// One that listens on lo0, and its buffers.
fn sharing(bench: &Bench) -> Result<(Bpf, &'static Buffers), Trouble> {
    let bpf = open(bench)?;
    let buffers: &Buffers = sys::shared().at("mmap")?;
    let [a, b, _] = &buffers.0;
    offer(&bpf.fd, a.address(), b.address(), PAGE).at("BIOCSETZBUF")?;
    bpf.attach("lo0").at("BIOCSETIF")?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX)).at("BIOCSETF")?;
    Ok((bpf, buffers))
}

/// Buffers go to and fro, with the packets that came meanwhile.
fn zero_copy(bench: &Bench) -> Verdict {
    let (bpf, Buffers([a, b, _])) = sharing(bench)?;
    let mut most = 0_u64;
    bpf.fd.ioctl(bpf::BIOCGETZMAX, &mut most)?;
    equal!("BIOCGETZMAX", most, 512 * PAGE);
    equal!("BIOCGBLEN", u64::from(bpf.buffer_length()?), PAGE - HEADER as u64);
    equal!("read", bpf.read(), refused(libc::EOPNOTSUPP));
    equal!("nothing to rotate", rotate(&bpf.fd)?, [0; 3]);
    for (round, page) in [a, b, a, b].into_iter().enumerate() {
        let numbers = 10 * round..10 * round + 5;
        send_to(PORT, numbers.clone())?;
        let length = u64::from(bpf.readable()?);
        equal!("poll before", bpf.fd.poll(POLL_READ, Some(Duration::ZERO))?, 0);
        equal!("BIOCROTZBUF", rotate(&bpf.fd)?, [page.address(), 0, length]);
        equal!("poll after", bpf.fd.poll(POLL_READ, Some(Duration::ZERO))?, POLL_READ);
        equal!("generation", page.word(0) as usize, round / 2 + 1);
        equal!("length", u64::from(page.word(1)), length);
        equal!("packets", page.payloads()?, numbers.map(payload).collect::<Vec<_>>());
        page.acknowledge();
        equal!("poll when returned", bpf.fd.poll(POLL_READ, Some(Duration::ZERO))?, 0);
        // Stock notices with the next packet or BIOCFLUSH, not before.
        if bench.stock {
            bpf.flush()?;
        }
    }
    equal!("statistics", bpf.statistics()?[1], 0);
    Ok(())
}

fn zero_copy_refused(bench: &Bench) -> Verdict {
    let bpf = open(bench)?;
    let buffers: &Buffers = sys::shared().at("mmap")?;
    let [a, b, _] = &buffers.0;
    let (a, b) = (a.address(), b.address());
    equal!("no buffers", bpf.attach("lo0"), refused(libc::EINVAL));
    equal!("BIOCSBLEN", bpf.set_buffer_length(4096), refused(libc::EOPNOTSUPP));
    for (a, b, length) in [
        (0, b, PAGE),
        (a, 0, PAGE),
        (a, b, 0),
        (a + 8, b, PAGE),
        (a, b, PAGE - 8),
        (a, b, 513 * PAGE),
    ] {
        equal!("BIOCSETZBUF", offer(&bpf.fd, a, b, length), refused(libc::EINVAL));
    }
    for nowhere in [PAGE, u64::MAX - 2 * PAGE + 1, 1 << 63] {
        equal!("no memory", offer(&bpf.fd, a, nowhere, PAGE), refused(libc::EFAULT));
    }
    // Text of this program: there, but not to be written.
    let text = (zero_copy_refused as *const () as u64) / PAGE * PAGE;
    let offered = offer(&bpf.fd, a, text, PAGE);
    ensure!(offered == refused(libc::EFAULT) || bench.stock, "read-only memory: {offered:?}");
    offer(&bpf.fd, a, b, PAGE).at("BIOCSETZBUF")?;
    equal!("twice", offer(&bpf.fd, a, b, PAGE), refused(libc::EINVAL));
    equal!("mode", bpf.fd.ioctl(bpf::BIOCSETBUFMODE, &mut 1_u32), refused(libc::EBUSY));
    Ok(())
}

/// The file outlives the process whose pages they are, and packets come.
fn zero_copy_of_a_process_that_ended(bench: &Bench) -> Verdict {
    let (ours, theirs) = sys::socket_pair().at("socketpair")?;
    let child = Child::start(|| match sharing(bench) {
        Ok((bpf, _)) => i32::from(theirs.send_fd(&bpf.fd).is_err()),
        Err(_) => 2,
    })?;
    let fd = ours.receive_fd().at("recvmsg")?;
    equal!("the child", child.finish(bpf::SOON)?, 0);
    send_to(PORT, 0..200)?;
    let mut length = 0_i32;
    fd.ioctl(bpf::FIONREAD, &mut length)?;
    ensure!(length > 4096, "{length} bytes");
    fd.close().at("close")?;
    Ok(())
}

/// Nothing stays wired: neither by close(2) nor by the end of a process.
fn zero_copy_pages_are_given_back(bench: &Bench) -> Verdict {
    #[derive(FromZeros)]
    #[repr(C)]
    struct Many([Page; 128]);
    let half = size_of::<Many>() as u64 / 2;
    let use_some = || -> Verdict {
        let bpf = open(bench)?;
        let many: &Many = sys::shared().at("mmap")?;
        let start = ptr::from_ref(many).expose_provenance() as u64;
        offer(&bpf.fd, start, start + half, half).at("BIOCSETZBUF")?;
        bpf.attach("lo0").at("BIOCSETIF")
    };
    let wired = || driver::number("vm.stats.vm.v_wire_count").at("v_wire_count");
    use_some()?;
    let before = wired()?;
    for _ in 0..30 {
        use_some()?;
        let child = Child::start(|| i32::from(use_some().is_err()))?;
        equal!("a child", child.finish(bpf::SOON)?, 0);
    }
    // 60 times 128 pages, if none came back.
    let more = wired()?.saturating_sub(before);
    ensure!(more < 2000, "{more} pages more are wired");
    Ok(())
}

/// The end of the open is the end of what is written to its pages.
fn zero_copy_revoked(bench: &Bench) -> Verdict {
    let (bpf, Buffers([a, b, _])) = sharing(bench)?;
    send_to(PORT, 0..3)?;
    sys::revoke(&bench.path()).at("revoke")?;
    let before = (a.bytes(), b.bytes());
    send_to(PORT, 3..100)?;
    ensure!((a.bytes(), b.bytes()) == before, "written to after revoke");
    // They are this process' own again.
    a.acknowledge();
    drop(bpf);
    Ok(())
}
