//! Certificates of authorities that only the machine that builds trusts, shown to a step beside those its image trusts.
//!
//! In: a tree, and certificates in PEM. They are added, between two lines that mark them, to the bundles that the image
//! has, in a layer of this run's own between the tree's and what the step writes. So a step that makes its bundle anew
//! (`update-ca-certificates`, an upgrade of the package) does so as ever, which a mount over the file would forbid: it
//! cannot be renamed over. What such a step makes is its own, without these; the next step has them again.
//!
//! **Invariant:** nothing of them is in a result. A bundle that a step wrote to, and so brought up with them, is relieved
//! of them before it is looked at. Other files that a step makes of a bundle are what the step makes of them.
//!
//! Where no bundle is, none is made: whatever brings one would find a file that is not its own.
//! Source: the bundles that Go's crypto/x509 looks for on Linux; buildkit marks what it adds in the same way.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rb_snapshot::{Active, DriverKind, Editor, FileType, Follow, SnapshotError, View};

use crate::error::EngineError;
use crate::network::set_under;
use crate::parts::Parts;
use crate::value::Tree;

/// Where bundles are: Debian, Alpine, Arch; Fedora and RHEL, old and new; SUSE; Alpine's LibreSSL.
const BUNDLES: [&str; 6] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "var/lib/ca-certificates/ca-bundle.pem",
    "etc/ssl/cert.pem",
];

/// Variables of what brings authorities of its own (Node.js, Python's requests) and so looks at none of these.
const VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"];

/// A larger file is no bundle.
const MOST_BYTES: u64 = 16 << 20;

const BEGIN: &[u8] = b"\n# Authorities of the machine that builds: begin\n";
const END: &[u8] = b"\n# Authorities of the machine that builds: end\n";

/// Returns the bundle of this machine itself; empty where there is none.
pub(super) fn system_bundle() -> Vec<u8> {
    let found = BUNDLES.iter().find_map(|path| std::fs::read(Path::new("/").join(path)).ok());
    found.unwrap_or_default()
}

/// What a step is shown.
pub(crate) struct Authorities {
    marked: Vec<u8>,
    /// The bundles they were added to.
    bundles: Vec<PathBuf>,
}

impl Authorities {
    /// Returns those of this machine, if it has any.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let pem = parts.network.authorities.trim_ascii();
        (!pem.is_empty()).then(|| Self { marked: [BEGIN, pem, END].concat(), bundles: Vec::new() })
    }

    /// Returns the layer to be mounted above those of `tree`; none where layers are copied, or there is no bundle.
    pub(super) fn layer(&mut self, parts: &Parts, tree: &Tree) -> Result<Option<Active>, EngineError> {
        let snapshots = &parts.snapshots;
        if snapshots.driver() == DriverKind::Copy || bundles(&snapshots.view(tree.snapshot)?)?.is_empty() {
            return Ok(None);
        }
        let active = snapshots.prepare(tree.snapshot)?;
        self.add(&active)?;
        Ok((!self.bundles.is_empty()).then_some(active))
    }

    /// Does to the tree of the copy driver what [`Self::layer`] does above one of layers.
    pub(super) fn show(&mut self, active: &Active) -> Result<(), EngineError> {
        if active.driver() == DriverKind::Copy { self.add(active) } else { Ok(()) }
    }

    /// Adds them to the bundles in `active`, and changes nothing else that can be seen.
    pub(crate) fn add(&mut self, active: &Active) -> Result<(), EngineError> {
        let editor = Editor::new(active)?;
        let view = editor.view();
        let mut above: BTreeMap<PathBuf, i64> = BTreeMap::new();
        for (path, modified_ns) in bundles(&view)? {
            let Some(mut content) = read(&view, &path)? else { continue };
            if find(&content, &self.marked).is_some() {
                continue;
            }
            for directory in path.ancestors().skip(1) {
                if let Some(entry) = view.lookup(directory, Follow::No)? {
                    above.entry(directory.to_owned()).or_insert(entry.metadata.modified_ns);
                }
            }
            content.extend_from_slice(&self.marked);
            editor.mkfile(&path, 0o644, &content, None, Some(modified_ns))?;
            self.bundles.push(path);
        }
        // The innermost first: bringing one up moves the time of the one around it.
        for (directory, modified_ns) in above.into_iter().rev() {
            editor.set_metadata(&directory, None, None, Some(modified_ns))?;
        }
        Ok(())
    }

    /// Takes them out of the bundles that a step brought up, before the tree is looked at.
    pub(super) fn remove(&self, active: &Active) -> Result<(), EngineError> {
        if self.bundles.is_empty() {
            return Ok(());
        }
        let editor = Editor::new(active)?;
        let view = editor.view();
        for path in &self.bundles {
            // What the step made of the path; a link leads to what is looked at by its own name, or is not ours.
            let Some(entry) = view.lookup(path, Follow::No)? else { continue };
            if entry.metadata.file_type != FileType::File || entry.path != *path {
                continue;
            }
            let Some(mut content) = read(&view, path)? else { continue };
            let Some(at) = find(&content, &self.marked) else { continue };
            content.drain(at..at + self.marked.len());
            editor.mkfile(path, 0o644, &content, None, Some(entry.metadata.modified_ns))?;
        }
        Ok(())
    }

    /// Names a bundle to what would not look at it, where the environment names none.
    pub(crate) fn name_in(&self, environment: &mut Vec<String>) {
        if let Some(bundle) = self.bundles.first() {
            let bundle = format!("/{}", bundle.display());
            set_under(environment, VARIABLES.map(|name| (name, bundle.clone())));
        }
    }
}

/// Returns the bundles of a tree by their own names, each with its time.
fn bundles(view: &View) -> Result<Vec<(PathBuf, i64)>, EngineError> {
    let mut found: Vec<(PathBuf, i64)> = Vec::new();
    for path in BUNDLES {
        let entry = match view.lookup(path, Follow::Yes) {
            Ok(Some(entry)) if entry.metadata.file_type == FileType::File => entry,
            // Not there, no file, or a path that leads nowhere: then nothing reads it either.
            Ok(_)
            | Err(
                SnapshotError::NotADirectory { .. }
                | SnapshotError::NotFound { .. }
                | SnapshotError::TooManyLinks { .. },
            ) => continue,
            Err(error) => return Err(error.into()),
        };
        if entry.metadata.size_bytes <= MOST_BYTES && found.iter().all(|(path, _)| *path != entry.path) {
            found.push((entry.path, entry.metadata.modified_ns));
        }
    }
    Ok(found)
}

fn read(view: &View, path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    let Some(entry) = view.lookup(path, Follow::No)? else { return Ok(None) };
    let mut content = Vec::new();
    let reading = |source| SnapshotError::Io { action: "read", path: path.to_owned(), source };
    // A step may have made it into anything.
    view.open(&entry)?.take(2 * MOST_BYTES).read_to_end(&mut content).map_err(reading)?;
    Ok(Some(content))
}

fn find(content: &[u8], part: &[u8]) -> Option<usize> {
    // Only a line that begins as the mark does can be it.
    let mut from = 0;
    while let Some(at) = content.get(from..)?.iter().position(|byte| Some(byte) == part.first()) {
        if content.get(from + at..)?.starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_mark_is_found_wherever_it_is() {
        assert_eq!(find(b"\n\n# a\n# b", b"\n# a\n"), Some(1));
        assert_eq!(find(b"x\n# a", b"\n# a\n"), None);
        assert_eq!(find(b"", b"\n"), None);
    }
}
