/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * mbuf(9) chains, read only.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/mbuf.h>

#include "../kpi.h"

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
