/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * struct ifnet.  14 hid it: what is in it may change within a release, and its
 * public functions do not give all that is needed here.  So what these modules
 * were compiled with is compared with the kernel when they are loaded.
 */
#ifndef BPFRS_IFNET_H
#define	BPFRS_IFNET_H

#ifdef BPFRS_SHIFTED_IFNET
/* For a test: one field more than the kernel has. */
#define	if_softc	if_shifted; void *if_softc
#endif
#include <sys/types.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_var.h>
#if __FreeBSD_version >= 1400000
#include <net/if_private.h>
#endif
#undef if_softc

/*
 * What is used of it, and where a file's compiler sees that.
 */
struct bpfrs_ifnet_layout {
	u_short	addr;
	u_short	broadcastaddr;
	u_short	dname;
	u_short	drv_flags;
	u_short	flags;
	u_short	input;
	u_short	lagg;
	u_short	link;
	u_short	mtu;
	u_short	output;
	u_short	transmit;
	u_short	type;
	u_short	vlantrunk;
	u_short	vnet;
	u_short	xname;
};
#define	BPFRS_IFNET_LAYOUT {						\
	.addr =		offsetof(struct ifnet, if_addr),		\
	.broadcastaddr = offsetof(struct ifnet, if_broadcastaddr),	\
	.dname =	offsetof(struct ifnet, if_dname),		\
	.drv_flags =	offsetof(struct ifnet, if_drv_flags),		\
	.flags =	offsetof(struct ifnet, if_flags),		\
	.input =	offsetof(struct ifnet, if_input),		\
	.lagg =		offsetof(struct ifnet, if_lagg),		\
	.link =		offsetof(struct ifnet, if_link),		\
	.mtu =		offsetof(struct ifnet, if_mtu),			\
	.output =	offsetof(struct ifnet, if_output),		\
	.transmit =	offsetof(struct ifnet, if_transmit),		\
	.type =		offsetof(struct ifnet, if_type),		\
	.vlantrunk =	offsetof(struct ifnet, if_vlantrunk),		\
	.vnet =		offsetof(struct ifnet, if_vnet),		\
	.xname =	offsetof(struct ifnet, if_xname),		\
}

#endif /* BPFRS_IFNET_H */
