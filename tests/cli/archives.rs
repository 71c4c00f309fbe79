//! Names of images, and archives of strangers.

use serde_json::json;

use crate::env::TestEnv;
use crate::push::Place;
use crate::registry::support::docker_registry::Wants;

#[test]
fn names_are_given_and_taken() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    let env = &place.env;
    env.rb(["+image"]).expect(0);
    env.rb(["image", "tag", "app", "docker.io/library/other:2"]).expect(0);
    env.rb(["image", "tag", "ap", "x"]).expect(2).says("did you mean `app`");
    env.rb(["image", "tag", "app", "No Name"]).expect(2).says("cannot be given");
    let names = |args: &[&str]| {
        let text = env.rb([&["image", "ls"], args].concat()).expect(0).stdout;
        text.lines().skip(1).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["app:latest", "other:2"]);
    assert_eq!(names(&["oth*"]), ["other:2"]);
    assert_eq!(names(&["-f", "reference=app"]), ["app:latest"]);
    env.rb(["image", "ls", "-f", "dangling=true"]).expect(2).says("reference=PATTERN");
    let digest = env.rb(["image", "ls", "-q", "app"]).expect(0).stdout.trim().to_owned();
    assert!(env.rb(["image", "ls", "--digests"]).expect(0).stdout.contains(&digest));
    env.rb(["image", "rm", &digest]).expect(2).says("app:latest, other:2");
    env.rb(["image", "rm", "-f", &digest, "none"]).expect(0);
    assert_eq!(names(&[]), [""; 0]);
    env.rb(["image", "push", "app"]).expect(2);
}

/// An archive of these entries; a path as it is.
fn archive(entries: &[(&str, Entry<'_>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, entry) in entries {
        let mut header = tar::Header::new_ustar();
        // As it is, whatever the library thinks of it.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        let (kind, bytes): (_, &[u8]) = match entry {
            Entry::File(bytes) => (tar::EntryType::Regular, bytes),
            Entry::Link(target) => {
                header.set_link_name_literal(target).expect("short");
                (tar::EntryType::Symlink, b"")
            }
            Entry::Pipe => (tar::EntryType::Fifo, b""),
        };
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

enum Entry<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Pipe,
}

#[test]
fn hostile_archives_are_refused() {
    let env = TestEnv::new();
    let layer = archive(&[("file", Entry::File(b"text"))]);
    let diff_id = rb_oci::Digest::of(&layer);
    let config = |diff_id: rb_oci::Digest| {
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
            .to_string()
    };
    let manifest =
        |layer: &str| json!([{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": [layer]}]).to_string();
    let (good, wrong) = (config(diff_id), config(rb_oci::Digest::of("other")));
    let load = |name: &str, bytes: &[u8]| {
        env.write(name, bytes);
        env.rb(["image", "load", "-i", name])
    };
    let docker = |config: &str, named: &str, rest: &[(&str, Entry<'_>)]| {
        let (config, manifest) = (config.to_owned(), manifest(named));
        let mut entries = vec![
            ("c.json", Entry::File(config.as_bytes())),
            ("manifest.json", Entry::File(manifest.as_bytes())),
        ];
        entries.extend(rest.iter().map(|(name, entry)| {
            let entry = match entry {
                Entry::File(bytes) => Entry::File(bytes),
                Entry::Link(target) => Entry::Link(target),
                Entry::Pipe => Entry::Pipe,
            };
            (*name, entry)
        }));
        archive(&entries)
    };
    let file = || Entry::File(&layer);
    // One that is as it should be, also through a link.
    load("good.tar", &docker(&good, "l.tar", &[("l.tar", file())])).expect(0);
    env.rb(["image", "rm", "bad:1"]).expect(0);
    load(
        "linked.tar",
        &docker(&good, "a/l.tar", &[("b/x.tar", file()), ("a/l.tar", Entry::Link("../b/x.tar"))]),
    )
    .expect(0);
    env.rb(["image", "rm", "bad:1"]).expect(0);
    for (name, bytes, says) in [
        ("up.tar", docker(&good, "../l.tar", &[("../l.tar", file())]), "leads out of it"),
        ("root.tar", docker(&good, "/l.tar", &[("/l.tar", file())]), "leads out of it"),
        (
            "out.tar",
            docker(&good, "l.tar", &[("l.tar", Entry::Link("../../../etc/passwd"))]),
            "leads out of it",
        ),
        ("loop.tar", docker(&good, "l.tar", &[("l.tar", Entry::Link("l.tar"))]), "too many others"),
        ("pipe.tar", docker(&good, "l.tar", &[("l.tar", Entry::Pipe)]), "neither file, folder nor link"),
        ("twice.tar", docker(&good, "l.tar", &[("l.tar", file()), ("./l.tar", file())]), "there twice"),
        ("wrong.tar", docker(&wrong, "l.tar", &[("l.tar", file())]), "diff id"),
        ("none.tar", docker(&good, "none.tar", &[("l.tar", file())]), "no file `none.tar`"),
        (
            "digest.tar",
            docker(&good, "l.tar", &[(&format!("blobs/sha256/{}", "0".repeat(64)), file())]),
            "digest",
        ),
        ("empty.tar", archive(&[]), "neither `index.json` nor `manifest.json`"),
        ("text.tar", b"this is no archive".repeat(100), "archive"),
        ("cut.tar", docker(&good, "l.tar", &[("l.tar", file())])[..1700].to_vec(), "archive"),
        (
            "deep.tar",
            archive(&[("manifest.json", Entry::File("[".repeat(1 << 20).as_bytes()))]),
            "manifest.json",
        ),
        ("large.tar", archive(&[("manifest.json", Entry::File(&vec![b' '; 5 << 20]))]), "larger than 4 MiB"),
        (
            "size.tar",
            archive(&[(
                "index.json",
                Entry::File(
                    json!({"schemaVersion": 2, "manifests": [{
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "digest": diff_id, "size": 1_u64 << 40,
                    }]})
                    .to_string()
                    .as_bytes(),
                ),
            )]),
            "descriptor says",
        ),
    ] {
        let run = load(name, &bytes).expect(2);
        assert!(run.stderr.contains(says), "{name}: {}", run.stderr);
    }
    assert_eq!(env.rb(["image", "ls", "-q"]).expect(0).stdout, "");
    env.rb(["image", "load", "-i", "nothing.tar"]).expect(2).says("does not exist");
}
