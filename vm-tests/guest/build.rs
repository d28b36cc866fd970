// SPDX-License-Identifier: BSD-2-Clause
//! The crate `libc` names libraries to link with. The program uses its types and constants, never
//! a function: empty archives satisfy the linker, and turn an accidental call into a link error.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = env::var("OUT_DIR")?;
    let libraries =
        ["c", "m", "rt", "pthread", "util", "execinfo", "kvm", "memstat", "procstat", "devstat"];
    for library in libraries {
        fs::write(Path::new(&folder).join(format!("lib{library}.a")), "!<arch>\n")?;
    }
    println!("cargo:rustc-link-search=native={folder}");
    Ok(())
}
