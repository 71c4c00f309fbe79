//! Images: listed, looked into, saved, read by other programs, forgotten.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command;

use rb_oci::{Digest, Platform};
use serde_json::{Value, json};

use crate::env::{TestEnv, copy_tree, hello};

fn built() -> TestEnv {
    let env = TestEnv::new();
    copy_tree(&hello(), &env.project());
    env.rb(["+image"]).expect(0);
    env
}

fn tool(name: &str) -> bool {
    let there = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .output()
        .is_ok_and(|out| out.status.success());
    if !there {
        eprintln!("stepping aside: there is no {name}");
    }
    there
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let env = built();
    assert!(env.rb(["image", "ls"]).expect(0).stdout.contains("hello:latest"));
    let details = env.rb(["image", "inspect", "hello"]).expect(0).stdout;
    assert!(
        serde_json::from_str::<serde_json::Value>(&details).is_ok() && details.contains("/hello"),
        "{details}"
    );
    env.rb(["image", "inspect", "helo"]).expect(2).says("hello");
    env.rb(["image", "rm", "hello"]).expect(0);
    env.rb(["image", "rm", "hello"]).expect(2);
    assert!(!env.rb(["image", "ls"]).expect(0).stdout.contains("hello:latest"));
}

#[test]
fn an_image_shows_when_it_was_made_and_is_saved_where_a_folder_is() {
    let env = TestEnv::new();
    env.write("one", "1\n")
        .write("Buildfile", "VERSION 1\nimage:\n    FROM scratch\n    COPY one /one\n    SAVE IMAGE app\n");
    env.rb_with(&[("SOURCE_DATE_EPOCH", "1700000000")], ["+image"]).expect(0);
    env.rb(["image", "tag", "app", "later"]).expect(0);
    let listed = env.rb(["image", "ls"]).expect(0).stdout;
    assert_eq!(listed.matches("2023-11-14 22:13:20").count(), 2, "{listed}");
    for format in ["oci-archive", "oci-dir", "docker-archive"] {
        let run = env.rb(["image", "save", "app", "--format", format, "-o", "missing/folder/x"]).expect(2);
        run.says("its folder does not exist").says("mkdir -p");
        assert!(!env.has("missing"));
    }
    env.rb(["image", "copy", "app", "oci-archive:missing/x.tar"]).expect(2).says("its folder does not exist");
    env.rb(["image", "save", "app", "-o", "x.tar"]).expect(0);
}

#[test]
fn skopeo_and_umoci_accept_what_is_saved() {
    if !tool("skopeo") || !tool("umoci") {
        return;
    }
    let env = built();
    env.rb(["image", "save", "hello", "-o", "hello.tar"]).expect(0);
    env.rb(["image", "save", "hello", "--format", "oci-dir", "-o", "layout"]).expect(0);
    let check = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(env.project()).output().expect("starts");
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check("skopeo", &["inspect", "oci-archive:hello.tar"]).contains("\"Layers\""));
    assert!(check("skopeo", &["inspect", "docker-archive:hello.tar"]).contains("\"Layers\""));
    check("skopeo", &["copy", "oci-archive:hello.tar", "oci:copied:latest"]);
    check("umoci", &["unpack", "--rootless", "--image", "layout:latest", "bundle"]);
    let unpacked = std::fs::read(env.project().join("bundle/rootfs/hello")).expect("umoci unpacked hello");
    let output = env.rb(["run", "hello"]).expect(0).stdout;
    let text = output.trim_end();
    assert!(unpacked.windows(text.len()).any(|window| window == text.as_bytes()));
}

#[test]
fn outputs_of_a_build_are_written_where_asked() {
    let env = built();
    env.rb(["-o", "type=oci,dest=i.tar", "+image"]).expect(0);
    env.rb(["-o", "type=oci,tar=false,dest=i", "+image"]).expect(0);
    env.rb(["-o", "type=tar,dest=files.tar", "+image"]).expect(0);
    env.rb(["-o", "type=local,dest=files", "+image"]).expect(0);
    assert!(env.project().join("i/index.json").exists() && env.project().join("i.tar").exists());
    assert!(env.project().join("files.tar").exists() && env.project().join("files/hello").exists());
    // As with Docker's exporter: what is there already stays.
    env.rb(["-o", ".", "+image"]).expect(0);
    assert!(env.project().join("Buildfile").exists() && env.project().join("hello").exists());
}

/// Puts a blob into a layout.
fn blob(env: &TestEnv, layout: &str, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    env.write(&format!("{layout}/blobs/sha256/{}", digest.hex()), bytes);
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Writes a layout with the image `layered:1` of these layers, each of files, of which those without content are links.
fn layered(env: &TestEnv, layout: &str, layers: &[&[(&str, Result<&str, &str>)]]) {
    let (mut described, mut diff_ids) = (Vec::new(), Vec::new());
    for files in layers {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in *files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_mtime(1);
            let bytes = content.unwrap_or_default();
            header.set_size(bytes.len() as u64);
            match content {
                Ok(_) => tar.append_data(&mut header, name, bytes.as_bytes()),
                Err(target) => {
                    header.set_entry_type(tar::EntryType::Link);
                    tar.append_link(&mut header, name, target)
                }
            }
            .expect("in memory");
        }
        let tar = tar.into_inner().expect("in memory");
        described.push(blob(env, layout, "application/vnd.oci.image.layer.v1.tar", &tar));
        diff_ids.push(Digest::of(&tar));
    }
    let host = Platform::host();
    let config = json!({
        "architecture": host.architecture, "os": host.os, "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(env, layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": described,
    });
    let text = manifest.to_string();
    let mut manifest = blob(env, layout, "application/vnd.oci.image.manifest.v1+json", text.as_bytes());
    manifest["annotations"] = json!({
        "io.containerd.image.name": "layered:1", "org.opencontainers.image.ref.name": "1",
    });
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    env.write(&format!("{layout}/index.json"), index.to_string());
    env.write(&format!("{layout}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn names_of_one_file_stay_that_when_an_image_is_unpacked() {
    let env = TestEnv::new();
    let lower: &[_] = &[("a", Ok("one")), ("b", Err("a")), ("c", Ok("two"))];
    let upper: &[_] = &[("d/c", Err("c")), ("e", Ok("two"))];
    layered(&env, "layout", &[lower, upper]);
    env.rb(["image", "load", "-i", "layout"]).expect(0);
    let linked = |root: &str| {
        let inode =
            |name: &str| std::fs::metadata(env.project().join(root).join(name)).expect("is there").ino();
        // Within a layer, onto one below, and two that are only alike.
        [("a", "b"), ("c", "d/c"), ("c", "e")].map(|(one, two)| inode(one) == inode(two))
    };
    std::fs::create_dir(env.project().join("empty")).expect("makes");
    for folder in ["new", "empty"] {
        env.rb(["image", "unpack", "layered:1", folder]).expect(0);
        assert_eq!(linked(folder), [true, true, false], "{folder}");
        assert_eq!(env.read(&format!("{folder}/d/c")), "two");
    }
    if tool("umoci") {
        let status = Command::new("umoci")
            .args(["unpack", "--rootless", "--image", "layout:1", "bundle"])
            .current_dir(env.project())
            .status()
            .expect("starts");
        assert!(status.success());
        assert_eq!(linked("bundle/rootfs"), [true, true, false]);
    }
}

#[test]
fn an_image_is_unpacked_to_where_a_link_leads() {
    let env = TestEnv::new();
    layered(&env, "layout", &[&[("a", Ok("one"))]]);
    env.rb(["image", "load", "-i", "layout"]).expect(0);
    std::fs::create_dir(env.project().join("real")).expect("makes");
    symlink("real", env.project().join("link")).expect("links");
    env.rb(["image", "unpack", "layered:1", "link"]).expect(0);
    assert!(env.project().join("link").is_symlink());
    assert_eq!(env.read("real/a"), "one");
    env.rb(["image", "unpack", "layered:1", "link"]).expect(2).says("is not an empty folder");
}

#[test]
fn an_archive_that_is_packed_otherwise_says_how_to_unpack_it() {
    let env = TestEnv::new();
    for (program, start) in [("xz", &b"\xfd7zXZ\0\0\x04"[..]), ("bzip2", b"BZh91AY&SY")] {
        let file = format!("image.tar.{program}");
        env.write(&file, start);
        let run = env.rb(["image", "load", "-i", &file]).expect(2);
        run.says(&format!("packed with {program}")).says(&format!("{program} -dc FILE | rb image load"));
    }
}

#[test]
fn an_image_of_dockers_types_becomes_one_that_tools_find_in_a_layout() {
    let env = TestEnv::new();
    env.write("f", "1\n");
    env.write("Buildfile", "VERSION 1\nimage:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE app:1\n");
    env.rb(["+image"]).expect(0);
    let oci = env.rb(["image", "copy", "app:1", "oci:first:1"]).expect(0).stdout;
    let docker = env.rb(["image", "copy", "--format", "docker", "app:1", "docker:1"]).expect(0).stdout;
    assert_ne!(docker, oci);
    // As it is, it keeps its digest.
    let run = env.rb(["image", "copy", "docker:1", "oci:kept:1"]).expect(0).says("`--format oci`");
    assert_eq!(run.stdout, docker);
    env.rb(["image", "copy", "docker:1", "oci:layout:1", "--format", "oci"]).expect(0).hides("--format");
    for (program, args) in [
        ("skopeo", &["inspect", "oci:layout:1"][..]),
        ("umoci", &["unpack", "--rootless", "--image", "layout:1", "bundle"]),
    ] {
        if tool(program) {
            let output =
                Command::new(program).args(args).current_dir(env.project()).output().expect("starts");
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    env.rb(["image", "copy", "oci:layout:1", "back:1"]).expect(0);
    env.rb(["image", "unpack", "back:1", "files"]).expect(0);
    assert_eq!(env.read("files/f"), "1\n");
}

/// The places of the manifests that the index `app:1` of the store names, with their platforms.
fn manifests_of(env: &TestEnv) -> Vec<(String, Value, std::path::PathBuf)> {
    let raw = env.rb(["image", "inspect", "--raw", "app:1"]).expect(0).stdout;
    let index: Value = serde_json::from_str(&raw).expect("JSON");
    let entries = index["manifests"].as_array().expect("a list").iter();
    let place = |digest: &Value| {
        let digest = digest.as_str().and_then(|text| text.parse::<Digest>().ok()).expect("a digest");
        env.state().join("blobs/sha256").join(digest.hex())
    };
    entries
        .map(|entry| {
            let named = &entry["platform"];
            let platform = format!(
                "{}/{}",
                named["os"].as_str().unwrap_or_default(),
                named["architecture"].as_str().unwrap_or_default()
            );
            let path = place(&entry["digest"]);
            let manifest = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
            (platform, manifest, path)
        })
        .collect()
}

#[test]
fn an_index_of_which_a_platform_is_missing_is_not_passed_on_as_if_it_were_whole() {
    let env = TestEnv::new();
    let host = Platform::host();
    let other = if host.architecture == "arm64" { "linux/amd64" } else { "linux/arm64" };
    env.write("f", "1\n");
    env.write("Buildfile", "VERSION 1\nimage:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE app:1\n");
    env.rb(["--platform", &format!("{host},{other}"), "+image"]).expect(0);
    env.rb(["cache", "verify"]).expect(0);
    let manifests = manifests_of(&env);
    let (_, _, gone) = manifests.iter().find(|(platform, ..)| platform == other).expect("is named");
    std::fs::remove_file(gone).expect("removes");
    for command in [
        &["image", "push", "app:1", "127.0.0.1:1/app:1"][..],
        &["image", "push", "--all-platforms", "app:1", "127.0.0.1:1/app:1"],
        &["image", "copy", "app:1", "oci:layout:1"],
    ] {
        let run = env.rb(command).expect(2).says("app:1");
        run.says(&format!("{other} is missing")).says(&format!("`--platform {host}`"));
    }
    for output in ["app.tar", "-"] {
        let run = env.rb(["image", "save", "app:1", "-o", output]).expect(2);
        run.says(&format!("{other} is missing")).says("rb image copy --platform");
    }
    assert!(!env.has("layout") && !env.has("app.tar"));
    let run = env.rb(["image", "unpack", "--platform", other, "app:1", "files"]).expect(2);
    run.says(&format!("lacks what is for {other}"));
    env.rb(["image", "copy", "--platform", &host.to_string(), "app:1", "oci:layout:1"]).expect(0);
    let run = env.rb(["image", "unpack", "--platform", "linux/s390x", "app:1", "files"]).expect(2);
    run.says("the image is not for linux/s390x; it is for").hides(&env.state().display().to_string());
    // It may never have been here, as of what was loaded.
    let told = env.rb(["cache", "verify"]).expect(0).stdout;
    assert!(told.contains(&format!("app:1 is an index of which {other} is not here")), "{told}");
}

#[test]
fn an_image_that_lost_its_index_manifest_or_config_is_named() {
    let host = Platform::host();
    for what in ["index", "manifest", "config"] {
        let env = TestEnv::new();
        env.write("f", "1\n");
        env.write("Buildfile", "VERSION 1\nimage:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE app:1\n");
        let platform = host.to_string();
        let platforms = format!("{host},linux/s390x");
        env.rb(["--platform", if what == "index" { &platforms } else { &platform }, "+image"]).expect(0);
        let listed: Value =
            serde_json::from_str(&env.rb(["image", "ls", "--json"]).expect(0).stdout).expect("JSON");
        let place = |digest: &Value| {
            let digest = digest.as_str().and_then(|text| text.parse::<Digest>().ok()).expect("a digest");
            env.state().join("blobs/sha256").join(digest.hex())
        };
        let root = place(&listed[0]["digest"]);
        let gone = match what {
            "config" => {
                let manifest: Value =
                    serde_json::from_slice(&std::fs::read(&root).expect("reads")).expect("JSON");
                place(&manifest["config"]["digest"])
            }
            _ => root,
        };
        std::fs::remove_file(gone).expect("removes");
        let told = env.rb(["cache", "verify"]).expect(1).stdout;
        assert!(
            told.contains(&format!("image app:1 lacks {what} ")) && told.contains("rb image rm"),
            "{told}"
        );
        let json = env.rb(["cache", "verify", "--json"]).expect(1).stdout;
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["images"]["broken"][0]["missing"][0]["what"], *what, "{json}");
        env.rb(["image", "rm", "app:1"]).expect(0);
        env.rb(["cache", "verify"]).expect(0);
    }
}
