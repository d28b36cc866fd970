/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * User pages for zero-copy buffers: wired, so that they stay whatever becomes
 * of the process and its mappings, and mapped once more for the kernel, in one
 * piece.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/errno.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mutex.h>
#include <sys/proc.h>
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <vm/pmap.h>
#include <vm/vm_map.h>
#include <vm/vm_extern.h>
#include <vm/vm_page.h>

#include "../kpi.h"
#include "../shim.h"

struct bpfrs_pages {
	vm_offset_t	pg_kva;
	int		pg_count;
	vm_page_t	pg_page[];
};

/* What vm_fault_quick_hold_pages() held before 13 was not wired. */
static void
bpfrs_page_wire(vm_page_t m __unused)
{

#if __FreeBSD_version < 1300000
	vm_page_lock(m);
	vm_page_wire(m);
	vm_page_unhold(m);
	vm_page_unlock(m);
#endif
}

static void
bpfrs_page_unwire(vm_page_t m)
{

#if __FreeBSD_version < 1300000
	vm_page_lock(m);
	if (vm_page_unwire(m, PQ_INACTIVE) && m->object == NULL)
		vm_page_free(m);
	vm_page_unlock(m);
#else
	vm_page_unwire(m, PQ_INACTIVE);
#endif
}

int
bpfrs_kpi_pages_hold(uintptr_t uaddr, size_t len, void **kaddr,
    struct bpfrs_pages **out)
{
	struct bpfrs_pages *pg;
	int count, error, i;

	count = len / PAGE_SIZE;
	pg = malloc(sizeof(*pg) + count * sizeof(pg->pg_page[0]), M_BPFRS,
	    M_WAITOK | M_ZERO);
	pg->pg_count = vm_fault_quick_hold_pages(
	    &curproc->p_vmspace->vm_map, uaddr, len,
	    VM_PROT_READ | VM_PROT_WRITE, pg->pg_page, count);
	if (pg->pg_count != count) {
		error = EFAULT;
		goto fail;
	}
	for (i = 0; i < count; i++)
		bpfrs_page_wire(pg->pg_page[i]);
	pg->pg_kva = kva_alloc(len);
	if (pg->pg_kva == 0) {
		for (i = 0; i < count; i++)
			bpfrs_page_unwire(pg->pg_page[i]);
		error = ENOMEM;
		goto fail;
	}
	pmap_qenter(pg->pg_kva, pg->pg_page, count);
	*kaddr = (void *)pg->pg_kva;
	*out = pg;
	return (0);
fail:
	free(pg, M_BPFRS);
	return (error);
}

void
bpfrs_kpi_pages_release(struct bpfrs_pages *pg)
{
	int i;

	pmap_qremove(pg->pg_kva, pg->pg_count);
	kva_free(pg->pg_kva, ptoa((vm_size_t)pg->pg_count));
	for (i = 0; i < pg->pg_count; i++)
		bpfrs_page_unwire(pg->pg_page[i]);
	free(pg, M_BPFRS);
}

size_t
bpfrs_kpi_page_size(void)
{

	return (PAGE_SIZE);
}
