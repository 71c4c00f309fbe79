//! Caches that a BuildKit daemon reads and writes: in folders of this machine, in registries, in images; and what of caches is refused.

use std::fs;
use std::io::Read as _;

use serde_json::Value;

use crate::engine::{Tells as _, project};
use crate::env::TestEnv;
use crate::push::folder;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// What it makes is another thing each time that it runs.
const DOCKERFILE: &str = "\
FROM scratch AS build
COPY --chmod=755 busybox /bin/sh
RUN read up </proc/uptime; echo \"$up\" >/made

FROM scratch
COPY --from=build /made /made
";

/// Builds on a new daemon; returns what was made, and the words of that build.
fn built(words: &[&str], files: &[&str], from: Option<&TestEnv>) -> Option<(TestEnv, String, String)> {
    let (env, _daemon, address) = project()?;
    for name in files {
        let folder = env.project().join(name);
        fs::create_dir_all(folder.join("blobs/sha256")).expect("creates");
        let from = from.expect("there is one").project().join(name);
        for path in ["oci-layout", "index.json"] {
            fs::copy(from.join(path), folder.join(path)).expect("copies");
        }
        for blob in fs::read_dir(from.join("blobs/sha256")).expect("lists") {
            let blob = blob.expect("an entry");
            fs::copy(blob.path(), folder.join("blobs/sha256").join(blob.file_name())).expect("copies");
        }
    }
    env.write("Dockerfile", DOCKERFILE);
    let engine = format!("--engine={address}");
    let all = ["build", &engine, "-o", "out"].into_iter().chain(words.iter().copied()).chain(["."]);
    let told = env.rb(all).expect(0).stderr;
    let made = env.read("out/made");
    Some((env, made, told))
}

#[test]
fn a_folder_of_this_machine_is_a_cache_of_daemons() {
    let to = "--cache-to=type=local,dest=c1,mode=max,compression=zstd";
    let from = "--cache-from=type=local,src=c1";
    // One that is not there yet is no mistake.
    let Some((first, made, told)) = built(&[to, from], &[], None) else { return };
    assert!(told.contains("cache  ") && !told.contains("uses its own cache"), "{told}");
    let index: Value = serde_json::from_str(&first.read("c1/index.json")).expect("is JSON");
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!((name, index["manifests"].as_array().map(Vec::len)), (&"latest".into(), Some(1)));
    let manifest = index["manifests"][0]["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let manifest = first.read(&format!("c1/blobs/sha256/{}", manifest.expect("a digest")));
    assert!(manifest.contains("application/vnd.buildkit.cacheconfig.v0"), "{manifest}");
    let left: Vec<_> = fs::read_dir(first.project().join("c1"))
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 3, "a layout and nothing else: {left:?}");
    // Another daemon, which never ran the step, has it from there, and without it runs it.
    let Some((_env, again, told)) = built(&[from], &["c1"], Some(&first)) else { return };
    assert_eq!(again, made, "{told}");
    let Some((_env, other, _)) = built(&[], &[], None) else { return };
    assert_ne!(other, made);
}

#[test]
fn a_registry_and_an_image_are_caches_of_daemons() {
    let keys = folder();
    let Some(registry) = DockerRegistry::start(&keys.path().join("registry"), &Wants::default()) else {
        return;
    };
    let name = format!("{}/team/cache:1", registry.host);
    let to = format!("--cache-to=type=registry,ref={name},mode=max");
    let from = format!("--cache-from={name}");
    let Some((first, made, told)) = built(&[&to], &[], None) else { return };
    assert!(told.contains(&format!("cache  {name}  written")), "{told}");
    let Some((_env, again, told)) = built(&[&from], &[], None) else { return };
    assert_eq!(again, made, "{told}");
    drop(first);

    let Some((env, _daemon, address)) = project() else { return };
    env.write("Dockerfile", "FROM scratch\nCOPY src /src\n");
    let engine = format!("--engine={address}");
    env.rb(["build", &engine, "--cache-to=type=inline", "-o", "type=oci,dest=image.tar", "."])
        .expect(0)
        .tells("cache the image written");
    let mut bytes = Vec::new();
    fs::File::open(env.project().join("image.tar"))
        .expect("is there")
        .read_to_end(&mut bytes)
        .expect("reads");
    assert!(String::from_utf8_lossy(&bytes).contains("moby.buildkit.cache.v0"));
    // A place that cannot be written is a failure, or told where that is asked for.
    let nowhere = "--cache-to=type=registry,ref=127.0.0.1:1/nothing:1";
    assert_eq!(env.rb(["build", &engine, nowhere, "-o", "out", "."]).code, 3);
    env.rb(["build", &engine, &format!("{nowhere},ignore-error=true"), "-o", "out", "."])
        .expect(0)
        .tells("not written");
}

#[test]
fn bake_files_have_their_caches_there() {
    let Some((env, _daemon, address)) = project() else { return };
    env.write(
        "docker-bake.hcl",
        "target \"default\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY src /src\\n\"\n  output = [\"type=local,dest=baked\"]\n\
         cache-to = [\"type=local,dest=c1,mode=max\"]\n  cache-from = [\"type=local,src=c1\"]\n}\n",
    );
    env.rb(["bake", "--engine", &address, "--allow=fs=."]).expect(0);
    assert!(env.has("c1/index.json") && env.has("baked/src/a.txt"));
}

#[test]
fn an_image_for_another_platform_is_no_mistake() {
    let Some((env, _daemon, address)) = project() else { return };
    env.write("Dockerfile", "FROM scratch\nCOPY src /src\n");
    let engine = format!("--engine={address}");
    for platforms in ["linux/arm64", "linux/arm64,linux/riscv64"] {
        let platforms = format!("--platform={platforms}");
        let told =
            env.rb(["build", &engine, &platforms, "-o", "type=oci,dest=image.tar", "."]).expect(0).stderr;
        assert!(!told.contains("Requested platform"), "{told}");
    }
}

#[test]
fn where_an_image_came_from_the_daemon_says() {
    let Some((env, _daemon, address)) = project() else { return };
    env.write("Dockerfile", "FROM scratch\nCOPY src /src\n");
    let engine = format!("--engine={address}");
    let says = |words: &[&str], name: &str| {
        let output = format!("type=oci,dest={name}");
        let all = ["build", &engine, "-o", &output].into_iter().chain(words.iter().copied()).chain(["."]);
        env.rb(all).expect(0);
        let bytes = fs::read(env.project().join(name)).expect("is there");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = says(&["--provenance=mode=max,builder-id=https://ci.example/1"], "one.tar");
    assert!(text.contains("https://slsa.dev/provenance/v1") && text.contains("https://ci.example/1"));
    let text = says(&["--provenance=version=v0.2,mode=min", "--platform=linux/amd64,linux/arm64"], "two.tar");
    let statements = text.matches("attestation-manifest").count();
    assert!(
        statements == 2 && text.contains("https://slsa.dev/provenance/v0.2"),
        "one for each platform: {statements}"
    );
    assert!(!says(&[], "three.tar").contains("slsa.dev"));
    // Into the store of this machine, too.
    env.rb(["build", &engine, "--provenance=true", "-t", "said:1", "."]).expect(0);
    env.rb(["image", "inspect", "said:1"]).expect(0);
}

/// What it says comes before anybody is connected to.
#[test]
fn what_an_engine_elsewhere_has_no_part_in_is_refused_by_name() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY Buildfile .\n    SAVE ARTIFACT Buildfile\n",
    );
    env.write("Dockerfile", "FROM scratch\nCOPY Buildfile /\n");
    let engine = "--engine=unix:///nowhere/socket";
    for option in [
        "--runtime=runc",
        "--isolation=chroot",
        "--step-network=host",
        "--memory-budget=4g",
        "--allow-bind=/usr",
    ] {
        let name = option.split('=').next().expect("a name");
        env.rb([engine, option, "+t"]).expect(2).tells(&format!("{name} is for steps on this machine"));
    }
    env.rb_with(&[("RB_STEP_NETWORK", "host")], [engine, "+t"])
        .expect(2)
        .tells("RB_STEP_NETWORK is for steps");
    // What asks for nothing is none, and a file asks for nothing.
    env.rb([engine, "--runtime=rb", "--step-network=sandbox", "+t"]).expect(3).tells("cannot be reached");
    let file = env.project().join("c.toml");
    fs::write(&file, "[steps]\nruntime = 'runc'\n").expect("writes");
    env.rb_with(&[("RB_CONFIG", &file.display().to_string())], [engine, "+t"])
        .expect(3)
        .tells("cannot be reached");

    for words in [
        vec!["plan", "build", "."],
        vec!["why", "build", "."],
        vec!["build", "--expect-cached", "."],
        vec!["build", "--dry-run", "."],
    ] {
        let told = env.rb_with(&[("RB_ENGINE", "unix:///nowhere/socket")], &words).expect(2);
        assert!(!told.stderr.contains("rb::dockerfile"), "{words:?}: {}", told.stderr);
        told.tells("does not tell beforehand what it would run").tells("use them with --engine=here");
    }
    let insecure = "--cache-to=type=registry,ref=x.example/a,registry.insecure=true";
    env.rb(["build", engine, insecure, "."]).expect(2).tells("registry.insecure").tells("buildkitd.toml");
    let signed = "--cache-from=type=azblob,account_url=https://a.blob.core.windows.net?sig=x";
    env.rb(["build", engine, signed, "."]).expect(2).tells("signature (SAS)");
}
