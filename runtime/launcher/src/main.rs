//! The launcher: the first program of an image that buildpacks made. It becomes the process that was asked for.
//!
//! In: the name it was called by, arguments, the container's environment, and the files that a build left below the layers' folder.
//! Out: the process in its place (`exec`), with the environment that layers ask for; or a line on stderr and an exit code.
//! How, in order: [`metadata`] (what can be started) → [`process`] (which of it) → [`environment`] (what layers set) →
//! [`programs`] (what `exec.d` sets) → [`launch`].
//! **Invariant:** process, arguments, environment, folder and exit code are those of the lifecycle's launcher
//! (`tests/launcher.rs` holds them beside each other). Deliberately unlike it: errors go to stderr, not to stdout.
//! Source: platform spec, "Phase: launch"; buildpack spec, "Launch". It stands alone in images, so it is small.

mod document;
mod environment;
mod error;
mod files;
mod launch;
mod metadata;
mod process;
mod programs;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use crate::error::LaunchError;
use crate::launch::Launcher;
use crate::metadata::Metadata;

fn main() -> ExitCode {
    // It returns only where nothing was started.
    let error = match run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    tell("ERROR", &error.to_string());
    ExitCode::from(error.code())
}

/// Starts what was asked for in the place of this process.
fn run() -> Result<std::convert::Infallible, LaunchError> {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let container: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let told = |name: &str, default: &str| {
        let value = container.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
        value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
    };
    let platform = metadata::platform(&told("CNB_PLATFORM_API", ""))?;
    let layers = told("CNB_LAYERS_DIR", "/layers");
    let metadata = Metadata::read(layers.as_ref())?;
    metadata.check()?;
    let asked = told("CNB_PROCESS_TYPE", "");
    if !asked.is_empty() {
        let asked = asked.to_string_lossy();
        tell("Warning", &format!("CNB_PROCESS_TYPE is not supported in Platform API {platform}"));
        tell("Warning", &format!("Run with ENTRYPOINT '{asked}' to invoke the '{asked}' process type"));
    }
    let launcher = Launcher {
        layers: layers.into(),
        app: told("CNB_APP_DIR", "/workspace").into(),
        execution_environment: told("CNB_EXEC_ENV", "production"),
        platform,
        metadata,
    };
    launcher.launch(&called, arguments.collect(), container)
}

/// Returns the last part of a path.
fn last_part(path: &OsStr) -> &OsStr {
    let bytes = path.as_bytes();
    OsStr::from_bytes(bytes.rsplit(|byte| *byte == b'/').next().unwrap_or(bytes))
}

/// Tells on stderr; whoever cannot hear it sees the exit code.
fn tell(kind: &str, line: &str) {
    drop(writeln!(std::io::stderr(), "{kind}: {line}"));
}
