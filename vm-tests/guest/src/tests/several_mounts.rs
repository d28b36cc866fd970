// SPDX-License-Identifier: BSD-2-Clause
//! One node in several mounts of devfs: revoke(2) closes once for each of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::life_of_an_open::{asleep_in, check_alive, check_node, deaf, end_of_read};
use super::{Bench, Child, Test, Trouble, Verdict, While, ensure, equal, own, refused};
use crate::bpf::{Bpf, SOON};
use crate::sys::{self, Errno};

pub(super) const TESTS: &[Test] = &[
    own("busy-through-another-mount", busy_through_another_mount),
    own("revoke-through-another-mount", revoke_through_another_mount),
    own("open-through-another-mount", open_through_another_mount),
    own("three-mounts", three_mounts),
    own("forced-unmount-with-an-open", forced_unmount_with_an_open),
    own("forced-unmount-without-an-open", forced_unmount_without_an_open),
];

/// A devfs of our own; forced away when dropped.
struct Mount(String);

impl Mount {
    fn new(number: usize) -> Result<Self, Trouble> {
        let folder = format!("/tmp/bpfrs-devfs-{number}");
        match sys::mkdir(&folder) {
            Ok(()) | Err(Errno(libc::EEXIST)) => {}
            Err(errno) => return refused(errno.0).at("mkdir"),
        }
        sys::mount_devfs(&folder).at("mount of a devfs")?;
        Ok(Self(folder))
    }

    /// The path of node 0 in it.
    fn node(&self, bench: &Bench) -> Result<String, Trouble> {
        let path = bench.path();
        let name = path.strip_prefix("/dev/").ok_or("not in /dev".to_string())?;
        Ok(format!("{}/{name}", self.0))
    }

    fn force_away(&self) -> Verdict {
        sys::unmount_forced(&self.0).at("unmount -f")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = sys::unmount_forced(&self.0);
    }
}

fn busy_through_another_mount(bench: &Bench) -> Verdict {
    let mount = Mount::new(0)?;
    let other = mount.node(bench)?;
    let first = bench.attached()?;
    equal!("open through the other mount", Bpf::open(&other).map(drop), refused(libc::EBUSY));
    check_alive(&first)?;
    drop(first);
    check_node(bench)
}

fn revoke_through_another_mount(bench: &Bench) -> Verdict {
    let mount = Mount::new(0)?;
    let bpf = deaf(bench)?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    sys::revoke(&mount.node(bench)?).at("revoke")?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    drop(bpf);
    check_node(bench)
}

fn open_through_another_mount(bench: &Bench) -> Verdict {
    let mount = Mount::new(0)?;
    let bpf = Bpf::open(&mount.node(bench)?).at("open through the other mount")?;
    bpf.attach("lo0")?;
    check_alive(&bpf)?;
    bpf.set_filter(crate::bpf::BIOCSETF, &crate::bpf::REJECT)?;
    bpf.set_timeout([0, 0])?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    sys::revoke(&bench.path()).at("revoke")?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    drop(bpf);
    check_node(bench)
}

/// Every mount that has looked the node up gets its own d_close, all for one open.
fn three_mounts(bench: &Bench) -> Verdict {
    let mut mounts = Vec::new();
    for number in 0..3 {
        mounts.push(Mount::new(number)?);
    }
    for round in 0..20 {
        let bpf = deaf(bench)?;
        for mount in &mounts {
            let _ = sys::stat(&mount.node(bench)?).at("stat")?;
        }
        let child = Child::start(|| end_of_read(&bpf))?;
        sys::sleep(core::time::Duration::from_millis(20));
        let through = mounts.get(round % 3).ok_or("no mount".to_string())?;
        sys::revoke(&through.node(bench)?).at("revoke")?;
        let end = child.finish(SOON)?;
        ensure!(matches!(end, libc::ENXIO | libc::EIO), "round {round}: read ended with {end}");
        drop(bpf);
        check_node(bench)?;
    }
    Ok(())
}

fn forced_unmount_with_an_open(bench: &Bench) -> Verdict {
    let mount = Mount::new(0)?;
    let bpf = Bpf::open(&mount.node(bench)?).at("open through the other mount")?;
    bpf.attach("lo0")?;
    bpf.set_filter(crate::bpf::BIOCSETF, &crate::bpf::REJECT)?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    mount.force_away()?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    check_node(bench)?;
    drop(bpf);
    check_node(bench)
}

/// The open belongs to /dev, the unmounted devfs only knows the node. Whether its d_close ends the
/// open is the kernel's affair; that nobody hangs and the node stays usable is ours.
fn forced_unmount_without_an_open(bench: &Bench) -> Verdict {
    let mount = Mount::new(0)?;
    let bpf = deaf(bench)?;
    let _ = sys::stat(&mount.node(bench)?).at("stat")?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    mount.force_away()?;
    sys::revoke(&bench.path()).at("revoke")?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    drop(bpf);
    check_node(bench)
}
