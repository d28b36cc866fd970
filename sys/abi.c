/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The user ABI of <net/bpf.h> as the driver was written for it.  The Rust side
 * asserts the same figures (src/abi.rs); a release that changes one fails to
 * build here instead of corrupting a reader's buffer.
 */
#include <sys/param.h>
#include <sys/event.h>
#include <sys/stddef.h>
#include <sys/socket.h>
#include <net/bpf.h>
#include <net/bpfdesc.h>

#include "kpi.h"

#define	ASSERT_SIZE(type, size)						\
	_Static_assert(sizeof(type) == (size), #type " changed its size")
#define	ASSERT_FIELD(type, field, offset)				\
	_Static_assert(offsetof(type, field) == (offset),		\
	    #type "." #field " moved")
/* Ours is where the header's is. */
#define	ASSERT_SAME(type, field)					\
	ASSERT_FIELD(struct bpfrs_##type, field, offsetof(struct type, field))
#define	ASSERT_IOC(name, value)						\
	_Static_assert((name) == (value), #name " changed its number")

ASSERT_SIZE(struct bpf_insn, 8);
ASSERT_FIELD(struct bpf_insn, jt, 2);
ASSERT_FIELD(struct bpf_insn, jf, 3);
ASSERT_FIELD(struct bpf_insn, k, 4);
ASSERT_SIZE(struct bpf_program, 16);
ASSERT_FIELD(struct bpf_program, bf_insns, 8);
ASSERT_SIZE(struct bpf_stat, 8);
ASSERT_SIZE(struct bpf_version, 4);
ASSERT_SIZE(struct bpf_dltlist, 16);
ASSERT_FIELD(struct bpf_dltlist, bfl_list, 8);
ASSERT_SIZE(struct bpf_zbuf, 24);
ASSERT_FIELD(struct bpf_zbuf, bz_buflen, 16);
ASSERT_SIZE(struct bpf_zbuf_header, 32);
ASSERT_FIELD(struct bpf_zbuf_header, bzh_kernel_len, 4);
ASSERT_FIELD(struct bpf_zbuf_header, bzh_user_gen, 8);
ASSERT_SIZE(struct bpfrs_xbpf_d, sizeof(struct xbpf_d));
ASSERT_SAME(xbpf_d, bd_promisc);
ASSERT_SAME(xbpf_d, bd_hdrcmplt);
ASSERT_SAME(xbpf_d, bd_async);
ASSERT_SAME(xbpf_d, bd_rcount);
ASSERT_SAME(xbpf_d, bd_sig);
ASSERT_SAME(xbpf_d, bd_bufsize);
ASSERT_SAME(xbpf_d, bd_pid);
ASSERT_SAME(xbpf_d, bd_ifname);
ASSERT_SAME(xbpf_d, bd_locked);
ASSERT_SAME(xbpf_d, bd_wcount);
ASSERT_SAME(xbpf_d, bd_zcopy);
ASSERT_SAME(xbpf_d, bd_bufmode);
ASSERT_FIELD(struct bpfrs_xbpf_d, bd_copying,
    offsetof(struct xbpf_d, bd_spare));
ASSERT_SIZE(struct bpf_hdr, 32);
ASSERT_FIELD(struct bpf_hdr, bh_caplen, 16);
ASSERT_FIELD(struct bpf_hdr, bh_datalen, 20);
ASSERT_FIELD(struct bpf_hdr, bh_hdrlen, 24);
ASSERT_SIZE(struct bpf_xhdr, 32);
ASSERT_FIELD(struct bpf_xhdr, bh_caplen, 16);
ASSERT_FIELD(struct bpf_xhdr, bh_datalen, 20);
ASSERT_FIELD(struct bpf_xhdr, bh_hdrlen, 24);
ASSERT_SIZE(struct ifreq, 32);
ASSERT_SIZE(struct bpfrs_ifreq, sizeof(struct ifreq));
ASSERT_FIELD(struct ifreq, ifr_name, 0);
ASSERT_SIZE(struct timeval, 16);
_Static_assert(BPF_ALIGNMENT == 8, "BPF_ALIGNMENT changed");

ASSERT_IOC(BIOCGBLEN, 0x40044266);
ASSERT_IOC(BIOCSBLEN, 0xc0044266);
ASSERT_IOC(BIOCSETF, 0x80104267);
ASSERT_IOC(BIOCFLUSH, 0x20004268);
ASSERT_IOC(BIOCPROMISC, 0x20004269);
ASSERT_IOC(BIOCGDLT, 0x4004426a);
ASSERT_IOC(BIOCGETIF, 0x4020426b);
ASSERT_IOC(BIOCSETIF, 0x8020426c);
ASSERT_IOC(BIOCSRTIMEOUT, 0x8010426d);
ASSERT_IOC(BIOCGRTIMEOUT, 0x4010426e);
ASSERT_IOC(BIOCGSTATS, 0x4008426f);
ASSERT_IOC(BIOCIMMEDIATE, 0x80044270);
ASSERT_IOC(BIOCVERSION, 0x40044271);
ASSERT_IOC(BIOCGRSIG, 0x40044272);
ASSERT_IOC(BIOCSRSIG, 0x80044273);
ASSERT_IOC(BIOCGHDRCMPLT, 0x40044274);
ASSERT_IOC(BIOCSHDRCMPLT, 0x80044275);
ASSERT_IOC(BIOCGDIRECTION, 0x40044276);
ASSERT_IOC(BIOCSDIRECTION, 0x80044277);
ASSERT_IOC(BIOCSDLT, 0x80044278);
ASSERT_IOC(BIOCGDLTLIST, 0xc0104279);
ASSERT_IOC(BIOCLOCK, 0x2000427a);
ASSERT_IOC(BIOCSETWF, 0x8010427b);
ASSERT_IOC(BIOCFEEDBACK, 0x8004427c);
ASSERT_IOC(BIOCGETBUFMODE, 0x4004427d);
ASSERT_IOC(BIOCSETBUFMODE, 0x8004427e);
ASSERT_IOC(BIOCGETZMAX, 0x4008427f);
ASSERT_IOC(BIOCROTZBUF, 0x40184280);
ASSERT_IOC(BIOCSETZBUF, 0x80184281);
ASSERT_IOC(BIOCSETFNR, 0x80104282);
ASSERT_IOC(BIOCGTSTAMP, 0x40044283);
ASSERT_IOC(BIOCSTSTAMP, 0x80044284);
ASSERT_IOC(BIOCSETVLANPCP, 0x80044285);
ASSERT_IOC(BIOCGETIFLIST, 0xc0104286);
ASSERT_IOC(BIOCSETF32, 0x80084267);
ASSERT_IOC(BIOCSRTIMEOUT32, 0x8008426d);
ASSERT_IOC(BIOCGRTIMEOUT32, 0x4008426e);
ASSERT_IOC(BIOCGDLTLIST32, 0xc0084279);
ASSERT_IOC(BIOCSETWF32, 0x8008427b);
ASSERT_IOC(BIOCSETFNR32, 0x80084282);
ASSERT_IOC(BIOCGETIFLIST32, 0xc00c4286);

/* Not of <net/bpf.h>, but of every kevent(2). */
ASSERT_IOC(EVFILT_READ, BPFRS_EVFILT_READ);
ASSERT_IOC(EVFILT_WRITE, BPFRS_EVFILT_WRITE);
