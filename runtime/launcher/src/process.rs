//! Which process: the one that the launcher is called by, else what the user types.
//!
//! In: what can be started, the name the launcher was called by, arguments. Out: a [`Chosen`]. Which arguments of a user take the place
//! of which is decided by the platform's API and that of the process's buildpack.

use std::ffi::{OsStr, OsString};

use crate::last_part;
use crate::metadata::{Metadata, Process, Version};

/// What is to be started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its type; empty for what the user typed.
    pub(crate) kind: String,
    /// The program, and what stands before all arguments.
    pub(crate) command: Vec<OsString>,
    /// Arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Whether it is started without a shell.
    pub(crate) direct: bool,
    /// The buildpack that it is of; empty for none.
    pub(crate) buildpack: String,
    /// Where; empty for the app's folder.
    pub(crate) folder: String,
}

/// Chooses.
pub(crate) fn choose(
    metadata: &Metadata,
    platform: Version,
    execution_environment: &OsStr,
    called: &OsStr,
    typed: Vec<OsString>,
) -> Result<Chosen, String> {
    let name = last_part(called);
    let name = if name == "launcher.exe" { OsStr::new("launcher") } else { name };
    let of_type = |process: &&Process| !name.is_empty() && name == process.kind.as_str();
    let Some(first) = metadata.processes.iter().find(of_type) else { return of_user(typed) };
    let mut able = metadata.processes.iter().filter(of_type);
    let process = able
        .find(|process| process.is_for(execution_environment, platform))
        .ok_or_else(|| format!("process type {} was not found", first.kind))?;
    let mut command: Vec<OsString> = process.command.iter().map(Into::into).collect();
    let own: Vec<OsString> = process.args.iter().map(Into::into).collect();
    let arguments = if platform < Version(0, 10) {
        [own, typed].concat()
    } else if command.len() > 1 {
        let always = command.split_off(1);
        [always, if typed.is_empty() { own } else { typed }].concat()
    } else if typed.is_empty() {
        own
    } else {
        let of = metadata.buildpacks.iter().find(|one| one.id == process.buildpack).ok_or_else(|| {
            format!(
                "failed to find buildpack for process {} with buildpack ID {}",
                process.kind, process.buildpack
            )
        })?;
        match Version::read(&of.api) {
            Some(api) if api < Version(0, 9) => [own, typed].concat(),
            _ => typed,
        }
    };
    Ok(Chosen {
        kind: process.kind.clone(),
        command,
        arguments,
        direct: process.direct,
        buildpack: process.buildpack.clone(),
        folder: process.folder.clone(),
    })
}

/// A command that the user types; `--` before it leaves the shell out.
fn of_user(mut typed: Vec<OsString>) -> Result<Chosen, String> {
    let direct = typed.len() > 1 && typed[0] == "--";
    if direct {
        typed.remove(0);
    }
    if typed.is_empty() {
        return Err("when there is no default process a command is required".to_owned());
    }
    let arguments = typed.split_off(1);
    let (kind, buildpack, folder) = (String::new(), String::new(), String::new());
    Ok(Chosen { kind, command: typed, arguments, direct, buildpack, folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[buildpacks]]\nid='old'\napi='0.8'\n[[buildpacks]]\nid='new'\napi='0.9'\n\
        [[processes]]\ntype='web'\ncommand=['a', 'b']\nargs=['c']\nbuildpack-id='new'\ndirect=true\n\
        [[processes]]\ntype='old'\ncommand='a'\nargs=['c']\nbuildpack-id='old'\n\
        [[processes]]\ntype='new'\ncommand=['a']\nargs=['c']\nbuildpack-id='new'\nexec-env=['test']\n\
        [[processes]]\ntype='lost'\ncommand=['a']\nbuildpack-id='nobody'\n";

    fn chosen(platform: Version, called: &str, typed: &[&str]) -> Result<String, String> {
        let metadata = Metadata::parse(FILE.as_bytes()).expect("reads");
        let typed = typed.iter().map(Into::into).collect();
        let chosen = choose(&metadata, platform, "test".as_ref(), called.as_ref(), typed)?;
        let words = |all: &[OsString]| all.join(OsStr::new(" ")).into_string().expect("text");
        Ok(format!("{} | {}", words(&chosen.command), words(&chosen.arguments)))
    }

    #[test]
    fn which_arguments_count() {
        let new = Version(0, 10);
        for (platform, called, typed, want) in [
            (new, "/cnb/process/web", &[][..], Ok("a | b c")),
            (new, "/cnb/process/web", &["x"], Ok("a | b x")),
            (Version(0, 9), "/cnb/process/web", &["x"], Ok("a b | c x")),
            (new, "old", &["x"], Ok("a | c x")),
            (new, "new", &["x"], Ok("a | x")),
            (new, "new", &[], Ok("a | c")),
            (new, "lost", &["x"], Err("failed to find buildpack for process lost with buildpack ID nobody")),
            (new, "launcher", &["--", "x", "y"], Ok("x | y")),
            (new, "launcher", &["x", "y"], Ok("x | y")),
            (new, "launcher", &["--"], Ok("-- | ")),
            (new, "launcher", &[], Err("when there is no default process a command is required")),
        ] {
            let got = chosen(platform, called, typed);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{called} {typed:?}");
        }
    }

    #[test]
    fn some_are_for_some_environments() {
        let metadata = Metadata::parse(FILE.as_bytes()).expect("reads");
        let of = |platform, place: &str| {
            choose(&metadata, platform, place.as_ref(), "new".as_ref(), Vec::new()).is_ok()
        };
        assert!(of(Version(0, 15), "test") && !of(Version(0, 15), "production"));
        assert!(of(Version(0, 14), "production"));
    }
}
