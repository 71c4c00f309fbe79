//! A step that takes a part of a folder runs again when that part is another, and else is found.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// A copy of a part of the folder.
fn take(action: CopyAction, to: &State) -> State {
    let action = CopyAction { create_dest_path: true, dir_copy_contents: true, ..action };
    let name = format!("COPY {} {}", action.src, action.dest);
    to.copy(&context(&[]), action, NodeMeta::named(name))
}

fn plain(src: &str, dest: &str) -> CopyAction {
    CopyAction { src: src.to_owned(), dest: dest.to_owned(), ..CopyAction::default() }
}

/// How many steps run.
#[track_caller]
fn runs(bench: &Bench, state: &State) -> usize {
    bench.solve(state).executed
}

#[test]
fn of_two_copies_only_that_runs_whose_file_has_changed() {
    let bench = Bench::new();
    ["a", "b", "c"].iter().for_each(|path| bench.write(path, "1"));
    let first = take(plain("/a", "/a"), &State::scratch());
    let both = take(plain("/b", "/b"), &first);
    assert_eq!(runs(&bench, &both), 2);
    bench.write("b", "2");
    assert_eq!(bench.solve(&both), Summary { executed: 1, cached: 1, skipped: 0 });
    assert_eq!((bench.out("a"), bench.out("b")), ("1".to_owned(), "2".to_owned()));
    bench.write("c", "2");
    assert_eq!(runs(&bench, &both), 0);
    bench.write("a", "2");
    assert_eq!(runs(&bench, &both), 2);
    assert_eq!((bench.out("a"), bench.out("b")), ("2".to_owned(), "2".to_owned()));
    // What takes the whole folder runs for each of its files.
    let all = take(plain("/", "/all"), &State::scratch());
    assert_eq!(runs(&bench, &all), 1);
    bench.write("c", "3");
    assert_eq!(runs(&bench, &all), 1);
    assert_eq!(bench.out("all/c"), "3");
}

#[test]
fn a_pattern_takes_what_it_matches() {
    let bench = Bench::new();
    ["d/one.rs", "d/two.rs", "d/text"].iter().for_each(|path| bench.write(path, "1"));
    let copy = CopyAction { allow_wildcard: true, ..plain("/d/*.rs", "/rs/") };
    let state = take(copy, &State::scratch());
    assert_eq!(runs(&bench, &state), 1);
    bench.write("d/text", "2");
    assert_eq!(runs(&bench, &state), 0);
    bench.write("d/two.rs", "2");
    assert_eq!(runs(&bench, &state), 1);
    assert_eq!(bench.out("rs/two.rs"), "2");
    bench.write("d/three.rs", "1");
    assert_eq!(runs(&bench, &state), 1);
    assert_eq!(bench.out("rs/three.rs"), "1");
    std::fs::rename(bench.dir.path().join("src/d/one.rs"), bench.dir.path().join("src/d/four.rs"))
        .expect("renames");
    assert_eq!(runs(&bench, &state), 1);
    assert_eq!(bench.out("rs/four.rs"), "1");
}

#[test]
fn what_a_copy_leaves_out_does_not_count() {
    let bench = Bench::new();
    ["d/in/a", "d/in/b.log", "d/out/a"].iter().for_each(|path| bench.write(path, "1"));
    let exclude_patterns = vec!["out".to_owned(), "**/*.log".to_owned()];
    let without = take(CopyAction { exclude_patterns, ..plain("/d", "/d") }, &State::scratch());
    let include_patterns = vec!["in/a".to_owned()];
    let only = take(CopyAction { include_patterns, ..plain("/d", "/d") }, &State::scratch());
    // The same out of a tree of the store.
    let exclude_patterns = vec!["d/out".to_owned(), "**/*.log".to_owned()];
    let again = CopyAction { exclude_patterns, dir_copy_contents: true, ..plain("/all", "/again") };
    let again = State::scratch().copy(
        &take(plain("/", "/all"), &State::scratch()),
        again,
        NodeMeta::named("COPY --from"),
    );
    assert_eq!((runs(&bench, &without), runs(&bench, &only), runs(&bench, &again)), (1, 1, 2));
    bench.write("d/out/a", "2");
    bench.write("d/in/b.log", "2");
    // The whole folder is another, and what of it is copied on is not.
    assert_eq!((runs(&bench, &without), runs(&bench, &only), runs(&bench, &again)), (0, 0, 1));
    bench.write("d/in/a", "2");
    assert_eq!((runs(&bench, &without), runs(&bench, &only), runs(&bench, &again)), (1, 1, 2));
    assert_eq!(bench.out("again/d/in/a"), "2");
    bench.write("d/in/new", "1");
    assert_eq!((runs(&bench, &without), runs(&bench, &only)), (1, 0));
}

#[test]
fn what_a_link_leads_to_counts_where_it_is_followed() {
    let bench = Bench::new();
    ["real/f", "other/f"].iter().for_each(|path| bench.write(path, "1"));
    let link = bench.dir.path().join("src/link");
    symlink("real", &link).expect("links");
    let followed = take(CopyAction { follow_symlink: true, ..plain("/link", "/to") }, &State::scratch());
    let through = take(plain("/link/f", "/f"), &State::scratch());
    let itself = take(plain("/link", "/link"), &State::scratch());
    let all = |bench: &Bench| [&followed, &through, &itself].map(|state| runs(bench, state));
    assert_eq!(all(&bench), [1, 1, 1]);
    bench.write("other/f", "2");
    assert_eq!(all(&bench), [0, 0, 0]);
    bench.write("real/f", "3");
    assert_eq!(all(&bench), [1, 1, 0]);
    std::fs::remove_file(&link).expect("removes");
    symlink("other", &link).expect("links");
    assert_eq!(all(&bench), [1, 1, 1]);
    assert_eq!(runs(&bench, &followed), 0);
    bench.solve(&followed);
    assert_eq!(bench.out("to/f"), "2");
}

#[test]
fn an_archive_behind_a_link_counts() {
    let bench = Bench::new();
    let archive = |content: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "f", content.as_bytes()).expect("in memory");
        std::fs::write(bench.dir.path().join("src/real.tar"), tar.into_inner().expect("in memory"))
            .expect("writes");
    };
    archive("1");
    symlink("real.tar", bench.dir.path().join("src/link.tar")).expect("links");
    let state = take(CopyAction { attempt_unpack: true, ..plain("/link.tar", "/d/") }, &State::scratch());
    assert_eq!(runs(&bench, &state), 1);
    archive("2");
    assert_eq!(runs(&bench, &state), 1);
    assert_eq!(bench.out("d/f"), "2");
}

#[test]
fn a_mode_counts_for_who_takes_it() {
    let bench = Bench::new();
    ["d/a", "b"].iter().for_each(|path| bench.write(path, "1"));
    let first = take(plain("/d", "/d"), &State::scratch());
    let both = take(plain("/b", "/b"), &first);
    assert_eq!(runs(&bench, &both), 2);
    let give = |path: &str, mode| {
        let path = bench.dir.path().join("src").join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("gives a mode");
    };
    give("b", 0o755);
    assert_eq!(runs(&bench, &both), 1);
    give("d/a", 0o755);
    assert_eq!(runs(&bench, &both), 2);
    // All but that of who may execute is made the same.
    give("d/a", 0o700);
    assert_eq!(runs(&bench, &both), 0);
}

#[test]
fn what_is_mounted_of_a_folder_counts() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    ["d/f", "other"].iter().for_each(|path| bench.write(path, "1"));
    let mounted = |selector: &str| {
        let args = ["/bin/sh", "-ec", "cat /in/f /in/d/f > /made/f 2>/dev/null || true"];
        let meta = ExecMeta { args: args.map(ToOwned::to_owned).to_vec(), ..ExecMeta::default() };
        let options =
            MountOptions { readonly: true, selector: selector.to_owned(), ..MountOptions::default() };
        let exec = ExecBuilder::new(&host(), meta)
            .mount("/in", &context(&[]), options)
            .mount("/made", &State::scratch(), MountOptions::default())
            .finish(None, NodeMeta::named("mounts"));
        exec.mount("/made").expect("is an output")
    };
    let (part, whole) = (mounted("/d"), mounted(""));
    assert_eq!((runs(&bench, &part), runs(&bench, &whole)), (1, 1));
    bench.write("other", "2");
    assert_eq!((runs(&bench, &part), runs(&bench, &whole)), (0, 1));
    bench.write("d/f", "2");
    assert_eq!((runs(&bench, &whole), runs(&bench, &part)), (1, 1));
    assert_eq!(bench.out("f"), "2");
}
