//! What a program of `rb run` is given beside its image, from what was typed.
//!
//! In: [`RunArgs`] and the working directory. Out: variables, and a [`RunGiven`]. Everything is looked at before anything
//! is built or pulled: a folder that is not there, a file that cannot be read, a terminal that is none.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;

use rb_diag::chain;
use rb_engine::RunGiven;
use rb_exec::{Bind, ExtraMount, Forward, Size, Terminal};

use crate::args::{RunArgs, RunMount, Tmpfs, Volume};
use crate::environment::Environment;
use crate::report::Failure;
use crate::world::read_regular;

/// Largest file of variables that is read.
const LIMIT_BYTES: u64 = 1 << 20;

/// Returns the variables, those of files first.
pub(super) fn variables(cwd: &Path, run: &RunArgs) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in &run.env_file {
        let shown = file.display();
        let bytes = read_regular(&cwd.join(file), LIMIT_BYTES).map_err(|error| {
            let help =
                "variables stand in a file, a NAME=value per line; `-e NAME=value` gives one".to_owned();
            Failure::input(format!("--env-file: `{shown}` {}", chain(&error)), Some(help))
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("--env-file: `{shown}` is not UTF-8 text"), None))?;
        for (number, line) in lines(&text) {
            // The line may hold a secret, so it is not shown.
            let place = || format!("--env-file: `{shown}`, line {number}");
            let help = || {
                "write `NAME=value`, as docker has it: no `export`, and quotes are part of the value"
                    .to_owned()
            };
            check(line).map_err(|trouble| Failure::input(format!("{}: {trouble}", place()), Some(help())))?;
            all.extend(variable(line)?);
        }
    }
    for entry in &run.env {
        all.extend(variable(entry)?);
    }
    Ok(all)
}

/// Returns the lines that say something, as docker reads them: all behind `=` is the value, quotes too.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn check(line: &str) -> Result<(), &'static str> {
    let name = line.split_once('=').map_or(line, |(name, _)| name);
    if name.is_empty() {
        Err("no name stands before `=`")
    } else if name.contains(char::is_whitespace) {
        Err("the name has a space")
    } else {
        Ok(())
    }
}

/// Reads one `-e`: `NAME=value` as it is, `NAME` with this process's value, or nothing where it has none.
fn variable(entry: &str) -> Result<Option<String>, Failure> {
    match entry.split_once('=') {
        Some(("", _)) => Err(Failure::input(format!("`-e {entry}` names no variable"), None)),
        Some(_) => Ok(Some(entry.to_owned())),
        None => match Environment::pass_on(entry).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(format!("{entry}={value}"))),
            Some(Err(_)) => Err(Failure::input(format!("the value of {entry} is not valid UTF-8"), None)),
        },
    }
}

/// Settles what the program is given.
pub(super) fn settle(cwd: &Path, run: &RunArgs) -> Result<RunGiven, Failure> {
    let mut mounts = Vec::new();
    for volume in &run.volume {
        mounts.push(bind(cwd, volume)?);
    }
    for mount in &run.mount {
        mounts.push(match mount {
            RunMount::Bind(volume) => bind(cwd, volume)?,
            RunMount::Tmpfs(tmpfs) => in_memory(tmpfs),
        });
    }
    mounts.extend(run.tmpfs.iter().map(in_memory));
    check_places(&mounts)?;
    let entrypoint = run
        .entrypoint
        .as_ref()
        .map(|program| if program.is_empty() { Vec::new() } else { vec![program.clone()] });
    Ok(RunGiven {
        entrypoint,
        mounts,
        forwards: run.publish.iter().map(|port| Forward { listen: port.listen, port: port.port }).collect(),
        hostname: hostname(run)?,
        hosts: run.add_host.iter().map(|host| (host.name.clone(), host.address)).collect(),
        readonly_root: run.read_only,
        stdin: run.interactive,
        terminal: terminal(run)?,
        init: run.init,
    })
}

/// Refuses two mounts at one place: which of them was meant is not for rb to say.
fn check_places(mounts: &[ExtraMount]) -> Result<(), Failure> {
    let mut places = BTreeSet::new();
    for mount in mounts {
        let (ExtraMount::Bind(Bind { target, .. }) | ExtraMount::Tmpfs { target, .. }) = mount else {
            continue;
        };
        let names = target.split('/').filter(|name| !matches!(*name, "" | "."));
        if !places.insert(names.collect::<Vec<_>>()) {
            let help = "keep one of them: -v, --mount and --tmpfs all show something there".to_owned();
            return Err(Failure::input(format!("`{target}` is given twice"), Some(help)));
        }
    }
    Ok(())
}

fn bind(cwd: &Path, volume: &Volume) -> Result<ExtraMount, Failure> {
    let source = cwd.join(&volume.source);
    if let Err(error) = source.metadata() {
        let shown = volume.source.display();
        return Err(if error.kind() == std::io::ErrorKind::NotFound {
            let help =
                format!("rb makes no folders for it, as docker does; make it first: `mkdir -p {shown}`");
            Failure::input(format!("-v: there is no `{shown}`"), Some(help))
        } else {
            Failure::environment(&format!("-v: `{shown}` cannot be shown"), &error)
        });
    }
    let Volume { target, readonly, .. } = volume.clone();
    Ok(ExtraMount::Bind(Bind { source, target, readonly, recursive: true, ..Bind::default() }))
}

fn in_memory(tmpfs: &Tmpfs) -> ExtraMount {
    let Tmpfs { target, size_bytes, mode } = tmpfs.clone();
    ExtraMount::Tmpfs { target, size_bytes, mode }
}

fn hostname(run: &RunArgs) -> Result<String, Failure> {
    let Some(name) = run.hostname.as_ref().or(run.name.as_ref()) else { return Ok(String::new()) };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    // hostname(7): 64 bytes at most, as the kernel has it.
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        let help = Some("letters, digits, `-`, `.` and `_`, 64 at most".to_owned());
        return Err(Failure::input(format!("`{name}` is no name of a host"), help));
    }
    Ok(name.clone())
}

/// Makes the terminal of a program that is to have one, of the size of this one.
fn terminal(run: &RunArgs) -> Result<Option<Terminal>, Failure> {
    if !run.tty {
        return Ok(None);
    }
    if run.interactive && !std::io::stdin().is_terminal() {
        let help = "leave `-t` out: `-i` alone hands stdin on as it is".to_owned();
        return Err(Failure::input("-t: stdin is not a terminal", Some(help)));
    }
    Ok(Some(Terminal::new(size().unwrap_or_default())))
}

/// Returns the size of this terminal.
pub(in crate::commands) fn size() -> Option<Size> {
    Size::of(std::io::stdout()).or_else(|| Size::of(std::io::stdin()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_shows_one_thing() {
        let places = |targets: &[&str]| {
            let mount = |target: &&str| ExtraMount::Tmpfs {
                target: (*target).to_owned(),
                size_bytes: None,
                mode: 0o755,
            };
            check_places(&targets.iter().map(mount).collect::<Vec<_>>()).is_ok()
        };
        assert!(places(&["/a", "/a/b", "/ab"]));
        assert!(!places(&["/a", "/b", "/a"]) && !places(&["/a/b", "//a/./b/"]));
    }

    #[test]
    fn files_of_variables_are_read_as_docker_does() {
        let text = "\u{FEFF}# remark\nA=1\n  B='x' # y\n\nPATH\nC=\n";
        let said: Vec<_> = lines(text).collect();
        assert_eq!(said, [(2, "A=1"), (3, "B='x' # y"), (5, "PATH"), (6, "C=")]);
        assert!(said.iter().all(|(_, line)| check(line).is_ok()));
        assert!(check("=x").is_err() && check("A B=x").is_err());
    }
}
