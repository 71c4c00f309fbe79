//! The user's `config.toml` changed by `rb`, as little as can be: remarks, order and all other keys stay.
//!
//! In: what is to be done to the document. Out: the file, in one step. **Invariants:** a file that cannot be read as settings is not
//! touched; of two that change it at once, one waits for the other; a link stays one, and what it leads to is changed; it keeps its
//! owner and its mode.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use toml_edit::DocumentMut;

use super::{SettingsError, config};
use crate::environment::Environment;

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("settings have no place: neither RB_CONFIG nor XDG_CONFIG_HOME nor HOME is set")]
    NoPlace,
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Pack(#[from] super::pack::PackSettingsError),
    #[error("`{file}` cannot be changed", file = .file.display())]
    File {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{file}` is no TOML", file = .file.display())]
    Toml {
        file: PathBuf,
        #[source]
        source: toml_edit::TomlError,
    },
}

/// Changes the user's file, which comes to be if there is none; returns where it is, and what `change` gave.
pub(crate) fn edit<T>(
    environment: &Environment,
    change: impl FnOnce(&mut DocumentMut) -> T,
) -> Result<(PathBuf, T), EditError> {
    let file = config::own_file(environment).0.ok_or(EditError::NoPlace)?;
    let given = edit_file(&file, |_| Ok(super::read_config(environment).map(drop)?), change)?;
    Ok((file, given))
}

/// The same for a file of another kind, which `check` reads.
pub(super) fn edit_file<T>(
    file: &Path,
    check: impl FnOnce(&str) -> Result<(), EditError>,
    change: impl FnOnce(&mut DocumentMut) -> T,
) -> Result<T, EditError> {
    let file = file.to_owned();
    let failed = |source| EditError::File { file: file.clone(), source };
    // A link to a file of dotfiles kept elsewhere stays.
    let target = match std::fs::canonicalize(&file) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.clone(),
        Err(error) => return Err(failed(error)),
    };
    let folder = target.parent().unwrap_or(Path::new("/")).to_owned();
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let lock = File::open(&folder).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let text = match std::fs::read_to_string(&target) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    if !text.is_empty() {
        check(&text)?;
    }
    let mut document: DocumentMut =
        text.parse().map_err(|source| EditError::Toml { file: file.clone(), source })?;
    let given = change(&mut document);
    let changed = document.to_string();
    if changed != text {
        write(&target, &folder, &changed).map_err(failed)?;
    }
    Ok(given)
}

fn write(target: &Path, folder: &Path, text: &str) -> io::Result<()> {
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(text.as_bytes())?;
    // It may hold passwords, so a new one is its owner's alone.
    if let Ok(metadata) = std::fs::metadata(target) {
        // Root changes a user's file, and it stays the user's; before the mode, which a change of owner would cut.
        match std::os::unix::fs::fchown(beside.as_file(), Some(metadata.uid()), Some(metadata.gid())) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            // Only root gives files away.
            Ok(()) | Err(_) => {}
        }
        beside.as_file().set_permissions(metadata.permissions())?;
    }
    beside.as_file().sync_all()?;
    beside.persist(target).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::environment::tests::environment;

    fn at(file: &Path) -> Environment {
        let file: &'static str = Box::leak(file.display().to_string().into_boxed_str());
        environment(&[("RB_CONFIG", file)])
    }

    #[test]
    fn all_else_of_a_file_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (real, file) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        std::fs::write(&real, "# mine\njobs = 3   # few\n\n[network]\nno_proxy = 'a'\n").expect("writes");
        let own = std::fs::metadata(&real).expect("is there");
        // Root alone can make it another's.
        let owner = if rustix::process::geteuid().is_root() { (4321, 1234) } else { (own.uid(), own.gid()) };
        std::os::unix::fs::chown(&real, Some(owner.0), Some(owner.1)).expect("gives");
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("sets");
        std::os::unix::fs::symlink(&real, &file).expect("links");
        let (told, given) = edit(&at(&file), |document| {
            document["engine"] = toml_edit::value("far");
            7
        })
        .expect("is changed");
        assert_eq!((told, given), (file.clone(), 7));
        let text = std::fs::read_to_string(&real).expect("reads");
        assert_eq!(text, "# mine\njobs = 3   # few\nengine = \"far\"\n\n[network]\nno_proxy = 'a'\n");
        assert!(file.is_symlink());
        let metadata = std::fs::metadata(&real).expect("is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
        assert_eq!((metadata.uid(), metadata.gid()), owner);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_wrong_is_not_touched_and_a_new_one_is_the_owners() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("deep/config.toml");
        edit(&environment(&[]), |_| ()).expect_err("has no place");
        let change = |document: &mut DocumentMut| document["jobs"] = toml_edit::value(2);
        edit(
            &environment(&[(
                "XDG_CONFIG_HOME",
                Box::leak(dir.path().display().to_string().into_boxed_str()),
            )]),
            change,
        )
        .expect("is made");
        let made = dir.path().join("rb/config.toml");
        assert_eq!(std::fs::read_to_string(&made).expect("reads"), "jobs = 2\n");
        assert_eq!(std::fs::metadata(&made).expect("is there").permissions().mode() & 0o777, 0o600);
        std::fs::create_dir_all(dir.path().join("deep")).expect("makes");
        std::fs::write(&file, "job = 1\n").expect("writes");
        edit(&at(&file), change).expect_err("has a key that means nothing");
        assert_eq!(std::fs::read_to_string(&file).expect("reads"), "job = 1\n");
    }
}
