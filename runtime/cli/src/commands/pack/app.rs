//! The folder of an app, or the zip archive that holds one (`.zip`, `.jar`, `.war`).
//!
//! In: a path as it is typed. Out: a folder; that of an archive is a scratch one, gone with its [`App`].

use std::fs::File;
use std::path::{Path, PathBuf};

use rb_sources::{SourceError, zipped};

use super::super::scratch::Scratch;
use crate::report::Failure;

/// An app on this machine.
#[derive(Debug)]
pub(super) struct App {
    /// Its folder, by its real path.
    pub(super) folder: PathBuf,
    /// What that lies in, if it was unpacked.
    pub(super) unpacked: Option<Scratch>,
}

impl App {
    /// Finds it, and unpacks it if it is an archive.
    pub(super) fn at(cwd: &Path, path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let place = std::fs::canonicalize(cwd.join(path))
            .map_err(|_| Failure::input(format!("there is no folder or zip archive `{shown}`"), None))?;
        if place.is_dir() {
            return Ok(Self { folder: place, unpacked: None });
        }
        let unread = |error: std::io::Error| Failure::environment(&format!("cannot read `{shown}`"), &error);
        let is_file = place.is_file();
        let mut file = File::open(&place).map_err(unread)?;
        if !is_file || !zipped::is_zip(&mut file).map_err(unread)? {
            let help = Some("name the folder of the app: `--path DIR`".to_owned());
            return Err(Failure::input(format!("`{shown}` is no folder, and no zip archive either"), help));
        }
        let scratch = Scratch::new()?;
        match zipped::unpack(file, scratch.path()) {
            Ok(()) => Ok(Self { folder: scratch.path().to_owned(), unpacked: Some(scratch) }),
            Err(SourceError::Read { path, source }) => {
                let what = format!("`{shown}` cannot be unpacked to `{}`", path.display());
                Err(Failure::environment(&what, &source))
            }
            Err(error) => Err(Failure::input(format!("`{shown}`: {}", rb_diag::chain(&error)), None)),
        }
    }
}
