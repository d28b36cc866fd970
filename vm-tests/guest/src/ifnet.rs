// SPDX-License-Identifier: BSD-2-Clause
//! Network interfaces: made, configured, moved between vnets, and gone again.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bpf::name_of;
use crate::driver::eventually;
use crate::sys::{self, Errno, Fd, Result};
use crate::tests::{Child, Trouble, Verdict, While, ensure};

const SIOCSIFFLAGS: u64 = 0x8020_6910;
const SIOCGIFFLAGS: u64 = 0xc020_6911;
const SIOCSIFVNET: u64 = 0xc020_695a;
const SIOCSIFRVNET: u64 = 0xc020_695b;
const SIOCIFDESTROY: u64 = 0x8020_6979;
const SIOCIFCREATE: u64 = 0xc020_697a;
const SIOCGHWADDR: u64 = 0xc020_693e;
const SIOCGIFMEDIA: u64 = 0xc030_6938;
const NIOCREGIF: u64 = 0xc03c_6992;

const IFF_UP: u16 = 0x1;
const IFF_PROMISC: u16 = 0x100;

/// IFM_AVALID and IFM_ACTIVE (net/if_media.h).
const LINK: [u8; 4] = 3_i32.to_ne_bytes();

/// ifr_name, then a union.
const NAME: usize = 16;

/// A program of the system is done by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// struct ifreq, or another one that begins with a name, with that filled in.
pub(crate) fn request<const SIZE: usize>(interface: &str) -> [u8; SIZE] {
    let mut request = [0; SIZE];
    for (to, from) in request.iter_mut().zip(interface.bytes().take(NAME - 1)) {
        *to = from;
    }
    request
}

fn control(command: u64, request: &mut [u8; 32]) -> Result<()> {
    sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?.ioctl(command, request)
}

fn flags(interface: &str) -> Result<u16> {
    let mut request = request(interface);
    control(SIOCGIFFLAGS, &mut request)?;
    Ok(u16::from_ne_bytes([request[NAME], request[NAME + 1]]))
}

/// Whether an interface is promiscuous.
pub(crate) fn is_promiscuous(interface: &str) -> Result<bool> {
    flags(interface).map(|flags| flags & IFF_PROMISC != 0)
}

/// The address that an Ethernet was made with.
pub(crate) fn address(interface: &str) -> Result<[u8; 6]> {
    // Behind the name a sockaddr: length, family, data.
    const ADDRESS: usize = NAME + 2;
    let mut request = request(interface);
    control(SIOCGHWADDR, &mut request)?;
    request[ADDRESS..].first_chunk().copied().ok_or(Errno(libc::EINVAL))
}

/// Whether this vnet has an interface of that name.
pub(crate) fn exists(interface: &str) -> bool {
    flags(interface).is_ok()
}

/// Sets IFF_UP.
pub(crate) fn up(interface: &str) -> Result<()> {
    let flags = flags(interface)? | IFF_UP;
    let mut request = request(interface);
    request[NAME..NAME + 2].copy_from_slice(&flags.to_ne_bytes());
    control(SIOCSIFFLAGS, &mut request)
}

/// Waits until a card says that its cable is in: before that its driver drops what it is to send.
pub(crate) fn wait_for_link(interface: &str) -> Verdict {
    // struct ifmediareq: the name, then current, mask and status, 32 bits each; a list.
    const STATUS: usize = NAME + 8;
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).at("socket")?;
    let active = eventually(PATIENCE, || {
        let mut media: [u8; 48] = request(interface);
        socket.ioctl(SIOCGIFMEDIA, &mut media).is_ok() && media[STATUS..STATUS + 4] == LINK
    });
    ensure!(active, "{interface} has no link");
    Ok(())
}

/// Takes an interface over by netmap(4), until the file is closed.
pub(crate) fn netmap(interface: &str) -> core::result::Result<Fd, Trouble> {
    // struct nmreq (net/netmap_legacy.h): the name, the version of the interface, 36 bytes that may
    // be 0, flags (NR_REG_ALL_NIC), a spare word.
    const VERSION: usize = NAME;
    const FLAGS: usize = 52;
    let netmap = Fd::open("/dev/netmap", libc::O_RDWR | libc::O_CLOEXEC);
    if let Err(Errno(libc::ENOENT)) = netmap {
        return Err(Trouble::NotHere("no netmap(4) here".into()));
    }
    let netmap = netmap.at("/dev/netmap")?;
    let mut request: [u8; 60] = request(interface);
    request[VERSION..VERSION + 4].copy_from_slice(&14_u32.to_ne_bytes());
    request[FLAGS..FLAGS + 4].copy_from_slice(&1_u32.to_ne_bytes());
    netmap.ioctl(NIOCREGIF, &mut request).at(&format!("NIOCREGIF {interface}"))?;
    Ok(netmap)
}

/// Gives an interface to a jail's vnet.
pub(crate) fn move_to_jail(interface: &str, jail: i32) -> Result<()> {
    with_jail(SIOCSIFVNET, interface, jail)
}

/// Takes it back.
pub(crate) fn take_from_jail(interface: &str, jail: i32) -> Result<()> {
    with_jail(SIOCSIFRVNET, interface, jail)
}

fn with_jail(command: u64, interface: &str, jail: i32) -> Result<()> {
    let mut request = request(interface);
    request[NAME..NAME + 4].copy_from_slice(&jail.to_ne_bytes());
    control(command, &mut request)
}

/// An interface that was made here; destroyed when dropped.
pub(crate) struct Cloned {
    name: String,
}

impl Cloned {
    /// Makes one: "tap7", or "epair7", which makes epair7a and epair7b and stands for both.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut request = request(name);
        control(SIOCIFCREATE, &mut request)?;
        Ok(Self { name: name_of(&request[..NAME]) })
    }

    /// Its name; of an epair the first end's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Destroys it; only its result differs from dropping.
    pub(crate) fn destroy(self) -> Result<()> {
        let result = self.away();
        core::mem::forget(self);
        result
    }

    /// Destroys it, perhaps for another process that has it, too.
    pub(crate) fn away(&self) -> Result<()> {
        control(SIOCIFDESTROY, &mut request(&self.name))
    }
}

impl Drop for Cloned {
    fn drop(&mut self) {
        // Gone already, with what it was on, or with its jail.
        let _ = self.away();
    }
}

/// A pair of joined interfaces, both up, on which the system sends nothing by itself.
pub(crate) struct Epair {
    pair: Cloned,
    /// One end.
    pub(crate) a: String,
    /// The other.
    pub(crate) b: String,
}

impl Epair {
    pub(crate) fn new(number: u32) -> core::result::Result<Self, Trouble> {
        let name = format!("epair{number}");
        let pair = Cloned::new(&name).at(&name)?;
        let (a, b) = (format!("{name}a"), format!("{name}b"));
        for end in [&a, &b] {
            up(end).at(end)?;
        }
        Ok(Self { pair, a, b })
    }

    /// What stands for both.
    pub(crate) fn into_cloned(self) -> Cloned {
        self.pair
    }
}

/// New interfaces get no IPv6 address, so neither duplicate address detection nor MLD speaks on
/// them; and nobody reads devctl(4) here: its notices of interfaces would pile up.
pub(crate) fn silence() -> Verdict {
    let zero = 0_i32.to_ne_bytes();
    sys::set_sysctl("net.inet6.ip6.auto_linklocal", &zero).at("net.inet6.ip6.auto_linklocal")?;
    sys::set_sysctl("hw.bus.devctl_queue", &zero).at("hw.bus.devctl_queue")
}

/// Runs a program of the system: "ifconfig bridge0 create".
pub(crate) fn run(command: &str) -> Verdict {
    run_in(0, command)
}

/// … in a jail, unless it is 0.
pub(crate) fn run_in(jail: i32, command: &str) -> Verdict {
    let words: Vec<&str> = command.split(' ').collect();
    let Some(name) = words.first() else { return Ok(()) };
    let places = ["/sbin", "/usr/sbin"].map(|folder| format!("{folder}/{name}"));
    let Some(program) = places.iter().find(|path| sys::stat(path).is_ok()) else {
        return Err(Trouble::NotHere(format!("no {name} here")));
    };
    let child = Child::start(|| {
        if jail != 0 && sys::jail_attach(jail).is_err() {
            return 126;
        }
        if let Ok(null) = Fd::open("/dev/null", libc::O_RDWR) {
            let _ = null.dup_to(1);
        }
        let _ = sys::exec(program, &words);
        127
    })?;
    let status = child.finish(PATIENCE)?;
    ensure!(status == 0, "{command}: exit status {status}");
    Ok(())
}

/// A jail with a vnet of its own; gone when dropped, and its interfaces are back then.
pub(crate) struct Jail {
    /// Its number.
    pub(crate) id: i32,
}

impl Jail {
    pub(crate) fn new(id: i32, options: &str) -> core::result::Result<Self, Trouble> {
        run(&format!("jail -c jid={id} persist {options}"))?;
        Ok(Self { id })
    }

    /// Runs something in a process inside; its exit status.
    pub(crate) fn start(&self, body: impl FnOnce() -> i32) -> core::result::Result<Child, Trouble> {
        let id = self.id;
        Child::start(move || match sys::jail_attach(id) {
            Ok(()) => body(),
            Err(Errno(_)) => 126,
        })
    }

    /// Runs a test in a process inside.
    pub(crate) fn try_in(
        &self,
        what: &str,
        limit: Duration,
        body: impl FnOnce() -> Verdict,
    ) -> Verdict {
        let child = self.start(|| match body() {
            Ok(()) => 0,
            Err(Trouble::Wrong(why) | Trouble::NotHere(why)) => {
                crate::report::human(&format!("in the jail: {why}"));
                1
            }
        })?;
        let status = child.finish(limit)?;
        ensure!(status == 0, "{what}, in a jail: not as it should be (see above)");
        Ok(())
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = run(&format!("jail -r {}", self.id));
    }
}
