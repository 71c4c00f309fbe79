//! Images to registries and to other places: pushed, copied, loaded, unpacked; and what cannot be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::env::{Run, TestEnv};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};
use crate::registry::support::faults::{Fault, FaultProxy};
use crate::registry::support::scripted::{Reply, Request, Scripted};

/// A project whose image is one file of 3 MB that does not compress, and a registry.
struct Place {
    env: TestEnv,
    registry: DockerRegistry,
    _folder: tempfile::TempDir,
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rb-test-registry-").tempdir().expect("a temporary folder")
}

/// Bytes that do not compress.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 32).to_le_bytes()[..4]);
    }
    bytes
}

impl Place {
    fn new(wants: &Wants) -> Option<Self> {
        let folder = folder();
        let registry = DockerRegistry::start(&folder.path().join("registry"), wants)?;
        let env = TestEnv::new();
        env.write("data", noise(u64::from(std::process::id()), 3 << 20));
        Some(Self { env, registry, _folder: folder })
    }

    /// Makes `+image` save these names.
    fn saves(&self, names: &str) {
        self.env.write(
            "Buildfile",
            format!("VERSION 1\nimage:\n    FROM scratch\n    COPY data /data\n    SAVE IMAGE {names}\n"),
        );
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host)
    }

    /// Returns a server that hands everything on to the registry; `instead` answers first.
    fn behind(&self, instead: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Scripted {
        let target = self.registry.host.clone();
        Scripted::start(move |request, count| {
            instead(request, count).unwrap_or_else(|| forward(&target, request))
        })
    }
}

/// Asks another server the same.
fn forward(target: &str, request: &Request) -> Reply {
    let mut stream = TcpStream::connect(target).expect("connects");
    let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if name != "connection" && name != "content-length" {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!("content-length: {}\r\n\r\n", request.body.len());
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(&request.body).expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("reads");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let mut reply = Reply::new(status.parse().expect("a number"), &answer[end + 4..]);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_lowercase().as_str() {
            "content-length" => reply.length = value.parse().ok(),
            "connection" | "date" => {}
            _ => reply = reply.with(name, value),
        }
    }
    if request.method != "HEAD" {
        reply.length = None;
    }
    reply
}

fn skopeo(args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("skopeo").arg("--insecure-policy").args(args).output() else {
        eprintln!("stepping aside: there is no skopeo");
        return None;
    };
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Counts requests that send parts of blobs.
fn uploads(server: &Scripted) -> usize {
    server
        .asked()
        .iter()
        .filter(|request| !request.body.is_empty() && request.path.contains("/blobs/"))
        .count()
}

fn digest_of(run: &Run) -> String {
    run.stdout.trim().rsplit('@').next().expect("a digest").to_owned()
}

#[test]
fn a_build_pushes_when_it_is_told_to_and_what_is_there_is_not_sent() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    let names = format!("--push {0}/team/app:1 {0}/team/app:2", server.host);
    place.saves(&names);
    let run = place.env.rb(["+image"]).expect(0);
    run.says(&format!("not pushed: {0}/team/app:1, {0}/team/app:2; give --push", server.host));
    assert_eq!(server.asked().len(), 0);
    assert!(place.env.rb(["image", "ls"]).expect(0).stdout.contains("team/app:2"));

    let run = place.env.rb(["--push", "+image"]).expect(0);
    let run = run.says(&format!("pushed {}/team/app:1", server.host)).says("2 blobs sent");
    assert!(!run.stderr.contains("not pushed"), "{}", run.stderr);
    assert_eq!(uploads(&server), 2);
    // Tags come last.
    let lines = server.lines();
    let put = |line: &&String| line.starts_with("PUT ");
    let last: Vec<&String> = lines.iter().filter(put).rev().take(2).collect();
    assert!(last.iter().all(|line| line.contains("/manifests/")), "{lines:?}");

    let before = server.asked().len();
    place.env.rb(["--push", "+image"]).expect(0).says("2 blobs were there");
    assert_eq!(uploads(&server), 2, "{:?}", &server.lines()[before..]);

    let name = place.name("team/app:2");
    let Some(text) = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]) else { return };
    let seen: Value = serde_json::from_str(&text).expect("JSON");
    let listed = place.env.rb(["image", "ls", "--json", "--filter", "reference=*/team/app:2"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(seen["Digest"], listed[0]["digest"]);
    let copy = place.env.project().join("copied");
    let to = format!("dir:{}", copy.display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{name}"), &to]);
    assert!(copy.join("manifest.json").exists());
}

#[test]
fn nothing_is_pushed_unless_all_went_well() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    let text = format!(
        "VERSION 1\nall:\n    BUILD +image\n    BUILD +bad\nimage:\n    FROM scratch\n    COPY data /data\n    \
         SAVE IMAGE --push {}/app:1\nbad:\n    FROM @host\n    RUN false\n",
        server.host
    );
    place.env.write("Buildfile", text);
    place.env.rb(["--push", "+all"]).expect(1);
    assert_eq!(server.asked().len(), 0);
    // Without an output of its own, a push counts all the same; nothing gets a name here.
    place.env.rb(["--push", "--no-output", "+image"]).expect(0).says("pushed");
    assert!(!place.env.rb(["image", "ls"]).expect(0).stdout.contains("/app:1"));
    place.env.rb(["image", "inspect", &format!("docker://{}/app:1", server.host)]).expect(0);
    // What a WAIT waits for is pushed at its end.
    let text = format!(
        "VERSION 0.8\nall:\n    FROM @host\n    WAIT\n        BUILD +image\n    END\n    RUN false\nimage:\n    \
         FROM scratch\n    COPY data /data\n    SAVE IMAGE --push {}/waited:1\n",
        server.host
    );
    place
        .env
        .write("Earthfile", text.replace("@host", "scratch").replace("    RUN false\n", "    COPY none /\n"));
    std::fs::remove_file(place.env.project().join("Buildfile")).expect("removes");
    assert_ne!(place.env.rb(["--push", "+all"]).code, 0);
    place.env.rb(["image", "inspect", &format!("docker://{}/waited:1", server.host)]).expect(0);
    // As docker's builder has it.
    place.saves("app");
    std::fs::remove_file(place.env.project().join("Earthfile")).expect("removes");
    let output = format!("type=registry,name={}/output:1", server.host);
    place.env.rb(["-o", &output, "+image"]).expect(0).says("pushed");
    place.env.rb(["image", "inspect", &format!("docker://{}/output:1", server.host)]).expect(0);
    place.env.rb(["--push", "+image"]).expect(0);
    place.saves("--push localhost:1/Bad");
    place.env.rb(["--push", "+image"]).expect(2);
}

#[test]
fn the_registry_takes_over_what_another_of_its_repositories_has() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let (one, two) = (format!("{}/one/app:1", server.host), format!("{}/two/app:1", server.host));
    let pushed = place.env.rb(["image", "push", "app", &one]).expect(0).says("2 blobs sent");
    let sent = uploads(&server);
    let mounted = place.env.rb(["image", "push", "app", &two]).expect(0).says("2 blobs taken over");
    assert_eq!(uploads(&server), sent);
    assert_eq!(digest_of(&pushed), digest_of(&mounted));
    let mounts = server.lines().iter().filter(|line| line.contains("mount=sha256")).count();
    assert_eq!(mounts, 2);
}

#[test]
fn who_is_not_known_is_told_what_to_do() {
    let wants = Wants { password: true, ..Wants::default() };
    let Some(place) = Place::new(&wants) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let name = place.name("app:1");
    let host = &place.registry.host;
    let run = place.env.rb(["image", "push", "app", &name]).expect(2).says(host);
    run.says(&format!("rb login {host}")).says(&format!("cannot push {name}"));
    let config = |password: &str| {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("rb:{password}"));
        let file = place.env.project().join("docker/config.json");
        place.env.write("docker/config.json", json!({"auths": {host: {"auth": auth}}}).to_string());
        file.parent().expect("has one").display().to_string()
    };
    let folder = config("wrong");
    let variables = [("DOCKER_CONFIG", folder.as_str())];
    let run = place.env.rb_with(&variables, ["image", "push", "app", &name]).expect(2);
    run.says(&format!("rb login {host}")).hides("wrong").hides("cmI6");
    config("secret");
    place.env.rb_with(&variables, ["image", "push", "app", &name]).expect(0);
    place.env.rb_with(&variables, ["image", "inspect", "--remote", "--raw", &name]).expect(0);
}

#[test]
fn a_bad_line_and_a_busy_registry_do_not_stop_a_push() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let proxy = FaultProxy::start(&place.registry.host);
    proxy.script([
        Fault { cut_up: Some(1_000_000), ..Fault::default() },
        Fault { cut_up: Some(500_000), ..Fault::default() },
    ]);
    place.env.rb(["image", "push", "app", &format!("{}/cut/app:1", proxy.host)]).expect(0);
    assert_eq!(proxy.left(), 0);

    let busy = Mutex::new(vec![
        ("HEAD", Reply::new(429, "").with("Retry-After", 1)),
        ("HEAD", Reply::new(500, "oops")),
        ("POST", Reply::new(502, "")),
        ("PUT", Reply::new(503, "")),
    ]);
    let server = place.behind(move |request, _| {
        let mut busy = busy.lock().expect("no holder panics");
        let at = busy.iter().position(|(method, _)| *method == request.method)?;
        Some(busy.remove(at).1)
    });
    place.env.rb(["image", "push", "app", &format!("{}/busy/app:1", server.host)]).expect(0);

    // One that never answers well is an error that names it.
    let broken = place.behind(|request, _| (request.method == "PUT").then(|| Reply::new(400, "no")));
    let run = place.env.rb(["image", "push", "app", &format!("{}/broken/app:1", broken.host)]).expect(2);
    run.says("cannot push").says(&broken.host);
}

#[test]
fn ctrl_c_ends_a_push_within_a_second() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let asked = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&asked);
    let server = place.behind(move |request, _| {
        if request.method == "PUT" || request.method == "PATCH" {
            *seen.lock().expect("no holder panics") = true;
            std::thread::sleep(Duration::from_secs(20));
        }
        None
    });
    let child = place.env.spawn(["image", "push", "app", &format!("{}/slow/app:1", server.host)]);
    let began = Instant::now();
    while !*asked.lock().expect("no holder panics") {
        assert!(began.elapsed() < Duration::from_secs(60), "the push did not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let signalled = Instant::now();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    let output = child.wait_with_output().expect("ends");
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    assert_eq!(output.status.code(), Some(130));
}

#[test]
fn images_are_copied_between_registries_layouts_and_archives() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let other = folder();
    let other = DockerRegistry::start(&other.path().join("registry"), &Wants::default()).expect("starts");
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let first = format!("docker://{}", place.name("app:1"));
    let second = format!("docker://{}/mirror/app:1", other.host);
    let copy = |from: &str, to: &str| place.env.rb(["image", "copy", from, to]).expect(0);
    let pushed = digest_of(&copy("app", &first));
    copy(&first, &second).says("2 blobs sent");
    copy(&first, &second).says("2 blobs were there");
    assert_eq!(digest_of(&copy(&second, "oci:layout:v1")), pushed);
    copy("oci:layout:v1", "oci:layout:v2");
    let index: Value = serde_json::from_str(&place.env.read("layout/index.json")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    copy("oci:layout:v2", "oci-archive:app.tar:again:2");
    assert_eq!(digest_of(&copy("oci-archive:app.tar", "back:1")), pushed);
    let raw = place.env.rb(["image", "inspect", "--raw", &second]).expect(0).stdout;
    assert_eq!(rb_oci::Digest::of(&raw).to_string(), pushed);
    let inspected = place.env.rb(["image", "inspect", "back:1"]).expect(0).stdout;
    assert!(inspected.contains(&pushed), "{inspected}");
    // What is not there, and words that others have.
    let missing = format!("docker://{}", place.name("none:1"));
    place.env.rb(["image", "copy", &missing, "x"]).expect(2).says("not found");
    place.env.rb(["image", "copy", "docker-daemon:x", "y"]).expect(2).says("oci-archive:");
    place.env.rb(["image", "copy", "ap", "y"]).expect(2).says("did you mean `app`");
    let path = place.env.project();
    skopeo(&["inspect", &format!("oci:{}:v2", path.join("layout").display())]);
}

#[test]
fn what_skopeo_saved_is_loaded_and_what_is_saved_comes_back_the_same() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app:1");
    place.env.rb(["+image"]).expect(0);
    let project = place.env.project();
    place.env.rb(["image", "save", "app:1", "-o", "app.tar"]).expect(0);
    let digest = |env: &TestEnv, name: &str| {
        let text = env.rb(["image", "inspect", name]).expect(0).stdout;
        let value: Value = serde_json::from_str(&text).expect("JSON");
        value[0]["manifest"]["digest"].as_str().expect("text").to_owned()
    };
    let saved = digest(&place.env, "app:1");
    let other = TestEnv::new();
    let archive = project.join("app.tar").display().to_string();
    assert_eq!(other.rb(["image", "load", "-i", &archive]).expect(0).stdout, "app:1\n");
    assert_eq!(digest(&other, "app:1"), saved);
    // From a stream, and packed.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&std::fs::read(&archive).expect("reads")).expect("in memory");
    other.write("app.tar.gz", packed.finish().expect("in memory"));
    let third = TestEnv::new();
    let packed = other.project().join("app.tar.gz").display().to_string();
    let loaded = third.rb(["image", "load", "--json", "-i", &packed, "--name", "mine"]).expect(0).stdout;
    assert!(loaded.contains(&saved) && loaded.contains("mine:latest"), "{loaded}");
    place.env.rb(["image", "tag", "app:1", "app:2"]).expect(0);
    let child = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(["image", "save", "app:1", "app:2", "-o", "-"])
        .env_clear()
        .env("HOME", place.env.state())
        .env("RB_ROOT", place.env.state())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("rb starts");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    third.write("stdout.tar", child.stdout);
    assert_eq!(third.rb(["image", "load", "-i", "stdout.tar"]).expect(0).stdout, "app:1\napp:2\n");

    let source = format!("oci-archive:{archive}");
    for kind in ["docker-archive", "oci-archive"] {
        let file = third.project().join(format!("{kind}.tar"));
        let to = format!("{kind}:{}:skopeo/app:{kind}", file.display());
        if skopeo(&["copy", &source, &to]).is_none() {
            return;
        }
        let name = format!("skopeo/app:{kind}");
        let file = file.display().to_string();
        assert_eq!(third.rb(["image", "load", "-i", &file]).expect(0).stdout, format!("{name}\n"));
        let unpacked = format!("unpacked-{kind}");
        third.rb(["image", "unpack", &name, &unpacked]).expect(0);
        let data = std::fs::read(third.project().join(&unpacked).join("data")).expect("is there");
        assert_eq!(data, std::fs::read(project.join("data")).expect("is there"));
        third.rb(["image", "unpack", &name, &unpacked]).expect(2).says("not an empty folder");
    }
}

#[test]
fn names_are_given_and_taken() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    let env = &place.env;
    env.rb(["+image"]).expect(0);
    env.rb(["image", "tag", "app", "docker.io/library/other:2"]).expect(0);
    env.rb(["image", "tag", "ap", "x"]).expect(2).says("did you mean `app`");
    env.rb(["image", "tag", "app", "No Name"]).expect(2).says("cannot be given");
    let names = |args: &[&str]| {
        let text = env.rb([&["image", "ls"], args].concat()).expect(0).stdout;
        text.lines().skip(1).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["app:latest", "other:2"]);
    assert_eq!(names(&["oth*"]), ["other:2"]);
    assert_eq!(names(&["-f", "reference=app"]), ["app:latest"]);
    env.rb(["image", "ls", "-f", "dangling=true"]).expect(2).says("reference=PATTERN");
    let digest = env.rb(["image", "ls", "-q", "app"]).expect(0).stdout.trim().to_owned();
    assert!(env.rb(["image", "ls", "--digests"]).expect(0).stdout.contains(&digest));
    env.rb(["image", "rm", &digest]).expect(2).says("app:latest, other:2");
    env.rb(["image", "rm", "-f", &digest, "none"]).expect(0);
    assert_eq!(names(&[]), [""; 0]);
    env.rb(["image", "push", "app"]).expect(2);
}

/// An archive of these entries; a path as it is.
fn archive(entries: &[(&str, Entry<'_>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, entry) in entries {
        let mut header = tar::Header::new_ustar();
        // As it is, whatever the library thinks of it.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        let (kind, bytes): (_, &[u8]) = match entry {
            Entry::File(bytes) => (tar::EntryType::Regular, bytes),
            Entry::Link(target) => {
                header.set_link_name_literal(target).expect("short");
                (tar::EntryType::Symlink, b"")
            }
            Entry::Pipe => (tar::EntryType::Fifo, b""),
        };
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

enum Entry<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Pipe,
}

#[test]
fn hostile_archives_are_refused() {
    let env = TestEnv::new();
    let layer = archive(&[("file", Entry::File(b"text"))]);
    let diff_id = rb_oci::Digest::of(&layer);
    let config = |diff_id: rb_oci::Digest| {
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
            .to_string()
    };
    let manifest =
        |layer: &str| json!([{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": [layer]}]).to_string();
    let (good, wrong) = (config(diff_id), config(rb_oci::Digest::of("other")));
    let load = |name: &str, bytes: &[u8]| {
        env.write(name, bytes);
        env.rb(["image", "load", "-i", name])
    };
    let docker = |config: &str, named: &str, rest: &[(&str, Entry<'_>)]| {
        let (config, manifest) = (config.to_owned(), manifest(named));
        let mut entries = vec![
            ("c.json", Entry::File(config.as_bytes())),
            ("manifest.json", Entry::File(manifest.as_bytes())),
        ];
        entries.extend(rest.iter().map(|(name, entry)| {
            let entry = match entry {
                Entry::File(bytes) => Entry::File(bytes),
                Entry::Link(target) => Entry::Link(target),
                Entry::Pipe => Entry::Pipe,
            };
            (*name, entry)
        }));
        archive(&entries)
    };
    let file = || Entry::File(&layer);
    // One that is as it should be, also through a link.
    load("good.tar", &docker(&good, "l.tar", &[("l.tar", file())])).expect(0);
    env.rb(["image", "rm", "bad:1"]).expect(0);
    load(
        "linked.tar",
        &docker(&good, "a/l.tar", &[("b/x.tar", file()), ("a/l.tar", Entry::Link("../b/x.tar"))]),
    )
    .expect(0);
    env.rb(["image", "rm", "bad:1"]).expect(0);
    for (name, bytes, says) in [
        ("up.tar", docker(&good, "../l.tar", &[("../l.tar", file())]), "leads out of it"),
        ("root.tar", docker(&good, "/l.tar", &[("/l.tar", file())]), "leads out of it"),
        (
            "out.tar",
            docker(&good, "l.tar", &[("l.tar", Entry::Link("../../../etc/passwd"))]),
            "leads out of it",
        ),
        ("loop.tar", docker(&good, "l.tar", &[("l.tar", Entry::Link("l.tar"))]), "too many others"),
        ("pipe.tar", docker(&good, "l.tar", &[("l.tar", Entry::Pipe)]), "neither file, folder nor link"),
        ("twice.tar", docker(&good, "l.tar", &[("l.tar", file()), ("./l.tar", file())]), "there twice"),
        ("wrong.tar", docker(&wrong, "l.tar", &[("l.tar", file())]), "diff id"),
        ("none.tar", docker(&good, "none.tar", &[("l.tar", file())]), "no file `none.tar`"),
        (
            "digest.tar",
            docker(&good, "l.tar", &[(&format!("blobs/sha256/{}", "0".repeat(64)), file())]),
            "digest",
        ),
        ("empty.tar", archive(&[]), "neither `index.json` nor `manifest.json`"),
        ("text.tar", b"this is no archive".repeat(100), "archive"),
        ("cut.tar", docker(&good, "l.tar", &[("l.tar", file())])[..1700].to_vec(), "archive"),
        (
            "deep.tar",
            archive(&[("manifest.json", Entry::File("[".repeat(1 << 20).as_bytes()))]),
            "manifest.json",
        ),
        ("large.tar", archive(&[("manifest.json", Entry::File(&vec![b' '; 5 << 20]))]), "larger than 4 MiB"),
        (
            "size.tar",
            archive(&[(
                "index.json",
                Entry::File(
                    json!({"schemaVersion": 2, "manifests": [{
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "digest": diff_id, "size": 1_u64 << 40,
                    }]})
                    .to_string()
                    .as_bytes(),
                ),
            )]),
            "descriptor says",
        ),
    ] {
        let run = load(name, &bytes).expect(2);
        assert!(run.stderr.contains(says), "{name}: {}", run.stderr);
    }
    assert_eq!(env.rb(["image", "ls", "-q"]).expect(0).stdout, "");
    env.rb(["image", "load", "-i", "nothing.tar"]).expect(2).says("does not exist");
}
