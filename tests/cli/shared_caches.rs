//! `--cache-to` and `--cache-from`: what one machine made, another does not make again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::dockerfile::BASE;
use crate::env::{Run, TestEnv, ended};
use crate::registry::objects::{AZURE_KEY, Objects, S3_KEY, TOKEN};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// Two stages. What a step gives differs each time it runs, so that it shows whether it ran.
const DOCKERFILE: &str = "FROM base AS tools\nCOPY tool /tool\n\
    RUN cat /tool > /made; cat /proc/sys/kernel/random/uuid >> /made\n\
    FROM base\nCOPY --from=tools /made /made\nCOPY main /main\n\
    RUN cat /main /made > /out; cat /proc/sys/kernel/random/uuid >> /out\n";

fn project() -> Option<TestEnv> {
    let env = TestEnv::new();
    let is_there = env.busybox_layout("base");
    env.write("app/Dockerfile", DOCKERFILE).write("app/tool", "tool\n").write("app/main", "main\n");
    is_there.then_some(env)
}

/// Builds on a machine of that name: each has a state directory of its own.
fn build_on(env: &TestEnv, machine: &str, words: &[&str]) -> Run {
    let mut command = env.command(["build"].iter().chain(&BASE).chain(words));
    ended(command.env("RB_ROOT", env.state().with_file_name(machine)))
}

fn rb_on(env: &TestEnv, machine: &str, words: &[&str]) -> Run {
    ended(env.command(words).env("RB_ROOT", env.state().with_file_name(machine)))
}

/// What steps have said by chance.
fn out(env: &TestEnv, folder: &str) -> String {
    env.read(&format!("{folder}/out"))
}

fn registry() -> Option<(tempfile::TempDir, DockerRegistry)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = DockerRegistry::start(&folder.path().join("registry"), &Wants::default())?;
    Some((folder, registry))
}

#[test]
fn a_cold_machine_runs_no_step_of_an_unchanged_build() {
    let Some(env) = project() else { return };
    let Some((_folder, registry)) = registry() else { return };
    let cache = format!("{}/me/cache:main", registry.host);
    let to = format!("--cache-to=type=registry,ref={cache},mode=max,image-manifest=true,oci-mediatypes=true");
    let from = format!("--cache-from=type=registry,ref={cache}");
    build_on(&env, "one", &[&to, "-o", "first", "app"]).expect(0).says("5 steps run").says("5 results in");
    build_on(&env, "two", &[&from, "-o", "second", "app"]).expect(0).hides("steps run");
    assert_eq!(out(&env, "first"), out(&env, "second"));
    // What was brought is the machine's own from then on.
    build_on(&env, "two", &["-o", "again", "app"]).expect(0).hides("steps run");
    assert_eq!(out(&env, "first"), out(&env, "again"));
    // A name alone is one of a registry. What depends on a changed file runs, and nothing else.
    env.write("app/main", "changed\n");
    let run = build_on(&env, "three", &["--cache-from", &cache, "-o", "third", "app"]).expect(0);
    run.says("2 steps run");
    let (was, now) = (out(&env, "first"), out(&env, "third"));
    assert!(now.starts_with("changed\ntool\n"), "{now}");
    assert_eq!(was.lines().nth(2), now.lines().nth(2), "what the first stage made is what it was");
    assert_ne!(was.lines().nth(3), now.lines().nth(3));
    // Of mode=min the steps of the image alone are there.
    let to = format!("--cache-to=type=registry,ref={cache}-min");
    build_on(&env, "one", &[&to, "-o", "first", "app"]).expect(0).says("3 results in");
    let from = format!("--cache-from={cache}-min");
    env.write("app/main", "again\n");
    build_on(&env, "four", &[&from, "-o", "fourth", "app"]).expect(0).says("5 steps run");
}

#[test]
fn caches_in_folders_pass_from_build_to_build() {
    let Some(env) = project() else { return };
    let (from, to) = ("--cache-from=type=local,src=cache", "--cache-to=type=local,dest=cache,mode=max");
    // There is none yet: that is told, and all is built.
    build_on(&env, "one", &[from, to, "-o", "first", "app"])
        .expect(0)
        .says("there is no cache yet")
        .says("5 steps run");
    // Nothing is unpacked where nothing is read, and the cache is whole afterwards, too.
    let run = build_on(&env, "two", &[from, to, "-t", "app", "app"]).expect(0).hides("steps run");
    run.says("5 results in");
    env.write("app/tool", "other\n");
    build_on(&env, "three", &[from, to, "-o", "third", "app"]).expect(0).says("5 steps run");
    assert!(out(&env, "third").starts_with("main\nother\n"));
    // What else is in the context changes nothing, and nor does what the Dockerfile says of it.
    env.write("app/other", "other\n").write("app/Dockerfile", format!("# changed\n{DOCKERFILE}"));
    build_on(&env, "four", &[from, "-o", "fourth", "app"]).expect(0).hides("steps run");
    assert_eq!(out(&env, "third"), out(&env, "fourth"));
    let index: Value = serde_json::from_str(&env.read("cache/index.json")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_found_elsewhere_is_told() {
    let Some(env) = project() else { return };
    build_on(&env, "one", &["--cache-to=type=local,dest=cache,mode=max", "-t", "app", "app"]).expect(0);
    let from = "--cache-from=type=local,src=cache";
    let words = ["build", BASE[0], BASE[1], from, "-t", "app", "app"];
    let why = [&["why"], words.as_slice()].concat();
    let told = rb_on(&env, "two", &why).expect(0).stdout;
    assert!(told.contains("from the cache") && told.contains("RUN cat /main /made"), "{told}");
    let told = rb_on(&env, "two", &[&["why", "--json"], words.as_slice()].concat()).expect(0).stdout;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let caches = told["from_caches"].as_object().expect("an object");
    assert!(caches.keys().all(|place| place.ends_with("/cache")) && caches.len() == 1, "{told:#}");
    let run = rb_on(&env, "two", &[&words[..], &["--progress=json"]].concat()).expect(0);
    assert!(
        run.stderr.lines().any(|line| line.contains("\"cached\"") && line.contains("/cache\"")),
        "{}",
        run.stderr
    );
}

#[test]
fn an_image_carries_its_own_cache() {
    let Some(env) = project() else { return };
    let Some((_folder, registry)) = registry() else { return };
    let image = format!("{}/me/app:1", registry.host);
    build_on(&env, "one", &["--cache-to=type=inline", "--push", "-t", &image, "app"]).expect(0);
    let config = rb_on(&env, "one", &["image", "inspect", &image]).expect(0).stdout;
    assert!(config.contains("rb.cache.v2"), "{config}");
    build_on(&env, "one", &["-t", "x", "app"]).expect(0);
    assert!(!rb_on(&env, "one", &["image", "inspect", "x"]).expect(0).stdout.contains("rb.cache.v2"));
    env.write("app/main", "changed\n");
    // The stage that it copies from is not there, and comes out otherwise.
    build_on(&env, "two", &["--cache-from", &image, "-o", "out", "app"]).expect(0).says("5 steps run");
    env.write("app/main", "main\n");
    build_on(&env, "three", &["--cache-from", &image, "-o", "out", "app"]).expect(0).hides("steps run");
}

#[test]
fn an_image_is_the_same_from_a_cache() {
    let Some(env) = project() else { return };
    let (from, to) = ("--cache-from=type=local,src=cache", "--cache-to=type=local,dest=cache,mode=max");
    let digest = |machine: &str, words: &[&str]| {
        let run = build_on(&env, machine, &[words, &["--quiet", "-t", "app", "app"]].concat()).expect(0);
        run.stdout.trim().to_owned()
    };
    let first = digest("one", &[to]);
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(first, digest("two", &[from]));
    // From trees that were unpacked, too.
    build_on(&env, "three", &[from, "-o", "out", "app"]).expect(0);
    assert_eq!(first, digest("three", &[]));
}

#[test]
fn what_a_cache_lacks_or_is_not_stops_no_build() {
    let Some(env) = project() else { return };
    let Some((_folder, registry)) = registry() else { return };
    let host = &registry.host;
    let from = format!("--cache-from={host}/me/none:1");
    build_on(&env, "one", &[&from, "-o", "out", "app"]).expect(0).says("there is no cache yet");
    // An image without one.
    build_on(&env, "one", &["--push", "-t", &format!("{host}/me/app:1"), "app"]).expect(0);
    let from = format!("--cache-from={host}/me/app:1");
    build_on(&env, "two", &[&from, "-o", "out", "app"]).expect(0).says("it is no cache").says("5 steps run");
    // One whose layers are gone.
    build_on(&env, "one", &["--cache-to=type=local,dest=cache,mode=max", "app"]).expect(0);
    let blobs = env.project().join("cache/blobs/sha256");
    let largest = std::fs::read_dir(&blobs).expect("lists").map(|entry| entry.expect("lists").path());
    let largest = largest.max_by_key(|path| path.metadata().expect("is there").len()).expect("has blobs");
    // One of them damaged, of the same length; then gone.
    let mut bytes = std::fs::read(&largest).expect("reads");
    *bytes.last_mut().expect("has bytes") ^= 1;
    std::fs::write(&largest, bytes).expect("writes");
    let from = "--cache-from=type=local,src=cache";
    build_on(&env, "damaged", &[from, "-o", "out", "app"])
        .expect(0)
        .says("what needs it is made again")
        .says("1 step run");
    std::fs::remove_file(largest).expect("removes");
    build_on(&env, "three", &[from, "-o", "out", "app"])
        .expect(0)
        .says("is not there any more")
        // With what the base itself has of it, all that stands on it is found.
        .says("1 step run");
    // BuildKit's.
    layout(&env, "theirs", "application/vnd.buildkit.cacheconfig.v0", &json!({"layers": [], "records": []}));
    build_on(&env, "four", &["--cache-from=type=local,src=theirs", "-o", "out", "app"])
        .expect(0)
        .says("a cache of BuildKit's");
    // One that leads in a circle, and one of another version.
    let trees = json!([{"on": 0, "layer": 0, "content": format!("sha256:{:064}", 0)}]);
    for (name, schema, said) in
        [("wrong", 1, "its table of results names a"), ("newer", 99, "another version of rb")]
    {
        let table = json!({"schema": schema, "epoch": 0, "trees": trees, "records": []});
        let config = json!({"rootfs": {"type": "layers", "diff_ids": []}, "rb.cache.v2": table});
        layout(&env, name, "application/vnd.rb.cache.config.v2+json", &config);
        let from = format!("--cache-from=type=local,src={name}");
        build_on(&env, name, &[&from, "-o", "out", "app"]).expect(0).says(said).says("5 steps run");
    }
}

#[test]
fn a_result_that_rests_on_a_layer_that_is_gone_is_made_again() {
    let Some(env) = project() else { return };
    // The command and the copy make the same layer; the last line stands on it.
    let text = "FROM base\nRUN echo hi > /o\nFROM base\nCOPY --from=0 /o /o\nCOPY main /x\n";
    env.write("app/Two", text);
    let words = ["-f", "app/Two", "-t", "two", "app"];
    build_on(&env, "one", &[&["--cache-to=type=local,dest=cache,mode=max"][..], &words].concat()).expect(0);
    let blobs = env.project().join("cache/blobs/sha256");
    let index: Value = serde_json::from_str(&env.read("cache/index.json")).expect("JSON");
    let hex = |digest: &Value| {
        digest.as_str().and_then(|text| text.strip_prefix("sha256:")).map(str::to_owned).expect("a digest")
    };
    let manifest = std::fs::read(blobs.join(hex(&index["manifests"][0]["digest"]))).expect("reads");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    let shared = &layers[layers.len() - 2]["digest"];
    std::fs::remove_file(blobs.join(hex(shared))).expect("removes");
    let from = ["--cache-from=type=local,src=cache"];
    build_on(&env, "two", &[&from[..], &words].concat()).expect(0).says("is not there any more");
}

/// Writes a layout with one manifest without layers.
fn layout(env: &TestEnv, folder: &str, config_type: &str, config: &Value) {
    let put = |bytes: &[u8]| {
        let digest = rb_oci::Digest::of(bytes);
        env.write(&format!("{folder}/blobs/sha256/{}", digest.hex()), bytes);
        (digest, bytes.len())
    };
    let (digest, size) = put(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config_type, "digest": digest, "size": size}, "layers": [],
    });
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
    }]});
    env.write(&format!("{folder}/index.json"), index.to_string());
    env.write(&format!("{folder}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn a_cache_that_cannot_be_written_fails_unless_that_is_said() {
    let Some(env) = project() else { return };
    let nowhere = "type=registry,ref=127.0.0.1:1/me/cache";
    build_on(&env, "one", &[&format!("--cache-to={nowhere}"), "-o", "out", "app"]).expect(3);
    build_on(&env, "one", &[&format!("--cache-to={nowhere},ignore-error=true"), "-o", "out", "app"])
        .expect(0)
        .says("not written");
    env.write("mine/file", "mine");
    build_on(&env, "one", &["--cache-to=type=local,dest=mine", "app"]).expect(2);
    assert_eq!(env.read("mine/file"), "mine");
    for (value, said) in [
        ("type=gha,version=1", "type=gha speaks version 2 of the service alone"),
        ("type=s3,bucket=b,secret_access_key=hunter2", "--cache-"),
        ("type=azblob", "type=azblob needs account_url="),
    ] {
        build_on(&env, "one", &["--cache-to", value, "app"]).expect(2).says(said).hides("hunter2");
        build_on(&env, "one", &["--cache-from", value, "app"]).expect(2).says(said).hides("hunter2");
    }
    // Where no job of GitHub's runs, its cache is left out.
    for flag in ["--cache-to", "--cache-from"] {
        let run = build_on(&env, "one", &[flag, "type=gha", "app"]).expect(0);
        run.says(&format!("{flag} type=gha is left out: type=gha needs url_v2="));
    }
}

#[test]
fn keys_of_a_profile_are_taken_and_who_has_none_is_told() {
    let Some(env) = project() else { return };
    let server = Objects::start();
    let value = format!("type=s3,bucket=bucket,endpoint_url={},name=main", server.url());
    env.write(
        "credentials",
        format!("[mine]\naws_access_key_id = {}\naws_secret_access_key = {}\n", S3_KEY.0, S3_KEY.1),
    )
    .write("config", "[profile mine]\nregion = us-east-1\n[profile role]\nregion = r\nrole_arn = arn:x\n");
    let file = |name: &str| env.project().join(name).display().to_string();
    let of = |profile: &str| {
        vec![
            ("AWS_PROFILE", profile.to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", file("credentials")),
            ("AWS_CONFIG_FILE", file("config")),
        ]
    };
    let to = format!("--cache-to={value},mode=max");
    build_with(&env, "one", &of("mine"), &[&to, "app"]).expect(0).says("results in");
    assert!(server.kept.lock().unwrap().refused.is_empty());
    build_with(&env, "one", &of("role"), &[&to, "app"]).expect(2).says("the profile `role` has role_arn");
    build_with(&env, "one", &of("nobody"), &[&to, "app"]).expect(2).says("no profile `nobody`");
}

#[test]
fn a_cache_that_is_silent_is_waited_for_in_sight_and_not_for_long() {
    let Some(env) = project() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("has one").port();
    let from = format!(
        "--cache-from=type=s3,bucket=b,region=r,access_key_id=a,secret_access_key=x,endpoint_url=http://127.0.0.1:{port}"
    );
    let began = std::time::Instant::now();
    // Who says that nothing is tried again is believed; else it is tried twice.
    let run = build_on(&env, "one", &[&from, "--retry=0", "-o", "out", "app"]).expect(0);
    run.says("has not answered whole for 10 s").says("nothing came for 30 s").says("it is not used");
    assert!(began.elapsed() < std::time::Duration::from_secs(55), "{:?}", began.elapsed());
}

/// The values of a cache in each kind of bucket: what is typed, and what the environment has.
fn buckets(server: &Objects) -> [(String, Vec<(&'static str, String)>); 3] {
    let url = server.url();
    let s3 = format!("type=s3,bucket=bucket,region=us-east-1,endpoint_url={url},name=main;other");
    let azure = format!("type=azblob,account_url={url}/account,account_name=account,name=main");
    [
        (
            s3,
            vec![("AWS_ACCESS_KEY_ID", S3_KEY.0.to_owned()), ("AWS_SECRET_ACCESS_KEY", S3_KEY.1.to_owned())],
        ),
        (format!("{azure},secret_access_key={AZURE_KEY}"), Vec::new()),
        (
            "type=gha,scope=main".to_owned(),
            vec![("ACTIONS_RESULTS_URL", url), ("ACTIONS_RUNTIME_TOKEN", TOKEN.to_owned())],
        ),
    ]
}

/// Builds with a cache in a bucket.
fn build_with(env: &TestEnv, machine: &str, variables: &[(&'static str, String)], words: &[&str]) -> Run {
    let mut command = env.command(["build"].iter().chain(&BASE).chain(words));
    let variables = variables.iter().map(|(name, value)| (*name, value.as_str()));
    ended(command.env("RB_ROOT", env.state().with_file_name(machine)).envs(variables))
}

#[test]
fn a_cache_in_a_bucket_passes_from_machine_to_machine() {
    let Some(env) = project() else { return };
    for place in 0..3 {
        let server = Objects::start();
        let (value, variables) = &buckets(&server)[place];
        env.write("app/main", "main\n");
        let (from, to) = (format!("--cache-from={value}"), format!("--cache-to={value},mode=max"));
        let machine = |name: &str| format!("{name}-{place}");
        let build = |name: &str, words: &[&str]| build_with(&env, &machine(name), variables, words);
        // There is none yet: that is told, and all is built.
        let run = build("one", &[&from, &to, "-o", "first", "app"]).expect(0);
        run.says("there is no cache yet").says("5 steps run").says("5 results in");
        build("two", &[&from, "-o", "second", "app"]).expect(0).hides("steps run");
        assert_eq!(out(&env, "first"), out(&env, "second"));
        // What was brought is the machine's own from then on.
        build("two", &["-o", "again", "app"]).expect(0).hides("steps run");
        // A cache that is written anew has what was found in it and never fetched.
        let run = build("three", &[&from, &to, "-t", "app", "app"]).expect(0).hides("steps run");
        run.says("5 results in");
        env.write("app/main", "changed\n");
        build("four", &[&from, &to, "-o", "third", "app"]).expect(0).says("2 steps run");
        build("five", &[&from, "-o", "fourth", "app"]).expect(0).hides("steps run");
        assert_eq!(out(&env, "third"), out(&env, "fourth"));
        // From there into a folder, and on from that.
        build("six", &[&from, "--cache-to=type=local,dest=folder,mode=max", "app"]).expect(0);
        build("seven", &["--cache-from=type=local,src=folder", "app"]).expect(0).hides("steps run");
        assert!(server.kept.lock().unwrap().refused.is_empty());
        // Bytes that are not what they should be, and objects that are gone.
        let objects = ["/bucket/blobs/", "/account/buildkit-cache/blobs/", "/entry/"][place];
        server.change(objects, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
        build("eight", &[&from, "-o", "fifth", "app"]).expect(0).says("steps run");
        server.forget(["/blobs/", "/blobs/", "rb-blob-"][place]);
        build("nine", &[&from, "-o", "fifth", "app"]).expect(0).says("steps run");
        std::fs::remove_dir_all(env.project().join("folder")).expect("removes");
    }
}

#[test]
fn keys_to_buckets_are_told_to_nobody() {
    let Some(env) = project() else { return };
    let server = Objects::start();
    for (value, mut variables) in buckets(&server) {
        let value = match &mut variables[..] {
            // Typed and wrong.
            [] => value.replace("account_name=account", "account_name=other"),
            [.., (_, secret)] => {
                secret.push_str("-wrong-hunter2");
                value
            }
        };
        let (from, to) = (format!("--cache-from={value}"), format!("--cache-to={value}"));
        let machine = "secretive";
        // That it cannot be read is told, and all is built; that it cannot be written is an error.
        let build = |words: &[&str]| build_with(&env, machine, &variables, words);
        build(&[&from, "-o", "out", "app"])
            .expect(0)
            .says("HTTP status 403")
            .says("it is not used")
            .hides("hunter2");
        let run = build(&[&to, "-o", "out", "app"]).expect(2).says("cannot write the cache").says("look at");
        run.hides("hunter2").hides(AZURE_KEY).hides("sig=");
        let to = format!("{to},ignore-error=true");
        build(&[&to, "-o", "out", "app"]).expect(0).says("not written").hides("hunter2").hides(AZURE_KEY);
    }
    let state = env.state().with_file_name("secretive");
    for folder in ["builds", "logs", "."] {
        for entry in std::fs::read_dir(state.join(folder)).expect("lists") {
            let path = entry.expect("lists").path();
            let Ok(bytes) = std::fs::read(&path) else { continue };
            for secret in ["hunter2", AZURE_KEY] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} has {secret}", path.display());
            }
        }
    }
}

#[test]
fn a_cache_of_buildkit_in_a_bucket_is_told_as_that() {
    let Some(env) = project() else { return };
    let server = Objects::start();
    let [(value, variables), ..] = buckets(&server);
    let theirs = json!({"layers": [], "records": [{"digest": "sha256:0"}]}).to_string();
    server.kept.lock().unwrap().objects.insert("/bucket/manifests/main".to_owned(), theirs.into_bytes());
    let from = format!("--cache-from={value}");
    build_with(&env, "one", &variables, &[&from, "-o", "out", "app"]).expect(0).says("a cache of BuildKit's");
}

#[test]
fn no_secret_is_in_a_cache_and_no_cache_of_steps() {
    let Some(env) = project() else { return };
    env.write("token", "s3cr3t-value\n").write(
        "app/Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=t --mount=type=cache,target=/c \
         wc -c /run/secrets/t > /n; echo kept-in-mount > /c/f\n",
    );
    let words =
        ["--secret=id=t,src=token", "--cache-to=type=local,dest=cache,mode=max,compression=uncompressed"];
    build_on(&env, "one", &[&words[..], &["-o", "out", "app"]].concat()).expect(0);
    for entry in std::fs::read_dir(env.project().join("cache/blobs/sha256")).expect("lists") {
        let bytes = std::fs::read(entry.expect("lists").path()).expect("reads");
        for text in ["s3cr3t-value", "kept-in-mount\n"] {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}

#[test]
fn platforms_and_targets_share_caches() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY main /$TARGETARCH\nCOPY tool /tool\n")
        .write(
            "docker-bake.hcl",
            r#"
        target "default" {
            context = "app"
            platforms = ["linux/amd64", "linux/arm64"]
            cache-to = ["type=local,dest=cache,mode=max"]
            cache-from = ["type=local,src=cache"]
            output = ["type=oci,dest=app.tar"]
        }
    "#,
        );
    rb_on(&env, "one", &["bake"]).expect(0).says("4 results in");
    rb_on(&env, "two", &["bake"]).expect(0).hides("steps run");
    // One for each platform in one image.
    let words = [
        "--platform=linux/amd64,linux/arm64",
        "--cache-to=type=inline",
        "-o",
        "type=oci,tar=false,dest=image",
    ];
    build_on(&env, "one", &[&words[..], &["app"]].concat()).expect(0);
    let index: Value = serde_json::from_str(&env.read("image/index.json")).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let from = format!("--cache-from=type=local,src=image,digest={digest}");
    for (machine, platform) in [("three", "--platform=linux/amd64"), ("four", "--platform=linux/arm64")] {
        build_on(&env, machine, &[&from, platform, "-o", "out", "app"]).expect(0).hides("steps run");
    }
}

#[test]
fn who_is_killed_while_it_writes_leaves_the_cache_that_was_there() {
    let Some(env) = project() else { return };
    let (from, to) = ("--cache-from=type=local,src=cache", "--cache-to=type=local,dest=cache,mode=max");
    build_on(&env, "one", &[to, "-o", "first", "app"]).expect(0);
    let large = "FROM base\nCOPY large /large\nRUN cp /large /again; cat /large >> /again\n";
    let noise: Vec<u8> = (0..12_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    env.write("big/Dockerfile", large).write("big/large", &noise);
    let state = env.state().with_file_name("one");
    build_on(&env, "one", &["-o", "ready", "big"]).expect(0);
    for delay in [20, 60, 120, 200, 300, 500, 800] {
        let mut command = env.command(["build"].iter().chain(&BASE).chain(&[to, "big"]));
        let mut child = command
            .env("RB_ROOT", &state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_millis(delay));
        // What has ended by then is killed in vain.
        child.kill().ok();
        child.wait().expect("ends");
        let machine = format!("after-{delay}");
        let told = build_on(&env, &machine, &[from, "-o", "second", "app"]).expect(0);
        let is_whole = !told.stderr.contains("steps run");
        let is_new = has_large(&env.project().join("cache"));
        assert!(is_whole || is_new, "{}", told.stderr);
    }
    build_on(&env, "one", &[to, "big"]).expect(0);
    build_on(&env, "last", &[from, "-o", "second", "big"]).expect(0).hides("steps run");
}

/// Says whether the index of a layout leads to the cache of the large build: one of few results.
fn has_large(layout: &Path) -> bool {
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON")
    };
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
        read(&layout.join("blobs/sha256").join(digest))
    };
    let manifest = blob(&read(&layout.join("index.json"))["manifests"][0]["digest"]);
    blob(&manifest["config"]["digest"])["rb.cache.v2"]["records"].as_array().map(Vec::len) == Some(2)
}
