//! The start: layers' variables, programs and profiles, then the process in the place of this one.
//!
//! A direct process is looked for in PATH and executed; any other goes through bash, which sources the profiles of layers and the app's
//! own before. The script for bash is the reference's, word for word: what it does with quotes and `$` is what apps rely on.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Access;

use crate::environment::Environment;
use crate::error::{FileError, LaunchError, words};
use crate::metadata::{Metadata, Version};
use crate::process::{Chosen, choose};
use crate::{files, programs};

/// The shell of processes that are not direct.
const SHELL: &str = "/bin/bash";
/// The app's own profile.
const PROFILE: &str = ".profile";

/// What is known before anything is looked for.
pub(crate) struct Launcher {
    pub(crate) layers: PathBuf,
    pub(crate) app: PathBuf,
    pub(crate) execution_environment: OsString,
    pub(crate) platform: Version,
    pub(crate) metadata: Metadata,
}

impl Launcher {
    /// Starts what was asked for.
    pub(crate) fn launch(
        &self,
        called: &OsStr,
        typed: Vec<OsString>,
        container: Vec<(OsString, OsString)>,
    ) -> Result<Infallible, LaunchError> {
        let mut process = choose(&self.metadata, self.platform, &self.execution_environment, called, typed)
            .map_err(LaunchError::while_doing("determine start command"))?;
        enter(&self.app).map_err(LaunchError::while_doing("change to app directory"))?;
        let layers = self.folders().map_err(LaunchError::while_doing("find buildpack directory"))?;
        let mut environment = Environment::of_container(container);
        set(&mut environment, &layers, &process.kind).map_err(LaunchError::while_doing("modify env"))?;
        run(&mut environment, &layers, &process.kind).map_err(LaunchError::while_doing("exec.d"))?;
        if process.folder.is_empty() {
            process.folder = self.app.to_string_lossy().into_owned();
        }
        match process.direct {
            true => direct(&process, &environment),
            false => self.by_shell(called, &process, &environment, &layers),
        }
    }

    /// Lists the layers of each buildpack that left any, in order.
    fn folders(&self) -> Result<Vec<Vec<PathBuf>>, FileError> {
        let all = self.metadata.buildpacks.iter().map(|one| self.layers.join(one.folder()));
        all.map(|folder| files::folders(&folder)).collect()
    }

    fn by_shell(
        &self,
        called: &OsStr,
        process: &Chosen,
        environment: &Environment,
        layers: &[Vec<PathBuf>],
    ) -> Result<Infallible, LaunchError> {
        let profiles =
            self.profiles(layers, &process.kind).map_err(LaunchError::while_doing("find profiles"))?;
        let (of, kind) = (&process.buildpack, &process.kind);
        // Only then is it asked whose it is.
        if !process.arguments.is_empty()
            && !of.is_empty()
            && self.metadata.buildpacks.iter().all(|one| one.id != *of)
        {
            return Err(LaunchError::Nobody { kind: kind.clone(), buildpack: of.clone() });
        }
        let mut script = Vec::new();
        for profile in &profiles {
            script.extend_from_slice(&[b"source \"", profile.as_os_str().as_bytes(), b"\"\n"].concat());
        }
        script.extend_from_slice(format!("cd \"{}\"\n", process.folder).as_bytes());
        script.extend_from_slice(last_line(process.arguments.len()).as_bytes());
        let mut command = Command::new(SHELL);
        command.arg0("bash").arg("-c").arg(OsString::from_vec(script)).arg(called);
        command.arg(process.command.join(OsStr::new(" "))).args(&process.arguments);
        let error = command.env_clear().envs(environment.all()).exec();
        let why = match error.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "{}: this image has no {SHELL}, by which a process starts that is not direct",
                    words(&error)
                )
            }
            _ => words(&error),
        };
        Err(LaunchError::Launch { doing: "bash exec", why })
    }

    /// Lists what bash sources before the process.
    fn profiles(&self, layers: &[Vec<PathBuf>], kind: &str) -> Result<Vec<PathBuf>, FileError> {
        let mut all = Vec::new();
        for layer in layers.iter().flatten() {
            for folder in with_type(layer, "profile.d", kind) {
                all.extend(files::others(&folder)?);
            }
        }
        if files::look(&self.app.join(PROFILE))?.is_some_and(|found| !found.is_dir()) {
            all.push(PROFILE.into());
        }
        Ok(all)
    }
}

/// Returns a folder of a layer, and that for a type of process below it.
fn with_type(layer: &Path, folder: &str, kind: &str) -> Vec<PathBuf> {
    let folder = layer.join(folder);
    let of_type = (!kind.is_empty()).then(|| folder.join(kind));
    [Some(folder), of_type].into_iter().flatten().collect()
}

/// Sets what layers ask for; those of one buildpack have all their folders added before any of their files.
fn set(environment: &mut Environment, layers: &[Vec<PathBuf>], kind: &str) -> Result<(), String> {
    for of_buildpack in layers {
        for layer in of_buildpack {
            environment.add_layer(layer).map_err(|error| format!("add layer root: {error}"))?;
        }
        for layer in of_buildpack {
            for folder in [vec![layer.join("env")], with_type(layer, "env.launch", kind)].concat() {
                environment.add_files(&folder).map_err(|error| {
                    format!("add layer env: apply env files from dir '{}': {error}", folder.display())
                })?;
            }
        }
    }
    Ok(())
}

/// Runs the programs of layers.
fn run(environment: &mut Environment, layers: &[Vec<PathBuf>], kind: &str) -> Result<(), String> {
    for layer in layers.iter().flatten() {
        for folder in with_type(layer, "exec.d", kind) {
            for program in files::others(&folder).map_err(|error| error.to_string())? {
                programs::run(&program, environment)?;
            }
        }
    }
    Ok(())
}

/// Starts a process without a shell.
fn direct(process: &Chosen, environment: &Environment) -> Result<Infallible, LaunchError> {
    let name = process.command.first().map(OsString::as_os_str).unwrap_or_default();
    let program = look_up(name, environment.get("PATH".as_ref()))
        .map_err(|why| format!("exec: \"{}\": {why}", name.display()))
        .map_err(LaunchError::while_doing("path lookup"))?;
    enter(process.folder.as_ref()).map_err(LaunchError::while_doing("change directory"))?;
    let mut command = Command::new(program);
    command.arg0(name).args(process.command.iter().skip(1)).args(&process.arguments);
    let error = command.env_clear().envs(environment.all()).exec();
    Err(LaunchError::Launch { doing: "direct exec", why: words(&error) })
}

/// Finds a program: where its path leads, else in the folders of PATH, of which none may be relative.
fn look_up(name: &OsStr, path: &OsStr) -> Result<PathBuf, String> {
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name)).map(|()| name.into()).map_err(|error| words(&error));
    }
    for folder in path.as_bytes().split(|byte| *byte == b':') {
        let folder = Path::new(if folder.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(folder) });
        let found = folder.join(name);
        if !name.is_empty() && executable(&found).is_ok() {
            return match folder.is_absolute() {
                true => Ok(found),
                false => Err("cannot run executable found relative to current directory".to_owned()),
            };
        }
    }
    Err("executable file not found in $PATH".to_owned())
}

fn executable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    Ok(rustix::fs::access(path, Access::EXEC_OK)?)
}

#[expect(clippy::disallowed_methods, reason = "this process is one other's, which starts in that folder")]
fn enter(folder: &Path) -> Result<(), FileError> {
    let path = folder.to_owned();
    std::env::set_current_dir(folder).map_err(|source| FileError { doing: "chdir", path, source })
}

/// Returns what bash does last: a command alone is a script; with arguments, each word is one after `echo` saw it.
fn last_line(arguments: usize) -> String {
    if arguments == 0 {
        return "exec bash -c \"$@\"".to_owned();
    }
    let more: String = (1..=arguments).map(|at| format!(" \"$(eval echo \\\"${{{at}}}\\\")\"")).collect();
    format!("exec bash -c '\"$(eval echo \\\"$0\\\")\"{more}' \"${{@:1}}\"")
}
