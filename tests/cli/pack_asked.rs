//! What `rb pack build` is asked for, and what it refuses: names that would be taken for others, volumes and bindings, several
//! platforms, words of project descriptors, words and options of pack.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::pack::{FOR_ALL, PASS, Packed};

/// Reads what only its owner may, writes beside it, and tells of a binding's files.
const BUILD_LENT: &str = r#"#!/bin/sh
set -e
echo "volume: $(cat /lent/private), $(cat /file)"
echo more > /lent/made
echo more >> /file
if [ -d /platform/bindings/db ]; then
  echo "binding: $(cat /platform/bindings/db/type), $(cat /platform/bindings/db/password)"
  test "$(cat /platform/bindings/db/password)" = 'the-secret-of-the-database'
  ! (echo x > /platform/bindings/db/password) 2>/dev/null
  echo secret > secret.txt
fi
"#;

const SECRET: &str = "the-secret-of-the-database";

/// A builder, and a folder `mine` of a buildpack of the user's.
fn with_mine(build: &str) -> Option<Packed> {
    let packed = Packed::new()?;
    packed.buildpack("test_mine", "1.0", "test/mine", PASS, build);
    let place = packed.0.project();
    std::fs::rename(place.join("buildpacks/test_mine/1.0"), place.join("mine")).expect("moves");
    Some(packed)
}

#[test]
fn an_app_takes_no_image_of_those_that_build_it() {
    let Some(packed) = Packed::new() else { return };
    packed.0.rb(["image", "tag", "builder:1", "v:1"]).expect(0);
    let before = packed.digest("v:1");
    for (image, builder, more, what) in [
        ("v:1", "v:1", &[][..], "the builder `v:1`"),
        ("v:2", "v:1", &[], "the builder `v:1`"),
        ("registry.example.com/library/v", "v:1", &[], "the builder `v:1`"),
        ("app:1", "v:1", &["-t", "v:1"], "the builder `v:1`"),
        ("run:2", "v:1", &["--run-image", "run:1"], "the run image `run:1`"),
        ("buildpacksio/lifecycle:0.21", "v:1", &[], "the lifecycle"),
    ] {
        let words = ["pack", "build", image, "-B", builder, "-p", "app"];
        packed.0.rb(words.iter().chain(more)).expect(2).says("cannot be called").says(what);
    }
    // What the builder says of its base, it says once it is looked at.
    packed.pack("build", &["run:1"]).expect(2).says("that is the repository of its run image `run:1`");
    assert_eq!(packed.digest("v:1"), before);
}

#[test]
fn volumes_are_the_builds_own_and_bindings_nobodys() {
    let Some(packed) = with_mine(BUILD_LENT) else { return };
    let env = &packed.0;
    env.write("lent/private", "for its owner").write("file", "alone").write("db/type", "postgresql");
    env.write("db/password", SECRET);
    for path in ["lent/private", "file", "db/password"] {
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(env.project().join(path), mode).expect("modes");
    }
    let volumes = ["app:1", "-b", "./mine", "--volume", "lent:/lent:rw", "--volume", "file:/file:rw"];
    packed
        .pack("build", &volumes)
        .expect(0)
        .says("volume: for its owner, alone")
        .says("what steps change there is forgotten");
    assert_eq!(env.read("file"), "alone");
    assert!(!env.has("lent/made"));
    // A binding by a volume, as for pack, and by our own option.
    env.write("all/db/type", "postgresql").write("all/db/password", SECRET);
    let lent = [&volumes[..], &["--volume", "all:/platform/bindings"]].concat();
    packed.pack("build", &lent).expect(0).says("binding: postgresql, ");
    let bound = [&volumes[..], &["--binding", "db=db"]].concat();
    packed.pack("build", &bound).expect(0).says("binding: postgresql, ").hides(SECRET);
    let both = [&bound[..], &["--volume", "lent:/platform/bindings"]].concat();
    packed.pack("build", &both).expect(2).says("lies where --binding lays its files");
    packed
        .pack("build", &[&volumes[..], &["--binding", "db=none"]].concat())
        .expect(2)
        .says("--binding db: ");
}

#[test]
fn what_a_binding_hides_is_nowhere() {
    let Some(packed) = with_mine(&BUILD_LENT.replace("/lent/private), $(cat /file)", "/platform/env/USERS)"))
    else {
        return;
    };
    let build = packed.0.project().join("mine/bin/build");
    let text = std::fs::read_to_string(&build).expect("reads");
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("echo more") && !line.contains(SECRET))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(&build, text).expect("writes");
    packed.0.write("db/type", "postgresql").write("db/password", SECRET);
    let words = ["app:1", "-b", "./mine", "--binding", "db=db", "-e", "USERS=all"];
    packed.pack("build", &words).expect(0).says("binding: postgresql, ").hides(SECRET);
    packed.0.rb(["image", "save", "--format=oci-dir", "-o", "saved", "app:1"]).expect(0);
    let (mut open, mut read) = (vec![packed.0.state(), packed.0.project().join("saved")], 0);
    while let Some(path) = open.pop() {
        // What is done with goes away meanwhile.
        let Ok(kind) = std::fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if kind.is_file() {
            read += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    assert!(read > 20, "the state and the image are files: {read}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_app_of_two_platforms_is_one_index() {
    let Some(packed) = Packed::new() else { return };
    let env = &packed.0;
    // The processor runs these programs under either name.
    for (image, user) in [("builder", "USER 1000:1000\n"), ("run", "")] {
        let config = packed.image(&format!("{image}:1"));
        let mut text = format!(
            "FROM --platform=linux/amd64 {image}:1 AS own\nFROM scratch\nCOPY --from=own / /\n{user}ENV PATH=/bin\n"
        );
        for (name, value) in config["config"]["Labels"].as_object().expect("labels") {
            text.push_str(&format!("LABEL {name}='{}'\n", value.as_str().expect("a text")));
        }
        text.push_str("ENV CNB_USER_ID=1000\nENV CNB_GROUP_ID=1000\n");
        env.write(&format!("{image}/Dockerfile"), text);
        let both = ["--platform", "linux/amd64,linux/386", "-t"];
        env.rb(["build"].iter().chain(&both).copied().chain([&*format!("{image}:many"), image])).expect(0);
    }
    let build = |image: &str, more: &[&str]| {
        let words = ["pack", "build", image, "-B", "builder:many", "--run-image", "run:many", "-p", "app"];
        env.rb(words.iter().chain(&FOR_ALL).chain(more))
    };
    let both = ["--platform", "linux/amd64", "--platform", "linux/386", "--sbom-output-dir", "sboms"];
    build("app:1", &both).expect(0);
    let read = |path: &str| -> Value { serde_json::from_str(&env.read(path)).expect("JSON") };
    build("oci:layout", &["--platform", "linux/amd64,linux/386"]).expect(0);
    let index = read("layout/index.json");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        read(&format!("layout/blobs/sha256/{}", digest.expect("a digest")))
    };
    let manifests = blob(&index["manifests"][0])["manifests"].as_array().expect("an index").clone();
    let architectures: Vec<&Value> =
        manifests.iter().map(|manifest| &manifest["platform"]["architecture"]).collect();
    assert_eq!(architectures, ["386", "amd64"]);
    let configs: Vec<Value> = manifests.iter().map(|manifest| blob(&blob(manifest)["config"])).collect();
    for (config, architecture) in configs.iter().zip(["386", "amd64"]) {
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["config"]["Labels"]["made.by"], "one");
    }
    // One of them alone, by the same steps.
    build("oci:one", &["--platform", "linux/386"]).expect(0).says("*cached* --> build test/one@1.0");
    build("oci:one", &["--publish"]).expect(2).says("`oci:DIR` is no image of a registry");
    packed.pack("detect", &["--platform", "linux/amd64,linux/386"]).expect(2).says("one platform at a time");
    // The image store says whom it has the builder for.
    packed
        .pack("build", &["app:1", "--platform", "linux/s390x", "--pull-policy", "never"])
        .expect(2)
        .says("the image store has `builder:1` for linux/amd64, and not for linux/s390x");
}

#[test]
fn words_of_descriptors_are_those_of_pack() {
    let Some(packed) = with_mine("#!/bin/sh\necho mine\n") else { return };
    let env = &packed.0;
    env.rb(["pack", "buildpack", "package", "example.com/mine:1", "-p", "mine"]).expect(0);
    env.rb(["image", "tag", "example.com/mine:1", "images/mine"]).expect(0);
    env.rb(["pack", "buildpack", "package", "mine.cnb", "-p", "mine", "-f", "file"]).expect(0);
    let detect = |place: &str, text: &str| {
        env.write(place, format!("[_]\nschema-version=\"0.2\"\n[io.buildpacks]\n{text}"));
        let words = if place.starts_with("app/") { &[][..] } else { &["-d", place] };
        packed.pack("detect", &[words, &["--pull-policy", "never"]].concat())
    };
    let group = |text: &str| format!("[[io.buildpacks.group]]\n{text}\n");
    for (text, found) in [
        ("uri=\"from=builder\"", "test/one 1.0\ntest/two 2.0\n"),
        ("id=\"from=builder\"", "test/one 1.0\ntest/two 2.0\n"),
        ("uri=\"test/two\"", "test/two 2.0\n"),
        ("uri=\"test/two@2.0\"", "test/two 2.0\n"),
        ("id=\"test/two\"\nversion=\"2.0\"", "test/two 2.0\n"),
        ("uri=\"example.com/mine:1\"", "test/mine 1.0\n"),
        ("uri=\"images/mine\"", "test/mine 1.0\n"),
        ("uri=\"../mine\"", "test/mine 1.0\n"),
        ("id=\"a/b\"\nversion=\"1.2\"\nscript={api=\"0.10\",inline=\"true\"}", "a/b 1.2\n"),
        ("id=\"a/b\"\nuri=\"../mine.cnb\"\nscript={api=\"0.10\",inline=\"true\"}", "test/mine 1.0\n"),
    ] {
        assert_eq!(detect("app/project.toml", &group(text)).expect(0).stdout, found, "{text}");
    }
    // Places are as seen from the descriptor's folder, wherever the app is.
    std::fs::remove_file(env.project().join("app/project.toml")).expect("removes");
    assert_eq!(detect("about/p.toml", &group("uri=\"../mine\"")).expect(0).stdout, "test/mine 1.0\n");
    detect("about/p.toml", &group("uri=\"./mine\"")).expect(2).says("there is no such folder");
    // Without a schema it is the first, which says nothing there.
    env.write(
        "app/project.toml",
        "[io.buildpacks]\nbuilder=\"none\"\n[[build.env]]\nname=\"A\"\nvlaue=\"b\"\n",
    );
    packed
        .pack("detect", &[])
        .expect(0)
        .says("declares no `schema-version`")
        .says("`io.buildpacks.builder` is not known")
        .says("`build.env.vlaue` is not known");
}

#[test]
fn environments_of_descriptors_and_buildpacks() {
    let Some(packed) = with_mine("#!/bin/sh\necho \"in $CNB_EXEC_ENV: $ONLY\"\n") else { return };
    let about = "api=\"0.12\"\n[buildpack]\nid=\"test/mine\"\nversion=\"1.0\"\n";
    packed.0.write("mine/buildpack.toml", about);
    let text = "[_]\nschema-version=\"0.3\"\n[[io.buildpacks.build.env]]\nname=\"ONLY\"\nvalue=\"made\"\nexec-env=[\"production\"]\n\
                [[io.buildpacks.build.env]]\nname=\"ONLY\"\nvalue=\"tried\"\nexec-env=[\"test\"]\n";
    packed.0.write("app/project.toml", text);
    let build = |more: &[&str]| packed.pack("build", &[&["app:1", "-b", "./mine"][..], more].concat());
    build(&[]).expect(0).says("in production: made");
    let label = || packed.image("app:1")["config"]["Labels"]["io.buildpacks.exec-env"].clone();
    assert_eq!(label(), "production");
    build(&["--exec-env", "test"]).expect(0).says("in test: tried");
    assert_eq!(label(), "test");
    packed.0.write("mine/buildpack.toml", format!("{about}exec-env=[\"test\"]\n"));
    build(&[]).expect(1).says("no group of buildpacks passed detection");
    build(&["--exec-env", "test"]).expect(0);
}

#[test]
fn a_program_of_no_format_is_none() {
    let Some(packed) = with_mine("#!/bin/sh\n") else { return };
    let write = |program: &str, text: &str| {
        let path = format!("mine/bin/{program}");
        packed.0.write(&path, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(packed.0.project().join(path), mode).expect("modes");
    };
    let build = || packed.pack("build", &["app:1", "-b", "./mine"]);
    write("detect", "exit 0\n");
    build().expect(1).says("ended with an error").says("exec format error");
    write("detect", PASS);
    write("build", "exit 0\n");
    build().expect(1).says("exec format error");
    write("build", PASS);
    build().expect(0);
}

#[test]
fn words_and_options_of_pack() {
    let Some(packed) = Packed::new() else { return };
    let env = &packed.0;
    packed
        .pack("build", &["app:1", "--docker-host", "inherit", "--userns-host", "--no-color", "--timestamps"])
        .expect(0)
        .says("--docker-host and --userns-host say nothing here")
        .says("--timestamps says nothing here");
    let quiet = env.rb(["pack", "build", "app:1", "-B", "builder:1", "-p", "app", "-q"]).expect(0);
    assert_eq!(quiet.stderr, "");
    // A folder of the image's name, which is not what is built.
    env.write("app/app/app.txt", "inner");
    env.rb_in("app", ["pack", "build", "app", "-B", "builder:1"]).expect(0).says("write `--path app`");
    // What was probably meant.
    let typo = env.rb(["pack", "build", "app:1", "-B", "bulider:1", "-p", "app", "--pull-policy", "never"]);
    typo.expect(2).says("did you mean `builder:1`?").hides("if-not-present");
    for (words, said) in [
        (&["set-default-builder", "x"][..], "did you mean `rb pack config default-builder`?"),
        (&["buildpack", "register", "x"], "there is no command `rb pack buildpack register`"),
    ] {
        env.rb(["pack"].iter().chain(words)).expect(2).says(said);
    }
    for (words, said) in [
        (&["run-image-mirrors"][..], "No run image mirrors have been set\n"),
        (&["registries"], ""),
        (&["trusted-builders", "-q"], "Trusted Builders:\n"),
    ] {
        assert_eq!(env.rb(["pack", "config"].iter().chain(words)).expect(0).stdout, said);
    }
    env.rb(["pack", "config", "default-builder", "run:1"]).expect(2).says("`run:1` is no builder");
    let words = ["buildpack", "new", "me/new", "-s", "io.buildpacks.stacks.jammy", "-v"];
    env.rb(["pack"].iter().chain(&words)).expect(0);
    let made = env.read("new/buildpack.toml");
    assert!(made.contains("id = \"io.buildpacks.stacks.jammy\"") && !made.contains("[[targets]]"), "{made}");
    let labels = ["-l", "a=b,c=d", "-l", "e=f,g", "--append-image-name-suffix"];
    let package = ["pack", "buildpack", "package", "new:1", "-p", "new"];
    env.rb(package.iter().chain(&labels)).expect(0);
    let config = packed.image("new:1");
    for (name, value) in [("a", "b"), ("c", "d"), ("e", "f,g")] {
        assert_eq!(config["config"]["Labels"][name], value);
    }
    env.rb(package.iter().chain(&["-r", "none"])).expect(2).says("no registry of buildpacks `none`");
    env.rb(["pack", "buildpack", "inspect", "./new", "-r", "none"]).expect(2).says("`none`");
}

#[test]
fn a_base_goes_by_the_names_that_are_preferred() {
    let Some(packed) = Packed::new() else { return };
    let env = &packed.0;
    packed.pack("build", &["other.example.com/app:1"]).expect(0);
    env.rb(["image", "tag", "run:1", "mirror.example.com/run:1"]).expect(0);
    env.rb(["pack", "config", "run-image-mirrors", "add", "run:1", "-m", "mirror.example.com/run:1"])
        .expect(0);
    let reference = || {
        let config = packed.image("other.example.com/app:1");
        let text =
            config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().map(ToOwned::to_owned);
        let label: Value = serde_json::from_str(&text.expect("a label")).expect("JSON");
        label["runImage"]["reference"].as_str().map(ToOwned::to_owned).expect("a reference")
    };
    let built = reference();
    assert!(built.starts_with("docker.io/library/run@sha256:"), "{built}");
    // As for pack, the image has to name it, or `--force` is said.
    let rebase = ["pack", "rebase", "other.example.com/app:1"];
    env.rb(rebase).expect(2).says("`mirror.example.com/run:1` is none of the bases");
    env.rb(rebase.iter().chain(&["--force"])).expect(0);
    assert_eq!(reference(), built.replace("docker.io/library/run@", "mirror.example.com/run@"));
}

#[test]
fn an_app_in_a_zip_archive() {
    use std::io::Write as _;

    let Some(packed) = Packed::new() else { return };
    let env = &packed.0;
    let archive = |name: &str, entries: &[(&str, u32, &str)]| {
        let file = std::fs::File::create(env.project().join(name)).expect("a file");
        let mut zip = zip::ZipWriter::new(file);
        for (path, mode, text) in entries {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
            if path.ends_with('/') {
                zip.add_directory(*path, options).expect("packs");
            } else {
                zip.start_file(*path, options).expect("packs");
                zip.write_all(text.as_bytes()).expect("packs");
            }
        }
        zip.finish().expect("ends");
    };
    env.write("app/bin/run", "#!/bin/sh\n");
    for (path, mode) in [("app/bin", 0o755), ("app/bin/run", 0o755), ("app/app.txt", 0o644)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(env.project().join(path), mode).expect("modes");
    }
    std::fs::remove_file(env.project().join("app/secret.log")).expect("removes");
    let files = [("app.txt", 0o644, "world"), ("bin/", 0o755, ""), ("bin/run", 0o755, "#!/bin/sh\n")];
    archive("app.jar", &files);
    let build = |path: &str| {
        let words = ["pack", "build", "app:1", "-B", "builder:1", "-p", path, "--progress=plain"];
        env.rb(words.iter().chain(&FOR_ALL))
    };
    build("app.jar").expect(0);
    assert_eq!(env.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    let digest = packed.digest("app:1");
    // Its content is that of the folder.
    build("app").expect(0).says("nothing to do: all");
    assert_eq!(packed.digest("app:1"), digest);
    build("app.jar").expect(0).says("nothing to do: all");
    archive("out.zip", &[("../x", 0o644, "")]);
    build("out.zip")
        .expect(2)
        .says("`out.zip`: the archive cannot be used: entry `../x` leads out of the tree");
    env.write("app.txt", "text");
    build("app.txt").expect(2).says("`app.txt` is no folder, and no zip archive either");
    build("none.zip").expect(2).says("there is no folder or zip archive `none.zip`");
}

#[test]
fn a_layout_without_its_base() {
    let Some(packed) = Packed::new() else { return };
    let env = &packed.0;
    let build = |more: &[&str]| packed.pack("build", &[more, &FOR_ALL].concat());
    build(&["oci:whole"]).expect(0);
    build(&["oci:sparse", "--sparse"]).expect(0);
    let blobs = |layout: &str| {
        let entries = std::fs::read_dir(env.project().join(layout).join("blobs/sha256")).expect("lists");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.collect::<std::collections::BTreeSet<String>>()
    };
    assert_eq!(env.read("whole/index.json"), env.read("sparse/index.json"));
    let base = env.rb(["image", "inspect", "run:1"]).expect(0).stdout;
    let base: Value = serde_json::from_str(&base).expect("JSON");
    let base: std::collections::BTreeSet<String> = base[0]["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .filter_map(|layer| Some(layer["digest"].as_str()?.trim_start_matches("sha256:").to_owned()))
        .collect();
    assert!(!base.is_empty());
    let left_out = blobs("whole").difference(&blobs("sparse")).cloned().collect();
    assert_eq!(base, left_out);
    // Once more, into what is there.
    build(&["oci:sparse", "--sparse"]).expect(0);
    assert!(blobs("sparse").is_disjoint(&base));
    build(&["app:1", "--sparse"]).expect(2).says("--sparse leaves layers out of layouts alone");
}
