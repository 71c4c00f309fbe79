//! Cases of build: definitions in files.

use rb_diag::SourceMap;
use rb_llb::{CopyAction, MkfileAction, State};

use super::{Cases, copying, file, folder, none, platform};

const FILE: &str = "buildkit.llb.definition";

fn definition(state: &State) -> Vec<u8> {
    state.marshal(&SourceMap::default()).unwrap().to_bytes()
}

fn holding(path: &str, bytes: Vec<u8>) -> State {
    let made = MkfileAction { data: bytes.into(), ..file(path, "") };
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    let made =
        State::scratch().files().mkdir(folder(if above.is_empty() { "/" } else { above })).mkfile(made);
    made.finish(none())
}

fn build(input: &State, filename: Option<&str>) -> State {
    State::build(input, filename, Some(&platform()), none())
}

pub(super) fn add(cases: &mut Cases) {
    let inner = State::scratch().files().mkfile(file("/inner", "made inside")).finish(none());
    let default = format!("/{FILE}");
    let plain = build(&holding(&default, definition(&inner)), None);
    cases.add("build-default", &plain);
    cases.add("build-named", &build(&holding("/a/b.pb", definition(&inner)), Some("a/b.pb")));
    cases.add("build-absolute", &build(&holding("/a/b.pb", definition(&inner)), Some("/a/b.pb")));
    cases.add("build-climbing", &build(&holding("/a/b.pb", definition(&inner)), Some("../../a/b.pb")));
    cases.add("build-missing", &build(&holding("/a/b.pb", definition(&inner)), None));
    cases.add("build-folder", &build(&holding("/a/b.pb", definition(&inner)), Some("a")));
    cases.add("build-nonsense", &build(&holding(&default, b"\xff\xffnonsense".to_vec()), None));
    cases.add("build-twice", &build(&holding(&default, definition(&plain)), None));
    let rich = cases.rich();
    cases.add("build-image", &build(&holding(&default, definition(&rich)), None));
    let all = CopyAction { dir_copy_contents: true, ..copying("/", "/") };
    let local = State::scratch().files().copy(&super::local("src"), all).finish(none());
    cases.add("build-local", &build(&holding(&default, definition(&local)), None));
    cases.add("build-and-write", &plain.files().mkfile(file("/outer", "x")).finish(none()));
    let linked =
        rb_llb::SymlinkAction { target: "a/b.pb".to_owned(), path: default.clone(), ..Default::default() };
    let linked = holding("/a/b.pb", definition(&inner)).files().symlink(linked).finish(none());
    cases.add("build-by-link", &build(&linked, None));
    let failing = super::run(&cases.busybox(), "exit 3");
    cases.add("build-failing", &build(&holding(&default, definition(&failing)), None));
}
