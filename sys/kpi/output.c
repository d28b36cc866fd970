/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Packets that write(2) sends.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/epoch.h>
#include <sys/fail.h>
#include <sys/kernel.h>
#include <sys/mbuf.h>
#include "../ifnet.h"
#include <net/ethernet.h>
#include <net/if_dl.h>
#include <net/if_vlan_var.h>
#include <net/route.h>
#include <net/vnet.h>

#include "../kpi.h"
#include "../tap/bpfrs_tap.h"

int
bpfrs_kpi_ifnet_ready(struct bpfrs_if *bif)
{
	struct ifnet *ifp;

	ifp = bpfrs_tap_ifnet(bif);
	if (ifp == NULL)
		return (EOPNOTSUPP);
	return ((ifp->if_flags & IFF_UP) != 0 ? 0 : ENETDOWN);
}

struct mbuf *
bpfrs_kpi_packet_alloc(size_t len, void **data)
{
	struct mbuf *m;

	/* The largest cluster there is; the length below is an int. */
	if (len > MJUM16BYTES)
		return (NULL);
#if __FreeBSD_version >= 1400000
	m = m_get3((int)len, M_WAITOK, MT_DATA, M_PKTHDR);
#else
	m = m_get2((int)len, M_WAITOK, MT_DATA, M_PKTHDR);
#endif
	if (m == NULL)
		return (NULL);
	m->m_len = m->m_pkthdr.len = (int)len;
	*data = mtod(m, void *);
	return (m);
}

void
bpfrs_kpi_packet_free(struct mbuf *m)
{

	m_freem(m);
}

/* What ether_output() leaves to who brings a header of his own. */
static void
bpfrs_ether_header(struct ifnet *ifp, struct mbuf *m, int hdrcmplt)
{
	struct ether_header *eh = mtod(m, struct ether_header *);

	if (ETHER_IS_MULTICAST(eh->ether_dhost)) {
		if (memcmp(ifp->if_broadcastaddr, eh->ether_dhost,
		    ETHER_ADDR_LEN) == 0)
			m->m_flags |= M_BCAST;
		else
			m->m_flags |= M_MCAST;
	}
	if (!hdrcmplt)
		memcpy(eh->ether_shost, IF_LLADDR(ifp), ETHER_ADDR_LEN);
}

/*
 * The priority as vlan(4) looks for it: vlan_set_pcp() of 14, for all releases,
 * and for a packet that has no tag yet.
 */
static int
bpfrs_set_pcp(struct mbuf *m, uint8_t pcp)
{
	struct m_tag *mtag;

	mtag = m_tag_alloc(MTAG_8021Q, MTAG_8021Q_PCP_OUT, sizeof(pcp),
	    M_NOWAIT);
	if (mtag == NULL)
		return (ENOMEM);
	memcpy(mtag + 1, &pcp, sizeof(pcp));
	m_tag_prepend(m, mtag);
	return (0);
}

int
bpfrs_kpi_packet_output(struct bpfrs_if *bif, struct mbuf *m,
    const struct bpfrs_output *how)
{
	struct ifnet *ifp = bpfrs_tap_ifnet(bif);
	struct mbuf *copy = NULL;
	struct route ro = { 0 };
	struct sockaddr dst = { 0 };
	int error, hdrcmplt = (how->o_flags & BPFRS_OUTPUT_HDRCMPLT) != 0;

	MPASS(in_epoch(net_epoch_preempt));
	if (how->o_dlt == DLT_EN10MB)
		bpfrs_ether_header(ifp, m, hdrcmplt);

	/*
	 * lo(4) looks for the link header in the address; Ethernet takes it
	 * from in front of the data, where it still is.
	 */
	dst.sa_family = hdrcmplt ? pseudo_AF_HDRCMPLT : AF_UNSPEC;
	memcpy(dst.sa_data, mtod(m, void *), how->o_hdrlen);
	ro.ro_prepend = dst.sa_data;
	ro.ro_plen = how->o_hdrlen;
	ro.ro_flags = RT_HAS_HEADER;

	/* Without memory there is no copy, as in stock. */
	if ((how->o_flags & BPFRS_OUTPUT_FEEDBACK) != 0) {
		copy = m_dup(m, M_NOWAIT);
		/* For a test: there is none. */
		KFAIL_POINT_CODE_FLAGS(DEBUG_FP, bpfrs_feedback,
		    FAIL_POINT_NONSLEEPABLE, m_freem(copy); copy = NULL);
	}
	if (copy != NULL) {
		copy->m_pkthdr.rcvif = ifp;
		/* Taps leave out what has this and no rcvif: see the copy. */
		if ((how->o_flags & BPFRS_OUTPUT_ONCE) != 0)
			m->m_flags |= M_PROMISC;
	}
	/* Not m_adj(9): it leaves m_data alone if no byte is left. */
	m->m_data += how->o_hdrlen;
	m->m_len -= how->o_hdrlen;
	m->m_pkthdr.len -= how->o_hdrlen;

	CURVNET_SET(ifp->if_vnet);
	error = how->o_pcp == 0 ? 0 : bpfrs_set_pcp(m, (uint8_t)how->o_pcp);
	if (error == 0)
		error = (*ifp->if_output)(ifp, m, &dst, &ro);
	else
		m_freem(m);
	if (error == 0 && copy != NULL)
		(*ifp->if_input)(ifp, copy);
	else
		m_freem(copy);
	CURVNET_RESTORE();
	return (error);
}
