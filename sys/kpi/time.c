/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Clocks and ticks.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/time.h>

#include "../kpi.h"
#include "../shim.h"

int
bpfrs_kpi_timeval2ticks(int64_t sec, int64_t usec, int *ticks)
{
	struct timeval tv = { .tv_sec = sec, .tv_usec = usec };
	int error;

	error = itimerfix(&tv);
	if (error == 0)
		*ticks = tvtohz(&tv);
	return (error);
}

int
bpfrs_kpi_hz(void)
{

	return (hz);
}

void
bpfrs_kpi_pause(int ticks)
{

	pause("bpfrs", ticks);
}
