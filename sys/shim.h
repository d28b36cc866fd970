/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the shim files share with each other and with module.c; the driver
 * does not see it.
 */
#ifndef BPFRS_SHIM_H
#define	BPFRS_SHIM_H

#include <sys/malloc.h>

MALLOC_DECLARE(M_BPFRS);

extern struct cdevsw bpfrs_cdevsw;
extern struct filterops bpfrs_filterops;

/* The consumer of bpfrs_tap.ko, in kpi/ifnet.c.  EBUSY, ENOEXEC: it refuses. */
int	bpfrs_ifnet_attach(void);
void	bpfrs_ifnet_detach(void);

#endif /* BPFRS_SHIM_H */
