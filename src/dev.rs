// SPDX-License-Identifier: BSD-2-Clause
//! The device: nodes, opens, and the ways an open ends.
//!
//! Three things say which open a call is about. The file knows its own (the
//! private value), the node knows the one that is alive (`si_drv1`), and the
//! open knows the vnode it came by. A call proceeds when the first two agree;
//! a revocation, which comes without a file, ends what `si_drv1` has if that
//! open's vnode is the one revoked.

use crate::bpf_d::BpfD;
use crate::kpi::devfs::{self, Cdev, CdevRef};
use crate::kpi::epoch::{self, Ref};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::lock::Control;
use crate::kpi::{kqueue, process, stats};
use crate::{gate, tap};

const MAXUNITS: usize = bpfrs_sys::BPFRS_MAXUNITS as usize;

/// The nodes made so far.
static NODES: Control<[Option<CdevRef>; MAXUNITS]> = Control::new([const { None }; MAXUNITS]);

/// `MOD_LOAD`: one node to see; the others come when they are asked for.
pub(crate) fn load() -> Result<()> {
    // It is shut where a process loads the driver again.
    gate::reopen();
    with_node(0, |_| ())
}

/// Lends `/dev/bpfrs<unit>`, which is made if it is not there.
pub(crate) fn with_node<R>(unit: u32, lend: impl FnOnce(&CdevRef) -> R) -> Result<R> {
    let mut nodes = NODES.lock();
    if gate::is_shut() {
        return Err(Errno::ENXIO);
    }
    let place = nodes.get_mut(unit as usize).ok_or(Errno::ENXIO)?;
    match place {
        Some(node) => Ok(lend(node)),
        None => Ok(lend(place.insert(CdevRef::create(unit)?))),
    }
}

/// `d_open`.
///
/// # Errors
/// EBUSY while the node has a live open, and for an open that a revocation
/// overtook; ENXIO while the module unloads.
pub(crate) fn open(cdev: Cdev<'_>, reads: bool) -> Result<()> {
    // An answer without allocating; publish decides.
    if !cdev.slot().is_empty() {
        return Err(Errno::EBUSY);
    }
    let d = BpfD::new(cdev, reads);
    let result = open_with(cdev, &d);
    if result.is_err() {
        BpfD::end(&d);
    }
    result
}

fn open_with(cdev: Cdev<'_>, d: &Ref<BpfD>) -> Result<()> {
    devfs::set_private(d.clone())?;
    devfs::fail_point_open();
    cdev.slot().publish(d.clone()).map_err(|_| Errno::EBUSY)?;
    // Published: from here on a revocation finds it. What came before is
    // looked for now (I5).
    let begun = d.begin();
    match begun {
        Ok(()) => stats::increment(stats::OPENS),
        Err(Errno::EBUSY) => stats::increment(stats::REVOKED_OPENS),
        Err(_) => {}
    }
    begun
}

/// The live open that the calling file belongs to (I2).
///
/// # Errors
/// ENXIO if the file's open is not the one that the node has now.
pub(crate) fn current(cdev: Cdev<'_>) -> Result<Ref<BpfD>> {
    let current = cdev.slot().get().ok_or(Errno::ENXIO)?;
    let own = cdev.private().ok_or(Errno::ENXIO)?;
    let current = if own.same(&current) { Ok(current) } else { Err(Errno::ENXIO) };
    current.inspect(|d| d.used_by(process::pid()))
}

/// `d_close`: 0, 1, 2 or more times for an open, in any number of threads.
///
/// With a file it ends the file's own open, whatever the flags. A revocation
/// (or a forced unmount) of some vnode of this node ends the node's open if
/// that vnode is its own, whatever file the thread happens to be in.
pub(crate) fn close(cdev: Cdev<'_>, revoke: bool) {
    let own = cdev.private();
    let mut published = None;
    if revoke {
        stats::increment(stats::REVOKES);
        published = cdev.slot().get_after_revoke();
    }
    if own.is_some() || published.is_some() {
        devfs::fail_point_close();
    }
    let is_own = |d: &Ref<BpfD>| own.as_ref().is_some_and(|own| own.same(d));
    let revoked = published.filter(|d| d.is_revoked() && !is_own(d));
    if own.is_none() && revoked.is_none() {
        stats::increment(stats::CLOSES_ORPHAN);
    }
    for d in [own, revoked].into_iter().flatten() {
        d.count_close();
        BpfD::end(&d);
    }
}

/// The file is gone, for good and exactly once: the end that always comes.
pub(crate) fn destroyed(d: Ref<BpfD>) {
    BpfD::end(&d);
    kqueue::drop_all(&d);
    d.count_end();
}

/// `d_purge`: devfs destroys the node and waits for those inside. Their open
/// is dead already (I7); wake them again. No sleeping here.
pub(crate) fn purge(cdev: Cdev<'_>) {
    if let Some(d) = cdev.slot().get() {
        d.purge();
    }
}

/// `MOD_UNLOAD`.
///
/// # Errors
/// EBUSY while an open is alive, unless forced. The module stays and works.
pub(crate) fn unload(force: bool) -> Result<()> {
    gate::shut(force)?;
    // As by revoke(2), for every node: all sleepers leave, no new ones come.
    for unit in 0..MAXUNITS {
        let published = |node: &CdevRef| node.slot().get();
        let d = NODES.lock().get(unit).and_then(Option::as_ref).and_then(published);
        if let Some(d) = d {
            BpfD::end(&d);
        }
    }
    tap::release_all();
    for unit in 0..MAXUNITS {
        let node = NODES.lock().get_mut(unit).and_then(Option::take);
        if let Some(node) = node {
            node.destroy();
        }
    }
    // destroy_dev(9) has run the destructors of the files that were open, but
    // not waited for one that another thread had begun. Each ends with a
    // reference dropped, and each last reference with an epoch callback.
    epoch::drain();
    Ok(())
}
