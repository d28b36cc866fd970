/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Interfaces, and what bpfrs_tap.ko sees of them.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/jail.h>
#include <sys/proc.h>
#include "../ifnet.h"
#include <net/vnet.h>

#include "../kpi.h"
#include "../shim.h"
#include "../tap/bpfrs_tap.h"

struct bpfrs_if *
bpfrs_kpi_ifnet_byname(const char name[BPFRS_IFNAMSIZ])
{

	return (bpfrs_tap_find(name));
}

void
bpfrs_kpi_ifnet_rele(struct bpfrs_if *bif)
{

	bpfrs_tap_rele(bif);
}

void
bpfrs_kpi_ifnet_name(struct bpfrs_if *bif, char name[BPFRS_IFNAMSIZ])
{

	strlcpy(name, bpfrs_tap_name(bif), BPFRS_IFNAMSIZ);
}

int
bpfrs_kpi_ifnet_promisc(struct bpfrs_if *bif, int on)
{
	struct ifnet *ifp;
	int error;

	/* A producer has no such mode. */
	ifp = bpfrs_tap_ifnet(bif);
	if (ifp == NULL)
		return (0);
	CURVNET_SET(ifp->if_vnet);
	error = ifpromisc(ifp, on);
	CURVNET_RESTORE();
	return (error);
}

int
bpfrs_kpi_ifnet_visible(struct bpfrs_if *bif)
{
	struct ifnet *ifp;
	struct vnet *vnet;

	vnet = TD_TO_VNET(curthread);
	if (IS_DEFAULT_VNET(vnet))
		return (1);
	ifp = bpfrs_tap_ifnet(bif);
	return (ifp != NULL && ifp->if_vnet == vnet);
}

int
bpfrs_kpi_ifnet_mtu(struct bpfrs_if *bif)
{
	struct ifnet *ifp;

	ifp = bpfrs_tap_ifnet(bif);
	return (ifp != NULL ? ifp->if_mtu : 0);
}

int
bpfrs_kpi_tap_info(struct bpfrs_if *bif, struct bpfrs_tap_info *ti)
{

	return (bpfrs_tap_dlt(bif, &ti->ti_dlt, &ti->ti_hdrlen));
}

int
bpfrs_kpi_tap_on(struct bpfrs_if *bif)
{

	return (bpfrs_tap_on(bif));
}

void
bpfrs_kpi_tap_off(struct bpfrs_if *bif)
{

	bpfrs_tap_off(bif);
}

size_t
bpfrs_kpi_tap_names(u_int max, u_int *count, char *names, size_t size)
{

	return (bpfrs_tap_names(max, count, names, size));
}

static const struct bpfrs_ifnet_layout bpfrs_layout = BPFRS_IFNET_LAYOUT;

static const struct bpfrs_consumer bpfrs_driver = {
	.bc_layout =	&bpfrs_layout,
	.bc_packet =	bpfrs_rs_tap,
	.bc_departed =	bpfrs_rs_ifdeparture,
};

int
bpfrs_ifnet_attach(void)
{

	return (bpfrs_tap_register(&bpfrs_driver));
}

void
bpfrs_ifnet_detach(void)
{

	bpfrs_tap_unregister();
}
