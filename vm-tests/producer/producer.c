/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A driver that hands packets to bpfrs itself: an example of bpfrs_tap.h, and
 * a source of packets that are counted exactly.
 *
 * It attaches the place "producer0".  Writing a number to
 * debug.bpfrs_producer.send makes that many packets, in the writer's thread,
 * at debug.bpfrs_producer.rate a second (0: as fast as they go);
 * debug.bpfrs_producer.sent counts them.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/endian.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/mbuf.h>
#include <sys/module.h>
#include <sys/sx.h>
#include <sys/sysctl.h>
#include <sys/time.h>
#include <net/bpf.h>

#include <tap/bpfrs_tap.h>

/* The link header: the packet's number, big-endian. */
#define	HDRLEN	4

/* Who sends, one at a time; and what unload waits for. */
static struct sx	producer_lock;
SX_SYSINIT(bpfrs_producer, &producer_lock, "bpfrs_producer");

static struct bpfrs_if	*producer_if;	/* NULL: the module is going */
static u_int		producer_rate;
static u_int		producer_length = 64;
static u_int		producer_stamp;
static uint64_t		producer_sent;
static uint32_t		producer_number;

#if __FreeBSD_version >= 1300000
#define	PRODUCER_MPSAFE	CTLFLAG_MPSAFE
#else
#define	PRODUCER_MPSAFE	0
#endif
static SYSCTL_NODE(_debug, OID_AUTO, bpfrs_producer,
    CTLFLAG_RW | PRODUCER_MPSAFE, 0, "Packets for bpfrs");
SYSCTL_UINT(_debug_bpfrs_producer, OID_AUTO, rate, CTLFLAG_RW, &producer_rate,
    0, "Packets a second; 0 for no limit");
SYSCTL_UINT(_debug_bpfrs_producer, OID_AUTO, length, CTLFLAG_RW,
    &producer_length, 0, "Bytes of a packet behind its number, at most MCLBYTES");
SYSCTL_UINT(_debug_bpfrs_producer, OID_AUTO, stamp, CTLFLAG_RW,
    &producer_stamp, 0, "Seconds since boot that packets are stamped with; 0: not");
SYSCTL_U64(_debug_bpfrs_producer, OID_AUTO, sent, CTLFLAG_RD, &producer_sent, 0,
    "Packets handed over");

/* As a card does it (13 and later), or a driver, in turn. */
static void
producer_stamp_it(struct mbuf *m)
{
	struct bintime bt = { .sec = producer_stamp };
	struct m_tag *tag;

#if __FreeBSD_version >= 1300000
	if (producer_number % 2 == 0) {
		m->m_pkthdr.rcv_tstmp = producer_stamp * UINT64_C(1000000000);
		m->m_flags |= M_TSTMP;
		return;
	}
#endif
	tag = m_tag_alloc(MTAG_BPF, MTAG_BPF_TIMESTAMP, sizeof(bt), M_WAITOK);
	memcpy(tag + 1, &bt, sizeof(bt));
	m_tag_prepend(m, tag);
}

/* One packet: received if its number is even, sent otherwise. */
static void
producer_packet(void)
{
	struct mbuf *m;
	uint32_t number;
	u_int i, length;

	length = MIN(producer_length, MCLBYTES);
	m = m_getcl(M_WAITOK, MT_DATA, M_PKTHDR);
	m->m_len = m->m_pkthdr.len = length;
	for (i = 0; i < length; i++)
		mtod(m, uint8_t *)[i] = producer_number + i;
	if (producer_stamp != 0)
		producer_stamp_it(m);
	number = htobe32(producer_number);
	bpfrs_mtap(producer_if, &number, HDRLEN, m, producer_number % 2 == 0);
	m_freem(m);
	producer_number++;
	producer_sent++;
}

static int
producer_send(SYSCTL_HANDLER_ARGS)
{
	const volatile u_int *rate = arg1;
	u_int count = arg2, done;
	sbintime_t begin;
	uint64_t due;
	int error, slept;

	error = sysctl_handle_int(oidp, &count, 0, req);
	if (error != 0 || req->newptr == NULL)
		return (error);
	begin = sbinuptime();
	for (done = 0; done < count && error == 0; done++) {
		for (;;) {
			due = *rate == 0 ? count :
			    (uint64_t)sbttous(sbinuptime() - begin) * *rate /
			    1000000;
			if (done < due)
				break;
			slept = pause_sig("bpfrsp", 1);
			if (slept != 0 && slept != EWOULDBLOCK)
				return (slept);
		}
		sx_xlock(&producer_lock);
		if (producer_if != NULL)
			producer_packet();
		else
			error = ENXIO;
		sx_xunlock(&producer_lock);
	}
	return (error);
}
SYSCTL_PROC(_debug_bpfrs_producer, OID_AUTO, send,
    CTLTYPE_UINT | CTLFLAG_RW | CTLFLAG_MPSAFE, &producer_rate, 0,
    producer_send, "IU", "Send this many packets");

static int
producer_modevent(module_t mod __unused, int what, void *arg __unused)
{
	struct bpfrs_if *bif;

	switch (what) {
	case MOD_LOAD:
		producer_if = bpfrs_attach("producer0", DLT_USER0, HDRLEN);
		return (producer_if != NULL ? 0 : EEXIST);
	case MOD_UNLOAD:
		sx_xlock(&producer_lock);
		bif = producer_if;
		producer_if = NULL;
		sx_xunlock(&producer_lock);
		bpfrs_detach(bif);
		return (0);
	case MOD_QUIESCE:
	case MOD_SHUTDOWN:
		return (0);
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t producer_moduledata = {
	"bpfrs_producer", producer_modevent, NULL
};
DECLARE_MODULE(bpfrs_producer, producer_moduledata, SI_SUB_PSEUDO, SI_ORDER_ANY);
MODULE_VERSION(bpfrs_producer, 1);
MODULE_DEPEND(bpfrs_producer, bpfrs_tap, BPFRS_TAP_VERSION, BPFRS_TAP_VERSION,
    BPFRS_TAP_VERSION);
