/*
 * SPDX-License-Identifier: BSD-2-Clause
 */
#ifndef BPFRS_TAP_LAYOUT_H
#define	BPFRS_TAP_LAYOUT_H

/* ENOEXEC, with a line on the console: the kernel's struct ifnet is another. */
int	bpfrs_check_layout(void);

#endif /* BPFRS_TAP_LAYOUT_H */
