//! `rb docker`: links by which docker's command line finds rb as a plugin.
//!
//! | module | idea |
//! | --- | --- |
//! | `plugin` | called as a plugin: what docker wants to know, and its words turned into ours |
//! | `buildx` | words of `docker buildx` |
//! | `builders` | names that buildx has builders by |
//! | `place` | which Docker is meant |

mod builders;
mod buildx;
mod place;
mod plugin;

use std::path::{Path, PathBuf};

use crate::args::DockerCommand;
use crate::report::{self, Failure};

pub(super) use place::host;
pub(super) use plugin::{Turned, turn};

/// Refuses a builder that docker does not know.
pub(super) fn check_builder(name: &str) -> Result<(), Failure> {
    builders::Builders::here().check(Some(name))
}

/// Makes links, or takes them away.
pub(super) fn execute(command: &DockerCommand) -> Result<u8, Failure> {
    let folder = place::config_folder().map(|folder| folder.join("cli-plugins")).ok_or_else(|| {
        let help = "set HOME, or DOCKER_CONFIG to the folder of docker's settings".to_owned();
        Failure::input("no place for plugins of docker: neither DOCKER_CONFIG nor HOME is set", Some(help))
    })?;
    match command {
        DockerCommand::Install(args) => {
            let own = own_program()?;
            std::fs::create_dir_all(&folder).map_err(|error| cannot(&folder, &error))?;
            let names: &[&str] = if args.as_buildx { &plugin::NAMES } else { &plugin::NAMES[..1] };
            for name in names {
                link(&own, &folder.join(name), args.force)?;
            }
            let more = if args.as_buildx { "; `docker build` and `docker buildx` are rb's, too" } else { "" };
            report::tell(&format!("`docker rb` is {}{more}\n", own.display()));
        }
        DockerCommand::Uninstall => {
            for path in plugin::NAMES.map(|name| folder.join(name)) {
                if leads_to_rb(&path) {
                    std::fs::remove_file(&path).map_err(|error| cannot(&path, &error))?;
                    report::tell(&format!("removed {}\n", path.display()));
                }
            }
        }
    }
    Ok(0)
}

/// Returns the path of this program.
fn own_program() -> Result<PathBuf, Failure> {
    std::fs::read_link("/proc/self/exe")
        .map_err(|error| Failure::environment("the path of this program cannot be read", &error))
}

/// Makes a link in one step; what is there and is not ours stays unless it is to go.
fn link(own: &Path, path: &Path, force: bool) -> Result<(), Failure> {
    let is_there = path.symlink_metadata().is_ok();
    if is_there && !force && !leads_to_rb(path) {
        let help = format!("--force puts rb in its place; `mv {0} {0}.before` keeps it", path.display());
        return Err(Failure::input(format!("{} is there and is not rb", path.display()), Some(help)));
    }
    let beside = path.with_extension(format!("rb-{}", std::process::id()));
    let made = std::os::unix::fs::symlink(own, &beside).and_then(|()| std::fs::rename(&beside, path));
    if made.is_err() {
        // Best effort: the error that is told is the one that made it useless.
        std::fs::remove_file(&beside).ok();
    }
    made.map_err(|error| cannot(path, &error))
}

/// Tells whether a path is a link to an rb, be it this one or another, there or gone.
fn leads_to_rb(path: &Path) -> bool {
    // What is no link, or not there, leads nowhere.
    let Ok(to) = std::fs::read_link(path) else { return false };
    to.file_name().is_some_and(|name| name == "rb") || own_program().is_ok_and(|own| own == to)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::environment(&format!("cannot write {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_rb_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let own = own_program().expect("runs");
        let path = dir.path().join("docker-rb");
        link(&own, &path, false).expect("links");
        link(&own, &path, false).expect("links again");
        assert!(leads_to_rb(&path));
        let other = dir.path().join("docker-buildx");
        std::fs::write(&other, "#!/bin/sh\n").expect("writes");
        link(&own, &other, false).expect_err("is another's");
        assert!(!leads_to_rb(&other));
        link(&own, &other, true).expect("links");
        assert_eq!(std::fs::read_link(&other).expect("is a link"), own);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 2);
    }
}
