//! What reads the bytes of a daemon, for tests that feed it any bytes at all, and for nobody else.
//!
//! What must hold of an answer is asserted here, where it is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use prost::Message as _;
use rb_api::{Event, EventKind, Export, ImageFormat, ImageName, PlatformImage};
use rb_oci::{Digest, ImageConfig, Platform};
use rb_session::LocalSession;
use rb_wire::control::{SolveResponse, StatusResponse};
use rb_wire::diffcopy::{Entry, Files, Kind, send};
use rb_wire::gateway;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::exports::{self, Taken};
use crate::receive::{self, Part};
use crate::session::Exchange;
use crate::vertices::Vertices;
use crate::{error, guest, layout, query};

/// Hears bytes as two pieces of a status stream. No vertex is told of before it was added, and none ends twice.
pub fn status(first: &[u8], second: &[u8]) {
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = Arc::clone(&told);
    let hears = move |event| sink.lock().expect("nobody panics").push(event);
    let vertices = Vertices::new(Arc::new(hears), Arc::new(LocalSession::default()), false);
    for (build, bytes) in [("one", first), ("two", second)] {
        if let Ok(status) = StatusResponse::decode(bytes) {
            vertices.hear(build, status);
        }
    }
    vertices.running().iter().for_each(|name| assert!(!name.contains(char::is_control)));
    std::hint::black_box(vertices.summary());
    let mut ended: BTreeMap<Digest, bool> = BTreeMap::new();
    for Event { vertex, kind } in told.lock().expect("nobody panics").drain(..) {
        match kind {
            EventKind::Added { name, .. } => {
                assert!(ended.insert(vertex, false).is_none() && !name.contains(char::is_control));
            }
            EventKind::Done { .. } | EventKind::Failed { .. } | EventKind::Cached { .. } => {
                assert_eq!(ended.insert(vertex, true), Some(false));
            }
            _ => assert!(ended.contains_key(&vertex)),
        }
    }
}

/// Reads bytes as what came of a build: that of an image, and of a question.
pub fn result(bytes: &[u8]) {
    if let Ok(response) = SolveResponse::decode(bytes) {
        let image = PlatformImage { root: 0, config: ImageConfig::scratch(&Platform::host()) };
        let export = Export::Image {
            images: vec![image],
            names: vec![ImageName::Plain("example.com/a:1".to_owned())],
            format: ImageFormat::default(),
            push: None,
        };
        let taken = Taken::Image { size_bytes: 0, destination: None };
        // An error is an answer, too.
        drop(exports::described(&export, taken, &response.exporter_response));
    }
    drop(gateway::SolveResponse::decode(bytes));
}

/// Reads bytes as what a daemon tells of files and folders: what is told on are names.
pub fn files(bytes: &[u8]) {
    let listed = gateway::ReadDirResponse::decode(bytes).map(|told| told.entries).unwrap_or_default();
    let looked = gateway::StatFileResponse::decode(bytes).ok().and_then(|told| told.stat);
    for stat in listed.into_iter().chain(looked) {
        // An error is an answer, too.
        if let Ok(details) = query::detail(stat) {
            let name = &details.entry.name;
            assert!(!name.contains('/') && name != "." && name != "..");
            assert!(details.mode <= 0o7777);
        }
    }
}

/// Reads bytes as what a frontend says of a container, and of its process behind it; nothing runs.
pub fn container(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (container, process) in [(first, second), (bytes, bytes)] {
        if let (Ok(container), Ok(process)) =
            (gateway::NewContainerRequest::decode(container), gateway::InitMessage::decode(process))
        {
            guest::container(container, process);
        }
    }
}

/// Answers packets as those of a daemon that is sent a folder of one file; what is read is that file.
pub async fn asked(packets: Vec<Bytes>) {
    let entry =
        |path: &str, kind| Entry { path: path.to_owned(), kind, mode: 0o644, uid: 0, gid: 0, modified_ns: 0 };
    let entries = [entry("d", Kind::Directory), entry("f", Kind::File { size_bytes: 3 })];
    let packets = packets.into_iter().map(|bytes| {
        rb_wire::files::Packet::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
    });
    let (outgoing, mut told) = tokio::sync::mpsc::channel(1);
    let heard = async move { while told.recv().await.is_some() {} };
    let sending = send(Arc::new(entries), Arc::new(OneFile), stream::iter(packets), outgoing);
    // An error is an answer, too.
    drop(tokio::join!(sending, heard).0);
}

/// A folder of which nothing but `f` may be read.
struct OneFile;

impl Files for OneFile {
    fn open(&self, entry: &Entry) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        assert_eq!(entry.path, "f");
        Ok(Box::new(&b"abc"[..]))
    }
}

/// Reads bytes as the details of a failure, and as its words.
pub fn failure(bytes: &[u8]) {
    let words = String::from_utf8_lossy(bytes).into_owned();
    let status =
        Status::with_details_and_metadata(Code::Unknown, words, bytes.to_vec().into(), MetadataMap::new());
    std::hint::black_box(error::failed_vertex(&status));
    let said = error::said(&status);
    assert!(said.chars().count() <= 4_000 && !said.contains('\u{1b}'));
    for op in [rb_llb::Op::Exec(rb_llb::ExecOp::default()), rb_llb::Op::Source(rb_llb::SourceOp::default())] {
        drop(error::classify(Some(&op), &said));
    }
}

/// Unpacks bytes as the archive of a layout; what stays are blobs that are what they are called.
pub fn unpacked(mut bytes: &[u8], folder: &Path) {
    // An error is an answer, too.
    drop(layout::unpack(&mut bytes, folder));
    for blob in std::fs::read_dir(folder.join("blobs/sha256")).into_iter().flatten().flatten() {
        let content = std::fs::read(blob.path()).expect("is a file");
        assert_eq!(Digest::of(content).hex(), blob.file_name().to_string_lossy());
    }
}

/// Takes packets as a tree of which everything is wanted, into an empty folder; nothing is written beside it, and nothing in it
/// is a device, pipe or socket. Needs a runtime of tokio.
pub async fn tree(packets: Vec<Bytes>, folder: &Path) {
    let (outgoing, mut asked) = tokio::sync::mpsc::channel(1);
    let exchange = Exchange { incoming: Box::pin(stream::iter(packets.into_iter().map(Ok))), outgoing };
    let heard = async move { while asked.recv().await.is_some() {} };
    // An error is an answer, too.
    drop(tokio::join!(receive::tree(exchange, folder, Part { path: "/", optional: true }), heard).0);
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("it is there");
            assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{entry:?}");
            // Links lead anywhere, and are not followed.
            open.extend(kind.is_dir().then(|| entry.path()));
        }
    }
}
