//! What keys of a daemon's vertices are made of, as far as graphs and the client's folders tell, so that records can be compared.
//!
//! In: graphs; what a daemon asks for of a folder, and the entries that it is told. Out: parts of keys, of folders with a list of files. A
//! daemon does not tell by which content it knows a file, and most files it does not read again: so one is known here by its size and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_api::{FileEntry, FileKind, FileList, KeyPart, KeyParts, PartKind, op_parts};
use rb_llb::{Graph, Op, SourceOp, attr};
use rb_oci::{Digest, Hasher};
use rb_wire::diffcopy::{Entry, Kind};

/// Part of a folder, as a source names it and a daemon asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    name: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Vec<String>,
}

impl Asked {
    pub(crate) fn new(name: &str, include: &[String], exclude: &[String], follow: &[String]) -> Self {
        let [include, exclude, follow] = [include, exclude, follow].map(<[String]>::to_vec);
        Self { name: name.to_owned(), include, exclude, follow }
    }

    /// What a source will ask for; nothing where it is no folder of the client.
    pub(crate) fn of_source(source: &SourceOp) -> Option<Self> {
        let ("local", name) = source.scheme() else { return None };
        let list = |name: &str| -> Vec<String> {
            source.attrs.get(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let (include, exclude) = (list(attr::LOCAL_INCLUDE_PATTERNS), list(attr::LOCAL_EXCLUDE_PATTERNS));
        Some(Self::new(name, &include, &exclude, &list(attr::LOCAL_FOLLOW_PATHS)))
    }
}

/// Returns what a vertex's key is made of, as far as its graph tells: of sources a daemon does not tell what they hold.
pub(crate) fn of(graph: &Graph, vertex: &rb_llb::Vertex) -> KeyParts {
    let (platform, meta) = (vertex.platform.as_ref(), graph.meta(&vertex.digest));
    let (own, about) = match &vertex.op {
        Op::Exec(op) => (op_parts::of_exec(op, platform, meta), Vec::new()),
        Op::File(op) => (op_parts::of_files(op, platform), Vec::new()),
        Op::Source(source) => match source.scheme() {
            ("docker-image" | "oci-layout", name) => {
                (vec![KeyPart::new(PartKind::Image, "", name)], Vec::new())
            }
            ("local", _) => (Vec::new(), op_parts::patterns(&source.attrs)),
            _ => (op_parts::of_digest(&vertex.op_digest()), Vec::new()),
        },
        Op::Build(_) | Op::Merge(_) | Op::Diff(_) => (op_parts::of_digest(&vertex.op_digest()), Vec::new()),
    };
    let inputs = vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect();
    let place = graph.location(&vertex.digest).map(|(source, range)| (source.name.clone(), range.start.line));
    KeyParts { inputs, own, about, files: None, place }
}

/// Adds to the parts of a source what was told of its files.
pub(crate) fn with_files(parts: &KeyParts, entries: &Arc<[Entry]>) -> KeyParts {
    let mut hasher = Hasher::default();
    for entry in entries.iter() {
        let Entry { path, kind, mode, modified_ns, .. } = entry;
        let text = match kind {
            Kind::File { .. } => format!("{path}\0{kind:?} {mode:o} {modified_ns}\n"),
            _ => format!("{path}\0{kind:?} {mode:o}\n"),
        };
        hasher.update(text.as_bytes());
    }
    let digest = hasher.finish().0;
    let own = vec![KeyPart::new(PartKind::Files, "", digest.to_string())];
    let entries = Arc::clone(entries);
    let files = FileList::new(digest, move || entries.iter().map(entry).collect());
    KeyParts { own, files: Some(files), ..parts.clone() }
}

fn entry(entry: &Entry) -> FileEntry {
    let mode = entry.mode & 0o7777;
    let kind = match &entry.kind {
        Kind::Symlink { target } => FileKind::Symlink { target: target.clone() },
        Kind::File { size_bytes } => {
            let known_by = Digest::of(format!("{size_bytes} {}", entry.modified_ns));
            FileKind::File { mode, size_bytes: *size_bytes, digest: *known_by.as_bytes() }
        }
        _ => FileKind::Directory { mode },
    };
    FileEntry { path: entry.path.clone(), kind }
}

/// Sources that are yet to be asked for.
pub(crate) type Folders = BTreeMap<Asked, Vec<Digest>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, modified_ns: i64) -> Entry {
        let kind = Kind::File { size_bytes: 1 };
        Entry { path: path.to_owned(), kind, mode: 0o644, uid: 0, gid: 0, modified_ns }
    }

    #[test]
    fn what_changed_makes_another_list() {
        let none =
            KeyParts { inputs: Vec::new(), own: Vec::new(), about: Vec::new(), files: None, place: None };
        let of = |entries: &[Entry]| with_files(&none, &entries.into());
        let one = of(&[file("a", 1), file("b", 1)]);
        assert_eq!(one, of(&[file("a", 1), file("b", 1)]));
        let other = of(&[file("a", 1), file("b", 2)]);
        assert_ne!(one.own, other.own);
        let (was, now) = (one.files.expect("has one").entries(), other.files.expect("has one").entries());
        assert_eq!((was[0] == now[0], was[1] == now[1]), (true, false));
    }

    #[test]
    fn a_daemon_asks_for_what_a_source_names() {
        let attrs = [
            (attr::LOCAL_EXCLUDE_PATTERNS.to_owned(), r#"["a","b"]"#.to_owned()),
            (attr::LOCAL_FOLLOW_PATHS.to_owned(), r#"["src"]"#.to_owned()),
        ];
        let source = SourceOp { identifier: "local://context".to_owned(), attrs: attrs.into() };
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let asked = Asked::new("context", &[], &owned(&["a", "b"]), &owned(&["src"]));
        assert_eq!(Asked::of_source(&source), Some(asked));
        let image = SourceOp { identifier: "docker-image://a".to_owned(), ..SourceOp::default() };
        assert_eq!(Asked::of_source(&image), None);
    }
}
