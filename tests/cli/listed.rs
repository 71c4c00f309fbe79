//! Folders of which names are wanted (`local.metadatatransfer`): a list of all that is there, and the content of some.

use rb_diag::SourceMap;
use rb_llb::{NodeMeta, State, attr, json_list};

use crate::env::{Run, TestEnv};

fn solved(env: &TestEnv, content: &[&str]) -> Run {
    let attrs = [
        (attr::LOCAL_METADATA_TRANSFER.to_owned(), "true".to_owned()),
        (attr::LOCAL_METADATA_TRANSFER_EXCLUDE.to_owned(), json_list(content)),
    ];
    let state = State::source("local://src", attrs.into(), None, NodeMeta::named("names"));
    env.write("t.pb", state.marshal(&SourceMap::default()).expect("marshals").to_bytes());
    std::fs::remove_dir_all(env.project().join("out")).ok();
    env.rb(["solve", "t.pb", "--local=src=src", "-o", "type=local,dest=out"])
}

/// Finds a text in the list.
fn lists(env: &TestEnv, text: &str) -> bool {
    let list = std::fs::read(env.project().join("out/.fsutil-metadata")).expect("is there");
    list.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_folder_is_listed_and_some_of_it_is_there() {
    let env = TestEnv::new();
    env.write("src/data", "contents").write("src/dir/file1", "file1").write("src/dir/file2", "file2");
    env.write("src/dir/sub/bar1", "bar1")
        .write("src/foo", "foo")
        .write("src/.fsutil-metadata", "of the user");
    solved(&env, &["dir/**/*1", "foo"]).expect(0);
    assert_eq!(
        (env.read("out/dir/file1"), env.read("out/dir/sub/bar1")),
        ("file1".to_owned(), "bar1".to_owned())
    );
    assert_eq!(env.read("out/foo"), "foo");
    assert!(!env.has("out/data") && !env.has("out/dir/file2"));
    for name in ["data", "dir/file2", "dir/sub/bar1", "foo"] {
        assert!(lists(&env, name), "{name}");
    }
    assert!(!lists(&env, "of the user") && !lists(&env, ".fsutil-metadata"));
    // What is only listed is another list when it changes in length.
    env.write("src/data", "more contents").write("src/new", "");
    solved(&env, &["dir/**/*1", "foo"]).expect(0);
    assert!(lists(&env, "new") && !env.has("out/new"));
    solved(&env, &[]).expect(0);
    assert!(!env.has("out/foo") && lists(&env, "foo"));
}
