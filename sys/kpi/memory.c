/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * malloc(9) and user memory.  One malloc type, so that vmstat -m shows what
 * the driver holds and memguard(9) can watch it alone.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/malloc.h>
#include <sys/uio.h>

#include "../kpi.h"
#include "../shim.h"

MALLOC_DEFINE(M_BPFRS, "bpfrs", "bpf(4) in Rust");

void *
bpfrs_kpi_malloc(size_t size)
{

	return (malloc(size, M_BPFRS, M_WAITOK | M_ZERO));
}

void *
bpfrs_kpi_malloc_nowait(size_t size)
{

	return (malloc(size, M_BPFRS, M_NOWAIT | M_ZERO));
}

void
bpfrs_kpi_free(void *p)
{

	free(p, M_BPFRS);
}

int
bpfrs_kpi_copyin(const void *uaddr, void *kaddr, size_t len)
{

	return (copyin(uaddr, kaddr, len));
}

int
bpfrs_kpi_copyout(const void *kaddr, void *uaddr, size_t len)
{

	return (copyout(kaddr, uaddr, len));
}

ssize_t
bpfrs_kpi_uio_resid(const struct uio *uio)
{

	return (uio->uio_resid);
}

int
bpfrs_kpi_uiomove(void *kaddr, size_t len, struct uio *uio)
{

	return (uiomove(kaddr, (int)len, uio));
}
