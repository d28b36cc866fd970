/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * devfs(5): nodes, and who is calling.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/conf.h>
#include <sys/fail.h>
#include <sys/file.h>
#include <sys/kernel.h>
#include <sys/proc.h>
#include <sys/vnode.h>

#include "../kpi.h"
#include "../shim.h"

int
bpfrs_kpi_node_create(int unit, struct cdev **dev)
{
	struct make_dev_args args;

	make_dev_args_init(&args);
	/* Referenced, because dev_clone hands a reference to devfs. */
	args.mda_flags = MAKEDEV_REF | MAKEDEV_CHECKNAME | MAKEDEV_WAITOK;
	args.mda_devsw = &bpfrs_cdevsw;
	args.mda_uid = UID_ROOT;
	args.mda_gid = GID_WHEEL;
	args.mda_mode = 0600;
	args.mda_unit = unit;
	return (make_dev_s(&args, dev, "bpfrs%d", unit));
}

void
bpfrs_kpi_node_destroy(struct cdev *dev)
{

	destroy_dev(dev);
}

void **
bpfrs_kpi_cdev_drv1(struct cdev *dev)
{

	return (&dev->si_drv1);
}

void
bpfrs_kpi_cdev_ref(struct cdev *dev)
{

	dev_ref(dev);
}

void
bpfrs_kpi_cdev_rel(struct cdev *dev)
{

	dev_rel(dev);
}

int
bpfrs_kpi_cdevpriv_set(void *priv)
{

	return (devfs_set_cdevpriv(priv, bpfrs_rs_dtor));
}

/*
 * devfs finds the private value through the thread's current file.  A d_close
 * by revocation has none, or, from inside another driver's call, the file of
 * that driver: its private value must not be taken for ours.
 */
void *
bpfrs_kpi_cdevpriv_get(struct cdev *dev)
{
	struct file *fp = curthread->td_fpop;
	void *priv;

	if (fp == NULL || fp->f_data != dev)
		return (NULL);
	return (devfs_get_cdevpriv(&priv) == 0 ? priv : NULL);
}

/*
 * The vnode of the file that is being opened.  devfs stores it in the file
 * before it calls d_open, and the caller of open(2) keeps the vnode until the
 * file has its own reference.
 */
struct vnode *
bpfrs_kpi_vnode_hold(void)
{
	struct file *fp = curthread->td_fpop;
	struct vnode *vp;

	if (fp == NULL || (vp = fp->f_vnode) == NULL)
		return (NULL);
	vhold(vp);
	return (vp);
}

/*
 * Unlocked: a vnode never comes back from the dead, and whoever dooms it calls
 * d_close afterwards, so that "not yet" is not "never".
 */
int
bpfrs_kpi_vnode_doomed(struct vnode *vp)
{

#if __FreeBSD_version >= 1300000
	return (VN_IS_DOOMED(vp));
#else
	return ((vp->v_iflag & VI_DOOMED) != 0);
#endif
}

void
bpfrs_kpi_vnode_drop(struct vnode *vp)
{

	vdrop(vp);
}

/*
 * fail(9) points for the tests: they stretch the two moments at which a
 * revoke is hardest to get right, e.g. by
 * sysctl debug.fail_point.bpfrs_open='1*sleep(200)'.
 */
void
bpfrs_kpi_fail_open(void)
{

	KFAIL_POINT_CODE(DEBUG_FP, bpfrs_open, (void)0);
}

void
bpfrs_kpi_fail_close(void)
{

	KFAIL_POINT_CODE(DEBUG_FP, bpfrs_close, (void)0);
}
