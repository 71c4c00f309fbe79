//! Runs one command outside of every sandbox, as tests do: `outside [--stay] [--cwd DIR] [--env NAME=VALUE] [--clear]
//! [--input BYTES] [--kill MILLISECONDS] [--times N] COMMAND…`, with so many bytes of input. Unless told to stay,
//! it enters the runtime first. Exits as the command did, or with 125 if it could not be started. With `--times`, that
//! many run at once.
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rb_exec::{HostCommand, KillSwitch, Outside, Stream, enter_runtime};

fn main() -> ExitCode {
    let started = Instant::now();
    let outside = match Outside::start() {
        Ok(outside) => outside,
        Err(error) => return fail(&error),
    };
    let took = started.elapsed();
    let mut command = HostCommand { cwd: "/".into(), ..HostCommand::default() };
    let (mut stay, mut kill_after, mut times) = (false, None, 1);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().and_then(|value| value.into_string().ok()).unwrap_or_default();
        match argument.to_str() {
            Some("--stay") => stay = true,
            Some("--clear") => command.env_clear = true,
            Some("--input") => command.stdin = vec![b'i'; value().parse().unwrap_or_default()],
            Some("--cwd") => command.cwd = value().into(),
            Some("--env") => {
                let variable = value();
                let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
                command.env.push((name.into(), value.into()));
            }
            Some("--kill") => kill_after = value().parse().ok().map(Duration::from_millis),
            Some("--times") => times = value().parse().unwrap_or(1),
            Some("--took") => eprintln!("started in {took:?}"),
            _ => {
                command.args = std::iter::once(argument).chain(arguments.by_ref()).collect();
            }
        }
    }
    if !stay && let Err(error) = enter_runtime() {
        return fail(&error);
    }
    let kill = KillSwitch::new();
    std::thread::scope(|scope| {
        if let Some(after) = kill_after {
            let kill = &kill;
            scope.spawn(move || {
                std::thread::sleep(after);
                kill.kill();
            });
        }
        let runs: Vec<_> = (0..times)
            .map(|number| {
                let mut command = command.clone();
                command.env.push((OsString::from("NUMBER"), number.to_string().into()));
                let (outside, kill) = (&outside, &kill);
                scope.spawn(move || one(outside, command, kill))
            })
            .collect();
        let codes = runs.into_iter().map(|run| run.join().unwrap_or(ExitCode::FAILURE));
        codes.last().unwrap_or(ExitCode::FAILURE)
    })
}

fn one(outside: &Outside, command: HostCommand, kill: &KillSwitch) -> ExitCode {
    let mut sink = |stream: Stream, bytes: &[u8]| {
        let written = match stream {
            Stream::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Stream::Stderr => std::io::stderr().write_all(bytes),
        };
        // A reader that went away does not concern the command.
        written.ok();
    };
    match outside.run(&command, kill, &mut sink) {
        Ok(status) => ExitCode::from(status.code() as u8),
        Err(error) => fail(&error),
    }
}

fn fail(error: &rb_exec::ExecError) -> ExitCode {
    eprintln!("{error:?}: {error}");
    ExitCode::from(125)
}
