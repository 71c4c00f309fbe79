//! Which variables a process sees: the container's, then what each layer of each buildpack asks for.
//!
//! In: the container's environment; folders of layers. Of a layer `bin` goes before PATH and `lib` before LD_LIBRARY_PATH; files of
//! `env` folders are named `NAME[.ACTION]`, and `NAME.delim` beside them stands between two values. Values are bytes.
//! Source: buildpack spec, "Environment".

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use crate::error::FileError;
use crate::files;

/// What a process does not see of the container.
const HIDDEN: [&str; 5] =
    ["CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];
/// Folders of ours, which are taken out of PATH.
const OWN: [&str; 2] = ["/cnb/process", "/cnb/lifecycle"];
/// Largest value that is read; the kernel takes none of this size.
const MOST: u64 = 2 << 20;

/// Variables by name.
#[derive(Clone, Debug)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Takes what the container has; of one name the first counts.
    pub(crate) fn of_container(container: Vec<(OsString, OsString)>) -> Self {
        let mut all = BTreeMap::new();
        for (name, value) in container {
            if HIDDEN.iter().all(|hidden| name != *hidden) {
                all.entry(name).or_insert(value);
            }
        }
        if let Some(path) = all.get_mut(OsStr::new("PATH")) {
            let is_own = |part: &&[u8]| OWN.iter().any(|own| *part == own.as_bytes());
            let parts: Vec<&[u8]> =
                path.as_bytes().split(|byte| *byte == b':').filter(|part| !is_own(part)).collect();
            *path = OsString::from_vec(parts.join(&b':'));
        }
        Self(all)
    }

    /// Returns a value; empty if there is none.
    pub(crate) fn get(&self, name: &OsStr) -> &OsStr {
        self.0.get(name).map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }

    /// Adds the folders of a layer in which programs and libraries are looked for.
    pub(crate) fn add_layer(&mut self, layer: &Path) -> Result<(), FileError> {
        for (folder, name) in [("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")] {
            let folder = layer.join(folder);
            if files::look(&folder)?.is_some() {
                self.before(name.as_ref(), folder.as_os_str().as_bytes(), b":");
            }
        }
        Ok(())
    }

    /// Adds what the files of a folder ask for.
    pub(crate) fn add_files(&mut self, folder: &Path) -> Result<(), FileError> {
        for (file, kind) in files::list(folder)? {
            let path = folder.join(&file);
            let is_folder = |found: std::fs::Metadata| found.is_dir();
            if kind.is_dir() || kind.is_symlink() && files::look(&path)?.is_some_and(is_folder) {
                continue;
            }
            let value = files::read(&path, MOST)?;
            let mut parts = file.as_bytes().splitn(2, |byte| *byte == b'.');
            let name = OsStr::from_bytes(parts.next().unwrap_or_default());
            let between = |default: &'static [u8]| {
                let mut file = name.to_owned();
                file.push(".delim");
                files::read(&folder.join(file), MOST).unwrap_or_else(|_| default.to_vec())
            };
            match parts.next() {
                None | Some(b"override") => self.set(name.to_owned(), OsString::from_vec(value)),
                Some(b"default") if self.get(name).is_empty() => {
                    self.set(name.to_owned(), OsString::from_vec(value));
                }
                Some(b"append") => {
                    let old = self.get(name).as_bytes();
                    let old = if old.is_empty() { Vec::new() } else { [old, &between(b"")].concat() };
                    self.set(name.to_owned(), OsString::from_vec([old, value].concat()));
                }
                Some(b"prepend") => self.before(name, &value, &between(b"")),
                // A name that ends with a point: as a path.
                Some(b"") => self.before(name, &value, &between(b":")),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn before(&mut self, name: &OsStr, value: &[u8], between: &[u8]) {
        let old = self.get(name).as_bytes();
        let old = if old.is_empty() { Vec::new() } else { [between, old].concat() };
        self.set(name.to_owned(), OsString::from_vec([value, &old].concat()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str, all: &[(&str, &[u8])]) -> OsString {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in all {
            std::fs::write(folder.path().join(name), content).expect("writes");
        }
        let mut environment = Environment::of_container(vec![("A".into(), before.into())]);
        environment.add_files(folder.path()).expect("reads");
        environment.get("A".as_ref()).to_owned()
    }

    #[test]
    fn suffixes() {
        assert_eq!(after("old", &[("A", b"new\n")]), "new\n");
        assert_eq!(after("old", &[("A.override", b"")]), "");
        assert_eq!(after("old", &[("A.default", b"new")]), "old");
        assert_eq!(after("", &[("A.default", b"new")]), "new");
        assert_eq!(after("old", &[("A.append", b"new"), ("A.delim", b";")]), "old;new");
        assert_eq!(after("", &[("A.append", b"new"), ("A.delim", b";")]), "new");
        assert_eq!(after("old", &[("A.prepend", b"new")]), "newold");
        assert_eq!(after("old", &[("A.", b"new")]), "new:old");
        assert_eq!(after("old", &[("A.other", b"new"), ("A.prepend.x", b"new")]), "old");
        assert_eq!(after("old", &[("A", b"\xff")]).as_bytes(), b"\xff");
    }

    #[test]
    fn folders_of_layers_and_of_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("makes");
        let container =
            [("PATH", "/cnb/process:/bin:/cnb/lifecycle:/x"), ("CNB_APP_DIR", "/"), ("CNB_EXEC_ENV", "test")];
        let container = container.map(|(name, value)| (name.into(), value.into())).to_vec();
        let mut environment = Environment::of_container(container);
        environment.add_layer(folder.path()).expect("looks");
        let all: Vec<String> = environment
            .all()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        let bin = folder.path().join("bin");
        assert_eq!(all, ["CNB_EXEC_ENV=test".to_owned(), format!("PATH={}:/bin:/x", bin.display())]);
    }
}
