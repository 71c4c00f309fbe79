//! Cases of copy.

use rb_llb::{CopyAction, CopyMode, Owner, RmAction, State, UserSpec};

use super::{Cases, copying, file, folder, local, none};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(super) fn add(cases: &mut Cases) {
    places(cases);
    patterns(cases);
    metadata(cases);
    onto(cases);
}

/// What is copied where.
fn places(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: CopyAction| {
        let state = State::scratch().files().mkdir(folder("/have")).copy(&rich, action).finish(none());
        cases.add(&format!("copy-{name}"), &state);
    };
    let contents = |src: &str, dest: &str| CopyAction { dir_copy_contents: true, ..copying(src, dest) };
    let follow = |src: &str, dest: &str| CopyAction { follow_symlink: true, ..copying(src, dest) };
    add("everything", contents("/", "/"));
    add("file", copying("/d/file", "/new"));
    add("file-into", copying("/d/file", "/have"));
    add("file-into-slash", copying("/d/file", "/have/"));
    add("file-into-new", copying("/d/file", "/new/"));
    add("file-deep", copying("/d/file", "/new/a/b"));
    add("file-without-parent", CopyAction { create_dest_path: false, ..copying("/d/file", "/new/a") });
    add("file-with-parent", CopyAction { create_dest_path: false, ..copying("/d/file", "/have/a") });
    add("missing", copying("/not-there", "/new"));
    add("folder", copying("/d", "/new"));
    add("folder-into", copying("/d", "/have"));
    add("folder-into-slash", copying("/d", "/have/"));
    add("folder-into-new-slash", copying("/d", "/new/"));
    add("folder-slash", copying("/d/", "/new"));
    add("folder-dot", copying("/d/.", "/new"));
    add("contents", contents("/d", "/new"));
    add("contents-into", contents("/d", "/have"));
    add("contents-of-file", contents("/d/file", "/new"));
    add("contents-without-parent", CopyAction { create_dest_path: false, ..contents("/d", "/new/a") });
    add("root", copying("/", "/new"));
    add("up-and-out", copying("/../../d/file", "/../../new"));
    add("link", copying("/links/to-file", "/new"));
    add("link-followed", follow("/links/to-file", "/new"));
    add("link-to-folder", copying("/links/to-folder", "/new"));
    add("link-to-folder-followed", follow("/links/to-folder", "/new"));
    add(
        "link-to-folder-contents",
        CopyAction { follow_symlink: true, ..contents("/links/to-folder", "/new") },
    );
    add("link-absolute-followed", follow("/links/to-file-absolute", "/new"));
    add("link-dangling", copying("/links/dangling", "/new"));
    add("link-dangling-followed", follow("/links/dangling", "/new"));
    add("link-loop", copying("/links/loop", "/new"));
    add("link-loop-followed", follow("/links/loop", "/new"));
    add("through-link", copying("/links/to-folder/file", "/new"));
    add("links-inside", CopyAction { follow_symlink: true, ..contents("/links", "/new") });
    add("second-names", contents("/links", "/new"));
    add("second-name-alone", copying("/links/two", "/new"));
    add("special", contents("/special", "/new"));
    add("attributes", contents("/attributes", "/new"));
    add("owners", contents("/owned", "/new"));
    add("modes", contents("/modes", "/new"));
    add("odd-names", contents("/odd", "/new"));
    add("empty-folder", copying("/empty", "/new"));
    let devices = State::scratch().files().copy(&cases.layout("devices"), contents("/", "/")).finish(none());
    cases.add("copy-block-device", &devices);
    let state = State::scratch().files().copy(&local("src"), contents("/", "/")).finish(none());
    cases.add("copy-local", &state);
    let state = State::scratch().files().copy(&local("src"), copying("/folder/run", "/run")).finish(none());
    cases.add("copy-local-file", &state);
}

fn patterns(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: CopyAction| {
        let state = State::scratch().files().mkdir(folder("/have")).copy(&rich, action).finish(none());
        cases.add(&format!("copy-{name}"), &state);
    };
    let wild = |src: &str, dest: &str| CopyAction { allow_wildcard: true, ..copying(src, dest) };
    add("wildcard", wild("/d/*", "/new/"));
    add("wildcard-one", wild("/d/f?le", "/new"));
    add("wildcard-folders", wild("/*d", "/new/"));
    add("wildcard-contents", CopyAction { dir_copy_contents: true, ..wild("/d/*", "/new/") });
    add("wildcard-deep", wild("/*/file", "/new/"));
    add("wildcard-class", wild("/d/[a-f]*", "/new/"));
    add("wildcard-not", wild("/d/[^f]*", "/new/"));
    add("wildcard-escaped", wild("/odd/\\*", "/new/"));
    add("wildcard-bracket", wild("/odd/[[]x]", "/new/"));
    add("wildcard-unused", copying("/odd/*", "/new"));
    add("wildcard-of-nothing", wild("/not-there*", "/new"));
    add("wildcard-of-nothing-below", wild("/d/not-there/*", "/new"));
    add("wildcard-empty", CopyAction { allow_empty_wildcard: true, ..wild("/not-there*", "/new") });
    add("wildcard-empty-literal", CopyAction { allow_empty_wildcard: true, ..wild("/not-there", "/new") });
    add("wildcard-through-link", CopyAction { follow_symlink: true, ..wild("/links/to-folder/*", "/new/") });
    add("wildcard-through-link-unfollowed", wild("/links/to-folder/*", "/new/"));
    add("wildcard-links", wild("/links/to-*", "/new/"));
    add("wildcard-links-followed", CopyAction { follow_symlink: true, ..wild("/links/to-*", "/new/") });
    let some = |include: &[&str], exclude: &[&str]| CopyAction {
        include_patterns: texts(include),
        exclude_patterns: texts(exclude),
        dir_copy_contents: true,
        ..copying("/", "/new")
    };
    add("include", some(&["d/file"], &[]));
    add("include-folder", some(&["d"], &[]));
    add("include-wildcard", some(&["*/file"], &[]));
    add("include-deep", some(&["**/file"], &[]));
    add("include-below", some(&["d/**"], &[]));
    add("include-nothing", some(&["not-there"], &[]));
    add("include-but", some(&["d", "!d/file"], &[]));
    add("exclude", some(&[], &["d/file"]));
    add("exclude-folder", some(&[], &["d", "links", "special"]));
    add("exclude-deep", some(&[], &["**/file"]));
    add("exclude-but", some(&[], &["d", "!d/file"]));
    add("exclude-all-but", some(&[], &["*", "!d"]));
    add("include-and-exclude", some(&["d", "owned"], &["**/file"]));
    add("include-metadata", some(&["modes/sticky/file", "owned/inner/file"], &[]));
    add("include-links", some(&["links/to-*"], &[]));
    add("include-of-file", CopyAction { include_patterns: texts(&["x"]), ..copying("/d/file", "/new") });
    // As a Dockerfile's `COPY --parents` is written.
    add("parents", CopyAction { create_dest_path: true, ..some(&["d/deep/er/file", "owned/inner"], &[]) });
    let required =
        |required: &[&str]| CopyAction { required_paths: texts(required), ..some(&["d/deep"], &[]) };
    add("required", required(&["/d/deep/er"]));
    add("required-missing", required(&["/d/not-there"]));
    add("required-left-out", required(&["/owned/file"]));
}

fn metadata(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: CopyAction| {
        let state = rich.files().rm(RmAction { path: "/d".to_owned(), ..RmAction::default() });
        let state = state.copy(&rich, CopyAction { dest: "/new/to".to_owned(), ..action }).finish(none());
        cases.add(&format!("copy-{name}"), &state);
    };
    let all = || CopyAction { dir_copy_contents: true, ..copying("/modes", "") };
    let owned = |user: Option<UserSpec>, group: Option<UserSpec>| CopyAction {
        owner: Some(Owner { user, group }),
        ..CopyAction { dir_copy_contents: true, ..copying("/", "") }
    };
    let name = |name: &str| Some(UserSpec::Name { name: name.to_owned(), input: None });
    add("owner", owned(Some(UserSpec::Id(7)), Some(UserSpec::Id(8))));
    add("owner-user", owned(Some(UserSpec::Id(7)), None));
    add("owner-group", owned(None, Some(UserSpec::Id(8))));
    add("owner-names", owned(name("web"), name("staff")));
    add("owner-name", owned(name("web"), None));
    add("owner-unknown", owned(name("nobody-knows"), None));
    add("owner-folder", CopyAction { dir_copy_contents: false, ..owned(Some(UserSpec::Id(7)), None) });
    for (title, mode) in [
        ("octal", CopyMode::Bits(0o640)),
        ("octal-setuid", CopyMode::Bits(0o6755)),
        ("octal-zero", CopyMode::Bits(0)),
        ("text-octal", CopyMode::Symbolic("0604".to_owned())),
        ("symbolic", CopyMode::Symbolic("u+x,go-w".to_owned())),
        ("symbolic-x", CopyMode::Symbolic("a-x,a+X".to_owned())),
        ("symbolic-set", CopyMode::Symbolic("u=rwX,go=rX".to_owned())),
        ("symbolic-copy", CopyMode::Symbolic("g=u,o=g".to_owned())),
        ("symbolic-special", CopyMode::Symbolic("u+s,g+s,+t".to_owned())),
        ("symbolic-none", CopyMode::Symbolic("=".to_owned())),
        ("symbolic-wrong", CopyMode::Symbolic("u+q".to_owned())),
    ] {
        add(&format!("mode-{title}"), CopyAction { mode, ..all() });
    }
    add(
        "mode-of-links",
        CopyAction { mode: CopyMode::Bits(0o600), dir_copy_contents: true, ..copying("/links", "") },
    );
    add("mode-of-file", CopyAction { mode: CopyMode::Bits(0o600), ..copying("/d/file", "") });
    let included = CopyAction { include_patterns: texts(&["sticky/file"]), ..all() };
    add("mode-included", CopyAction { mode: CopyMode::Bits(0o600), ..included });
    add("time", CopyAction { timestamp: Some(1_234_567_890_000_000_000), ..all() });
    add("times", all());
}

/// What is there already.
fn onto(cases: &mut Cases) {
    let (rich, other) = (cases.rich(), cases.other());
    let mut add = |name: &str, action: CopyAction| {
        let replacing = CopyAction { always_replace: true, ..action.clone() };
        cases.add(&format!("copy-onto-{name}"), &other.files().copy(&rich, action).finish(none()));
        cases.add(
            &format!("copy-onto-{name}-replacing"),
            &other.files().copy(&rich, replacing).finish(none()),
        );
    };
    let contents = |src: &str, dest: &str| CopyAction { dir_copy_contents: true, ..copying(src, dest) };
    add("file", copying("/d/file", "/d/file"));
    add("folder", contents("/d", "/d"));
    add("folder-of-file", contents("/kinds/folder", "/kinds/file"));
    add("file-of-folder", copying("/kinds/file", "/kinds/folder"));
    add("file-in-folder-of-that-name", copying("/d/file", "/same"));
    add("kinds", contents("/kinds", "/kinds"));
    add("link-to-folder", contents("/d", "/links/to-folder"));
    add("file-of-link", copying("/d/file", "/links/to-file"));
    add("file-of-dangling-link", copying("/d/file", "/links/dangling"));
    add("inside-link-to-folder", copying("/d/file", "/links/to-folder/new"));
    add("link-of-folder-inside", contents("/kinds/with-link", "/kinds/with-folder"));
    add("folder-of-link-inside", contents("/kinds/with-folder", "/kinds/with-link"));
    add("second-name", copying("/d/file", "/links/two"));
    add("everything", contents("/d", "/"));
    let chain = other
        .files()
        .mkfile(file("/one", "1"))
        .copy(&rich, copying("/d/file", "/two"))
        .mkfile(file("/one", "2"));
    cases.add("copy-in-a-chain", &chain.finish(none()));
    let itself = rich.files().copy(&rich, contents("/d", "/d/again")).finish(none());
    cases.add("copy-into-itself", &itself);
}
