//! What the client sends: a tar on its standard input as a context, as BuildKit's clients give it.

use std::io;
use std::process::Command;

use rb_frontend::{Answer, Query};
use rb_session::Upload;

use super::*;

const URL: &str = "http://buildkit-session/context";

fn sent(attrs: &[(&str, &str)]) -> State {
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    State::source(URL, attrs, None, NodeMeta::named("context"))
}

/// What a frontend makes of it: an archive is unpacked, and anything else is one file.
fn context() -> State {
    let action = CopyAction {
        src: "/context".to_owned(),
        dest: "/".to_owned(),
        attempt_unpack: true,
        ..CopyAction::default()
    };
    State::scratch().copy(&sent(&[("http.filename", "context")]), action, NodeMeta::named("unpack"))
}

fn sending(bench: &Bench, upload: Upload) -> JobOptions {
    let session = LocalSession::default().with_upload("context", upload);
    JobOptions { session: Arc::new(session), ..bench.options() }
}

/// An archive of the files that `Bench::write` wrote.
fn tar(bench: &Bench) -> Vec<u8> {
    let folder = bench.dir.path().join("src");
    let options = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-cz", "."];
    let made = Command::new("tar").current_dir(folder).args(options).output().expect("starts");
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

#[test]
fn a_tar_on_standard_input_is_a_context() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM scratch\n");
    bench.write("a/b.txt", "one\n");
    let bytes = tar(&bench);
    let send = || sending(&bench, Upload::new(io::Cursor::new(bytes.clone())));
    let state = copy(&context(), "/a", &State::scratch(), "/dest");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = open(bench.dir.path());
    // A frontend reads of it and builds with it, in one job; what is sent once is enough for both.
    runtime.block_on(async {
        let job = engine.job(send(), bench.events());
        let definition = context().marshal(&SourceMap::default()).expect("marshals");
        let query = Query::ReadFile { path: "/Dockerfile".to_owned(), limit_bytes: 100 };
        let (answer, solved) = tokio::join!(job.query(definition, query), job.solve(bench.request(&state)));
        let Answer::File(text) = answer.expect("answers") else { panic!("no file") };
        assert_eq!(text, b"FROM scratch\n");
        assert_eq!(solved.expect("solves").summary.executed, 2);
    });
    assert_eq!(bench.out("dest/b.txt"), "one\n");
    // The same bytes are the same build.
    let again = bench.solve_with(send(), bench.request(&state)).expect("solves");
    assert_eq!(again.summary.executed, 0);
    bench.write("a/b.txt", "two\n");
    let other = sending(&bench, Upload::new(io::Cursor::new(tar(&bench))));
    assert_eq!(bench.solve_with(other, bench.request(&state)).expect("solves").summary.executed, 2);
    assert_eq!(bench.out("dest/b.txt"), "two\n");
}

#[test]
fn what_is_no_archive_is_a_file() {
    let bench = Bench::new();
    let upload = Upload::new(b"FROM scratch\n".as_slice());
    bench.solve_with(sending(&bench, upload), bench.request(&context())).expect("solves");
    assert_eq!(bench.out("context"), "FROM scratch\n");
}

#[test]
fn what_is_not_sent_breaks_off_or_is_another_is_told() {
    /// Ends in an error.
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let bench = Bench::new();
    let failed = |options: JobOptions, state: &State| {
        bench.solve_with(options, bench.request(state)).expect_err("does not solve")
    };
    let told = failed(bench.options(), &context());
    assert!(told.to_string().contains("sends nothing called `context`"), "{told}");
    let told = failed(sending(&bench, Upload::new(Broken)), &context());
    assert_eq!(told.kind(), Some(ErrorKind::Environment));
    assert!(told.to_string().contains("what the client sends as `context`"), "{told}");
    let wanted = rb_oci::Digest::of("another").to_string();
    let upload = Upload::new(b"this".as_slice());
    let told = failed(sending(&bench, upload), &sent(&[("http.checksum", &wanted)]));
    assert!(told.to_string().contains(&wanted), "{told}");
    // Once it was read, it is gone.
    let upload = Upload::new(b"x".as_slice());
    bench.solve_with(sending(&bench, upload.clone()), bench.request(&context())).expect("solves");
    let told = failed(sending(&bench, upload), &context());
    assert!(told.to_string().contains("sends nothing"), "{told}");
}
