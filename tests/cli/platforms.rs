//! Images of several platforms under one name: built, kept, written, pushed, run; and what `--platform` chooses.

use std::process::Command;

use rb_oci::Platform;
use serde_json::{Value, json};

use crate::env::{Run, TestEnv};
use crate::push::{Place, skopeo};
use crate::registry::support::docker_registry::Wants;
use crate::registry::support::scripted::Reply;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// This machine's platform, and one that it is not.
fn platforms() -> (String, String) {
    let host = Platform::host().to_string();
    let other = if host == "linux/arm64" { "linux/amd64" } else { "linux/arm64" };
    (host, other.to_owned())
}

/// What was said, without the breaks between lines of a message.
fn in_a_line(run: &Run) -> String {
    run.stderr.replace("\n  │ ", " ")
}

/// The platforms of an index as `rb image inspect` tells them.
fn listed(env: &TestEnv, name: &str) -> Value {
    json(&env.rb(["image", "inspect", name]).expect(0).stdout)[0]["platforms"].clone()
}

const IMAGE: &str =
    "image:\n    ARG TARGETPLATFORM\n    FROM scratch\n    COPY one /one\n    LABEL for=$TARGETPLATFORM\n";

fn project(calls: &str, names: &str) -> TestEnv {
    let env = TestEnv::new();
    env.write("one", "1\n").write(
        "Buildfile",
        format!("VERSION 0.8\nall:\n    FROM scratch\n{calls}{IMAGE}    SAVE IMAGE {names}\n"),
    );
    env
}

fn calls(platforms: &[&str]) -> String {
    let options: Vec<String> = platforms.iter().map(|platform| format!("--platform={platform}")).collect();
    format!("    BUILD {} +image\n", options.join(" "))
}

#[test]
fn one_name_is_an_index_of_all_platforms() {
    let (host, other) = platforms();
    let mut digests = Vec::new();
    for order in [[&host, &other, "linux/arm/v7"], ["linux/arm/v7", &other, &host]] {
        let env = project(&calls(&order), "app:1 app");
        env.rb(["+all"]).expect(0).says("linux/amd64, linux/arm/v7, linux/arm64");
        let expected = json!(["linux/amd64", "linux/arm/v7", "linux/arm64"]);
        assert_eq!(listed(&env, "app:1"), expected);
        let inspected = json(&env.rb(["image", "inspect", "--platform", &other, "app"]).expect(0).stdout);
        assert_eq!(inspected[0]["config"]["config"]["Labels"]["for"], other.as_str());
        let digest = inspected[0]["index"]["digest"].as_str().expect("a digest").to_owned();
        assert!(env.rb(["image", "ls", "-q", "app:1"]).expect(0).stdout.contains(&digest));
        digests.push(digest);

        env.rb(["image", "tag", "app", "other:2"]).expect(0);
        assert_eq!(listed(&env, "other:2"), expected);
        env.rb(["image", "save", "app", "-o", "app.tar"]).expect(0);
        env.rb(["image", "rm", "app:1", "app", "other:2"]).expect(0);
        assert_eq!(env.rb(["image", "ls", "-q"]).expect(0).stdout, "");
        env.rb(["image", "load", "-i", "app.tar"]).expect(0);
        assert_eq!(listed(&env, "app"), expected);
        // Between places of one's own it stays whole.
        env.rb(["image", "copy", "app", "oci:layout:app"]).expect(0);
        env.rb(["image", "copy", "--all", "oci:layout:app", "back"]).expect(0);
        assert_eq!(listed(&env, "back"), expected);
        env.rb(["image", "copy", "--platform", &other, "app", "alone"]).expect(0);
        assert_eq!(listed(&env, "alone"), Value::Null);
    }
    assert_eq!(digests[0], digests[1], "the order of the calls shows");
}

#[test]
fn what_is_saved_in_several_places_of_a_build_is_one_index() {
    let (host, other) = platforms();
    let texts = [
        format!(
            "    WAIT\n        BUILD --platform={host} +image\n    END\n    BUILD --platform={other} +image\n"
        ),
        format!(
            "    BUILD +below\nbelow:\n    FROM scratch\n    BUILD --platform={other} +image\n    BUILD --platform={host} +image\n"
        ),
    ];
    for text in texts {
        let env = project(&text, "app");
        env.rb(["+all"]).expect(0);
        assert_eq!(listed(&env, "app"), json!(["linux/amd64", "linux/arm64"]), "{text}");
    }
    // On the command line, and in the environment.
    let env = project("", "app");
    let both = format!("{host},{other}");
    env.rb(["--platform", &both, "+image"]).expect(0);
    assert_eq!(listed(&env, "app"), json!(["linux/amd64", "linux/arm64"]));
    env.rb_with(&[("RB_PLATFORMS", &other)], ["+image"]).expect(0);
    assert_eq!(listed(&env, "app"), Value::Null);
    env.rb(["image", "inspect", "--platform", &other, "app"]).expect(0);
    // What is different for one platform is told before anything is saved.
    let env = project(&format!("{0}    BUILD --platform={other} +image --A=2\n", calls(&[&other])), "app");
    env.write(
        "Buildfile",
        env.read("Buildfile").replace("    COPY one", "    ARG A=1\n    LABEL a=$A\n    COPY one"),
    );
    env.rb(["+all"]).expect(2).says("two different images for").says(&other);
    assert_eq!(env.rb(["image", "ls", "-q"]).expect(0).stdout, "");
}

#[test]
fn outputs_take_all_platforms_or_say_which() {
    let (host, other) = platforms();
    let both = format!("{host},{other}");
    let env = project(&calls(&[&host, &other]), "app:1");
    // A target that only builds has what it builds.
    env.write("Buildfile", env.read("Buildfile").replace("all:\n    FROM scratch\n", "all:\n"));
    for words in [&["+all"][..], &["--platform", &both, "+image"]] {
        let run = |outputs: &[&str]| {
            let outputs = outputs.iter().flat_map(|output| ["-o", output]);
            env.rb(outputs.chain(words.iter().copied()).collect::<Vec<_>>())
        };
        run(&["type=oci,tar=false,dest=layout", "type=oci,dest=app.tar", "type=local,dest=files"]).expect(0);
        let layout = json(&env.read("layout/index.json"));
        let digest = layout["manifests"][0]["digest"].as_str().expect("a digest").replace(':', "/");
        let index = json(&env.read(&format!("layout/blobs/{digest}")));
        let platforms = index["manifests"].as_array().expect("a list").iter();
        let platforms: Vec<_> = platforms.map(|entry| entry["platform"]["architecture"].clone()).collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        for folder in ["linux_amd64", "linux_arm64"] {
            assert_eq!(env.read(&format!("files/{folder}/one")), "1\n");
        }
        run(&["type=docker,dest=docker.tar"]).expect(0).says(&format!("type=docker has {host} alone"));
        env.rb(["image", "load", "--name", "docker", "-i", "docker.tar"]).expect(0);
        let loaded = json(&env.rb(["image", "inspect", "docker"]).expect(0).stdout);
        assert_eq!(loaded[0]["config"]["config"]["Labels"]["for"], host.as_str());
        run(&["type=tar,dest=x.tar"]).expect(2).says("one platform");
        run(&["type=local,dest=x,platform-split=false"]).expect(2).says("one platform");
        let annotated = "type=oci,tar=false,dest=noted,annotation-index.org.example.a=b";
        run(&[annotated]).expect(0);
        for (file, skopeo_place) in [("app.tar", "oci-archive:app.tar:1"), ("layout", "oci:layout:1")] {
            assert!(env.has(file));
            let place = skopeo_place.replacen(file, &env.project().join(file).display().to_string(), 1);
            let Some(raw) = skopeo(&["inspect", "--raw", &place]) else { return };
            assert_eq!(json(&raw)["manifests"].as_array().map(Vec::len), Some(2), "{place}");
        }
    }
    env.rb(["--metadata-file=m", "--iidfile=id", "--annotation=index:a=b", "+all"]).expect(0);
    let told = json(&env.read("m"));
    assert_eq!(told["containerimage.digest"], env.read("id"));
    env.rb(["--annotation=index:a=b", "+image"]).expect(2).says("no index of its own");
    env.rb(["-o", "type=oci,dest=x.tar,annotation-index.a=b", "+image"])
        .expect(2)
        .says("no index of its own");
    env.rb(["-a", "--platform", &both, "+image/x"]).expect(2).says("one platform");
}

#[test]
fn a_name_runs_for_this_machine_and_steps_of_others_need_an_emulator() {
    let (host, other) = platforms();
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        format!(
            "VERSION 0.8\nall:\n    FROM scratch\n    BUILD --platform={other} --platform={host} +image\nbinary:\n    \
             FROM oci-layout:./base:test\n    SAVE ARTIFACT /bin/busybox\nimage:\n    ARG TARGETPLATFORM\n    \
             FROM scratch\n    COPY --platform={host} +binary/busybox /busybox\n    ENV FOR=$TARGETPLATFORM\n    \
             CMD [\"/busybox\", \"env\"]\n    SAVE IMAGE app\nstep:\n    \
             FROM --platform={host} oci-layout:./base:test\n    RUN true\n    SAVE IMAGE step\n"
        ),
    );
    env.rb(["+all"]).expect(0);
    let run = env.rb(["run", "app"]).expect(0);
    assert!(run.stdout.contains(&format!("FOR={host}\n")), "{}", run.stdout);
    env.rb(["--platform", &other, "run", "+image"]).expect(2).says(&other);
    env.write("Buildfile", env.read("Buildfile").replace(&format!("FROM --platform={host} oci"), "FROM oci"));
    // Whatever emulators this machine has.
    let architecture = other.strip_prefix("linux/").expect("is of Linux");
    env.write("config.toml", format!("[emulators]\n{architecture} = \"/nowhere/qemu\"\n"));
    let config = env.project().join("config.toml");
    let config = [("RB_CONFIG", config.to_str().expect("is text"))];
    env.rb_with(&config, ["--platform", &other, "+step"]).expect(2).says(architecture).says("/nowhere/qemu");
}

#[test]
fn an_index_is_pushed_behind_its_manifests_and_pulled_by_platform() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let (host, other) = platforms();
    let server = place.behind(|_, _| None);
    let name = format!("{}/team/app:1", server.host);
    let text = format!(
        "VERSION 0.8\nall:\n    FROM scratch\n{}{}    SAVE IMAGE --push {name}\n",
        calls(&[&other, &host]),
        IMAGE.replace("one /one", "data /data")
    );
    place.env.write("Buildfile", text);
    place.env.rb(["--push", "+all"]).expect(0).says("pushed");
    let puts: Vec<String> = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("PUT ") && line.contains("/manifests/"))
        .collect();
    let is_digest: Vec<bool> = puts.iter().map(|line| line.contains("/manifests/sha256:")).collect();
    assert_eq!(is_digest, [true, true, false], "{puts:?}");
    let raw = place.env.rb(["image", "inspect", "--raw", &format!("docker://{name}")]).expect(0).stdout;
    assert_eq!(json(&raw)["manifests"].as_array().map(Vec::len), Some(2));
    let second = place.name("team/copied:1");
    place.env.rb(["image", "push", &name, &second]).expect(0);
    assert_eq!(
        raw,
        place.env.rb(["image", "inspect", "--raw", &format!("docker://{second}")]).expect(0).stdout
    );

    let env = TestEnv::new();
    let second = second.as_str();
    for (words, expected) in
        [(&["image", "pull", second][..], &host), (&["image", "pull", "--platform", &other, second], &other)]
    {
        env.rb(words).expect(0);
        let pulled = json(&env.rb(["image", "inspect", second]).expect(0).stdout);
        assert_eq!(pulled[0]["config"]["config"]["Labels"]["for"], expected.as_str());
        assert_eq!(pulled[0]["index"], Value::Null);
    }
    // Of one platform there is no other, and whoever asks for one is told so.
    let alone = place.name("team/alone:1");
    place.env.rb(["image", "push", "--platform", &other, &name, &alone]).expect(0);
    let remote = format!("docker://{alone}");
    for words in [
        &["image", "pull", "--platform", &host, &alone][..],
        &["image", "push", "--platform", &host, &alone, second],
        &["image", "copy", "--platform", &host, &remote, "mine"],
    ] {
        if words[1] == "push" {
            place.env.rb(["image", "pull", "--platform", &other, &alone]).expect(0);
        }
        let told = in_a_line(&place.env.rb(words).expect(2));
        assert!(told.contains(&format!("is not for {host}; it is for {other} alone")), "{told}");
    }
    place.env.rb(["image", "copy", &remote, "mine"]).expect(0);
}

#[test]
fn names_that_were_pushed_before_one_failed_are_told() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let server = place.behind(|request, _| {
        let is_refused = request.method == "PUT" && request.path.ends_with("/manifests/3");
        is_refused.then(|| Reply::new(400, "no"))
    });
    let name = |rest: &str| format!("{}/{rest}", server.host);
    let (one, two, three) = (name("a/app:1"), name("b/app:2"), name("b/app:3"));
    let told = in_a_line(&place.env.rb(["image", "push", "app", &one, &two, &three]).expect(2));
    assert!(told.contains(&format!("cannot push {three} (pushed before it: {one}, {two})")), "{told}");
    let outputs = [format!("type=registry,name={one}"), format!("type=registry,name={three}")];
    let told = in_a_line(&place.env.rb(["-o", &outputs[0], "-o", &outputs[1], "+image"]).expect(2));
    assert!(told.contains(&format!("cannot push {three} (pushed before it: {one})")), "{told}");
}

#[test]
fn an_archive_goes_and_comes_by_the_standard_streams() {
    let env = project("", "app:1");
    env.rb(["+image"]).expect(0);
    let rb = |words: &[&str]| {
        let mut command = env.command(words);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    };
    let sent = rb(&["image", "copy", "app:1", "oci-archive:-:app:2"]).output().expect("starts");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    assert!(!env.has("-"));
    env.write("sent.tar", &sent.stdout);
    let file = std::fs::File::open(env.project().join("sent.tar")).expect("opens");
    let back = rb(&["image", "copy", "oci-archive:-", "back"]).stdin(file).output().expect("starts");
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    assert_eq!(String::from_utf8_lossy(&sent.stderr).trim(), String::from_utf8_lossy(&back.stdout).trim());
    let listing =
        Command::new("tar").arg("tf").arg(env.project().join("sent.tar")).output().expect("tar starts");
    assert!(String::from_utf8_lossy(&listing.stdout).contains("index.json"));
}
