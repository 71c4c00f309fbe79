//! Runs a command in a directory: `sandbox [--chroot] [--network] [--outside] [--user USER] [--insecure] [--runtime PROGRAM] ROOT COMMAND [ARGUMENT…]`.
//!
//! ROOT is `DIRECTORY`, used as it is, or `overlay:UPPER:WORK:LAYER[:LAYER…]`, the lowest layer first; with `line:` for
//! `overlay:` the kernel is told of them as before Linux 6.8. Says on standard error as whom it runs; exits as the command did, or with 125 if it could not be started.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use rb_exec::{
    Isolation, KillSwitch, Network, RootDriver, RootMount, Router, Runtime, Spec, Stream, Upper, UserSpec,
    enter_chroot, enter_runtime, probe_host, run,
};

fn main() -> ExitCode {
    let in_chroot = std::env::args().nth(1).as_deref() == Some("--chroot");
    let entered = if in_chroot { enter_chroot() } else { enter_runtime() };
    let privileges = match entered {
        Ok(privileges) => privileges,
        Err(error) => return fail(&error),
    };
    eprintln!("mode: {:?} {}", privileges.mode, privileges.reason.unwrap_or_default());
    let mut spec = Spec::new(RootMount::directory("/nonexistent"), Vec::new());
    let mut arguments = std::env::args().skip(1);
    let mut outside = false;
    let root = loop {
        match arguments.next().as_deref() {
            Some("--network") => spec.network = Network::Host,
            Some("--chroot") => {
                spec.isolation = Isolation::Chroot;
                spec.network = Network::Host;
            }
            Some("--outside") => outside = true,
            Some("--insecure") => spec.insecure = true,
            Some("--runtime") => {
                let word = arguments.next().unwrap_or_default();
                spec.runtime = Some(Runtime::named(&word, "/tmp"));
            }
            Some("--user") => spec.user = UserSpec(arguments.next().unwrap_or_default()),
            Some("--probe") => {
                for check in probe_host().checks() {
                    println!("{:?} {}: {}", check.verdict, check.name, check.reason);
                }
            }
            Some(root) => break root.to_owned(),
            None => return ExitCode::from(125),
        }
    };
    let line = root.strip_prefix("line:");
    spec.root = match root.strip_prefix("overlay:").or(line) {
        Some(parts) => {
            let mut parts = parts.split(':').map(PathBuf::from);
            let upper = parts.next().unwrap_or_default();
            let work = parts.next().unwrap_or_default();
            RootMount::overlay(parts.collect(), Some(Upper { upper, work }))
        }
        None => RootMount::directory(&root),
    };
    if line.is_some() {
        spec.root.driver = RootDriver::OverlayInOneLine;
    }
    spec.args = arguments.collect();
    if outside {
        match Router::start().and_then(|router| router.join()) {
            Ok(member) => spec.network = Network::Member(member),
            Err(error) => return fail(&error),
        }
    }
    let mut log = |stream: Stream, bytes: &[u8]| {
        let written = match stream {
            Stream::Stdout => std::io::stdout().write_all(bytes),
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
        // A reader that went away does not concern the command.
        written.ok();
    };
    match run(&spec, &KillSwitch::new(), &mut log) {
        Ok(outcome) => ExitCode::from(outcome.status.code() as u8),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    eprintln!("{text}");
    ExitCode::from(125)
}
