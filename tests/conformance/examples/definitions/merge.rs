//! Cases of merge and diff.

use rb_llb::{RmAction, State};

use super::{Cases, change, copying, file, folder, none, run};

fn merge(states: &[&State]) -> State {
    State::merge(states.iter().map(|state| (*state).clone()).collect(), None, none())
}

fn diff(lower: &State, upper: &State) -> State {
    State::diff(lower, upper, None, none())
}

fn rm(tree: &State, paths: &[&str]) -> State {
    let removed = paths.iter().fold(tree.files(), |files, path| {
        files.rm(RmAction { path: (*path).to_owned(), ..RmAction::default() })
    });
    removed.finish(none())
}

fn tree(files: &[(&str, &str)]) -> State {
    let mut made = State::scratch().files();
    for (path, text) in files {
        let above = path.rsplit_once('/').map_or("/", |(above, _)| above);
        made = made.mkdir(folder(if above.is_empty() { "/" } else { above })).mkfile(file(path, text));
    }
    made.finish(none())
}

/// What is done to a tree, by a step: as a kernel's overlay writes it.
const STEPS: &[(&str, &str)] = &[
    ("write", "echo other > d/file; echo new > d/new"),
    ("append", "echo more >> d/file"),
    ("chmod", "chmod 600 d/file; chmod 700 d"),
    ("chown", "chown 7:8 d/file owned"),
    ("touch", "touch -d @1234567890 d/file"),
    ("attempt", "touch d/x; rm d/x"),
    ("same-mode", "chmod 644 d/file"),
    ("remove", "rm d/file; rm -r owned"),
    ("remove-all", "rm -r -- *"),
    ("folder-again", "rm -r d; mkdir d; echo new > d/new"),
    ("folder-same-again", "rm -r d; mkdir d; echo again > d/file"),
    ("file-to-folder", "rm d/file; mkdir d/file; echo x > d/file/inner"),
    ("folder-to-file", "rm -r d; echo x > d"),
    ("file-to-link", "rm d/file; ln -s other d/file"),
    ("link-to-file", "rm links/to-file; echo x > links/to-file"),
    ("link-to-folder", "rm links/to-folder; mkdir links/to-folder; echo x > links/to-folder/x"),
    ("folder-to-link", "rm -r d; ln -s owned d"),
    ("second-name", "ln d/file d/second"),
    ("second-name-removed", "rm links/two"),
    ("second-name-changed", "echo other > links/one"),
    ("rename", "mv d/file d/renamed"),
    ("rename-folder", "mv owned renamed"),
    ("new-folder", "mkdir -p other/folder; echo x > other/folder/file; chmod 711 other"),
    ("pipe", "rm special/pipe; mkfifo special/new"),
    ("empty", "mkdir d/empty"),
    ("nothing", "true"),
];

pub(super) fn add(cases: &mut Cases) {
    merges(cases);
    differences(cases);
    for (name, script) in STEPS {
        let (tools, rich, other) = (cases.busybox(), cases.rich(), cases.other());
        let changed = change(&tools, &rich, script);
        let step = diff(&rich, &changed);
        cases.add(&format!("diff-step-{name}"), &step);
        cases.add(&format!("diff-step-{name}-back"), &merge(&[&rich, &step]));
        cases.add(&format!("diff-step-{name}-onto"), &merge(&[&other, &step]));
        cases.add(&format!("merge-step-{name}"), &merge(&[&other, &changed]));
    }
}

fn merges(cases: &mut Cases) {
    let (rich, other, busybox) = (cases.rich(), cases.other(), cases.busybox());
    let one = tree(&[("/a/one", "1"), ("/same", "one")]);
    let two = tree(&[("/a/two", "2"), ("/same", "two")]);
    let three = rm(&tree(&[("/a/one", "of three"), ("/b/three", "3")]), &["/a/one"]);
    cases.add("merge-two", &merge(&[&one, &two]));
    cases.add("merge-turned", &merge(&[&two, &one]));
    cases.add("merge-three", &merge(&[&one, &two, &three]));
    cases.add("merge-nested", &merge(&[&one, &merge(&[&two, &three])]));
    cases.add("merge-nested-first", &merge(&[&merge(&[&one, &two]), &three]));
    cases.add("merge-itself", &merge(&[&one, &one]));
    cases.add("merge-images", &merge(&[&rich, &other]));
    cases.add("merge-images-turned", &merge(&[&other, &rich]));
    cases.add("merge-three-images", &merge(&[&busybox, &rich, &other]));
    let ran = run(&merge(&[&busybox, &one, &two]), "cat /same > /seen; rm /a/one; chmod 600 /same");
    cases.add("merge-and-run", &ran);
    cases.add("merge-of-run", &merge(&[&one, &ran]));
    let written = merge(&[&one, &two]).files().mkfile(file("/a/one", "written")).mkfile(file("/a/new", "x"));
    cases.add("merge-and-write", &written.finish(none()));
    let copied = State::scratch().files().copy(&merge(&[&rich, &other]), copying("/kinds", "/to"));
    cases.add("merge-and-copy", &copied.finish(none()));
    let local = State::scratch().files().copy(&super::local("src"), copying("/", "/src")).finish(none());
    cases.add("merge-local", &merge(&[&local, &super::local("src")]));
}

fn differences(cases: &mut Cases) {
    let (rich, other) = (cases.rich(), cases.other());
    let tools = cases.busybox();
    cases.add("diff-images", &diff(&rich, &other));
    cases.add("diff-images-onto", &merge(&[&rich, &diff(&rich, &other)]));
    cases.add("diff-images-turned-onto", &merge(&[&other, &diff(&other, &rich)]));
    cases.add("diff-to-nothing", &diff(&rich, &State::scratch()));
    cases.add("diff-to-nothing-onto", &merge(&[&rich, &diff(&rich, &State::scratch())]));
    cases.add("diff-of-itself", &diff(&rich, &rich));
    let base = tree(&[("/a/one", "1"), ("/a/two", "2"), ("/b/three", "3")]);
    let first = base.files().mkfile(file("/a/new", "new")).finish(none());
    let second = rm(&first, &["/a/one"]);
    let third = second.files().mkfile(file("/b/four", "4")).finish(none());
    cases.add("diff-one-layer", &diff(&base, &first));
    cases.add("diff-three-layers", &diff(&base, &third));
    cases.add("diff-middle", &diff(&first, &third));
    cases.add("diff-backwards", &diff(&third, &base));
    cases.add("diff-backwards-onto", &merge(&[&third, &diff(&third, &base)]));
    cases.add("diff-onto-other", &merge(&[&other, &diff(&base, &third)]));
    cases.add("diff-of-diff", &diff(&diff(&base, &first), &diff(&base, &third)));
    cases.add("diff-of-merge", &diff(&merge(&[&base, &other]), &merge(&[&base, &other, &first])));
    cases.add("diff-of-merge-turned", &diff(&merge(&[&base, &other]), &merge(&[&other, &base])));
    let gone = rm(&base, &["/a"]);
    cases.add("diff-deleted-then-there", &merge(&[&base, &diff(&base, &gone), &tree(&[("/a/two", "back")])]));
    cases.add("diff-deleted-and-run", &change(&tools, &merge(&[&base, &diff(&base, &gone)]), "ls > listed"));
    // A difference alone is a tree without what it deletes.
    cases.add(
        "diff-alone-and-run",
        &change(&tools, &diff(&base, &third), "found=$(find . | sort); echo \"$found\" > listed"),
    );
}
