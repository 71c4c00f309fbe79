//! What was changed or damaged in the state directory behind our back is found, dropped and made again.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::env::{Run, TestEnv, is_root};

/// Each step leaves a file; the last reads them all.
const STEPS: &str = "\
VERSION 1
t:
    FROM @host
    WORKDIR /w
    RUN echo one > one
    RUN echo two > two
    RUN echo three > three
    ARG LAST=1
    RUN cat one two three > all && echo $LAST >> all
    SAVE ARTIFACT all AS LOCAL all
";

fn project(buildfile: &str) -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", buildfile);
    env
}

/// Finds the files at `path` of all layers, those linked with one another once.
fn in_layers(env: &TestEnv, path: &str) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let layers = fs::read_dir(env.state().join("snapshots")).expect("lists");
    let files = layers.map(|layer| layer.expect("lists").path().join("fs").join(path));
    let mut files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
    files.sort();
    files.dedup_by_key(|file| fs::metadata(file).expect("stats").ino());
    files
}

/// Finds the one file at `path` of all layers.
#[track_caller]
fn in_layer(env: &TestEnv, path: &str) -> PathBuf {
    match &in_layers(env, path)[..] {
        [file] => file.clone(),
        files => panic!("{path}: {files:?}"),
    }
}

/// Flips a bit in place.
fn flip(file: &Path) {
    let open = File::options().read(true).write(true).open(file).expect("opens");
    let mut byte = [0];
    open.read_exact_at(&mut byte, 0).expect("reads");
    open.write_all_at(&[byte[0] ^ 1], 0).expect("writes");
}

/// Flips a bit as a disk does: nothing shows from outside.
fn rot(file: &Path) {
    let before = fs::metadata(file).expect("stats").modified().expect("has a time");
    flip(file);
    let open = File::options().write(true).open(file).expect("opens");
    open.set_times(FileTimes::new().set_modified(before)).expect("sets times");
}

/// Insists on how many commands ran.
#[track_caller]
fn commands_run(run: &Run, count: usize) {
    assert_eq!(run.stderr.matches("| --> RUN").count(), count, "{}", run.stderr);
}

#[test]
fn a_layer_that_was_changed_is_made_again_with_what_builds_on_it() {
    let env = project(STEPS);
    env.rb(["+t"]).expect(0);
    let good = env.read("all");
    env.rb(["+t"]).expect(0).says("nothing to do");

    // Nothing asks for more than before.
    flip(&in_layer(&env, "w/two"));
    fs::remove_file(env.project().join("all")).expect("removes");
    commands_run(&env.rb(["+t"]).expect(0), 3);
    assert_eq!(env.read("all"), good);

    // A new step needs what is there.
    for (layer, steps) in [("w/one", 4), ("w/two", 3), ("w/three", 2)] {
        flip(&in_layer(&env, layer));
        let last = format!("--LAST={layer}");
        commands_run(&env.rb(["+t", &last]).expect(0), steps);
        assert_eq!(env.read("all"), format!("one\ntwo\nthree\n{layer}\n"));
    }
    env.rb(["+t", "--LAST=w/three"]).expect(0).says("nothing to do");
    env.rb(["cache", "verify"]).expect(0);
}

#[test]
fn files_that_went_came_or_shrank_are_found_too() {
    let env = project(STEPS);
    let damages: [fn(&Path); 4] = [
        |file| fs::remove_file(file).expect("removes"),
        |file| File::options().write(true).open(file).expect("opens").set_len(1).expect("cuts"),
        |file| fs::write(file.with_file_name("more"), "").expect("writes"),
        |file| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(file, mode).expect("modes");
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        env.rb(["+t"]).expect(0);
        damage(&in_layer(&env, "w/three"));
        let last = format!("--LAST={number}");
        commands_run(&env.rb(["+t", &last]).expect(0), 2);
        assert_eq!(env.read("all"), format!("one\ntwo\nthree\n{number}\n"));
    }
}

#[test]
fn a_changed_image_layer_is_unpacked_again() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    ARG N=1\n    RUN cat /etc/passwd > /out && echo $N >> /out\n    \
         SAVE ARTIFACT /out AS LOCAL out\n    SAVE IMAGE damaged:latest\n",
    );
    let passwd = "root:x:0:0:root:/root:/bin/sh\n";
    env.rb(["+t"]).expect(0);
    let run = || env.rb(["run", "damaged", "cat", "/etc/passwd"]).expect(0).stdout;
    assert_eq!(run(), passwd);

    flip(&in_layer(&env, "etc/passwd"));
    assert_eq!(run(), passwd);
    flip(&in_layer(&env, "etc/passwd"));
    commands_run(&env.rb(["+t", "--N=2"]).expect(0), 1);
    assert_eq!(env.read("out"), format!("{passwd}2\n"));

    // What nobody can see from outside is found by reading.
    rot(&in_layer(&env, "etc/passwd"));
    assert_ne!(run(), passwd);
    env.rb(["cache", "verify"]).expect(1);
    assert_eq!(run(), passwd);
    commands_run(&env.rb(["+t", "--N=3"]).expect(0), 1);
    assert_eq!(env.read("out"), format!("{passwd}3\n"));
    env.rb(["cache", "verify"]).expect(0);
}

#[test]
fn verify_reads_every_byte() {
    let env = project(STEPS);
    env.rb(["+t"]).expect(0);
    let good = env.read("all");
    let said = env.rb(["cache", "verify"]).expect(0).stdout;
    assert!(said.ends_with("nothing is damaged\n"), "{said}");

    rot(&in_layer(&env, "w/two"));
    // From outside nothing shows.
    env.rb(["+t"]).expect(0).says("nothing to do");
    let said = env.rb(["cache", "verify"]).expect(1).stdout;
    assert!(said.contains("is damaged: dropped, with 2 built on it"), "{said}");
    fs::remove_file(env.project().join("all")).expect("removes");
    commands_run(&env.rb(["+t"]).expect(0), 3);
    assert_eq!(env.read("all"), good);

    rot(&in_layer(&env, "w/three"));
    let said = env.rb(["cache", "verify", "--json"]).expect(1).stdout;
    let said: serde_json::Value = serde_json::from_str(&said).expect("is JSON");
    assert_eq!((&said["sound"], &said["layers"]["dropped"][0]["reason"]), (&false.into(), &"damaged".into()));
    let said = env.rb(["cache", "verify", "--json"]).expect(0).stdout;
    let said: serde_json::Value = serde_json::from_str(&said).expect("is JSON");
    assert_eq!(said["sound"], true);
}

#[test]
fn verify_finds_damaged_blobs_and_the_next_build_packs_them_again() {
    let env = project("VERSION 1\nimage:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE blobs:latest\n");
    env.write("f", "content");
    env.rb(["+image"]).expect(0);
    let blobs = || fs::read_dir(env.state().join("blobs/sha256")).expect("lists");
    let count = blobs().count();
    blobs().for_each(|blob| flip(&blob.expect("lists").path()));
    let said = env.rb(["cache", "verify"]).expect(1).stdout;
    assert_eq!(said.matches("blob ").count(), count, "{said}");
    assert_eq!(blobs().count(), 0);
    env.rb(["+image"]).expect(0);
    assert_eq!(blobs().count(), count);
    env.rb(["image", "save", "blobs", "-o", "blobs.tar"]).expect(0);
    env.rb(["cache", "verify"]).expect(0);
}

#[test]
fn a_copy_takes_nothing_over_from_a_damaged_layer() {
    let env = project("VERSION 1\nt:\n    FROM scratch\n    COPY d /d\n    SAVE ARTIFACT /d AS LOCAL out\n");
    for number in 0..100 {
        env.write(&format!("d/{number}"), format!("content {number}"));
    }
    let settled = |number: u64| {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + number);
        for number in 0..100 {
            let file = File::options().write(true).open(env.project().join(format!("d/{number}")));
            file.expect("opens").set_times(FileTimes::new().set_modified(time)).expect("sets times");
        }
    };
    settled(0);
    env.rb(["+t"]).expect(0);
    for (round, damage) in [flip, rot].into_iter().enumerate() {
        let layers = in_layers(&env, "d/7");
        damage(layers.last().expect("was copied"));
        if round == 1 {
            env.rb(["cache", "verify"]).expect(1);
        }
        // One file is another one now; the rest could be linked.
        env.write("d/50", format!("round {round}"));
        fs::remove_dir_all(env.project().join("out")).expect("removes");
        env.rb(["+t"]).expect(0);
        assert_eq!(env.read("out/7"), "content 7");
        assert_eq!(env.read("out/50"), format!("round {round}"));
        env.rb(["cache", "verify"]).expect(0);
    }
}

#[test]
fn a_list_of_files_that_is_damaged_is_made_anew() {
    let env = project("VERSION 1\nt:\n    FROM scratch\n    COPY d /d\n    SAVE ARTIFACT /d AS LOCAL out\n");
    for number in 0..100 {
        env.write(&format!("d/{number}"), format!("content {number}"));
    }
    env.rb(["+t"]).expect(0);
    let layers = fs::read_dir(env.state().join("snapshots")).expect("lists");
    let manifests = layers.map(|layer| layer.expect("lists").path().join("manifest"));
    let manifests: Vec<PathBuf> = manifests.filter(|manifest| manifest.is_file()).collect();
    assert!(!manifests.is_empty());
    manifests.iter().for_each(|manifest| flip(manifest));
    env.write("d/50", "another");
    env.rb(["+t"]).expect(0);
    assert_eq!((env.read("out/50"), env.read("out/51")), ("another".to_owned(), "content 51".to_owned()));
    env.rb(["cache", "verify"]).expect(0);
}

/// As copies do that leave attributes or owners behind.
fn strip(directory: &Path, owners: bool) {
    for entry in fs::read_dir(directory).expect("lists") {
        let entry = entry.expect("lists");
        let path = entry.path();
        let file_type = entry.file_type().expect("is there");
        if owners {
            std::os::unix::fs::lchown(&path, Some(0), Some(0)).expect("gives");
        }
        if file_type.is_dir() {
            for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
                // Most have none.
                rustix::fs::removexattr(&path, name).ok();
            }
            strip(&path, owners);
        }
    }
}

#[test]
fn a_copy_of_the_state_that_lost_marks_or_owners_is_not_believed() {
    if !is_root() {
        eprintln!("stepping aside: this needs root, to give files away");
        return;
    }
    let env = project(
        "VERSION 1\na:\n    FROM @host\n    RUN mkdir -p /w/dir/sub && echo old > /w/dir/old && echo old > /w/dir/sub/old2\n\
         b:\n    FROM +a\n    RUN rm -rf /w/dir && mkdir /w/dir && echo new > /w/dir/new && chown 33:33 /w/dir/new\n\
         c:\n    FROM +b\n    ARG LAST=1\n    RUN cd /w && echo $LAST >/dev/null && find . | sort > /list && stat -c %u:%g dir/new >> /list\n    \
         SAVE ARTIFACT /list AS LOCAL list\n",
    );
    env.rb(["+c"]).expect(0);
    let right = env.read("list");
    assert!(right.contains("./dir/new") && !right.contains("old") && right.contains("33:33"), "{right}");
    for (owners, last) in [(false, "--LAST=2"), (true, "--LAST=3")] {
        strip(&env.state().join("snapshots"), owners);
        env.rb(["+c", last]).expect(0);
        assert_eq!(env.read("list"), right, "{last}");
    }
}
