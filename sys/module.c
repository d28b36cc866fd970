/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The module: its life in the linker, the cdevsw, net.bpfrs.*.
 *
 * The entry points only translate the arguments and call the driver.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/conf.h>
#include <sys/event.h>
#include <sys/eventhandler.h>
#include <sys/fcntl.h>
#include <sys/kernel.h>
#include <sys/limits.h>
#include <sys/malloc.h>
#include <sys/module.h>
#include <sys/priv.h>
#include <sys/proc.h>
#include <sys/sx.h>
#include <sys/sysctl.h>
#include <sys/uio.h>

#include "kpi.h"
#include "shim.h"
#include "tap/bpfrs_tap.h"

static d_open_t		bpfrs_open;
static d_close_t	bpfrs_close;
static d_read_t		bpfrs_read;
static d_write_t	bpfrs_write;
static d_ioctl_t	bpfrs_ioctl;
static d_poll_t		bpfrs_poll;
static d_kqfilter_t	bpfrs_kqfilter;
static d_purge_t	bpfrs_purge;

/*
 * D_TRACKCLOSE: devfs reports the close of every open file, not only that of
 * the last one.  Not D_NEEDGIANT: the driver has its own locks.
 */
struct cdevsw bpfrs_cdevsw = {
	.d_version =	D_VERSION,
	.d_flags =	D_TRACKCLOSE,
	.d_name =	"bpfrs",
	.d_open =	bpfrs_open,
	.d_close =	bpfrs_close,
	.d_read =	bpfrs_read,
	.d_write =	bpfrs_write,
	.d_ioctl =	bpfrs_ioctl,
	.d_poll =	bpfrs_poll,
	.d_kqfilter =	bpfrs_kqfilter,
	.d_purge =	bpfrs_purge,
};

static int
bpfrs_open(struct cdev *dev, int oflags, int devtype __unused,
    struct thread *td __unused)
{

	return (bpfrs_rs_open(dev, oflags));
}

static int
bpfrs_close(struct cdev *dev, int fflag, int devtype __unused,
    struct thread *td __unused)
{

	return (bpfrs_rs_close(dev, (fflag & FREVOKE) != 0));
}

static int
bpfrs_read(struct cdev *dev, struct uio *uio, int ioflag)
{

	return (bpfrs_rs_read(dev, uio, ioflag));
}

static int
bpfrs_write(struct cdev *dev, struct uio *uio, int ioflag __unused)
{

	return (bpfrs_rs_write(dev, uio));
}

static int
bpfrs_ioctl(struct cdev *dev, u_long cmd, caddr_t data, int fflag __unused,
    struct thread *td __unused)
{

	return (bpfrs_rs_ioctl(dev, cmd, data));
}

static int
bpfrs_poll(struct cdev *dev, int events, struct thread *td __unused)
{

	return (bpfrs_rs_poll(dev, events));
}

static int
bpfrs_kqfilter(struct cdev *dev, struct knote *kn)
{

	return (bpfrs_rs_kqfilter(dev, kn, kn->kn_filter));
}

static void
bpfrs_kqdetach(struct knote *kn)
{

	bpfrs_rs_kqdetach(kn->kn_hook, kn);
}

static int
bpfrs_kqevent(struct knote *kn, long hint __unused)
{
	int told;

	told = bpfrs_rs_kqevent(kn->kn_hook, kn->kn_filter, &kn->kn_data);
	if (told == BPFRS_KNOTE_EOF)
		kn->kn_flags |= EV_EOF;
	return (told != BPFRS_KNOTE_QUIET);
}

struct filterops bpfrs_filterops = {
	.f_isfd =	1,
	.f_detach =	bpfrs_kqdetach,
	.f_event =	bpfrs_kqevent,
};

static void
bpfrs_purge(struct cdev *dev)
{

	bpfrs_rs_purge(dev);
}

/* A lookup failed: make /dev/bpfrs<unit> if that is what it was for. */
static void
bpfrs_clone(void *arg __unused, struct ucred *cred __unused, char *name,
    int namelen __unused, struct cdev **dev)
{
	int unit;

	if (*dev != NULL)
		return;
	if (dev_stdclone(name, NULL, "bpfrs", &unit) != 1)
		return;
	if (unit < 0 || unit >= BPFRS_MAXUNITS)
		return;
	*dev = bpfrs_rs_clone(unit);
}

/*
 * Settings and counters.
 */
SYSCTL_DECL(_net);
#if __FreeBSD_version >= 1300000
#define	BPFRS_MPSAFE	CTLFLAG_MPSAFE
#else
#define	BPFRS_MPSAFE	0
#endif
SYSCTL_NODE(_net, OID_AUTO, bpfrs, CTLFLAG_RW | BPFRS_MPSAFE, 0,
    "bpf(4) in Rust");
static SYSCTL_NODE(_net_bpfrs, OID_AUTO, closes, CTLFLAG_RD | BPFRS_MPSAFE, 0,
    "Finished opens by the number of d_close calls they got");

static u_int bpfrs_bufsize = 4096;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, bufsize, CTLFLAG_RWTUN, &bpfrs_bufsize, 0,
    "Default capture buffer size in bytes");
static u_int bpfrs_maxbufsize = 0x80000;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, maxbufsize, CTLFLAG_RWTUN,
    &bpfrs_maxbufsize, 0, "Maximum capture buffer in bytes");
static u_int bpfrs_maxinsns = BPF_MAXINSNS;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, maxinsns, CTLFLAG_RWTUN, &bpfrs_maxinsns, 0,
    "Maximum bpf program instructions");
static u_int bpfrs_jit;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, jit, CTLFLAG_RWTUN, &bpfrs_jit, 0,
    "Compile filters that are set from now on to machine code");
static u_int bpfrs_optimize_writers;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, optimize_writers, CTLFLAG_RWTUN,
    &bpfrs_optimize_writers, 0,
    "Do not send packets until BPF program is set");
static u_int bpfrs_zerocopy_enable;
SYSCTL_UINT(_net_bpfrs, OID_AUTO, zerocopy_enable, CTLFLAG_RWTUN,
    &bpfrs_zerocopy_enable, 0, "Enable new zero-copy BPF buffer sessions");

/*
 * The descriptors that have an interface, as net.bpf.stats has them: a struct
 * xbpf_d each.  Writing one of zeros sets their counters to zero.
 */
static int
bpfrs_stats_sysctl(struct sysctl_oid *oid __unused, void *arg __unused,
    intmax_t len __unused, struct sysctl_req *req)
{
	static const struct bpfrs_xbpf_d zero;
	struct bpfrs_xbpf_d *all, given;
	size_t count, room;
	int error;

	error = priv_check(req->td, PRIV_NET_BPF);
	if (error != 0)
		return (error);
	if (req->newptr != NULL) {
		if (req->newlen != sizeof(given))
			return (EINVAL);
		error = SYSCTL_IN(req, &given, sizeof(given));
		if (error != 0)
			return (error);
		if (memcmp(&given, &zero, sizeof(zero)) != 0)
			return (EINVAL);
		bpfrs_rs_stats_reset();
		return (0);
	}
	if (req->oldptr == NULL)
		return (SYSCTL_OUT(req, NULL,
		    bpfrs_rs_stats(NULL, 0) * sizeof(*all)));
	/* The room is the caller's to say; a node has one open. */
	room = MIN(req->oldlen / sizeof(*all), BPFRS_MAXUNITS);
	all = malloc(MAX(room, 1) * sizeof(*all), M_BPFRS, M_WAITOK | M_ZERO);
	count = bpfrs_rs_stats(all, room);
	error = count > room ? ENOMEM :
	    SYSCTL_OUT(req, all, count * sizeof(*all));
	free(all, M_BPFRS);
	return (error);
}
SYSCTL_PROC(_net_bpfrs, OID_AUTO, stats,
    CTLTYPE_OPAQUE | CTLFLAG_RW | CTLFLAG_MPSAFE, NULL, 0, bpfrs_stats_sysctl,
    "S,xbpf_d", "Statistics of descriptors with an interface");

#define	BPFRS_COUNTER(parent, name, index, descr)			\
	SYSCTL_U64(parent, OID_AUTO, name, CTLFLAG_RD,			\
	    &bpfrs_stats[index], 0, descr)
BPFRS_COUNTER(_net_bpfrs, opens, BPFRS_STAT_OPENS,
    "Opens that succeeded");
BPFRS_COUNTER(_net_bpfrs, live, BPFRS_STAT_LIVE,
    "Opens that are neither closed nor revoked");
BPFRS_COUNTER(_net_bpfrs, descriptors, BPFRS_STAT_DESCRIPTORS,
    "Descriptors whose memory is not yet given back");
BPFRS_COUNTER(_net_bpfrs, revokes, BPFRS_STAT_REVOKES,
    "d_close calls that carried FREVOKE");
BPFRS_COUNTER(_net_bpfrs, revoked_opens, BPFRS_STAT_REVOKED_OPENS,
    "Opens refused because a revoke came in between");
BPFRS_COUNTER(_net_bpfrs_closes, zero, BPFRS_STAT_CLOSES_ZERO,
    "Opens that ended without a d_close");
BPFRS_COUNTER(_net_bpfrs_closes, one, BPFRS_STAT_CLOSES_ONE,
    "Opens that got one d_close");
BPFRS_COUNTER(_net_bpfrs_closes, two, BPFRS_STAT_CLOSES_TWO,
    "Opens that got two d_close");
BPFRS_COUNTER(_net_bpfrs_closes, more, BPFRS_STAT_CLOSES_MORE,
    "Opens that got more than two d_close");
BPFRS_COUNTER(_net_bpfrs_closes, orphan, BPFRS_STAT_CLOSES_ORPHAN,
    "d_close calls that belonged to no known open");

uint32_t
bpfrs_kpi_tunable(enum bpfrs_tunable which)
{

	switch (which) {
	case BPFRS_TUNABLE_BUFSIZE:
		return (bpfrs_bufsize);
	case BPFRS_TUNABLE_MAXBUFSIZE:
		return (bpfrs_maxbufsize);
	case BPFRS_TUNABLE_MAXINSNS:
		return (bpfrs_maxinsns);
	case BPFRS_TUNABLE_JIT:
		return (bpfrs_jit);
	case BPFRS_TUNABLE_OPTIMIZE_WRITERS:
		return (bpfrs_optimize_writers);
	case BPFRS_TUNABLE_ZEROCOPY_ENABLE:
		return (bpfrs_zerocopy_enable);
	}
	return (0);
}

void
bpfrs_kpi_panic(const char *msg, size_t len)
{

	panic("bpfrs: %.*s", (int)MIN(len, INT_MAX), msg);
}

/*
 * Load and unload.  On the way out everything that can call the driver is cut
 * off from outside to inside: names, nodes, interfaces, deferred frees.
 */
static eventhandler_tag	bpfrs_clone_tag;

static int
bpfrs_load(void)
{
	int error;

	error = bpfrs_ifnet_attach();
	if (error != 0)
		return (error);
	error = bpfrs_rs_load();
	if (error != 0) {
		bpfrs_ifnet_detach();
		return (error);
	}
	bpfrs_clone_tag = EVENTHANDLER_REGISTER(dev_clone, bpfrs_clone, NULL,
	    EVENTHANDLER_PRI_ANY);
	return (0);
}

static int
bpfrs_unload(int force)
{
	int error;

	/* The kernel unloads what it could not load, too. */
	if (bpfrs_clone_tag == NULL)
		return (0);
	EVENTHANDLER_DEREGISTER(dev_clone, bpfrs_clone_tag);
#if __FreeBSD_version < 1300000
	drain_dev_clone_events();
#endif
	error = bpfrs_rs_unload(force);
	if (error != 0) {
		bpfrs_clone_tag = EVENTHANDLER_REGISTER(dev_clone, bpfrs_clone,
		    NULL, EVENTHANDLER_PRI_ANY);
		return (error);
	}
	bpfrs_ifnet_detach();
	return (0);
}

static int
bpfrs_modevent(module_t mod __unused, int what, void *arg __unused)
{
	/*
	 * MOD_UNLOAD does not say whether kldunload(8) was told to force it,
	 * but MOD_QUIESCE comes before it and only a forced unload goes on
	 * after that was refused.
	 */
	static int refused;

	switch (what) {
	case MOD_LOAD:
		return (bpfrs_load());
	case MOD_QUIESCE:
		refused = bpfrs_stats[BPFRS_STAT_LIVE] != 0;
		return (refused ? EBUSY : 0);
	case MOD_UNLOAD:
		return (bpfrs_unload(refused));
	case MOD_SHUTDOWN:
		return (0);
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t bpfrs_moduledata = { "bpfrs", bpfrs_modevent, NULL };
DECLARE_MODULE(bpfrs, bpfrs_moduledata, SI_SUB_PSEUDO, SI_ORDER_ANY);
MODULE_VERSION(bpfrs, 1);
MODULE_DEPEND(bpfrs, bpfrs_tap, BPFRS_TAP_VERSION, BPFRS_TAP_VERSION,
    BPFRS_TAP_VERSION);
