//! What runs on a real buildkitd beside plain builds: pushes and pulls with the user's logins, several platforms, bake, contexts from stdin,
//! what a failed command left.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::engine::{Tells as _, project};
use crate::env::TestEnv;
use crate::push::folder;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// Architectures of the images in an OCI archive.
fn architectures(archive: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut archive = tar::Archive::new(fs::File::open(archive).expect("is there"));
    for entry in archive.entries().expect("is a tar") {
        let mut entry = entry.expect("is whole");
        let mut bytes = Vec::new();
        entry.by_ref().take(1 << 20).read_to_end(&mut bytes).expect("reads");
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if value["rootfs"].is_object() {
            found.extend(value["architecture"].as_str().map(ToOwned::to_owned));
        }
    }
    found
}

/// Pushes an image from there and builds on it there; who may not is told so.
fn there_and_back(wants: &Wants, folder: &Path) {
    let Some(registry) = DockerRegistry::start(folder, wants) else { return };
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    let name = format!("{}/team/app:1", registry.host);
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nground:\n    FROM scratch\n    COPY busybox /bin/sh\n\
             push:\n    FROM +ground\n    RUN echo one >/one\n    SAVE IMAGE --push {name}\n\
             again:\n    FROM {name}\n    RUN read line </one; echo \"$line more\" >/more\n    SAVE ARTIFACT /more AS LOCAL more\n"
        ),
    );
    env.rb([engine.as_str(), "--push", "+push"]).expect(3).tells("team/app");
    env.rb(["login", &registry.host, "-u", "rb", "-p", "secret"]).expect(0);
    env.rb([engine.as_str(), "--push", "+push"]).expect(0).tells(&format!("pushed {name}"));
    env.rb([engine.as_str(), "+again"]).expect(0);
    assert_eq!(env.read("more"), "one more\n");
    // This machine pulls what was pushed from there.
    env.rb(["image", "pull", &name]).expect(0);
    let stranger = TestEnv::new();
    stranger.write("Buildfile", env.read("Buildfile"));
    let told = stranger.rb([engine.as_str(), "+again"]);
    assert!(told.code == 2 || told.code == 3, "{told:?}");
}

#[test]
fn a_password_of_the_users_pushes_and_pulls_there() {
    let folder = folder();
    there_and_back(&Wants { password: true, ..Wants::default() }, &folder.path().join("registry"));
}

#[test]
fn a_token_service_is_asked_with_the_users_login() {
    let folder = folder();
    let keys = folder.path().join("registry");
    let (_service, realm) = DockerRegistry::token_service(&keys);
    there_and_back(&Wants { realm: Some(realm), ..Wants::default() }, &keys);
}

#[test]
fn several_platforms_become_one_index() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    env.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY src /src-$TARGETARCH\n");
    let build = |engine: &[&str], to: &str| {
        let platforms = "--platform=linux/amd64,linux/arm64";
        let output = format!("type=oci,dest={to}");
        let words = engine.iter().copied().chain(["build", platforms, "-o", &output, "."]);
        env.rb(words).expect(0);
        architectures(&env.project().join(to))
    };
    let both = ["amd64", "arm64"].map(ToOwned::to_owned).into();
    assert_eq!(build(&[], "here.tar"), both);
    assert_eq!(build(&[&engine], "there.tar"), both);
}

#[test]
fn bake_files_are_built_there_as_one_build() {
    let Some((env, _daemon, address)) = project() else { return };
    env.write(
        "docker-bake.hcl",
        "group \"default\" { targets = [\"app\", \"other\"] }\n\
         target \"ground\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY src /src\\n\"\n}\n\
         target \"app\" {\n  contexts = { base = \"target:ground\" }\n\
         dockerfile-inline = \"FROM base\\nCOPY src/a.txt /b.txt\\n\"\n  output = [\"type=local,dest=baked\"]\n}\n\
         target \"other\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY src/deep /\\n\"\n  output = [\"type=tar,dest=other.tar\"]\n}\n",
    );
    env.rb(["bake", "--engine", &address]).expect(0);
    assert_eq!(env.read("baked/b.txt") + &env.read("baked/src/deep/b.txt"), "a\nb\n");
    assert!(env.has("other.tar"));
}

#[test]
fn a_context_from_stdin_is_sent_once() {
    let Some((env, _daemon, address)) = project() else { return };
    env.write("Dockerfile", "FROM scratch\nCOPY src /\n");
    let tar = env.project().join("context.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar).expect("creates"));
    for name in ["Dockerfile", "src/a.txt", "src/deep/b.txt"] {
        archive.append_path_with_name(env.project().join(name), name).expect("appends");
    }
    archive.finish().expect("ends");
    let engine = format!("--engine={address}");
    let stdin = Stdio::from(fs::File::open(&tar).expect("opens"));
    let run = crate::env::ended(env.command(["build", &engine, "-o", "out", "-"]).stdin(stdin));
    run.expect(0);
    assert_eq!(env.read("out/a.txt") + &env.read("out/deep/b.txt"), "a\nb\n");
}

#[test]
fn what_a_failed_command_left_is_refused_by_name_and_a_good_one_is_done() {
    let Some((env, _daemon, address)) = project() else { return };
    let engine = format!("--engine={address}");
    let text = |end: &str| {
        format!(
            "VERSION 1\nt:\n    FROM scratch\n    COPY busybox /bin/sh\n    WORKDIR /work\n    TRY\n        \
             RUN echo said >report; {end}\n    FINALLY\n        SAVE ARTIFACT report AS LOCAL report\n    END\n"
        )
    };
    env.write("Buildfile", text("true"));
    env.rb([engine.as_str(), "+t"]).expect(0);
    assert_eq!(env.read("report"), "said\n");
    env.write("Buildfile", text("exit 3"));
    env.rb([engine.as_str(), "+t"])
        .expect(1)
        .tells("exit code 3")
        .tells("TRY takes what the failed command left");
}

#[test]
fn files_of_a_step_come_without_what_it_was_mounted_on() {
    let Some((env, _daemon, address)) = project() else { return };
    let dockerfile = "FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nRUN echo made >/made\n";
    env.write("Dockerfile", dockerfile);
    env.rb(["build", "-o", "here", "."]).expect(0);
    env.rb(["build", &format!("--engine={address}"), "-o", "there", "."]).expect(0);
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(env.project().join(folder)).expect("lists");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("here"), ["bin", "made"].map(ToOwned::to_owned).into());
    // BuildKit puts these into what every step of it leaves.
    let theirs: BTreeSet<String> = names("there").difference(&names("here")).cloned().collect();
    assert!(theirs.iter().all(|name| ["dev", "etc", "proc", "sys"].contains(&name.as_str())), "{theirs:?}");
}

#[test]
fn images_of_this_machine_are_lent_by_name() {
    let Some((env, _daemon, address)) = project() else { return };
    env.rb(["+image"]).expect(0);
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM made:1\n    RUN read line </work/out; echo \"$line there\" >/more\n    \
         SAVE ARTIFACT /more AS LOCAL more\n",
    );
    env.rb([&format!("--engine={address}"), "+t"]).expect(0);
    assert_eq!(env.read("more"), "a one there\n");
    env.write("Dockerfile", "FROM made:1\nRUN read line </work/out; echo \"$line again\" >/more\n");
    env.rb(["build", &format!("--engine={address}"), "-o", "out", "."]).expect(0);
    assert_eq!(env.read("out/more"), "a one again\n");
    // What is nowhere is looked for by the daemon.
    env.write("Dockerfile", "FROM 127.0.0.1:1/nothing:1\n");
    let told = env.rb(["build", &format!("--engine={address}"), "-o", "out", "."]);
    assert!(told.code == 2 || told.code == 3, "{told:?}");
}
