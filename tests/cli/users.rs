//! Whoever builds, the image is the same.

use crate::env::{TestEnv, Who, copy_tree, hello, is_root};

fn digest_of(who: Who) -> String {
    let env = TestEnv::of(who);
    copy_tree(&hello(), &env.project());
    env.busybox_layout("base");
    let more = "other:\n    FROM oci-layout:./base:test\n    RUN mkdir -p /made && echo x > /made/x && chmod 750 /made\n    SAVE IMAGE other:latest\n";
    env.write("Buildfile", env.read("Buildfile") + more);
    env.hand_over();
    let run = env.rb(["run", "+image"]).expect(0);
    assert!(run.stdout.starts_with("Hello"), "{}", run.stdout);
    if env.project().join("base").exists() {
        env.rb(["+other"]).expect(0);
    }
    env.rb(["+image"]).expect(0).says("nothing to do");
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
