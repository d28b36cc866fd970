// SPDX-License-Identifier: BSD-2-Clause
//! Programs as `tcpdump -ddd` prints them: how many instructions, then one on each line,
//! as four decimal numbers.

use core::error::Error;
use core::fmt;
use core::num::ParseIntError;

use crate::Insn;

/// The text is no program as `tcpdump -ddd` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The number of instructions is not there.
    NoCount,
    /// An instruction has four numbers, here are so many.
    Numbers(usize),
    /// A number that is none, or too large for its place.
    Number(ParseIntError),
    /// There are more or fewer instructions than announced.
    Count {
        /// What the first line says.
        announced: usize,
        /// How many are there.
        found: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.fault {
            Fault::NoCount => f.write_str("no number of instructions"),
            Fault::Numbers(numbers) => write!(f, "an instruction has 4 numbers, not {numbers}"),
            Fault::Number(error) => error.fmt(f),
            Fault::Count { announced, found } => {
                write!(f, "{found} instructions, {announced} were announced")
            }
        }
    }
}

impl Error for Malformed {}

/// The instructions of a text, in their order.
///
/// ```
/// use bpfrs_filter::decimal;
///
/// let insns: Vec<_> = decimal::insns("2\n40 0 0 12\n6 0 0 262144\n")?.collect::<Result<_, _>>()?;
/// assert_eq!(insns[1].k, 262_144);
/// # Ok::<(), decimal::Malformed>(())
/// ```
///
/// # Errors
/// [`Malformed`] if their number is not as announced; each line that is no instruction
/// is an error of its own.
pub fn insns(
    text: &str,
) -> Result<impl Iterator<Item = Result<Insn, Malformed>> + Clone, Malformed> {
    // Blank lines at the end are no instructions.
    let mut lines = text.trim_end().lines().zip(1..);
    let (first, _) = lines.next().ok_or(Malformed { line: 1, fault: Fault::NoCount })?;
    let malformed = |line| move |fault| Malformed { line, fault };
    let announced = first.trim().parse().map_err(Fault::Number).map_err(malformed(1))?;
    let found = lines.clone().count();
    if found != announced {
        return Err(malformed(1)(Fault::Count { announced, found }));
    }
    Ok(lines.map(move |(text, line)| insn(text).map_err(malformed(line))))
}

fn insn(text: &str) -> Result<Insn, Fault> {
    let mut numbers = text.split_ascii_whitespace();
    let count = numbers.clone().count();
    let [Some(code), Some(jt), Some(jf), Some(k), None] = [(); 5].map(|()| numbers.next()) else {
        return Err(Fault::Numbers(count));
    };
    let insn = || Ok(Insn { code: code.parse()?, jt: jt.parse()?, jf: jf.parse()?, k: k.parse()? });
    insn().map_err(Fault::Number)
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn read(text: &str) -> Result<Vec<Insn>, String> {
        let insns = insns(text).map_err(|error| error.to_string())?;
        insns.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_tcpdump_prints() {
        let ip = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 4294967295\n6 0 0 0\n";
        let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
        let program = vec![
            insn(40, 0, 0, 12),
            insn(21, 0, 1, 2048),
            insn(6, 0, 0, u32::MAX),
            insn(6, 0, 0, 0),
        ];
        assert_eq!(read(ip), Ok(program.clone()));
        assert_eq!(read(&ip.replace('\n', "\r\n")), Ok(program));
        assert_eq!(read("0\n"), Ok(vec![]));
    }

    #[test]
    fn says_which_line_and_why() {
        for (text, said) in [
            ("", "line 1: no number of instructions"),
            ("\n\n", "line 1: no number of instructions"),
            ("four", "line 1: invalid digit found in string"),
            ("(000) ldh [12]\n", "line 1: invalid digit found in string"),
            ("2\n6 0 0 0\n", "line 1: 1 instructions, 2 were announced"),
            ("1\n6 0 0 0\n6 0 0 0\n", "line 1: 2 instructions, 1 were announced"),
            ("2\n6 0 0 0\n6 0 0\n", "line 3: an instruction has 4 numbers, not 3"),
            ("1\n6 0 0 0 0\n", "line 2: an instruction has 4 numbers, not 5"),
            ("1\n6 256 0 0\n", "line 2: number too large to fit in target type"),
            ("1\n65536 0 0 0\n", "line 2: number too large to fit in target type"),
            ("1\n6 0 0 -1\n", "line 2: invalid digit found in string"),
        ] {
            assert_eq!(read(text), Err(said.to_string()), "{text:?}");
        }
    }
}
