/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The border between the kernel (C, this directory) and the driver (Rust, src/).
 *
 * Everything the driver asks of the kernel goes through a bpfrs_kpi_*
 * function below, and everything the kernel asks of the driver through a
 * bpfrs_rs_* function.  Kernel structures stay opaque: their layout differs
 * between releases and never reaches Rust.  The one layout that is shared is
 * the user ABI of <net/bpf.h>.
 *
 * This file holds prototypes and constants only; what differs between FreeBSD
 * releases is decided inside one shim file of sys/kpi/.
 *
 * Errors are errno values, 0 for success, unless said otherwise.
 * "Sleeps" means: thread context, no mutex held, outside any epoch section.
 */
#ifndef BPFRS_KPI_H
#define	BPFRS_KPI_H

/* Opaque here, whatever the headers below make of them. */
struct bpfrs_if;
struct bpfrs_monitor;
struct bpfrs_pages;
struct cdev;
struct knote;
struct mbuf;
struct uio;
struct vnode;

#include <sys/types.h>
#include <sys/param.h>
#include <sys/errno.h>
#include <sys/fcntl.h>
#include <sys/filio.h>
#include <sys/poll.h>
#include <sys/queue.h>
#include <sys/signal.h>
#include <sys/time.h>
#include <sys/ttycom.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/bpf.h>

/* Storage that Rust lends to epoch(9); module.c asserts that it is enough. */
struct bpfrs_epoch_tracker {
	uint64_t	et_opaque[8];
};
struct bpfrs_epoch_context {
	void		*ec_opaque[2];
};

/* A time since boot or since the Epoch: seconds and 2^-64ths of a second. */
struct bpfrs_bintime {
	int64_t		bt_sec;
	uint64_t	bt_frac;
};

/* When a packet was seen: so long after boot, and when that was. */
struct bpfrs_mbuf_time {
	struct bpfrs_bintime	mt_uptime;
	struct bpfrs_bintime	mt_boottime;
};

/* What every filter looks at of an mbuf(9) chain. */
struct bpfrs_mbuf_look {
	const void	*ml_data;	/* of the first mbuf; NULL: not mapped */
	size_t		ml_first;	/* bytes there */
	size_t		ml_length;	/* of the whole chain */
};

/* What a tap needs to know of an interface. */
struct bpfrs_tap_info {
	uint32_t	ti_dlt;		/* DLT_* of the frames */
	uint32_t	ti_hdrlen;	/* link header length, bytes */
};

/* How write(2) wants its packet sent. */
struct bpfrs_output {
	uint32_t	o_dlt;		/* DLT_* of the interface */
	uint32_t	o_hdrlen;	/* link header length, bytes */
	uint32_t	o_flags;	/* BPFRS_OUTPUT_* */
	uint32_t	o_pcp;		/* BIOCSETVLANPCP; 0: none */
};
#define	BPFRS_OUTPUT_HDRCMPLT	1	/* the source address stays */
#define	BPFRS_OUTPUT_FEEDBACK	2	/* a copy comes in as if received */
#define	BPFRS_OUTPUT_ONCE	4	/* and only that is seen by taps */

/* A set-up ioctl names an interface in this many bytes, NUL included. */
#define	BPFRS_IFNAMSIZ		IFNAMSIZ

/* struct ifreq without its union: the driver reads and writes the name only. */
struct bpfrs_ifreq {
	char		ifr_name[BPFRS_IFNAMSIZ];
	char		ifr_rest[16];
};

/* Argument of BIOCGETIFLIST: struct bpf_iflist, which releases before 16 lack. */
struct bpfrs_iflist {
	uint32_t	bi_size;	/* bytes at bi_ubuf; 0: asks for the length */
	uint32_t	bi_count;	/* at most so many; 0: all */
	void		*bi_ubuf;	/* names, each with its NUL */
};
#ifndef BIOCGETIFLIST
#define	BIOCGETIFLIST	_IOWR('B', 134, struct bpfrs_iflist)
#endif

/*
 * What a 32-bit process of amd64 has instead: arguments of ioctl(2), and the
 * header of a record.  Elsewhere the driver knows no 32-bit processes.
 */
struct bpfrs_timeval32 {
	int32_t		tv_sec;
	int32_t		tv_usec;
};
struct bpfrs_program32 {
	uint32_t	bf_len;
	uint32_t	bf_insns;
};
struct bpfrs_dltlist32 {
	uint32_t	bfl_len;
	uint32_t	bfl_list;
};
struct bpfrs_iflist32 {
	uint32_t	bi_size;
	uint32_t	bi_count;
	uint32_t	bi_ubuf;
};
struct bpfrs_hdr32 {
	struct bpfrs_timeval32 bh_tstamp;
	uint32_t	bh_caplen;
	uint32_t	bh_datalen;
	uint16_t	bh_hdrlen;
};
#define	BIOCSETF32	_IOW('B', 103, struct bpfrs_program32)
#define	BIOCSRTIMEOUT32	_IOW('B', 109, struct bpfrs_timeval32)
#define	BIOCGRTIMEOUT32	_IOR('B', 110, struct bpfrs_timeval32)
#define	BIOCGDLTLIST32	_IOWR('B', 121, struct bpfrs_dltlist32)
#define	BIOCSETWF32	_IOW('B', 123, struct bpfrs_program32)
#define	BIOCSETFNR32	_IOW('B', 130, struct bpfrs_program32)
#ifndef BIOCGETIFLIST32
#define	BIOCGETIFLIST32	_IOWR('B', 134, struct bpfrs_iflist32)
#endif

/*
 * A descriptor as sysctl(3) net.bpfrs.stats describes it: struct xbpf_d of
 * <net/bpfdesc.h>, whose spare words count what stock does not.  No byte of it
 * is without a name: it goes to users.
 */
struct bpfrs_xbpf_d {
	uint32_t	bd_structsize;
	uint8_t		bd_promisc;
	uint8_t		bd_immediate;
	uint8_t		bd_pad[6];
	int32_t		bd_hdrcmplt;
	int32_t		bd_direction;
	int32_t		bd_feedback;
	int32_t		bd_async;
	uint32_t	bd_pad1;
	uint64_t	bd_rcount;
	uint64_t	bd_dcount;
	uint64_t	bd_fcount;
	int32_t		bd_sig;
	int32_t		bd_slen;
	int32_t		bd_hlen;
	int32_t		bd_bufsize;
	int32_t		bd_pid;
	char		bd_ifname[BPFRS_IFNAMSIZ];
	int32_t		bd_locked;
	uint64_t	bd_wcount;
	uint64_t	bd_wfcount;
	uint64_t	bd_wdcount;
	uint64_t	bd_zcopy;
	int32_t		bd_bufmode;
	uint32_t	bd_pad2;
	uint64_t	bd_copying;	/* dropped while a reader copied out */
	uint64_t	bd_detached;	/* dropped without an interface */
	uint64_t	bd_cut;		/* kept, cut to the buffer's size */
	uint64_t	bd_spare;
};

/* The most pages of a zero-copy buffer, as in stock. */
#define	BPFRS_MAXPAGES		512

/* Nodes /dev/bpfrs0 ... /dev/bpfrs255. */
#define	BPFRS_MAXUNITS		256

/*
 * Constants whose macros bindgen cannot evaluate (they contain sizeof or
 * casts), and those that older releases lack.
 */
#ifndef BIOCSETVLANPCP
#define	BIOCSETVLANPCP		_IOW('B', 133, u_int)
#endif

#define	BPFRS_IOC(name)		BPFRS_##name = (unsigned long)(name)
enum bpfrs_ioc : unsigned long {
	BPFRS_IOC(BIOCGBLEN), BPFRS_IOC(BIOCSBLEN), BPFRS_IOC(BIOCSETF),
	BPFRS_IOC(BIOCFLUSH), BPFRS_IOC(BIOCPROMISC), BPFRS_IOC(BIOCGDLT),
	BPFRS_IOC(BIOCGETIF), BPFRS_IOC(BIOCSETIF), BPFRS_IOC(BIOCSRTIMEOUT),
	BPFRS_IOC(BIOCGRTIMEOUT), BPFRS_IOC(BIOCGSTATS),
	BPFRS_IOC(BIOCIMMEDIATE), BPFRS_IOC(BIOCVERSION),
	BPFRS_IOC(BIOCGRSIG), BPFRS_IOC(BIOCSRSIG),
	BPFRS_IOC(BIOCGHDRCMPLT), BPFRS_IOC(BIOCSHDRCMPLT),
	BPFRS_IOC(BIOCGDIRECTION), BPFRS_IOC(BIOCSDIRECTION),
	BPFRS_IOC(BIOCSDLT), BPFRS_IOC(BIOCGDLTLIST), BPFRS_IOC(BIOCLOCK),
	BPFRS_IOC(BIOCSETWF), BPFRS_IOC(BIOCFEEDBACK),
	BPFRS_IOC(BIOCGETBUFMODE), BPFRS_IOC(BIOCSETBUFMODE),
	BPFRS_IOC(BIOCGETZMAX), BPFRS_IOC(BIOCROTZBUF),
	BPFRS_IOC(BIOCSETZBUF), BPFRS_IOC(BIOCSETFNR),
	BPFRS_IOC(BIOCGTSTAMP), BPFRS_IOC(BIOCSTSTAMP),
	BPFRS_IOC(BIOCSETVLANPCP), BPFRS_IOC(BIOCGETIFLIST),
	BPFRS_IOC(BIOCSETF32), BPFRS_IOC(BIOCSRTIMEOUT32),
	BPFRS_IOC(BIOCGRTIMEOUT32), BPFRS_IOC(BIOCGDLTLIST32),
	BPFRS_IOC(BIOCSETWF32), BPFRS_IOC(BIOCSETFNR32),
	BPFRS_IOC(BIOCGETIFLIST32),
	BPFRS_IOC(FIONREAD), BPFRS_IOC(FIONBIO), BPFRS_IOC(FIOASYNC),
	BPFRS_IOC(FIOSETOWN), BPFRS_IOC(FIOGETOWN),
	BPFRS_IOC(TIOCSPGRP), BPFRS_IOC(TIOCGPGRP),
};
#undef BPFRS_IOC

#define	BPFRS_CONST(name)	BPFRS_##name = (int)(name)
enum bpfrs_const : int {
	BPFRS_CONST(EPERM), BPFRS_CONST(EINTR), BPFRS_CONST(ENXIO),
	BPFRS_CONST(EIO), BPFRS_CONST(ENOMEM), BPFRS_CONST(EFAULT),
	BPFRS_CONST(EBUSY), BPFRS_CONST(EINVAL), BPFRS_CONST(EWOULDBLOCK),
	BPFRS_CONST(EMSGSIZE), BPFRS_CONST(ENETDOWN), BPFRS_CONST(ENOSPC),
	BPFRS_CONST(EOPNOTSUPP), BPFRS_CONST(ERESTART),
	BPFRS_CONST(POLLIN), BPFRS_CONST(POLLRDNORM), BPFRS_CONST(POLLOUT),
	BPFRS_CONST(POLLWRNORM), BPFRS_CONST(POLLHUP),
	BPFRS_CONST(O_NONBLOCK), BPFRS_CONST(FREAD), BPFRS_CONST(FWRITE),
	BPFRS_CONST(SIGIO), BPFRS_CONST(NSIG),
	BPFRS_CONST(DLT_NULL), BPFRS_CONST(DLT_EN10MB),
	BPFRS_CONST(BPF_MAJOR_VERSION), BPFRS_CONST(BPF_MINOR_VERSION),
	BPFRS_CONST(BPF_MINBUFSIZE), BPFRS_CONST(BPF_MEMWORDS),
	BPFRS_CONST(BPF_BUFMODE_BUFFER), BPFRS_CONST(BPF_BUFMODE_ZBUF),
	BPFRS_CONST(BPF_D_IN), BPFRS_CONST(BPF_D_INOUT),
	BPFRS_CONST(BPF_D_OUT),
	BPFRS_CONST(BPF_T_MICROTIME), BPFRS_CONST(BPF_T_NANOTIME),
	BPFRS_CONST(BPF_T_BINTIME), BPFRS_CONST(BPF_T_NONE),
	BPFRS_CONST(BPF_T_FORMAT_MASK), BPFRS_CONST(BPF_T_FAST),
	BPFRS_CONST(BPF_T_MONOTONIC),
};
#undef BPFRS_CONST

/* Counters shown as net.bpfrs.*; the driver owns the memory. */
enum bpfrs_stat {
	BPFRS_STAT_OPENS,		/* opens that succeeded */
	BPFRS_STAT_LIVE,		/* opens that are not dead */
	BPFRS_STAT_DESCRIPTORS,		/* bpf_d that still have memory */
	BPFRS_STAT_REVOKES,		/* d_close calls with FREVOKE */
	BPFRS_STAT_REVOKED_OPENS,	/* opens that lost to a revoke */
	BPFRS_STAT_CLOSES_ZERO,		/* finished opens by d_close calls */
	BPFRS_STAT_CLOSES_ONE,
	BPFRS_STAT_CLOSES_TWO,
	BPFRS_STAT_CLOSES_MORE,
	BPFRS_STAT_CLOSES_ORPHAN,	/* d_close calls for no known open */
	BPFRS_NSTATS
};
extern uint64_t bpfrs_stats[BPFRS_NSTATS];

/* Settings that the administrator may change at any time. */
enum bpfrs_tunable {
	BPFRS_TUNABLE_BUFSIZE,		/* net.bpfrs.bufsize */
	BPFRS_TUNABLE_MAXBUFSIZE,	/* net.bpfrs.maxbufsize */
	BPFRS_TUNABLE_MAXINSNS,		/* net.bpfrs.maxinsns */
	BPFRS_TUNABLE_JIT,		/* net.bpfrs.jit */
	BPFRS_TUNABLE_OPTIMIZE_WRITERS,	/* net.bpfrs.optimize_writers */
	BPFRS_TUNABLE_ZEROCOPY_ENABLE,	/* net.bpfrs.zerocopy_enable */
};
uint32_t bpfrs_kpi_tunable(enum bpfrs_tunable);

/* panic(9) with one line; msg need not end in NUL. */
void	 bpfrs_kpi_panic(const char *msg, size_t len) __attribute__((noreturn));

/* malloc(9), type M_BPFRS, zeroed.  Sleeps; never NULL. */
void	*bpfrs_kpi_malloc(size_t size);
void	*bpfrs_kpi_malloc_nowait(size_t size);	/* May be NULL; does not sleep. */
void	 bpfrs_kpi_free(void *);

/*
 * Memory for machine code: written, then sealed, which makes it executable and
 * read only.  NULL where there is none.  Free does not sleep.
 */
void	*bpfrs_kpi_code_alloc(size_t size);
int	 bpfrs_kpi_code_seal(void *, size_t size);
void	 bpfrs_kpi_code_free(void *, size_t size);

/* epoch(9): net_epoch_preempt. */
void	 bpfrs_kpi_epoch_enter(struct bpfrs_epoch_tracker *);
void	 bpfrs_kpi_epoch_exit(struct bpfrs_epoch_tracker *);
void	 bpfrs_kpi_epoch_call(struct bpfrs_epoch_context *,
	    void (*)(struct bpfrs_epoch_context *));
void	 bpfrs_kpi_epoch_drain(void);		/* Sleeps. */

/*
 * A monitor: one mtx(9) with all that waits for what it protects: sleepers,
 * select(2)/poll(2), knotes and one callout(9).
 */
struct bpfrs_monitor *bpfrs_kpi_monitor_alloc(void);	/* Sleeps. */
void	 bpfrs_kpi_monitor_free(struct bpfrs_monitor *);
void	 bpfrs_kpi_monitor_lock(struct bpfrs_monitor *);
void	 bpfrs_kpi_monitor_unlock(struct bpfrs_monitor *);
/* These need the lock. */
int	 bpfrs_kpi_monitor_sleep(struct bpfrs_monitor *, int ticks);
void	 bpfrs_kpi_monitor_wakeup(struct bpfrs_monitor *);
void	 bpfrs_kpi_monitor_selrecord(struct bpfrs_monitor *);
/* When the time is over, expired is called with the lock held, unless stopped. */
void	 bpfrs_kpi_monitor_timer_start(struct bpfrs_monitor *, int ticks,
	    void (*expired)(void *), void *arg);
void	 bpfrs_kpi_monitor_timer_stop(struct bpfrs_monitor *);
void	 bpfrs_kpi_monitor_sigio(struct bpfrs_monitor *, int sig);
/* Who gets that signal: a process, or minus a process group.  Sleeps, unlocked. */
int	 bpfrs_kpi_monitor_setown(struct bpfrs_monitor *, int owner);
int	 bpfrs_kpi_monitor_getown(struct bpfrs_monitor *);
/* Ends all waiting for good: nobody may wait after it.  Sleeps, unlocked. */
void	 bpfrs_kpi_monitor_drain(struct bpfrs_monitor *);

/*
 * kqueue(2): the knotes of a monitor, all about one open file.  A wakeup asks
 * bpfrs_rs_kqevent of each.  What add was given is given back once: through
 * bpfrs_rs_kqdetach, or in the count that drop returns.
 */
void	 bpfrs_kpi_monitor_knote_add(struct bpfrs_monitor *, struct knote *,
	    void *hook);			/* Needs the lock. */
void	 bpfrs_kpi_monitor_knote_remove(struct bpfrs_monitor *,
	    struct knote *);			/* Takes the lock. */
/* Takes all from their kqueues: how many were left.  Sleeps, unlocked. */
u_int	 bpfrs_kpi_monitor_knotes_drop(struct bpfrs_monitor *);
/* A knote's filter: EVFILT_*. */
#define	BPFRS_EVFILT_READ	(-1)
#define	BPFRS_EVFILT_WRITE	(-2)
/* What it is told. */
#define	BPFRS_KNOTE_QUIET	0
#define	BPFRS_KNOTE_READY	1
#define	BPFRS_KNOTE_EOF		2

/* The module's one sx(9), exclusive.  Sleeps. */
void	 bpfrs_kpi_control_lock(void);
void	 bpfrs_kpi_control_unlock(void);

/* User memory.  Sleeps (page faults). */
int	 bpfrs_kpi_copyin(const void *uaddr, void *kaddr, size_t len);
int	 bpfrs_kpi_copyout(const void *kaddr, void *uaddr, size_t len);
ssize_t	 bpfrs_kpi_uio_resid(const struct uio *);
/* From kaddr in d_read, to kaddr in d_write. */
int	 bpfrs_kpi_uiomove(void *kaddr, size_t len, struct uio *);

/*
 * User memory that stays: len bytes at uaddr of the calling process, whole
 * pages, wired and mapped at *kaddr until they are released, whatever the
 * process does.  It may write there at any time.  Sleeps.
 */
int	 bpfrs_kpi_pages_hold(uintptr_t uaddr, size_t len, void **kaddr,
	    struct bpfrs_pages **);	/* EFAULT; ENOMEM */
void	 bpfrs_kpi_pages_release(struct bpfrs_pages *);	/* Unlocked. */
size_t	 bpfrs_kpi_page_size(void);

/* The calling process, and whether it is one of 32 bits. */
int	 bpfrs_kpi_pid(void);
int	 bpfrs_kpi_compat32(void);
#define	BPFRS_COMPAT32_UNKNOWN	0	/* the kernel runs none */
#define	BPFRS_COMPAT32_NO	1
#define	BPFRS_COMPAT32_YES	2

/* devfs(5).  A new node comes with a reference for the caller.  Sleeps. */
int	 bpfrs_kpi_node_create(int unit, struct cdev **);
void	 bpfrs_kpi_node_destroy(struct cdev *);	/* waits until unused */
void	**bpfrs_kpi_cdev_drv1(struct cdev *);
void	 bpfrs_kpi_cdev_ref(struct cdev *);
void	 bpfrs_kpi_cdev_rel(struct cdev *);
/* The open file of this call: its private value, and the vnode it came by. */
int	 bpfrs_kpi_cdevpriv_set(void *);	/* dtor: bpfrs_rs_dtor */
void	*bpfrs_kpi_cdevpriv_get(struct cdev *);	/* NULL: none */
struct vnode *bpfrs_kpi_vnode_hold(void);	/* in d_open; NULL: none */
int	 bpfrs_kpi_vnode_doomed(struct vnode *);
void	 bpfrs_kpi_vnode_drop(struct vnode *);	/* Sleeps. */
/* Fail points: hold an open that is not yet published, a close on its way. */
void	 bpfrs_kpi_fail_open(void);
void	 bpfrs_kpi_fail_close(void);

/*
 * Where packets are seen: an interface, or what a producer attached
 * (tap/bpfrs_tap.h).  Sleeps.
 */
struct bpfrs_if *bpfrs_kpi_ifnet_byname(const char name[BPFRS_IFNAMSIZ]);
void	 bpfrs_kpi_ifnet_rele(struct bpfrs_if *);	/* Anywhere. */
void	 bpfrs_kpi_ifnet_name(struct bpfrs_if *, char name[BPFRS_IFNAMSIZ]);
int	 bpfrs_kpi_ifnet_promisc(struct bpfrs_if *, int on);
/* Whether the calling thread may know of it: from a jail only its own stack. */
int	 bpfrs_kpi_ifnet_visible(struct bpfrs_if *);	/* Anywhere. */
int	 bpfrs_kpi_ifnet_mtu(struct bpfrs_if *);	/* Anywhere. */
/* ENXIO: bpfrs has no sound tap for this interface. */
int	 bpfrs_kpi_tap_info(struct bpfrs_if *, struct bpfrs_tap_info *);
int	 bpfrs_kpi_tap_on(struct bpfrs_if *);	/* ENXIO: also when it is gone */
void	 bpfrs_kpi_tap_off(struct bpfrs_if *);
/* The names of those with a tap: as bpfrs_tap_names. */
size_t	 bpfrs_kpi_tap_names(u_int max, u_int *count, char *names, size_t size);

/* mbuf(9) chains, read only. */
void	 bpfrs_kpi_mbuf_look(const struct mbuf *, struct bpfrs_mbuf_look *);
void	 bpfrs_kpi_mbuf_copy(const struct mbuf *, size_t off, size_t len,
	    void *);
/*
 * The time since boot: what its card or its driver gave it (1), or now (0);
 * and the time of boot, which makes it a time of day.
 */
#define	BPFRS_TIME_PRECISE	0
#define	BPFRS_TIME_FAST		1		/* as of the last tick */
int	 bpfrs_kpi_mbuf_time(const struct mbuf *, int how,
	    struct bpfrs_mbuf_time *out);

/*
 * A packet that write(2) builds: one mbuf(9) of len bytes, link header first.
 * It is the driver's until it is freed or sent.
 */
struct mbuf *bpfrs_kpi_packet_alloc(size_t len, void **data); /* Sleeps. */
						/* NULL: longer than mbufs are */
void	 bpfrs_kpi_packet_free(struct mbuf *);
/* ENETDOWN; EOPNOTSUPP: a producer's.  Anywhere. */
int	 bpfrs_kpi_ifnet_ready(struct bpfrs_if *);
/*
 * Sends and takes it, whatever the result.  Inside the epoch: an interface
 * that had not departed in the same section keeps its addresses.
 */
int	 bpfrs_kpi_packet_output(struct bpfrs_if *, struct mbuf *,
	    const struct bpfrs_output *);

/* Time. */
int	 bpfrs_kpi_timeval2ticks(int64_t sec, int64_t usec, int *ticks);
int	 bpfrs_kpi_hz(void);
void	 bpfrs_kpi_pause(int ticks);		/* Sleeps. */

/*
 * What the kernel asks of the driver.
 */
int	 bpfrs_rs_load(void);
int	 bpfrs_rs_unload(int force);
/* A referenced cdev for /dev/bpfrs<unit>, or NULL. */
struct cdev *bpfrs_rs_clone(int unit);
int	 bpfrs_rs_open(struct cdev *, int oflags);	/* FREAD, FWRITE */
int	 bpfrs_rs_close(struct cdev *, int revoke);
void	 bpfrs_rs_purge(struct cdev *);
int	 bpfrs_rs_read(struct cdev *, struct uio *, int ioflag);
int	 bpfrs_rs_write(struct cdev *, struct uio *);
int	 bpfrs_rs_ioctl(struct cdev *, unsigned long cmd, void *data);
int	 bpfrs_rs_poll(struct cdev *, int events);
int	 bpfrs_rs_kqfilter(struct cdev *, struct knote *, int filter);
/* With the monitor's lock: BPFRS_KNOTE_*, and what is to be read or written. */
int	 bpfrs_rs_kqevent(void *hook, int filter, int64_t *data);
void	 bpfrs_rs_kqdetach(void *hook, struct knote *);
void	 bpfrs_rs_dtor(void *priv);
/*
 * sysctl(3) net.bpfrs.stats: describes attached descriptors, as many as there
 * is room for; how many there are.  Sleeps.
 */
size_t	 bpfrs_rs_stats(struct bpfrs_xbpf_d *, size_t room);
void	 bpfrs_rs_stats_reset(void);
/* It goes, or to another network stack.  May sleep. */
void	 bpfrs_rs_ifdeparture(struct bpfrs_if *);
/*
 * One packet: hdrlen bytes at hdr (NULL for none), then the chain m.  in: it
 * was received, not sent.  Inside the network epoch.
 */
void	 bpfrs_rs_tap(struct bpfrs_if *, const void *hdr, size_t hdrlen,
	    const struct mbuf *m, int in);

#endif /* BPFRS_KPI_H */
