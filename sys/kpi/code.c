/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory for machine code.  It is never writable and executable at once: pages
 * of the kernel's map, which are not executable, whose protection changes when
 * they are written.  amd64 only; on others there is none.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/malloc.h>
#ifdef __amd64__
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <vm/pmap.h>
#include <vm/vm_extern.h>
#endif

#include "../kpi.h"

/* Addresses are pointers since 14. */
#if __FreeBSD_version >= 1400000
#define	BPFRS_ADDRESS(p)	(p)
#else
#define	BPFRS_ADDRESS(p)	((vm_offset_t)(p))
#endif

void *
bpfrs_kpi_code_alloc(size_t size)
{

#ifdef __amd64__
	return ((void *)kmem_malloc(round_page(size), M_NOWAIT));
#else
	(void)size;
	return (NULL);
#endif
}

int
bpfrs_kpi_code_seal(void *p, size_t size)
{

#ifdef __amd64__
	return (pmap_change_prot((vm_offset_t)p, round_page(size),
	    VM_PROT_READ | VM_PROT_EXECUTE));
#else
	(void)p;
	(void)size;
	return (EOPNOTSUPP);
#endif
}

void
bpfrs_kpi_code_free(void *p, size_t size)
{

#ifdef __amd64__
	/*
	 * The protection of the pages' other address, in the direct map, has
	 * changed as well, and whoever gets them next writes there.  Without
	 * memory for that, which was there when they were sealed, they are lost.
	 */
	if (pmap_change_prot((vm_offset_t)p, round_page(size),
	    VM_PROT_READ | VM_PROT_WRITE) == 0)
		kmem_free(BPFRS_ADDRESS(p), round_page(size));
#else
	(void)p;
	(void)size;
#endif
}
