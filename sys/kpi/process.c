/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The calling process.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/proc.h>
#include <sys/sysent.h>

#include "../kpi.h"

int
bpfrs_kpi_pid(void)
{

	return (curthread->td_proc->p_pid);
}

int
bpfrs_kpi_compat32(void)
{

#if defined(COMPAT_FREEBSD32) && defined(__amd64__)
	return (SV_CURPROC_FLAG(SV_ILP32) != 0 ?
	    BPFRS_COMPAT32_YES : BPFRS_COMPAT32_NO);
#else
	return (BPFRS_COMPAT32_UNKNOWN);
#endif
}
