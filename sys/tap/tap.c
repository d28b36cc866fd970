/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Where packets are seen, and the module that stays.
 *
 * An unmodified kernel offers no hook for a second packet consumer, so a tap
 * takes the place of function pointers of the interface and calls what was
 * there before: if_input and if_transmit of an Ethernet, where a frame passes
 * as the driver hands it up and down; if_output of lo(4), where all passes
 * that lo0 shows to bpf(4).
 *
 * Others read these pointers without a lock, and some copy them or put their
 * own function on top: vlan(4) copies its parent's if_input, netmap(4) saves
 * what it finds and stores that again later.  So our functions may be called
 * long after a tap was taken off, for interfaces that never had one.  That is
 * why they are in a module of their own that is never unloaded, and why each
 * finds what comes next in a record that lasts as long as the interface.  The
 * consumer is called inside an epoch section that begins here: it can leave.
 *
 * Order of memory: what our functions need is written first (the record in the
 * table, its sp_saved and bif_on, what belongs at the places), then the pointer
 * that leads to them, with release.  The kernel reads that pointer with a plain
 * load, so each of them begins with an acquire fence: without one arm64 may have
 * read the rest before it.  Who copies the pointer passes this on, as what it
 * stores is what it has read.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/ck.h>
#include <sys/epoch.h>
#include <sys/eventhandler.h>
#include <sys/jail.h>
#include <sys/kernel.h>
#include <sys/linker.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mbuf.h>
#include <sys/module.h>
#include <sys/proc.h>
#include <sys/refcount.h>
#include <sys/sx.h>
#include "../ifnet.h"
#include <net/bpf.h>
#include <net/ethernet.h>
#include <net/if_types.h>
#include <net/if_vlan_var.h>
#include <net/route.h>
#include <net/vnet.h>

#include "bpfrs_tap.h"
#include "layout.h"

static MALLOC_DEFINE(M_BPFRS_TAP, "bpfrs_tap", "bpfrs: places where packets are seen");

typedef void	input_fn(struct ifnet *, struct mbuf *);
typedef int	transmit_fn(struct ifnet *, struct mbuf *);
typedef int	output_fn(struct ifnet *, struct mbuf *, const struct sockaddr *,
		    struct route *);

/*
 * A function pointer of an interface.  Written with the lock.  Who comes by it
 * has none: what was saved before and what is saved then are both good for him.
 *
 * As long as sp_saved is NULL nobody ever got ours from here.  When somebody
 * is on top of it at the time it should be taken away, it is stranded: it may
 * still be called, and must not be put on top of those that call it.
 */
struct spot {
	volatile uintptr_t sp_saved;	/* what was there before, and comes next */
	bool		sp_stranded;	/* with the lock */
};

/*
 * A place where packets are seen.  bif_on is read without the lock: a packet
 * that passes while it changes is seen or not.
 */
struct bpfrs_if {
	CK_LIST_ENTRY(bpfrs_if)	bif_link;	/* in bpfrs_table */
	struct ifnet		*bif_ifp;	/* referenced; NULL: a producer's */
	struct spot		bif_input;	/* if_input */
	struct spot		bif_output;	/* if_transmit; if_output of lo(4) */
	volatile bool		bif_on;		/* its packets are wanted */
	bool			bif_gone;	/* it is going away; with the lock */
	u_int			bif_dlt;
	u_int			bif_hdrlen;
	u_int			bif_refs;
	struct vnet		*bif_vnet;	/* a producer's, to compare */
	char			bif_name[IFNAMSIZ];	/* a producer's */
	struct epoch_context	bif_epoch;
};

/*
 * All of them, by interface; producers by no interface.  Changed with the lock,
 * read inside the network epoch.
 */
#define	TABLE_SIZE	64
static CK_LIST_HEAD(, bpfrs_if) bpfrs_table[TABLE_SIZE];
static struct sx bpfrs_sx;
SX_SYSINIT(bpfrs_tap, &bpfrs_sx, "bpfrs_tap");

/* Stored with release and loaded with acquire, or read with the lock. */
static const struct bpfrs_consumer *bpfrs_consumer;
static u_int	bpfrs_consumer_calls;	/* of bc_departed; with the lock */
static bool	bpfrs_stays;		/* the kernel has a pointer to us */

/*
 * What belongs at these places: ether_input() and looutput(), which no header
 * declares.  The kernel's symbol table knows them; without one it is what the
 * first interface that we take had there.
 */
static uintptr_t bpfrs_ether_input;
static uintptr_t bpfrs_lo_output;

static input_fn		bpfrs_input;
static transmit_fn	bpfrs_transmit;
static output_fn	bpfrs_output;

#define	PLACE(ifp, field)	((volatile uintptr_t *)&(ifp)->field)

/*
 * The table.
 */

static u_int
bpfrs_bucket(const struct ifnet *ifp)
{

	/* Their lower bits are those of malloc(9)'s size class. */
	return (((uintptr_t)ifp >> 11) % TABLE_SIZE);
}

/* With the lock, or inside the network epoch. */
static struct bpfrs_if *
bpfrs_lookup(const struct ifnet *ifp)
{
	struct bpfrs_if *bif;

	CK_LIST_FOREACH(bif, &bpfrs_table[bpfrs_bucket(ifp)], bif_link)
		if (bif->bif_ifp == ifp)
			return (bif);
	return (NULL);
}

static void
bpfrs_free(struct epoch_context *context)
{
	struct bpfrs_if *bif;

	bif = __containerof(context, struct bpfrs_if, bif_epoch);
	if (bif->bif_ifp != NULL)
		if_rele(bif->bif_ifp);
	free(bif, M_BPFRS_TAP);
}

void
bpfrs_tap_rele(struct bpfrs_if *bif)
{

	if (!refcount_release(&bif->bif_refs))
		return;
#if __FreeBSD_version >= 1300000
	epoch_call(net_epoch_preempt, bpfrs_free, &bif->bif_epoch);
#else
	epoch_call(net_epoch_preempt, &bif->bif_epoch, bpfrs_free);
#endif
}

/* A record with two references: the table's, which it is put into, and the caller's. */
static struct bpfrs_if *
bpfrs_new(struct ifnet *ifp)
{
	struct bpfrs_if *bif;

	bif = malloc(sizeof(*bif), M_BPFRS_TAP, M_WAITOK | M_ZERO);
	refcount_init(&bif->bif_refs, 2);
	bif->bif_ifp = ifp;
	return (bif);
}

/* Readers see all that was written to it before. */
static void
bpfrs_insert(struct bpfrs_if *bif)
{

	sx_assert(&bpfrs_sx, SA_XLOCKED);
	CK_LIST_INSERT_HEAD(&bpfrs_table[bpfrs_bucket(bif->bif_ifp)], bif,
	    bif_link);
}

static bool
bpfrs_is_producer_here(const struct bpfrs_if *bif)
{

	return (bif->bif_ifp == NULL && bif->bif_vnet == curvnet);
}

/* What a producer is known by. */
static bool
bpfrs_is_called(const struct bpfrs_if *bif, const char *name)
{

	return (bpfrs_is_producer_here(bif) &&
	    strcmp(bif->bif_name, name) == 0);
}

struct bpfrs_if *
bpfrs_tap_find(const char *name)
{
	struct bpfrs_if *bif;
	struct ifnet *ifp;

	/* The caller's network stack, not that of whoever opened the device. */
	CURVNET_SET(TD_TO_VNET(curthread));
	sx_xlock(&bpfrs_sx);
	ifp = ifunit_ref(name);
	if (ifp != NULL) {
		bif = bpfrs_lookup(ifp);
		if (bif == NULL) {
			/* The record has the reference. */
			bif = bpfrs_new(ifp);
			bpfrs_insert(bif);
		} else {
			refcount_acquire(&bif->bif_refs);
			if_rele(ifp);
		}
	} else {
		CK_LIST_FOREACH(bif, &bpfrs_table[bpfrs_bucket(NULL)], bif_link)
			if (bpfrs_is_called(bif, name)) {
				refcount_acquire(&bif->bif_refs);
				break;
			}
	}
	sx_xunlock(&bpfrs_sx);
	CURVNET_RESTORE();
	return (bif);
}

struct ifnet *
bpfrs_tap_ifnet(const struct bpfrs_if *bif)
{

	return (bif->bif_ifp);
}

const char *
bpfrs_tap_name(const struct bpfrs_if *bif)
{

	return (bif->bif_ifp != NULL ? bif->bif_ifp->if_xname : bif->bif_name);
}

/*
 * Kinds of interfaces.
 */

static bool
bpfrs_is_ethernet(const struct ifnet *ifp)
{

	switch (ifp->if_type) {
	case IFT_ETHER:
	case IFT_L2VLAN:
		return (true);
	case IFT_IEEE8023ADLAG:
		/* A port of a lagg(4); lagg0 itself gets its frames without if_input. */
		return (ifp->if_lagg != NULL &&
		    strcmp(ifp->if_dname, "lagg") != 0);
	default:
		return (false);
	}
}

int
bpfrs_tap_dlt(const struct bpfrs_if *bif, u_int *dlt, u_int *hdrlen)
{

	if (bif->bif_ifp == NULL) {
		*dlt = bif->bif_dlt;
		*hdrlen = bif->bif_hdrlen;
	} else if (bif->bif_ifp->if_type == IFT_LOOP) {
		*dlt = DLT_NULL;
		*hdrlen = sizeof(uint32_t);
	} else if (bpfrs_is_ethernet(bif->bif_ifp)) {
		*dlt = DLT_EN10MB;
		*hdrlen = ETHER_HDR_LEN;
	} else
		return (ENXIO);
	return (0);
}

/*
 * Whether a sound way is known.  if_output of lo(4) is called for other
 * interfaces, so that what comes next is known only if it is the same for
 * every lo(4).
 */
static bool
bpfrs_can_tap(const struct ifnet *ifp)
{

	if (ifp->if_type != IFT_LOOP)
		return (bpfrs_is_ethernet(ifp));
	return (bpfrs_lo_output == 0 || ifp->if_output == bpfrs_output ||
	    (uintptr_t)ifp->if_output == bpfrs_lo_output);
}

/* A list of names that is being made. */
struct names {
	char	*n_names;
	size_t	n_size;		/* room there, bytes */
	size_t	n_len;		/* needed, bytes */
	u_int	n_count;
	u_int	n_max;		/* 0: no limit */
};

static bool
bpfrs_is_full(const struct names *n)
{

	return (n->n_max != 0 && n->n_count == n->n_max);
}

static void
bpfrs_add_name(struct names *n, const char *from)
{
	char name[IFNAMSIZ];
	size_t len;

	/* A rename may be under way: its length is that of what is copied. */
	strlcpy(name, from, sizeof(name));
	len = strlen(name) + 1;
	if (n->n_len + len <= n->n_size)
		memcpy(n->n_names + n->n_len, name, len);
	n->n_len += len;
	n->n_count++;
}

size_t
bpfrs_tap_names(u_int max, u_int *count, char *names, size_t size)
{
	struct names n = { .n_names = names, .n_size = size, .n_max = max };
	struct epoch_tracker et;
	struct bpfrs_if *bif;
	struct ifnet *ifp;

	CURVNET_SET(TD_TO_VNET(curthread));
	epoch_enter_preempt(net_epoch_preempt, &et);
	CK_STAILQ_FOREACH(ifp, &V_ifnet, if_link)
		if (bpfrs_can_tap(ifp) && !bpfrs_is_full(&n))
			bpfrs_add_name(&n, ifp->if_xname);
	CK_LIST_FOREACH(bif, &bpfrs_table[bpfrs_bucket(NULL)], bif_link)
		if (bpfrs_is_producer_here(bif) && !bpfrs_is_full(&n))
			bpfrs_add_name(&n, bif->bif_name);
	epoch_exit_preempt(net_epoch_preempt, &et);
	CURVNET_RESTORE();
	*count = n.n_count;
	return (n.n_len);
}

/*
 * Taking a place, and leaving it.  Others change these pointers without any
 * lock of ours; whatever they do, what was saved is never a function that
 * leads back to ours.
 */

static void
bpfrs_take(volatile uintptr_t *place, struct spot *spot, uintptr_t ours,
    uintptr_t fallback)
{
	uintptr_t there;

	do {
		there = *place;
		if (there == ours) {
			/* Copied from another interface. */
			if (spot->sp_saved == 0)
				spot->sp_saved = fallback;
			break;
		}
		if (spot->sp_stranded && there != spot->sp_saved &&
		    there != fallback)
			return;		/* It may call ours already. */
		/* Nobody has a lock: saved first, then published. */
		spot->sp_saved = there;
	} while (atomic_cmpset_rel_ptr(place, there, ours) == 0);
	spot->sp_stranded = false;
}

static void
bpfrs_leave(volatile uintptr_t *place, struct spot *spot, uintptr_t ours)
{

	if (spot->sp_saved == 0)
		return;
	if (atomic_cmpset_rel_ptr(place, ours, spot->sp_saved) == 0 &&
	    *place != spot->sp_saved)
		spot->sp_stranded = true;
}

static void
bpfrs_take_all(struct bpfrs_if *bif)
{
	struct ifnet *ifp = bif->bif_ifp;

	bpfrs_stays = true;
	/* What comes next for those who get ours elsewhere is known first. */
	if (ifp->if_type == IFT_LOOP) {
		if (bpfrs_lo_output == 0)
			bpfrs_lo_output = *PLACE(ifp, if_output);
		bpfrs_take(PLACE(ifp, if_output), &bif->bif_output,
		    (uintptr_t)bpfrs_output, bpfrs_lo_output);
		return;
	}
	if (bpfrs_ether_input == 0)
		bpfrs_ether_input = *PLACE(ifp, if_input);
	bpfrs_take(PLACE(ifp, if_input), &bif->bif_input,
	    (uintptr_t)bpfrs_input, bpfrs_ether_input);
	bpfrs_take(PLACE(ifp, if_transmit), &bif->bif_output,
	    (uintptr_t)bpfrs_transmit, 0);
}

static void
bpfrs_leave_all(struct bpfrs_if *bif)
{
	struct ifnet *ifp = bif->bif_ifp;

	if (ifp->if_type == IFT_LOOP) {
		bpfrs_leave(PLACE(ifp, if_output), &bif->bif_output,
		    (uintptr_t)bpfrs_output);
		return;
	}
	bpfrs_leave(PLACE(ifp, if_input), &bif->bif_input,
	    (uintptr_t)bpfrs_input);
	bpfrs_leave(PLACE(ifp, if_transmit), &bif->bif_output,
	    (uintptr_t)bpfrs_transmit);
}

int
bpfrs_tap_on(struct bpfrs_if *bif)
{
	struct ifnet *ifp = bif->bif_ifp, *listed;
	int error;

	sx_xlock(&bpfrs_sx);
	error = bif->bif_gone ? ENXIO : 0;
	if (error == 0 && ifp != NULL) {
		/*
		 * An interface leaves the list first and announces that next:
		 * one that is listed now will be announced when it goes.
		 */
		CURVNET_SET(TD_TO_VNET(curthread));
		listed = ifunit_ref(ifp->if_xname);
		CURVNET_RESTORE();
		if (listed != NULL)
			if_rele(listed);
		if (listed != ifp || !bpfrs_can_tap(ifp))
			error = ENXIO;
	}
	if (error == 0) {
		bif->bif_on = true;
		if (ifp != NULL)
			bpfrs_take_all(bif);
	}
	sx_xunlock(&bpfrs_sx);
	return (error);
}

void
bpfrs_tap_off(struct bpfrs_if *bif)
{

	sx_xlock(&bpfrs_sx);
	if (bif->bif_on) {
		bif->bif_on = false;
		if (bif->bif_ifp != NULL && !bif->bif_gone)
			bpfrs_leave_all(bif);
	}
	sx_xunlock(&bpfrs_sx);
}

/*
 * Packets.
 */

/*
 * Enters the network epoch, unless the caller is inside: as a rule it is, and
 * another section costs as much as all the rest here.
 */
static bool
bpfrs_enter(struct epoch_tracker *et)
{

	if (in_epoch(net_epoch_preempt))
		return (false);
	epoch_enter_preempt(net_epoch_preempt, et);
	return (true);
}

static void
bpfrs_exit(bool entered, struct epoch_tracker *et)
{

	if (entered)
		epoch_exit_preempt(net_epoch_preempt, et);
}

/* Inside the network epoch. */
static void
bpfrs_show(struct bpfrs_if *bif, const void *hdr, size_t hdrlen,
    const struct mbuf *m, bool in)
{
	const struct bpfrs_consumer *consumer;

	consumer = (const struct bpfrs_consumer *)atomic_load_acq_ptr(
	    (volatile uintptr_t *)&bpfrs_consumer);
	if (consumer != NULL)
		consumer->bc_packet(bif, hdr, hdrlen, m, in);
}

/*
 * A packet behind the header hdr: in one piece where there is room in front of
 * it, which is the case for what this host has made.  It is ours for now.
 */
static void
bpfrs_show_behind(struct bpfrs_if *bif, const void *hdr, size_t hdrlen,
    struct mbuf *m, bool in)
{

	if (M_LEADINGSPACE(m) < (int)hdrlen) {
		bpfrs_show(bif, hdr, hdrlen, m, in);
		return;
	}
	m->m_data -= hdrlen;
	m->m_len += hdrlen;
	memcpy(mtod(m, void *), hdr, hdrlen);
	bpfrs_show(bif, NULL, 0, m, in);
	m->m_len -= hdrlen;
	m->m_data += hdrlen;
}

/*
 * A frame, as the stock tap shows it: with the VLAN tag that the interface took
 * out of it, or is to put in, back in its place.
 */
static void
bpfrs_show_frame(struct bpfrs_if *bif, struct mbuf *m)
{
	struct ether_vlan_header evl;
	bool in;

	in = m->m_pkthdr.rcvif == bif->bif_ifp;
	if ((m->m_flags & M_VLANTAG) == 0 || m->m_len < ETHER_HDR_LEN) {
		bpfrs_show(bif, NULL, 0, m, in);
		return;
	}
	memcpy(&evl, mtod(m, void *), ETHER_HDR_LEN);
	evl.evl_proto = evl.evl_encap_proto;
	evl.evl_encap_proto = htons(ETHERTYPE_VLAN);
	evl.evl_tag = htons(m->m_pkthdr.ether_vtag);
	/* The frame is ours for now: let it begin behind its header. */
	m->m_len -= ETHER_HDR_LEN;
	m->m_data += ETHER_HDR_LEN;
	bpfrs_show(bif, &evl, sizeof(evl), m, in);
	m->m_data -= ETHER_HDR_LEN;
	m->m_len += ETHER_HDR_LEN;
}

/*
 * What comes next for a received frame, inside the network epoch.
 *
 * Whoever was beneath us may have left, putting back what it found: what was
 * saved must not be called any more then (netmap(4) would jump to NULL).  That
 * cannot be excluded, but is made as unlikely as it is without us.
 */
static input_fn *
bpfrs_next_input(const struct bpfrs_if *bif, struct ifnet *ifp)
{
	uintptr_t next;

	next = bif != NULL ? bif->bif_input.sp_saved : 0;
	/* No record: a copy of the pointer, of one that we do not know. */
	if (next == 0 || *PLACE(ifp, if_input) == bpfrs_ether_input)
		next = bpfrs_ether_input;
	return ((input_fn *)next);
}

/* if_input of an Ethernet: one frame, or several in a chain. */
static void
bpfrs_input(struct ifnet *ifp, struct mbuf *m)
{
	struct epoch_tracker et;
	struct bpfrs_if *bif;
	struct mbuf *frame;
	input_fn *next;
	bool entered;

	atomic_thread_fence_acq();
	entered = bpfrs_enter(&et);
	bif = bpfrs_lookup(ifp);
	if (bif != NULL && bif->bif_on && (ifp->if_flags & IFF_UP) != 0)
		for (frame = m; frame != NULL; frame = frame->m_nextpkt)
			/* ether_input() drops the others before its tap. */
			if (frame->m_len >= ETHER_HDR_LEN)
				bpfrs_show_frame(bif, frame);
	next = bpfrs_next_input(bif, ifp);
	bpfrs_exit(entered, &et);
	next(ifp, m);
}

/* if_transmit of an Ethernet. */
static int
bpfrs_transmit(struct ifnet *ifp, struct mbuf *m)
{
	struct epoch_tracker et;
	struct bpfrs_if *bif;
	uintptr_t next;
	bool entered;

	atomic_thread_fence_acq();
	entered = bpfrs_enter(&et);
	bif = bpfrs_lookup(ifp);
	/*
	 * Not what a driver refuses, and not the copy that stock takes for the
	 * outgoing half of a write(2) with BIOCFEEDBACK.
	 */
	if (bif != NULL && bif->bif_on && (ifp->if_flags & IFF_UP) != 0 &&
	    (ifp->if_drv_flags & IFF_DRV_RUNNING) != 0 &&
	    ((m->m_flags & M_PROMISC) == 0 || m->m_pkthdr.rcvif != NULL))
		bpfrs_show_frame(bif, m);
	next = bif != NULL ? bif->bif_output.sp_saved : 0;
	bpfrs_exit(entered, &et);
	if (next == 0) {
		/* The interface is gone: as if_dead(9) would. */
		m_freem(m);
		return (ENXIO);
	}
	return (((transmit_fn *)next)(ifp, m));
}

/* if_output of lo(4). */
static int
bpfrs_output(struct ifnet *ifp, struct mbuf *m, const struct sockaddr *dst,
    struct route *ro)
{
	struct epoch_tracker et;
	struct ifnet *lo = V_loif;
	struct bpfrs_if *bif;
	uint32_t af;
	bool entered;

	atomic_thread_fence_acq();
	/*
	 * The stock tap is in if_simloop(), behind the checks of looutput():
	 * the same packets must be seen here, on the same interface.  That is
	 * lo0 even for a packet that was sent to an address of another
	 * interface (IPv6 passes that one as ifp); a copy of a multicast is
	 * seen only if lo0 itself sent it.  A write(2) to bpf(4) carries the
	 * address family where others have the address.
	 */
	if (dst->sa_family == AF_UNSPEC || dst->sa_family == pseudo_AF_HDRCMPLT)
		memcpy(&af, dst->sa_data, sizeof(af));
	else
		af = dst->sa_family;
	entered = bpfrs_enter(&et);
	bif = bpfrs_lookup(lo);
	if (bif != NULL && bif->bif_on && (af == AF_INET || af == AF_INET6) &&
	    (ro == NULL || (ro->ro_flags & (RT_REJECT | RT_BLACKHOLE)) == 0) &&
	    ((m->m_flags & M_MCAST) == 0 || lo == ifp))
		bpfrs_show_behind(bif, &af, sizeof(af), m, lo == ifp);
	bpfrs_exit(entered, &et);
	return (((output_fn *)bpfrs_lo_output)(ifp, m, dst, ro));
}

/*
 * The consumer.
 */

int
bpfrs_tap_register(const struct bpfrs_consumer *consumer)
{
	static const struct bpfrs_ifnet_layout ours = BPFRS_IFNET_LAYOUT;
	int error;

	if (memcmp(consumer->bc_layout, &ours, sizeof(ours)) != 0) {
		printf("bpfrs_tap: refused a consumer that was built with "
		    "another struct ifnet\n");
		return (ENOEXEC);
	}
	sx_xlock(&bpfrs_sx);
	error = bpfrs_consumer != NULL ? EBUSY : 0;
	if (error == 0)
		atomic_store_rel_ptr((volatile uintptr_t *)&bpfrs_consumer,
		    (uintptr_t)consumer);
	sx_xunlock(&bpfrs_sx);
	return (error);
}

void
bpfrs_tap_unregister(void)
{

	sx_xlock(&bpfrs_sx);
	atomic_store_rel_ptr((volatile uintptr_t *)&bpfrs_consumer, 0);
	while (bpfrs_consumer_calls != 0)
		sx_sleep(&bpfrs_consumer_calls, &bpfrs_sx, 0, "bpfrsc", 0);
	sx_xunlock(&bpfrs_sx);
	epoch_wait_preempt(net_epoch_preempt);
}

/* Tells the consumer, without the lock: it may take the tap off. */
static void
bpfrs_announce(struct bpfrs_if *bif)
{
	const struct bpfrs_consumer *consumer = bpfrs_consumer;

	sx_assert(&bpfrs_sx, SA_XLOCKED);
	if (consumer == NULL)
		return;
	bpfrs_consumer_calls++;
	sx_xunlock(&bpfrs_sx);
	consumer->bc_departed(bif);
	sx_xlock(&bpfrs_sx);
	if (--bpfrs_consumer_calls == 0)
		wakeup(&bpfrs_consumer_calls);
}

/*
 * Interfaces that go, and those that copy.
 */

/* ifnet_departure_event: the interface goes, or moves to another stack. */
static void
bpfrs_ifdeparture(void *arg __unused, struct ifnet *ifp)
{
	struct bpfrs_if *bif;
	bool dying;

	/* A rename announces itself as departure and arrival. */
	if ((ifp->if_flags & IFF_RENAMING) != 0)
		return;
	dying = (ifp->if_flags & IFF_DYING) != 0;
	sx_xlock(&bpfrs_sx);
	bif = bpfrs_lookup(ifp);
	if (bif != NULL) {
		bpfrs_leave_all(bif);
		bif->bif_on = false;
		bif->bif_gone = dying;
		bpfrs_announce(bif);
		/* One that moves keeps its record: who is on top calls us. */
		if (dying) {
			CK_LIST_REMOVE(bif, bif_link);
			bpfrs_tap_rele(bif);
		}
	}
	sx_xunlock(&bpfrs_sx);
}

/* vlan_config: a vlan(4) has copied if_input of its new parent. */
static void
bpfrs_vlan_config(void *arg __unused, struct ifnet *parent, uint16_t vid)
{
	struct epoch_tracker et;
	struct bpfrs_if *from, *bif;
	struct ifnet *ifp;
	uintptr_t there, right;

	sx_xlock(&bpfrs_sx);
	epoch_enter_preempt(net_epoch_preempt, &et);
	ifp = VLAN_DEVAT(parent, vid);
	if (ifp != NULL) {
		there = right = *PLACE(ifp, if_input);
		from = bpfrs_lookup(parent);
		if (right == (uintptr_t)bpfrs_input)
			right = from != NULL && from->bif_input.sp_saved != 0 ?
			    from->bif_input.sp_saved : bpfrs_ether_input;
		bif = bpfrs_lookup(ifp);
		if (bif != NULL) {
			/* Whoever was on top is not there any more. */
			bif->bif_input.sp_stranded = false;
			if (bif->bif_on) {
				bif->bif_input.sp_saved = right;
				right = (uintptr_t)bpfrs_input;
			}
		}
		(void)atomic_cmpset_rel_ptr(PLACE(ifp, if_input), there, right);
	}
	epoch_exit_preempt(net_epoch_preempt, &et);
	sx_xunlock(&bpfrs_sx);
}

/*
 * Producers.
 */

struct bpfrs_if *
bpfrs_attach(const char *name, u_int dlt, u_int hdrlen)
{
	struct bpfrs_if *bif;

	if (strlen(name) >= sizeof(bif->bif_name))
		return (NULL);
	CURVNET_SET(TD_TO_VNET(curthread));
	sx_xlock(&bpfrs_sx);
	CK_LIST_FOREACH(bif, &bpfrs_table[bpfrs_bucket(NULL)], bif_link)
		if (bpfrs_is_called(bif, name))
			break;
	if (bif != NULL)
		bif = NULL;
	else {
		bif = bpfrs_new(NULL);
		bif->bif_dlt = dlt;
		bif->bif_hdrlen = hdrlen;
		bif->bif_vnet = curvnet;
		strlcpy(bif->bif_name, name, sizeof(bif->bif_name));
		bpfrs_insert(bif);
	}
	sx_xunlock(&bpfrs_sx);
	CURVNET_RESTORE();
	return (bif);
}

void
bpfrs_detach(struct bpfrs_if *bif)
{

	sx_xlock(&bpfrs_sx);
	bif->bif_on = false;
	bif->bif_gone = true;
	bpfrs_announce(bif);
	CK_LIST_REMOVE(bif, bif_link);
	sx_xunlock(&bpfrs_sx);
	/* The table's and the producer's. */
	bpfrs_tap_rele(bif);
	bpfrs_tap_rele(bif);
}

bool
bpfrs_peers_present(const struct bpfrs_if *bif)
{

	return (bif->bif_on);
}

void
bpfrs_mtap(struct bpfrs_if *bif, const void *hdr, size_t hdrlen,
    const struct mbuf *m, bool in)
{
	struct epoch_tracker et;

	if (!bif->bif_on)
		return;
	epoch_enter_preempt(net_epoch_preempt, &et);
	bpfrs_show(bif, hdr, hdrlen, m, in);
	epoch_exit_preempt(net_epoch_preempt, &et);
}

/*
 * The module.
 */
static eventhandler_tag	bpfrs_departure_tag, bpfrs_vlan_tag;

static int
bpfrs_tap_unload(void)
{
	struct bpfrs_if *bif, *next;
	u_int i;

	/* The kernel unloads what it could not load, too. */
	if (bpfrs_departure_tag == NULL)
		return (0);
	sx_xlock(&bpfrs_sx);
	if (bpfrs_stays || bpfrs_consumer != NULL ||
	    !CK_LIST_EMPTY(&bpfrs_table[bpfrs_bucket(NULL)])) {
		sx_xunlock(&bpfrs_sx);
		return (EBUSY);
	}
	/* Interfaces that somebody asked for and nobody tapped. */
	for (i = 0; i < TABLE_SIZE; i++)
		CK_LIST_FOREACH_SAFE(bif, &bpfrs_table[i], bif_link, next) {
			CK_LIST_REMOVE(bif, bif_link);
			bpfrs_tap_rele(bif);
		}
	sx_xunlock(&bpfrs_sx);
	EVENTHANDLER_DEREGISTER(ifnet_departure_event, bpfrs_departure_tag);
	EVENTHANDLER_DEREGISTER(vlan_config, bpfrs_vlan_tag);
	epoch_drain_callbacks(net_epoch_preempt);
	return (0);
}

static uintptr_t
bpfrs_kernel_symbol(const char *name)
{

	return ((uintptr_t)linker_file_lookup_symbol(linker_kernel_file, name, 0));
}

static int
bpfrs_tap_modevent(module_t mod __unused, int what, void *arg __unused)
{
	int error;

	switch (what) {
	case MOD_LOAD:
		error = bpfrs_check_layout();
		if (error != 0)
			return (error);
		bpfrs_ether_input = bpfrs_kernel_symbol("ether_input");
		bpfrs_lo_output = bpfrs_kernel_symbol("looutput");
		bpfrs_departure_tag = EVENTHANDLER_REGISTER(
		    ifnet_departure_event, bpfrs_ifdeparture, NULL,
		    EVENTHANDLER_PRI_ANY);
		bpfrs_vlan_tag = EVENTHANDLER_REGISTER(vlan_config,
		    bpfrs_vlan_config, NULL, EVENTHANDLER_PRI_ANY);
		return (0);
	case MOD_QUIESCE:
	case MOD_SHUTDOWN:
		return (0);
	case MOD_UNLOAD:
		return (bpfrs_tap_unload());
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t bpfrs_tap_moduledata = {
	"bpfrs_tap", bpfrs_tap_modevent, NULL
};
DECLARE_MODULE(bpfrs_tap, bpfrs_tap_moduledata, SI_SUB_PSEUDO, SI_ORDER_FIRST);
MODULE_VERSION(bpfrs_tap, BPFRS_TAP_VERSION);
