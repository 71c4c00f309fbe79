//! Bake files of this machine: which there are, and their texts.
//!
//! In: names as typed, those of the environment, else the usual ones. Out: texts, in order. A name may be that of a pipe, as a
//! shell makes of `<(…)`; what is read once is noted, as the command cannot be done again then.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rb_bake::DEFAULT_FILES;
use rb_diag::{SourceFile, SourceMap};

use super::passed;
use crate::commands::anew;
use crate::report::Failure;
use crate::world::read_regular;

/// A bake file is at most this long.
pub(super) const LIMIT: u64 = 16 << 20;

/// Names a file of this machine where others are elsewhere.
const HERE: &str = "cwd://";

/// Which files are to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// As they are named; none is the usual ones.
    pub(super) typed: Vec<String>,
}

impl Names {
    /// Returns what is typed, else what BUILDX_BAKE_FILE says.
    pub(super) fn of(typed: &[String]) -> Self {
        let mut names = typed.to_vec();
        if names.is_empty()
            && let Some(given) = passed("BUILDX_BAKE_FILE")
        {
            let separator = passed("BUILDX_BAKE_PATH_SEPARATOR").filter(|separator| !separator.is_empty());
            let parts = given.split(separator.as_deref().unwrap_or(":"));
            names.extend(parts.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        }
        Self { typed: names }
    }

    /// Splits off those that are here in any case.
    pub(super) fn here(self) -> (Vec<String>, Vec<String>) {
        let (here, there): (Vec<String>, Vec<String>) =
            self.typed.into_iter().partition(|name| name.starts_with(HERE));
        (here, there)
    }
}

/// Returns the usual names of those that are in a folder.
pub(super) fn usual(folder: &Path) -> Vec<String> {
    let there = |name: &&&str| folder.join(name).exists();
    DEFAULT_FILES.iter().filter(there).map(|name| (*name).to_owned()).collect()
}

/// Reads a file that is seen from a folder.
pub(super) fn read(folder: &Path, name: &str, sources: &SourceMap) -> Result<Arc<SourceFile>, Failure> {
    let name = name.strip_prefix(HERE).unwrap_or(name);
    if name == "-" {
        anew::forbid();
        return text(name, bounded(std::io::stdin().lock(), name)?, sources);
    }
    let path = folder.join(name);
    // What is neither file nor folder can be read once.
    let is_stream = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
    let bytes = if is_stream {
        anew::forbid();
        let opened = std::fs::File::open(&path);
        bounded(
            opened.map_err(|error| Failure::environment(&format!("`{name}` cannot be read"), &error))?,
            name,
        )?
    } else {
        read_regular(&path, LIMIT)
            .map_err(|error| Failure::environment(&format!("`{name}` cannot be read"), &error))?
    };
    text(name, bytes, sources)
}

/// Takes bytes as the text of a file.
pub(super) fn text(name: &str, bytes: Vec<u8>, sources: &SourceMap) -> Result<Arc<SourceFile>, Failure> {
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::input(format!("`{name}` is not valid UTF-8"), None))?;
    Ok(sources.add(name, text))
}

fn bounded(from: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let what = if name == "-" { "stdin".to_owned() } else { format!("`{name}`") };
    let mut bytes = Vec::new();
    let read = from.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::environment(&format!("{what} cannot be read"), &error))?;
    if bytes.len() as u64 > LIMIT {
        let help = "a bake file is text; name the one that is meant by -f".to_owned();
        return Err(Failure::input(
            format!("the bake file of {what} is larger than {} MiB", LIMIT >> 20),
            Some(help),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_an_error() {
        let long = std::io::repeat(b'#').take(LIMIT);
        assert_eq!(bounded(long, "-").expect("fits").len() as u64, LIMIT);
        let told = bounded(std::io::repeat(b'#').take(LIMIT + 1), "-").expect_err("is too long").message();
        assert!(told.contains("stdin") && told.contains("16 MiB"), "{told}");
    }

    #[test]
    fn files_that_are_here_are_told_from_others() {
        let names = Names { typed: ["a.hcl", "cwd://b.hcl", "c.hcl"].map(ToOwned::to_owned).into() };
        let (here, there) = names.here();
        assert_eq!(
            (here, there),
            (vec!["cwd://b.hcl".to_owned()], vec!["a.hcl".to_owned(), "c.hcl".to_owned()])
        );
    }
}
