//! Files of the web in a definition: asked for once, again only whether they changed, gone on with where they were cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rb_diag::SourceMap;
use rb_llb::{NodeMeta, State};
use rb_oci::Digest;

use crate::env::TestEnv;
use crate::registry::support::scripted::{Reply, Request, Scripted};

/// A server with one file, which a test may change.
fn server(file: &Arc<Mutex<(String, Vec<u8>)>>) -> Scripted {
    let file = Arc::clone(file);
    Scripted::start(move |request, _| {
        let (tag, bytes) = file.lock().expect("no panics").clone();
        if request.header("if-none-match") == Some(&tag) {
            Reply::new(304, "")
        } else {
            ranged(request, &bytes)
        }
        .with("ETag", tag)
        .with("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
    })
}

fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|start| start.parse::<usize>().ok()) {
        None => Reply::new(200, bytes),
        Some(start) => Reply::new(206, &bytes[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}

/// Writes a definition of one source.
fn define(env: &TestEnv, url: &str, attrs: &[(&str, &str)]) {
    let attrs: BTreeMap<String, String> =
        attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let state = State::source(url, attrs, None, NodeMeta::named("download"));
    let definition = state.marshal(&SourceMap::default()).expect("marshals");
    env.write("t.pb", definition.to_bytes());
}

const OUT: [&str; 4] = ["solve", "t.pb", "-o", "type=local,dest=out"];

#[test]
fn a_file_is_asked_for_again_only_whether_it_changed() {
    let file = Arc::new(Mutex::new(("\"one\"".to_owned(), b"hello".to_vec())));
    let server = server(&file);
    let env = TestEnv::new();
    define(&env, &format!("http://{}/dir/a.txt?x=1", server.host), &[("http.perm", "0640")]);
    env.rb(OUT).expect(0);
    assert_eq!(env.read("out/a.txt"), "hello");
    let metadata = std::fs::metadata(env.project().join("out/a.txt")).expect("is there");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o640);
    env.rb(OUT).expect(0);
    let asked: Vec<Option<String>> =
        server.asked().iter().map(|request| request.header("if-none-match").map(ToOwned::to_owned)).collect();
    assert_eq!(asked, [None, Some("\"one\"".to_owned())]);
    *file.lock().expect("no panics") = ("\"two\"".to_owned(), b"changed".to_vec());
    env.rb(OUT).expect(0);
    assert_eq!(env.read("out/a.txt"), "changed");
    let before = server.asked().len();
    env.rb(["--pull=never"].iter().chain(&OUT)).expect(0);
    assert_eq!(server.asked().len(), before, "nobody is asked");
}

#[test]
fn with_a_checksum_nobody_is_asked_for_what_is_here() {
    let file = Arc::new(Mutex::new(("\"one\"".to_owned(), b"hello".to_vec())));
    let server = server(&file);
    let env = TestEnv::new();
    let url = format!("http://{}/a.txt", server.host);
    let digest = Digest::of("hello").to_string();
    define(&env, &url, &[("http.checksum", &digest), ("http.filename", "b")]);
    env.rb(OUT).expect(0);
    assert_eq!((env.read("out/b").as_str(), server.asked().len()), ("hello", 1));
    env.rb(OUT).expect(0);
    // Under another name, from another place: it is the same file.
    define(&env, "http://127.0.0.1:1/elsewhere", &[("http.checksum", &digest)]);
    env.rb(OUT).expect(0);
    assert_eq!((env.read("out/elsewhere").as_str(), server.asked().len()), ("hello", 1));
    let other = Digest::of("other").to_string();
    define(&env, &url, &[("http.checksum", &other)]);
    env.rb(OUT).expect(2).says("its digest is").says(&other).says("write its new checksum");
}

#[test]
fn a_cut_is_gone_on_with() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let (served, cut) = (bytes.clone(), 200_000);
    let server = Scripted::start(move |request, number| {
        let reply = ranged(request, &served).with("ETag", "\"one\"");
        Reply { cut: (number == 0).then_some(cut), ..reply }
    });
    let env = TestEnv::new();
    define(&env, &format!("http://{}/a", server.host), &[]);
    env.rb(OUT).expect(0);
    assert!(std::fs::read(env.project().join("out/a")).expect("reads") == bytes);
    let ranges: Vec<Option<String>> =
        server.asked().iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={cut}-"))]);
}

#[test]
fn a_token_is_shown_to_its_host_and_told_nobody() {
    let elsewhere = Scripted::start(|_, _| Reply::new(200, "there"));
    let to = format!("http://{}/there", elsewhere.host);
    let server = Scripted::start(move |request, _| match request.header("authorization") {
        Some("Bearer hunter2") => Reply::new(302, "").with("Location", &to),
        _ => Reply::new(401, ""),
    });
    let env = TestEnv::new();
    define(&env, &format!("http://{}/a", server.host), &[]);
    env.rb(OUT).expect(2).says("--secret HTTP_AUTH_TOKEN_127.0.0.1=TOKEN");
    let words = ["--secret", "HTTP_AUTH_TOKEN_127.0.0.1=hunter2", "-V"];
    let secret = OUT.iter().chain(&words);
    env.rb(secret).expect(0).hides("hunter2");
    assert_eq!(env.read("out/a"), "there");
    assert!(elsewhere.asked().iter().all(|request| request.header("authorization").is_none()));
    define(&env, &format!("http://{}/a", server.host), &[("http.authheadersecret", "mine")]);
    env.rb(OUT).expect(2).says("mine");
}

#[test]
fn what_a_server_says_of_a_name_leads_nowhere() {
    let server = Scripted::start(|_, _| {
        Reply::new(200, "x").with("Content-Disposition", "attachment; filename=\"../../../etc/passwd\"")
    });
    let env = TestEnv::new();
    define(&env, &format!("http://{}/a", server.host), &[]);
    env.rb(OUT).expect(0);
    assert_eq!(env.read("out/passwd"), "x");
    for (name, value) in [("http.filename", "../x"), ("http.perm", "rwx"), ("http.header.cookie", "x")] {
        define(&env, &format!("http://{}/a", server.host), &[(name, value)]);
        let run = env.rb(OUT);
        if name == "http.filename" {
            run.expect(0);
            assert_eq!(env.read("out/x"), "x", "only the last part of a name counts");
        } else {
            run.expect(2).says(name);
        }
    }
}

#[test]
fn one_blob_of_a_layout_is_a_file() {
    let env = TestEnv::new();
    if !env.busybox_layout("layout") {
        return;
    }
    let index = env.read("layout/index.json");
    let index: serde_json::Value = serde_json::from_str(&index).expect("is JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    define(
        &env,
        &format!("oci-layout+blob://example.com/any@{digest}"),
        &[("oci.store", "mine"), ("http.filename", "m.json")],
    );
    env.rb(OUT.iter().chain(&["--oci-layout", "mine=layout"])).expect(0);
    assert!(env.read("out/m.json").contains("\"layers\""));
    env.rb(OUT).expect(2).says("mine");
}

#[test]
fn one_blob_of_a_registry_is_a_file() {
    let server = Scripted::start(|request, _| match request.path.as_str() {
        path if path.contains("/team/app/blobs/sha256:") => Reply::new(200, "a blob"),
        _ => Reply::new(404, ""),
    });
    let env = TestEnv::new();
    let digest = Digest::of("a blob");
    define(&env, &format!("docker-image+blob://{}/team/app@{digest}", server.host), &[]);
    env.rb(OUT).expect(0);
    assert_eq!(env.read(&format!("out/{}", digest.hex())), "a blob");
    let before = server.asked().len();
    env.rb(OUT).expect(0);
    assert_eq!(server.asked().len(), before, "its name is its digest");
    let other = Digest::of("another");
    define(&env, &format!("docker-image+blob://{}/team/app@{other}", server.host), &[]);
    env.rb(OUT).expect(3).says("digest");
    define(&env, &format!("docker-image+blob://{}/team/app:v1", server.host), &[]);
    env.rb(OUT).expect(2).says("names no digest");
}

/// A text, the key that signed it, and its signature; the same for all tests of signatures.
fn signed(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sources/tests/signatures/");
    std::fs::read_to_string(format!("{folder}{name}")).expect("is there")
}

#[test]
fn a_file_that_must_be_signed_is_looked_at_before_anything_stands_for_it() {
    let file = Arc::new(Mutex::new(("\"one\"".to_owned(), b"what is signed\n".to_vec())));
    let server = server(&file);
    let env = TestEnv::new();
    let url = format!("http://{}/a.txt", server.host);
    let by = |key: &str| {
        let (key, signature) = (signed(key), signed("good.sig"));
        define(&env, &url, &[("http.sig.pubkey", key.as_str()), ("http.sig.signature", signature.as_str())]);
    };
    by("good.key");
    env.rb(OUT).expect(0);
    assert_eq!(env.read("out/a.txt"), "what is signed\n");
    // The file is here, and so is its tree.
    by("other.key");
    env.rb(OUT).expect(2).says("the signature of `a.txt` does not hold").says("by none of the keys");
    by("good.key");
    *file.lock().expect("no panics") = ("\"two\"".to_owned(), b"what is not\n".to_vec());
    env.rb(OUT).expect(2).says("does not hold");
    define(&env, &url, &[("http.sig.pubkey", signed("good.key").as_str())]);
    env.rb(OUT).expect(2).says("`http.sig.signature` is malformed");
    // Where the digest is known, it is fetched for that.
    let (key, signature) = (signed("good.key"), signed("good.sig"));
    let digest = Digest::of("what is not\n").to_string();
    let attrs =
        [("http.sig.pubkey", key.as_str()), ("http.sig.signature", &signature), ("http.checksum", &digest)];
    define(&env, &url, &attrs);
    env.rb(OUT).expect(2).says("does not hold");
}

#[test]
fn a_context_of_the_web_has_the_time_that_its_server_says() {
    let text = b"FROM scratch\nLABEL a=b\n".to_vec();
    let file = Arc::new(Mutex::new(("\"one\"".to_owned(), text)));
    let server = server(&file);
    let env = TestEnv::new();
    let address = format!("http://{}/Dockerfile", server.host);
    env.rb(["build", "-t", "dated:1", "--build-arg", "SOURCE_DATE_EPOCH=context", &address]).expect(0);
    let told = env.rb(["image", "inspect", "dated:1"]).expect(0).stdout;
    assert!(told.contains("2015-10-21T07:28:00Z"), "{told}");
}

#[test]
fn who_is_silent_is_not_waited_for_where_something_is_wrong_and_is_named_where_not() {
    // It takes what is sent, and answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let host = silent.local_addr().expect("has one").to_string();
    let env = TestEnv::new();
    env.write("Dockerfile", format!("FROM {host}/base\nSTOPSIGNAL nobody\n"));
    let began = std::time::Instant::now();
    env.rb(["build", "."]).expect(2).says("invalid signal: nobody").hides("no answer");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    let late = Scripted::start(|_, _| {
        std::thread::sleep(std::time::Duration::from_secs(7));
        Reply::new(200, "late\n")
    });
    env.write("Dockerfile", format!("FROM scratch\nADD http://{}/file /\n", late.host));
    let run = env.rb(["build", "-o", "out", "."]).expect(0);
    run.says(&format!("{}: nothing came for 5 s; it is waited for", late.host));
    assert_eq!(env.read("out/file"), "late\n");
}
