//! What reads the bytes of a daemon, for tests that feed it any bytes at all, and for nobody else.
//!
//! What must hold of an answer is asserted here, where it is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use prost::Message as _;
use rb_api::{
    CacheExport, CacheExtent, CachePlace, CacheTarget, Event, EventKind, Export, ImageFormat, ImageName,
    PlatformImage,
};
use rb_llb::Definition;
use rb_oci::{Digest, ImageConfig, Platform, Reference};
use rb_session::{HiddenFile, LocalDir, LocalSession};
use rb_sources::layout::Wanted;
use rb_wire::content::WriteContentRequest;
use rb_wire::control::{InfoResponse, ListWorkersResponse, SolveResponse, StatusResponse};
use rb_wire::diffcopy::{Entry, Files, Kind, send};
use rb_wire::gateway;
use tokio::io::AsyncWriteExt as _;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

use crate::exports::{self, Taken};
use crate::receive::{self, Part};
use crate::session::{Exchange, incoming};
use crate::vertices::Vertices;
use crate::{About, Worker, caches, docker, error, guest, layout, query, resolve, session};

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

/// Reads bytes as what came of a build: that of an image, and of a question. And as what a daemon says of itself.
pub fn result(bytes: &[u8]) {
    let workers = ListWorkersResponse::decode(bytes).map(|told| told.record).unwrap_or_default();
    let version = InfoResponse::decode(bytes).ok().and_then(|told| told.buildkit_version);
    let about = About::of(version.map(|version| version.version), workers);
    let of_worker = |worker: &Worker| {
        let labels = worker.labels.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
        labels.chain(worker.platforms.iter().cloned()).collect::<Vec<_>>()
    };
    let words = about.workers.iter().flat_map(of_worker).chain(about.version.clone());
    words.for_each(|words| assert!(!words.contains(char::is_control) && words.chars().count() <= 200));
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

/// Reads bytes as what a daemon says that names stand for: an image has the digest that was asked for, a commit is one.
pub fn sources(bytes: &[u8]) {
    let Ok(told) = gateway::ResolveSourceMetaResponse::decode(bytes) else { return };
    let plain: Reference = "example.com/a:1".parse().expect("a name");
    let pinned = plain.pinned(Digest::of("a"));
    for (name, asked) in [(&plain, None), (&pinned, Some(Digest::of("a")))] {
        if let Ok(image) = resolve::told_of_image(name, told.clone()) {
            assert!(asked.is_none_or(|asked| asked == image.digest));
            assert!(image.identifier.ends_with(&format!("@{}", image.digest)));
        }
    }
    if let Ok(facts) = resolve::told_of_repository("a", told) {
        assert!(
            facts.hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && [40, 64].contains(&facts.hash.len())
        );
        assert_eq!(facts.short_hash.len(), 8);
        let times = [&facts.author_timestamp, &facts.commit_timestamp];
        assert!(times.iter().all(|time| time.bytes().all(|byte| byte.is_ascii_digit())));
    }
}

/// Takes pieces as a cache that a daemon writes: the first as what it says of it, the others as what it writes, where an empty one ends a
/// stream. What stays are blobs that are what they are called, and no name of one that is not there.
pub fn cache(pieces: &[Bytes], scratch: &Path, folder: &Path) {
    let Some((told, writes)) = pieces.split_first() else { return };
    let target = CachePlace::Folder { path: folder.to_owned(), tag: "latest".to_owned(), digest: None };
    let cache = CacheExport {
        roots: vec![0],
        target: CacheTarget::Place(target),
        extent: CacheExtent::Max,
        compression: None,
        force_compression: false,
        ignore_error: false,
        reset: writes.len() % 2 == 1,
    };
    let folders = caches::Folders::default();
    let writing = caches::export(&cache, &folders, scratch).expect("a folder is made");
    let store = format!("local:{}", writing.entry.attrs["dest"]);
    let incoming = folders.incoming(&store).expect("is lent");
    for stream in writes.split(|piece| piece.is_empty()) {
        let requests = stream.iter().map_while(|bytes| WriteContentRequest::decode(bytes.clone()).ok());
        // An error is an answer, too.
        drop(incoming::all(&incoming, &requests.collect::<Vec<_>>()));
    }
    check_blobs(&incoming);
    let told = [(caches::MANIFEST.to_owned(), String::from_utf8_lossy(told).into_owned())].into();
    let written = caches::written(&cache, &writing, &told);
    check_blobs(&folder.join("blobs/sha256"));
    if let Ok(digest) = written.map(|written| written.digest.expect("something is told")) {
        let found = rb_sources::layout::entry(folder, Some("latest")).expect("it has a name");
        assert_eq!(rb_sources::layout::digest_of(&found).ok(), Some(digest));
        rb_sources::layout::prove_blob(folder, &found).expect("it is there, as long as is said");
    }
}

/// Every file has the digest that it is called by.
fn check_blobs(folder: &Path) {
    for blob in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let content = std::fs::read(blob.path()).expect("is a file");
        assert_eq!(Digest::of(content).hex(), blob.file_name().to_string_lossy());
    }
}

/// Reads lines as what a daemon asks for of `folder`, which is lent but for its file `hidden`: the kind of a line is its first letter.
pub fn folder(bytes: &[u8], folder: &Path) {
    let mut metadata = MetadataMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, value)) = line.split_first() else { continue };
        let Ok(value) = AsciiMetadataValue::try_from(value) else { continue };
        let key = match kind {
            b'i' => "include-patterns",
            b'I' => "include-patterns-encoded",
            b'e' => "exclude-patterns",
            b'E' => "exclude-patterns-encoded",
            b'F' => "followpaths-encoded",
            _ => "followpaths",
        };
        metadata.append(key, value);
    }
    metadata.insert("dir-name", AsciiMetadataValue::from_static("context"));
    let hidden = vec![HiddenFile { path: "hidden".into(), by_name: false }];
    let lent = LocalDir { path: folder.to_owned(), normalise_modes: false, hidden };
    // An error is an answer, too.
    for entry in
        session::listed(&LocalSession::default().with_local("context", lent), &metadata).into_iter().flatten()
    {
        assert!(entry.path != "hidden" && !entry.path.split('/').any(|name| ["", ".", ".."].contains(&name)));
        assert!(folder.join(&entry.path).symlink_metadata().is_ok(), "{entry:?}");
    }
}

/// Answers bytes to who wants a connection of Docker's daemon: one that was given is one.
pub async fn upgraded(bytes: &[u8]) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let answer = async {
        // The other end may have hung up.
        theirs.write_all(bytes).await.ok();
        theirs.shutdown().await.ok();
        let mut asked = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut asked).await.ok();
    };
    let asked = async {
        if docker::upgraded(ours, docker::SERVICES, MetadataMap::new()).await.is_ok() {
            let words = String::from_utf8_lossy(bytes);
            assert!(words.contains(" 101"), "{words}");
        }
    };
    tokio::join!(answer, asked);
}

/// Reads bytes as what a frontend of an image returns: each tree is one that it has.
pub fn returned(bytes: &[u8]) {
    let Some(result) = gateway::ReturnRequest::decode(bytes).ok().and_then(|request| request.result) else {
        return;
    };
    let find = |id: &str| match id {
        "0" => Ok(Definition::empty()),
        _ => Err(Status::not_found("no such ref")),
    };
    // An error is an answer, too.
    drop(guest::returned(result, &find));
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

/// Unpacks bytes as the archive of a layout; what stays are blobs that are what they are called. What it is of is read, too.
pub fn unpacked(mut bytes: &[u8], folder: &Path) {
    // An error is an answer, too.
    if layout::unpack(&mut bytes, folder).is_ok() {
        drop(rb_sources::layout::find(folder, &Wanted::Tag(None), &Platform::host()));
    }
    check_blobs(&folder.join("blobs/sha256"));
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
