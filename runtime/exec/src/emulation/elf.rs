//! A look at a program: is it linked statically?
//!
//! Source: elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The type of the part of a program that names its interpreter.
const INTERPRETER: u32 = 3;

/// Bytes of a header, and of the entry of a part: the larger form.
const HEADER_BYTES: usize = 64;
const MOST_PARTS: u64 = 128;

/// Tells whether a file is a program that needs no other; or what it is instead.
pub(super) fn is_static(path: &Path) -> Result<(), &'static str> {
    let file = File::open(path).map_err(|_| "cannot be read")?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(|_| "is no program")?;
    let no_program = || "is no program";
    if !header.starts_with(b"\x7fELF") {
        return Err(no_program());
    }
    let (is_wide, is_big) = (header[4] == 2, header[5] == 2);
    let number = |bytes: &[u8]| {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    };
    let (offset, size, count) = if is_wide {
        (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]))
    } else {
        (number(&header[28..32]), number(&header[42..44]), number(&header[44..46]))
    };
    for part in 0..count.min(MOST_PARTS) {
        let mut kind = [0; 4];
        let at = offset.checked_add(part * size).ok_or_else(no_program)?;
        file.read_exact_at(&mut kind, at).map_err(|_| no_program())?;
        if number(&kind) == u64::from(INTERPRETER) {
            return Err("needs other files, which are not in the sandbox");
        }
    }
    Ok(())
}
