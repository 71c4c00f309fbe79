//! Programs of `exec.d`: each is run, and sets variables by what it writes to its descriptor 3.
//!
//! Source: buildpack spec, "exec.d": TOML, whose values are texts. Its standard input is empty.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::document;
use crate::environment::Environment;
use crate::error::words;
use crate::files;

/// Where programs write what they set.
const OUTPUT: i32 = 3;
/// Most that one may write there.
const MOST: u64 = 16 << 20;

/// Runs a program and sets what it says.
pub(crate) fn run(program: &Path, environment: &mut Environment) -> Result<(), String> {
    let at = format!("exec.d file at path '{}'", program.display());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| format!("failed to create pipe: {}", words(&error.into())))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env_clear().envs(environment.all());
    let mut child = rb_sys::process::spawn_with(command, writer, OUTPUT).map_err(|error| {
        format!("failed to execute {at}: fork/exec {}: {}", program.display(), words(&error))
    })?;
    let output = files::limited(File::from(reader), MOST);
    if output.is_err() {
        // Nobody reads on, so it need not write on. If it has ended by itself, that is as good.
        drop(child.kill());
    }
    let ended = child.wait().map_err(|error| format!("failed to execute {at}: {}", words(&error)))?;
    let output = match output {
        Err(error) => return Err(format!("failed to read output from {at}: {}", words(&error))),
        Ok(_) if !ended.success() => return Err(format!("failed to execute {at}: {}", end(ended))),
        Ok(output) => output,
    };
    let set = document::parse(&output, |table| table.texts())
        .map_err(|error| format!("failed to decode output from {at}: {error}"))?;
    for (name, value) in set {
        environment.set(OsString::from(name), OsString::from(value));
    }
    Ok(())
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}
