/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * bpfrs_tap.ko: the places where packets are seen.
 *
 * Two kinds of modules use this.  A producer, such as a driver, hands in
 * packets of its own; the consumer, bpfrs.ko, gets what passes an interface or
 * comes from a producer.  Either may be unloaded at any time: this module
 * stays, because the kernel may call it for as long as it runs.
 *
 * "Sleeps" means: thread context, no mutex held, outside any epoch section.
 */
#ifndef BPFRS_TAP_H
#define	BPFRS_TAP_H

#include <sys/types.h>

struct bpfrs_if;
struct bpfrs_ifnet_layout;
struct ifnet;
struct mbuf;

/* For MODULE_DEPEND(9): changes with what is below. */
#define	BPFRS_TAP_VERSION	3

/*
 * Producers.
 */

/*
 * A new place of that name, in the calling thread's network stack; the name of
 * an interface there comes first.  dlt: DLT_*; hdrlen: length of the link
 * header, bytes.  NULL if the name is taken or longer than IFNAMSIZ - 1.
 * Sleeps.
 */
struct bpfrs_if *bpfrs_attach(const char *name, u_int dlt, u_int hdrlen);

/*
 * Ends it: who listens reads ENXIO.  No bpfrs_mtap of it may be under way or
 * come later.  Sleeps.
 */
void	 bpfrs_detach(struct bpfrs_if *);

/* Whether anybody listens: worth making a packet for. */
bool	 bpfrs_peers_present(const struct bpfrs_if *);

/*
 * One packet: hdrlen bytes at hdr (which may be NULL for 0), then the chain m,
 * which is not changed.  in: it was received, not sent.  Its time is that of
 * m's M_TSTMP (13 and later) or tag MTAG_BPF, if it has one.  Anywhere but with
 * spin locks held.
 */
void	 bpfrs_mtap(struct bpfrs_if *, const void *hdr, size_t hdrlen,
	    const struct mbuf *m, bool in);

/*
 * The consumer.
 */
struct bpfrs_consumer {
	/* The struct ifnet that it was built with. */
	const struct bpfrs_ifnet_layout *bc_layout;
	/* One packet, as above; inside the network epoch. */
	void	(*bc_packet)(struct bpfrs_if *, const void *hdr, size_t hdrlen,
		    const struct mbuf *m, int in);
	/* The place is going away, or to another network stack.  May sleep. */
	void	(*bc_departed)(struct bpfrs_if *);
};

/* EBUSY: there is one.  ENOEXEC: its struct ifnet is not the kernel's.  Sleeps. */
int	 bpfrs_tap_register(const struct bpfrs_consumer *);
/* After this the consumer is not called any more, nor being called.  Sleeps. */
void	 bpfrs_tap_unregister(void);

/*
 * The place of that name in the calling thread's network stack, with a
 * reference.  NULL: there is none of that name.  Sleeps.
 */
struct bpfrs_if *bpfrs_tap_find(const char *name);
void	 bpfrs_tap_rele(struct bpfrs_if *);	/* Anywhere. */

/*
 * From here on its packets reach the consumer.  ENXIO: no sound way is known
 * for an interface of its kind, or it is gone.  Sleeps.
 */
int	 bpfrs_tap_on(struct bpfrs_if *);
void	 bpfrs_tap_off(struct bpfrs_if *);	/* Sleeps. */

/* What its packets look like; ENXIO as bpfrs_tap_on. */
int	 bpfrs_tap_dlt(const struct bpfrs_if *, u_int *dlt, u_int *hdrlen);
/* Its interface, as long as the reference; NULL: a producer's. */
struct ifnet *bpfrs_tap_ifnet(const struct bpfrs_if *);
const char *bpfrs_tap_name(const struct bpfrs_if *);

/*
 * The names of all places in the calling thread's network stack whose packets
 * can reach the consumer, the first max of them (0: all), each with its NUL.
 * Returns their length, bytes; *count: how many.  Those that fit into size
 * bytes are written to names.
 */
size_t	 bpfrs_tap_names(u_int max, u_int *count, char *names, size_t size);

#endif /* BPFRS_TAP_H */
