// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD's system calls, safe to use; the only module with `unsafe`.
//!
//! The program has no libc: it must run on every release from 12 on, also in a root that holds no
//! shared library. A process of this program has exactly one thread, from its start to its end
//! (nothing here makes another one, and `fork` copies only the caller); several SAFETY comments
//! rest on that and call it *one thread*.

#![expect(unsafe_code, reason = "system calls; see the module's documentation")]

use alloc::alloc::{GlobalAlloc, Layout};
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of, size_of_val};
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicI32, Ordering};
use core::time::Duration;

use zerocopy::{FromBytes, FromZeros, IntoBytes, KnownLayout};

use crate::bpf::name_of;

// Numbers of system calls (sys/syscall.h): the same in every release; the crate `libc` has none.
const SYS_EXIT: usize = 1;
const SYS_FORK: usize = 2;
const SYS_READ: usize = 3;
const SYS_WRITE: usize = 4;
const SYS_OPEN: usize = 5;
const SYS_CLOSE: usize = 6;
const SYS_WAIT4: usize = 7;
const SYS_GETPID: usize = 20;
const SYS_UNMOUNT: usize = 22;
const SYS_RECVMSG: usize = 27;
const SYS_SENDMSG: usize = 28;
const SYS_KILL: usize = 37;
const SYS_DUP: usize = 41;
const SYS_IOCTL: usize = 54;
const SYS_REVOKE: usize = 56;
const SYS_EXECVE: usize = 59;
const SYS_CHROOT: usize = 61;
const SYS_MUNMAP: usize = 73;
const SYS_SETPGID: usize = 82;
const SYS_SETITIMER: usize = 83;
const SYS_DUP2: usize = 90;
const SYS_FCNTL: usize = 92;
const SYS_SELECT: usize = 93;
const SYS_SOCKET: usize = 97;
const SYS_CONNECT: usize = 98;
const SYS_BIND: usize = 104;
const SYS_SETSOCKOPT: usize = 105;
const SYS_SENDTO: usize = 133;
const SYS_SOCKETPAIR: usize = 135;
const SYS_MKDIR: usize = 136;
const SYS_RTPRIO: usize = 166;
const SYS_SYSCTL: usize = 202;
const SYS_POLL: usize = 209;
const SYS_CLOCK_GETTIME: usize = 232;
const SYS_NANOSLEEP: usize = 240;
const SYS_KLDLOAD: usize = 304;
const SYS_KLDFIND: usize = 306;
const SYS_SCHED_YIELD: usize = 331;
const SYS_KQUEUE: usize = 362;
const SYS_NMOUNT: usize = 378;
const SYS_SIGACTION: usize = 416;
const SYS_JAIL_ATTACH: usize = 436;
const SYS_KLDUNLOADF: usize = 444;
const SYS_MMAP: usize = 477;
const SYS_CPUSET_SETAFFINITY: usize = 488;
const SYS_POSIX_OPENPT: usize = 504;
const SYS_FSTATAT: usize = 552;
const SYS_GETDIRENTRIES: usize = 554;
const SYS_KEVENT: usize = 560;

/// An error number of FreeBSD.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// Its name, or its number where no test ever expects it.
    pub(crate) fn name(self) -> String {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::EBADF => "EBADF",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::EINVAL => "EINVAL",
            libc::ENOSPC => "ENOSPC",
            libc::EMFILE => "EMFILE",
            libc::ENOTTY => "ENOTTY",
            libc::EAGAIN => "EWOULDBLOCK",
            libc::EMSGSIZE => "EMSGSIZE",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::ENOBUFS => "ENOBUFS",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::ESRCH => "ESRCH",
            libc::ENETDOWN => "ENETDOWN",
            other => return format!("errno {other}"),
        };
        name.into()
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What a system call gives.
pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// One system call.
///
/// # Safety
///
/// Whatever pointers among the arguments the kernel reads from or writes to must be valid for
/// that, for as long as the kernel may use them.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    // SAFETY: as the caller promised.
    let (result, failed) = unsafe { trap(number, arguments) };
    match failed {
        0 => Ok(result),
        _ => Err(Errno(i32::try_from(result).unwrap_or(i32::MAX))),
    }
}

/// The instruction; what it gives, and whether that is an error number.
///
/// # Safety
///
/// As for [`call`].
#[cfg(target_arch = "x86_64")]
unsafe fn trap(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> (usize, u8) {
    let result: usize;
    let failed: u8;
    // SAFETY: FreeBSD's amd64 convention: number and result in rax, carry set on error, rcx and
    // r11 overwritten by the instruction, rdx and the argument registers from r8 up by the kernel.
    // Memory is touched as the caller promised.
    unsafe {
        asm!(
            "syscall",
            "setc {failed}",
            failed = lateout(reg_byte) failed,
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            inlateout("rdx") c => _,
            inlateout("r10") d => _,
            inlateout("r8") e => _,
            inlateout("r9") f => _,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    (result, failed)
}

/// The instruction; what it gives, and whether that is an error number.
///
/// # Safety
///
/// As for [`call`].
#[cfg(target_arch = "aarch64")]
unsafe fn trap(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> (usize, usize) {
    let result: usize;
    let failed: usize;
    // SAFETY: FreeBSD's arm64 convention: number in x8, result in x0 (and x1), carry set on error,
    // all other registers kept. Memory is touched as the caller promised.
    unsafe {
        asm!(
            "svc #0",
            "cset {failed}, cs",
            failed = lateout(reg) failed,
            in("x8") number,
            inlateout("x0") a => result,
            inlateout("x1") b => _,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    (result, failed)
}

/// One system call that takes plain numbers (or nothing) only.
fn call_plain(number: usize, a: usize, b: usize) -> Result<usize> {
    // SAFETY: the callers in this module use it for calls without pointers.
    unsafe { call(number, [a, b, 0, 0, 0, 0]) }
}

/// A C int as an argument.
const fn int(value: i32) -> usize {
    value.cast_unsigned() as usize
}

/// A result that is a C int.
fn as_int(value: usize) -> i32 {
    // FreeBSD's small results always fit.
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Errno(libc::EINVAL))
}

// ---------------------------------------------------------------------------------- start and end

/// The program's entry: the kernel passes the address of argc, and argv follows it.
// No other symbol of that name exists: the program is linked without start files.
#[unsafe(no_mangle)]
extern "C" fn _start(stack: *const usize) -> ! {
    let mut arguments = Vec::new();
    // SAFETY: the kernel put argc here, then that many pointers to NUL-terminated strings, which
    // stay where they are until the process ends.
    unsafe {
        let count = *stack;
        for index in 1..=count {
            let text = CStr::from_ptr(ptr::with_exposed_provenance(*stack.add(index)));
            arguments.push(text.to_str().unwrap_or("?"));
        }
    }
    exit(crate::run(&arguments))
}

/// For the kernel's image activator: branding by note, and by it the behaviour of FreeBSD 12.1
/// where a system call still asks (a program without the note counts as older than 7.0).
#[repr(C, align(4))]
struct AbiTag {
    name_size: u32,
    value_size: u32,
    kind: u32,
    name: [u8; 8],
    version: u32,
}

// A note section holds notes; nothing else is placed there.
#[unsafe(link_section = ".note.tag")]
#[used]
static ABI_TAG: AbiTag =
    AbiTag { name_size: 8, value_size: 4, kind: 1, name: *b"FreeBSD\0", version: 1_201_000 };

/// Ends the process.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        let _ = call_plain(SYS_EXIT, int(status), 0);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::report::human(&format!("bpfrs-guest: {info}"));
    exit(101)
}

// ------------------------------------------------------------------------------------------ memory

/// Memory for `alloc`: blocks of powers of two, one list of free ones for each size.
struct Heap(UnsafeCell<State>);

struct State {
    /// Heads of the lists; a free block holds the address of the next one.
    free: [usize; Heap::CLASSES],
    /// What is left of the newest chunk from the kernel.
    chunk: usize,
    chunk_end: usize,
}

impl Heap {
    const SMALLEST: u32 = 4; // 16 bytes
    const CLASSES: usize = 28; // up to 2 GB
    const CHUNK: usize = 1 << 20;
}

// SAFETY: one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap =
    Heap(UnsafeCell::new(State { free: [0; Heap::CLASSES], chunk: 0, chunk_end: 0 }));

fn class_of(layout: &Layout) -> u32 {
    let size = layout.size().max(layout.align()).next_power_of_two();
    size.trailing_zeros().max(Heap::SMALLEST)
}

// SAFETY: a block is as large as its class, aligned to its size, and in use once only: it comes
// from fresh memory or from the list of its class, whereupon it leaves the list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class_of(&layout);
        // SAFETY: one thread, and no signal handler of this program allocates.
        let state = unsafe { &mut *self.0.get() };
        let Some(head) = state.free.get_mut((class - Heap::SMALLEST) as usize) else {
            return ptr::null_mut();
        };
        if *head != 0 {
            let block = ptr::with_exposed_provenance_mut::<u8>(*head);
            // SAFETY: a block on the list is free memory of ours, and its first word is the link.
            *head = unsafe { block.cast::<usize>().read() };
            return block;
        }
        let size = 1_usize << class;
        let start = state.chunk.next_multiple_of(size);
        if start + size > state.chunk_end {
            let length = (2 * size).max(Self::CHUNK);
            let Ok(chunk) = map(length, libc::MAP_PRIVATE) else {
                return ptr::null_mut();
            };
            state.chunk = chunk.next_multiple_of(size) + size;
            state.chunk_end = chunk + length;
            return ptr::with_exposed_provenance_mut(state.chunk - size);
        }
        state.chunk = start + size;
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let state = unsafe { &mut *self.0.get() };
        if let Some(head) = state.free.get_mut((class_of(&layout) - Heap::SMALLEST) as usize) {
            // SAFETY: the block is ours again, at least 16 bytes, aligned to its size.
            unsafe { block.cast::<usize>().write(*head) };
            *head = block.expose_provenance();
        }
    }
}

/// Fresh zeroed memory from the kernel, at the address given back.
fn map(length: usize, sharing: i32) -> Result<usize> {
    let protection = int(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new anonymous mapping overlaps nothing; the kernel chooses the place.
    unsafe { call(SYS_MMAP, [0, length, protection, int(libc::MAP_ANON | sharing), usize::MAX, 0]) }
}

/// A zeroed object that this process and the ones it forks from now on see in common; this process
/// until it is dropped.
pub(crate) struct Shared<T> {
    address: usize,
    of: PhantomData<T>,
}

impl<T: FromZeros + Sync> Shared<T> {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { address: map(size_of::<T>(), libc::MAP_SHARED)?, of: PhantomData })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is page-aligned, large enough, zeroed (a valid T), and stays until this
        // is dropped; other processes change it only through `&T` as well, which Sync types allow.
        unsafe { &*ptr::with_exposed_provenance::<T>(self.address) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody can borrow any more.
        let _ = unsafe { call(SYS_MUNMAP, [self.address, size_of::<T>(), 0, 0, 0, 0]) };
    }
}

/// The same for ever.
pub(crate) fn shared<T: FromZeros + Sync>() -> Result<&'static T> {
    Ok(Box::leak(Box::new(Shared::new()?)))
}

// ----------------------------------------------------------------------------------------- files

/// A file descriptor, closed when dropped.
#[derive(Debug)]
pub(crate) struct Fd(i32);

impl Drop for Fd {
    fn drop(&mut self) {
        let _ = call_plain(SYS_CLOSE, int(self.0), 0);
    }
}

impl Fd {
    /// open(2).
    pub(crate) fn open(path: &str, flags: i32) -> Result<Self> {
        let path = c_string(path)?;
        // SAFETY: `path` is a C string that outlives the call.
        unsafe { call(SYS_OPEN, [path.as_ptr().addr(), int(flags), 0o644, 0, 0, 0]) }
            .map(|fd| Self(as_int(fd)))
    }

    /// read(2).
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let address = buffer.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most the buffer's length.
        unsafe { call(SYS_READ, [int(self.0), address, buffer.len(), 0, 0, 0]) }
    }

    /// read(2) of as many bytes to address 0, where nothing is.
    pub(crate) fn read_null(&self, length: usize) -> Result<usize> {
        // SAFETY: the kernel checks the address, and nothing of ours is there.
        unsafe { call(SYS_READ, [int(self.0), 0, length, 0, 0, 0]) }
    }

    /// write(2).
    pub(crate) fn write(&self, data: &[u8]) -> Result<usize> {
        write(self.0, data)
    }

    /// write(2) of as many bytes at address 0, where nothing is.
    pub(crate) fn write_null(&self, length: usize) -> Result<usize> {
        // SAFETY: the kernel checks the address, and reads only.
        unsafe { call(SYS_WRITE, [int(self.0), 0, length, 0, 0, 0]) }
    }

    /// close(2), with its result.
    pub(crate) fn close(self) -> Result<()> {
        let fd = self.0;
        core::mem::forget(self);
        call_plain(SYS_CLOSE, int(fd), 0).map(drop)
    }

    /// dup(2).
    pub(crate) fn dup(&self) -> Result<Self> {
        call_plain(SYS_DUP, int(self.0), 0).map(|fd| Self(as_int(fd)))
    }

    /// dup2(2) onto a standard descriptor.
    pub(crate) fn dup_to(&self, standard: i32) -> Result<()> {
        call_plain(SYS_DUP2, int(self.0), int(standard)).map(drop)
    }

    /// fcntl(F_SETFL) of O_NONBLOCK.
    pub(crate) fn set_nonblocking(&self, on: bool) -> Result<()> {
        let flags = if on { libc::O_NONBLOCK } else { 0 };
        // SAFETY: no pointers.
        unsafe { call(SYS_FCNTL, [int(self.0), int(libc::F_SETFL), int(flags), 0, 0, 0]) }.map(drop)
    }

    /// ioctl(2) whose argument is plain data.
    pub(crate) fn ioctl<T: FromBytes + IntoBytes>(&self, command: u64, data: &mut T) -> Result<()> {
        // The kernel copies as many bytes as the command says.
        assert_eq!(parameter_length(command), size_of::<T>(), "ioctl {command:#x}");
        let address = ptr::from_mut(data).expose_provenance();
        // SAFETY: as many bytes as the command says, and any bytes are a valid T. No command of
        // this program reads or writes through addresses inside of T: see `ioctl_list`.
        unsafe { self.ioctl_raw(command, address) }
    }

    /// ioctl(2) without an argument.
    pub(crate) fn ioctl_none(&self, command: u64) -> Result<()> {
        assert_eq!(parameter_length(command), 0, "ioctl {command:#x}");
        // SAFETY: the command takes no argument.
        unsafe { self.ioctl_raw(command, 0) }
    }

    /// ioctl(2) whose argument is `{ u32 count; T *list; }`, as `bpf_program` and `bpf_dltlist`
    /// are; gives the count back as the kernel left it.
    pub(crate) fn ioctl_list<T: FromBytes + IntoBytes>(
        &self,
        command: u64,
        list: &mut [T],
    ) -> Result<u32> {
        let count = u32::try_from(list.len()).map_err(|_| Errno(libc::EINVAL))?;
        let list = list.as_mut_ptr().expose_provenance();
        self.ioctl_pair(command, count.into(), list).map(|word| word as u32)
    }

    /// ioctl(2) whose argument is `{ u32 size; u32 count; void *room; }`, as `bpf_iflist` is; gives
    /// size and count back.
    pub(crate) fn ioctl_room(&self, command: u64, count: u32, room: &mut [u8]) -> Result<[u32; 2]> {
        let size = u32::try_from(room.len()).map_err(|_| Errno(libc::EINVAL))?;
        let word = u64::from(count) << 32 | u64::from(size);
        let word = self.ioctl_pair(command, word, room.as_mut_ptr().expose_provenance())?;
        Ok([word as u32, (word >> 32) as u32])
    }

    /// The same with a NULL list and any count.
    pub(crate) fn ioctl_null_list(&self, command: u64, count: u32) -> Result<u32> {
        self.ioctl_pair(command, count.into(), 0).map(|word| word as u32)
    }

    /// The same with a list at an address where nothing is.
    pub(crate) fn ioctl_lost_list(&self, command: u64, count: u32) -> Result<u32> {
        self.ioctl_pair(command, count.into(), 8).map(|word| word as u32)
    }

    /// Gives the first word back as the kernel left it.
    fn ioctl_pair(&self, command: u64, word: u64, list: usize) -> Result<u64> {
        assert_eq!(parameter_length(command), 16, "ioctl {command:#x}");
        let mut pair = [word, list as u64];
        // SAFETY: the kernel reads or writes at most what `word` says there is at `list`, which is
        // there, or whose address it finds to be no place of ours; and any bytes are valid.
        unsafe { self.ioctl_raw(command, ptr::from_mut(&mut pair).expose_provenance()) }?;
        Ok(pair[0])
    }

    /// # Safety
    ///
    /// As for [`call`]: `argument` must be what the command wants.
    unsafe fn ioctl_raw(&self, command: u64, argument: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { call(SYS_IOCTL, [int(self.0), command as usize, argument, 0, 0, 0]) }.map(drop)
    }

    /// BIOCSETZBUF (`command`) of two fresh buffers of that length, which stay for ever.
    pub(crate) fn share_buffers(&self, command: u64, length: usize) -> Result<[SharedBuffer; 2]> {
        assert_eq!(parameter_length(command), 24, "ioctl {command:#x}");
        let places =
            [map(length.max(1), libc::MAP_PRIVATE)?, map(length.max(1), libc::MAP_PRIVATE)?];
        let argument = [places[0], places[1], length];
        // SAFETY: two addresses and a length. The kernel writes into the pages there as long as they
        // are mapped, which is for ever; this program reads them by `SharedBuffer` alone.
        unsafe { self.ioctl_raw(command, argument.as_ptr().expose_provenance()) }?;
        Ok(places.map(|address| SharedBuffer { address, length }))
    }

    /// poll(2) of this descriptor alone; `None` waits for ever. 0 at a timeout.
    pub(crate) fn poll(&self, events: i16, timeout: Option<Duration>) -> Result<i16> {
        let mut set = libc::pollfd { fd: self.0, events, revents: 0 };
        let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
        let address = ptr::from_mut(&mut set).expose_provenance();
        // SAFETY: one pollfd.
        unsafe { call(SYS_POLL, [address, 1, int(timeout), 0, 0, 0]) }?;
        Ok(set.revents)
    }

    /// select(2) of this descriptor alone, for reading; whether it is readable.
    pub(crate) fn select(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut set = [0_u64; libc::FD_SETSIZE / 64];
        let bit = usize::try_from(self.0).unwrap_or(0);
        set[bit / 64] |= 1 << (bit % 64);
        let mut time = timeval(timeout.unwrap_or_default());
        let set_at = ptr::from_mut(&mut set).expose_provenance();
        let time_at = timeout.map_or(0, |_| ptr::from_mut(&mut time).expose_provenance());
        // SAFETY: a whole fd_set, and a timeval or NULL.
        unsafe { call(SYS_SELECT, [bit + 1, set_at, 0, 0, time_at, 0]) }.map(|ready| ready == 1)
    }

    /// kqueue(2).
    pub(crate) fn kqueue() -> Result<Self> {
        call_plain(SYS_KQUEUE, 0, 0).map(|fd| Self(as_int(fd)))
    }

    /// kevent(2): registers a filter (EVFILT_*) for `watched` with this kqueue, or with EV_DELETE
    /// takes it back.
    pub(crate) fn register(&self, watched: &Self, filter: i16, flags: u16) -> Result<()> {
        let change = Kevent { ident: int(watched.0), filter, flags, ..Kevent::default() };
        let at = ptr::from_ref(&change).expose_provenance();
        // SAFETY: one struct kevent to read; no list of events, no timeout.
        unsafe { call(SYS_KEVENT, [int(self.0), at, 1, 0, 0, 0]) }.map(drop)
    }

    /// kevent(2): waits for events, `None` for ever. None at a timeout.
    pub(crate) fn events(&self, timeout: Option<Duration>) -> Result<Vec<Kevent>> {
        let mut events = [Kevent::default(); 8];
        let time = timeout.map(|t| [t.as_secs(), u64::from(t.subsec_nanos())]);
        let time_at = time.as_ref().map_or(0, |time| time.as_ptr().expose_provenance());
        let at = events.as_mut_ptr().expose_provenance();
        // SAFETY: room for so many events, and a struct timespec or NULL.
        let count = unsafe { call(SYS_KEVENT, [int(self.0), 0, 0, at, events.len(), time_at]) }?;
        Ok(events.get(..count).unwrap_or_default().to_vec())
    }

    /// Keeps the descriptor open for ever: for tests that end with their process.
    pub(crate) fn leak(self) {
        core::mem::forget(self);
    }
}

/// Memory that the kernel writes into when it likes: struct bpf_zbuf_header, then packets.
pub(crate) struct SharedBuffer {
    address: usize,
    length: usize,
}

impl SharedBuffer {
    /// The 32-bit word at `index`: of the header the kernel's generation, the length of what is
    /// there, and the user's generation.
    pub(crate) fn word(&self, index: usize) -> u32 {
        assert!((index + 1) * 4 <= self.length, "word {index} of {} bytes", self.length);
        let at = ptr::with_exposed_provenance::<u32>(self.address + index * 4);
        // SAFETY: inside of the mapping, which is aligned to a page and stays for ever.
        unsafe { at.read_volatile() }
    }

    /// Gives the buffer back to the kernel: its generation becomes the user's.
    pub(crate) fn give_back(&self) {
        let generation = self.word(0);
        assert!(self.length >= 12, "{} bytes hold no header", self.length);
        // SAFETY: as in `word`.
        unsafe {
            ptr::with_exposed_provenance_mut::<u32>(self.address + 8).write_volatile(generation);
        }
    }
}

/// IOCPARM_LEN: the size of an ioctl's argument is part of its number.
const fn parameter_length(command: u64) -> usize {
    ((command >> 16) & 0x1fff) as usize
}

fn write(fd: i32, data: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads at most the data's length.
    unsafe { call(SYS_WRITE, [int(fd), data.as_ptr().expose_provenance(), data.len(), 0, 0, 0]) }
}

/// Writes all of it to standard output.
pub(crate) fn print(mut data: &[u8]) {
    while !data.is_empty() {
        match write(1, data) {
            Ok(written) => data = data.get(written..).unwrap_or_default(),
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return,
        }
    }
}

/// struct kevent since FreeBSD 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Kevent {
    /// The descriptor.
    pub(crate) ident: usize,
    /// EVFILT_*.
    pub(crate) filter: i16,
    /// EV_*.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    /// Bytes to be read or written.
    pub(crate) data: i64,
    pub(crate) udata: usize,
    pub(crate) ext: [u64; 4],
}

/// What stat(2) says of a path, as far as the tests ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// File type and permissions.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// stat(2).
pub(crate) fn stat(path: &str) -> Result<Node> {
    // struct stat since FreeBSD 12: dev, ino, nlink (8 bytes each), mode (2), pad (2), uid, gid.
    let mut buffer = [0_u8; 256];
    let path = c_string(path)?;
    let to = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: `path` is a C string; struct stat is 224 bytes.
    unsafe { call(SYS_FSTATAT, [int(libc::AT_FDCWD), path.as_ptr().addr(), to, 0, 0, 0]) }?;
    let word = |at: usize| {
        u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
    };
    Ok(Node { mode: word(24) & 0xffff, uid: word(28), gid: word(32) })
}

/// getdirentries(2): the names in a folder.
pub(crate) fn entries(path: &str) -> Result<Vec<String>> {
    let folder = Fd::open(path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut names = Vec::new();
    let mut block = vec![0_u8; 1 << 14];
    loop {
        let to = block.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes at most the block's length; its position is not asked for.
        let length = unsafe { call(SYS_GETDIRENTRIES, [int(folder.0), to, block.len(), 0, 0, 0]) }?;
        if length == 0 {
            return Ok(names);
        }
        // struct dirent since FreeBSD 12: fileno and off (8 bytes each), reclen (2), type, pad,
        // namlen (2), pad (2), and the name.
        let mut rest = block.get(..length).unwrap_or_default();
        while let (Some(&[low, high]), Some(&[short, long])) = (rest.get(16..18), rest.get(20..22))
        {
            let name = usize::from(u16::from_ne_bytes([short, long]));
            names.push(name_of(rest.get(24..24 + name).unwrap_or_default()));
            let record = usize::from(u16::from_ne_bytes([low, high])).max(24);
            rest = rest.get(record..).unwrap_or_default();
        }
    }
}

/// revoke(2).
pub(crate) fn revoke(path: &str) -> Result<()> {
    path_call(SYS_REVOKE, path, 0).map(drop)
}

/// A pseudo-terminal, there while its master side is open.
pub(crate) struct Terminal {
    _master: Fd,
    /// What others open.
    pub(crate) path: String,
}

impl Terminal {
    /// posix_openpt(2).
    pub(crate) fn new() -> Result<Self> {
        const TIOCGPTN: u64 = 0x4004_740f;
        let master = call_plain(SYS_POSIX_OPENPT, int(libc::O_RDWR | libc::O_NOCTTY), 0)?;
        let master = Fd(as_int(master));
        let mut number = 0_u32;
        master.ioctl(TIOCGPTN, &mut number)?;
        Ok(Self { _master: master, path: format!("/dev/pts/{number}") })
    }
}

/// mkdir(2).
pub(crate) fn mkdir(path: &str) -> Result<()> {
    path_call(SYS_MKDIR, path, 0o755).map(drop)
}

/// chroot(2).
pub(crate) fn chroot(path: &str) -> Result<()> {
    path_call(SYS_CHROOT, path, 0).map(drop)
}

/// unmount(2), with MNT_FORCE.
pub(crate) fn unmount_forced(path: &str) -> Result<()> {
    path_call(SYS_UNMOUNT, path, 0x0008_0000).map(drop)
}

/// kldload(2); the module's id.
pub(crate) fn kldload(path: &str) -> Result<i32> {
    path_call(SYS_KLDLOAD, path, 0).map(as_int)
}

/// kldfind(2); the module's id.
pub(crate) fn kldfind(name: &str) -> Result<i32> {
    path_call(SYS_KLDFIND, name, 0).map(as_int)
}

/// kldunloadf(2), forced or not.
pub(crate) fn kldunload(id: i32, force: bool) -> Result<()> {
    const LINKER_UNLOAD_NORMAL: usize = 0;
    const LINKER_UNLOAD_FORCE: usize = 1;
    let how = if force { LINKER_UNLOAD_FORCE } else { LINKER_UNLOAD_NORMAL };
    call_plain(SYS_KLDUNLOADF, int(id), how).map(drop)
}

/// jail_attach(2): this process is in that jail from now on.
pub(crate) fn jail_attach(jail: i32) -> Result<()> {
    call_plain(SYS_JAIL_ATTACH, int(jail), 0).map(drop)
}

fn path_call(number: usize, path: &str, second: usize) -> Result<usize> {
    let path = c_string(path)?;
    // SAFETY: a C string that outlives the call; the second argument is no pointer.
    unsafe { call(number, [path.as_ptr().addr(), second, 0, 0, 0, 0]) }
}

/// Mounts a devfs (the whole of it) on `path`.
pub(crate) fn mount_devfs(path: &str) -> Result<()> {
    let path = c_string(path)?;
    let strings: [&CStr; 4] = [c"fstype", c"devfs", c"fspath", &path];
    let vectors = strings.map(|text| libc::iovec {
        iov_base: text.as_ptr().cast_mut().cast(),
        iov_len: text.count_bytes() + 1,
    });
    // SAFETY: an array of iovecs over C strings with their NULs; the kernel copies them in.
    unsafe { call(SYS_NMOUNT, [vectors.as_ptr().addr(), vectors.len(), 0, 0, 0, 0]) }.map(drop)
}

// ------------------------------------------------------------------------------------- processes

/// A process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid(i32);

impl Pid {
    /// kill(2).
    pub(crate) fn signal(self, signal: i32) {
        let _ = call_plain(SYS_KILL, int(self.0), int(signal));
    }

    /// The processes that it leads, to be signalled together.
    pub(crate) fn group(self) -> Self {
        Self(-self.0)
    }

    /// As a number, never 0.
    pub(crate) fn number(self) -> i32 {
        self.0
    }

    /// What a process that sleeps waits for: the kernel's name for it (ps(1), wchan). None: it does
    /// not sleep, or is gone.
    pub(crate) fn waits_for(self) -> Option<String> {
        // kern.proc.pid; sys/user.h keeps the layout of struct kinfo_proc for all releases.
        const KERN_PROC_PID: [u32; 3] = [1, 14, 1];
        const SLEEPS: u8 = 3;
        let [a, b, c] = KERN_PROC_PID;
        let raw = sysctl_value(&[a, b, c, self.0.cast_unsigned()]).ok()?;
        if raw.get(offset_of!(libc::kinfo_proc, ki_stat)) != Some(&SLEEPS) {
            return None;
        }
        raw.get(offset_of!(libc::kinfo_proc, ki_wmesg)..).map(name_of)
    }

    /// This process.
    pub(crate) fn current() -> Self {
        Self(as_int(call_plain(SYS_GETPID, 0, 0).unwrap_or(0)))
    }
}

/// fork(2): the child runs `body` and ends with its result.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> Result<Pid> {
    match call_plain(SYS_FORK, 0, 0)? {
        0 => exit(body()),
        child => Ok(Pid(as_int(child))),
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By exit(2), with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// wait4(2) without waiting: the given child (or any) if it has ended.
pub(crate) fn reap(child: Option<Pid>) -> Option<(Pid, End)> {
    let mut status = 0_i32;
    let at = ptr::from_mut(&mut status).expose_provenance();
    let whom = child.map_or(-1, |pid| pid.0);
    // SAFETY: the kernel writes one int; rusage is NULL.
    let pid = unsafe { call(SYS_WAIT4, [int(whom), at, int(libc::WNOHANG), 0, 0, 0]) }.ok()?;
    if pid == 0 {
        return None;
    }
    let end = match status & 0x7f {
        0 => End::Exited((status >> 8) & 0xff),
        signal => End::Killed(signal),
    };
    Some((Pid(as_int(pid)), end))
}

/// Waits for a child, but not longer than `limit`.
pub(crate) fn wait(child: Pid, limit: Duration) -> Option<End> {
    let deadline = now() + limit;
    loop {
        if let Some((_, end)) = reap(Some(child)) {
            return Some(end);
        }
        if now() >= deadline {
            return None;
        }
        sleep(Duration::from_millis(2));
    }
}

/// execve(2); comes back only with an error.
pub(crate) fn exec(program: &str, arguments: &[&str]) -> Errno {
    let strings = || -> Result<Vec<CString>> { arguments.iter().map(|a| c_string(a)).collect() };
    let (Ok(program), Ok(strings)) = (c_string(program), strings()) else {
        return Errno(libc::EINVAL);
    };
    let mut argv: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
    argv.push(ptr::null());
    let environment = [c"PATH=/sbin:/bin:/usr/sbin:/usr/bin".as_ptr(), ptr::null()];
    // SAFETY: C strings, and arrays of them that end with NULL.
    match unsafe {
        call(
            SYS_EXECVE,
            [program.as_ptr().addr(), argv.as_ptr().addr(), environment.as_ptr().addr(), 0, 0, 0],
        )
    } {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

/// setpgid(2): this process leads a group of its own.
pub(crate) fn lead_a_group() -> Result<()> {
    call_plain(SYS_SETPGID, 0, 0).map(drop)
}

/// sched_yield(2).
pub(crate) fn yield_now() {
    let _ = call_plain(SYS_SCHED_YIELD, 0, 0);
}

/// rtprio(2): real-time priority for this process, or no longer.
pub(crate) fn set_realtime(on: bool) {
    const RTP_SET: usize = 1;
    const RTP_PRIO_REALTIME: u16 = 2;
    const RTP_PRIO_NORMAL: u16 = 3;
    let class = if on { RTP_PRIO_REALTIME } else { RTP_PRIO_NORMAL };
    let priority = [class, 0];
    let at = priority.as_ptr().expose_provenance();
    // SAFETY: a whole struct rtprio: class and priority.
    let _ = unsafe { call(SYS_RTPRIO, [RTP_SET, 0, at, 0, 0, 0]) };
}

/// cpuset_setaffinity(2): this process runs on that processor alone.
pub(crate) fn stay_on(processor: usize) -> Result<()> {
    const CPU_LEVEL_WHICH: usize = 3;
    const CPU_WHICH_TID: usize = 1;
    let mut mask = [0_u8; 128];
    if let Some(byte) = mask.get_mut(processor / 8) {
        *byte = 1 << (processor % 8);
    }
    let at = mask.as_ptr().expose_provenance();
    let mut result = Err(Errno(libc::ERANGE));
    // The kernel's own size of a set, which is another in each release, or any.
    for size in [32, 64, 128] {
        if result == Err(Errno(libc::ERANGE)) {
            let which = [CPU_LEVEL_WHICH, CPU_WHICH_TID, usize::MAX, size, at, 0];
            // SAFETY: a set of at least that size, which the kernel copies in.
            result = unsafe { call(SYS_CPUSET_SETAFFINITY, which) }.map(drop);
        }
    }
    result
}

static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(signal: i32) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// From now on this signal is noted, and interrupts system calls (no SA_RESTART).
pub(crate) fn catch(signal: i32) -> Result<()> {
    #[repr(C)]
    struct Action {
        handler: extern "C" fn(i32),
        flags: i32,
        mask: [u32; 4],
    }
    let action = Action { handler: on_signal, flags: 0, mask: [0; 4] };
    let at = ptr::from_ref(&action).expose_provenance();
    // SAFETY: a whole struct sigaction; the handler only stores to an atomic.
    unsafe { call(SYS_SIGACTION, [int(signal), at, 0, 0, 0, 0]) }.map(drop)
}

/// The last signal caught since this was asked before.
pub(crate) fn caught() -> Option<i32> {
    match CAUGHT.swap(0, Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// SIGALRM after `delay`; it interrupts system calls. Zero takes it back.
pub(crate) fn alarm(delay: Duration) -> Result<()> {
    catch(libc::SIGALRM)?;
    let timer = [timeval(Duration::ZERO), timeval(delay)];
    // SAFETY: a whole struct itimerval.
    unsafe { call(SYS_SETITIMER, [0, timer.as_ptr().expose_provenance(), 0, 0, 0, 0]) }.map(drop)
}

// ------------------------------------------------------------------------------------------ time

fn timeval(time: Duration) -> libc::timeval {
    libc::timeval {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_usec: i64::from(time.subsec_micros()),
    }
}

fn clock(id: i32) -> Duration {
    let mut time = [0_u64; 2];
    let at = ptr::from_mut(&mut time).expose_provenance();
    // SAFETY: a struct timespec, two 64-bit numbers. With a valid clock it cannot fail.
    let _ = unsafe { call(SYS_CLOCK_GETTIME, [int(id), at, 0, 0, 0, 0]) };
    Duration::new(time[0], u32::try_from(time[1]).unwrap_or(0))
}

/// Time since boot.
pub(crate) fn now() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

/// Time that this process had of the processors.
pub(crate) fn processor_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Time of day.
pub(crate) fn wall_clock() -> Duration {
    clock(libc::CLOCK_REALTIME)
}

/// nanosleep(2).
pub(crate) fn sleep(time: Duration) {
    let time = [time.as_secs(), u64::from(time.subsec_nanos())];
    // SAFETY: a struct timespec; the remaining time is not asked for.
    let _ = unsafe { call(SYS_NANOSLEEP, [time.as_ptr().expose_provenance(), 0, 0, 0, 0, 0]) };
}

// --------------------------------------------------------------------------------------- sysctl

/// The value of a sysctl, as bytes.
pub(crate) fn sysctl(name: &str) -> Result<Vec<u8>> {
    sysctl_value(&sysctl_mib(name)?)
}

fn sysctl_value(mib: &[u32]) -> Result<Vec<u8>> {
    let mut size = 0_usize;
    sysctl_raw(mib, 0, &mut size, &[])?;
    // What it holds may grow between the two calls.
    let mut value = vec![0; size + size / 8 + 64];
    let mut size = value.len();
    sysctl_raw(mib, value.as_mut_ptr().expose_provenance(), &mut size, &[])?;
    value.truncate(size);
    Ok(value)
}

/// Sets a sysctl.
pub(crate) fn set_sysctl(name: &str, value: &[u8]) -> Result<()> {
    sysctl_raw(&sysctl_mib(name)?, 0, &mut 0, value)
}

/// What a sysctl is for.
pub(crate) fn sysctl_description(name: &str) -> Result<String> {
    sysctl_about(5, name).map(|bytes| name_of(&bytes))
}

/// A sysctl's type and flags, and the format of its value.
pub(crate) fn sysctl_format(name: &str) -> Result<String> {
    let bytes = sysctl_about(4, name)?;
    let (kind, format) = bytes.split_first_chunk().ok_or(Errno(libc::EINVAL))?;
    Ok(format!("{:#x} {}", u32::from_ne_bytes(*kind), name_of(format)))
}

/// The node {0, what} tells of another one.
fn sysctl_about(what: u32, name: &str) -> Result<Vec<u8>> {
    let mib = [&[0, what], sysctl_mib(name)?.as_slice()].concat();
    let mut text = vec![0; 1024];
    let mut size = text.len();
    sysctl_raw(&mib, text.as_mut_ptr().expose_provenance(), &mut size, &[])?;
    text.truncate(size);
    Ok(text)
}

fn sysctl_mib(name: &str) -> Result<Vec<u32>> {
    // The node {0, 3} translates a name (sysctl(3): sysctlnametomib).
    let mut mib = [0_u32; 24];
    let mut size = size_of_val(&mib);
    sysctl_raw(&[0, 3], mib.as_mut_ptr().expose_provenance(), &mut size, name.as_bytes())?;
    Ok(mib.get(..size / 4).unwrap_or_default().to_vec())
}

/// `old` is 0 or an address with room for `size` bytes.
fn sysctl_raw(mib: &[u32], old: usize, size: &mut usize, new: &[u8]) -> Result<()> {
    let new_at = if new.is_empty() { 0 } else { new.as_ptr().expose_provenance() };
    let size_at = ptr::from_mut(size).expose_provenance();
    let mib_at = mib.as_ptr().expose_provenance();
    // SAFETY: the name, the size and the new value are borrowed; `old` has room, as both callers
    // in this module see to.
    unsafe { call(SYS_SYSCTL, [mib_at, mib.len(), old, size_at, new_at, new.len()]) }.map(drop)
}

// -------------------------------------------------------------------------------------- sockets

/// A destination or source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// 127.0.0.1 and a port.
    V4(u16),
    /// ::1 and a port.
    V6(u16),
}

impl Address {
    /// AF_INET or AF_INET6.
    pub(crate) fn family(self) -> i32 {
        match self {
            Self::V4(_) => libc::AF_INET,
            Self::V6(_) => libc::AF_INET6,
        }
    }
}

/// A struct sockaddr, as bytes.
pub(crate) struct Sockaddr(Vec<u8>);

impl Sockaddr {
    /// An IPv4 address and a port.
    pub(crate) fn inet(host: [u8; 4], port: u16) -> Self {
        let mut bytes = vec![16, libc::AF_INET as u8];
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&host);
        bytes.resize(16, 0);
        Self(bytes)
    }
}

impl From<Address> for Sockaddr {
    fn from(address: Address) -> Self {
        match address {
            Address::V4(port) => Self::inet([127, 0, 0, 1], port),
            Address::V6(port) => {
                let mut bytes = vec![28, libc::AF_INET6 as u8];
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.resize(23, 0);
                bytes.push(1);
                bytes.resize(28, 0);
                Self(bytes)
            }
        }
    }
}

/// socket(2).
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<Fd> {
    // SAFETY: no pointers.
    unsafe { call(SYS_SOCKET, [int(family), int(kind), int(protocol), 0, 0, 0]) }
        .map(|fd| Fd(as_int(fd)))
}

impl Fd {
    /// bind(2).
    pub(crate) fn bind(&self, to: impl Into<Sockaddr>) -> Result<()> {
        self.with_address(SYS_BIND, &to.into())
    }

    /// connect(2): of a datagram socket, where write(2) goes to.
    pub(crate) fn connect(&self, to: impl Into<Sockaddr>) -> Result<()> {
        self.with_address(SYS_CONNECT, &to.into())
    }

    fn with_address(&self, number: usize, Sockaddr(address): &Sockaddr) -> Result<()> {
        let at = address.as_ptr().expose_provenance();
        // SAFETY: a whole sockaddr.
        unsafe { call(number, [int(self.0), at, address.len(), 0, 0, 0]) }.map(drop)
    }

    /// setsockopt(2) of an int at SOL_SOCKET.
    pub(crate) fn set_option(&self, option: i32, value: i32) -> Result<()> {
        let at = ptr::from_ref(&value).expose_provenance();
        let arguments = [int(self.0), int(libc::SOL_SOCKET), int(option), at, size_of::<i32>(), 0];
        // SAFETY: one int.
        unsafe { call(SYS_SETSOCKOPT, arguments) }.map(drop)
    }

    /// sendto(2).
    pub(crate) fn send_to(&self, data: &[u8], to: impl Into<Sockaddr>) -> Result<usize> {
        let Sockaddr(address) = to.into();
        let at = address.as_ptr().expose_provenance();
        let data_at = data.as_ptr().expose_provenance();
        // SAFETY: the data, and a whole sockaddr.
        unsafe { call(SYS_SENDTO, [int(self.0), data_at, data.len(), 0, at, address.len()]) }
    }

    /// Sends a descriptor through a socket (SCM_RIGHTS).
    pub(crate) fn send_fd(&self, fd: &Self) -> Result<()> {
        let mut control = Control::new(fd.0);
        let mut byte = [0_u8];
        let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let message = control.message(&mut vector);
        let at = ptr::from_ref(&message).expose_provenance();
        // SAFETY: a msghdr over one byte and one control message, all borrowed.
        unsafe { call(SYS_SENDMSG, [int(self.0), at, 0, 0, 0, 0]) }.map(drop)
    }

    /// Receives one.
    pub(crate) fn receive_fd(&self) -> Result<Self> {
        let mut control = Control::new(-1);
        let mut byte = [0_u8];
        let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message = control.message(&mut vector);
        let at = ptr::from_mut(&mut message).expose_provenance();
        // SAFETY: as in `send_fd`; the kernel writes into the byte and the control message.
        unsafe { call(SYS_RECVMSG, [int(self.0), at, 0, 0, 0, 0]) }?;
        if control.fd < 0 {
            return Err(Errno(libc::EBADF));
        }
        Ok(Self(control.fd))
    }
}

/// A control message with one descriptor: struct cmsghdr, padded to 16 bytes, then the data.
#[repr(C, align(8))]
struct Control {
    length: u32,
    level: i32,
    kind: i32,
    pad: i32,
    fd: i32,
    end: i32,
}

impl Control {
    fn new(fd: i32) -> Self {
        Self { length: 20, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, pad: 0, fd, end: 0 }
    }

    fn message(&mut self, vector: &mut libc::iovec) -> libc::msghdr {
        libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: vector,
            msg_iovlen: 1,
            msg_control: ptr::from_mut(self).cast(),
            msg_controllen: size_of::<Self>() as u32,
            msg_flags: 0,
        }
    }
}

/// socketpair(2): a pair of connected local sockets.
pub(crate) fn socket_pair() -> Result<(Fd, Fd)> {
    let mut pair = [-1_i32; 2];
    let at = pair.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes two ints.
    unsafe { call(SYS_SOCKETPAIR, [int(libc::AF_UNIX), int(libc::SOCK_STREAM), 0, at, 0, 0]) }?;
    Ok((Fd(pair[0]), Fd(pair[1])))
}

/// A value of plain data out of bytes, for parsing what the kernel wrote.
pub(crate) fn parse<T: FromBytes + KnownLayout>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}
