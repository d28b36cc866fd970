/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Mistakes that a kernel's address sanitizer must report, by their names in
 * net.bpfrs.sanitizer_control: they show that it sees the code of this module.
 * In no other module.
 */
#ifdef BPFRS_SANITIZER_CONTROL
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/malloc.h>
#include <sys/sysctl.h>

#include "shim.h"

int	bpfrs_rs_control_beyond(void);
int	bpfrs_rs_control_freed(void);

/* No multiple of what a byte of the shadow stands for, nor of malloc(9)'s sizes. */
#define	CONTROL_SIZE	100

static int __noinline
bpfrs_control_beyond(void)
{
	volatile char *memory;

	memory = malloc(CONTROL_SIZE, M_BPFRS, M_WAITOK | M_ZERO);
	(void)memory[CONTROL_SIZE];
	free(__DEVOLATILE(char *, memory), M_BPFRS);
	return (0);
}

static int
bpfrs_control_sysctl(struct sysctl_oid *oidp, void *arg __unused,
    intmax_t len __unused, struct sysctl_req *req)
{
	char name[16] = "";
	int error;

	error = sysctl_handle_string(oidp, name, sizeof(name), req);
	if (error != 0 || req->newptr == NULL)
		return (error);
	if (strcmp(name, "rust-beyond") == 0)
		return (bpfrs_rs_control_beyond());
	if (strcmp(name, "rust-freed") == 0)
		return (bpfrs_rs_control_freed());
	if (strcmp(name, "shim-beyond") == 0)
		return (bpfrs_control_beyond());
	return (EINVAL);
}
SYSCTL_DECL(_net_bpfrs);
SYSCTL_PROC(_net_bpfrs, OID_AUTO, sanitizer_control,
    CTLTYPE_STRING | CTLFLAG_RW | CTLFLAG_MPSAFE, NULL, 0,
    bpfrs_control_sysctl, "A",
    "Makes a mistake: rust-beyond, rust-freed, shim-beyond");
#endif /* BPFRS_SANITIZER_CONTROL */
