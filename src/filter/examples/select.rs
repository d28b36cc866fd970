// SPDX-License-Identifier: BSD-2-Clause
//! Copies the packets that a filter selects from one capture file to another.
//!
//!     tcpdump -y EN10MB -ddd tcp port 80 >port80
//!     cargo run --release -p bpfrs-filter --example select -- port80 in.pcap out.pcap
//!
//! What `tcpdump -ddd` prints does not say for which link type it was compiled; files of
//! another one than Ethernet's need `-y`, here as there.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use bpfrs_filter::{Captured, Heap, Program, decimal};

type Error = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Error>;

/// Link types by their names in tcpdump, as capture files number them.
const LINK_TYPES: [(&str, u32); 9] = [
    ("NULL", 0),
    ("EN10MB", 1),
    ("PPP", 9),
    ("RAW", 101),
    ("IEEE802_11", 105),
    ("LOOP", 108),
    ("LINUX_SLL", 113),
    ("IEEE802_11_RADIO", 127),
    ("LINUX_SLL2", 276),
];

fn link_type(name: &str) -> Option<u32> {
    let known = LINK_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, number)| *number).or_else(|| name.parse().ok())
}

/// As a person knows it.
fn link_name(number: u32) -> String {
    let known = LINK_TYPES.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("link type {number}"), |(name, _)| (*name).to_owned())
}

/// No packet is longer, whatever its record says: libpcap's limit.
const LONGEST: u32 = 262_144;

/// A capture file that is read, up to its packets.
struct Capture<R> {
    file: R,
    /// The header, as it stands there.
    header: [u8; 24],
    big_endian: bool,
    /// Longer packets are cut, as libpcap does.
    snaplen: u32,
    link_type: u32,
}

/// A packet's record.
struct Record {
    header: [u8; 16],
    bytes: Vec<u8>,
    wire_len: u32,
}

/// Fills `buffer`: how many bytes there were before the end of the file.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn number(bytes: &[u8], big_endian: bool) -> u32 {
    let bytes = bytes.try_into().expect("four bytes");
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

impl<R: Read> Capture<R> {
    fn open(mut file: R) -> Result<Self> {
        let mut header = [0; 24];
        let len = fill(&mut file, &mut header)?;
        let big_endian = match header[..4] {
            _ if len == 0 => return Err("an empty file".into()),
            // Microseconds, and nanoseconds: nobody looks at the times here.
            [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => false,
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => true,
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                return Err("a pcapng file: tcpdump -r FILE -w NEW makes a pcap file of it".into());
            }
            _ => return Err("no pcap file".into()),
        };
        if len < header.len() {
            return Err(format!("truncated: {len} bytes of the 24 of a header").into());
        }
        let snaplen = match number(&header[16..20], big_endian) {
            0 => LONGEST,
            snaplen => snaplen.min(LONGEST),
        };
        // The upper half tells of a frame's checksum.
        let link_type = number(&header[20..], big_endian) & 0xffff;
        Ok(Capture { file, header, big_endian, snaplen, link_type })
    }

    /// The next packet; none at the end of the file.
    fn next(&mut self) -> Result<Option<Record>> {
        let mut header = [0; 16];
        match fill(&mut self.file, &mut header)? {
            0 => return Ok(None),
            16 => {}
            len => return Err(format!("truncated: {len} bytes of its header's 16").into()),
        }
        let len = number(&header[8..12], self.big_endian);
        if len > LONGEST {
            return Err(format!("it has {len} bytes, more than any: the file is damaged").into());
        }
        let mut bytes = vec![0; len as usize];
        let there = fill(&mut self.file, &mut bytes)?;
        if there < bytes.len() {
            return Err(format!("truncated: {there} of its {len} bytes").into());
        }
        bytes.truncate(self.snaplen as usize);
        let wire_len = number(&header[12..], self.big_endian);
        Ok(Some(Record { header, bytes, wire_len }))
    }

    /// A record as this file would have it, with the first `keep` bytes.
    fn write(&self, to: &mut impl Write, record: &Record, keep: usize) -> io::Result<()> {
        let bytes = &record.bytes[..record.bytes.len().min(keep)];
        let len = bytes.len() as u32;
        let mut header = record.header;
        header[8..12].copy_from_slice(&if self.big_endian {
            len.to_be_bytes()
        } else {
            len.to_le_bytes()
        });
        to.write_all(&header)?;
        to.write_all(bytes)
    }
}

/// Whether two paths lead to one file.
fn same(from: &File, to: &Path) -> Result<bool> {
    let id = |file: fs::Metadata| (file.dev(), file.ino());
    Ok(fs::metadata(to).is_ok_and(|to| from.metadata().is_ok_and(|from| id(from) == id(to))))
}

/// How many packets were selected, and of how many.
fn select(wanted: u32, program: &Path, from: &Path, to: &Path) -> Result<(u64, u64)> {
    // Each error begins with the file that it is about.
    fn about<E: Into<Error>>(path: &Path) -> impl Fn(E) -> Error {
        move |error| format!("{}: {}", path.display(), error.into()).into()
    }
    let compile = |text: String| -> Result<Program<Heap>> {
        let insns: Vec<_> = decimal::insns(&text)?.collect::<std::result::Result<_, _>>()?;
        Ok(Program::new(insns.into())?)
    };
    let text = fs::read_to_string(program).map_err(about(program))?;
    let program = compile(text).map_err(about(program))?;

    let file = File::open(from).map_err(about(from))?;
    if same(&file, to)? {
        return Err(about(to)("is the file that is read, too"));
    }
    let mut capture = Capture::open(BufReader::new(file)).map_err(about(from))?;
    if capture.link_type != wanted {
        let (is, wanted) = (link_name(capture.link_type), link_name(wanted));
        return Err(about(from)(format!("{is}, but the filter is for {wanted}: see -y")));
    }

    let mut writer = BufWriter::new(File::create(to).map_err(about(to))?);
    writer.write_all(&capture.header).map_err(about(to))?;
    let (mut all, mut selected) = (0, 0);
    loop {
        let record = match capture.next() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => {
                // What was selected until then is whole.
                writer.flush().map_err(about(to))?;
                return Err(about(from)(format!("packet {}: {error}", all + 1)));
            }
        };
        all += 1;
        // A program says how much it wants.
        let keep = program.run(&Captured { bytes: &record.bytes, wire_len: record.wire_len });
        if keep != 0 {
            capture.write(&mut writer, &record, keep as usize).map_err(about(to))?;
            selected += 1;
        }
    }
    writer.flush().map_err(about(to))?;
    Ok((selected, all))
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut wanted = "EN10MB".to_owned();
    if arguments.len() > 1 && arguments[0] == "-y" {
        wanted = arguments.remove(1);
        arguments.remove(0);
    }
    let [program, from, to] = &arguments[..] else {
        eprintln!(
            "select [-y LINK-TYPE] PROGRAM FROM TO: a program as tcpdump -ddd prints it, two capture files"
        );
        return ExitCode::from(2);
    };
    let Some(wanted) = link_type(&wanted) else {
        let known = LINK_TYPES.map(|(name, _)| name).join(", ");
        eprintln!("select: -y {wanted}: a number, or one of {known}");
        return ExitCode::from(2);
    };
    match select(wanted, program.as_ref(), from.as_ref(), to.as_ref()) {
        Ok((selected, all)) => {
            println!("{selected} of {all} packets");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("select: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes away.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("select-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        /// Whole packets of IPv4, and what is said of `capture`.
        fn select(&self, capture: &[u8]) -> std::result::Result<(u64, u64), String> {
            self.select_with("3\n40 0 0 12\n21 0 0 2048\n6 0 0 4\n", capture, "out")
        }

        fn select_with(
            &self,
            program: &str,
            capture: &[u8],
            out: &str,
        ) -> std::result::Result<(u64, u64), String> {
            let path = |name| self.0.join(name);
            fs::write(path("program"), program).unwrap();
            fs::write(path("in"), capture).unwrap();
            select(1, &path("program"), &path("in"), &path(out))
                .map_err(|error| error.to_string().replace(&format!("{}/", self.0.display()), ""))
        }

        fn out(&self) -> Vec<u8> {
            fs::read(self.0.join("out")).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn bytes(big_endian: bool, numbers: &[u32]) -> Vec<u8> {
        let bytes = |n: &u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        numbers.iter().flat_map(bytes).collect()
    }

    fn header(big_endian: bool, snaplen: u32, link_type: u32) -> Vec<u8> {
        bytes(big_endian, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, snaplen, link_type])
    }

    fn packet(big_endian: bool, len: u32) -> Vec<u8> {
        let mut packet = bytes(big_endian, &[7, 8, len, 1500]);
        packet.extend((0..len).map(|at| at as u8));
        packet
    }

    /// Keeps 4 bytes of each packet that has 14, in either order of bytes.
    #[test]
    fn copies_what_is_selected() {
        let folder = Folder::new("copies");
        for big in [false, true] {
            let capture = [header(big, 100, 1), packet(big, 20), packet(big, 10), packet(big, 14)];
            assert_eq!(folder.select(&capture.concat()), Ok((2, 3)));
            let kept = [bytes(big, &[7, 8, 4, 1500]), vec![0, 1, 2, 3]].concat();
            assert_eq!(folder.out(), [header(big, 100, 1), kept.clone(), kept].concat());
        }
    }

    /// As tcpdump reads them: cut to the length that the file announces.
    #[test]
    fn cuts_what_is_longer_than_announced() {
        let folder = Folder::new("cuts");
        let program = "1\n6 0 0 262144\n";
        let capture = [header(false, 16, 1), packet(false, 40)].concat();
        assert_eq!(folder.select_with(program, &capture, "out"), Ok((1, 1)));
        let kept = [bytes(false, &[7, 8, 16, 1500]), (0..16).collect()].concat();
        assert_eq!(folder.out()[24..], kept);
        // Zero announces nothing.
        let capture = [header(false, 0, 1), packet(false, 40)].concat();
        assert_eq!(folder.select_with(program, &capture, "out"), Ok((1, 1)));
        assert_eq!(folder.out().len(), 24 + 16 + 40);
    }

    #[test]
    fn says_what_is_wrong_with_which_file() {
        let folder = Folder::new("says");
        let good = header(false, 100, 1);
        let with = |more: &[u8]| [&good[..], &packet(false, 20), more].concat();
        let said = |capture: &[u8]| folder.select(capture).unwrap_err();
        assert_eq!(said(b""), "in: an empty file");
        assert_eq!(said(&good[..20]), "in: truncated: 20 bytes of the 24 of a header");
        assert_eq!(said(&[0; 30]), "in: no pcap file");
        let pcapng = [0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0];
        assert!(said(&pcapng).starts_with("in: a pcapng file"));
        assert_eq!(said(&with(&[0; 5])), "in: packet 2: truncated: 5 bytes of its header's 16");
        // What came before is there.
        assert_eq!(folder.out().len(), 24 + 16 + 4);
        let cut = &packet(false, 20)[..30];
        assert_eq!(said(&with(cut)), "in: packet 2: truncated: 14 of its 20 bytes");
        let damaged = bytes(false, &[0, 0, 1 << 30, 0]);
        let said = said(&with(&damaged));
        assert!(said.starts_with("in: packet 2: it has 1073741824 bytes"), "{said}");
    }

    #[test]
    fn another_link_type_is_refused() {
        let folder = Folder::new("link");
        let raw = [header(false, 100, 101), packet(false, 20)].concat();
        assert_eq!(
            folder.select(&raw),
            Err("in: RAW, but the filter is for EN10MB: see -y".to_owned())
        );
        assert!(!folder.0.join("out").exists());
        // The length of a checksum in the upper half says nothing of the type.
        let ethernet = [header(false, 100, 0x5400_0001), packet(false, 20)].concat();
        assert_eq!(folder.select(&ethernet), Ok((1, 1)));
        let types = ["en10mb", "RAW", "147", "X25"].map(link_type);
        assert_eq!(types, [Some(1), Some(101), Some(147), None]);
    }

    #[test]
    fn the_file_that_is_read_is_not_written() {
        let folder = Folder::new("same");
        let capture = [header(false, 100, 1), packet(false, 20)].concat();
        fs::write(folder.0.join("in"), "").unwrap();
        fs::hard_link(folder.0.join("in"), folder.0.join("linked")).unwrap();
        for out in ["in", "linked"] {
            let said = folder.select_with("1\n6 0 0 1\n", &capture, out);
            assert_eq!(said, Err(format!("{out}: is the file that is read, too")));
            assert_eq!(fs::read(folder.0.join("in")).unwrap(), capture);
        }
    }

    #[test]
    fn a_bad_program_and_a_full_disk() {
        let folder = Folder::new("bad");
        let capture = [header(false, 100, 1), packet(false, 20)].concat();
        for (program, said) in [
            ("", "program: line 1: no number of instructions"),
            ("1\n6 0 0\n", "program: line 2: an instruction has 4 numbers, not 3"),
            ("1\n7 0 0 0\n", "program: instruction 0: the last one must return"),
        ] {
            assert_eq!(folder.select_with(program, &capture, "out"), Err(said.to_owned()));
        }
        let said = folder.select_with("1\n6 0 0 1\n", &capture, "/nowhere/out").unwrap_err();
        assert!(said.starts_with("/nowhere/out: No such file"), "{said}");
        if Path::new("/dev/full").exists() {
            let said = folder.select_with("1\n6 0 0 1\n", &capture, "/dev/full").unwrap_err();
            assert!(said.starts_with("/dev/full: No space left"), "{said}");
        }
    }
}
