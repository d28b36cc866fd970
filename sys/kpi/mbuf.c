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

void
bpfrs_kpi_mbuf_look(const struct mbuf *m, struct bpfrs_mbuf_look *out)
{

	/* Most packets are one mbuf. */
	out->ml_length = m->m_next == NULL ? m->m_len :
	    m_length(__DECONST(struct mbuf *, m), NULL);
#ifdef M_EXTPG
	/* Unmapped pages have no address; bpfrs_kpi_mbuf_copy() maps them. */
	if ((m->m_flags & M_EXTPG) != 0) {
		out->ml_data = NULL;
		out->ml_first = 0;
		return;
	}
#endif
	out->ml_data = mtod(m, const void *);
	out->ml_first = m->m_len;
}

void
bpfrs_kpi_mbuf_copy(const struct mbuf *m, size_t off, size_t len, void *dst)
{

	m_copydata(m, (int)off, (int)len, dst);
}

/* The kernel's, by the name that needs none of its headers. */
_Static_assert(sizeof(struct bintime) == sizeof(struct bpfrs_bintime) &&
    offsetof(struct bintime, sec) == offsetof(struct bpfrs_bintime, bt_sec) &&
    offsetof(struct bintime, frac) == offsetof(struct bpfrs_bintime, bt_frac),
    "struct bintime");

static struct bintime *
bpfrs_bintime(struct bpfrs_bintime *bt)
{

	return ((struct bintime *)bt);
}

static bool
bpfrs_mbuf_stamp(const struct mbuf *m, struct bintime *bt)
{
	const struct m_tag *tag;

	if ((m->m_flags & M_PKTHDR) == 0)
		return (false);
#if __FreeBSD_version >= 1300000
	if ((m->m_flags & M_TSTMP) != 0) {
		struct timespec ts;

		mbuf_tstmp2timespec(__DECONST(struct mbuf *, m), &ts);
		timespec2bintime(&ts, bt);
		return (true);
	}
#endif
	/* Nearly none has tags. */
	if (SLIST_EMPTY(&m->m_pkthdr.tags))
		return (false);
	tag = m_tag_locate(__DECONST(struct mbuf *, m), MTAG_BPF,
	    MTAG_BPF_TIMESTAMP, NULL);
	if (tag == NULL)
		return (false);
	memcpy(bt, tag + 1, sizeof(*bt));
	return (true);
}

int
bpfrs_kpi_mbuf_time(const struct mbuf *m, int how, struct bpfrs_mbuf_time *out)
{
	struct bintime *uptime = bpfrs_bintime(&out->mt_uptime);
	bool stamped;

	stamped = bpfrs_mbuf_stamp(m, uptime);
	if (!stamped) {
		if (how == BPFRS_TIME_FAST)
			getbinuptime(uptime);
		else
			binuptime(uptime);
	}
	getboottimebin(bpfrs_bintime(&out->mt_boottime));
	return (stamped);
}
