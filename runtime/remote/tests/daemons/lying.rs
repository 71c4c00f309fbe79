//! Daemons that lie: each answer that makes no sense is a typed error, and nothing waits for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rb_api::{Engine as _, Export, LayoutPlace, PlatformImage, Root, SolveError, SolveRequest};
use rb_diag::ErrorKind;
use rb_frontend::{Answer, Query};
use rb_oci::{ImageConfig, Platform};
use rb_session::LocalSession;
use tokio::net::{UnixListener, UnixStream};

use crate::liar::{Lie, definition, serve};
use crate::support::{Told, engine, options};

/// Has a daemon answer a question and export a tree.
async fn tried(
    lie: Lie,
) -> (Result<Answer, SolveError>, Result<Answer, SolveError>, Result<String, SolveError>) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    serve(lie, &socket);
    let told = Told::default();
    let job = engine(&socket, &folder.path().join("scratch"))
        .job(options(Arc::new(LocalSession::default())), told.sink());
    let read = Query::ReadFile { path: "/f".into(), limit_bytes: 10 };
    let whole = async {
        let file = job.query(definition(), read).await;
        let list = job.query(definition(), Query::List { path: "/".into() }).await;
        let destination = folder.path().join("out");
        let export = Export::Local {
            root: 0,
            path: "/".into(),
            destination: destination.clone(),
            into: false,
            entries: true,
            merge: true,
            optional: false,
            confine: None,
            follow: false,
        };
        let layout = Export::OciLayout {
            images: vec![PlatformImage { root: 0, config: ImageConfig::scratch(&Platform::host()) }],
            names: Vec::new(),
            format: Default::default(),
            destination: LayoutPlace::Folder(folder.path().join("layout")),
        };
        let export = if matches!(lie, Lie::WrongBlob | Lie::StrangeFile) { layout } else { export };
        let root = Root { label: "+a".into(), definition: definition() };
        let exported = job
            .solve(SolveRequest { roots: vec![root], exports: vec![export], ..SolveRequest::default() })
            .await;
        let found = exported.map(|_| std::fs::read_to_string(destination.join("f")).unwrap_or_default());
        (file, list, found)
    };
    let done = tokio::time::timeout(Duration::from_secs(30), whole).await.expect("nothing waits for ever");
    assert!(!folder.path().join("evil").exists() && !Path::new("/etc/evil").exists());
    let kept = std::fs::read_dir(folder.path().join("layout/blobs/sha256")).map_or(0, Iterator::count);
    assert_eq!(kept, 0, "no blob stays that is not what it is called");
    done
}

fn reason<T: std::fmt::Debug>(result: Result<T, SolveError>) -> String {
    let error = result.expect_err("a lie is an error");
    assert_eq!(error.kind(), Some(ErrorKind::Environment), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_lie_is_believed() {
    let (file, list, found) = tried(Lie::None).await;
    assert_eq!(file.expect("answers"), Answer::File(b"xxx".to_vec()));
    let Answer::List(entries) = list.expect("answers") else { panic!("a list") };
    assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(found.expect("is exported"), "abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_make_no_sense_are_errors() {
    assert!(reason(tried(Lie::Refuses).await.0).contains("no builds today"));
    assert!(reason(tried(Lie::NoTree).await.0).contains("no single tree"));
    assert!(reason(tried(Lie::LongFile).await.0).contains("more of `/f` than was asked for"));
    assert!(reason(tried(Lie::BadName).await.1).contains("no name"));
    assert!(reason(tried(Lie::GiantAnswer).await.0).contains("too large"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_that_lie_are_not_written() {
    for (lie, words) in [
        (Lie::SendsNothing, "nothing was sent"),
        (Lie::SendsOut, "leads elsewhere"),
        (Lie::SendsThroughLink, "its folder was not told, or is none"),
        (Lie::SendsMore, "longer than was told"),
        (Lie::HangsUp, "ended before all was sent"),
        (Lie::SendsNonsense, "no packet"),
        (Lie::GiantPacket, ""),
        (Lie::OutOfOrder, "out of order"),
        (Lie::Absolute, "a part without a name"),
        (Lie::SharesOutside, "was not told"),
        (Lie::Unasked, "not asked for"),
        (Lie::WrongBlob, "has the digest"),
        (Lie::StrangeFile, "no place in an OCI layout"),
        (Lie::HalfOpen, "stopped in the middle"),
    ] {
        let told = reason(tried(lie).await.2);
        assert!(told.contains(words), "{lie:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_of_a_status_hinders_nothing() {
    let (file, _, found) = tried(Lie::TellsNonsense).await;
    assert_eq!(file.expect("answers"), Answer::File(b"xxx".to_vec()));
    assert_eq!(found.expect("is exported"), "abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_daemon_calls_itself_moves_no_cursor() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    serve(Lie::TellsNonsense, &socket);
    let about = engine(&socket, &folder.path().join("scratch")).about().await.expect("answers");
    assert_eq!(about.version.as_deref(), Some("1]0;x"));
    let [worker] = about.workers.as_slice() else { panic!("one worker: {about:?}") };
    assert!(worker.labels[0].1.starts_with("[2J[2J") && worker.labels[0].1.len() == 200, "{worker:?}");
    assert!(!worker.platforms[0].contains('\r'), "{worker:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_and_answers_nothing_is_waited_for_a_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = async |lie: Lie, name: &str| {
        let socket = folder.path().join(name);
        serve(lie, &socket);
        let engine = engine(&socket, &folder.path().join("scratch"));
        let job = engine.job(options(Arc::new(LocalSession::default())), Told::default().sink());
        let asked = async {
            let about = engine.about().await.err().map(|error| error.to_string());
            (about, reason(job.query(definition(), Query::List { path: "/".into() }).await))
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.expect("nothing waits for ever")
    };
    let (mute, idle) = tokio::join!(told(Lie::Mute, "mute"), told(Lie::Idle, "idle"));
    let about = mute.0.expect("it does not say what it is");
    assert!(about.contains("does not answer: it did not say what it is within"), "{about}");
    assert!(mute.1.contains("does not answer: it did not begin a build within"), "{}", mute.1);
    assert_eq!(idle.0, None);
    assert!(idle.1.contains("nothing was told of a build within"), "{}", idle.1);
}

/// Passes on all that comes to a socket.
async fn passed_on(from: UnixListener, to: PathBuf) {
    let mut passing = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = from.accept().await {
        let to = to.clone();
        passing.spawn(async move {
            let mut daemon = UnixStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut client, &mut daemon).await
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_in_a_question_is_a_daemon_that_went_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (behind, socket) = (folder.path().join("behind"), folder.path().join("s"));
    let daemon = serve(Lie::NeverReads, &behind);
    let wire = tokio::spawn(passed_on(UnixListener::bind(&socket).expect("binds"), behind));
    let job = engine(&socket, &folder.path().join("scratch"))
        .job(options(Arc::new(LocalSession::default())), Told::default().sink());
    let read = Query::ReadFile { path: "/f".into(), limit_bytes: 10 };
    let asked = tokio::spawn(async move { job.query(definition(), read).await });
    let broken = async {
        while daemon.solves() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It is at the question that comes next.
        tokio::time::sleep(Duration::from_millis(200)).await;
        wire.abort();
        asked.await.expect("ends")
    };
    let told = tokio::time::timeout(Duration::from_secs(30), broken).await.expect("nothing waits for ever");
    assert!(reason(told).contains("went away"));
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = engine(&folder.path().join("none"), folder.path()).about().await.expect_err("nobody answers");
    assert!(error.to_string().contains("cannot be reached") && error.help().is_some(), "{error}");
    let job = engine(&folder.path().join("none"), folder.path())
        .job(options(Arc::new(LocalSession::default())), Told::default().sink());
    let failed = job.query(definition(), Query::List { path: "/".into() }).await.expect_err("nobody answers");
    assert_eq!(failed.kind(), Some(ErrorKind::Environment));
}
