//! Whoever builds, the image is the same.

use crate::env::{TestEnv, Who, copy_tree, hello, is_root};

fn digest_of(who: Who) -> String {
    let env = TestEnv::of(who);
    copy_tree(&hello(), &env.project());
    env.busybox_layout("base");
    let other = if rb_oci::Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let more = format!(
        "other:\n    FROM oci-layout:./base:test\n    RUN mkdir -p /made && echo x > /made/x && chmod 750 /made\n    SAVE IMAGE other:latest\n\
         files:\n    FROM scratch\n    COPY --chmod=0751 hello.c /a/b/\n    SAVE IMAGE files:latest\n\
         both:\n    BUILD --platform=linux/{other} +files\n    BUILD +files\n"
    );
    env.write("Buildfile", env.read("Buildfile") + &more);
    env.hand_over();
    let run = env.rb(["run", "+image"]).expect(0);
    assert!(run.stdout.starts_with("Hello"), "{}", run.stdout);
    if env.project().join("base").exists() {
        env.rb(["+other"]).expect(0);
    }
    env.rb(["+image"]).expect(0).says("nothing to do");
    let zstd = "type=image,name=zstd,compression=zstd,compression-level=7";
    env.rb(["-o", zstd, "-o", "type=oci,dest=both.tar,compression=zstd", "+both"]).expect(0);
    let archive = std::fs::read(env.project().join("both.tar")).expect("reads");
    let inspected = env.rb(["image", "inspect", "zstd"]).expect(0).stdout;
    assert!(inspected.contains("tar+zstd") && inspected.contains("\"index\""), "{inspected}");
    let listed = env.rb(["image", "ls", "--json"]).expect(0).stdout;
    let images: serde_json::Value = serde_json::from_str(&listed).expect("is JSON");
    let mut digests: Vec<String> = images
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| {
            format!(
                "{} {}",
                image["name"].as_str().expect("a name"),
                image["digest"].as_str().expect("a digest")
            )
        })
        .collect();
    digests.sort();
    assert!(digests.iter().any(|line| line.starts_with("files:latest")), "{digests:?}");
    digests.push(format!("both.tar {}", rb_oci::Digest::of(archive)));
    digests.join("\n")
}

#[test]
fn root_and_ordinary_users_build_the_same_image() {
    let first = digest_of(Who::Tester);
    assert_eq!(first, digest_of(Who::Tester), "two clean builds differ");
    if !is_root() {
        eprintln!("stepping aside: only root can become other users");
        return;
    }
    assert_eq!(first, digest_of(Who::SingleId), "a user without subordinate ids builds another image");
    if std::process::Command::new("newuidmap").output().is_err() {
        eprintln!("stepping aside: there is no newuidmap (Debian: uidmap)");
        return;
    }
    assert_eq!(first, digest_of(Who::SubIds), "a user with subordinate ids builds another image");
}

#[test]
fn an_ordinary_user_has_caches_secrets_and_this_machine_too() {
    if !is_root() {
        eprintln!("stepping aside: only root can become other users");
        return;
    }
    let env = TestEnv::of(Who::SingleId);
    env.write("rb.toml", "")
        .write("sub/f", "")
        .write(".secret", "S=swordfish\n")
        .write("sub/.secret", "S=swordfish\n")
        .write(
            "Buildfile",
            "VERSION 0.8\nall:\n    LOCALLY\n    WAIT\n        BUILD +made\n    END\n    RUN id -u > who; cat out/made >> who\n\
             made:\n    FROM @host\n    ARG N=1\n    CACHE /cache\n    RUN --secret S echo $N ${#S} >> /cache/log; cp /cache/log /m\n    \
             SAVE ARTIFACT /m AS LOCAL out/made\n",
        );
    env.hand_over();
    env.rb(["+all"]).expect(0).hides("swordfish");
    assert_eq!(env.read("who"), "61001\n1 9\n");
    env.rb_in("sub", ["--build-arg", "N=2", "+all"]).expect(0);
    assert_eq!(env.read("who"), "61001\n1 9\n2 9\n");
    // What belongs to another user is not built from below.
    std::os::unix::fs::chown(env.project().join("Buildfile"), Some(0), None).expect("gives away");
    env.rb_in("sub", ["+all"]).expect(2).says("belongs to another user");
}
