//! Several processes on one state directory, one of which is killed at any instant.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rb_oci::Digest;
use rb_store::{SnapshotState, Store};

/// The process that writes: this test binary, told to run the one test below, with the directory on its stdin.
fn spawn_writer(root: &Path) -> Child {
    let binary = std::env::current_exe().expect("has a path");
    let mut child = Command::new(binary)
        .args(["--exact", "writer", "--ignored", "--nocapture", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    writeln!(child.stdin.as_mut().expect("is piped"), "{}", root.display()).expect("writes");
    child
}

#[test]
#[ignore = "the other process of the tests below"]
fn writer() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("reads");
    if line.is_empty() {
        return; // run by hand
    }
    let store = Store::open(Path::new(line.trim())).expect("opens");
    let mut parent = None;
    for round in 0..u64::MAX {
        let text = format!("{}-{round}", std::process::id());
        let blob = store.put_blob(text.as_bytes()).expect("puts");
        let id = store.new_snapshot(parent).expect("starts");
        let tree = store.snapshot_dir(id).join("fs/a/b");
        fs::create_dir_all(&tree).expect("makes");
        fs::write(tree.join("file"), &text).expect("writes");
        let committed = store.commit_snapshot(id, 1, Some(*blob.as_bytes())).expect("commits");
        store.put_record(&blob, text.as_bytes(), &[committed]).expect("puts");
        store.link_record(&Digest::of(format!("alias {text}")), &blob).expect("links");
        println!("done {blob}");
        if round % 5 == 4 {
            store.delete_snapshot(committed).expect("removes");
            println!("gone {blob}");
        } else {
            parent = (round % 3 != 0).then_some(committed);
        }
    }
}

/// Reads what a killed writer said; its last line may be torn.
fn read_words(child: &mut Child) -> Vec<(String, Digest)> {
    let mut text = String::new();
    child.stdout.take().expect("is piped").read_to_string(&mut text).expect("reads");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        let (word, digest) = line.split_once(' ')?;
        Some((word.to_owned(), digest.parse().ok()?))
    };
    let mut words: Vec<_> = whole.lines().filter_map(parse).collect();
    // Whether the last thing done was removed again, it could not say any more.
    words.extend(words.last().map(|(_, digest)| ("unsure".to_owned(), *digest)));
    words
}

/// Everything in the store is whole, and all that was reported is there.
fn check(store: &Store, said: &[(String, Digest)]) {
    store.wait_for_cleaning();
    let rows = store.snapshots().expect("reads");
    let mut expected = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.state, SnapshotState::Committed, "{row:?}");
        let text = fs::read(store.snapshot_dir(row.id).join("fs/a/b/file")).expect("is there");
        assert_eq!(Some(*Digest::of(&text).as_bytes()), row.content_key);
        expected.insert(row.id.to_string());
    }
    let list = |name: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(store.root().join(name)).expect("lists");
        entries.map(|entry| entry.expect("lists").file_name().into_string().expect("is ours")).collect()
    };
    assert_eq!(list("snapshots"), expected);
    assert_eq!(list("tmp"), BTreeSet::new());
    for name in list("blobs/sha256") {
        let digest = format!("sha256:{name}").parse().expect("is a digest");
        store.read_blob(&digest, 1000).expect("is whole");
    }
    let all = |wanted: &str| -> BTreeSet<Digest> {
        said.iter().filter(|(word, _)| word == wanted).map(|(_, digest)| *digest).collect()
    };
    let (done, gone, unsure) = (all("done"), all("gone"), all("unsure"));
    for digest in &done {
        assert!(store.has_blob(digest).expect("stats"));
        match store.record(digest).expect("reads") {
            Some(record) => {
                assert!(!gone.contains(digest));
                assert_eq!(Digest::of(&record.value), *digest);
                assert!(record.snapshots.iter().all(|id| expected.contains(&id.to_string())));
            }
            None => assert!(gone.contains(digest) || unsure.contains(digest), "{digest} is lost"),
        }
    }
}

#[test]
fn a_writer_killed_at_any_instant_leaves_a_whole_store() {
    let root = tempfile::tempdir().expect("temp dir");
    let mut said = Vec::new();
    for round in 0..20 {
        let mut child = spawn_writer(root.path());
        std::thread::sleep(Duration::from_millis(15 + round * 7));
        child.kill().expect("kills");
        child.wait().expect("ends");
        said.extend(read_words(&mut child));
        let store = Store::open(root.path()).expect("opens");
        check(&store, &said);
    }
    assert!(said.len() > 20, "the writers did next to nothing: {}", said.len());
}

#[test]
fn one_process_dies_and_others_do_not_notice() {
    let root = tempfile::tempdir().expect("temp dir");
    let survivor = Store::open(root.path()).expect("opens");
    let active = survivor.new_snapshot(None).expect("starts");
    let mut said = Vec::new();
    for _ in 0..3 {
        let mut children = [spawn_writer(root.path()), spawn_writer(root.path())];
        for child in &mut children {
            // Each is seen to work beside the others before it is killed.
            let mut line = String::new();
            let mut output = BufReader::with_capacity(1, child.stdout.take().expect("is piped"));
            while !line.contains("done ") {
                line.clear();
                assert!(output.read_line(&mut line).expect("reads") > 0, "the writer failed");
            }
            child.stdout = Some(output.into_inner());
        }
        for (child, wait) in children.iter_mut().zip([5, 20]) {
            std::thread::sleep(Duration::from_millis(wait));
            child.kill().expect("kills");
            child.wait().expect("ends");
            said.extend(read_words(child));
        }
        drop(Store::open(root.path()).expect("opens"));
    }
    assert!(survivor.snapshot_dir(active).join("fs").exists());
    survivor.delete_snapshot(active).expect("removes");
    check(&Store::open(root.path()).expect("opens"), &said);
}
