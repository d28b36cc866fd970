/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Locks: the monitor (an mtx(9) with its sleepers, selecters, knotes, SIGIO
 * owner and callout) and the control lock, an sx(9).
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/callout.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mutex.h>
#include <sys/priority.h>
#include <sys/proc.h>
#include <sys/selinfo.h>
#include <sys/signalvar.h>
#include <sys/sx.h>

#include "../kpi.h"
#include "../shim.h"

/* The priority of network waits; 15 merged it with that of sockets. */
#ifdef PRINET
#define	BPFRS_PRI	PRINET
#else
#define	BPFRS_PRI	PSOCK
#endif

struct bpfrs_monitor {
	struct mtx	mo_mtx;
	struct selinfo	mo_sel;		/* with the list of knotes */
	u_int		mo_knotes;	/* on that list */
	struct sigio	*mo_sigio;
	struct callout	mo_callout;
};

struct bpfrs_monitor *
bpfrs_kpi_monitor_alloc(void)
{
	struct bpfrs_monitor *mo;

	mo = malloc(sizeof(*mo), M_BPFRS, M_WAITOK | M_ZERO);
	mtx_init(&mo->mo_mtx, "bpfrs monitor", NULL, MTX_DEF);
	callout_init_mtx(&mo->mo_callout, &mo->mo_mtx, 0);
	knlist_init_mtx(&mo->mo_sel.si_note, &mo->mo_mtx);
	return (mo);
}

void
bpfrs_kpi_monitor_free(struct bpfrs_monitor *mo)
{

	knlist_destroy(&mo->mo_sel.si_note);
	mtx_destroy(&mo->mo_mtx);
	free(mo, M_BPFRS);
}

void
bpfrs_kpi_monitor_lock(struct bpfrs_monitor *mo)
{

	mtx_lock(&mo->mo_mtx);
}

void
bpfrs_kpi_monitor_unlock(struct bpfrs_monitor *mo)
{

	mtx_unlock(&mo->mo_mtx);
}

int
bpfrs_kpi_monitor_sleep(struct bpfrs_monitor *mo, int ticks)
{

	return (msleep(mo, &mo->mo_mtx, BPFRS_PRI | PCATCH, "bpf", ticks));
}

void
bpfrs_kpi_monitor_wakeup(struct bpfrs_monitor *mo)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	wakeup(mo);
	selwakeuppri(&mo->mo_sel, BPFRS_PRI);
	KNOTE_LOCKED(&mo->mo_sel.si_note, 0);
}

void
bpfrs_kpi_monitor_selrecord(struct bpfrs_monitor *mo)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	selrecord(curthread, &mo->mo_sel);
}

void
bpfrs_kpi_monitor_timer_start(struct bpfrs_monitor *mo, int ticks,
    void (*expired)(void *), void *arg)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	callout_reset(&mo->mo_callout, ticks, expired, arg);
}

void
bpfrs_kpi_monitor_timer_stop(struct bpfrs_monitor *mo)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	callout_stop(&mo->mo_callout);
}

void
bpfrs_kpi_monitor_sigio(struct bpfrs_monitor *mo, int sig)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	pgsigio(&mo->mo_sigio, sig, 0);
}

int
bpfrs_kpi_monitor_setown(struct bpfrs_monitor *mo, int owner)
{

	return (fsetown(owner, &mo->mo_sigio));
}

int
bpfrs_kpi_monitor_getown(struct bpfrs_monitor *mo)
{

	return (fgetown(&mo->mo_sigio));
}

void
bpfrs_kpi_monitor_drain(struct bpfrs_monitor *mo)
{

	callout_drain(&mo->mo_callout);
	seldrain(&mo->mo_sel);
	funsetown(&mo->mo_sigio);
}

void
bpfrs_kpi_monitor_knote_add(struct bpfrs_monitor *mo, struct knote *kn,
    void *hook)
{

	mtx_assert(&mo->mo_mtx, MA_OWNED);
	kn->kn_fop = &bpfrs_filterops;
	kn->kn_hook = hook;
	knlist_add(&mo->mo_sel.si_note, kn, 1);
	mo->mo_knotes++;
}

void
bpfrs_kpi_monitor_knote_remove(struct bpfrs_monitor *mo, struct knote *kn)
{

	mtx_lock(&mo->mo_mtx);
	knlist_remove(&mo->mo_sel.si_note, kn, 1);
	mo->mo_knotes--;
	mtx_unlock(&mo->mo_mtx);
}

u_int
bpfrs_kpi_monitor_knotes_drop(struct bpfrs_monitor *mo)
{
	struct file *fp;
	struct knote *kn;
	u_int dropped;

	mtx_lock(&mo->mo_mtx);
	kn = SLIST_FIRST(&mo->mo_sel.si_note.kl_list);
	if (kn == NULL) {
		mtx_unlock(&mo->mo_mtx);
		return (0);
	}
	/*
	 * knlist_delete() drops the file of each with the mutex held: that
	 * must not be the last reference, if its close(2) is under way.
	 */
	fp = kn->kn_fp;
	if (!fhold(fp))
		panic("bpfrs: too many references to a file");
	mtx_unlock(&mo->mo_mtx);
	/* Who sleeps in kevent(2) was woken: let it see EV_EOF first. */
	pause("bpfrsk", MAX(hz / 10, 1));
	/* Waits for those that a kqueue is busy with; some detach themselves. */
	knlist_delete(&mo->mo_sel.si_note, curthread, 0);
	mtx_lock(&mo->mo_mtx);
	dropped = mo->mo_knotes;
	mo->mo_knotes = 0;
	mtx_unlock(&mo->mo_mtx);
	fdrop(fp, curthread);
	return (dropped);
}

static struct sx bpfrs_control_sx;
SX_SYSINIT(bpfrs_control, &bpfrs_control_sx, "bpfrs control");

void
bpfrs_kpi_control_lock(void)
{

	sx_xlock(&bpfrs_control_sx);
}

void
bpfrs_kpi_control_unlock(void)
{

	sx_xunlock(&bpfrs_control_sx);
}
