/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * mbuf(9) chains, read only.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/mbuf.h>
#include <sys/time.h>
#include <net/bpf.h>

#include "../kpi.h"
#include "../shim.h"

size_t
bpfrs_kpi_mbuf_length(const struct mbuf *m)
{

	return (m_length(__DECONST(struct mbuf *, m), NULL));
}

size_t
bpfrs_kpi_mbuf_first(const struct mbuf *m, const void **data)
{

#ifdef M_EXTPG
	/* Unmapped pages have no address; bpfrs_kpi_mbuf_copy() maps them. */
	if ((m->m_flags & M_EXTPG) != 0) {
		*data = NULL;
		return (0);
	}
#endif
	*data = mtod(m, const void *);
	return (m->m_len);
}

void
bpfrs_kpi_mbuf_copy(const struct mbuf *m, size_t off, size_t len, void *dst)
{

	m_copydata(m, (int)off, (int)len, dst);
}

int
bpfrs_kpi_mbuf_time(const struct mbuf *m, struct bpfrs_bintime *out)
{
	const struct m_tag *tag;
	struct bintime bt;

	if ((m->m_flags & M_PKTHDR) == 0)
		return (0);
#if __FreeBSD_version >= 1300000
	if ((m->m_flags & M_TSTMP) != 0) {
		struct timespec ts;

		mbuf_tstmp2timespec(__DECONST(struct mbuf *, m), &ts);
		timespec2bintime(&ts, &bt);
		bpfrs_put_bintime(out, &bt);
		return (1);
	}
#endif
	/* Nearly none has tags. */
	if (SLIST_EMPTY(&m->m_pkthdr.tags))
		return (0);
	tag = m_tag_locate(__DECONST(struct mbuf *, m), MTAG_BPF,
	    MTAG_BPF_TIMESTAMP, NULL);
	if (tag == NULL)
		return (0);
	memcpy(&bt, tag + 1, sizeof(bt));
	bpfrs_put_bintime(out, &bt);
	return (1);
}
