/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The positive control: a packet-capture device with the life cycle that
 * bpf(4) had until 2008, wrong in the same places, so that a reproducer which
 * does not panic it proves nothing.  README.md tells what is wrong.
 *
 * NEVER load this on a machine that matters.
 */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/callout.h>
#include <sys/conf.h>
#include <sys/fcntl.h>
#include <sys/filio.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/module.h>
#include <sys/mutex.h>
#include <sys/poll.h>
#include <sys/selinfo.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <net/if.h>
#include <net/bpf.h>

#include <machine/atomic.h>

#define	PRINET		26	/* bpf.c has this of its own, too */
#define	NODES		16
#define	PACKET		88	/* address family and an echo request */
#define	HEADER		28	/* bh_hdrlen of DLT_NULL */
#define	BUFSIZE_MAX	0x80000

static MALLOC_DEFINE(M_LEGACY, "bpflegacy", "bpf with the locking of 2008");

/* State of an open. */
struct legacy {
	struct mtx	 lock;
	struct callout	 packets;
	struct selinfo	 sel;
	char		*buffer;
	u_int		 size;
	u_int		 length;	/* bytes for the reader */
	u_int		 received;
	u_int		 timeout;	/* ticks, 0: for ever */
};

/* A node.  si_drv1 of its cdev is the state, or NULL: nothing locks it. */
struct node {
	struct cdev	*dev;
	uint64_t	 closes;	/* of the newest open */
	bool		 opened;	/* ever */
};

static struct node nodes[NODES];

/* For the comparison, the same names as net.bpfrs has. */
static uint64_t opens, live, descriptors, revokes;
static uint64_t closes_zero, closes_one, closes_two, closes_more, closes_orphan;

SYSCTL_NODE(_net, OID_AUTO, bpflegacy, CTLFLAG_RD | CTLFLAG_MPSAFE, 0,
    "bpf with the locking of 2008");
SYSCTL_NODE(_net_bpflegacy, OID_AUTO, closes, CTLFLAG_RD | CTLFLAG_MPSAFE, 0,
    "d_close calls of an open");
#define	COUNTER(parent, name, variable, description)			\
	SYSCTL_U64(parent, OID_AUTO, name, CTLFLAG_RD, &variable, 0, description)
COUNTER(_net_bpflegacy, opens, opens, "successful opens");
COUNTER(_net_bpflegacy, live, live, "nodes that are open");
COUNTER(_net_bpflegacy, descriptors, descriptors, "states allocated");
COUNTER(_net_bpflegacy, revokes, revokes, "d_close calls with FREVOKE");
COUNTER(_net_bpflegacy_closes, zero, closes_zero, "opens with none");
COUNTER(_net_bpflegacy_closes, one, closes_one, "opens with one");
COUNTER(_net_bpflegacy_closes, two, closes_two, "opens with two");
COUNTER(_net_bpflegacy_closes, more, closes_more, "opens with more");
COUNTER(_net_bpflegacy_closes, orphan, closes_orphan, "closes of no open");

/* The newest open of a node is over: a new one begins. */
static void
tally(struct node *node)
{
	if (node->opened)
		atomic_add_64(node->closes == 0 ? &closes_zero :
		    node->closes == 1 ? &closes_one :
		    node->closes == 2 ? &closes_two : &closes_more, 1);
	node->opened = true;
	node->closes = 0;
}

/* Stands for the network: a packet at every tick, while the buffer is free. */
static void
packet(void *arg)
{
	struct legacy *state = arg;
	struct bpf_hdr header;
	const uint32_t family = AF_INET;

	mtx_lock(&state->lock);
	state->received++;
	if (state->length == 0 && HEADER + PACKET <= state->size) {
		bzero(&header, sizeof(header));
		getmicrotime(&header.bh_tstamp);
		header.bh_caplen = header.bh_datalen = PACKET;
		header.bh_hdrlen = HEADER;
		bzero(state->buffer, HEADER + PACKET);
		memcpy(state->buffer, &header, offsetof(struct bpf_hdr,
		    bh_hdrlen) + sizeof(header.bh_hdrlen));
		memcpy(state->buffer + HEADER, &family, sizeof(family));
		state->length = HEADER + PACKET;
		wakeup(state);
		selwakeuppri(&state->sel, PRINET);
	}
	callout_reset(&state->packets, 1, packet, state);
	mtx_unlock(&state->lock);
}

static int
legacy_open(struct cdev *dev, int flags __unused, int type __unused,
    struct thread *td __unused)
{
	struct legacy *state;

	/* WRONG: nothing keeps two opens, or an open and a close, apart. */
	if (dev->si_drv1 != NULL)
		return (EBUSY);
	state = malloc(sizeof(*state), M_LEGACY, M_WAITOK | M_ZERO);
	dev->si_drv1 = state;
	state->size = 4096;
	state->buffer = malloc(state->size, M_LEGACY, M_WAITOK | M_ZERO);
	mtx_init(&state->lock, "bpflegacy", NULL, MTX_DEF);
	callout_init(&state->packets, 1);
	tally(dev->si_drv2);
	atomic_add_64(&opens, 1);
	atomic_add_64(&live, 1);
	atomic_add_64(&descriptors, 1);
	return (0);
}

static int
legacy_close(struct cdev *dev, int flags, int type __unused,
    struct thread *td __unused)
{
	struct legacy *state = dev->si_drv1;
	struct node *node = dev->si_drv2;

	if ((flags & FREVOKE) != 0)
		atomic_add_64(&revokes, 1);
	atomic_add_64(state != NULL ? &node->closes : &closes_orphan, 1);
	/*
	 * WRONG: it takes this to be the one and last close, and nobody else
	 * to be inside of the driver.  A second close at the same time frees
	 * once more; one after this finds NULL.
	 */
	mtx_lock(&state->lock);
	callout_stop(&state->packets);	/* WRONG: it may be running */
	mtx_unlock(&state->lock);
	selwakeuppri(&state->sel, PRINET);
	free(state->buffer, M_LEGACY);
	mtx_destroy(&state->lock);
	dev->si_drv1 = NULL;
	free(state, M_LEGACY);		/* WRONG: readers sleep on it */
	atomic_subtract_64(&live, 1);
	atomic_subtract_64(&descriptors, 1);
	return (0);
}

static int
legacy_read(struct cdev *dev, struct uio *uio, int flag)
{
	struct legacy *state = dev->si_drv1;
	int error;

	if (uio->uio_resid != state->size)
		return (EINVAL);
	mtx_lock(&state->lock);
	while (state->length == 0) {
		if ((flag & O_NONBLOCK) != 0) {
			mtx_unlock(&state->lock);
			return (EWOULDBLOCK);
		}
		/* WRONG: when it wakes, the state and its lock may be gone. */
		error = msleep(state, &state->lock, PRINET | PCATCH, "legacy",
		    (int)state->timeout);
		if (error == EWOULDBLOCK)
			error = 0;
		else if (error == 0)
			continue;
		if (state->length == 0 || error != 0) {
			mtx_unlock(&state->lock);
			return (error);
		}
	}
	mtx_unlock(&state->lock);
	/* WRONG: nothing keeps the buffer while it is copied out. */
	error = uiomove(state->buffer, (int)state->length, uio);
	mtx_lock(&state->lock);
	state->length = 0;
	mtx_unlock(&state->lock);
	return (error);
}

static int
legacy_ioctl(struct cdev *dev, u_long cmd, caddr_t data, int flag __unused,
    struct thread *td __unused)
{
	struct legacy *state = dev->si_drv1;
	struct bpf_version *version;
	struct bpf_stat *stat;
	struct timeval *time;
	char *old;

	switch (cmd) {
	case BIOCVERSION:
		version = (struct bpf_version *)data;
		version->bv_major = BPF_MAJOR_VERSION;
		version->bv_minor = BPF_MINOR_VERSION;
		return (0);
	case BIOCGBLEN:
		*(u_int *)data = state->size;
		return (0);
	case BIOCSBLEN:
		old = state->buffer;
		state->size = MIN(MAX(*(u_int *)data, 128), BUFSIZE_MAX);
		state->buffer = malloc(state->size, M_LEGACY, M_WAITOK | M_ZERO);
		free(old, M_LEGACY);
		*(u_int *)data = state->size;
		return (0);
	case BIOCSETIF:
		callout_reset(&state->packets, 1, packet, state);
		return (0);
	case BIOCSRTIMEOUT:
		time = (struct timeval *)data;
		state->timeout = (u_int)tvtohz(time);
		return (0);
	case BIOCGSTATS:
		stat = (struct bpf_stat *)data;
		stat->bs_recv = state->received;
		stat->bs_drop = 0;
		return (0);
	case FIONREAD:
		*(int *)data = (int)state->length;
		return (0);
	/* Enough for the reader program; no effect here. */
	case BIOCSETF:
	case BIOCFLUSH:
	case BIOCPROMISC:
	case BIOCIMMEDIATE:
	case FIONBIO:
		return (0);
	default:
		return (EINVAL);
	}
}

static int
legacy_poll(struct cdev *dev, int events, struct thread *td)
{
	struct legacy *state = dev->si_drv1;
	int ready = events & (POLLOUT | POLLWRNORM);

	mtx_lock(&state->lock);
	if ((events & (POLLIN | POLLRDNORM)) != 0) {
		if (state->length != 0)
			ready |= events & (POLLIN | POLLRDNORM);
		else
			selrecord(td, &state->sel);
	}
	mtx_unlock(&state->lock);
	return (ready);
}

static struct cdevsw legacy_cdevsw = {
	.d_version =	D_VERSION,
	.d_flags =	D_TRACKCLOSE,
	.d_open =	legacy_open,
	.d_close =	legacy_close,
	.d_read =	legacy_read,
	.d_ioctl =	legacy_ioctl,
	.d_poll =	legacy_poll,
	.d_name =	"legacy",
};

static int
legacy_modevent(module_t module __unused, int event, void *arg __unused)
{
	int i;

	switch (event) {
	case MOD_LOAD:
		for (i = 0; i < NODES; i++) {
			nodes[i].dev = make_dev(&legacy_cdevsw, i, UID_ROOT,
			    GID_WHEEL, 0600, "legacy%d", i);
			nodes[i].dev->si_drv2 = &nodes[i];
		}
		return (0);
	case MOD_QUIESCE:
		return (live != 0 ? EBUSY : 0);
	case MOD_UNLOAD:
		for (i = 0; i < NODES; i++)
			destroy_dev(nodes[i].dev);
		return (0);
	default:
		return (EOPNOTSUPP);
	}
}

DEV_MODULE(legacy, legacy_modevent, NULL);
MODULE_VERSION(legacy, 1);
