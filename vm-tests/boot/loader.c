/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A boot loader for FreeBSD/amd64 guests: Multiboot 1 on one side, the
 * kernel's preload metadata on the other.  What it is for, and the grammar of
 * the command lines, is in README.md.
 *
 * Memory while it runs, from low to high:
 *
 *	2 MB		the kernel's segments, copied to where they are linked
 *	64 MB		this program (loader.lds)
 *	above it	the Multiboot modules, as QEMU placed them
 *	above those	everything made here for the kernel: symbols, klds,
 *			environment, metadata.  Its end is "kernend": from
 *			there on memory is the kernel's to give away.
 *
 * New things only ever go above all that came from outside, so nothing is
 * overwritten before it was read; the one copy downwards, the kernel's, is
 * checked against every module and this program.  Some 80 MB of the guest's
 * memory are the price of that simplicity.
 *
 * The layout facts come from sys/sys/linker.h, sys/kern/subr_module.c and
 * machine/metadata.h (metadata records), sys/sys/reboot.h and boot(8) (flags),
 * machine/pc/bios.h (memory map), and the Multiboot 1 and ELF specifications.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NORETURN	__attribute__((noreturn))
#define PACKED		__attribute__((packed))

#define KIB		1024u
#define MIB		(1024u * KIB)
#define GIB		(1024u * MIB)
#define PAGE		4096u

/* ------------------------------------------------------ boot.S, loader.lds */

void	loader_main(uint32_t magic, const void *info) NORETURN;
void	enter_kernel(uint32_t cr3, uint32_t modulep, uint32_t kernend,
	    uint64_t entry) NORETURN;

extern const char loader_start[], loader_end[];

/* ---------------------------------------------------------- console, leaving */

#define COM1		0x3f8
#define COM1_LCR	(COM1 + 3)
#define COM1_LSR	(COM1 + 5)
#define LSR_TX_EMPTY	0x20

#define DEBUG_EXIT	0xf4	/* -device isa-debug-exit,iobase=0xf4,iosize=4 */
#define EXIT_FAILED	0x30	/* QEMU's exit status becomes 2 * 0x30 + 1 = 97 */
#define RESET_CONTROL	0xcf9	/* of the PIIX south bridge */
#define RESET_NOW	0x06

static void
out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t
in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return (value);
}

static void
console_init(void)
{
	out8(COM1_LCR, 0x80);	/* divisor latch: */
	out8(COM1, 1);		/* 115200 baud, */
	out8(COM1 + 1, 0);
	out8(COM1_LCR, 0x03);	/* 8 bits, no parity, 1 stop bit; */
}

static void
put_char(char c)
{
	/* Bounded, lest a machine without the port hang here silently. */
	for (unsigned i = 0; i < 100000; i++)
		if (in8(COM1_LSR) & LSR_TX_EMPTY)
			break;
	out8(COM1, (uint8_t)c);
}

static void
put(const char *s)
{
	for (; *s != '\0'; s++)
		put_char(*s);
}

/*
 * Says why and leaves the machine: by the debug-exit device, or without one
 * by a reset, which -no-reboot turns into an exit.
 */
static NORETURN void
fail(const char *what, const char *detail)
{
	put("\r\nloader: ");
	put(what);
	if (detail != NULL) {
		put(": ");
		put(detail);
	}
	put("\r\n");
	out8(DEBUG_EXIT, EXIT_FAILED);
	out8(RESET_CONTROL, RESET_NOW);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* ------------------------------------------------------------------- strings */

/* The compiler may call these three on its own. */
void *
memcpy(void *to, const void *from, size_t n)
{
	void *t = to;

	__asm__ volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n) : : "memory");
	return (to);
}

void *
memset(void *to, int c, size_t n)
{
	void *t = to;

	__asm__ volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(c) : "memory");
	return (to);
}

int
memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n > 0; n--, x++, y++)
		if (*x != *y)
			return (*x - *y);
	return (0);
}

static size_t
length(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return (n);
}

static bool
equal(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return (*a == *b);
}

static bool
has_prefix(const char *s, const char *prefix)
{
	return (length(s) >= length(prefix) &&
	    memcmp(s, prefix, length(prefix)) == 0);
}

static void
copy_string(char *to, size_t size, const char *from, const char *what)
{
	if (length(from) >= size)
		fail("too long", what);
	memcpy(to, from, length(from) + 1);
}

/*
 * Cuts the next word off a command line, in place.  Words are separated by
 * blanks; double quotes keep blanks and are dropped.  NULL at the end.
 */
static char *
next_word(char **line)
{
	char *in = *line, *word, *out;
	bool quoted = false;

	while (*in == ' ' || *in == '\t')
		in++;
	if (*in == '\0')
		return (NULL);
	for (word = out = in; *in != '\0'; in++) {
		if (*in == '"')
			quoted = !quoted;
		else if (!quoted && (*in == ' ' || *in == '\t')) {
			in++;		/* this blank makes room for the NUL */
			break;
		} else
			*out++ = *in;
	}
	if (quoted)
		fail("unbalanced quotes on the command line", NULL);
	*line = in;
	*out = '\0';
	return (word);
}

/* ----------------------------------------------------------------- Multiboot */

#define MB_BOOTED	0x2badb002	/* what a Multiboot loader leaves in eax */
#define MB_HAS_CMDLINE	0x04
#define MB_HAS_MODULES	0x08
#define MB_HAS_MMAP	0x40

struct mb_info {
	uint32_t	flags;
	uint32_t	mem_lower, mem_upper, boot_device;
	uint32_t	cmdline;
	uint32_t	mods_count, mods_addr;
	uint32_t	syms[4];
	uint32_t	mmap_length, mmap_addr;
};

struct mb_module {
	uint32_t	start, end, string, reserved;
};

struct mb_mmap {
	uint32_t	size;		/* of what follows */
	uint64_t	base, length;
	uint32_t	type;
} PACKED;

/* An entry of MODINFOMD_SMAP: machine/pc/bios.h, struct bios_smap. */
struct smap {
	uint64_t	base, length;
	uint32_t	type;
} PACKED;

#define SMAP_MEMORY	1

#define MAX_MODULES	16
#define MAX_SMAP	64
#define MAX_CMDLINE	(4 * KIB)
#define MAX_STRING	256

struct module {
	const uint8_t	*data;
	uint32_t	 size;
	char		 string[MAX_STRING];
	/* The parts of string: */
	const char	*name;
	const char	*kind;
};

static struct module	modules[MAX_MODULES];
static unsigned		module_count;
static struct smap	smap[MAX_SMAP];
static unsigned		smap_count;
static char		cmdline[MAX_CMDLINE];

/*
 * Takes everything but the modules' contents into this program's own memory:
 * a Multiboot loader may have put it where the kernel belongs.
 */
static void
read_multiboot(const struct mb_info *mb)
{
	const struct mb_module *mod;

	if ((mb->flags & MB_HAS_MODULES) == 0 || mb->mods_count == 0)
		fail("no kernel given as the first module (-initrd)", NULL);
	if ((mb->flags & MB_HAS_MMAP) == 0)
		fail("no memory map from the machine", NULL);
	if (mb->mods_count > MAX_MODULES)
		fail("too many modules", NULL);

	if (mb->flags & MB_HAS_CMDLINE)
		copy_string(cmdline, sizeof(cmdline),
		    (const char *)mb->cmdline, "the command line");

	mod = (const struct mb_module *)mb->mods_addr;
	for (; module_count < mb->mods_count; module_count++, mod++) {
		struct module *m = &modules[module_count];
		char *rest;

		if (mod->start > mod->end || mod->end >= GIB)
			fail("a module lies beyond the first GB", NULL);
		m->data = (const uint8_t *)mod->start;
		m->size = mod->end - mod->start;
		copy_string(m->string, sizeof(m->string),
		    (const char *)mod->string, "a module's command line");

		rest = m->string;
		m->name = next_word(&rest);
		if (m->name == NULL)
			fail("a module has no name", NULL);
		m->kind = "kld";
		for (const char *word; (word = next_word(&rest)) != NULL;) {
			if (has_prefix(word, "name="))
				m->name = word + length("name=");
			else
				m->kind = word;
		}
	}

	for (uint32_t at = 0; at < mb->mmap_length;) {
		const struct mb_mmap *e =
		    (const struct mb_mmap *)(mb->mmap_addr + at);

		if (smap_count == MAX_SMAP)
			fail("the memory map is too long", NULL);
		smap[smap_count++] = (struct smap){ e->base, e->length, e->type };
		at += e->size + sizeof(e->size);
	}
}

/* --------------------------------------------------------- placing new things */

static uint32_t	top;		/* first free byte */
static uint32_t	limit;		/* end of the memory that top lies in */

static void
place_init(void)
{
	top = (uint32_t)loader_end;
	for (unsigned i = 0; i < module_count; i++) {
		uint32_t end = (uint32_t)modules[i].data + modules[i].size;

		if (end > top)
			top = end;
	}
	for (unsigned i = 0; i < smap_count; i++) {
		const struct smap *s = &smap[i];

		if (s->type != SMAP_MEMORY || s->base > 2 * MIB ||
		    s->base + s->length <= top)
			continue;
		/* All must be within the first GB: that is what gets mapped. */
		limit = s->base + s->length < GIB ?
		    (uint32_t)(s->base + s->length) : GIB;
	}
	if (limit == 0)
		fail("no memory above 2 MB that holds loader and modules", NULL);
}

/* Zeroed memory at the top.  align is a power of two. */
static void *
place(uint32_t size, uint32_t align)
{
	uint32_t at = (top + align - 1) & ~(align - 1);

	if (at < top || at > limit || size > limit - at)
		fail("out of memory (give the guest more)", NULL);
	top = at + size;
	return (memset((void *)at, 0, size));
}

static void
place_page_boundary(void)
{
	(void)place(0, PAGE);
}

/* ------------------------------------------------------------------- metadata */

/* sys/sys/linker.h and, from MODINFOMD_SMAP on, machine/metadata.h. */
#define MODINFO_END		0x0000
#define MODINFO_NAME		0x0001
#define MODINFO_TYPE		0x0002
#define MODINFO_ADDR		0x0003
#define MODINFO_SIZE		0x0004
#define MODINFO_METADATA	0x8000
#define MODINFOMD_ELFHDR	(MODINFO_METADATA | 0x0002)
#define MODINFOMD_SSYM		(MODINFO_METADATA | 0x0003)
#define MODINFOMD_ESYM		(MODINFO_METADATA | 0x0004)
#define MODINFOMD_ENVP		(MODINFO_METADATA | 0x0006)
#define MODINFOMD_HOWTO		(MODINFO_METADATA | 0x0007)
#define MODINFOMD_KERNEND	(MODINFO_METADATA | 0x0008)
#define MODINFOMD_SHDR		(MODINFO_METADATA | 0x0009)
#define MODINFOMD_SMAP		(MODINFO_METADATA | 0x1001)
#define MODINFOMD_MODULEP	(MODINFO_METADATA | 0x1006)

/*
 * The records are collected here and copied to their place last, because
 * KERNEND and MODULEP are among them.  Addresses are physical; the kernel
 * itself adds KERNBASE to those it uses.  Most of the room is for the section
 * headers of klds.
 */
static uint8_t	meta[512 * KIB] __attribute__((aligned(8)));
static uint32_t	meta_size;

/* Adds a record and returns its data, to be filled in later if wanted. */
static void *
meta_add(uint32_t type, const void *data, uint32_t size)
{
	uint8_t *record = meta + meta_size;
	uint32_t padded = (size + 7) & ~7u;

	if (size > sizeof(meta) || 8 + padded > sizeof(meta) - meta_size)
		fail("too much metadata", NULL);
	memcpy(record, &type, 4);
	memcpy(record + 4, &size, 4);
	memcpy(record + 8, data, size);
	meta_size += 8 + padded;
	return (record + 8);
}

static void *
meta_add_u64(uint32_t type, uint64_t value)
{
	return (meta_add(type, &value, sizeof(value)));
}

static void
meta_add_string(uint32_t type, const char *s)
{
	(void)meta_add(type, s, length(s) + 1);
}

static void
meta_add_file(const char *name, const char *type, const void *at, uint64_t size)
{
	/* NAME comes first: it is what separates one file from the next. */
	meta_add_string(MODINFO_NAME, name);
	meta_add_string(MODINFO_TYPE, type);
	meta_add_u64(MODINFO_ADDR, (uint32_t)at);
	meta_add_u64(MODINFO_SIZE, size);
}

/* ------------------------------------------------------- command line, env */

#define RB_ASKNAME	0x00000001
#define RB_SINGLE	0x00000002
#define RB_DFLTROOT	0x00000020
#define RB_KDB		0x00000040
#define RB_VERBOSE	0x00000800
#define RB_SERIAL	0x00001000
#define RB_CDROM	0x00002000
#define RB_GDB		0x00008000
#define RB_MUTE		0x00010000
#define RB_PAUSE	0x00100000
#define RB_MULTIPLE	0x20000000

static const struct {
	char		letter;
	uint32_t	flag;
} boot_flags[] = {
	{ 'a', RB_ASKNAME },	{ 'C', RB_CDROM },	{ 'd', RB_KDB },
	{ 'D', RB_MULTIPLE },	{ 'g', RB_GDB },	{ 'h', RB_SERIAL },
	{ 'm', RB_MUTE },	{ 'p', RB_PAUSE },	{ 'r', RB_DFLTROOT },
	{ 's', RB_SINGLE },	{ 'v', RB_VERBOSE },
};

/*
 * What device.hints would say: without it the kernel does not know its
 * console.  A word of the command line with the same name takes precedence.
 */
static const char *const default_env[] = {
	"hint.uart.0.at=isa",
	"hint.uart.0.port=0x3F8",
	"hint.uart.0.irq=4",
	"hint.uart.0.flags=0x10",
	"hint.atrtc.0.at=isa",
	"hint.atrtc.0.port=0x70",
	"hint.atrtc.0.irq=8",
	"hint.attimer.0.at=isa",
	"hint.attimer.0.port=0x40",
	"hint.attimer.0.irq=0",
	"kernelname=/boot/kernel/kernel",
};

/* name=value strings, each with its NUL, and an empty one at the end. */
static char	env[MAX_CMDLINE + 1 * KIB];
static uint32_t	env_size;

static void
env_add(const char *assignment)
{
	size_t size = length(assignment) + 1;

	if (size > sizeof(env) - 1 - env_size)
		fail("the environment is too long", NULL);
	memcpy(env + env_size, assignment, size);
	env_size += size;
}

static bool
env_has(const char *assignment)
{
	size_t n = 0;

	while (assignment[n] != '=')
		n++;
	for (const char *e = env; e < env + env_size; e += length(e) + 1)
		if (length(e) > n && memcmp(e, assignment, n + 1) == 0)
			return (true);
	return (false);
}

static bool
is_assignment(const char *word)
{
	const char *p = word;

	while (*p != '\0' && *p != '=')
		p++;
	return (p != word && *p == '=');
}

static uint32_t
flags_of(const char *word)
{
	uint32_t howto = 0;

	for (const char *letter = word + 1; *letter != '\0'; letter++) {
		uint32_t flag = 0;

		for (size_t i = 0; i < sizeof(boot_flags) / sizeof(boot_flags[0]); i++)
			if (boot_flags[i].letter == *letter)
				flag = boot_flags[i].flag;
		if (flag == 0)
			fail("unknown boot flag", word);
		howto |= flag;
	}
	return (howto);
}

/* Fills env; returns the boot flags. */
static uint32_t
parse_cmdline(void)
{
	char *rest = cmdline;
	uint32_t howto = 0;

	(void)next_word(&rest);		/* the loader's own file name */
	for (const char *word; (word = next_word(&rest)) != NULL;) {
		if (word[0] == '-' && word[1] != '\0')
			howto |= flags_of(word);
		else if (is_assignment(word))
			env_add(word);
		else
			fail("neither -flags nor name=value", word);
	}
	for (size_t i = 0; i < sizeof(default_env) / sizeof(default_env[0]); i++)
		if (!env_has(default_env[i]))
			env_add(default_env[i]);
	env[env_size++] = '\0';
	return (howto);
}

/* ------------------------------------------------------------------------ ELF */

struct elf_header {
	uint8_t		ident[16];
	uint16_t	type, machine;
	uint32_t	version;
	uint64_t	entry, phoff, shoff;
	uint32_t	flags;
	uint16_t	ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
	uint32_t	type, flags;
	uint64_t	offset, vaddr, paddr, filesz, memsz, align;
};

struct elf_section {
	uint32_t	name, type;
	uint64_t	flags, addr, offset, size;
	uint32_t	link, info;
	uint64_t	addralign, entsize;
};

#define ET_REL			1
#define ET_EXEC			2
#define EM_X86_64		62
#define PT_LOAD			1
#define SHT_PROGBITS		1
#define SHT_SYMTAB		2
#define SHT_STRTAB		3
#define SHT_RELA		4
#define SHT_NOBITS		8
#define SHT_INIT_ARRAY		14
#define SHT_FINI_ARRAY		15
#define SHT_X86_64_UNWIND	0x70000001
#define SHF_ALLOC		0x2

static bool
in_file(const struct module *m, uint64_t offset, uint64_t size)
{
	return (offset <= m->size && size <= m->size - offset);
}

static const struct elf_header *
elf_check(const struct module *m, uint16_t type)
{
	/* 64-bit, little-endian, version 1 */
	static const uint8_t ident[] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
	const struct elf_header *eh = (const struct elf_header *)m->data;

	if (!in_file(m, 0, sizeof(*eh)) ||
	    memcmp(eh->ident, ident, sizeof(ident)) != 0)
		fail("not a 64-bit ELF file", m->name);
	if (eh->type != type || eh->machine != EM_X86_64)
		fail(type == ET_EXEC ? "not an amd64 executable" :
		    "not an amd64 relocatable object", m->name);
	if ((eh->phnum != 0 && (eh->phentsize != sizeof(struct elf_segment) ||
	    !in_file(m, eh->phoff, eh->phnum * sizeof(struct elf_segment)))) ||
	    (eh->shnum != 0 && (eh->shentsize != sizeof(struct elf_section) ||
	    !in_file(m, eh->shoff, eh->shnum * sizeof(struct elf_section)))))
		fail("truncated or strange ELF file", m->name);
	return (eh);
}

/* Section i, known to exist and to have its contents inside the file. */
static const struct elf_section *
section(const struct module *m, const struct elf_header *eh, uint32_t i)
{
	const struct elf_section *sh =
	    (const struct elf_section *)(m->data + eh->shoff) + i;

	if (i >= eh->shnum || sh->size >= GIB ||
	    (sh->type != SHT_NOBITS && !in_file(m, sh->offset, sh->size)))
		fail("bad section in", m->name);
	return (sh);
}

/* ----------------------------------------------------------------- the kernel */

#define KERNBASE	0xffffffff80000000ull
#define KERNLOAD	(2 * MIB)	/* the low memory below is left alone */

static bool
overlaps(uint32_t a, uint32_t a_end, uint32_t b, uint32_t b_end)
{
	return (a < b_end && b < a_end);
}

/*
 * The symbol table in the form the kernel wants it, between SSYM and ESYM:
 * size, symbols, size, strings; each size a 64-bit word.
 */
static void
load_symbols(const struct module *m, const struct elf_header *eh)
{
	for (uint32_t i = 0; i < eh->shnum; i++) {
		const struct elf_section *sym = section(m, eh, i), *str;
		uint64_t *start, *strings;
		uint32_t sym_size;

		if (sym->type != SHT_SYMTAB)
			continue;
		str = section(m, eh, sym->link);
		if (str->type != SHT_STRTAB)
			fail("bad symbol table in", m->name);
		sym_size = ((uint32_t)sym->size + 7) & ~7u;
		start = place(8 + sym_size + 8 + (uint32_t)str->size, 8);
		start[0] = sym->size;
		memcpy(start + 1, m->data + sym->offset, (uint32_t)sym->size);
		strings = start + 1 + sym_size / 8;
		strings[0] = str->size;
		memcpy(strings + 1, m->data + str->offset, (uint32_t)str->size);
		(void)place(0, 8);
		(void)meta_add_u64(MODINFOMD_SSYM, (uint32_t)start);
		(void)meta_add_u64(MODINFOMD_ESYM, top);
		return;
	}
	put("loader: the kernel has no symbols\r\n");
}

/* Copies the kernel into place and starts its metadata; returns its entry. */
static uint64_t
load_kernel(const struct module *m)
{
	const struct elf_header *eh = elf_check(m, ET_EXEC);
	const struct elf_segment *ph =
	    (const struct elf_segment *)(m->data + eh->phoff);
	uint32_t low = UINT32_MAX, high = 0;

	for (unsigned i = 0; i < eh->phnum; i++) {
		uint64_t at = ph[i].vaddr - KERNBASE;

		if (ph[i].type != PT_LOAD || ph[i].memsz == 0)
			continue;
		if (!in_file(m, ph[i].offset, ph[i].filesz) ||
		    ph[i].filesz > ph[i].memsz)
			fail("truncated kernel", m->name);
		if (ph[i].vaddr < KERNBASE || at < KERNLOAD || at >= GIB ||
		    ph[i].memsz > GIB - at)
			fail("kernel not linked for KERNBASE + 2 MB", m->name);
		if (at < low)
			low = (uint32_t)at;
		if (at + ph[i].memsz > high)
			high = (uint32_t)(at + ph[i].memsz);
	}
	if (high == 0 || eh->entry < KERNBASE + low || eh->entry >= KERNBASE + high)
		fail("no code at the entry point of", m->name);

	/* All is checked before the first byte is written. */
	if (high > limit || overlaps(low, high, (uint32_t)loader_start,
	    (uint32_t)loader_end))
		fail("kernel too large for the room below the loader", m->name);
	for (unsigned i = 0; i < module_count; i++)
		if (overlaps(low, high, (uint32_t)modules[i].data,
		    (uint32_t)modules[i].data + modules[i].size))
			fail("kernel would overwrite a module", modules[i].name);

	memset((void *)low, 0, high - low);
	for (unsigned i = 0; i < eh->phnum; i++)
		if (ph[i].type == PT_LOAD)
			memcpy((void *)(uint32_t)(ph[i].vaddr - KERNBASE),
			    m->data + ph[i].offset, (uint32_t)ph[i].filesz);

	meta_add_file("/boot/kernel/kernel", "elf kernel", (void *)low, high - low);
	(void)meta_add(MODINFOMD_ELFHDR, eh, sizeof(*eh));
	load_symbols(m, eh);
	return (eh->entry);
}

/* -------------------------------------------------------------- other modules */

/*
 * A kernel module of amd64 is a relocatable object.  The loader lays out the
 * sections that matter and notes their addresses in a copy of the section
 * headers; the kernel's link_elf_obj.c takes it from there and relocates.  An
 * address of 0 means "not loaded".
 */
static void
load_kld(const struct module *m)
{
	const struct elf_header *eh = elf_check(m, ET_REL);
	struct elf_section *headers;
	uint8_t *start;

	headers = place(eh->shnum * sizeof(*headers), 8);
	for (uint32_t i = 0; i < eh->shnum; i++) {
		headers[i] = *section(m, eh, i);
		headers[i].addr = 0;
	}

	/*
	 * MODINFO_ADDR has to be the lowest section's address; and as the
	 * kernel sets protections by the page, a module shares none.
	 */
	place_page_boundary();
	start = (uint8_t *)top;

	/*
	 * Two rounds, as a relocation table is wanted only if the section it
	 * applies to is.
	 */
	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < eh->shnum; i++) {
			struct elf_section *sh = &headers[i];
			bool wanted = false;

			switch (sh->type) {
			case SHT_PROGBITS:
			case SHT_NOBITS:
			case SHT_X86_64_UNWIND:
				wanted = round == 0 && (sh->flags & SHF_ALLOC) != 0;
				break;
			case SHT_SYMTAB:
			case SHT_STRTAB:
				wanted = round == 0;
				break;
			case SHT_RELA:
				wanted = round == 1 && sh->info < eh->shnum &&
				    headers[sh->info].addr != 0;
				break;
			case SHT_INIT_ARRAY:
			case SHT_FINI_ARRAY:
				/* 12.x would trip over them, 13 runs them. */
				fail("constructors are not supported", m->name);
			}
			if (!wanted)
				continue;
			if (sh->addralign > PAGE ||
			    (sh->addralign & (sh->addralign - 1)) != 0)
				fail("bad section alignment in", m->name);
			sh->addr = (uint32_t)place((uint32_t)sh->size,
			    sh->addralign > 1 ? (uint32_t)sh->addralign : 1);
			if (sh->type != SHT_NOBITS)
				memcpy((void *)(uint32_t)sh->addr,
				    m->data + sh->offset, (uint32_t)sh->size);
		}
	}
	place_page_boundary();

	meta_add_file(m->name, "elf obj module", start, top - (uint32_t)start);
	(void)meta_add(MODINFOMD_ELFHDR, eh, sizeof(*eh));
	(void)meta_add(MODINFOMD_SHDR, headers, eh->shnum * sizeof(*headers));
}

/* Data the kernel looks for by its type; it may stay where it is. */
static const struct {
	const char	*kind, *type;
} data_kinds[] = {
	{ "md_image",	"md_image" },
	{ "mfs_root",	"mfs_root" },
	{ "entropy",	"boot_entropy_cache" },
};

static void
load_module(const struct module *m)
{
	if (equal(m->kind, "kld")) {
		load_kld(m);
		return;
	}
	for (size_t i = 0; i < sizeof(data_kinds) / sizeof(data_kinds[0]); i++)
		if (equal(m->kind, data_kinds[i].kind)) {
			meta_add_file(m->name, data_kinds[i].type, m->data, m->size);
			return;
		}
	fail("unknown kind of module", m->kind);
}

/* --------------------------------------------------------------- into 64 bits */

#define PTE_PRESENT	0x001
#define PTE_WRITE	0x002
#define PTE_LARGE	0x080		/* a 2 MB page */

static uint64_t	pml4[512] __attribute__((aligned(PAGE)));
static uint64_t	pdpt[512] __attribute__((aligned(PAGE)));
static uint64_t	pdir[512] __attribute__((aligned(PAGE)));

/*
 * The first GB at 0, where this program is running, and again at KERNBASE,
 * where the kernel is linked.  KERNBASE is entry 510 of table 511, so one
 * set of tables serves both.  2 MB pages, from which newer kernels read where
 * they were loaded.
 */
static void
make_page_tables(void)
{
	for (unsigned i = 0; i < 512; i++)
		pdir[i] = (uint64_t)i * 2 * MIB | PTE_LARGE | PTE_WRITE | PTE_PRESENT;
	pdpt[0] = pdpt[510] = (uint32_t)pdir | PTE_WRITE | PTE_PRESENT;
	pml4[0] = pml4[511] = (uint32_t)pdpt | PTE_WRITE | PTE_PRESENT;
}

static void
check_long_mode(void)
{
	uint32_t eax = 0x80000000, ebx, ecx = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (eax >= 0x80000001) {
		eax = 0x80000001;
		__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
		if (edx & (1u << 29))
			return;
	}
	fail("this processor has no 64-bit mode", NULL);
}

/* ----------------------------------------------------------------------- main */

void
loader_main(uint32_t magic, const void *info)
{
	uint64_t entry, kernend, modulep, end = 0;
	void *kernend_at, *modulep_at, *env_copy;
	uint32_t howto;

	console_init();
	if (magic != MB_BOOTED)
		fail("not started by a Multiboot loader (qemu -kernel)", NULL);
	check_long_mode();
	read_multiboot(info);
	howto = parse_cmdline();
	place_init();

	/* The kernel's records end with what concerns the machine. */
	entry = load_kernel(&modules[0]);
	env_copy = memcpy(place(env_size, PAGE), env, env_size);
	(void)meta_add(MODINFOMD_HOWTO, &howto, sizeof(howto));
	(void)meta_add_u64(MODINFOMD_ENVP, (uint32_t)env_copy);
	(void)meta_add(MODINFOMD_SMAP, smap, smap_count * sizeof(smap[0]));
	kernend_at = meta_add_u64(MODINFOMD_KERNEND, 0);
	modulep_at = meta_add_u64(MODINFOMD_MODULEP, 0);
	for (unsigned i = 1; i < module_count; i++)
		load_module(&modules[i]);
	(void)meta_add(MODINFO_END, &end, 0);

	/*
	 * kernend is absolute.  Kernels since 13.1 add their load address to
	 * it, which only makes them skip 2 MB of free memory.
	 */
	place_page_boundary();
	modulep = top;
	kernend = (modulep + meta_size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	memcpy(kernend_at, &kernend, sizeof(kernend));
	memcpy(modulep_at, &modulep, sizeof(modulep));
	memcpy(place((uint32_t)(kernend - modulep), PAGE), meta, meta_size);

	make_page_tables();
	enter_kernel((uint32_t)pml4, (uint32_t)modulep, (uint32_t)kernend, entry);
}
