//! A step with a cache mount builds from what is there now, whatever trees are stored and whatever times they have.
//!
//! Two copies, so that the one may be found in the store while the other is new and the step runs.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use rb_llb::{CacheSharing, CopyAction, ExecBuilder, ExecMeta, NodeMeta, State};

use super::{Bench, context, copy, host, is_root};

/// What the step does with `/one`, `/two` and the cache at `/cache`; what it prints is the result `/out`.
struct Project {
    bench: Bench,
    /// What a step does between the two copies.
    between: Option<&'static str>,
    script: String,
    timestamp: Option<i64>,
}

impl Project {
    fn new(script: &str) -> Self {
        Self { bench: Bench::new(), between: None, script: script.to_owned(), timestamp: None }
    }

    fn state(&self, script: &str) -> State {
        let part = |base: &State, name: &str| {
            let action = CopyAction {
                src: format!("/{name}"),
                dest: format!("/{name}"),
                create_dest_path: true,
                dir_copy_contents: true,
                timestamp: self.timestamp,
                ..CopyAction::default()
            };
            base.copy(&context(&[name]), action, NodeMeta::named(format!("COPY {name}")))
        };
        let step = |tree: &State, script: &str| {
            let args = ["/bin/sh", "-ec", script].map(ToOwned::to_owned).to_vec();
            ExecBuilder::new(tree, ExecMeta { args, ..ExecMeta::default() })
        };
        let mut tree = part(&host(), "one");
        if let Some(script) = self.between {
            tree = step(&tree, script).finish(None, NodeMeta::named(script)).root();
        }
        let run = step(&part(&tree, "two"), script);
        let run = run.cache("/cache", &State::scratch(), "objects", CacheSharing::Locked);
        let built = run.finish(None, NodeMeta::named(script)).root();
        copy(&built, "/out", &State::scratch(), "/out")
    }

    /// Builds; returns what came out.
    fn build(&self) -> String {
        self.bench.solve(&self.state(&self.script));
        self.bench.out("out")
    }

    fn write(&self, path: &str, content: &str) {
        self.bench.write(path, content);
    }

    fn set_time(&self, path: &str, time: SystemTime) {
        let path = self.bench.dir.path().join("src").join(path);
        std::fs::File::open(path).expect("opens").set_modified(time).expect("sets the time");
    }
}

/// Concatenates into the cache what is newer than what lies there, as `make` would.
const SHELL: &str = "for f in /one/a /two/b; do o=/cache/$(basename $f)
if [ ! -e $o ] || [ $f -nt $o ]; then cp $f $o; fi; done; cat /cache/a /cache/b > /out";

fn has(tool: &str) -> bool {
    let there = Path::new("/usr/bin").join(tool).exists();
    if !there {
        eprintln!("stepping aside: no {tool} here");
    }
    there
}

#[test]
fn going_back_to_older_content_is_a_change() {
    if !is_root() {
        return;
    }
    let project = Project::new(SHELL);
    let mut round = 0;
    for (a, b) in
        [("1", "1"), ("2", "1"), ("1", "2"), ("2", "2"), ("2", "3"), ("1", "3"), ("2", "1"), ("1", "1")]
    {
        round += 1;
        project.write("one/a", a);
        project.write("two/b", b);
        // What `git checkout` and `cp -p` do with times: none of it may matter.
        if round % 2 == 0 {
            project.set_time("one/a", SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        }
        assert_eq!(project.build(), format!("{a}{b}"), "round {round}");
    }
}

#[test]
fn what_a_step_before_made_is_a_change_too() {
    if !is_root() {
        return;
    }
    let mut project = Project::new(&SHELL.replace("/one/a", "/made/a"));
    project.between = Some("mkdir /made; cp /one/a /made/a");
    let versions = ["1", "2", "1", "2", "1", "3", "2"];
    for (round, version) in versions.iter().enumerate() {
        project.write("one/a", version);
        // Else the last step is found as well.
        project.write("two/b", &round.to_string());
        assert_eq!(project.build(), format!("{version}{round}"), "round {round}");
    }
}

#[test]
fn what_did_not_change_is_not_built_again() {
    if !is_root() {
        return;
    }
    let project = Project::new(
        "[ -e /cache/o ] && [ ! /one/a -nt /cache/o ] && echo kept > /out || { cp /one/a /cache/o; echo made > /out; }",
    );
    project.write("one/a", "1");
    project.write("two/b", "1");
    assert_eq!(project.build(), "made\n");
    for b in ["2", "3"] {
        project.write("two/b", b);
        assert_eq!(project.build(), "kept\n");
    }
    project.write("one/a", "2");
    project.write("two/b", "4");
    assert_eq!(project.build(), "made\n");
    // Back to what is stored with an older time: once more, and then no more.
    project.write("one/a", "1");
    project.write("two/b", "5");
    assert_eq!(project.build(), "made\n");
    for b in ["6", "7"] {
        project.write("two/b", b);
        assert_eq!(project.build(), "kept\n");
    }
}

#[test]
fn a_step_that_failed_has_built_as_well() {
    if !is_root() {
        return;
    }
    let project = Project::new(&format!("{SHELL}; ! grep -q fail /two/b"));
    let build = || project.bench.solve_request(project.bench.request(&project.state(&project.script)));
    project.write("one/a", "1");
    project.write("two/b", "1");
    build().expect("builds");
    project.write("one/a", "2");
    project.write("two/b", "fail");
    build().expect_err("fails");
    project.write("one/a", "1");
    project.write("two/b", "2");
    build().expect("builds");
    assert_eq!(project.bench.out("out"), "12");
}

#[test]
fn results_and_one_time_for_all_stay_as_they_are() {
    if !is_root() {
        return;
    }
    // The step changes one file and leaves the other: what it leaves is that, and not the time it was shown with.
    let project = Project::new("cp /one/a /cache/; echo more >> /two/b; find /one /two -type f > /out");
    project.write("one/a", "1");
    project.write("two/b", "1");
    assert_eq!(project.build(), "/one/a\n/two/b\n");
    project.write("one/a", "2");
    project.build();
    project.write("one/a", "1");
    assert_eq!(project.build(), "/one/a\n/two/b\n");
    assert_eq!(project.bench.solve(&project.state(&project.script)).executed, 0);

    let mut project = Project::new("date -r /one/a +%s > /out; cat /one/a /two/b > /cache/x");
    project.timestamp = Some(1_587_038_400_000_000_000);
    for (a, b) in [("1", "1"), ("2", "1"), ("1", "2"), ("2", "2")] {
        project.write("one/a", a);
        project.write("two/b", b);
        assert_eq!(project.build(), "1587038400\n");
    }
}

#[test]
fn make_builds_what_is_there() {
    if !is_root() || !has("make") {
        return;
    }
    let project = Project::new("make -s -f /two/Makefile; cat /cache/all > /out");
    let makefile = "/cache/all: /cache/a.o /cache/b.o\n\tcat $^ > $@\n/cache/%.o: /one/%.c\n\tcp $< $@\n# ";
    let versions = ["x", "y", "z"];
    for round in 0..12 {
        let (a, b) = (versions[round % 2], versions[(round / 3) % 3]);
        project.write("one/a.c", a);
        project.write("one/b.c", b);
        project.write("two/Makefile", &format!("{makefile}{round}\n"));
        assert_eq!(project.build(), format!("{a}{b}"), "round {round}");
    }
}
