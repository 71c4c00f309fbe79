//! Where images and files go: formats, compressions, several at once, what is told of them, and who takes them over.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use rb_oci::Digest;
use serde_json::Value;

use crate::env::TestEnv;

const TEXT: &str = "VERSION 0.8\n\
    made:\n    FROM @host\n    RUN mkdir -p /d/sub && seq 1 20000 > /d/numbers && echo lib > /d/sub/lib\n    SAVE ARTIFACT /d d\n\
    image:\n    FROM scratch\n    COPY +made/d /d\n    COPY one /one\n    LABEL a=b\n    SAVE IMAGE app:1\n\
    plain:\n    FROM scratch\n    COPY one /one\n";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("one", "1\n");
    env
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs a tool in the project; `None`, with a word, where it is missing.
fn run(env: &TestEnv, tool: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(tool).args(args).current_dir(env.project()).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("stepping aside: there is no {tool}: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The manifest of the one image of a layout.
fn manifest(env: &TestEnv, layout: &str) -> Value {
    let index = json(&env.read(&format!("{layout}/index.json")));
    blob(env, layout, index["manifests"][0]["digest"].as_str().expect("a digest"))
}

fn blob(env: &TestEnv, layout: &str, digest: &str) -> Value {
    json(&env.read(&format!("{layout}/blobs/{}", digest.replace(':', "/"))))
}

#[test]
fn every_compression_is_read_by_others_and_holds_the_same() {
    let env = project();
    let forms = [
        ("gzip", "compression=gzip", "tar+gzip"),
        ("fast", "compression=gzip,compression-level=1", "tar+gzip"),
        ("zstd", "compression=zstd,compression-level=5", "tar+zstd"),
        ("plain", "compression=uncompressed", "tar"),
    ];
    let mut args: Vec<String> = Vec::new();
    for (name, fields, _) in forms {
        args.extend(["-o".to_owned(), format!("type=oci,tar=false,dest={name},{fields}")]);
        args.extend(["-o".to_owned(), format!("type=oci,dest={name}.tar,{fields}")]);
    }
    args.push("+image".to_owned());
    env.rb(&args).expect(0);
    let mut diff_ids = Vec::new();
    for (name, _, media_type) in forms {
        let manifest = manifest(&env, name);
        for layer in manifest["layers"].as_array().expect("a list") {
            let expected = format!("application/vnd.oci.image.layer.v1.{media_type}");
            assert_eq!(layer["mediaType"], expected.as_str(), "{name}");
        }
        let config = blob(&env, name, manifest["config"]["digest"].as_str().expect("a digest"));
        diff_ids.push(config["rootfs"]["diff_ids"].clone());
        let Some(inspected) = run(&env, "skopeo", &["inspect", &format!("oci-archive:{name}.tar")]) else {
            continue;
        };
        assert_eq!(json(&inspected)["Labels"]["a"], "b");
        // Decompressed by others, layers are the tars that the config tells.
        let (from, to) = (format!("oci-archive:{name}.tar"), format!("dir:{name}.copy"));
        run(&env, "skopeo", &["copy", "--dest-decompress", &from, &to]);
        for diff_id in config["rootfs"]["diff_ids"].as_array().expect("a list") {
            let hex = diff_id.as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
            assert!(env.has(&format!("{name}.copy/{hex}")), "{name}: no layer {hex}");
        }
        // Before 0.5 umoci knew no zstd.
        let umoci = ["unpack", "--rootless", "--image", &format!("{name}:1"), &format!("{name}.d")];
        if name != "zstd" && run(&env, "umoci", &umoci).is_some() {
            assert_eq!(env.read(&format!("{name}.d/rootfs/one")), "1\n", "{name}");
            assert!(env.read(&format!("{name}.d/rootfs/d/numbers")).ends_with("\n20000\n"), "{name}");
        }
    }
    assert!(diff_ids.iter().all(|ids| *ids == diff_ids[0]), "{diff_ids:?}");
}

#[test]
fn archives_are_equal_in_every_folder_and_state() {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let env = project();
        for fields in ["compression=zstd", "compression=gzip,oci-mediatypes=false", "compression=gzip"] {
            env.rb(["-o", &format!("type=oci,dest=a.tar,{fields}"), "+plain"]).expect(0);
            digests.push(Digest::of(std::fs::read(env.project().join("a.tar")).expect("reads")));
        }
        env.rb(["-o", "type=tar,dest=f.tar", "+plain"]).expect(0);
        digests.push(Digest::of(std::fs::read(env.project().join("f.tar")).expect("reads")));
    }
    let (one, two) = digests.split_at(4);
    assert_eq!(one, two);
    assert!(one[0] != one[1] && one[1] != one[2]);
}

#[test]
fn an_archive_for_docker_is_what_docker_reads() {
    let env = project();
    env.rb(["-o", "type=docker,dest=app.tar,\"name=app:2,localhost:5000/app\"", "+image"]).expect(0);
    let tar = std::fs::read(env.project().join("app.tar")).expect("reads");
    let mut archive = tar::Archive::new(&tar[..]);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().expect("is a tar") {
        let mut entry = entry.expect("is an entry");
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("reads");
        files.insert(entry.path().expect("a path").display().to_string(), content);
    }
    let told: Value = serde_json::from_slice(&files["manifest.json"]).expect("is JSON");
    assert_eq!(told[0]["RepoTags"], serde_json::json!(["app:2", "localhost:5000/app:latest"]));
    for layer in told[0]["Layers"].as_array().expect("a list") {
        assert!(files.contains_key(layer.as_str().expect("a path")));
    }
    let index: Value = serde_json::from_slice(&files["index.json"]).expect("is JSON");
    let media_type = &index["manifests"][0]["mediaType"];
    assert_eq!(media_type, "application/vnd.docker.distribution.manifest.v2+json");
    let Some(inspected) = run(&env, "skopeo", &["inspect", "docker-archive:app.tar:app:2"]) else { return };
    assert_eq!(json(&inspected)["Labels"]["a"], "b");
    run(&env, "skopeo", &["copy", "docker-archive:app.tar:app:2", "dir:copied"]);
}

#[test]
fn an_archive_on_stdout_is_all_there_is() {
    let env = project();
    env.rb(["-o", "type=oci,dest=file.tar", "-o", "type=tar,dest=files.tar", "+plain"]).expect(0);
    let expected = |name: &str| std::fs::read(env.project().join(name)).expect("reads");
    for (output, file) in
        [("type=oci,dest=-", "file.tar"), ("-", "files.tar"), ("type=tar,dest=-", "files.tar")]
    {
        for quiet in [&["-q"][..], &[]] {
            let child = env.spawn(quiet.iter().copied().chain(["-o", output, "+plain"]));
            let done = child.wait_with_output().expect("ends");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(done.stdout == expected(file), "{output} {quiet:?}: {} bytes", done.stdout.len());
        }
    }
    env.rb(["-o", "-", "-o", "type=oci,dest=-", "+plain"]).expect(2).says("two outputs go to `-`");
}

#[test]
fn what_was_made_is_told_to_other_programs() {
    let env = project();
    env.rb([
        "--metadata-file",
        "meta.json",
        "--iidfile=id",
        "--annotation=org.example.who=me",
        "--annotation",
        "manifest-descriptor:org.example.where=here",
        "-o",
        "type=oci,tar=false,dest=layout,name=other:2,annotation.own=1",
        "+image",
    ])
    .expect(0);
    let told = json(&env.read("meta.json"));
    let index = json(&env.read("layout/index.json"));
    let manifest = manifest(&env, "layout");
    assert_eq!(told["containerimage.digest"], index["manifests"][0]["digest"]);
    assert_eq!(told["containerimage.descriptor"]["size"], index["manifests"][0]["size"]);
    assert_eq!(told["containerimage.config.digest"], manifest["config"]["digest"]);
    assert_eq!(told["image.name"], "other:2");
    assert_eq!(told["containerimage.config.digest"], env.read("id"));
    assert_eq!(manifest["annotations"]["org.example.who"], "me");
    assert_eq!(manifest["annotations"]["own"], "1");
    assert_eq!(index["manifests"][0]["annotations"]["org.example.where"], "here");
    let images = told["rb.images"].as_array().expect("a list");
    assert_eq!(images.len(), 2, "the saved one and the one written");
    assert_eq!((&images[0]["image.name"], images[0].get("destination")), (&"app:1".into(), None));
    // The saved one is annotated as well.
    let details = env.rb(["image", "inspect", "app:1"]).expect(0).stdout;
    assert_eq!(json(&details)[0]["manifest"]["digest"], images[0]["containerimage.digest"]);

    // Both may go to stdout, where the other is not.
    let streamed = json(&env.rb(["--metadata-file", "-", "+image"]).expect(0).stdout);
    assert_eq!(streamed["image.name"], "app:1");
    let id = streamed["containerimage.config.digest"].as_str().expect("a digest").to_owned();
    assert_eq!(env.rb(["--iidfile", "-", "+image"]).expect(0).stdout, format!("{id}\n"));
    assert!(!env.has("-"));
    env.rb(["--iidfile=id2", "+plain"]).expect(2).says("--iidfile");
    assert!(!env.has("id2"));
    env.rb(["--metadata-file=m2.json", "-o", "files", "+plain"]).expect(0);
    assert_eq!(json(&env.read("m2.json")), serde_json::json!({"rb.images": []}));
    env.rb(["--annotation", "index:a=b", "+plain"]).expect(2).says("no index of its own");
    env.rb(["--annotation", "a", "+plain"]).expect(2).says("KEY=VALUE");
}

#[test]
fn images_of_the_store_are_named_as_asked() {
    let env = project();
    env.rb([
        "-o",
        "type=image,\"name=a:1,b\",name-canonical=true",
        "-o",
        "type=image,dangling-name-prefix=x",
        "+plain",
    ])
    .expect(0);
    let listed = json(&env.rb(["image", "ls", "--json"]).expect(0).stdout);
    let names: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|image| image["name"].as_str()).collect();
    let digest = listed[0]["digest"].as_str().expect("a digest");
    let at = |name: &str| format!("{name}@{digest}");
    assert_eq!(names, ["a:1", &at("a"), "b:latest", &at("b"), &at("x")]);
    for output in ["type=image,name=a,push=true", "type=registry,name=localhost:1/a"] {
        let done = env.rb(["-o", output, "+plain"]);
        assert_ne!(done.code, 0, "{output}: {}", done.stderr);
    }
}

#[test]
fn a_folder_is_merged_or_replaced_and_what_is_equal_stays() {
    let env = project();
    env.write("out/own", "mine");
    env.rb(["-o", "type=local,dest=out", "+image"]).expect(0);
    let inode = |path: &str| std::fs::metadata(env.project().join(path)).expect("is there").ino();
    let before = (inode("out/one"), inode("out/d/numbers"));
    env.write("one", "2\n");
    env.rb(["-o", "type=local,dest=out", "+image"]).expect(0);
    assert_eq!((env.read("out/own"), env.read("out/one")), ("mine".to_owned(), "2\n".to_owned()));
    assert_ne!(inode("out/one"), before.0);
    assert_eq!(inode("out/d/numbers"), before.1, "an equal file was written again");
    env.rb(["-o", "type=local,dest=out,mode=delete", "+image"]).expect(0);
    assert!(!env.has("out/own"));
    assert_eq!(inode("out/d/numbers"), before.1, "an equal file was written again");
    env.rb(["-o", "type=local,dest=.,mode=delete", "+image"]).expect(2).says("the workspace");
}

#[test]
fn a_link_that_is_typed_is_followed_and_one_in_the_way_of_a_build_file_is_replaced() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM scratch\n    COPY one /d/one\n    SAVE ARTIFACT /d AS LOCAL saved\n    SAVE ARTIFACT /d/one AS LOCAL one-saved\n    SAVE IMAGE app\n";
    env.write("Buildfile", text)
        .write("one", "1\n")
        .write("real/own", "mine")
        .write("real/files/own", "mine");
    for (target, link) in [
        ("real/files", "files"),
        ("real/a.tar", "a.tar"),
        ("real/b.tar", "b.tar"),
        ("real/layout", "layout"),
        ("real", "saved"),
        ("real/own", "one-saved"),
    ] {
        symlink(target, env.project().join(link)).expect("links");
    }
    env.write("real/a.tar", "old");
    let mode = |path: &str| std::fs::metadata(env.project().join(path)).expect("is there").mode() & 0o777;
    std::fs::set_permissions(env.project().join("real/a.tar"), Permissions::from_mode(0o640))
        .expect("chmods");
    std::fs::create_dir(env.project().join("real/layout")).expect("makes");
    let outputs = [
        "type=local,dest=files",
        "type=tar,dest=a.tar",
        "type=oci,dest=b.tar",
        "type=oci,tar=false,dest=layout",
    ];
    let mut args: Vec<&str> = outputs.iter().flat_map(|output| ["-o", *output]).collect();
    args.push("+t");
    env.rb(&args).expect(0);
    let is_link = |path: &str| env.project().join(path).is_symlink();
    assert!(["files", "a.tar", "b.tar", "layout"].iter().all(|link| is_link(link)));
    assert_eq!(
        (env.read("real/files/d/one"), env.read("real/files/own")),
        ("1\n".to_owned(), "mine".to_owned())
    );
    assert!(env.has("real/b.tar") && env.has("real/layout/oci-layout"));
    assert!(std::fs::read(env.project().join("real/a.tar")).expect("reads").len() > 1024);
    assert_eq!(mode("real/a.tar"), 0o640);
    // What a build file names is replaced, and what the links led to is as it was.
    assert!(!is_link("saved") && !is_link("one-saved") && env.has("saved/one"));
    assert_eq!(env.read("real/own"), "mine");
    // A link to what is dear is as dear as that.
    symlink(env.project(), env.project().join("real/back")).expect("links");
    env.rb(["-o", "type=local,dest=real/back,mode=delete", "+t"]).expect(2).says("the workspace");
    assert!(env.has("Buildfile"));
}

#[test]
fn an_image_is_loaded_only_where_somebody_takes_it() {
    let env = project();
    let socket = format!("unix://{}", env.project().join("none.sock").display());
    let docker = [("DOCKER_HOST", socket.as_str())];
    env.rb_with(&docker, ["--load=docker", "+image"])
        .expect(3)
        .says("no Docker daemon answers")
        .says("DOCKER_HOST");
    env.rb_with(&[("DOCKER_HOST", "tcp://example.org")], ["--load=docker", "+image"])
        .expect(2)
        .says("DOCKER_HOST");
    env.rb_with(&docker, ["-o", "type=docker", "+plain"]).expect(3).says("no Docker daemon answers");
    env.rb(["--load", "+plain"]).expect(2).says("saves no image");
    env.rb(["--load", "--no-output", "+image"]).expect(2);
}

#[test]
fn what_cannot_be_written_is_told_before_anything_is() {
    let env = TestEnv::new();
    let text = "VERSION 0.8\nok:\n    FROM @host\n    RUN echo ran > /f\n    SAVE ARTIFACT /f\nimage:\n    FROM scratch\n    \
                COPY +ok/f /f\n    SAVE ARTIFACT /f AS LOCAL out\n    COPY odd /.wh.f\n    SAVE IMAGE app\n\
                plain:\n    FROM scratch\n    COPY +ok/f /f\n    SAVE IMAGE plain\n";
    env.write("Buildfile", text).write("odd", "").write("file", "mine");
    // Names that a layer cannot hold: no file of the build is there, and no image.
    for output in ["type=oci,dest=x.tar", "type=image,name=b", "type=tar,dest=f.tar"] {
        env.rb(["-o", "type=local,dest=files", "-o", output, "+image"]).expect(2).says(".wh.f");
        for path in ["out", "files", "x.tar", "f.tar"] {
            assert!(!env.has(path), "{output}: {path}");
        }
    }
    assert!(!env.rb(["image", "ls"]).expect(0).stdout.contains("app"));
    // Places and names, before any step runs.
    for (words, says) in [
        (&["-o", "type=local,dest=file"][..], "dest=file is a file"),
        (&["-o", "type=local,dest=file,mode=delete"], "dest=file is a file"),
        (&["-o", "type=oci,dest=."], "is a folder"),
        (&["-o", "type=image,name=Bad"], "name=Bad\n       ^^^"),
        (&["--metadata-file", "-", "--iidfile=-"], "`--metadata-file -` and `--iidfile -` both write"),
        (
            &["--metadata-file", "-", "-o", "type=oci,dest=-"],
            "`--metadata-file -` and `-o dest=-` both write",
        ),
        (&["--iidfile", "-", "-q"], "`--iidfile -` and `--quiet` both write"),
        (&["--metadata-file", "missing/m"], "its folder does not exist"),
        (&["--iidfile", "missing/id"], "its folder does not exist"),
        (&["--metadata-file", "."], "it is a folder"),
    ] {
        let run = env.rb([words, &["--no-cache", "+plain"]].concat()).expect(2).says(says);
        assert!(!run.stderr.contains("RUN echo"), "{words:?}: {}", run.stderr);
    }
    env.rb(["--image", "--iidfile", "missing/id", "+plain"]).expect(2).says("its folder does not exist");
    // A file that is renamed to a device would take its place.
    let pipe = env.project().join("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("makes");
    std::os::unix::fs::symlink("/dev/null", env.project().join("null")).expect("links");
    for place in ["pipe", "null"] {
        for words in [
            [format!("--iidfile={place}"), "--metadata-file=m".to_owned()],
            [format!("--metadata-file={place}"), "--iidfile=id".to_owned()],
            ["-o".to_owned(), format!("type=tar,dest={place}")],
            ["-o".to_owned(), format!("type=oci,dest={place}")],
            ["-o".to_owned(), format!("type=local,dest={place}")],
        ] {
            let run =
                env.rb([&words[..], &["--no-cache".to_owned(), "+plain".to_owned()]].concat()).expect(2);
            assert!(!run.stderr.contains("RUN echo"), "{words:?}: {}", run.stderr);
            run.says("is a device, pipe or socket");
        }
    }
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.symlink_metadata().expect("is there").file_type()));
    assert!(env.project().join("null").is_symlink());
    assert_eq!(env.read("file"), "mine");
    assert!(!env.has("missing"));
    env.rb(["-o", "type=local,dest=new/folder", "--iidfile", "id", "+plain"]).expect(0);
}
