//! Cases of mkfile, mkdir, rm and symlink.

use rb_llb::{MkdirAction, MkfileAction, Owner, RmAction, State, SymlinkAction, UserSpec};

use super::{Cases, file, folder, none};

const TIME: i64 = 1_234_567_890_000_000_000;

fn named(user: &str, group: Option<&str>) -> Option<Owner> {
    let name = |name: &str| Some(UserSpec::Name { name: name.to_owned(), input: None });
    Some(Owner { user: name(user), group: group.and_then(name) })
}

fn ids(user: Option<u32>, group: Option<u32>) -> Option<Owner> {
    Some(Owner { user: user.map(UserSpec::Id), group: group.map(UserSpec::Id) })
}

pub(super) fn add(cases: &mut Cases) {
    mkfile(cases);
    mkdir(cases);
    rm(cases);
    symlink(cases);
}

fn mkfile(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: MkfileAction| {
        cases.add(&format!("mkfile-{name}"), &rich.files().mkfile(action).finish(none()));
    };
    add("new", file("/new", "text"));
    add("empty", file("/new", ""));
    add("mode", MkfileAction { mode: 0o7751, ..file("/new", "text") });
    add("over-file", MkfileAction { mode: 0o600, ..file("/d/file", "other") });
    add("over-private", MkfileAction { mode: 0o644, ..file("/modes/setuid", "other") });
    add("over-folder", file("/d", "text"));
    add("over-empty-folder", file("/empty", "text"));
    add("over-second-name", file("/links/two", "other"));
    add("over-device", file("/special/null", "text"));
    add("over-attributes", file("/attributes/file", "other"));
    add("over-owned", file("/owned/file", "other"));
    add("through-link", file("/links/to-file", "other"));
    add("through-absolute-link", file("/links/to-file-absolute", "other"));
    add("through-folder-link", file("/links/to-folder/new", "text"));
    add("through-dangling-link", file("/links/dangling", "text"));
    add("through-loop", file("/links/loop", "text"));
    add("out-of-the-tree", file("/../../new", "text"));
    add("without-parent", file("/not/there", "text"));
    add("root", file("/", "text"));
    add("under-file", file("/d/file/new", "text"));
    add("time", MkfileAction { timestamp: Some(TIME), ..file("/new", "text") });
    add("owner", MkfileAction { owner: ids(Some(7), Some(8)), ..file("/new", "text") });
    add("owner-user", MkfileAction { owner: ids(Some(7), None), ..file("/new", "text") });
    add("owner-group", MkfileAction { owner: ids(None, Some(8)), ..file("/new", "text") });
    add("owner-name", MkfileAction { owner: named("web", None), ..file("/new", "text") });
    add("owner-names", MkfileAction { owner: named("web", Some("staff")), ..file("/new", "text") });
    add("owner-unknown", MkfileAction { owner: named("nobody-knows", None), ..file("/new", "text") });
    let twice =
        rich.files().mkfile(file("/new", "longer")).mkfile(MkfileAction { mode: 0o600, ..file("/new", "x") });
    cases.add("mkfile-twice", &twice.finish(none()));
    cases.add("mkfile-scratch", &State::scratch().files().mkfile(file("/new", "text")).finish(none()));
}

fn mkdir(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: MkdirAction| {
        cases.add(&format!("mkdir-{name}"), &rich.files().mkdir(action).finish(none()));
    };
    let alone = |path: &str| MkdirAction { make_parents: false, ..folder(path) };
    add("new", alone("/new"));
    add("mode", MkdirAction { mode: 0o7750, ..folder("/new") });
    add("parents", MkdirAction { mode: 0o711, ..folder("/new/a/b") });
    add("without-parent", alone("/new/a/b"));
    add("exists", MkdirAction { mode: 0o700, ..folder("/d") });
    add("exists-alone", MkdirAction { mode: 0o700, ..alone("/d") });
    add("over-file", folder("/d/file"));
    add("over-file-alone", alone("/d/file"));
    add("under-file", folder("/d/file/new"));
    add("through-link", folder("/links/to-folder/new"));
    add("link-to-folder", folder("/links/to-folder"));
    add("link-to-folder-alone", alone("/links/to-folder"));
    add("dangling-link", folder("/links/dangling"));
    add("root", folder("/"));
    add("time", MkdirAction { timestamp: Some(TIME), ..folder("/new/a") });
    add("owner", MkdirAction { owner: ids(Some(7), Some(8)), ..folder("/new/a") });
    add("owner-names", MkdirAction { owner: named("web", Some("staff")), ..folder("/new/a") });
    add("owner-in-existing", MkdirAction { owner: ids(Some(7), Some(8)), ..folder("/d/a") });
}

fn rm(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, path: &str, allow_not_found: bool, allow_wildcard: bool| {
        let action = RmAction { path: path.to_owned(), allow_not_found, allow_wildcard };
        cases.add(&format!("rm-{name}"), &rich.files().rm(action).finish(none()));
    };
    add("file", "/d/file", false, false);
    add("folder", "/d", false, false);
    add("folder-with-slash", "/d/", false, false);
    add("missing", "/not-there", false, false);
    add("missing-allowed", "/not-there", true, false);
    add("missing-below-file", "/d/file/x", true, false);
    add("link", "/links/to-folder", false, false);
    add("dangling-link", "/links/dangling", false, false);
    add("dangling-link-allowed", "/links/dangling", true, false);
    add("through-link", "/links/to-folder/file", false, false);
    add("second-name", "/links/two", false, false);
    add("pattern", "/d/*", false, true);
    add("pattern-deep", "/*/file", false, true);
    add("pattern-of-nothing", "/not-there/*", false, true);
    add("pattern-unused", "/d/*", false, false);
    add("pattern-literal", "/odd/[[]x]", false, true);
    add("pattern-without-wildcard", "/d/file", false, true);
    add("root", "/", false, false);
    let again =
        rich.files().rm(RmAction { path: "/d".to_owned(), ..RmAction::default() }).mkdir(folder("/d"));
    cases.add("rm-and-again", &again.mkfile(file("/d/new", "text")).finish(none()));
}

fn symlink(cases: &mut Cases) {
    let rich = cases.rich();
    let mut add = |name: &str, action: SymlinkAction| {
        cases.add(&format!("symlink-{name}"), &rich.files().symlink(action).finish(none()));
    };
    let link = |path: &str| SymlinkAction {
        target: "d/file".to_owned(),
        path: path.to_owned(),
        ..SymlinkAction::default()
    };
    add("new", link("/new"));
    add("absolute", SymlinkAction { target: "/d/file".to_owned(), ..link("/new") });
    add("dangling", SymlinkAction { target: "../..//nowhere".to_owned(), ..link("/new") });
    add("exists", link("/d/file"));
    add("over-link", link("/links/to-file"));
    add("over-dangling-link", link("/links/dangling"));
    add("through-link", link("/links/to-folder/new"));
    add("without-parent", link("/not/there"));
    add("owner", SymlinkAction { owner: ids(Some(7), Some(8)), ..link("/new") });
    add("owner-names", SymlinkAction { owner: named("web", Some("staff")), ..link("/new") });
    add("time", SymlinkAction { timestamp: Some(TIME), ..link("/new") });
}
