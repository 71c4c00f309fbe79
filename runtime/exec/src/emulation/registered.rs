//! Registrations of binfmt_misc: those of the machine, and the line that makes one.

use std::fs;
use std::path::{Path, PathBuf};

use super::Machine;

/// Bytes at the beginning of a program by which its machine is known.
const LENGTH: usize = 20;

/// What the machine has registered.
pub(super) struct Registered {
    /// The program.
    pub(super) interpreter: PathBuf,
    /// The kernel holds it open, so that it works where it cannot be seen.
    pub(super) is_open: bool,
}

/// Returns how a program of a machine begins, and which bits of that count.
fn beginning(machine: Machine) -> ([u8; LENGTH], [u8; LENGTH]) {
    let kind = machine.0;
    let mut magic = [0; LENGTH];
    let mut mask = [0xff; LENGTH];
    magic[..4].copy_from_slice(b"\x7fELF");
    magic[4] = if kind.is_wide { 2 } else { 1 };
    magic[5] = if kind.is_big { 2 } else { 1 };
    magic[6] = 1;
    // Which system's conventions: of no account.
    mask[7] = 0;
    // A program at a fixed address is of type 2, one that can lie anywhere of type 3.
    let number = |number: u16| if kind.is_big { number.to_be_bytes() } else { number.to_le_bytes() };
    magic[16..18].copy_from_slice(&number(2));
    mask[16..18].copy_from_slice(&number(0xfffe));
    magic[18..20].copy_from_slice(&number(kind.number));
    (magic, mask)
}

/// Returns the line that registers the program at `path`: opened at once, and given the rights of what it runs.
pub(super) fn line(machine: Machine, path: &str) -> Vec<u8> {
    let (magic, mask) = beginning(machine);
    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    format!(":rb-{}:M::{}:{}:{path}:OCF", machine.0.name, escaped(&magic), escaped(&mask)).into_bytes()
}

/// Looks through the registrations in a directory for one of a machine.
pub(super) fn find(directory: &Path, machine: Machine) -> Option<Registered> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.iter().find_map(|path| parse(&fs::read_to_string(path).ok()?, machine))
}

/// Reads a registration; nothing if it is not in force, or of another machine.
fn parse(text: &str, machine: Machine) -> Option<Registered> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let bytes = |text: &str| -> Option<Vec<u8>> {
        let digits = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
        digits.map(|digits| u8::from_str_radix(digits?, 16).ok()).collect()
    };
    if text.lines().next() != Some("enabled") || value("offset ") != Some("0") {
        return None;
    }
    let magic = bytes(value("magic ")?)?;
    let mask = value("mask ").map_or_else(|| Some(vec![0xff; magic.len()]), bytes)?;
    let (ours, _) = beginning(machine);
    let is_of = magic.len() >= LENGTH
        && magic.len() == mask.len()
        && ours.iter().zip(&magic).zip(&mask).all(|((ours, magic), mask)| (ours ^ magic) & mask == 0);
    let interpreter = PathBuf::from(value("interpreter ")?);
    let is_open = value("flags:").is_some_and(|flags| flags.contains('F'));
    is_of.then_some(Registered { interpreter, is_open })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(architecture: &str) -> Machine {
        Machine::of(architecture).expect("is known")
    }

    #[test]
    fn lines_are_as_the_kernel_wants_them() {
        let text = String::from_utf8(line(machine("arm64"), "/proc/self/fd/7")).expect("is text");
        assert_eq!(
            text,
            ":rb-aarch64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\
             \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/proc/self/fd/7:OCF"
        );
        let text = String::from_utf8(line(machine("s390x"), "/q")).expect("is text");
        assert!(text.contains("\\x02\\x02\\x01\\x00") && text.contains("\\x00\\x02\\x00\\x16:"), "{text}");
    }

    #[test]
    fn registrations_of_the_machine_are_known() {
        let text = |flags: &str, state: &str| {
            format!(
                "{state}\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: {flags}\noffset 0\nmagic \
                 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
            )
        };
        let found = |text: &str, name: &str| parse(text, machine(name)).map(|found| found.is_open);
        assert_eq!(found(&text("POCF", "enabled"), "arm64"), Some(true));
        assert_eq!(found(&text("OC", "enabled"), "arm64"), Some(false));
        assert_eq!(found(&text("POCF", "disabled"), "arm64"), None);
        assert_eq!(found(&text("POCF", "enabled"), "riscv64"), None);
        assert_eq!(found("enabled\n", "arm64"), None);
        assert_eq!(found("enabled\ninterpreter /x\nflags: \nextension .jar\n", "arm64"), None);
    }
}
