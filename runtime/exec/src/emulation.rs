//! Programs of other machines: who runs them here?
//!
//! In: an architecture by OCI's name, and the emulators that the user names. Out: [`Running`]: this machine itself, what the
//! machine has registered for all (binfmt_misc with the flag `F`), or an [`Emulator`] that a sandbox registers for itself
//! alone: since Linux 6.7 each user namespace may have a binfmt_misc of its own, and any user may make one. So nothing of the
//! machine is changed, and nothing is left behind.
//! **Invariant:** an emulator is a static program of this machine: the kernel opens it outside, and it needs no file inside.
//! Source: Documentation/admin-guide/binfmt-misc.rst; the numbers of machines: elf(5), linux/elf-em.h.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;

mod elf;
mod registered;

/// A kind of machine that an emulator can stand in for.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    /// OCI's name.
    architecture: &'static str,
    /// QEMU's name.
    name: &'static str,
    /// Whether addresses have 64 bits.
    is_wide: bool,
    /// Whether the highest byte of a number stands first.
    is_big: bool,
    /// Its number in files.
    number: u16,
}

const fn kind(architecture: &'static str, name: &'static str, is_wide: bool, number: u16) -> Kind {
    Kind { architecture, name, is_wide, is_big: false, number }
}

const KINDS: [Kind; 9] = [
    kind("amd64", "x86_64", true, 62),
    kind("arm64", "aarch64", true, 183),
    kind("arm", "arm", false, 40),
    kind("riscv64", "riscv64", true, 243),
    kind("ppc64le", "ppc64le", true, 21),
    Kind { is_big: true, ..kind("s390x", "s390x", true, 22) },
    kind("386", "i386", false, 3),
    kind("loong64", "loongarch64", true, 258),
    kind("mips64le", "mips64el", true, 8),
];

/// A kind of machine that an emulator can stand in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(&'static Kind);

impl Machine {
    /// Returns the machine that OCI calls so.
    pub fn of(architecture: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.architecture == architecture).map(Self)
    }

    /// Returns all that are known, the frequent ones first.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(Self)
    }

    /// Returns OCI's name.
    pub fn architecture(self) -> &'static str {
        self.0.architecture
    }

    /// Returns QEMU's name, which is in the names of its programs.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Tells whether this machine runs its programs by itself.
    pub fn is_native(self) -> bool {
        let own = std::env::consts::ARCH;
        own == self.0.name || (own == "x86_64" && self.0.name == "i386")
    }
}

/// A program of this machine that runs those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// The program.
    pub program: PathBuf,
    /// The other machine.
    pub machine: Machine,
}

impl Emulator {
    /// Returns what registers it, when its program can be opened at `path`.
    pub(crate) fn registration(&self, path: &str) -> Vec<u8> {
        registered::line(self.machine, path)
    }
}

/// Who runs programs of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// The processor.
    Native,
    /// What the machine has registered for all.
    Registered {
        /// Its program.
        interpreter: PathBuf,
    },
    /// An emulator that each sandbox is given.
    Emulated(Emulator),
}

/// Nobody runs programs of a machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EmulationError {
    /// No emulator is known for it.
    #[error("nothing is known that runs programs for {architecture} here")]
    Unknown {
        /// OCI's name.
        architecture: String,
    },
    /// There is none.
    #[error("this machine has no emulator for {architecture}")]
    Missing {
        /// OCI's name.
        architecture: &'static str,
        /// QEMU's.
        name: &'static str,
    },
    /// What the user names is not there, or no static program.
    #[error("the emulator for {architecture}, {}, {problem}", program.display())]
    Unfit {
        /// OCI's name.
        architecture: &'static str,
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The kernel lets nobody but root register one, for all.
    #[error("Linux {release} does not let a sandbox have an emulator of its own: that takes 6.7")]
    Kernel {
        /// The kernel's version.
        release: String,
    },
}

impl EmulationError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::Unfit { .. } => ErrorKind::Input,
            Self::Missing { .. } | Self::Kernel { .. } => ErrorKind::Environment,
        }
    }

    /// Returns what to do.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => "what only copies files builds for any platform".to_owned(),
            Self::Missing { architecture, name } => format!(
                "install the package qemu-user-static, or name a static program in config.toml: `[emulators]` and below it \
                 `{architecture} = \"/path/to/qemu-{name}-static\"`"
            ),
            Self::Unfit { .. } => {
                "name one that is linked statically, such as of the package qemu-user-static".to_owned()
            }
            Self::Kernel { .. } => {
                "as root, install qemu-user-static and binfmt-support, which register emulators for the whole machine"
                    .to_owned()
            }
        }
    }
}

/// Where packages put QEMU's programs.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec/qemu-binfmt"];

/// What registrations of the machine can be read in.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// The emulators there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulators {
    /// Programs by OCI's name of the machine; they win over what is found.
    pub named: BTreeMap<String, PathBuf>,
}

impl Emulators {
    /// Finds out who runs programs of an architecture here.
    pub fn running(&self, architecture: &str) -> Result<Running, EmulationError> {
        let unknown = || EmulationError::Unknown { architecture: architecture.to_owned() };
        let machine = Machine::of(architecture).ok_or_else(unknown)?;
        let named = self.named.get(architecture);
        if machine.is_native() {
            return Ok(Running::Native);
        }
        let registered = registered::find(Path::new(REGISTERED), machine);
        let program = match (named, registered) {
            (Some(program), _) => program.clone(),
            (None, Some(registered)) if registered.is_open => {
                return Ok(Running::Registered { interpreter: registered.interpreter });
            }
            // It works where its program is only, and that is not in the sandbox.
            (None, Some(registered)) if elf::is_static(&registered.interpreter).is_ok() => {
                registered.interpreter
            }
            (None, _) => found(machine).ok_or(EmulationError::Missing {
                architecture: machine.0.architecture,
                name: machine.0.name,
            })?,
        };
        elf::is_static(&program).map_err(|problem| EmulationError::Unfit {
            architecture: machine.0.architecture,
            program: program.clone(),
            problem,
        })?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        if version(&release) < (6, 7) {
            return Err(EmulationError::Kernel { release });
        }
        Ok(Running::Emulated(Emulator { program, machine }))
    }
}

/// Looks for a static program of QEMU.
fn found(machine: Machine) -> Option<PathBuf> {
    let names = [format!("qemu-{}-static", machine.0.name), format!("qemu-{}", machine.0.name)];
    let places = PLACES.iter().flat_map(|place| names.iter().map(move |name| Path::new(place).join(name)));
    places.into_iter().find(|path| elf::is_static(path).is_ok())
}

/// Returns the first two numbers of a kernel's version.
fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("6.18.44-fc") > (6, 7) && version("6.7.0") == (6, 7) && version("5.15") < (6, 7));
        assert_eq!(version("nonsense"), (0, 0));
    }

    #[test]
    fn this_machine_runs_its_own_programs() {
        let own = KINDS.iter().find(|kind| kind.name == std::env::consts::ARCH).expect("is among them");
        assert_eq!(Emulators::default().running(own.architecture), Ok(Running::Native));
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        let nobody = Emulators::default().running("pdp11").expect_err("nobody does");
        assert_eq!(nobody, EmulationError::Unknown { architecture: "pdp11".to_owned() });
        let other = if Machine(&KINDS[0]).is_native() { "s390x" } else { "amd64" };
        let named =
            |program: &str| Emulators { named: BTreeMap::from([(other.to_owned(), PathBuf::from(program))]) };
        let problem = |program: &str| match named(program).running(other) {
            Err(EmulationError::Unfit { problem, .. }) => problem,
            answer => panic!("{program}: {answer:?}"),
        };
        assert_eq!(problem("/nowhere/qemu"), "cannot be read");
        assert_eq!(problem("/etc/passwd"), "is no program");
        assert_eq!(problem("/bin/sh"), "needs other files, which are not in the sandbox");
    }
}
