//! Any text as a project: planning ends, twice alike, and what is planned can be marshalled.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use rb_buildfile::BuildfileFrontend;
use rb_diag::{SourceFile, SourceId};
use rb_frontend::{
    BuildOptions, BuildPlan, BuildRequest, Frontend, MapWorld, ProjectRef, TargetRef, TargetRequest,
};
use rb_oci::Platform;

const LIB: &str = "VERSION 0.8\nARG --global g=1\nFROM scratch\nt:\n    ARG a=2\n    RUN echo $a $g\n    SAVE ARTIFACT out\nF:\n    FUNCTION\n    ARG x=1\n    ENV X=$x\n";

fuzz_target!(|text: &str| {
    let file = SourceFile::new(SourceId(0), "Buildfile", text);
    let targets = rb_syntax::parse(&file).buildfile.targets;
    let name = targets.first().map_or("base", |recipe| recipe.name.value.as_str());
    let first = plan(text, name);
    assert_eq!(first, plan(text, name));
});

/// Plans a target and returns what was planned, or the codes of what was wrong.
fn plan(text: &str, name: &str) -> Result<Vec<String>, Vec<String>> {
    let world = MapWorld::default()
        .with_file("Buildfile", text)
        .with_file("lib/Buildfile", LIB)
        .with_file("a", "text\n")
        .with_file("src/b", "")
        .with_command("x", 0, "1 2\n")
        .with_command("y", 1, "");
    let root = ProjectRef::Local { dir: String::new() };
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let request = BuildRequest {
        targets: vec![TargetRequest::one(
            TargetRef { project: root, name: name.to_owned() },
            [("A".to_owned(), "1".to_owned())].into(),
        )],
        keep_going: false,
        defaults: [("a".to_owned(), "around".to_owned())].into(),
        platforms: vec![platform.clone()],
        user_platform: platform.clone(),
        native_platform: platform,
        options: BuildOptions { push: true, allow_privileged: true, ..BuildOptions::default() },
    };
    match at_once(BuildfileFrontend.plan(&world, &request)) {
        Ok(plan) => Ok(marshal(&plan, &world)),
        Err(found) => {
            assert!(!found.is_empty());
            Err(found.iter().map(|found| format!("{} {}", found.code, found.message)).collect())
        }
    }
}

fn marshal(plan: &BuildPlan, world: &MapWorld) -> Vec<String> {
    let digest = |state: &rb_llb::State| {
        state.marshal(world.sources()).expect("what was planned can be marshalled");
        format!("{:?}", state.digest().expect("and has a digest"))
    };
    let roots = plan.roots.iter().map(|(label, state)| format!("{label} {}", digest(state)));
    roots.chain([digest(&plan.target().state), digest(&plan.target().artifact_tree)]).collect()
}

/// Runs a future whose world answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("planning waits for nothing");
}
