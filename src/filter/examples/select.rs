// SPDX-License-Identifier: BSD-2-Clause
//! Copies the packets that a filter selects from one capture file to another.
//!
//!     tcpdump -y EN10MB -ddd tcp port 80 >port80
//!     cargo run --release -p bpfrs-filter --example select -- port80 in.pcap out.pcap

use std::fs::{self, File};
use std::process::ExitCode;

use bpfrs_filter::{Captured, Heap, Insn, Program};
use pcap_file::pcap::{PcapReader, PcapWriter};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What `tcpdump -ddd` prints: how many instructions, then one on each line.
fn read(text: &str) -> Result<Program<Heap>> {
    let mut lines = text.lines();
    let count: usize = lines.next().ok_or("an empty file")?.trim().parse()?;
    let insn = |line: &str| -> Result<Insn> {
        let mut numbers = line.split_ascii_whitespace();
        let mut next = || numbers.next().ok_or("four numbers make an instruction");
        Ok(Insn {
            code: next()?.parse()?,
            jt: next()?.parse()?,
            jf: next()?.parse()?,
            k: next()?.parse()?,
        })
    };
    let insns = lines.map(insn).collect::<Result<Vec<_>>>()?;
    if insns.len() != count {
        return Err(format!("{count} instructions are announced, {} there", insns.len()).into());
    }
    Program::new(insns.into()).map_err(|_| "the kernel would refuse this program".into())
}

fn select(program: &str, from: &str, to: &str) -> Result<(u64, u64)> {
    let program = read(&fs::read_to_string(program)?)?;
    let mut reader = PcapReader::new(File::open(from)?)?;
    let mut writer = PcapWriter::with_header(File::create(to)?, reader.header())?;
    let (mut all, mut selected) = (0, 0);
    while let Some(packet) = reader.next_packet() {
        let mut packet = packet?;
        all += 1;
        let keep = program.run(&Captured { bytes: &packet.data, wire_len: packet.orig_len });
        if keep != 0 {
            // A program says how much it wants.
            let keep = packet.data.len().min(keep as usize);
            packet.data.to_mut().truncate(keep);
            writer.write_packet(&packet)?;
            selected += 1;
        }
    }
    Ok((selected, all))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, from, to] = &arguments[..] else {
        eprintln!("select PROGRAM FROM TO: a program as tcpdump -ddd prints it, two capture files");
        return ExitCode::from(2);
    };
    match select(program, from, to) {
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
