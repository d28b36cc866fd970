// SPDX-License-Identifier: BSD-2-Clause
//! Programs in the manner of libpcap, and packets that take all their ways.

use arbitrary::Unstructured;
use bpfrs::filter::Insn;

type Result<T> = arbitrary::Result<T>;
/// Where a generator of single instructions comes from.
type AnyInsn = fn(&mut Unstructured<'_>) -> Result<Insn>;

const ETHERTYPES: [u32; 5] = [0x800, 0x86dd, 0x806, 0x8100, 0x8035];
const PROTOCOLS: [u32; 4] = [6, 17, 132, 1];
/// A protocol: a fragment header of IPv6 follows.
const FRAGMENT: u32 = 44;
const PORTS: [u32; 4] = [22, 53, 80, 1024];
/// So many that a set has strangers, too.
const ADDRESSES: u32 = 48;

/// Where a jump leads.
#[derive(Clone, Copy)]
enum Label {
    Next,
    Block(usize),
    Accept,
    Reject,
    ReturnA,
}

struct Line {
    code: u16,
    k: u32,
    yes: Label,
    no: Label,
}

/// The blocks of a program, and what its jumps may lead to.
struct Writer<'u, 'd> {
    u: &'u mut Unstructured<'d>,
    lines: Vec<Line>,
    block: usize,
    blocks: usize,
    /// Only fields are asked for, and one of two ends follows.
    questions: bool,
    /// What was asked behind an IPv6 header, and is asked behind an IPv4 header next.
    asked: Option<Asked>,
}

/// Fields that two protocols have in different places.
#[derive(Clone, Copy)]
enum Fields {
    Protocol,
    Ports,
    Addresses,
}

/// What is asked of them.
#[derive(Clone, Copy)]
struct Asked {
    /// Protocols, and how many of them.
    protocols: ([u32; 3], usize),
    how: u8,
    values: [u32; 2],
    what: Fields,
    /// What of an address counts.
    mask: Option<u32>,
    yes: Label,
    no: Label,
}

impl Writer<'_, '_> {
    fn of<T: Copy>(&mut self, items: &[T]) -> Result<T> {
        self.u.choose(items).copied()
    }

    /// Some block after this one, or an end.
    fn label(&mut self) -> Result<Label> {
        Ok(match self.u.arbitrary::<u8>()? % 8 {
            0..3 => Label::Reject,
            3..5 => Label::Accept,
            5 if !self.questions => Label::ReturnA,
            _ if self.block + 1 == self.blocks => Label::Reject,
            _ => Label::Block(self.u.int_in_range(self.block + 1..=self.blocks - 1)?),
        })
    }

    fn line(&mut self, code: u16, k: u32) {
        self.branch(code, k, Label::Next, Label::Next);
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) {
        self.lines.push(Line { code, k, yes, no });
    }

    /// jeq with several constants that lead to the same place.
    fn one_of(&mut self, keys: &[u32], yes: Label, no: Label) {
        for (i, key) in keys.iter().enumerate() {
            let last = i + 1 == keys.len();
            self.branch(0x15, *key, yes, if last { no } else { Label::Next });
        }
    }

    fn ethertype(&mut self) -> Result<()> {
        self.line(0x28, 12);
        let (yes, also, no) = (self.label()?, self.label()?, self.label()?);
        let (first, second) = (self.of(&ETHERTYPES)?, self.of(&ETHERTYPES)?);
        self.branch(0x15, first, yes, Label::Next);
        self.branch(0x15, second, also, no);
        Ok(())
    }

    /// One of two protocols of IPv6, which lead to different places.
    fn next_header(&mut self, yes: Label, no: Label) -> Result<()> {
        self.line(0x30, 20);
        let (protocol, also) = (self.of(&PROTOCOLS)?, self.label()?);
        self.branch(0x15, protocol, yes, Label::Next);
        self.branch(0x15, FRAGMENT, also, no);
        Ok(())
    }

    fn protocol(&mut self, yes: Label, no: Label) -> Result<()> {
        let at = self.of(&[20, 23])?;
        self.line(0x30, at);
        let keys = 1 + usize::from(self.u.arbitrary::<u8>()? % 4);
        let keys: Vec<u32> = (0..keys).map(|_| self.of(&PROTOCOLS)).collect::<Result<_>>()?;
        self.one_of(&keys, yes, no);
        Ok(())
    }

    fn fragment(&mut self, yes: Label) -> Result<()> {
        self.line(0x28, 20);
        let bits = self.of(&[0x1fff, 0x1fff, 0x2000])?;
        self.branch(0x45, bits, yes, Label::Next);
        let at = self.of(&[14, 14, 18, 90])?;
        self.line(0xb1, at);
        Ok(())
    }

    /// A load, perhaps of a part.
    fn field(&mut self, size: u16, indirect: bool, at: u32, mask: Option<u32>) {
        self.line(size | if indirect { 0x40 } else { 0x20 }, at);
        if let Some(mask) = mask {
            self.line(0x54, mask);
        }
    }

    fn mask(&mut self) -> Result<Option<u32>> {
        self.of(&[None, None, Some(0xffff_fff0), Some(0x0f), Some(0)])
    }

    /// A value that a field of that size may have.
    fn value(&mut self, size: u16) -> Result<u32> {
        match size {
            0x00 => Ok(0x0a00_0000 + self.u.int_in_range(0..=ADDRESSES)?),
            0x08 => self.of(&PORTS),
            _ => self.of(&PROTOCOLS),
        }
    }

    fn pair(&mut self, size: u16, indirect: bool, yes: Label, no: Label) -> Result<()> {
        let at = self.of(if size == 0 { &[(26, 30), (28, 38)] } else { &[(14, 16), (54, 56)] })?;
        let (mask, k) = (self.mask()?, self.value(size)?);
        self.field(size, indirect, at.0, mask);
        self.branch(0x15, k, yes, Label::Next);
        self.field(size, indirect, at.1, mask);
        // Rarely not the same.
        let k = if self.u.ratio(1, 8)? { self.value(size)? } else { k };
        self.branch(0x15, k, yes, no);
        Ok(())
    }

    /// The protocol, and the ports behind the header: in this block those of one of IPv6 and IPv4,
    /// in the next one those of the other.
    fn ports(&mut self, asked: Asked, at: u32, indirect: bool) -> Result<()> {
        let Asked { protocols, how, values: [port, other], yes, no, .. } = asked;
        self.line(0x30, if indirect { 23 } else { 20 });
        self.one_of(&protocols.0[..protocols.1], Label::Next, no);
        self.join();
        if indirect {
            self.fragment(no)?;
        }
        self.field(0x08, indirect, at, None);
        match how {
            0 => self.branch(0x15, port, yes, Label::Next),
            1 => self.one_of(&[port, other], yes, Label::Next),
            _ => {
                self.branch(0x35, port, Label::Next, no);
                self.branch(0x25, other, no, yes);
                return Ok(());
            }
        }
        self.field(0x08, indirect, at + 2, None);
        self.one_of(&[port, other][..1 + usize::from(how)], yes, no);
        Ok(())
    }

    /// What libpcap makes of fields of two protocols, in two blocks, if it is to be.
    fn begin_both(&mut self) -> Result<Option<Asked>> {
        if !self.questions || self.block != 0 || self.blocks < 2 || !self.u.ratio(1, 4)? {
            return Ok(None);
        }
        let protocols = [self.value(0x10)?, self.value(0x10)?, self.value(0x10)?];
        // Behind both.
        self.block = 1;
        let (yes, no) = match self.u.arbitrary::<u8>()? % 4 {
            0 => (self.label()?, self.label()?),
            1 => (Label::Reject, Label::Accept),
            _ => (Label::Accept, Label::Reject),
        };
        self.block = 0;
        Ok(Some(Asked {
            protocols: (protocols, self.u.int_in_range(1..=3)?),
            how: self.u.int_in_range(0..=2)?,
            values: [self.value(0x08)?, self.value(0x08)?],
            what: *self.u.choose(&[Fields::Protocol, Fields::Ports, Fields::Addresses])?,
            mask: None,
            yes,
            no,
        }))
    }

    /// Two addresses: one of them, or both.
    fn two_addresses(&mut self, asked: Asked, at: [u32; 2]) {
        let Asked { how, values: [first, second], mask, yes, no, .. } = asked;
        let (found, missed) = if how == 0 { (yes, Label::Next) } else { (Label::Next, no) };
        self.field(0x00, false, at[0], mask);
        self.branch(0x15, first, found, missed);
        self.field(0x00, false, at[1], mask);
        self.branch(0x15, if how == 0 { first } else { second }, yes, no);
    }

    /// The first of two blocks, with the fields of one protocol.
    fn first_of_both(&mut self, mut asked: Asked) -> Result<()> {
        self.line(0x28, 12);
        let first = if matches!(asked.what, Fields::Addresses) { 0x800 } else { 0x86dd };
        self.branch(0x15, first, Label::Next, Label::Block(1));
        match asked.what {
            Fields::Protocol => {
                let (protocol, Asked { yes, no, .. }) = (asked.protocols.0[0], asked);
                self.line(0x30, 20);
                self.branch(0x15, protocol, yes, Label::Next);
                self.branch(0x15, FRAGMENT, Label::Next, no);
                self.line(0x30, 54);
                self.branch(0x15, protocol, yes, no);
            }
            Fields::Ports => self.ports(asked, 54, false)?,
            Fields::Addresses => {
                asked.how = self.u.int_in_range(0..=1)?;
                asked.values = [self.value(0x00)?, self.value(0x00)?];
                asked.mask = self.mask()?;
                self.two_addresses(asked, [26, 30]);
            }
        }
        self.asked = Some(asked);
        Ok(())
    }

    /// The second one, with those of another: alike, but for a mistake now and then.
    fn second_of_both(&mut self, mut asked: Asked) -> Result<()> {
        let rarely = |u: &mut Unstructured<'_>| u.ratio(1, 24);
        let no = if rarely(self.u)? { self.label()? } else { asked.no };
        if rarely(self.u)? {
            asked.values[0] = self.value(0x08)?;
        }
        if rarely(self.u)? {
            asked.protocols.0[0] = self.value(0x10)?;
        }
        if rarely(self.u)? {
            asked.mask = self.mask()?;
        }
        if rarely(self.u)? {
            asked.yes = self.label()?;
        }
        match asked.what {
            Fields::Protocol => {
                self.branch(0x15, 0x800, Label::Next, no);
                self.line(0x30, 23);
                self.branch(0x15, asked.protocols.0[0], asked.yes, asked.no);
            }
            Fields::Ports => {
                self.branch(0x15, 0x800, Label::Next, no);
                let at = if rarely(self.u)? { 16 } else { 14 };
                self.ports(asked, at, true)?;
            }
            Fields::Addresses => {
                if self.u.arbitrary()? {
                    self.branch(0x15, 0x806, Label::Next, Label::Next);
                    self.branch(0x15, 0x8035, Label::Next, no);
                    self.join();
                } else {
                    self.branch(0x15, 0x806, Label::Next, no);
                }
                self.two_addresses(asked, [28, 38]);
            }
        }
        Ok(())
    }

    fn block(&mut self, any: AnyInsn) -> Result<()> {
        if let Some(asked) = self.asked.take() {
            return self.second_of_both(asked);
        }
        if let Some(asked) = self.begin_both()? {
            return self.first_of_both(asked);
        }
        let (yes, no) = (self.label()?, self.label()?);
        let (size, indirect) = (self.of(&[0x00, 0x08, 0x08, 0x10])?, self.u.arbitrary()?);
        let at = self.of(&[12, 14, 16, 20, 23, 26, 30, 54, 56])?;
        let kind = if self.questions {
            self.of(&[0, 1, 2, 3, 4, 6, 8, 9, 11, 12])?
        } else {
            self.u.arbitrary::<u8>()? % 16
        };
        match kind {
            0 => self.ethertype()?,
            1 => self.next_header(yes, no)?,
            2 => self.protocol(yes, no)?,
            3 => self.fragment(yes)?,
            4 | 5 => self.pair(size, indirect, yes, no)?,
            6 => {
                self.field(size, indirect, at, None);
                let (low, high) = (self.value(size)?, self.value(size)?);
                self.branch(0x35, low, Label::Next, no);
                self.branch(0x25, high, no, yes);
            }
            7 => {
                let (mask, len) = (self.mask()?, self.u.int_in_range(2..=40)?);
                self.field(size, indirect, at, mask);
                let keys = (0..len).map(|_| self.value(size)).collect::<Result<Vec<_>>>()?;
                self.one_of(&keys, yes, no);
            }
            8 => {
                let (mask, k) = (self.mask()?, self.value(size)?);
                self.field(size, indirect, at, mask);
                let code = self.of(&[0x15, 0x25, 0x35, 0x45])?;
                self.branch(code, k, yes, no);
            }
            9 | 10 => {
                self.protocol(Label::Next, no)?;
                // The ways in between lead on, as from more than one protocol.
                self.join();
                self.fragment(no)?;
                if self.u.arbitrary()? {
                    self.pair(0x08, true, yes, no)?;
                }
            }
            11 => {
                self.protocol(Label::Next, no)?;
                self.join();
                self.pair(0x08, false, yes, no)?;
            }
            12 => {
                let k = self.value(size)?;
                let codes = [0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d];
                let code = self.of(if self.questions { &codes[..4] } else { &codes })?;
                self.branch(code, k, yes, no);
            }
            13 => self.branch(0x05, 0, yes, yes),
            _ => {
                for _ in 0..self.u.int_in_range(1..=5)? {
                    let insn = any(self.u)?;
                    let k = match insn.code {
                        0x02 | 0x03 | 0x60 | 0x61 => insn.k % 16,
                        0x34 | 0x94 => insn.k.max(1),
                        _ => insn.k,
                    };
                    // No jumps, no ends, and nothing that is not known.
                    if insn.code & 7 != 5
                        && insn.code & 7 != 6
                        && super::filter::is_known(insn.code)
                    {
                        self.line(insn.code, k);
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets every `yes` of the block so far that leads to the next line lead
    /// to the one after the last.
    fn join(&mut self) {
        let end = Label::Block(self.block + MIDDLE);
        for line in self.lines.iter_mut().rev().take_while(|line| line.code & 7 == 5) {
            if matches!(line.yes, Label::Next) {
                line.yes = end;
            }
        }
        self.lines.push(Line { code: MARK, k: self.block as u32, yes: end, no: end });
    }
}

/// A place inside a block, not an instruction; and its number as a block's.
const MARK: u16 = u16::MAX;
const MIDDLE: usize = 1 << 16;

/// A valid program.
pub fn program(u: &mut Unstructured<'_>, any: AnyInsn) -> Result<Vec<Insn>> {
    let blocks = u.int_in_range(1..=8)?;
    let questions = u.ratio(1, 3)?;
    let mut writer = Writer { u, lines: Vec::new(), block: 0, blocks, questions, asked: None };
    // Where blocks begin, and where their middles are.
    let mut places = std::collections::HashMap::new();
    for block in 0..blocks {
        places.insert(block, writer.lines.len());
        writer.block = block;
        writer.block(any)?;
        if let Some(at) = writer.lines.iter().position(|line| line.code == MARK) {
            writer.lines.remove(at);
            places.insert(block + MIDDLE, at);
        }
    }
    let end = writer.lines.len();
    let place = |at: usize, label: Label| match label {
        Label::Next => at + 1,
        Label::Block(block) => places[&block],
        Label::Reject => end,
        Label::Accept => end + 1,
        Label::ReturnA => end + 2,
    };
    let mut insns = Vec::new();
    for (at, line) in writer.lines.iter().enumerate() {
        let [yes, no] = [line.yes, line.no].map(|label| place(at, label) - at - 1);
        insns.push(match line.code {
            0x05 => Insn { code: 0x05, jt: 0, jf: 0, k: yes as u32 },
            // Farther than a branch reaches: rejected, in its place.
            _ if line.code & 7 == 5 && yes.max(no) > 255 => Insn { code: 6, jt: 0, jf: 0, k: 0 },
            code if code & 7 == 5 => Insn { code, jt: yes as u8, jf: no as u8, k: line.k },
            code => Insn { code, jt: 0, jf: 0, k: line.k },
        });
    }
    for (code, k) in [(0x06, 0), (0x06, u.int_in_range(1..=0x4_0000)?), (0x16, 0)] {
        insns.push(Insn { code, jt: 0, jf: 0, k });
    }
    Ok(insns)
}

/// A frame that may be what a program looks for.
pub fn packet(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=96)?;
    let mut packet = vec![0; len];
    for byte in &mut packet {
        *byte = u.arbitrary().unwrap_or_default();
    }
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = packet.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    if u.ratio(1, 8)? {
        return Ok(packet);
    }
    put(12, &(*u.choose(&ETHERTYPES)? as u16).to_be_bytes());
    put(14, &[*u.choose(&[0x45, 0x45, 0x46, 0x4f])?]);
    put(20, &[*u.choose(&[0, 6, 17, 0x20, FRAGMENT as u8])?, *u.choose(&[0, 0, 1])?]);
    put(23, &[*u.choose(&PROTOCOLS)? as u8]);
    for at in [26, 28, 30, 38] {
        if u.arbitrary()? {
            put(at, &(0x0a00_0000 + u.int_in_range(0..=ADDRESSES)?).to_be_bytes());
        }
    }
    for at in [34, 36, 54, 56] {
        if u.arbitrary()? {
            put(at, &(*u.choose(&PORTS)? as u16).to_be_bytes());
        }
    }
    Ok(packet)
}
