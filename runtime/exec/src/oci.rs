//! Another runtime runs the command: crun, runc or gVisor's runsc, by the interface of the OCI.
//!
//! For what: what must run in the sandbox that a user trusts (gVisor's kernel of its own, say). In: a prepared
//! [`Spec`](crate::Spec). Out: a bundle (root, `config.json`) and the command line that has it run.
//!
//! How: all that our own sandbox mounts is mounted as ever, in the child's mounts, which the runtime takes over with the
//! root; only what depends on namespaces (`/proc`, `/sys`, message queues) is the runtime's, as are namespaces, rights and
//! the filter. So a tree is the same whoever runs the command. `plan::bundled` lays out the steps, [`config`] writes the file,
//! [`bundle`] keeps both in memory, [`failure`] reads what the runtime says, [`first`] finds the command's first process.
//!
//! **What always holds.** The runtime is the first process of a namespace of processes of its own, dies with this process,
//! and sees its bundle and its state in a file system in memory that only its mounts hold: to kill it ends all, and nothing is
//! left, however it ends; `kill` and `delete` of the runtime need not be asked. Limits are those of our own control group,
//! which the runtime begins in and may not leave. An end by a signal that nobody here sent is told by the code that stands for
//! it, as runtimes do. What a runtime is not known to do is refused, by name. gVisor keeps pipes and sockets that are made in
//! a root in its own kernel's memory, whatever it is told; they are on no disk, so they are lost, and nothing outside can tell.
//! Source: OCI runtime-spec, config.md and config-linux.md; gVisor, pkg/sentry/fsimpl/gofer, and the command lines of crun, runc
//! and runsc (facts).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::error::ExecError;
use crate::identity;
use crate::probe::{Check, Verdict};
use crate::spec::{ExtraMount, Network, Spec};

mod bundle;
mod config;
mod failure;
mod first;

pub(crate) use bundle::{ASIDE, Bundle, ROOT};
pub(crate) use config::{Container, config};
pub(crate) use first::first_process;

/// Another runtime, which runs a command in place of our own sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    program: PathBuf,
    place: PathBuf,
}

/// Where packages put programs.
const DIRECTORIES: [&str; 7] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
];

/// Its name for the container, the only one that it ever hears of.
const ID: &str = "rb-step";

impl Runtime {
    /// Returns the runtime of a name, which is looked for where packages put programs, or of a path.
    ///
    /// `place` is a directory that exists and that the runtime need not see: where it is, the runtime sees its bundle, and
    /// nobody else does.
    pub fn named(word: &str, place: impl Into<PathBuf>) -> Self {
        let there = |directory: &&&str| Path::new(directory).join(word).is_file();
        let found = if word.contains('/') { None } else { DIRECTORIES.iter().find(there) };
        let program = found.map_or_else(|| PathBuf::from(word), |found| Path::new(found).join(word));
        Self { program, place: place.into() }
    }

    /// Returns the path of its program; its name alone where there is none.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns where its bundle is to be seen, without links.
    pub(crate) fn place(&self) -> Result<PathBuf, ExecError> {
        let place = std::fs::canonicalize(&self.place);
        place.map_err(|source| ExecError::Open { path: self.place.clone(), source })
    }

    /// Asks it who it is; once for each program.
    pub(crate) fn known(&self) -> Result<Known, ExecError> {
        static KNOWN: Mutex<BTreeMap<PathBuf, Known>> = Mutex::new(BTreeMap::new());
        // Every change is a single step, so a panicked holder leaves it whole.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&self.program) {
            return Ok(found.clone());
        }
        let found = self.ask()?;
        known.insert(self.program.clone(), found.clone());
        Ok(found)
    }

    fn ask(&self) -> Result<Known, ExecError> {
        if !self.program.is_absolute() {
            return Err(ExecError::NoRuntime { runtime: self.program.clone(), source: None });
        }
        let mut command = Command::new(&self.program);
        let asked = command.arg("--version").env_clear().stdin(Stdio::null()).output();
        let asked = asked
            .map_err(|error| ExecError::NoRuntime { runtime: self.program.clone(), source: Some(error) })?;
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        Known::read(&said).ok_or_else(|| ExecError::UnknownRuntime { runtime: self.program.clone() })
    }
}

/// Which runtime a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Crun,
    Runc,
    /// gVisor: a kernel of its own, with devices of its own.
    Runsc,
}

/// What a runtime says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) kind: Kind,
    version: String,
}

impl Known {
    /// Reads what `--version` writes: `crun version 1.8.1` and more.
    fn read(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_ascii_whitespace();
        let kind = match words.next()? {
            "crun" => Kind::Crun,
            "runc" => Kind::Runc,
            "runsc" => Kind::Runsc,
            // Youki, Kata and whoever comes: nobody has looked at what they keep of what is asked of them.
            _ => return None,
        };
        words.next().filter(|word| *word == "version")?;
        Some(Self { kind, version: words.next()?.to_owned() })
    }

    /// Its name and version.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.program(), self.version)
    }

    fn program(&self) -> &'static str {
        match self.kind {
            Kind::Crun => "crun",
            Kind::Runc => "runc",
            Kind::Runsc => "runsc",
        }
    }

    /// Refuses what it cannot do, or cannot by us.
    pub(crate) fn refuse(&self, spec: &Spec) -> Result<(), ExecError> {
        let has_socket = spec.mounts.iter().any(|mount| matches!(mount, ExtraMount::Socket(_)));
        let is_gvisor = self.kind == Kind::Runsc;
        for (is_asked, what) in [
            (spec.terminal.is_some(), "give a command a terminal (`-t`)"),
            (spec.init, "put an init before a command (`--init`)"),
            (spec.emulator.is_some(), "run a step for another machine by an emulator"),
            (is_gvisor && !spec.hooks.is_empty(), "start the hooks of a device"),
            (is_gvisor && has_socket, "show a step a socket of this machine (`--ssh`)"),
            (is_gvisor && identity::in_user_namespace(), "run without root"),
        ] {
            if is_asked {
                return Err(self.unable(what));
            }
        }
        Ok(())
    }

    /// The error of something it cannot do.
    pub(crate) fn unable(&self, what: impl Into<String>) -> ExecError {
        ExecError::RuntimeUnable { runtime: self.program().to_owned(), what: what.into() }
    }

    /// Returns its command line, for a bundle that it sees at `place`.
    pub(crate) fn arguments(&self, place: &Path, network: &Network) -> Vec<String> {
        let place = place.display();
        let mut words = vec![
            self.program().to_owned(),
            format!("--root={place}/{}", bundle::STATE),
            format!("--log={place}/{}", bundle::LOG),
            "--log-format=json".to_owned(),
        ];
        let own: &[&str] = match self.kind {
            Kind::Crun => &["--cgroup-manager=disabled"],
            // It sees no control groups that it could write to, and is not to mind.
            Kind::Runc => &["--rootless=true"],
            // What is written goes to the root itself, and not to a layer that is gone afterwards.
            Kind::Runsc => &["--ignore-cgroups", "--overlay2=none"],
        };
        words.extend(own.iter().map(|word| (*word).to_owned()));
        if self.kind == Kind::Runsc {
            words.push(format!("--network={}", if network.is_host() { "host" } else { "sandbox" }));
        }
        words.push("run".to_owned());
        if self.kind != Kind::Runsc {
            // There is a new one already.
            words.push("--no-new-keyring".to_owned());
        }
        words.extend([format!("--bundle={place}"), ID.to_owned()]);
        words
    }
}

/// Tells which runtime runs steps, and whether it can.
pub fn probe_runtime(runtime: &Runtime) -> Check {
    let program = runtime.program().display();
    let (verdict, reason, remedy) = match runtime.known() {
        Ok(known) if known.kind == Kind::Runsc && identity::in_user_namespace() => {
            let remedy = "run rb as root, or leave the key steps.runtime out";
            (Verdict::Missing, format!("{} does not run steps without root", known.name()), Some(remedy))
        }
        Ok(known) => (Verdict::Works, format!("{} runs steps ({program})", known.name()), None),
        Err(error) => {
            let remedy =
                "install it, or name another by the key steps.runtime; without one, rb runs steps itself";
            (Verdict::Missing, rb_diag::chain(&error), Some(remedy))
        }
    };
    Check { name: "runtime of steps", verdict, reason, remedy: remedy.map(ToOwned::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RootMount;

    fn known(text: &str) -> Known {
        Known::read(text).expect("is known")
    }

    #[test]
    fn a_runtime_says_who_it_is() {
        let crun = known("crun version 1.8.1\ncommit: f8a0\nspec: 1.0.0\n");
        assert_eq!((crun.kind, crun.name()), (Kind::Crun, "crun 1.8.1".to_owned()));
        assert_eq!(known("runc version 1.1.5+ds1\n").kind, Kind::Runc);
        assert_eq!(known("runsc version release-20240212.0\nspec: 1.1.0-rc.1\n").kind, Kind::Runsc);
        for text in
            ["", "crun", "crun 1.0", "youki version 0.3.0\n", "kata-runtime  : 2.0", "GNU bash, version 5"]
        {
            assert_eq!(Known::read(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_looked_for_and_paths_are_not() {
        assert_eq!(Runtime::named("sh", "/").program().file_name(), Some("sh".as_ref()));
        assert!(Runtime::named("sh", "/").program().is_absolute());
        assert_eq!(Runtime::named("/opt/x/crun", "/").program(), Path::new("/opt/x/crun"));
        let none = Runtime::named("no-such-runtime", "/");
        assert_eq!(none.program(), Path::new("no-such-runtime"));
        let error = none.known().expect_err("is not there");
        assert!(error.to_string().contains("no-such-runtime"), "{error}");
        let check = probe_runtime(&none);
        assert!(check.verdict == Verdict::Missing && check.remedy.is_some(), "{check:?}");
        // A program that is there and is no runtime.
        let error = Runtime::named("true", "/").known().expect_err("is none");
        assert!(matches!(error, ExecError::UnknownRuntime { .. }), "{error}");
    }

    #[test]
    fn each_has_its_own_command_line() {
        let line = |text: &str, network| known(text).arguments(Path::new("/p"), &network).join(" ");
        assert_eq!(
            line("crun version 1", Network::None),
            "crun --root=/p/state --log=/p/log --log-format=json --cgroup-manager=disabled run --no-new-keyring --bundle=/p rb-step"
        );
        assert_eq!(
            line("runc version 1", Network::Host),
            "runc --root=/p/state --log=/p/log --log-format=json --rootless=true run --no-new-keyring --bundle=/p rb-step"
        );
        assert_eq!(
            line("runsc version 1", Network::Host),
            "runsc --root=/p/state --log=/p/log --log-format=json --ignore-cgroups --overlay2=none --network=host run \
            --bundle=/p rb-step"
        );
        assert!(line("runsc version 1", Network::None).contains("--network=sandbox"));
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let crun = known("crun version 1.8.1");
        let mut spec = Spec::new(RootMount::directory("/"), vec!["true".to_owned()]);
        crun.refuse(&spec).expect("is plain");
        spec.init = true;
        let error = crun.refuse(&spec).expect_err("has no init");
        assert!(error.to_string().contains("crun") && error.to_string().contains("--init"), "{error}");
        assert_eq!(error.kind(), rb_diag::ErrorKind::Input);
    }
}
