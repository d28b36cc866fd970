/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Whether struct ifnet is to this module what it is to the kernel.
 *
 * The kernel's own functions set and get the fields of an interface that is
 * made for this and never attached, so that each has a value which is found
 * nowhere else; and those of interfaces that are there.  Releases before 14
 * have fewer of these functions, but their struct ifnet is public.  None has
 * one for if_link and if_lagg.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/epoch.h>
#include <sys/kernel.h>
#include <sys/mbuf.h>
#include "../ifnet.h"
#include <net/if_types.h>
#include <net/vnet.h>

#include "layout.h"

/* Nobody calls them. */
static int
bpfrs_no_transmit(struct ifnet *ifp __unused, struct mbuf *m)
{

	m_freem(m);
	return (ENXIO);
}

#if __FreeBSD_version >= 1400000
static void
bpfrs_no_input(struct ifnet *ifp __unused, struct mbuf *m)
{

	m_freem(m);
}

static int
bpfrs_no_output(struct ifnet *ifp __unused, struct mbuf *m,
    const struct sockaddr *dst __unused, struct route *ro __unused)
{

	m_freem(m);
	return (ENXIO);
}
#endif

/* Asked twice, as others may be changing what is there. */
#define	DIFFERS(ifp, field, kernel)					\
	((ifp)->field != (kernel) && (ifp)->field != (kernel))

/* The field that is not where the kernel has it; NULL: all are. */
static const char *
bpfrs_misplaced(struct ifnet *ifp)
{

	if (DIFFERS(ifp, if_mtu, (uint32_t)if_getmtu(ifp)))
		return ("if_mtu");
	if (DIFFERS(ifp, if_flags, if_getflags(ifp)))
		return ("if_flags");
	if (DIFFERS(ifp, if_drv_flags, if_getdrvflags(ifp)))
		return ("if_drv_flags");
	if (DIFFERS(ifp, if_dname, if_getdname(ifp)))
		return ("if_dname");
	if (DIFFERS(ifp, if_addr, if_getifaddr(ifp)))
		return ("if_addr");
#if __FreeBSD_version >= 1400000
	if (DIFFERS(ifp, if_xname, if_name(ifp)))
		return ("if_xname");
	if (DIFFERS(ifp, if_type, if_gettype(ifp)))
		return ("if_type");
	if (DIFFERS(ifp, if_broadcastaddr, if_getbroadcastaddr(ifp)))
		return ("if_broadcastaddr");
	if (DIFFERS(ifp, if_vnet, if_getvnet(ifp)))
		return ("if_vnet");
	if (DIFFERS(ifp, if_vlantrunk, if_getvlantrunk(ifp)))
		return ("if_vlantrunk");
	if (DIFFERS(ifp, if_input, if_getinputfn(ifp)))
		return ("if_input");
	if (DIFFERS(ifp, if_transmit, if_gettransmitfn(ifp)))
		return ("if_transmit");
#endif
	return (NULL);
}

/* Of what has no function that gets it. */
static const char *
bpfrs_misplaced_unseen(struct ifnet *ifp)
{

#if __FreeBSD_version >= 1400000
	if (ifp->if_output != bpfrs_no_output)
		return ("if_output");
#else
	if (ifp->if_transmit != bpfrs_no_transmit)
		return ("if_transmit");
	if (ifp->if_type != IFT_OTHER)
		return ("if_type");
	if (strcmp(ifp->if_xname, "bpfrs_tap0") != 0)
		return ("if_xname");
	if (ifp->if_vnet != curvnet)
		return ("if_vnet");
#endif
	return (NULL);
}

/* Of an interface with values of our own. */
static const char *
bpfrs_misplaced_new(void)
{
	const char *field;
	struct ifnet *ifp;

	ifp = if_alloc(IFT_OTHER);
	if_initname(ifp, "bpfrs_tap", 0);
	if_setmtu(ifp, 0x62706672);
	if_setflags(ifp, IFF_SIMPLEX | IFF_NOARP);
	if_setdrvflags(ifp, IFF_DRV_OACTIVE);
	if_settransmitfn(ifp, bpfrs_no_transmit);
#if __FreeBSD_version >= 1400000
	if_setinputfn(ifp, bpfrs_no_input);
	if_setoutputfn(ifp, bpfrs_no_output);
#endif
	field = bpfrs_misplaced(ifp);
	if (field == NULL)
		field = bpfrs_misplaced_unseen(ifp);
	if_free(ifp);
	return (field);
}

#if __FreeBSD_version >= 1400000
static int
bpfrs_misplaced_cb(struct ifnet *ifp, void *arg)
{
	const char **field = arg;

	*field = bpfrs_misplaced(ifp);
	return (*field != NULL);
}
#endif

/* Of the interfaces of the first network stack; before 14 only lo0. */
static const char *
bpfrs_misplaced_there(void)
{
	const char *field = NULL;
#if __FreeBSD_version >= 1400000
	struct epoch_tracker et;

	epoch_enter_preempt(net_epoch_preempt, &et);
	if_foreach(bpfrs_misplaced_cb, &field);
	epoch_exit_preempt(net_epoch_preempt, &et);
#else
	if (V_loif != NULL)
		field = bpfrs_misplaced(V_loif);
#endif
	return (field);
}

int
bpfrs_check_layout(void)
{
	const char *field;

	CURVNET_SET(vnet0);
	field = bpfrs_misplaced_new();
	if (field == NULL)
		field = bpfrs_misplaced_there();
	CURVNET_RESTORE();
	if (field == NULL)
		return (0);
	printf("bpfrs_tap: %s is elsewhere in this kernel's struct ifnet: "
	    "built with the headers of another kernel, not loaded\n", field);
	return (ENOEXEC);
}
