//! Cases of copies that unpack archives; those lie in the local folder `archives`.

use rb_llb::{CopyAction, Owner, State, UserSpec};

use super::{Cases, copying, file, folder, local, none};

pub(super) fn add(cases: &mut Cases) {
    let archives = local("archives");
    let unpacking = |src: &str, dest: &str| CopyAction {
        attempt_unpack: true,
        follow_symlink: true,
        dir_copy_contents: true,
        allow_wildcard: true,
        ..copying(src, dest)
    };
    let onto = cases.other();
    let mut add = |name: &str, base: &State, action: CopyAction| {
        let state = base.files().mkdir(folder("/have")).copy(&archives, action).finish(none());
        cases.add(&format!("unpack-{name}"), &state);
    };
    let scratch = State::scratch();
    for kind in ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"] {
        add(kind, &scratch, unpacking(&format!("/all.{kind}"), "/new/"));
    }
    for name in [
        "two-streams.tar.gz",
        "text.gz",
        "text",
        "empty.tar",
        "empty",
        "cut.tar.gz",
        "cut.tar",
        "flipped.tar.gz",
        "names.tar",
        "climbing.tar",
        "absolute.tar",
        "implied.tar",
        "whiteouts.tar",
        "root.tar",
        "link-out.tar",
        "link-missing.tar",
        "global.tar",
        "replacing.tar",
        "through-own-link.tar",
        "folder",
    ] {
        add(name, &scratch, unpacking(&format!("/{name}"), "/new/"));
    }
    add("without-slash", &scratch, unpacking("/all.tar", "/new"));
    add("into-root", &scratch, unpacking("/all.tar", "/"));
    add("into-deep", &scratch, unpacking("/all.tar", "/new/a/b"));
    add("by-link", &scratch, unpacking("/link-to-all", "/new/"));
    add("pattern", &scratch, unpacking("/t*", "/new/"));
    add("not-asked", &scratch, CopyAction { attempt_unpack: false, ..unpacking("/all.tar", "/new/") });
    let owner = Some(Owner { user: Some(UserSpec::Id(7)), group: Some(UserSpec::Id(8)) });
    add("owner", &scratch, CopyAction { owner, ..unpacking("/all.tar", "/new/") });
    add(
        "time",
        &scratch,
        CopyAction { timestamp: Some(1_234_567_890_000_000_000), ..unpacking("/all.tar", "/new/") },
    );
    let mode = rb_llb::CopyMode::Bits(0o600);
    add("mode", &scratch, CopyAction { mode, ..unpacking("/all.tar", "/new/") });
    add("onto", &onto, unpacking("/onto.tar", "/"));
    add("onto-file", &onto, unpacking("/onto.tar", "/kinds/file"));
    add("onto-link-to-folder", &onto, unpacking("/onto.tar", "/links/to-folder"));
    let with = onto.files().mkfile(file("/d/new", "text")).finish(none());
    add("onto-written", &with, unpacking("/onto.tar", "/"));
}
