/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * epoch(9).  The network epoch, not one of our own: packets arrive inside it
 * on 13 and later, and on 12 the slot of a private epoch is never reused, so
 * that loading and unloading would run out of them.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/epoch.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_var.h>

#include "../kpi.h"

_Static_assert(sizeof(struct epoch_tracker) <=
    sizeof(struct bpfrs_epoch_tracker), "epoch_tracker does not fit");
_Static_assert(sizeof(struct epoch_context) <=
    sizeof(struct bpfrs_epoch_context), "epoch_context does not fit");

void
bpfrs_kpi_epoch_enter(struct bpfrs_epoch_tracker *et)
{

	epoch_enter_preempt(net_epoch_preempt, (struct epoch_tracker *)et);
}

void
bpfrs_kpi_epoch_exit(struct bpfrs_epoch_tracker *et)
{

	epoch_exit_preempt(net_epoch_preempt, (struct epoch_tracker *)et);
}

void
bpfrs_kpi_epoch_call(struct bpfrs_epoch_context *ctx,
    void (*callback)(struct bpfrs_epoch_context *))
{
	epoch_context_t ec = (epoch_context_t)ctx;
	void (*cb)(epoch_context_t) = (void (*)(epoch_context_t))callback;

#if __FreeBSD_version >= 1300000
	epoch_call(net_epoch_preempt, cb, ec);
#else
	epoch_call(net_epoch_preempt, ec, cb);
#endif
}

void
bpfrs_kpi_epoch_drain(void)
{

	epoch_drain_callbacks(net_epoch_preempt);
}
