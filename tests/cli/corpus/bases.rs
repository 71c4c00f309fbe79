//! The images that cases begin with, under the names that people write, and the registry that has them.
//!
//! `tests/corpus/images.toml` says what is in which; programs are Debian's static busybox and the stand-ins of `tests/corpus/tools`,
//! which do with files what npm, go or apt-get do to them, and nothing with networks. Each is an index of two platforms with the same layers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use rb_oci::Digest;
use serde_json::{Value, json};

use crate::registry::support::scripted::{Reply, Request, Scripted};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What links to busybox in every image with a shell.
const APPLETS: &str = "[ [[ ash awk base64 basename cat chgrp chmod chown cmp cp cut date dd diff dirname du echo egrep env expr false \
    find fold grep groups gunzip gzip head hostname id install ln ls md5sum mkdir mkfifo mknod mktemp mv nproc od paste printf pwd readlink \
    realpath rev rm rmdir sed seq sh sha1sum sha256sum sleep sort stat tac tail tar tee test touch tr true truncate tty umask uname \
    uniq unlink unzip usleep wc which whoami xargs xxd yes";

/// The registry, which answers for every host that a name has.
pub(super) struct Bases {
    server: Scripted,
    hosts: BTreeSet<String>,
}

/// What is served, by path.
type Served = BTreeMap<String, (String, Vec<u8>)>;

impl Bases {
    /// Makes the images; none where there is no busybox.
    pub(super) fn start(corpus: &Path) -> Option<Self> {
        let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists())
        else {
            eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
            return None;
        };
        let busybox = std::fs::read(busybox).expect("reads busybox");
        let text = std::fs::read_to_string(corpus.join("images.toml")).expect("reads the images");
        let said: Value = toml::from_str(&text).expect("is TOML");
        let (mut served, mut hosts) = (Served::new(), BTreeSet::new());
        for image in said["image"].as_array().expect("are images") {
            for name in image["names"].as_array().expect("has names") {
                let (host, repository, tag) = parts(name.as_str().expect("is a name"));
                hosts.insert(host);
                serve(&mut served, image, &repository, &tag, &busybox, corpus);
            }
        }
        let served = Arc::new(served);
        Some(Self { server: Scripted::start(move |request, _| answer(&served, request)), hosts })
    }

    /// Settings of `rb` that have it asked for every image.
    pub(super) fn settings(&self) -> String {
        let host = &self.server.host;
        let mirrored = |name: &String| format!("[registry.\"{name}\"]\nmirrors = [\"http://{host}\"]\n");
        self.hosts.iter().map(mirrored).collect()
    }

    /// Those of BuildKit.
    pub(super) fn settings_of_buildkit(&self) -> String {
        let host = &self.server.host;
        let mirrored = |name: &String| format!("[registry.\"{name}\"]\n  mirrors = [\"{host}\"]\n");
        let mirrors: String = self.hosts.iter().map(mirrored).collect();
        format!("{mirrors}[registry.\"{host}\"]\n  http = true\n")
    }
}

/// Host, repository and tag of a name.
fn parts(name: &str) -> (String, String, String) {
    let (path, tag) = name.rsplit_once(':').expect("has a tag");
    match path.split_once('/') {
        Some((host, rest)) if host.contains('.') => (host.to_owned(), rest.to_owned(), tag.to_owned()),
        Some(_) => ("docker.io".to_owned(), path.to_owned(), tag.to_owned()),
        None => ("docker.io".to_owned(), format!("library/{path}"), tag.to_owned()),
    }
}

fn answer(served: &Served, request: &Request) -> Reply {
    let path = request.path.split('?').next().expect("is there");
    // A blob is the same in every repository.
    let key = path.rfind("/blobs/").map_or(path, |at| &path[at..]);
    match served.get(key) {
        Some((kind, bytes)) => Reply::new(200, &bytes[..])
            .with("Content-Type", kind)
            .with("Docker-Content-Digest", Digest::of(bytes)),
        None if path == "/v2/" => Reply::new(200, ""),
        None => Reply::new(404, ""),
    }
}

/// Puts an image under a name.
fn serve(served: &mut Served, image: &Value, repository: &str, tag: &str, busybox: &[u8], corpus: &Path) {
    let layers = [root(image, busybox), own(image, corpus)];
    let layers: Vec<&Vec<u8>> = layers.iter().flatten().collect();
    let mut blob = |bytes: Vec<u8>, kind: &str| {
        let digest = Digest::of(&bytes);
        let told = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        served.insert(format!("/blobs/{digest}"), (kind.to_owned(), bytes));
        told
    };
    let packed: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(layer).expect("in memory");
            blob(packed.finish().expect("in memory"), "application/vnd.oci.image.layer.v1.tar+gzip")
        })
        .collect();
    let diffs: Vec<Digest> = layers.iter().map(Digest::of).collect();
    let created = "2024-05-06T07:08:09Z";
    let history: Vec<Value> =
        diffs.iter().map(|_| json!({ "created": created, "created_by": "ADD rootfs /" })).collect();
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let config = json!({
            "architecture": architecture, "os": "linux", "created": created, "config": image["config"],
            "rootfs": { "type": "layers", "diff_ids": diffs }, "history": history,
        });
        let config = blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": packed });
        manifests.push((architecture, manifest.to_string().into_bytes()));
    }
    let mut described = Vec::new();
    for (architecture, manifest) in manifests {
        let digest = Digest::of(&manifest);
        described.push(json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": { "architecture": architecture, "os": "linux" } }));
        served.insert(format!("/v2/{repository}/manifests/{digest}"), (MANIFEST.to_owned(), manifest));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": described }).to_string();
    let digest = Digest::of(index.as_bytes());
    for reference in [digest.to_string(), tag.to_owned()] {
        let path = format!("/v2/{repository}/manifests/{reference}");
        served.insert(path, (INDEX.to_owned(), index.clone().into_bytes()));
    }
}

/// The layer that images share that have a shell.
fn root(image: &Value, busybox: &[u8]) -> Option<Vec<u8>> {
    if image["shell"] == json!(false) {
        return None;
    }
    let mut layer = Layer::default();
    for folder in [
        "bin",
        "dev",
        "etc",
        "home",
        "opt",
        "proc",
        "root",
        "run",
        "srv",
        "sys",
        "usr",
        "usr/bin",
        "usr/local",
        "usr/local/bin",
        "var",
        "var/lib",
    ] {
        layer.folder(folder, if folder == "root" { 0o700 } else { 0o755 });
    }
    layer.folder("tmp", 0o1777);
    layer.file("bin/busybox", busybox, 0o755);
    for applet in APPLETS.split_whitespace() {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer.link("usr/bin/env", "../../bin/busybox");
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        0o644,
    );
    layer.file("etc/group", b"root:x:0:\nstaff:x:50:\nnogroup:x:65534:\n", 0o644);
    Some(layer.done())
}

/// The layer of an image's own, if it has one.
fn own(image: &Value, corpus: &Path) -> Option<Vec<u8>> {
    let none = Vec::new();
    let tools = image["tools"].as_array().unwrap_or(&none);
    let files = image["files"].as_object();
    if tools.is_empty() && files.is_none() {
        return None;
    }
    let mut layer = Layer::default();
    for (path, text) in files.into_iter().flatten() {
        let (path, mode) = path.split_once(' ').unwrap_or((path, "0644"));
        let mode = u32::from_str_radix(mode, 8).expect("is a mode");
        match path.strip_suffix('/') {
            Some(path) => layer.folder(path, mode),
            None => layer.file(path, text.as_str().expect("is text").as_bytes(), mode),
        }
    }
    for tool in tools {
        // `yarn=npm`: one stand-in knows by which name it was called.
        let tool = tool.as_str().expect("is a name");
        let (name, source) = tool.split_once('=').unwrap_or((tool, tool));
        let bytes = std::fs::read(corpus.join("tools").join(source)).expect("reads a tool");
        let folder = if name == "bash" { "bin" } else { "usr/bin" };
        layer.file(&format!("{folder}/{name}"), &bytes, 0o755);
    }
    Some(layer.done())
}

/// A layer that is being written.
struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    fn header(mode: u32, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_entry_type(kind);
        header.set_mtime(1_400_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }

    fn folder(&mut self, path: &str, mode: u32) {
        let mut header = Self::header(mode, tar::EntryType::Directory);
        self.0.append_data(&mut header, format!("{path}/"), std::io::empty()).expect("in memory");
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) {
        let mut header = Self::header(mode, tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes).expect("in memory");
    }

    fn link(&mut self, path: &str, to: &str) {
        let mut header = Self::header(0o777, tar::EntryType::Symlink);
        self.0.append_link(&mut header, path, to).expect("in memory");
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().expect("in memory")
    }
}
