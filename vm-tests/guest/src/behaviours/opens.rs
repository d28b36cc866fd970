// SPDX-License-Identifier: BSD-2-Clause
//! open(2) and close(2): what each kind of open may do, and several of them at once.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{ARRIVAL, Lab, Look, Place, done, look, number, told};
use crate::bpf::{Bpf, records};
use crate::ifnet::is_promiscuous;
use crate::sys::{self, Fd};
use crate::tests::{Trouble, While};

const FLAGS: [(&str, i32); 6] = [
    ("rdonly", libc::O_RDONLY),
    ("wronly", libc::O_WRONLY),
    ("rdwr", libc::O_RDWR),
    ("rdwr-nonblock", libc::O_RDWR | libc::O_NONBLOCK),
    ("rdonly-nonblock", libc::O_RDONLY | libc::O_NONBLOCK),
    ("rdwr-creat-trunc", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC),
];

type Call = fn(&Lab, Bpf) -> Result<alloc::string::String, Trouble>;

/// What can be done with an open.
const CALLS: [(&str, Call); 7] = [
    ("close", |_, bpf| Ok(done(bpf.fd.close()))),
    ("setif", |lab, bpf| Ok(done(bpf.attach(lab.interface(Place::Ethernet))))),
    ("promisc", |lab, bpf| {
        bpf.attach(lab.interface(Place::Ethernet)).at("BIOCSETIF")?;
        Ok(done(bpf.promiscuous()))
    }),
    ("read", |lab, bpf| {
        // Something to read, so that none sleeps; a writer's open counts nothing.
        lab.attach(&bpf, Place::Ethernet, u32::MAX)?;
        bpf.set_immediate(true)?;
        lab.source(Place::Ethernet)?.send(0, 60)?;
        sys::sleep(ARRIVAL);
        Ok(number(bpf.read().map(|bytes| bytes.len())))
    }),
    ("read-again", |lab, bpf| {
        lab.attach(&bpf, Place::Ethernet, u32::MAX)?;
        bpf.set_timeout_ms(20)?;
        Ok(number(bpf.read().map(|bytes| bytes.len())))
    }),
    ("write", |lab, bpf| {
        bpf.attach(lab.interface(Place::Ethernet)).at("BIOCSETIF")?;
        Ok(number(bpf.fd.write(&[0; 60])))
    }),
    ("poll", |_, bpf| Ok(number(bpf.fd.poll(libc::POLLIN, None)))),
];

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for (mode, flags) in FLAGS {
        for (call, body) in CALLS {
            let name = format!("{mode}/{call}");
            looks.push(look(name, move || body(lab, lab.open_with(flags).at("open")?)));
        }
    }
    // A second open of the same node, and of the next one where there is one.
    looks.push(look("same-node".into(), || {
        let _first = lab.open()?;
        Ok(done(Bpf::open(&lab.device.node(0)).map(drop)))
    }));
    looks.push(look("many".into(), || {
        let mut opens = vec![];
        for _ in 0..6 {
            opens.push(lab.open()?);
        }
        Ok(done(opens.pop().map_or(Ok(()), |bpf| bpf.fd.close())))
    }));
    for place in Place::ALL {
        // Each open gets every packet, and its own settings.
        looks.push(look(format!("two/{}", place.name()), move || {
            let (one, two) = (lab.listening(place, 4096)?, lab.listening(place, 8192)?);
            let (one_fd, two_fd) = (&one, &two);
            for bpf in [one_fd, two_fd] {
                bpf.fd.set_nonblocking(true)?;
            }
            let source = lab.source(place)?;
            source.fill(&two, 0..3, 70)?;
            one.flush()?;
            source.fill(&two, 3..5, 70)?;
            let count = |bpf: &Bpf| -> Result<usize, Trouble> { Ok(records(&bpf.read()?)?.len()) };
            Ok(format!("{} {}", count(&one)?, count(&two)?))
        }));
    }
    // Promiscuous mode is counted.
    looks.push(look("promiscuous-twice".into(), || {
        let interface = lab.interface(Place::Ethernet);
        let on = || told(is_promiscuous(interface), |on| format!("{on}"));
        let mut seen = vec![on()];
        let (one, two) = (lab.open()?, lab.open()?);
        for bpf in [&one, &two] {
            bpf.attach(interface)?;
            bpf.promiscuous()?;
            seen.push(on());
        }
        one.fd.close()?;
        seen.push(on());
        two.attach("lo0")?;
        seen.push(on());
        two.attach(interface)?;
        seen.push(on());
        Ok(seen.join(" "))
    }));
    // A descriptor is one open, whoever has it.
    looks.push(look("dup".into(), || {
        let bpf = lab.listening(Place::Ethernet, 4096)?;
        let copy = Bpf { fd: bpf.fd.dup()? };
        drop(bpf);
        copy.fd.set_nonblocking(true)?;
        lab.source(Place::Ethernet)?.fill(&copy, 0..2, 70)?;
        Ok(number(copy.read().map(|bytes| bytes.len())))
    }));
    looks.push(look("revoke".into(), || {
        let bpf = lab.listening(Place::Loopback, 4096)?;
        let path = lab.device.node(0);
        let revoked = done(sys::revoke(&path));
        let again = done(Fd::open(&path, libc::O_RDWR).and_then(|fd| fd.close()));
        Ok(format!("{revoked}; open {again}; close {}", done(bpf.fd.close())))
    }));
    looks
}
