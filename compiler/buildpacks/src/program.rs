//! Programs of Linux, looked at without being run.
//!
//! In: the bytes of a file. Out: what it is for, by the names that images have, and whether all of it is there that the kernel reads to
//! start it: its header, its program headers, and what these load. Source: elf(5).

use object::Endianness;
use object::elf::{ET_DYN, ET_EXEC, FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader as _};

/// What every ELF file begins with.
const MAGIC: &[u8] = b"\x7fELF";
/// Where the machine stands.
const MACHINE: std::ops::Range<usize> = 18..20;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// A script: who reads it stands in its first line.
    Script,
    /// A program for this architecture.
    Elf(String),
}

/// Why a file is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramFault {
    /// Neither script nor ELF.
    #[error("it is no program of Linux")]
    Other,
    /// Its header is not whole, or not what one is.
    #[error("its ELF header is damaged, or there is a part of it alone")]
    Header,
    /// An object file, or what a process left.
    #[error("it is an ELF file that is no program")]
    NoProgram,
    /// What says what is loaded is not there.
    #[error("its program headers lie beyond its end: it is a part of a program")]
    Headers,
    /// What is loaded is not there.
    #[error("what it loads lies beyond its end: it is a part of a program")]
    Segments,
    /// What is run first is not loaded.
    #[error("it loads nothing that it could begin with")]
    Begin,
}

/// Tells what a file is, by its first bytes; [`check`] tells whether the rest of it is there.
pub fn kind(program: &[u8]) -> Result<ProgramKind, ProgramFault> {
    if program.starts_with(b"#!") {
        return Ok(ProgramKind::Script);
    }
    if !program.starts_with(MAGIC) {
        return Err(ProgramFault::Other);
    }
    let machine = program.get(MACHINE).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    let machine = machine.ok_or(ProgramFault::Header)?;
    let (class, little) = (program[4], program[5] == 1);
    let machine = if little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let name = match (machine, little, class) {
        (3, true, 1) => "386",
        (20 | 21, true, 2) => "ppc64le",
        (22, false, 2) => "s390x",
        (40, true, 1) => "arm",
        (62, true, 2) => "amd64",
        (183, true, 2) => "arm64",
        (243, true, 2) => "riscv64",
        (258, true, 2) => "loong64",
        // An order or a class that its machine does not have, too.
        _ => return Ok(ProgramKind::Elf(format!("machine {machine}"))),
    };
    Ok(ProgramKind::Elf(name.to_owned()))
}

/// Checks that an ELF file is a program, all of which is there.
pub fn check(program: &[u8]) -> Result<(), ProgramFault> {
    match program.get(4) {
        Some(1) => check_of::<FileHeader32<Endianness>>(program),
        Some(2) => check_of::<FileHeader64<Endianness>>(program),
        _ => Err(ProgramFault::Header),
    }
}

fn check_of<H: FileHeader<Endian = Endianness>>(program: &[u8]) -> Result<(), ProgramFault> {
    let header = H::parse(program).map_err(|_| ProgramFault::Header)?;
    let endian = header.endian().map_err(|_| ProgramFault::Header)?;
    if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
        return Err(ProgramFault::NoProgram);
    }
    let segments = header.program_headers(endian, program).map_err(|_| ProgramFault::Headers)?;
    let entry: u64 = header.e_entry(endian).into();
    let mut begins = false;
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD) {
        segment.data(endian, program).map_err(|()| ProgramFault::Segments)?;
        let (start, size): (u64, u64) = (segment.p_vaddr(endian).into(), segment.p_memsz(endian).into());
        begins |= entry.checked_sub(start).is_some_and(|offset| offset < size);
    }
    if begins { Ok(()) } else { Err(ProgramFault::Begin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a file for a machine.
    fn first(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([class, order]);
        bytes.resize(MACHINE.start, 0);
        bytes.extend(machine);
        bytes
    }

    #[test]
    fn what_a_file_is() {
        let of = |class, order, machine| kind(&first(class, order, machine));
        let elf = |name: &str| Ok(ProgramKind::Elf(name.to_owned()));
        assert_eq!(of(2, 1, [62, 0]), elf("amd64"));
        assert_eq!(of(2, 1, [183, 0]), elf("arm64"));
        assert_eq!(of(2, 2, [0, 22]), elf("s390x"));
        assert_eq!(of(1, 1, [40, 0]), elf("arm"));
        for (class, order, machine, number) in
            [(1, 1, [9, 1], 265), (1, 1, [62, 0], 62), (2, 2, [0, 183], 183), (7, 7, [0, 3], 3)]
        {
            assert_eq!(of(class, order, machine), elf(&format!("machine {number}")));
        }
        assert_eq!(kind(b"#!/bin/sh"), Ok(ProgramKind::Script));
        assert_eq!(kind(b"hello"), Err(ProgramFault::Other));
        assert_eq!(kind(MAGIC), Err(ProgramFault::Header));
    }

    #[test]
    fn a_part_of_a_program_is_none() {
        // This very test is one.
        let whole = std::fs::read("/proc/self/exe").expect("reads");
        assert_eq!(check(&whole), Ok(()));
        let header = FileHeader64::<Endianness>::parse(&*whole).expect("a program of 64 bits");
        let endian = header.endian().expect("an order");
        let headers = usize::try_from(header.e_phoff(endian)).expect("fits") + 56;
        let segments = header.program_headers(endian, &*whole).expect("has some");
        let loaded = segments.iter().filter(|one| one.p_type(endian) == PT_LOAD);
        let end =
            loaded.map(|one| one.p_offset(endian) + one.p_filesz(endian)).max().expect("loads something");
        let end = usize::try_from(end).expect("fits");
        // What lies behind all that is loaded says nothing of how it runs.
        assert_eq!(check(&whole[..end]), Ok(()));
        for (length, fault) in [
            (end - 1, ProgramFault::Segments),
            (headers, ProgramFault::Headers),
            (63, ProgramFault::Header),
            (5, ProgramFault::Header),
            (4, ProgramFault::Header),
        ] {
            assert_eq!(check(&whole[..length]), Err(fault), "{length}");
        }
        let with = |place: usize, bytes: &[u8]| {
            let mut changed = whole.clone();
            changed[place..place + bytes.len()].copy_from_slice(bytes);
            check(&changed)
        };
        // An object file; one that begins nowhere; one of no class; headers where no file reaches.
        assert_eq!(with(16, &1_u16.to_ne_bytes()), Err(ProgramFault::NoProgram));
        assert_eq!(with(24, &u64::MAX.to_ne_bytes()), Err(ProgramFault::Begin));
        assert_eq!(with(4, &[9]), Err(ProgramFault::Header));
        assert_eq!(with(32, &u64::MAX.to_ne_bytes()), Err(ProgramFault::Headers));
    }
}
