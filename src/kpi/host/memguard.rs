// SPDX-License-Identifier: BSD-2-Clause
//! memguard(9): every allocation has pages of its own, which freed memory
//! loses. Who touches it then ends the process at once, with a report: who
//! allocated it, who freed it, who touches it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;
use std::{io, ptr};

use backtrace::{Backtrace, BacktraceSymbol};

use super::{guard, thread};

/// What the process exits with after a report.
pub const MEMGUARD_EXIT: i32 = 99;

/// How many freed allocations keep their addresses. With one mapping each they
/// stay below what Linux gives a process (`vm.max_map_count`).
const MOST_FREED: usize = 16 * 1024;

/// Room for a handler that looks up names of functions.
const STACK_SIZE: usize = 1 << 20;

/// Frames shown of a backtrace: from the driver out to the system call.
const MOST_FRAMES: usize = 5;

static ON: AtomicBool = AtomicBool::new(false);
/// A report is being written: nobody else may end the process.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Somebody did something.
struct Event {
    who: String,
    trace: Backtrace,
}

impl Event {
    fn now() -> Self {
        Event { who: thread::describe(), trace: Backtrace::new_unresolved() }
    }

    /// What it was, by whom, and from where.
    fn write(&mut self, out: &mut String, what: &str) -> fmt::Result {
        writeln!(out, "  {what} by {}", self.who)?;
        self.trace.resolve();
        let symbols = self.trace.frames().iter().flat_map(|frame| frame.symbols());
        for (name, place) in symbols.filter_map(show).take(MOST_FRAMES) {
            writeln!(out, "      {name:<50} {place}")?;
        }
        Ok(())
    }
}

/// Function and line, of code in this repository alone: a driver's, or what
/// led to it.
fn show(symbol: &BacktraceSymbol) -> Option<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let file = symbol.filename()?.to_str()?;
    let file = file.strip_prefix(root).unwrap_or(file);
    let name = format!("{:#}", symbol.name()?);
    // What the compiler merged has no line of its own.
    let line = symbol.lineno().filter(|line| *line != 0);
    let line = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
    // The host body's own steps in between tell nothing.
    let between =
        ["memguard.rs", "memory.rs", "thread.rs"].map(|name| format!("src/kpi/host/{name}"));
    let foreign = file.starts_with(['/', '.'])
        || between.iter().any(|other| file == other)
        || name.ends_with("{{closure}}");
    (!foreign).then_some((name, line))
}

struct Record {
    size: usize,
    allocated: Event,
    freed: Option<Event>,
}

struct Heap {
    /// By first address.
    records: BTreeMap<usize, Record>,
    /// Freed, oldest first.
    freed: VecDeque<usize>,
}

static HEAP: Mutex<Heap> = Mutex::new(Heap { records: BTreeMap::new(), freed: VecDeque::new() });

/// Gives every allocation pages of its own from now on, which it loses when it
/// is freed; or leaves that be for later ones. A thread that touches freed
/// memory is reported if it called the kernel for the first time after this;
/// others only die by SIGSEGV.
///
/// Not under a model checker, which has ways of its own.
///
/// # Panics
/// If the system refuses.
pub fn set_memguard(on: bool) {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            wait_for_report();
            before(info);
        }));
        // FreeBSD has had either for a page without access.
        for (signal, previous) in [(libc::SIGSEGV, &PREVIOUS[0]), (libc::SIGBUS, &PREVIOUS[1])] {
            // SAFETY: an all-zero sigaction is one; the handler has the
            // signature that SA_SIGINFO asks for.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = trap;
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                let mut old = std::mem::zeroed();
                check(libc::sigaction(signal, &raw const action, &raw mut old) == 0);
                *guard(previous) = Some(old);
            }
        }
    });
    ON.store(on, Ordering::SeqCst);
    prepare();
}

/// What SIGSEGV and SIGBUS did before.
static PREVIOUS: [Mutex<Option<libc::sigaction>>; 2] = [const { Mutex::new(None) }; 2];

pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// How many guarded allocations are alive.
pub(super) fn live() -> usize {
    let heap = guard(&HEAP);
    heap.records.len() - heap.freed.len()
}

/// A system call that must work.
fn check(good: bool) {
    assert!(good, "memguard: {}", io::Error::last_os_error());
}

/// # Safety
/// At `place`, unless NULL, stands a mapping of that length that nobody uses.
unsafe fn map(place: *mut c_void, len: usize, access: c_int) -> *mut c_void {
    let fixed = if place.is_null() { 0 } else { libc::MAP_FIXED };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | fixed;
    // SAFETY: anonymous memory, where nothing is or nothing is used.
    let memory = unsafe { libc::mmap(place, len, access, flags, -1, 0) };
    check(memory != libc::MAP_FAILED);
    memory
}

/// Whole pages.
fn pages(size: usize) -> usize {
    const PAGE: usize = 64 * 1024;
    // SAFETY: no arguments but a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(PAGE);
    size.max(1).next_multiple_of(page)
}

/// Zeroed memory in pages of its own.
pub(super) fn malloc(size: usize) -> *mut c_void {
    let allocated = Event::now();
    // SAFETY: wherever there is room.
    let memory = unsafe { map(ptr::null_mut(), pages(size), libc::PROT_READ | libc::PROT_WRITE) };
    let record = Record { size, allocated, freed: None };
    guard(&HEAP).records.insert(memory.expose_provenance(), record);
    memory
}

/// Takes the pages away; false if the memory is not from here.
pub(super) fn free(memory: *mut c_void) -> bool {
    let mut heap = guard(&HEAP);
    let Some(record) = heap.records.get_mut(&memory.addr()) else { return false };
    // Not before: a backtrace costs more than what most runs do in between.
    let event = Event::now();
    if record.freed.is_some() {
        let address = memory.addr();
        drop(heap);
        report(address, "freed twice", "freed again", event);
    }
    record.freed = Some(event);
    // SAFETY: the allocation's own mapping, which nobody may use any more. The
    // new one has no memory behind it.
    unsafe { map(memory, pages(record.size), libc::PROT_NONE) };
    heap.freed.push_back(memory.addr());
    if heap.freed.len() > MOST_FREED
        && let Some(oldest) = heap.freed.pop_front()
        && let Some(record) = heap.records.remove(&oldest)
    {
        let oldest = ptr::with_exposed_provenance_mut(oldest);
        // SAFETY: the mapping of an allocation that was freed.
        check(unsafe { libc::munmap(oldest, pages(record.size)) } == 0);
    }
    true
}

/// Whether the address is in freed memory.
fn is_freed(address: usize) -> bool {
    let heap = guard(&HEAP);
    let before = heap.records.range(..=address).next_back();
    before.is_some_and(|(start, record)| {
        record.freed.is_some() && address < start + pages(record.size)
    })
}

/// SIGSEGV, SIGBUS. The access that brought it here is the driver's, at a
/// place where no lock of the host body is held: this may lock and allocate,
/// as a handler of other signals may not.
extern "C" fn trap(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    wait_for_report();
    // SAFETY: the kernel's, for this call.
    let address = unsafe { (*info).si_addr() }.addr();
    if is_freed(address) {
        report(address, "used after free", "touched", Event::now());
    }
    // Somebody else's matter: the instruction runs again, with the action that
    // was there before.
    let previous = &PREVIOUS[usize::from(signal != libc::SIGSEGV)];
    if let Some(action) = *guard(previous) {
        // SAFETY: what sigaction(2) gave.
        check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } == 0);
    }
}

/// Stays here if a report is being written, which ends the process.
fn wait_for_report() {
    while REPORTING.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Tells what happened to the freed memory at `address`, and ends the process.
fn report(address: usize, what: &str, verb: &str, mut last: Event) -> ! {
    while REPORTING.swap(true, Ordering::SeqCst) {
        wait_for_report();
    }
    let mut text = String::new();
    let mut write = || -> fmt::Result {
        let mut heap = guard(&HEAP);
        let Some((start, record)) = heap.records.range_mut(..=address).next_back() else {
            return Ok(());
        };
        let (at, size) = (address - start, record.size);
        // At once: names of functions take their time.
        eprintln!("memguard: memory {what}: byte {at} of {size}");
        record.allocated.write(&mut text, "allocated")?;
        if let Some(freed) = &mut record.freed {
            freed.write(&mut text, "freed")?;
        }
        last.write(&mut text, verb)
    };
    // A String takes everything, and stderr is the last resort anyway.
    let _ = write();
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    // SAFETY: no arguments but a number. Not exit(3): other threads run.
    unsafe { libc::_exit(MEMGUARD_EXIT) }
}

/// The calling thread's stack for [`trap`].
struct Stack(*mut c_void);

thread_local! {
    static STACK: Stack = Stack::new();
}

/// Gives the calling thread a stack for the handler, if memguard is on. That
/// of std is too small: a late touch would end the process without a report.
pub(super) fn prepare() {
    if is_on() {
        STACK.with(|_| ());
    }
}

impl Stack {
    fn new() -> Self {
        // SAFETY: wherever there is room.
        let memory =
            unsafe { map(ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        Stack::set(libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: STACK_SIZE });
        Stack(memory)
    }

    fn set(stack: libc::stack_t) {
        // SAFETY: a stack that exists until it is disabled, or none.
        check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } == 0);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        Stack::set(libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: STACK_SIZE,
        });
        // SAFETY: mapped in new(), and not in use any more.
        check(unsafe { libc::munmap(self.0, STACK_SIZE) } == 0);
    }
}
