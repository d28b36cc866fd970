/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory for machine code.  It is never writable and executable at once: pages
 * that are not executable, whose protection changes when they are written.
 * They are where kld(4) puts modules, as a processor predicts a distant call
 * later than a near one.  amd64 only; on others there is none.
 */
#include <sys/param.h>
#include <sys/systm.h>
#ifdef __amd64__
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/proc.h>
#include <sys/rwlock.h>
#include <vm/vm.h>
#include <vm/vm_param.h>
#include <vm/pmap.h>
#include <vm/vm_extern.h>
#include <vm/vm_kern.h>
#include <vm/vm_map.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pager.h>
#endif

#include "../kpi.h"

void *
bpfrs_kpi_code_alloc(size_t size)
{

#ifdef __amd64__
	vm_object_t object;
	vm_offset_t at = KERNBASE;

	size = round_page(size);
	object = vm_pager_allocate(OBJT_PHYS, NULL, size, VM_PROT_RW, 0,
	    curthread->td_ucred);
	if (object == NULL)
		return (NULL);
	if (vm_map_find(kernel_map, object, 0, &at, size, 0, VMFS_ANY_SPACE,
	    VM_PROT_RW, VM_PROT_ALL, 0) != KERN_SUCCESS) {
		vm_object_deallocate(object);
		return (NULL);
	}
	if (vm_map_wire(kernel_map, at, at + size,
	    VM_MAP_WIRE_SYSTEM | VM_MAP_WIRE_NOHOLES) != KERN_SUCCESS) {
		vm_map_remove(kernel_map, at, at + size);
		return (NULL);
	}
	return ((void *)at);
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
	vm_offset_t at = (vm_offset_t)p;

	size = round_page(size);
	/*
	 * The protection of the pages' other address, in the direct map, has
	 * changed as well, and whoever gets them next writes there.  Without
	 * memory for that, which was there when they were sealed, they are lost.
	 */
	if (pmap_change_prot(at, size, VM_PROT_RW) == 0)
		vm_map_remove(kernel_map, at, at + size);
#else
	(void)p;
	(void)size;
#endif
}
