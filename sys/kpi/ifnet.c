/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Interfaces, and the tap: where packets are seen.
 *
 * An unmodified kernel offers no hook for a second packet consumer, so the tap
 * takes the place of a function pointer of the interface and calls what was
 * there before.  For lo(4) that is if_output: all that lo0 shows to bpf(4)
 * passes there.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/eventhandler.h>
#include <sys/jail.h>
#include <sys/kernel.h>
#include <sys/mbuf.h>
#include <sys/proc.h>
#include <sys/smp.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_var.h>
#if __FreeBSD_version >= 1400000
/* 14 hid struct ifnet; only the setter of if_output is public. */
#include <net/if_private.h>
#endif
#include <net/if_types.h>
#include <net/route.h>
#include <net/vnet.h>

#include "../kpi.h"
#include "../shim.h"

static eventhandler_tag	bpfrs_departure_tag;

struct ifnet *
bpfrs_kpi_ifnet_byname(const char name[BPFRS_IFNAMSIZ])
{
	struct ifnet *ifp;

	/* The caller's network stack, not the opener's. */
	CURVNET_SET(TD_TO_VNET(curthread));
	ifp = ifunit_ref(name);
	CURVNET_RESTORE();
	return (ifp);
}

void
bpfrs_kpi_ifnet_rele(struct ifnet *ifp)
{

	if_rele(ifp);
}

void
bpfrs_kpi_ifnet_name(struct ifnet *ifp, char name[BPFRS_IFNAMSIZ])
{

	strlcpy(name, ifp->if_xname, BPFRS_IFNAMSIZ);
}

int
bpfrs_kpi_ifnet_promisc(struct ifnet *ifp, int on)
{
	int error;

	CURVNET_SET(ifp->if_vnet);
	error = ifpromisc(ifp, on);
	CURVNET_RESTORE();
	return (error);
}

int
bpfrs_kpi_ifnet_mtu(struct ifnet *ifp)
{

	return (ifp->if_mtu);
}

int
bpfrs_kpi_tap_info(struct ifnet *ifp, struct bpfrs_tap_info *ti)
{

	if (ifp->if_type != IFT_LOOP)
		return (ENXIO);
	ti->ti_dlt = DLT_NULL;
	ti->ti_hdrlen = sizeof(uint32_t);
	return (0);
}

/*
 * lo(4).
 */


/* looutput(), the only if_output that a loopback interface is made with. */
static int (*bpfrs_lo_next)(struct ifnet *, struct mbuf *, const struct sockaddr *,
    struct route *);

static int
bpfrs_lo_output(struct ifnet *ifp, struct mbuf *m, const struct sockaddr *dst,
    struct route *ro)
{
	struct ifnet *lo = V_loif;
	uint32_t af;

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
	if ((af == AF_INET || af == AF_INET6) &&
	    (ro == NULL || (ro->ro_flags & (RT_REJECT | RT_BLACKHOLE)) == 0) &&
	    ((m->m_flags & M_MCAST) == 0 || lo == ifp))
		bpfrs_rs_tap(lo, &af, sizeof(af), m, lo == ifp);
	return (bpfrs_lo_next(ifp, m, dst, ro));
}

int
bpfrs_kpi_tap_on(struct ifnet *ifp)
{

	if (ifp->if_output == bpfrs_lo_output)
		return (0);
	/* Every lo(4) has the same if_output, unless somebody replaced it. */
	if (bpfrs_lo_next != NULL && ifp->if_output != bpfrs_lo_next)
		return (ENXIO);
	bpfrs_lo_next = ifp->if_output;
	/* The pointer is published after what it needs: no reader has a lock. */
	atomic_store_rel_ptr((volatile uintptr_t *)&ifp->if_output,
	    (uintptr_t)bpfrs_lo_output);
	return (0);
}

int
bpfrs_kpi_tap_off(struct ifnet *ifp)
{

	if (ifp->if_output != bpfrs_lo_output)
		return (EBUSY);
	atomic_store_rel_ptr((volatile uintptr_t *)&ifp->if_output,
	    (uintptr_t)bpfrs_lo_next);
	return (0);
}

void
bpfrs_kpi_tap_quiesce(void)
{

	if (bpfrs_lo_next == NULL)
		return;		/* Nothing was tapped since the module came. */
	/*
	 * Packets leave inside the network epoch, on 13 and later always, so
	 * the epoch ends every call that was already on its way.  On 12 IPv6
	 * output has no epoch: let every CPU switch threads too, and give a
	 * preempted one time to run.
	 */
	epoch_wait_preempt(net_epoch_preempt);
#if __FreeBSD_version < 1300000
	quiesce_all_cpus("bpfrsq", 0);
	pause("bpfrsq", MAX(hz / 10, 1));
#endif
}

static void
bpfrs_ifdeparture(void *arg __unused, struct ifnet *ifp)
{

	/* A rename announces itself as departure and arrival. */
	if ((ifp->if_flags & IFF_RENAMING) != 0)
		return;
	bpfrs_rs_ifdeparture(ifp);
}

void
bpfrs_ifnet_attach(void)
{

	bpfrs_departure_tag = EVENTHANDLER_REGISTER(ifnet_departure_event,
	    bpfrs_ifdeparture, NULL, EVENTHANDLER_PRI_ANY);
}

void
bpfrs_ifnet_detach(void)
{

	EVENTHANDLER_DEREGISTER(ifnet_departure_event, bpfrs_departure_tag);
}
