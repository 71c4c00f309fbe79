//! What `rb pack build` is given beside the app: packages in files, registries of buildpacks, caches, users, and what
//! `rb pack config` keeps.

use crate::env::TestEnv;
use crate::git::git_host::GitHost;
use crate::pack::{FOR_ALL, PASS, Packed, is_known, runs};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};
use crate::registry::support::scripted::{Reply, Scripted};

const BUILD: &str = "#!/bin/sh\necho \"mine as $(busybox id -u):$(busybox id -g)\"\n";

/// A builder, and a buildpack of the user's in a package.
fn packed() -> Option<Packed> {
    let packed = Packed::new()?;
    packed.buildpack("test_mine", "1.0", "test/mine", PASS, BUILD);
    let place = packed.0.project();
    std::fs::rename(place.join("buildpacks/test_mine/1.0"), place.join("mine")).expect("moves");
    packed.0.rb(["pack", "buildpack", "package", "mine.cnb", "-p", "mine", "-f", "file"]).expect(0);
    Some(packed)
}

#[test]
fn packages_in_files() {
    let Some(packed) = packed() else { return };
    packed
        .pack("build", &["app:1", "-b", "./mine.cnb"])
        .expect(0)
        .says("test/mine 1.0\n")
        .says("mine as 1000:1000");
    packed
        .pack("build", &["app:1", "-b", "mine.cnb", "--uid", "1234", "--gid", "4321"])
        .expect(0)
        .says("mine as 1234:4321");
    packed.pack("build", &["app:1", "-b", "./mine", "--lifecycle", "rb"]).expect(0);
    packed.0.write("broken.cnb", "no package");
    for (words, message) in [
        (&["-b", "broken.cnb"][..], "broken.cnb`: the archive cannot be used"),
        (&["-b", "s3://example.com/a.cnb"], "http://, https://, file:// and docker://"),
        (&["-b", "urn:cnb:registry:test/mine"], "rb pack config registries add"),
        (&["--extension", "./mine"], "`./mine` is no extension: it is for `--buildpack`"),
        (&["--uid", "0"], "--uid"),
        (&["-r", "none"], "there is no registry of buildpacks `none`"),
        (&["--cache-image", "example.com/c"], "--publish"),
        (&["--cache", "type=build;format=image;name=example.com/c"], "goes with --publish"),
        (&["--cache", "type=build;format=tar"], "`tar` is none of volume, image and bind"),
        (&["--lifecycle-image", "x"], "--lifecycle=builder"),
    ] {
        packed.pack("build", &[&["app:1"][..], words].concat()).expect(2).says(message);
    }
}

#[test]
fn packages_of_the_web() {
    let Some(packed) = packed() else { return };
    let bytes = std::fs::read(packed.0.project().join("mine.cnb")).expect("reads");
    let served = bytes.clone();
    let server = Scripted::start(move |request, _| match request.path.as_str() {
        "/mine.cnb" | "/package" => Reply::new(200, &served[..]).with("ETag", "\"1\""),
        _ => Reply::new(404, ""),
    });
    // What it is, its content says, not its name.
    for (path, ran) in [("mine.cnb", "mine as 1000:1000"), ("package", &*is_known("build test/mine@1.0"))] {
        packed
            .pack("build", &["app:1", "-b", &format!("http://{}/{path}", server.host)])
            .expect(0)
            .says("test/mine 1.0\n")
            .says(ran);
    }
    // In a build file, too, and so a file beside it.
    for word in ["mine.cnb", &format!("http://{}/mine.cnb", server.host)] {
        packed.0.write(
            "Buildfile",
            format!("VERSION 1\napp:\n    FROM BUILDPACKS --builder=builder:1 --buildpack={word} ./app\n"),
        );
        packed.0.rb(["--progress=plain", "+app"]).expect(0).says("build test/mine@1.0");
    }
    // A layout that is none of a package, and one whose blobs are others.
    let folder = tempfile::tempdir().expect("a folder");
    let tar = |name: &str, change: &dyn Fn(&std::path::Path)| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("makes");
        tar::Archive::new(&bytes[..]).unpack(&place).expect("unpacks");
        change(&place);
        let mut out =
            tar::Builder::new(std::fs::File::create(packed.0.project().join(name)).expect("a file"));
        out.append_dir_all("", &place).expect("packs");
        out.finish().expect("writes");
    };
    tar("empty.cnb", &|place| {
        std::fs::write(place.join("index.json"), "{\"manifests\":[]}").expect("writes");
    });
    tar("other.cnb", &|place| {
        for blob in std::fs::read_dir(place.join("blobs/sha256")).expect("lists") {
            std::fs::write(blob.expect("an entry").path(), "{}").expect("writes");
        }
    });
    for (word, message) in [("empty.cnb", "it holds none for"), ("other.cnb", "is something else")] {
        let text =
            format!("VERSION 1\napp:\n    FROM BUILDPACKS --builder=builder:1 --buildpack={word} ./app\n");
        packed.0.write("Buildfile", text);
        packed.0.rb(["--progress=plain", "+app"]).expect(2).says(&format!("package `{word}`")).says(message);
    }
}

#[test]
fn volumes_where_buildpacks_lie_are_told() {
    let Some(packed) = packed() else { return };
    packed.0.write("more/file", "text");
    let build = |target: &str| {
        packed
            .pack("build", &["app:1", "-b", "./mine.cnb", "--volume", &format!("more:{target}:ro")])
            .expect(0)
    };
    for target in ["/cnb/more", "/layers/more", "/workspace-more"] {
        build(target).says(&format!("Mounting to a sensitive directory '{target}'"));
    }
    build("/more").hides("sensitive");
}

#[test]
fn registries_are_asked_after_a_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let Some(packed) = packed() else { return };
    let name = |image: &str| format!("{}/{image}:1", registry.host);
    for image in ["builder", "run"] {
        packed.0.rb(["image", "push", &format!("{image}:1"), &name(image)]).expect(0);
    }
    let (builder, run) = (name("builder"), name("run"));
    let detect = |when: &[&str]| {
        let words = ["pack", "detect", "-p", "app", "-B", &builder, "--run-image", &run];
        packed.0.rb(words.iter().chain(when))
    };
    detect(&["--pull-policy", "daily"]).expect(0);
    drop(registry);
    for when in ["hourly", "weekly", "interval=1d2h3m", "if-not-present"] {
        detect(&["--pull-policy", when]).expect(0);
    }
    detect(&["--pull-policy", "interval=0m"]).expect(3).says(&builder);
    let config = |words: &[&str]| packed.0.rb(["pack", "config", "pull-policy"].iter().chain(words));
    assert_eq!(config(&["weekly"]).expect(0).stdout, "Successfully set 'weekly' as the pull policy\n");
    detect(&[]).expect(0);
    assert_eq!(
        config(&["interval=0m"]).expect(0).stdout,
        "Successfully set 'interval=0m' as the pull policy\n"
    );
    assert_eq!(config(&[]).expect(0).stdout, "The current pull policy is 'interval=0m'\n");
    detect(&[]).expect(3);
    // What was made here was never asked for.
    packed.pack("detect", &["--run-image", "run:1"]).expect(0);
    for wrong in ["sometimes", "interval=", "interval=1m2d", "interval=1w", "interval=+1d"] {
        config(&[wrong]).expect(2).says("no pull policy");
    }
}

#[test]
fn a_cache_image_of_another_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let (image, cache) = (format!("{}/app:1", registry.host), format!("{}/cache:1", registry.host));
    let build = |packed: &Packed| {
        let words = [&image, "--publish", "--cache-image", &cache];
        packed.pack("build", &[&words[..], &FOR_ALL].concat()).expect(0)
    };
    let Some(packed) = Packed::new() else { return };
    let first = build(&packed).says(&runs("build test/one@1.0"));
    // A machine that has built nothing.
    let Some(other) = Packed::new() else { return };
    let second = build(&other);
    for known in [
        "detect test/one@1.0",
        "detect test/never@1.0",
        "detect test/two@2.0",
        "build test/one@1.0",
        "build test/two@2.0",
    ] {
        assert!(second.stderr.contains(&is_known(known)), "{known}: {}", second.stderr);
    }
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn registries_of_buildpacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let Some(packed) = packed() else { return };
    let image = format!("{}/mine", registry.host);
    let words = ["pack", "buildpack", "package", &image, "-p", "mine", "--publish"];
    let digest = packed.0.rb(words).expect(0).stdout.trim().to_owned();
    let host = GitHost::start();
    let index = host.repository("team/index");
    let line = |version: &str, digest: &str| {
        format!(
            r#"{{"ns":"test","name":"mine","version":"{version}","yanked":false,"addr":"{image}@{digest}"}}"#
        )
    };
    let other = format!("sha256:{}", "0".repeat(64));
    index.write("mi/ne/test_mine", &format!("{}\n{}\n", line("0.9", &other), line("1.0", &digest)));
    index.commit();
    let config = |words: &[&str]| packed.0.rb(["pack", "config"].iter().chain(words)).expect(0).stdout;
    assert_eq!(
        config(&["registries", "add", "own", &host.url("team/index")]),
        "Successfully added 'own' to registries\n"
    );
    let named = ["app:1", "-b", "urn:cnb:registry:test/mine", "-r", "own"];
    packed.pack("build", &named).expect(0).says("test/mine 1.0\n").says("mine as 1000:1000");
    packed.pack("build", &named[..3]).expect(2).says("no registry of buildpacks is known here");
    config(&["registries", "default", "own"]);
    packed.pack("build", &["app:1", "-b", "urn:cnb:registry:test/mine@1.0"]).expect(0);
    packed
        .pack("build", &["app:1", "-b", "urn:cnb:registry:test/mine@2"])
        .expect(2)
        .says("the registry has no version 2 of buildpack `test/mine`");
    packed
        .pack("build", &["app:1", "-b", "urn:cnb:registry:test/none"])
        .expect(2)
        .says("the registry has no buildpack `test/none`");
    // An id that the builder has none of is the registry's; one that is yanked says so.
    packed.pack("build", &["app:1", "-b", "test/mine@1.0"]).expect(0).says("test/mine 1.0\n");
    packed
        .pack("build", &["app:1", "-b", "test/none"])
        .expect(2)
        .says("the builder has no buildpack `test/none`, and the registry has no buildpack `test/none`");
    let yanked = line("1.0", &digest).replace("\"yanked\":false", "\"yanked\":true");
    index.write("mi/ne/test_mine", &format!("{yanked}\nnot JSON\n"));
    index.commit();
    packed
        .pack("build", &["app:1", "-b", "test/mine@1.0"])
        .expect(0)
        .says("buildpack `test/mine@1.0` is yanked in its registry");
    packed
        .pack("build", &["app:1", "-b", "urn:cnb:registry:test/mine"])
        .expect(2)
        .says("all versions of buildpack `test/mine` in the registry are yanked (1.0)");
    // A package by the name of its image alone, as its host tells.
    packed.pack("build", &["app:1", "-b", &format!("{image}:latest")]).expect(0).says("test/mine 1.0\n");
}

#[test]
fn caches_of_other_machines() {
    let Some(packed) = Packed::new() else { return };
    let build = |packed: &Packed, more: &[&str]| {
        packed.pack("build", &[&["app:1"][..], &FOR_ALL, more].concat()).expect(0)
    };
    let place = packed.0.project().join("kept");
    let cache = format!("type=build;format=bind;source={}", place.display());
    build(&packed, &["--cache", &cache]).says(&runs("build test/one@1.0"));
    assert!(place.join("index.json").exists());
    let Some(other) = Packed::new() else { return };
    build(&other, &["--cache", &cache])
        .says(&is_known("detect test/never@1.0"))
        .says(&is_known("build test/one@1.0"))
        .says(&is_known("build test/two@2.0"));
    assert_eq!(packed.image("app:1"), other.image("app:1"));
    // What is kept goes by a name of its own.
    build(&packed, &["--cache", "type=build;format=volume;name=mine", "-e", "FOR=b"]).says("seen before: 0");
    build(&packed, &["--cache", "type=launch;format=volume", "-e", "FOR=c"])
        .says("--cache type=launch says nothing here")
        .says("seen before: 1");
    let named = ["other:1", "--cache", "format=volume;name=mine", "-e", "FOR=d", "-e", "USERS=all"];
    packed.pack("build", &named).expect(0).says("seen before: 1");
}

#[test]
fn what_is_said_once_for_all() {
    let Some(packed) = Packed::new() else { return };
    let env: &TestEnv = &packed.0;
    let config = |words: &[&str]| env.rb(["pack", "config"].iter().chain(words)).expect(0).stdout;
    env.rb(["pack", "build", "app:1", "-p", "app"]).expect(2).says("rb pack config default-builder IMAGE");
    assert_eq!(config(&["default-builder", "builder:1"]), "Builder 'builder:1' is now the default builder\n");
    assert_eq!(config(&["default-builder"]), "The current default builder is 'builder:1'\n");
    env.rb(["pack", "build", "app:1", "-p", "app"]).expect(0);
    assert_eq!(env.rb(["pack", "detect", "-p", "app"]).expect(0).stdout, "test/one 1.0\ntest/two 2.0\n");
    // A name of the base that is tried before the builder's.
    env.rb(["image", "tag", "run:1", "mirror.example.com/run:1"]).expect(0);
    let mirror = ["run-image-mirrors", "add", "run:1", "-m", "mirror.example.com/run:1"];
    assert_eq!(config(&mirror), "Run Image 'run:1' configured with mirror 'mirror.example.com/run:1'\n");
    assert_eq!(
        config(&["run-image-mirrors", "list"]),
        "Run Image Mirrors:\n  'run:1':\n    mirror.example.com/run:1\n"
    );
    let reference = || {
        let config = packed.image("mirror.example.com/app:1");
        let label =
            config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().map(ToOwned::to_owned);
        label.expect("a label")
    };
    env.rb(["pack", "build", "mirror.example.com/app:1", "-p", "app"]).expect(0);
    assert!(reference().contains(r#""reference":"mirror.example.com/run"#), "{}", reference());
    config(&["run-image-mirrors", "remove", "run:1"]);
    env.rb(["pack", "build", "mirror.example.com/app:1", "-p", "app"]).expect(0);
    assert!(!reference().contains("mirror.example.com"), "{}", reference());
    assert_eq!(config(&["pull-policy"]), "The current pull policy is 'if-not-present'\n");
    assert_eq!(config(&["pull-policy", "never"]), "Successfully set 'never' as the pull policy\n");
    let absent = ["pack", "build", "app:1", "-p", "app", "--run-image", "mirror.example.com/none"];
    env.rb(absent).expect(2).says("--pull-policy never asks no registry");
    config(&["pull-policy", "--unset"]);
    assert_eq!(config(&["trusted-builders", "add", "b:1"]), "Builder 'b:1' is now trusted\n");
    assert_eq!(config(&["trusted-builders", "list"]), "Trusted Builders:\n  b:1\n");
    assert_eq!(config(&["trusted-builders", "remove", "b:1"]), "Builder 'b:1' is no longer trusted\n");
    assert_eq!(config(&["experimental", "true"]), "Experimental features enabled!\n");
    assert_eq!(config(&["default-builder", "--unset"]), "Successfully unset default builder 'builder:1'\n");
    for (words, message) in [
        (&["lifecycle-image", "x"][..], "`rb pack config lifecycle-image` is not part of this version"),
        (&["registry-mirrors", "add", "--mirror", "x"], "rb help config"),
        (&["registries", "remove", "none"], "registry 'none' does not exist"),
    ] {
        env.rb(["pack", "config"].iter().chain(words)).expect(2).says(message);
    }
}
