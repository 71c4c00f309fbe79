//! `report.toml`: what came of a build or a rebase, for other programs.
//!
//! In: a folder of the user's and a text. Out: the file. What always holds: a link of that name, which may have come with the app, is
//! replaced and never written through.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

const NAME: &str = "report.toml";

/// Writes it into `folder`, which is made; whole, or not at all.
pub(super) fn write(folder: &Path, text: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{NAME}.rb-{}", std::process::id()));
    // That of a process of this number that was killed; a folder of that name is told of below.
    std::fs::remove_file(&beside).ok();
    let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&beside, folder.join(NAME)));
    if written.is_err() {
        // The error that is told is the one that made it useless.
        std::fs::remove_file(&beside).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_leads_to_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join("other");
        std::fs::write(&other, "mine").expect("writes");
        let reports = folder.path().join("reports");
        std::fs::create_dir(&reports).expect("makes");
        std::os::unix::fs::symlink(&other, reports.join(NAME)).expect("links");
        for text in ["one", "two"] {
            write(&reports, text).expect("writes");
            assert_eq!(std::fs::read_to_string(reports.join(NAME)).expect("reads"), text);
        }
        assert_eq!(std::fs::read_to_string(&other).expect("reads"), "mine");
        assert_eq!(std::fs::read_dir(&reports).expect("lists").count(), 1);
    }
}
