//! Engines of several nodes, some of which fail: what is tried elsewhere, and what never is.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_api::{
    Engine as _, Export, ImageFormat, ImageName, Job, PlatformImage, Push, Root, SolveError, SolveRequest,
};
use rb_diag::SourceMap;
use rb_frontend::Query;
use rb_llb::extension::EXEC_PUSH;
use rb_llb::{Definition, ExecBuilder, ExecMeta, NodeMeta, State};
use rb_oci::{ImageConfig, Platform};
use rb_remote::{Heard, NodeOptions, NodesEngine};
use rb_session::LocalSession;

use crate::liar::{Daemon, Lie, definition, serve};
use crate::support::{Told, options, remote};

/// Two nodes: one that fails in some way and is chosen first, and a good one.
struct Farm {
    folder: tempfile::TempDir,
    bad: Option<Daemon>,
    good: Daemon,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Farm {
    /// The bad one does not listen where there is no lie.
    fn start(lie: Option<Lie>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bad = lie.map(|lie| serve(lie, &folder.path().join("bad")));
        let good = serve(Lie::None, &folder.path().join("good"));
        Self { folder, bad, good, heard: Arc::default() }
    }

    fn job(&self, platform: &str) -> Arc<dyn Job> {
        let node = |name: &str, weight: u32| NodeOptions {
            name: name.to_owned(),
            platforms: [platform.parse().expect("a platform")].into(),
            weight: NonZeroU32::new(weight).expect("is not 0"),
            is_drained: false,
            remote: remote(&self.folder.path().join(name), self.folder.path()),
        };
        let heard = Arc::clone(&self.heard);
        let hears = Arc::new(move |told: Heard| {
            let text = match told {
                Heard::Placed(placed) => format!("{}/{}: {}", placed.engine, placed.node, placed.why),
                Heard::Failed(failed) if failed.is_last => format!("{} failed at last", failed.node),
                Heard::Failed(failed) => format!("{} failed", failed.node),
            };
            heard.lock().expect("nobody panics").push(text);
        });
        let clock = Arc::new(|| Duration::from_secs(1_000));
        // With such a weight it comes first, whatever the keys.
        let nodes = vec![node("bad", u32::MAX), node("good", 1)];
        let engine = NodesEngine::new("farm", nodes, (self.folder.path().join("nodes"), clock), hears);
        engine.job(options(Arc::new(LocalSession::default())), Told::default().sink())
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().expect("nobody panics"))
    }

    fn builds_known(&self) -> usize {
        let files =
            |folder: &Path| std::fs::read_dir(folder).expect("lists").flatten().map(|entry| entry.path());
        files(&self.folder.path().join("nodes"))
            .filter(|path| path.extension().is_some_and(|is| is == "build"))
            .count()
    }
}

fn look() -> Query {
    Query::ReadStart { path: "/f".into(), length_bytes: 3 }
}

fn pushing() -> Definition {
    let meta = ExecMeta { args: vec!["push".into()], cwd: "/".into(), ..ExecMeta::default() };
    let description = [(EXEC_PUSH.to_owned(), "true".to_owned())].into();
    let step = ExecBuilder::new(&State::scratch(), meta)
        .finish(Some(&Platform::host()), NodeMeta { description, ..NodeMeta::named("RUN --push push") });
    step.root().marshal(&SourceMap::default()).expect("marshals")
}

fn message<T>(result: Result<T, SolveError>) -> String {
    result.err().expect("fails").to_string()
}

#[tokio::test]
async fn a_node_that_dies_or_is_not_there_is_left_for_the_next() {
    for lie in [Some(Lie::DiesSolving), None] {
        let farm = Farm::start(lie);
        let job = farm.job("linux/amd64");
        job.query(definition(), look()).await.expect("the other answers");
        let mut heard = farm.heard();
        // One that dies in the middle has had the job.
        assert_eq!(heard[0].starts_with("farm/bad: most likely has"), lie.is_some(), "{heard:?}");
        let end = heard.split_off(usize::from(lie.is_some()));
        assert_eq!(end, ["bad failed", "farm/good: the next behind those that failed"], "{lie:?}");
        assert_eq!(farm.bad.as_ref().map(Daemon::solves), lie.map(|_| 1));
        assert_eq!(farm.builds_known(), 1);
        // It stays there, and whoever comes next knows who was silent.
        job.query(definition(), look()).await.expect("answers");
        drop(job);
        assert_eq!(farm.builds_known(), 0);
        farm.job("linux/amd64").query(definition(), look()).await.expect("answers");
        let heard = farm.heard();
        assert!(heard.len() == 1 && heard[0].starts_with("farm/good"), "{heard:?}");
        assert_eq!(farm.good.solves(), 3);
    }
}

#[tokio::test]
async fn a_node_whose_disk_is_full_or_that_has_too_much_to_do_is_left() {
    for lie in [Lie::Full, Lie::Overrun] {
        let farm = Farm::start(Some(lie));
        farm.job("linux/amd64").query(definition(), look()).await.expect("the other answers");
        let heard = farm.heard();
        assert_eq!(heard[1..], ["bad failed", "farm/good: the next behind those that failed"], "{lie:?}");
        assert_eq!((farm.bad.as_ref().map(Daemon::solves), farm.good.solves()), (Some(1), 1));
    }
}

#[tokio::test]
async fn a_node_that_answers_nothing_is_left() {
    let farm = Farm::start(Some(Lie::Mute));
    let job = farm.job("linux/amd64");
    let asked = tokio::time::timeout(Duration::from_secs(50), job.query(definition(), look()));
    asked.await.expect("is not waited for").expect("the other answers");
    assert_eq!(farm.heard(), ["bad failed", "farm/good: the next behind those that failed"]);
}

#[tokio::test]
async fn what_the_user_wrote_wrong_is_tried_once() {
    let farm = Farm::start(Some(Lie::Fails));
    let told = message(farm.job("linux/amd64").query(definition(), look()).await);
    assert!(told.contains("no such file"), "{told}");
    assert_eq!((farm.bad.as_ref().map(Daemon::solves), farm.good.solves()), (Some(1), 0));
    let heard = farm.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("farm/bad: most likely has"), "{heard:?}");
}

#[tokio::test]
async fn a_push_that_may_have_been_is_never_tried_again() {
    let farm = Farm::start(Some(Lie::DiesSolving));
    let host = Platform::host().to_string();
    let job = farm.job(&host);
    let told = message(job.query(pushing(), look()).await);
    assert!(told.contains("nothing is tried elsewhere, as a `RUN --push` may have run"), "{told}");
    // Nor is anything else of that job.
    let told = message(job.query(definition(), look()).await);
    assert!(told.contains("nothing is tried elsewhere"), "{told}");
    assert_eq!(farm.heard()[1..], ["bad failed at last"]);
    assert_eq!((farm.bad.as_ref().map(Daemon::solves), farm.good.solves()), (Some(1), 0));

    let farm = Farm::start(Some(Lie::DiesExporting));
    let export = Export::Image {
        images: vec![PlatformImage { root: 0, config: ImageConfig::scratch(&Platform::host()) }],
        names: vec![ImageName::Plain("example.com/a:1".into())],
        format: ImageFormat::default(),
        push: Some(Push::default()),
    };
    let root = Root { label: "+a".into(), definition: definition() };
    let request = SolveRequest { roots: vec![root], exports: vec![export], ..SolveRequest::default() };
    let told = message(farm.job(&host).solve(request).await);
    assert!(told.contains("nothing is tried elsewhere, as an image may have been pushed"), "{told}");
    assert_eq!(farm.good.solves(), 0);
}

#[tokio::test]
async fn a_platform_that_no_node_has_is_named_and_nothing_is_sent() {
    let farm = Farm::start(Some(Lie::None));
    let other = if Platform::host().architecture == "amd64" { "linux/arm64" } else { "linux/amd64" };
    let told = message(farm.job(other).query(pushing(), look()).await);
    let host = Platform::host();
    assert_eq!(
        told,
        format!(
            "no node of `farm` can build this: `bad` does not build for {host}; `good` does not build for {host}"
        )
    );
    assert_eq!((farm.bad.as_ref().map(Daemon::solves), farm.good.solves()), (Some(0), 0));
}
